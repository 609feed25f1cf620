//! What a server publishes about its keys: reading and checking another's, and making ours.
//! spec: server-server-api#publishing-keys

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName,
    serde::{Base64, base64::Standard},
    signatures::KeyPair,
};
use serde_json::{json, value::RawValue};

use crate::{
    base::{clock, json, signed_json, signing::Identity},
    error::{Error, Result},
    store::rows::ServerKeyRow,
};

/// However long a key says it is good, it is asked for again after a week.
const MAX_VALID: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long others may rely on what we say.
const OUR_VALID: Duration = Duration::from_secs(24 * 3600);
/// Bytes at most of what a server says of its keys.
const MAX_SIZE: usize = 65_536;
/// Keys of one server that are kept at most, current and old.
const MAX_KEYS: usize = 100;
/// Bytes of a key's ID at most.
const MAX_ID: usize = 255;
/// Bytes of an Ed25519 key.
const KEY_SIZE: usize = 32;

/// Keys of a server, checked.
#[derive(Clone, Debug)]
pub struct Published {
    /// Whose.
    pub server: OwnedServerName,
    /// By key ID.
    pub keys: BTreeMap<String, ServerKeyRow>,
    /// All of it, as it was signed.
    pub json: String,
    /// Whether it came by a notary, not from the server itself.
    pub vouched: bool,
}

/// What `server` says of its keys, if it is of `server` and signed by itself.
pub fn check(raw: &RawValue, server: &ServerName) -> Result<Published, String> {
    let object = json::canonical_from_raw(raw).map_err(|error| error.message().to_owned())?;
    let published = read(&object, raw)?;
    if published.server != server {
        return Err(format!("these are the keys of {}", published.server));
    }
    self_signed(&object, published)
}

/// The same as a notary passes it on, for one of these servers: signed by the notary too.
pub fn check_vouched(
    raw: &RawValue,
    asked: &[OwnedServerName],
    notary: &ServerName,
    notary_keys: &BTreeMap<String, String>,
) -> Result<Published, String> {
    let object = json::canonical_from_raw(raw).map_err(|error| error.message().to_owned())?;
    let published = read(&object, raw)?;
    if !asked.contains(&published.server) {
        return Err(format!("nobody asked for the keys of {}", published.server));
    }
    let mut published = self_signed(&object, published)?;
    let vouched = |(id, key): (&String, &String)| signed_json::is_signed_by(&object, notary.as_str(), id, key);
    if !notary_keys.iter().any(vouched) {
        return Err(format!("the keys of {} are not signed by the notary", published.server));
    }
    published.vouched = true;
    Ok(published)
}

/// Leaves out each current key that has not signed, so that nobody claims a key that they don't have. There
/// has to be one that has.
fn self_signed(object: &CanonicalJsonObject, mut published: Published) -> Result<Published, String> {
    let server = published.server.as_str();
    published.keys.retain(|id, row| row.old || signed_json::is_signed_by(object, server, id, &row.key));
    match published.keys.values().any(|row| !row.old) {
        true => Ok(published),
        false => Err(format!("the keys of {server} are not signed by any of them")),
    }
}

fn read(object: &CanonicalJsonObject, raw: &RawValue) -> Result<Published, String> {
    if raw.get().len() > MAX_SIZE {
        return Err(format!("they are longer than {MAX_SIZE} bytes"));
    }
    let text = |name: &str| object.get(name).and_then(CanonicalJsonValue::as_str);
    let server = text("server_name").and_then(|name| ServerName::parse(name).ok()).ok_or("no server_name")?;
    let valid_until = object.get("valid_until_ts").and_then(time).ok_or("no valid_until_ts")?;
    let valid_until = valid_until.min(clock::now_ms() + millis(MAX_VALID));
    let mut keys = BTreeMap::new();
    for (id, key) in members(object, "old_verify_keys").take(MAX_KEYS) {
        let (Some(public), Some(expired)) = (public(key), key.get("expired_ts").and_then(time)) else { continue };
        keys.insert(id.clone(), ServerKeyRow { key: public, valid_until: expired, old: true });
    }
    for (id, key) in members(object, "verify_keys").take(MAX_KEYS) {
        let Some(public) = public(key) else { continue };
        keys.insert(id.clone(), ServerKeyRow { key: public, valid_until, old: false });
    }
    Ok(Published { server, keys, json: raw.get().to_owned(), vouched: false })
}

/// The keys of a kind that we can use: other algorithms are not known here.
fn members<'a>(
    object: &'a CanonicalJsonObject,
    kind: &str,
) -> impl Iterator<Item = (&'a String, &'a CanonicalJsonObject)> {
    let all = object.get(kind).and_then(CanonicalJsonValue::as_object).into_iter().flatten();
    let usable = |id: &str| id.starts_with("ed25519:") && id.len() <= MAX_ID;
    all.filter_map(move |(id, key)| Some((id, key.as_object()?)).filter(|(id, _)| usable(id)))
}

fn public(key: &CanonicalJsonObject) -> Option<String> {
    let key = Base64::<Standard>::parse(key.get("key")?.as_str()?).ok()?;
    (key.as_bytes().len() == KEY_SIZE).then(|| key.encode())
}

fn time(value: &CanonicalJsonValue) -> Option<u64> {
    match value {
        CanonicalJsonValue::Integer(time) => u64::try_from(i64::from(*time)).ok(),
        _ => None,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One of our own keys, by its ID.
pub fn ours(me: &Identity, id: &str) -> Option<ServerKeyRow> {
    if id == me.key.id().as_str() {
        return Some(ServerKeyRow { key: STANDARD_NO_PAD.encode(me.key.public()), valid_until: u64::MAX, old: false });
    }
    let old = me.key.old().iter().find(|old| old.id == id)?;
    Some(ServerKeyRow { key: old.key.clone(), valid_until: old.expired, old: true })
}

/// What we publish about our keys, signed.
pub fn publish(me: &Identity) -> Result<CanonicalJsonObject> {
    let old: BTreeMap<&str, _> =
        me.key.old().iter().map(|old| (&*old.id, json!({ "expired_ts": old.expired, "key": old.key }))).collect();
    let object = json!({
        "server_name": me.name,
        "valid_until_ts": clock::now_ms() + millis(OUR_VALID),
        "verify_keys": { me.key.id().as_str(): { "key": STANDARD_NO_PAD.encode(me.key.public()) } },
        "old_verify_keys": old,
    });
    let serde_json::Value::Object(object) = object else { return Err(Error::internal("not an object")) };
    let mut object = json::canonical(object)?;
    sign(me, &mut object)?;
    Ok(object)
}

/// Adds our signature to an object: to our own keys, and to those of others that we vouch for.
pub fn sign(me: &Identity, object: &mut CanonicalJsonObject) -> Result<()> {
    let message = signed_json::signed_part(object).ok_or_else(|| Error::internal("it can't be signed"))?;
    let signature = STANDARD_NO_PAD.encode(me.key.sign(message.as_bytes()).as_bytes());
    let empty = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
    let all = object.entry("signatures".to_owned()).or_insert_with(empty);
    let CanonicalJsonValue::Object(all) = all else { return Err(Error::internal("its signatures are no object")) };
    let own = all.entry(me.name.to_string()).or_insert_with(empty);
    let CanonicalJsonValue::Object(own) = own else { return Err(Error::internal("its signatures are no object")) };
    own.insert(me.key.id().to_string(), signature.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::signing::SigningKey;

    fn server(name: &str) -> (tempfile::TempDir, Identity) {
        let dir = tempfile::tempdir().expect("a directory");
        let key = SigningKey::load_or_create(&dir.path().join("signing.key")).expect("made");
        (dir, Identity { name: ServerName::parse(name).expect("a name"), key })
    }

    fn raw(object: &CanonicalJsonObject) -> Box<RawValue> {
        json::to_raw(object).expect("JSON")
    }

    #[test]
    fn what_we_publish_is_what_we_accept() {
        let (_dir, me) = server("a.b");
        let published = check(&raw(&publish(&me).expect("made")), &me.name).expect("good");
        let row = &published.keys[me.key.id().as_str()];
        assert_eq!(row.key, STANDARD_NO_PAD.encode(me.key.public()));
        assert!(row.valid_until > clock::now_ms() && !row.old);
    }

    #[test]
    fn keys_of_another_or_without_their_own_signature_are_refused() {
        let (_dir, me) = server("a.b");
        let mut object = publish(&me).expect("made");
        assert!(check(&raw(&object), ruma::server_name!("c.d")).is_err());
        object.insert("valid_until_ts".into(), ruma::Int::MIN.into());
        assert!(check(&raw(&object), &me.name).is_err(), "changed after it was signed");
        for missing in ["server_name", "verify_keys", "valid_until_ts", "signatures"] {
            let mut object = publish(&me).expect("made");
            object.remove(missing);
            sign(&me, &mut object).expect("signed");
            let checked = check(&raw(&object), &me.name);
            assert_eq!(checked.is_ok(), missing == "signatures", "{missing}");
        }
    }

    #[test]
    fn a_key_is_good_for_a_week_at_most_and_a_claimed_one_not_at_all() {
        let (_dir, me) = server("a.b");
        let mut object = publish(&me).expect("made");
        object.insert("valid_until_ts".into(), ruma::Int::MAX.into());
        let CanonicalJsonValue::Object(keys) = object.get_mut("verify_keys").expect("keys") else { panic!("keys") };
        let another = CanonicalJsonObject::from([("key".to_owned(), STANDARD_NO_PAD.encode([7; 32]).into())]);
        keys.insert("ed25519:claimed".into(), another.into());
        sign(&me, &mut object).expect("signed");
        let published = check(&raw(&object), &me.name).expect("one has signed");
        assert_eq!(published.keys.keys().collect::<Vec<_>>(), [me.key.id().as_str()]);
        let limit = clock::now_ms() + millis(MAX_VALID);
        assert!(published.keys.values().all(|row| row.valid_until <= limit));
    }

    #[test]
    fn a_notary_has_to_sign_too() {
        let ((_one, me), (_other, notary)) = (server("a.b"), server("n.o"));
        let mut object = publish(&me).expect("made");
        let keys = BTreeMap::from([(notary.key.id().to_string(), STANDARD_NO_PAD.encode(notary.key.public()))]);
        let checked = |object: &CanonicalJsonObject, asked: &str| {
            check_vouched(&raw(object), &[ServerName::parse(asked).expect("a name")], &notary.name, &keys)
        };
        assert!(checked(&object, "a.b").is_err(), "not vouched for");
        sign(&notary, &mut object).expect("signed");
        assert!(checked(&object, "a.b").expect("vouched for").vouched);
        assert!(checked(&object, "c.d").is_err(), "nobody asked");
    }

    #[test]
    fn a_key_that_was_given_up_is_published_as_old() {
        let (dir, me) = server("a.b");
        let path = dir.path().join("signing.key");
        let before = me.key.id().to_string();
        SigningKey::rotate(&path).expect("rotated");
        let me = Identity { name: me.name, key: SigningKey::load_or_create(&path).expect("read") };
        assert_ne!(me.key.id().as_str(), before);
        let published = check(&raw(&publish(&me).expect("made")), &me.name).expect("good");
        assert_eq!(published.keys.len(), 2);
        assert!(published.keys[&before].old && published.keys[&before].valid_until <= clock::now_ms());
        assert!(ours(&me, &before).is_some_and(|row| row.old));
    }
}
