//! Keys of others, by which many signatures are checked: the more a key has signed, the less each costs. Knows
//! curves, and nothing of whose key it is or of what was signed.
//!
//! A signature (R, s) over a message by a key A holds if the encoding of s·B − k·A is R, k being the hash of R, A and
//! the message. This is checked for each signature by itself, as everybody else does it, so that no two servers can
//! come to different ends; only the multiples of A are prepared where they will be of use, and of many points the
//! encodings are found at once. Nothing here is secret, so nothing has to take the same time for all.
//! spec: appendices#signing-json (RFC 8032)

use std::sync::{
    LazyLock, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use curve25519_dalek::{
    EdwardsPoint, Scalar, constants::ED25519_BASEPOINT_POINT, edwards::CompressedEdwardsY, traits::Identity,
};
use ring::digest;

/// The base point's multiples, which every signature needs: 640 KiB for the whole server.
static BASE: LazyLock<Multiples> = LazyLock::new(|| Multiples::of(ED25519_BASEPOINT_POINT, 8));

/// Does beforehand what otherwise the first signatures wait for.
pub fn prepare() {
    LazyLock::force(&BASE);
}

/// A key's public half.
pub struct PublicKey {
    bytes: [u8; 32],
    minus: EdwardsPoint,
    /// The bits of a digit of its multiples, if they are of use, and whether somebody has begun to prepare them.
    bits: Option<usize>,
    begun: AtomicBool,
    multiples: OnceLock<Multiples>,
}

/// A signature that somebody says was made by a key.
pub struct Claim<'k> {
    key: &'k PublicKey,
    r: [u8; 32],
    s: Scalar,
    k: Scalar,
}

/// Which of some claims hold, in their order.
pub fn hold<'c, 'k: 'c>(claims: impl Iterator<Item = &'c Claim<'k>>) -> Vec<bool> {
    let (encodings, points): (Vec<[u8; 32]>, Vec<EdwardsPoint>) =
        claims.map(|claim| (claim.r, claim.commitment())).unzip();
    let right = EdwardsPoint::compress_batch_alloc(&points);
    encodings.iter().zip(right).map(|(r, right)| right.as_bytes() == r).collect()
}

impl PublicKey {
    /// The key with this encoding. None if there is none.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = <[u8; 32]>::try_from(bytes).ok()?;
        let point = CompressedEdwardsY(bytes).decompress()?;
        Some(Self { bytes, minus: -point, bits: None, begun: AtomicBool::new(false), multiples: OnceLock::new() })
    }

    /// The same for so many signatures, about: for many it is prepared with the first of them. That takes 130 KiB, of
    /// very many signatures 640 KiB.
    pub fn for_many(self, signatures: usize) -> Self {
        // What preparing takes, and what each signature takes then, in additions: for 5 bits 816 and 51, for 6 bits
        // 1,376 and 43, for 8 bits 4,096 and 32. Without it a signature takes about 120.
        let bits = match signatures {
            0..12 => None,
            12..70 => Some(5),
            70..250 => Some(6),
            _ => Some(8),
        };
        Self { bits, ..self }
    }

    /// That it has made a signature over a message. None if what is said to be one is none at all.
    pub fn claim(&self, message: &[u8], signature: &[u8]) -> Option<Claim<'_>> {
        let (r, s) = signature.split_first_chunk::<32>()?;
        // One that is too large would be another signature with the same meaning.
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(<[u8; 32]>::try_from(s).ok()?))?;
        let mut hash = digest::Context::new(&digest::SHA512);
        [r, &self.bytes, message].into_iter().for_each(|part| hash.update(part));
        let hash = <[u8; 64]>::try_from(hash.finish().as_ref()).ok()?;
        Some(Claim { key: self, r: *r, s, k: Scalar::from_bytes_mod_order_wide(&hash) })
    }

    fn multiples(&self) -> Option<&Multiples> {
        let bits = self.bits?;
        if !self.begun.swap(true, Ordering::Relaxed) {
            // Whoever else wants them meanwhile does without.
            _ = self.multiples.set(Multiples::of(self.minus, bits));
        }
        self.multiples.get()
    }
}

impl Claim<'_> {
    /// Whether it holds. Of many, [`hold`] says so for less.
    pub fn holds(&self) -> bool {
        self.commitment().compress().as_bytes() == &self.r
    }

    /// s·B − k·A.
    fn commitment(&self) -> EdwardsPoint {
        match self.key.multiples() {
            Some(multiples) => BASE.add_times(&self.s, multiples.add_times(&self.k, EdwardsPoint::identity())),
            None => EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.k, &self.key.minus, &self.s),
        }
    }
}

/// What multiplying a point takes: of each digit's place, in a number system of 2^`bits` digits, the point times 1 to
/// 2^(`bits`-1). Larger digits are written as one more in the next place and something taken away here.
struct Multiples {
    bits: usize,
    points: Vec<EdwardsPoint>,
}

impl Multiples {
    /// Of a point, with so many bits in a digit, eight at most.
    fn of(point: EdwardsPoint, bits: usize) -> Self {
        // Scalars have 253 bits at most; what is written as one more in the place after the last still fits there.
        let (places, half) = (254usize.div_ceil(bits), 1 << (bits - 1));
        let mut points = Vec::with_capacity(places * half);
        let mut unit = point;
        for _ in 0..places {
            let mut multiple = unit;
            for _ in 0..half {
                points.push(multiple);
                multiple += &unit;
            }
            // The last one pushed is half of the next place's unit.
            unit = points.last().map_or(multiple, |half| half + half);
        }
        Self { bits, points }
    }

    /// A sum, with the point times a number added to it.
    fn add_times(&self, number: &Scalar, mut sum: EdwardsPoint) -> EdwardsPoint {
        let (bytes, half, mut carry) = (number.as_bytes(), 1 << (self.bits - 1), 0);
        for (place, multiples) in self.points.chunks_exact(half).enumerate() {
            let digit = some_bits(bytes, place * self.bits, self.bits) + carry;
            carry = usize::from(digit > half);
            match carry {
                0 if digit == 0 => {}
                0 => sum += &multiples[digit - 1],
                _ if digit == 2 * half => {}
                _ => sum -= &multiples[2 * half - digit - 1],
            }
        }
        sum
    }
}

/// Some bits of a number whose lowest byte comes first: so many from a place on, eight at most.
fn some_bits(bytes: &[u8; 32], from: usize, count: usize) -> usize {
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

    /// What we say: by a key for few signatures and for many, of one by itself and among others.
    fn ours(public: &[u8], message: &[u8], signature: &[u8]) -> [bool; 4] {
        let keys = [0, 20, 100, 1000].map(|many| PublicKey::new(public).expect("a key").for_many(many));
        let among_others = |claim: Option<Claim<'_>>| {
            let Some(claim) = claim else { return false };
            let other = Claim { key: claim.key, r: [7; 32], s: Scalar::ONE, k: claim.k };
            let hold = hold([&other, &claim, &other].into_iter());
            assert_eq!((hold[0], hold[2]), (false, false));
            hold[1]
        };
        let said = keys.each_ref().map(|key| among_others(key.claim(message, signature)));
        assert_eq!(said, keys.each_ref().map(|key| key.claim(message, signature).is_some_and(|claim| claim.holds())));
        said
    }

    proptest! {
        #[test]
        fn multiplies_as_the_library_does(number: [u8; 32], point: [u8; 32]) {
            let (number, point) = (Scalar::from_bytes_mod_order(number), Scalar::from_bytes_mod_order(point));
            let point = EdwardsPoint::mul_base(&point);
            let zero = EdwardsPoint::identity();
            prop_assert_eq!(BASE.add_times(&number, point), EdwardsPoint::mul_base(&number) + point);
            for bits in [5, 6, 8] {
                prop_assert_eq!(Multiples::of(point, bits).add_times(&number, zero), point * number);
            }
        }

        #[test]
        fn both_ways_agree_with_others_on_what_is_signed_and_what_is_not(
            seed: [u8; 32], mut message: Vec<u8>, at in 0..64usize, bit in 0..8u32,
        ) {
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed");
            let (public, signature) = (pair.public_key().as_ref(), pair.sign(&message));
            prop_assert_eq!(ours(public, &message, signature.as_ref()), [true; 4]);
            let mut bent = signature.as_ref().to_vec();
            bent[at] ^= 1 << bit;
            prop_assert_eq!(ours(public, &message, &bent), [as_others(public, &message, &bent); 4]);
            prop_assert_eq!(ours(public, &message, &bent[..at]), [false; 4]);
            message.push(0);
            prop_assert_eq!(ours(public, &message, signature.as_ref()), [false; 4]);
        }
    }

    #[test]
    fn the_largest_and_smallest_numbers_are_multiplied_too() {
        let few =
            [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(128u8), Scalar::from(129u8), Scalar::from(u64::MAX)];
        for number in few {
            let zero = EdwardsPoint::identity();
            assert_eq!(BASE.add_times(&number, zero), EdwardsPoint::mul_base(&number));
            for bits in [5, 6] {
                let multiples = Multiples::of(ED25519_BASEPOINT_POINT, bits);
                assert_eq!(multiples.add_times(&number, zero), EdwardsPoint::mul_base(&number));
            }
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
        assert_eq!(ours(public, b"x", &larger), [false; 4]);
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
                    Some(_) => assert_eq!(ours(&public, b"x", &signature), [theirs; 4], "{public:?} {r:?}"),
                    None => assert!(!theirs, "{public:?}"),
                }
            }
        }
        assert!(PublicKey::new(&[2; 31]).is_none());
    }

    #[test]
    fn keys_are_prepared_for_many_signatures_and_not_for_few() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a seed");
        for (many, places) in [(0, 0), (11, 0), (12, 51), (70, 43), (100_000, 32)] {
            let key = PublicKey::new(pair.public_key().as_ref()).expect("a key").for_many(many);
            assert!(key.multiples.get().is_none());
            assert!(key.claim(b"x", pair.sign(b"x").as_ref()).is_some_and(|claim| claim.holds()));
            let multiples = key.multiples.get();
            assert_eq!(multiples.map_or(0, |all| all.points.len() >> (all.bits - 1)), places, "{many}");
        }
    }
}
