//! Hashing passwords: Argon2id with the parameters that OWASP recommends, as PHC strings. Each call
//! takes 19 MiB and tens of milliseconds, so it never runs on an async thread nor in a write job.

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordVerifier, Version, password_hash::CustomizedPasswordHasher,
};

use crate::{
    base::random,
    error::{Error, Result},
};

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Characters of a password at least, as the spec advises.
const MIN_LENGTH: usize = 8;
/// Bytes of a password at most: more only costs.
const MAX_LENGTH: usize = 1024;

/// Hash of a password that nobody has. Who asks for an unknown account is checked against it, and so
/// waits as long as who asks for a known one.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$aGVhcnRoIGRlY295IHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Refuses what is no use as a new password. 400 `M_WEAK_PASSWORD` or `M_INVALID_PARAM`.
pub fn check_new(password: &str) -> Result<()> {
    if password.chars().count() < MIN_LENGTH {
        let why = format!("a password has {MIN_LENGTH} characters or more");
        return Err(Error::bad_request("M_WEAK_PASSWORD", why));
    }
    match password.len() > MAX_LENGTH {
        true => Err(Error::invalid_param(format!("a password has at most {MAX_LENGTH} bytes"))),
        false => Ok(()),
    }
}

/// The PHC string of a password, with a salt of its own.
pub fn hash(password: &str) -> Result<String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(Error::internal)?;
    let salt = random::bytes::<16>();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let hash: PasswordHash =
        argon2.hash_password_with_params(password.as_bytes(), &salt, params).map_err(Error::internal)?;
    Ok(hash.to_string())
}

/// Whether a password is the one that was hashed. None stands for an account that does not exist or
/// has no password: never true, and as slow.
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    let known = hash.and_then(|text| PasswordHash::new(text).ok());
    let exists = known.is_some() && password.len() <= MAX_LENGTH;
    let against = known.unwrap_or_else(|| PasswordHash::new(DECOY).expect("the decoy is a PHC string"));
    Argon2::default().verify_password(password.as_bytes(), &against).is_ok() && exists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_says_its_parameters_and_proves_only_its_password() {
        let hash = hash("correct horse").expect("hashes");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify("correct horse", Some(&hash)));
        assert!(!verify("correct horsf", Some(&hash)));
        assert!(!verify("correct horse", None));
        assert_ne!(hash, super::hash("correct horse").expect("hashes"), "each has its own salt");
    }

    #[test]
    fn the_decoy_costs_what_a_real_hash_costs() {
        let decoy = PasswordHash::new(DECOY).expect("parses");
        let real = PasswordHash::new(&hash("correct horse").expect("hashes")).expect("parses");
        assert_eq!(decoy.params, real.params);
        assert_eq!(decoy.algorithm, real.algorithm);
        assert_eq!(decoy.version, real.version);
        assert_eq!(decoy.hash.map(|hash| hash.len()), real.hash.map(|hash| hash.len()));
        assert!(decoy.salt.is_some());
    }

    #[test]
    fn new_passwords_have_a_decent_length() {
        assert_eq!(check_new("short").expect_err("short").errcode(), "M_WEAK_PASSWORD");
        assert_eq!(check_new(&"x".repeat(1025)).expect_err("long").errcode(), "M_INVALID_PARAM");
        check_new("pässwort").expect("eight characters");
    }
}
