//! Tokens by which somebody proves to a third party who they are, and that open nothing. They are signed by
//! this server instead of being kept, and hold until they run out.
//! spec: client-server-api#openid

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use ruma::{OwnedUserId, UserId, signatures::KeyPair};

use crate::base::{clock, signed_json, signing::Identity};

/// How long a token holds, seconds.
pub const LIFETIME: u64 = 3600;
/// Bytes of a token at most.
const MAX_TOKEN: usize = 1024;

/// A token for somebody.
pub fn token(me: &Identity, user: &UserId) -> String {
    token_until(me, user, clock::now_ms() + LIFETIME * 1000)
}

fn token_until(me: &Identity, user: &UserId, until: u64) -> String {
    let signature = me.key.sign(signed(user, until).as_bytes());
    format!("{}.{until}.{}", URL_SAFE_NO_PAD.encode(user.as_str()), URL_SAFE_NO_PAD.encode(signature.as_bytes()))
}

/// What is signed can't be taken for anything else that this key signs, which is JSON.
fn signed(user: &UserId, until: u64) -> String {
    format!("openid token\n{user}\n{until}")
}

/// Whom a token is of, if it is one of ours and holds.
pub fn user_of(me: &Identity, token: &str) -> Option<OwnedUserId> {
    let mut parts = Some(token).filter(|token| token.len() <= MAX_TOKEN)?.splitn(3, '.');
    let (user, until, signature) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let user = UserId::parse(String::from_utf8(URL_SAFE_NO_PAD.decode(user).ok()?).ok()?).ok()?;
    let signature = STANDARD_NO_PAD.encode(URL_SAFE_NO_PAD.decode(signature).ok()?);
    let key = STANDARD_NO_PAD.encode(me.key.public());
    let good =
        until > clock::now_ms() && me.owns(&user) && signed_json::verify(&signed(&user, until), &signature, &key);
    good.then_some(user)
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, user_id};

    use super::*;
    use crate::base::signing::SigningKey;

    #[test]
    fn a_token_proves_one_person_for_a_while() {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = |file: &str| Identity {
            name: server_name!("a.test").to_owned(),
            key: SigningKey::load_or_create(&dir.path().join(file)).expect("a key"),
        };
        let (me, other) = (identity("one"), identity("two"));
        let alice = user_id!("@alice:a.test");
        let good = token(&me, alice);
        assert_eq!(user_of(&me, &good).as_deref(), Some(alice));
        assert_eq!(user_of(&other, &good), None);
        assert_eq!(user_of(&me, &token_until(&me, alice, clock::now_ms() - 1)), None);
        assert_eq!(user_of(&me, &token(&me, user_id!("@alice:b.test"))), None);
        let later = good.replacen('.', ".9", 1);
        for bad in [&*later, "", ".", "..", "a.1.b", &"x".repeat(5000)] {
            assert_eq!(user_of(&me, bad), None, "{bad}");
        }
    }
}
