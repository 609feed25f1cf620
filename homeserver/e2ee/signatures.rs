//! Signatures on keys that were uploaded apart from the keys: which are accepted, and who sees them.
//!
//! Three kinds are accepted, each checked: a person's self-signing key on their devices, their devices
//! on their master key, and their user-signing key on somebody else's master key. The last kind says
//! who has verified whom, so it is shown to the signer alone.
//! spec: client-server-api#key-and-signature-security

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, UserId,
    api::client::keys::upload_signatures::v3::{Failure, SignedKeys},
};
use serde_json::{Map, Value, value::RawValue};

use super::{bound, cross_signing, device_keys, device_lists};
use crate::{
    base::{json, signed_json},
    error::{Error, Result},
    store::{Flow, LAST, Read, WriteTx, tables},
};

/// Signed keys in one request at most.
const MAX_SIGNED: usize = 1_000;
/// Signatures of one person's devices on one key that are looked at.
const MAX_DEVICES: usize = 100;

/// A signature that was found good: made by [`judge`] alone.
#[derive(Clone, Debug)]
pub struct Good {
    target: OwnedUserId,
    /// The name of the key or device that is signed.
    name: String,
    /// What was signed.
    message: String,
    signer_key: String,
    signer_public: String,
    signature: String,
}

/// What became of each signed key: `failures` goes to the client as it is.
#[derive(Default)]
pub struct Judged {
    /// Signatures to keep.
    pub good: Vec<Good>,
    /// Why others were not accepted.
    pub failures: BTreeMap<OwnedUserId, BTreeMap<String, Failure>>,
}

/// Judges what `signer` uploads. Slow, as signatures are checked: not for the writer.
pub fn judge(tx: &impl Read, signer: &UserId, given: &BTreeMap<OwnedUserId, SignedKeys>) -> Result<Judged> {
    if given.values().map(|keys| keys.iter().count()).sum::<usize>() > MAX_SIGNED {
        return Err(Error::invalid_param(format!("upload signatures on {MAX_SIGNED} keys at most")));
    }
    let mut judged = Judged::default();
    for (target, keys) in given {
        for (name, object) in keys {
            match judge_one(tx, signer, (target, name), object) {
                Ok(good) => judged.good.extend(good),
                Err(error) if error.cause().is_some() => return Err(error),
                Err(error) => {
                    let failure = serde_json::from_value(error.body()).map_err(Error::internal)?;
                    judged.failures.entry(target.clone()).or_default().insert(name.to_owned(), failure);
                }
            }
        }
    }
    Ok(judged)
}

fn judge_one(
    tx: &impl Read,
    signer: &UserId,
    (target, name): (&OwnedUserId, &str),
    given: &RawValue,
) -> Result<Vec<Good>> {
    bound(given.get())?;
    let given = json::canonical_from_raw(given)?;
    let stored = signed_object(tx, signer, (target, name))?;
    let stored = stored.ok_or_else(|| Error::not_found("there is no such key that you could sign"))?;
    let message = signed_json::signed_part(&stored).ok_or_else(|| Error::internal("a stored key is damaged"))?;
    if signed_json::signed_part(&given).as_ref() != Some(&message) {
        return Err(invalid("this is not the key as it was uploaded"));
    }
    let mut good = Vec::new();
    for signer_key in labels(&given, signer).into_iter().take(MAX_DEVICES) {
        let Some(signer_public) = signer_public(tx, signer, (target, name), signer_key)? else { continue };
        let signature = signed_json::signature(&given, signer.as_str(), signer_key).unwrap_or_default();
        if !signed_json::verify(&message, signature, &signer_public) {
            return Err(invalid("this signature does not fit the key"));
        }
        good.push(Good {
            target: target.clone(),
            name: name.to_owned(),
            message: message.clone(),
            signer_key: signer_key.to_owned(),
            signer_public,
            signature: signature.to_owned(),
        });
    }
    match good.is_empty() {
        true => Err(invalid("there is no signature here by a key that may sign this one")),
        false => Ok(good),
    }
}

fn invalid(message: &'static str) -> Error {
    Error::bad_request("M_INVALID_SIGNATURE", message)
}

/// The IDs of a person's keys that have signed an object.
fn labels<'a>(object: &'a CanonicalJsonObject, signer: &UserId) -> Vec<&'a str> {
    let signatures = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    let own = signatures.and_then(|all| all.get(signer.as_str())).and_then(CanonicalJsonValue::as_object);
    own.into_iter().flat_map(|own| own.keys().map(String::as_str)).collect()
}

/// What a name stands for that `signer` may sign: one of their devices, or anybody's master key.
fn signed_object(
    tx: &impl Read,
    signer: &UserId,
    (target, name): (&UserId, &str),
) -> Result<Option<CanonicalJsonObject>> {
    if let Some(master) = cross_signing::master(tx, target)?.filter(|master| master.public == name) {
        return Ok(Some(master.object));
    }
    match signer == target {
        true => device_keys::stored(tx, target, name.into()),
        false => Ok(None),
    }
}

/// The public half of the signer's key with this ID, if it is one that may sign this.
fn signer_public(
    tx: &impl Read,
    signer: &UserId,
    (target, name): (&UserId, &str),
    key_id: &str,
) -> Result<Option<String>> {
    let is_master = cross_signing::master(tx, target)?.is_some_and(|master| master.public == name);
    if signer == target && is_master {
        let Some(device) = key_id.strip_prefix("ed25519:") else { return Ok(None) };
        let keys = device_keys::stored(tx, signer, device.into())?;
        return Ok(keys.and_then(|keys| device_keys::ed25519(&keys, key_id).map(str::to_owned)));
    }
    let key = cross_signing::signing_key(tx, signer, target)?;
    Ok(key.filter(|key| key.id() == key_id).map(|key| key.public))
}

/// Keeps good signatures. Fails if a key was changed since they were judged.
pub fn add(tx: &WriteTx, signer: &UserId, signatures: &[Good]) -> Result<()> {
    for good in signatures {
        let of = (&*good.target, &*good.name);
        let message = signed_object(tx, signer, of)?.and_then(|object| signed_json::signed_part(&object));
        let public = signer_public(tx, signer, of, &good.signer_key)?;
        if message.as_ref() != Some(&good.message) || public.as_ref() != Some(&good.signer_public) {
            return Err(Error::unknown("a key was changed by another session: look again"));
        }
    }
    let mut own = BTreeSet::new();
    for Good { target, name, signer_key, signature, .. } in signatures {
        let key = (target.as_str(), &**name, signer.as_str(), &**signer_key);
        if tables::KEY_SIGNATURES.get(tx, key)?.as_ref() == Some(signature) {
            continue;
        }
        if target == signer {
            own.insert(&**name);
        } else {
            // One signature of each person on each key: that of their present user-signing key.
            tables::KEY_SIGNATURES.remove_range(tx, (key.0, key.1, key.2, "")..=(key.0, key.1, key.2, LAST))?;
            device_lists::signed(tx, signer, target)?;
        }
        tables::KEY_SIGNATURES.put(tx, key, signature)?;
    }
    for name in own {
        match tables::DEVICE_KEYS.has(tx, (signer.as_str(), name))? {
            true => device_lists::device_changed(tx, signer, name)?,
            false => device_lists::keys_changed(tx, signer)?,
        }
    }
    Ok(())
}

/// Leaves on a key (of `user`, with this name) the signatures that `asker` may see: those of its owner,
/// and the asker's own.
pub(super) fn show(
    tx: &impl Read,
    asker: Option<&UserId>,
    (user, name): (&UserId, &str),
    object: &mut Map<String, Value>,
) -> Result<()> {
    let mut all = match object.remove("signatures") {
        Some(Value::Object(all)) => all,
        _ => Map::new(),
    };
    all.retain(|signer, _| signer == user.as_str());
    let range = (user.as_str(), name, "", "")..=(user.as_str(), name, LAST, LAST);
    tables::KEY_SIGNATURES.scan(tx, range, |(_, _, signer, key), signature| {
        if signer == user.as_str() || asker.is_some_and(|asker| signer == asker.as_str()) {
            let own = all.entry(signer).or_insert_with(|| Map::new().into());
            if let Value::Object(own) = own {
                own.insert(key.to_owned(), signature.into());
            }
        }
        Ok(Flow::Next)
    })?;
    if !all.is_empty() {
        object.insert("signatures".into(), all.into());
    }
    Ok(())
}

/// Forgets the signatures on a key, and if it is a device those it made, as nobody can check them.
pub(super) fn forget(tx: &WriteTx, user: &str, name: &str) -> Result<()> {
    tables::KEY_SIGNATURES.remove_range(tx, (user, name, "", "")..=(user, name, LAST, LAST))?;
    forget_made_by(tx, user, &format!("ed25519:{name}"))
}

/// Forgets what a person's key has signed of their own.
pub(super) fn forget_made_by(tx: &WriteTx, user: &str, key_id: &str) -> Result<()> {
    let mut made = Vec::new();
    tables::KEY_SIGNATURES.scan(tx, (user, "", "", "")..=(user, LAST, LAST, LAST), |(_, name, signer, key), _| {
        if signer == user && key == key_id {
            made.push(name.to_owned());
        }
        Ok(Flow::Next)
    })?;
    for name in made {
        tables::KEY_SIGNATURES.remove(tx, (user, &*name, user, key_id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        e2ee::{
            cross_signing::Keys,
            testing::{Key, alice, bob, cross_signing_key, device_keys as keys_of, open, raw},
        },
        store::Store,
    };

    /// Somebody with a device and all cross-signing keys.
    struct Person {
        user: &'static UserId,
        device: Key,
        master: Key,
        own: Key,
        others: Key,
    }

    impl Person {
        async fn new(store: &Store, user: &'static UserId) -> Self {
            let new = Self { user, device: Key::new(), master: Key::new(), own: Key::new(), others: Key::new() };
            let device = device_keys::check(user, "PHONE".into(), &raw(&new.device_keys())).expect("good");
            let signed = |usage, key| raw(&cross_signing_key(user, usage, key, Some(&new.master)));
            let keys = Keys {
                master: Some(raw(&new.master_key())),
                self_signing: Some(signed("self_signing", &new.own)),
                user_signing: Some(signed("user_signing", &new.others)),
            };
            let published = store.write(move |tx| {
                device_keys::upload(tx, &device)?;
                cross_signing::replace(tx, &cross_signing::judge(tx, user, &keys)?)
            });
            published.await.expect("published");
            new
        }

        fn device_keys(&self) -> Value {
            keys_of(self.user, "PHONE", &self.device)
        }

        fn master_key(&self) -> Value {
            cross_signing_key(self.user, "master", &self.master, None)
        }

        /// The person's master key as `asker` sees it.
        fn master_seen_by(&self, store: &Store, asker: Option<&UserId>) -> Value {
            let keys = store.read(|tx| cross_signing::of_user(tx, asker, self.user)).expect("read");
            keys.master.expect("there is one").deserialize_as().expect("JSON")
        }
    }

    fn judged(store: &Store, signer: &UserId, target: &UserId, name: &str, object: &Value) -> Judged {
        let given = serde_json::from_value(serde_json::json!({ target.as_str(): { name: object } })).expect("signed");
        store.read(|tx| judge(tx, signer, &given)).expect("judged")
    }

    async fn upload(store: &Store, signer: &'static UserId, target: &UserId, name: &str, object: &Value) {
        let judged = judged(store, signer, target, name, object);
        assert!(judged.failures.is_empty(), "{:?}", judged.failures);
        store.write(move |tx| add(tx, signer, &judged.good)).await.expect("kept");
    }

    fn refused(store: &Store, signer: &UserId, target: &UserId, name: &str, object: &Value) -> String {
        let judged = judged(store, signer, target, name, object);
        assert!(judged.good.is_empty());
        let failure = serde_json::to_value(&judged.failures[target][name]).expect("JSON");
        failure["errcode"].as_str().expect("a code").to_owned()
    }

    #[tokio::test]
    async fn ones_own_devices_and_master_key_can_be_signed_and_all_see_it() {
        let (_dir, store) = open();
        let a = Person::new(&store, alice()).await;
        let (mut device, own) = (a.device_keys(), a.own.public());
        a.own.sign(&mut device, alice(), &own);
        upload(&store, alice(), alice(), "PHONE", &device).await;
        let (mut master, name) = (a.master_key(), a.master.public());
        a.device.sign(&mut master, alice(), "PHONE");
        upload(&store, alice(), alice(), &name, &master).await;
        for asker in [Some(alice()), Some(bob()), None] {
            let devices = store.read(|tx| device_keys::of_user(tx, asker, alice(), &[])).expect("read");
            let shown: Value = devices.into_values().next().expect("one").deserialize_as().expect("JSON");
            assert_eq!(shown["signatures"], device["signatures"]);
            assert_eq!(a.master_seen_by(&store, asker), master);
        }
    }

    #[tokio::test]
    async fn whom_somebody_has_verified_is_shown_to_them_alone() {
        let (_dir, store) = open();
        let (a, b) = (Person::new(&store, alice()).await, Person::new(&store, bob()).await);
        let (mut master, name) = (b.master_key(), b.master.public());
        a.others.sign(&mut master, alice(), &a.others.public());
        upload(&store, alice(), bob(), &name, &master).await;
        assert_eq!(b.master_seen_by(&store, Some(alice())), master);
        for other in [Some(bob()), None] {
            assert_eq!(b.master_seen_by(&store, other), b.master_key());
        }
    }

    #[tokio::test]
    async fn wrong_signatures_wrong_signers_and_other_keys_are_refused() {
        let (_dir, store) = open();
        let (a, b) = (Person::new(&store, alice()).await, Person::new(&store, bob()).await);
        let own = a.own.public();
        let mut forged = a.device_keys();
        Key::new().sign(&mut forged, alice(), &own);
        assert_eq!(refused(&store, alice(), alice(), "PHONE", &forged), "M_INVALID_SIGNATURE");
        let mut altered = a.device_keys();
        altered["algorithms"] = serde_json::json!([]);
        a.own.sign(&mut altered, alice(), &own);
        assert_eq!(refused(&store, alice(), alice(), "PHONE", &altered), "M_INVALID_SIGNATURE");
        let mut misused = b.master_key();
        a.own.sign(&mut misused, alice(), &own);
        assert_eq!(refused(&store, alice(), bob(), &b.master.public(), &misused), "M_INVALID_SIGNATURE");
        let mut device = b.device_keys();
        a.others.sign(&mut device, alice(), &a.others.public());
        assert_eq!(refused(&store, alice(), bob(), "PHONE", &device), "M_NOT_FOUND");
        assert_eq!(refused(&store, alice(), alice(), "GONE", &a.device_keys()), "M_NOT_FOUND");
    }

    #[tokio::test]
    async fn new_keys_end_what_was_signed_by_the_old_ones() {
        let (_dir, store) = open();
        let a = Person::new(&store, alice()).await;
        let (mut device, own) = (a.device_keys(), a.own.public());
        a.own.sign(&mut device, alice(), &own);
        let late = judged(&store, alice(), alice(), "PHONE", &device);
        upload(&store, alice(), alice(), "PHONE", &device).await;
        let fresh =
            Keys { master: Some(raw(&cross_signing_key(alice(), "master", &Key::new(), None))), ..Keys::default() };
        let replaced = store.write(move |tx| {
            cross_signing::replace(tx, &cross_signing::judge(tx, alice(), &fresh)?)?;
            tables::KEY_SIGNATURES.len(tx)
        });
        assert_eq!(replaced.await.expect("replaced"), 0);
        let late = store.write(move |tx| add(tx, alice(), &late.good)).await;
        assert!(late.is_err(), "the key that signed is no more");
    }

    #[tokio::test]
    async fn signatures_that_others_put_on_their_own_keys_in_ones_name_are_not_shown() {
        let (_dir, store) = open();
        let mut keys = keys_of(alice(), "PHONE", &Key::new());
        keys["signatures"][bob().as_str()]["ed25519:X"] = "forged".into();
        let checked = device_keys::check(alice(), "PHONE".into(), &raw(&keys)).expect("signed by itself");
        store.write(move |tx| device_keys::upload(tx, &checked)).await.expect("published");
        let devices = store.read(|tx| device_keys::of_user(tx, Some(bob()), alice(), &[])).expect("read");
        let shown: Value = devices.into_values().next().expect("one").deserialize_as().expect("JSON");
        assert_eq!(shown["signatures"].as_object().expect("an object").len(), 1);
    }
}
