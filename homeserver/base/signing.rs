//! The server's Ed25519 signing key: made once, kept in a file that only its owner may read.
//!
//! The file holds one line, `ed25519 <version> <unpadded base64 of the 32-byte seed>`.
//! spec: appendices#signing-details

use std::{fs, io::Write, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerSigningKeyVersion, SigningKeyAlgorithm, SigningKeyId, UserId,
    signatures::{KeyPair, Signature},
};

use crate::base::random;

/// Our key, with the ID under which other servers know it.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    id: OwnedServerSigningKeyId,
}

impl SigningKey {
    /// Reads the key at `path`, or makes one there if there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, String> {
        match fs::read_to_string(path) {
            Ok(line) => Self::parse(&line).ok_or_else(|| {
                format!(
                    "{} is not a signing key: restore it from a backup, or delete it to get a new one",
                    path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(format!("can't read {}: {error}", path.display())),
        }
    }

    fn create(path: &Path) -> Result<Self, String> {
        let seed = STANDARD_NO_PAD.encode(random::bytes::<32>());
        let version = random::device_id().to_lowercase();
        let line = format!("ed25519 {version} {seed}\n");
        write_private(path, &line).map_err(|error| format!("can't write {}: {error}", path.display()))?;
        Self::parse(&line).ok_or_else(|| "a new signing key could not be read back".to_owned())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (algorithm, version, seed) = (words.next()?, words.next()?, words.next()?);
        if algorithm != "ed25519" {
            return None;
        }
        let version = <&ServerSigningKeyVersion>::try_from(version).ok()?;
        let seed = STANDARD_NO_PAD.decode(seed).ok()?;
        Some(Self {
            pair: Ed25519KeyPair::from_seed_unchecked(&seed).ok()?,
            id: SigningKeyId::from_parts(SigningKeyAlgorithm::Ed25519, version),
        })
    }

    /// The key's ID, such as `ed25519:abc`.
    pub fn id(&self) -> &OwnedServerSigningKeyId {
        &self.id
    }

    /// The public half, 32 bytes.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
}

impl KeyPair for SigningKey {
    fn sign(&self, message: &[u8]) -> Signature {
        let id = SigningKeyId::from_parts(self.id.algorithm(), self.id.key_name().as_str().into());
        Signature::new(id, self.pair.sign(message).as_ref().to_vec())
    }
}

/// Who this server is: its name and the key that proves it.
pub struct Identity {
    /// The name that our user IDs end with.
    pub name: OwnedServerName,
    /// The key that signs our events.
    pub key: SigningKey,
}

impl Identity {
    /// Whether a user is one of ours.
    pub fn owns(&self, user: &UserId) -> bool {
        user.server_name() == self.name
    }
}

/// Writes a file that only its owner may read, durably, and never over an existing one.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_the_process_and_signs_alike() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("signing.key");
        let first = SigningKey::load_or_create(&path).expect("made");
        let second = SigningKey::load_or_create(&path).expect("read");
        assert_eq!(first.id(), second.id());
        assert_eq!(first.sign(b"x").as_bytes(), second.sign(b"x").as_bytes());
    }
}
