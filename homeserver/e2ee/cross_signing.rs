//! Cross-signing keys: a person's master, self-signing and user-signing key, and when new ones may
//! replace them. Owns the keys; signatures on them are in `signatures.rs`.
//! spec: client-server-api#cross-signing

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{
    CanonicalJsonObject, OwnedUserId, UserId,
    encryption::{CrossSigningKey, KeyUsage},
    serde::Raw,
};
use serde_json::{Map, Value};

use super::{bound, device_lists, signatures};
use crate::{
    base::{json, signed_json},
    error::{Error, Result},
    store::{LAST, Read, WriteTx, tables},
};

/// What a key is for, as it is written in keys and in the store.
const MASTER: &str = "master";
const SELF_SIGNING: &str = "self_signing";
const USER_SIGNING: &str = "user_signing";

/// A person's keys, those of them that there are.
#[derive(Debug, Default)]
pub struct Keys {
    /// Who the person is.
    pub master: Option<Raw<CrossSigningKey>>,
    /// Signs the person's own devices.
    pub self_signing: Option<Raw<CrossSigningKey>>,
    /// Signs other people's master keys.
    pub user_signing: Option<Raw<CrossSigningKey>>,
}

/// A key that was understood.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Key {
    usage: &'static str,
    /// The public half, which is also the key's name.
    pub public: String,
    /// The whole object.
    pub object: CanonicalJsonObject,
    json: String,
}

impl Key {
    /// The key's ID, as signatures by it are labelled.
    pub fn id(&self) -> String {
        format!("ed25519:{}", self.public)
    }

    fn parse(user: &UserId, usage: &'static str, raw: &Raw<CrossSigningKey>) -> Result<Self> {
        bound(raw.json().get())?;
        let bad = |why: &str| Error::invalid_param(format!("the {usage} key {why}"));
        let key = raw.deserialize().map_err(|error| Error::bad_json(format!("the {usage} key: {error}")))?;
        if key.user_id != user {
            return Err(bad("is of another user"));
        }
        if key.usage != [KeyUsage::from(usage)] {
            return Err(bad("has another usage"));
        }
        let mut keys = key.keys.iter();
        let (Some((id, public)), None) = (keys.next(), keys.next()) else {
            return Err(bad("must have exactly one public key"));
        };
        if id.as_str() != format!("ed25519:{public}")
            || !STANDARD_NO_PAD.decode(public).is_ok_and(|key| key.len() == 32)
        {
            return Err(bad("must be an Ed25519 key whose ID is its public half in unpadded base64"));
        }
        let object = json::canonical_from_raw(raw.json())?;
        Ok(Self { usage, public: public.clone(), object, json: raw.json().get().to_owned() })
    }
}

/// New keys that were found good, and what they are to replace: made by [`judge`] alone.
#[derive(Clone)]
pub struct Plan {
    user: OwnedUserId,
    new: Vec<Key>,
    before: Vec<Option<Key>>,
}

impl Plan {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty()
    }

    /// Whether the person has to prove who they are: there are keys, and these are others.
    /// spec: client-server-api#post_matrixclientv3keysdevice_signingupload
    pub fn needs_auth(&self) -> bool {
        !self.new.is_empty() && self.before.iter().flatten().any(|key| key.usage == MASTER)
    }
}

/// Judges uploaded keys: whether they are well formed, signed by the master key that they come with or
/// by the present one, and which of them are new.
pub fn judge(tx: &impl Read, user: &UserId, given: &Keys) -> Result<Plan> {
    let mut keys = Vec::new();
    for (usage, raw) in
        [(MASTER, &given.master), (SELF_SIGNING, &given.self_signing), (USER_SIGNING, &given.user_signing)]
    {
        keys.extend(raw.as_ref().map(|raw| Key::parse(user, usage, raw)).transpose()?);
    }
    let before = stored_all(tx, user)?;
    let old_master = before[0].as_ref();
    let Some(master) = keys.iter().find(|key| key.usage == MASTER).or(old_master) else {
        return Err(Error::missing_param("there is no master key, and none comes with these keys"));
    };
    let (master_id, master_public) = (master.id(), master.public.clone());
    for key in keys.iter().filter(|key| key.usage != MASTER) {
        if !signed_json::is_signed_by(&key.object, user.as_str(), &master_id, &master_public) {
            let message = format!("the {} key is not signed by the master key", key.usage);
            return Err(Error::bad_request("M_INVALID_SIGNATURE", message));
        }
    }
    let same_master = old_master.is_some_and(|old| old.public == master_public);
    let known = |key: &Key| before.iter().flatten().any(|old| (old.usage, &old.public) == (key.usage, &key.public));
    keys.retain(|key| !(same_master && known(key)));
    Ok(Plan { user: user.to_owned(), new: keys, before })
}

/// The keys of somebody of another server that are good: a self-signing key only if the master key signed
/// it. The user-signing key is nobody's business.
pub(super) fn check(
    user: &UserId,
    master: Option<&Raw<CrossSigningKey>>,
    self_signing: Option<&Raw<CrossSigningKey>>,
) -> Vec<Key> {
    let Some(master) = master.and_then(|raw| Key::parse(user, MASTER, raw).ok()) else { return Vec::new() };
    let own = self_signing.and_then(|raw| Key::parse(user, SELF_SIGNING, raw).ok());
    let is_signed = |key: &Key| signed_json::is_signed_by(&key.object, user.as_str(), &master.id(), &master.public);
    let own = own.filter(is_signed);
    std::iter::once(master).chain(own).collect()
}

/// Keeps the keys of somebody of another server. True if they are others than before.
pub(super) fn keep(tx: &WriteTx, user: &UserId, keys: &[Key]) -> Result<bool> {
    let mut changed = false;
    for usage in [MASTER, SELF_SIGNING] {
        let (old, new) = (stored(tx, user, usage)?, keys.iter().find(|key| key.usage == usage));
        if old.as_ref() == new {
            continue;
        }
        changed = true;
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.public != old.public)) {
            signatures::forget(tx, user.as_str(), &old.public)?;
        }
        match new {
            Some(new) => tables::CROSS_SIGNING_KEYS.put(tx, (user.as_str(), usage), &new.json)?,
            None => drop(tables::CROSS_SIGNING_KEYS.remove(tx, (user.as_str(), usage))?),
        }
    }
    Ok(changed)
}

/// Publishes judged keys. Fails if they were changed since they were judged.
pub fn replace(tx: &WriteTx, plan: &Plan) -> Result<()> {
    let Plan { user, new, before } = plan;
    if stored_all(tx, user)? != *before {
        return Err(Error::unknown("your cross-signing keys were changed by another session: look again"));
    }
    for key in new {
        let taken = |found: bool| match found {
            true => Err(Error::forbidden("one of the keys has the name of one of your devices")),
            false => Ok(()),
        };
        taken(tables::DEVICES.has(tx, (user.as_str(), &*key.public))?)?;
        taken(tables::DEVICE_KEYS.has(tx, (user.as_str(), &*key.public))?)?;
    }
    let new_master = new.iter().any(|key| key.usage == MASTER);
    for old in before.iter().flatten() {
        // Whatever an earlier master key signed means nothing under a new one.
        if new_master || new.iter().any(|key| key.usage == old.usage) {
            tables::CROSS_SIGNING_KEYS.remove(tx, (user.as_str(), old.usage))?;
            signatures::forget(tx, user.as_str(), &old.public)?;
            signatures::forget_made_by(tx, user.as_str(), &old.id())?;
        }
    }
    for key in new {
        tables::CROSS_SIGNING_KEYS.put(tx, (user.as_str(), key.usage), &key.json)?;
    }
    device_lists::keys_changed(tx, user)
}

/// Whether a name is the public half of one of a person's keys: no device may be called so.
pub fn is_key(tx: &impl Read, user: &UserId, name: &str) -> Result<bool> {
    Ok(stored_all(tx, user)?.iter().flatten().any(|key| key.public == name))
}

/// A person's master key.
pub(super) fn master(tx: &impl Read, user: &UserId) -> Result<Option<Key>> {
    stored(tx, user, MASTER)
}

/// The key with which a person signs: their own devices, or other people's master keys.
pub(super) fn signing_key(tx: &impl Read, user: &UserId, target: &UserId) -> Result<Option<Key>> {
    stored(tx, user, if user == target { SELF_SIGNING } else { USER_SIGNING })
}

fn stored_all(tx: &impl Read, user: &UserId) -> Result<Vec<Option<Key>>> {
    [MASTER, SELF_SIGNING, USER_SIGNING].into_iter().map(|usage| stored(tx, user, usage)).collect()
}

fn stored(tx: &impl Read, user: &UserId, usage: &'static str) -> Result<Option<Key>> {
    let json = tables::CROSS_SIGNING_KEYS.get(tx, (user.as_str(), usage))?;
    let parse = |json| Key::parse(user, usage, &Raw::from_json(json::raw(json)?)).map_err(Error::internal);
    json.map(parse).transpose()
}

/// A person's keys as `asker` may see them (nobody means another server): the user-signing key is shown
/// to its owner alone.
pub fn of_user(tx: &impl Read, asker: Option<&UserId>, user: &UserId) -> Result<Keys> {
    let mut keys = Keys::default();
    let range = (user.as_str(), "")..=(user.as_str(), LAST);
    for (usage, json) in tables::CROSS_SIGNING_KEYS.collect(tx, range, |(_, usage), json| (usage.to_owned(), json))? {
        let place = match usage.as_str() {
            MASTER => &mut keys.master,
            SELF_SIGNING => &mut keys.self_signing,
            USER_SIGNING if asker == Some(user) => &mut keys.user_signing,
            _ => continue,
        };
        let mut object: Map<String, Value> = serde_json::from_str(&json).map_err(Error::internal)?;
        let public = object.get("keys").and_then(Value::as_object).and_then(|keys| keys.values().next());
        let public = public.and_then(Value::as_str).unwrap_or_default().to_owned();
        signatures::show(tx, asker, (user, &public), &mut object)?;
        *place = Some(Raw::from_json(json::to_raw(&object)?));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        e2ee::testing::{Key as Pair, alice, bob, cross_signing_key, open, raw},
        store::{Store, rows::DeviceRow},
    };

    /// A whole set of keys.
    fn set(master: &Pair, own: &Pair, others: &Pair) -> Keys {
        Keys {
            master: Some(raw(&cross_signing_key(alice(), MASTER, master, None))),
            self_signing: Some(raw(&cross_signing_key(alice(), SELF_SIGNING, own, Some(master)))),
            user_signing: Some(raw(&cross_signing_key(alice(), USER_SIGNING, others, Some(master)))),
        }
    }

    fn judged(store: &Store, keys: &Keys) -> Result<Plan> {
        store.read(|tx| judge(tx, alice(), keys))
    }

    async fn put(store: &Store, keys: &Keys) -> Result<()> {
        let plan = judged(store, keys)?;
        store.write(move |tx| replace(tx, &plan)).await
    }

    #[tokio::test]
    async fn the_first_keys_and_the_same_again_need_no_proof_and_others_do() {
        let (_dir, store) = open();
        let (master, own, others) = (Pair::new(), Pair::new(), Pair::new());
        let first = judged(&store, &set(&master, &own, &others)).expect("good");
        assert!(!first.needs_auth() && !first.is_empty());
        put(&store, &set(&master, &own, &others)).await.expect("published");
        let again = judged(&store, &set(&master, &own, &others)).expect("good");
        assert!(again.is_empty() && !again.needs_auth());
        let one_other = judged(&store, &set(&master, &Pair::new(), &others)).expect("good");
        assert!(one_other.needs_auth());
        let own_alone = Keys { master: None, user_signing: None, ..set(&master, &Pair::new(), &others) };
        assert!(judged(&store, &own_alone).expect("signed by the present master").needs_auth());
    }

    #[tokio::test]
    async fn keys_have_to_be_well_formed_and_signed_by_the_master() {
        let (_dir, store) = open();
        let (master, own, others) = (Pair::new(), Pair::new(), Pair::new());
        let code = |keys: Keys| judged(&store, &keys).err().expect("refused").errcode();
        let good = || set(&master, &own, &others);
        assert_eq!(code(Keys { master: None, ..good() }), "M_MISSING_PARAM");
        let unsigned = raw(&cross_signing_key(alice(), SELF_SIGNING, &own, None));
        assert_eq!(code(Keys { self_signing: Some(unsigned), ..good() }), "M_INVALID_SIGNATURE");
        let by_another = raw(&cross_signing_key(alice(), SELF_SIGNING, &own, Some(&Pair::new())));
        assert_eq!(code(Keys { self_signing: Some(by_another), ..good() }), "M_INVALID_SIGNATURE");
        let of_bob = raw(&cross_signing_key(bob(), MASTER, &master, None));
        assert_eq!(code(Keys { master: Some(of_bob), ..good() }), "M_INVALID_PARAM");
        let misused = raw(&cross_signing_key(alice(), USER_SIGNING, &master, None));
        assert_eq!(code(Keys { master: Some(misused), ..good() }), "M_INVALID_PARAM");
        let mut two = cross_signing_key(alice(), MASTER, &master, None);
        two["keys"]["ed25519:x"] = json!("x");
        assert_eq!(code(Keys { master: Some(raw(&two)), ..good() }), "M_INVALID_PARAM");
    }

    #[tokio::test]
    async fn keys_and_devices_never_have_the_same_name() {
        let (_dir, store) = open();
        let master = Pair::new();
        let name = master.public();
        let device = store.write(move |tx| tables::DEVICES.put(tx, (alice().as_str(), &*name), &DeviceRow::default()));
        device.await.expect("written");
        let refused = put(&store, &set(&master, &Pair::new(), &Pair::new())).await.expect_err("refused");
        assert_eq!(refused.errcode(), "M_FORBIDDEN");
        let master = Pair::new();
        put(&store, &set(&master, &Pair::new(), &Pair::new())).await.expect("published");
        assert!(store.read(|tx| is_key(tx, alice(), &master.public())).expect("read"));
    }

    #[tokio::test]
    async fn the_user_signing_key_is_shown_to_its_owner_alone() {
        let (_dir, store) = open();
        put(&store, &set(&Pair::new(), &Pair::new(), &Pair::new())).await.expect("published");
        let seen_by = |asker| store.read(|tx| of_user(tx, asker, alice())).expect("read");
        assert!(seen_by(Some(alice())).user_signing.is_some());
        for other in [seen_by(Some(bob())), seen_by(None)] {
            assert!(other.user_signing.is_none());
            assert!(other.master.is_some() && other.self_signing.is_some());
        }
    }

    #[tokio::test]
    async fn a_new_master_key_takes_the_old_ones_keys_along() {
        let (_dir, store) = open();
        put(&store, &set(&Pair::new(), &Pair::new(), &Pair::new())).await.expect("published");
        let alone = Keys { self_signing: None, user_signing: None, ..set(&Pair::new(), &Pair::new(), &Pair::new()) };
        put(&store, &alone).await.expect("published");
        let now = store.read(|tx| of_user(tx, Some(alice()), alice())).expect("read");
        assert!(now.master.is_some() && now.self_signing.is_none() && now.user_signing.is_none());
    }

    #[tokio::test]
    async fn of_two_first_uploads_at_once_one_wins() {
        let (_dir, store) = open();
        let one = judged(&store, &set(&Pair::new(), &Pair::new(), &Pair::new())).expect("good");
        let two = judged(&store, &set(&Pair::new(), &Pair::new(), &Pair::new())).expect("good");
        store.write(move |tx| replace(tx, &one)).await.expect("published");
        assert!(store.write(move |tx| replace(tx, &two)).await.is_err());
    }
}
