//! Randomness that can't be guessed, as text.

use ring::rand::{SecureRandom, SystemRandom};

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const CAPITALS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `N` random bytes from the operating system.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).expect("the operating system gives random bytes");
    out
}

/// A secret of 43 characters (258 bits), fit for URLs and `Sec-WebSocket-Protocol`.
pub fn secret() -> String {
    text::<43>(LETTERS)
}

/// An ID of `N` characters out of 64.
pub fn id<const N: usize>() -> String {
    text::<N>(LETTERS)
}

/// An ID of ten capital letters and digits, as device IDs are.
pub fn device_id() -> String {
    text::<10>(CAPITALS)
}

fn text<const N: usize>(alphabet: &[u8]) -> String {
    bytes::<N>().iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts_have_their_length_and_differ() {
        assert_eq!(super::secret().len(), 43);
        assert_eq!(super::device_id().len(), 10);
        assert_ne!(super::id::<18>(), super::id::<18>());
    }
}
