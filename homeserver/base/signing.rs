//! The server's Ed25519 signing key: made once, kept in a file that only its owner may read.
//!
//! The first line of the file is the key, `ed25519 <version> <unpadded base64 of the 32-byte seed>`. Each
//! further line is one that was given up, so that what it signed can still be checked:
//! `old ed25519 <version> <public half> <when it was given up, in milliseconds>`.
//! spec: appendices#signing-details, server-server-api#publishing-keys

use std::{fs, io::Write, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerSigningKeyVersion, SigningKeyAlgorithm, SigningKeyId, UserId,
    signatures::{KeyPair, Signature},
};

use crate::base::{clock, disk, random};

/// Our key, with the ID under which other servers know it.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    id: OwnedServerSigningKeyId,
    old: Vec<OldKey>,
}

/// A key that we gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldKey {
    /// Its ID, with its algorithm.
    pub id: String,
    /// Its public half, unpadded base64.
    pub key: String,
    /// When it was given up, in milliseconds.
    pub expired: u64,
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
        let line = new_line();
        write_private(path, &line).map_err(|error| format!("can't write {}: {error}", path.display()))?;
        Self::parse(&line).ok_or_else(|| "a new signing key could not be read back".to_owned())
    }

    /// Gives the key at `path` up and makes a new one there. Answers the IDs of both.
    pub fn rotate(path: &Path) -> Result<(String, String), String> {
        let text = fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
        let before = Self::parse(&text).ok_or_else(|| format!("{} is not a signing key", path.display()))?;
        let public = STANDARD_NO_PAD.encode(before.public());
        let old: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
        let (version, now) = (before.id.key_name(), clock::now_ms());
        let text = format!("{}old ed25519 {version} {public} {now}\n{old}", new_line());
        let after = Self::parse(&text).ok_or("a new signing key could not be read back")?;
        let beside = path.with_extension("new");
        let replaced = write_private(&beside, &text).and_then(|()| fs::rename(&beside, path));
        let folder = path.parent().unwrap_or(Path::new("."));
        replaced
            .and_then(|()| disk::sync_folder(folder))
            .map_err(|error| format!("can't write {}: {error}", path.display()))?;
        Ok((before.id.to_string(), after.id.to_string()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut words = lines.next()?.split_whitespace();
        let (algorithm, version, seed) = (words.next()?, words.next()?, words.next()?);
        if algorithm != "ed25519" {
            return None;
        }
        let version = <&ServerSigningKeyVersion>::try_from(version).ok()?;
        let seed = STANDARD_NO_PAD.decode(seed).ok()?;
        Some(Self {
            pair: Ed25519KeyPair::from_seed_unchecked(&seed).ok()?,
            id: SigningKeyId::from_parts(SigningKeyAlgorithm::Ed25519, version),
            old: lines.filter(|line| !line.trim().is_empty()).map(OldKey::parse).collect::<Option<_>>()?,
        })
    }

    /// The key's ID, such as `ed25519:abc`.
    pub fn id(&self) -> &OwnedServerSigningKeyId {
        &self.id
    }

    /// Keys that were given up.
    pub fn old(&self) -> &[OldKey] {
        &self.old
    }

    /// The public half, 32 bytes.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
}

impl OldKey {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["old", "ed25519", version, key, expired] = words[..] else { return None };
        STANDARD_NO_PAD.decode(key).ok()?;
        Some(Self { id: format!("ed25519:{version}"), key: key.to_owned(), expired: expired.parse().ok()? })
    }
}

fn new_line() -> String {
    let seed = STANDARD_NO_PAD.encode(random::bytes::<32>());
    let version = random::device_id().to_lowercase();
    format!("ed25519 {version} {seed}\n")
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

    #[test]
    fn keys_that_were_given_up_are_remembered_and_nobody_else_may_read_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("signing.key");
        let first = SigningKey::load_or_create(&path).expect("made");
        let (before, second) = SigningKey::rotate(&path).expect("rotated");
        assert_eq!(before, first.id().as_str());
        SigningKey::rotate(&path).expect("rotated");
        let third = SigningKey::load_or_create(&path).expect("read");
        let old: Vec<&str> = third.old().iter().map(|old| &*old.id).collect();
        assert_eq!(old, [&*second, &*before]);
        assert_eq!(third.old()[1].key, STANDARD_NO_PAD.encode(first.public()));
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
