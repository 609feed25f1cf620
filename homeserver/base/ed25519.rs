//! Keys of others, by which many signatures are checked: the more a key has signed, the less each costs. Knows
//! curves, and nothing of whose key it is or of what was signed.
//!
//! A signature (R, s) over a message by a key A holds if the encoding of s·B − k·A is R, k being the hash of R, A and
//! the message. This is checked for each signature by itself, as everybody else does it, so that no two servers can
//! come to different ends; only the multiples of A are prepared, once it is seen that they will be of use.
//! Nothing here is secret, so nothing has to take the same time for all.
//! spec: appendices#signing-json (RFC 8032)

use std::sync::{
    LazyLock, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use curve25519_dalek::{
    EdwardsPoint, Scalar, constants::ED25519_BASEPOINT_POINT, edwards::CompressedEdwardsY, traits::Identity,
};
use ring::digest;

/// Signatures after which a key's multiples are prepared: that costs about as much as twenty signatures, and each
/// costs half as much afterwards.
const MANY: u32 = 24;

/// The base point's multiples, which every signature needs: 640 KiB for the whole server.
static BASE: LazyLock<Multiples<8>> = LazyLock::new(|| Multiples::of(ED25519_BASEPOINT_POINT));

/// Does beforehand what otherwise the first signatures wait for.
pub fn prepare() {
    LazyLock::force(&BASE);
}

/// A key's public half.
pub struct PublicKey {
    bytes: [u8; 32],
    minus: EdwardsPoint,
    checked: AtomicU32,
    /// 215 KiB, of a key that has signed much.
    multiples: OnceLock<Multiples<6>>,
}

impl PublicKey {
    /// The key with this encoding. None if there is none.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = <[u8; 32]>::try_from(bytes).ok()?;
        let point = CompressedEdwardsY(bytes).decompress()?;
        Some(Self { bytes, minus: -point, checked: AtomicU32::new(0), multiples: OnceLock::new() })
    }

    /// Whether it has made a signature over a message.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some((r, s)) = signature.split_first_chunk::<32>() else { return false };
        let Ok(s) = <[u8; 32]>::try_from(s) else { return false };
        // One that is too large would be another signature with the same meaning.
        let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)) else { return false };
        let mut hash = digest::Context::new(&digest::SHA512);
        [r, &self.bytes, message].into_iter().for_each(|part| hash.update(part));
        let Ok(hash) = <[u8; 64]>::try_from(hash.finish().as_ref()) else { return false };
        let k = Scalar::from_bytes_mod_order_wide(&hash);
        self.commitment(&k, &s).compress().as_bytes() == r
    }

    /// s·B − k·A.
    fn commitment(&self, k: &Scalar, s: &Scalar) -> EdwardsPoint {
        if self.checked.fetch_add(1, Ordering::Relaxed) == MANY {
            // Whoever else wants it meanwhile does without.
            _ = self.multiples.set(Multiples::of(self.minus));
        }
        match self.multiples.get() {
            Some(multiples) => BASE.add_times(s, multiples.add_times(k, EdwardsPoint::identity())),
            None => EdwardsPoint::vartime_double_scalar_mul_basepoint(k, &self.minus, s),
        }
    }
}

/// What multiplying a point takes: of each digit's place, in a number system of 2^`BITS` digits, the point times 1 to
/// 2^(`BITS`-1). Larger digits are written as one more in the next place and something taken away here.
struct Multiples<const BITS: usize>(Vec<EdwardsPoint>);

impl<const BITS: usize> Multiples<BITS> {
    /// The largest digit.
    const HALF: usize = 1 << (BITS - 1);
    /// Scalars have 253 bits at most; what is written as one more in the place after the last still fits there.
    const PLACES: usize = 254usize.div_ceil(BITS);

    fn of(point: EdwardsPoint) -> Self {
        let mut all = Vec::with_capacity(Self::PLACES * Self::HALF);
        let mut unit = point;
        for _ in 0..Self::PLACES {
            let mut multiple = unit;
            for _ in 0..Self::HALF {
                all.push(multiple);
                multiple += &unit;
            }
            // The last one pushed is half of the next place's unit.
            unit = all.last().map_or(multiple, |half| half + half);
        }
        Self(all)
    }

    /// A sum, with the point times a number added to it.
    fn add_times(&self, number: &Scalar, mut sum: EdwardsPoint) -> EdwardsPoint {
        let (bytes, mut carry) = (number.as_bytes(), 0);
        for (place, multiples) in self.0.chunks_exact(Self::HALF).enumerate() {
            let digit = bits(bytes, place * BITS, BITS) + carry;
            carry = usize::from(digit > Self::HALF);
            match carry {
                0 if digit == 0 => {}
                0 => sum += &multiples[digit - 1],
                _ if digit == 2 * Self::HALF => {}
                _ => sum -= &multiples[2 * Self::HALF - digit - 1],
            }
        }
        sum
    }
}

/// Some bits of a number whose lowest byte comes first: so many from a place on, eight at most.
fn bits(bytes: &[u8; 32], from: usize, count: usize) -> usize {
    let byte = |at: usize| bytes.get(at).copied().map_or(0, usize::from);
    let two = byte(from / 8) | byte(from / 8 + 1) << 8;
    (two >> (from % 8)) & ((1 << count) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

    use super::*;

    /// What the library says that makes signatures.
    fn as_others(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
    }

    fn ours(key: &PublicKey, message: &[u8], signature: &[u8]) -> [bool; 2] {
        let new = PublicKey::new(&key.bytes).expect("a key");
        let is_prepared = key.multiples.get().is_some();
        assert!(is_prepared, "both ways are looked at");
        [new.has_signed(message, signature), key.has_signed(message, signature)]
    }

    fn prepared(public: &[u8]) -> PublicKey {
        let key = PublicKey::new(public).expect("a key");
        _ = key.multiples.set(Multiples::of(key.minus));
        key
    }

    proptest! {
        #[test]
        fn multiplies_as_the_library_does(number: [u8; 32], point: [u8; 32]) {
            let (number, point) = (Scalar::from_bytes_mod_order(number), Scalar::from_bytes_mod_order(point));
            let point = EdwardsPoint::mul_base(&point);
            let zero = EdwardsPoint::identity();
            prop_assert_eq!(BASE.add_times(&number, point), EdwardsPoint::mul_base(&number) + point);
            prop_assert_eq!(Multiples::<6>::of(point).add_times(&number, zero), point * number);
        }

        #[test]
        fn both_ways_agree_with_others_on_what_is_signed_and_what_is_not(
            seed: [u8; 32], mut message: Vec<u8>, at in 0..64usize, bit in 0..8u32,
        ) {
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed");
            let (public, signature) = (pair.public_key().as_ref(), pair.sign(&message));
            let key = prepared(public);
            prop_assert_eq!(ours(&key, &message, signature.as_ref()), [true; 2]);
            let mut bent = signature.as_ref().to_vec();
            bent[at] ^= 1 << bit;
            prop_assert_eq!(ours(&key, &message, &bent), [as_others(public, &message, &bent); 2]);
            prop_assert_eq!(ours(&key, &message, &bent[..at]), [false; 2]);
            message.push(0);
            prop_assert_eq!(ours(&key, &message, signature.as_ref()), [false; 2]);
        }
    }

    #[test]
    fn the_largest_and_smallest_numbers_are_multiplied_too() {
        let few =
            [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(128u8), Scalar::from(129u8), Scalar::from(u64::MAX)];
        for number in few {
            let zero = EdwardsPoint::identity();
            assert_eq!(BASE.add_times(&number, zero), EdwardsPoint::mul_base(&number));
            assert_eq!(
                Multiples::<6>::of(ED25519_BASEPOINT_POINT).add_times(&number, zero),
                EdwardsPoint::mul_base(&number)
            );
        }
    }

    /// The same signature written otherwise, keys of small order and points with two encodings: each is taken or
    /// refused as others do.
    #[test]
    fn odd_signatures_and_keys_are_taken_as_others_take_them() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
        let (public, signature) = (pair.public_key().as_ref(), pair.sign(b"x"));
        // s and s plus the order of the curve mean the same.
        let order = [0xed_u8, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14];
        let mut larger = signature.as_ref().to_vec();
        let mut carry = 0;
        for (at, byte) in larger[32..].iter_mut().enumerate() {
            let add = order.get(at).copied().unwrap_or(if at == 31 { 0x10 } else { 0 });
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        assert!(!as_others(public, b"x", &larger));
        assert_eq!(ours(&prepared(public), b"x", &larger), [false; 2]);
        let one = {
            let mut one = [0; 32];
            one[0] = 1;
            one
        };
        let minus_one_plus = {
            let mut odd = [0xff; 32];
            (odd[0], odd[31]) = (0xee, 0x7f);
            odd
        };
        for public in [one, [0; 32], minus_one_plus, {
            let mut signed = one;
            signed[31] = 0x80;
            signed
        }] {
            for r in [one, minus_one_plus, [0; 32]] {
                let signature = [r, [0; 32]].concat();
                let theirs = as_others(&public, b"x", &signature);
                match PublicKey::new(&public) {
                    Some(_) => assert_eq!(ours(&prepared(&public), b"x", &signature), [theirs; 2], "{public:?} {r:?}"),
                    None => assert!(!theirs, "{public:?}"),
                }
            }
        }
        assert!(PublicKey::new(&[2; 31]).is_none());
    }

    #[test]
    fn what_a_key_has_signed_often_is_checked_by_its_multiples() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a seed");
        let key = PublicKey::new(pair.public_key().as_ref()).expect("a key");
        for count in 0..2 * MANY {
            assert_eq!(key.multiples.get().is_some(), count > MANY, "{count}");
            let message = count.to_be_bytes();
            assert!(key.has_signed(&message, pair.sign(&message).as_ref()));
        }
    }
}
