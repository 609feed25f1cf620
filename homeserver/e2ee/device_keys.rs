//! Device keys: the identity keys that a device publishes, and who is shown them.
//! spec: client-server-api#device-keys

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, DeviceId, OwnedDeviceId, OwnedUserId, ServerName, UserId, api::client::keys::get_keys::v3,
    encryption::DeviceKeys, serde::Raw,
};
use serde_json::{Map, Value, json};

use super::{bound, cross_signing, device_lists, signatures};
use crate::{
    base::{json, signed_json},
    error::{Error, Result},
    store::{Flow, LAST, Read, WriteTx, tables},
};

/// People asked for at once at most.
const MAX_ASKED: usize = 10_000;

/// Device keys that were found good: made by [`check`] alone.
#[derive(Clone)]
pub struct Checked {
    user: OwnedUserId,
    device: OwnedDeviceId,
    object: CanonicalJsonObject,
    json: String,
}

/// Checks device keys that a session uploads: they have to be its own, and signed by themselves.
pub fn check(user: &UserId, device: &DeviceId, keys: &Raw<DeviceKeys>) -> Result<Checked> {
    bound(keys.json().get())?;
    let parsed = keys.deserialize().map_err(|error| Error::bad_json(format!("device_keys: {error}")))?;
    if parsed.user_id != user || parsed.device_id != device {
        return Err(Error::invalid_param("device_keys are of another user or device than this session"));
    }
    let object = json::canonical_from_raw(keys.json())?;
    let id = format!("ed25519:{device}");
    let public = ed25519(&object, &id).ok_or_else(|| Error::invalid_param(format!("device_keys have no {id}")))?;
    if !signed_json::is_signed_by(&object, user.as_str(), &id, public) {
        return Err(Error::bad_request("M_INVALID_SIGNATURE", format!("device_keys are not signed by {id}")));
    }
    let json = keys.json().get().to_owned();
    Ok(Checked { user: user.to_owned(), device: device.to_owned(), object, json })
}

impl Checked {
    /// The device.
    pub(super) fn device(&self) -> &DeviceId {
        &self.device
    }
}

/// Keeps the keys of a device of another server. True if they are others than before.
pub(super) fn keep(tx: &WriteTx, keys: &Checked) -> Result<bool> {
    let key = (keys.user.as_str(), keys.device.as_str());
    let old = stored(tx, &keys.user, &keys.device)?;
    if old.as_ref() == Some(&keys.object) {
        return Ok(false);
    }
    if old.is_some_and(|old| signed_json::signed_part(&old) != signed_json::signed_part(&keys.object)) {
        signatures::forget(tx, key.0, key.1)?;
    }
    tables::DEVICE_KEYS.put(tx, key, &keys.json)?;
    Ok(true)
}

/// The public key with an ID in a key object.
pub(super) fn ed25519<'a>(object: &'a CanonicalJsonObject, key_id: &str) -> Option<&'a str> {
    object.get("keys")?.as_object()?.get(key_id)?.as_str()
}

/// Publishes device keys. Uploading the same again changes nothing.
pub fn upload(tx: &WriteTx, keys: &Checked) -> Result<()> {
    let key = (keys.user.as_str(), keys.device.as_str());
    // spec: client-server-api#cross-signing: device IDs must not collide with cross-signing keys.
    if cross_signing::is_key(tx, &keys.user, key.1)? {
        return Err(Error::forbidden("this device's ID is one of your cross-signing keys"));
    }
    if let Some(old) = stored(tx, &keys.user, &keys.device)? {
        let unsigned_apart = |object: &CanonicalJsonObject| {
            let mut object = object.clone();
            object.remove("unsigned");
            object
        };
        if unsigned_apart(&old) == unsigned_apart(&keys.object) {
            return Ok(());
        }
        if signed_json::signed_part(&old) != signed_json::signed_part(&keys.object) {
            signatures::forget(tx, key.0, key.1)?;
        }
    }
    tables::DEVICE_KEYS.put(tx, key, &keys.json)?;
    device_lists::device_changed(tx, &keys.user, key.1)
}

/// A device's keys as they were uploaded.
pub(super) fn stored(tx: &impl Read, user: &UserId, device: &DeviceId) -> Result<Option<CanonicalJsonObject>> {
    let json = tables::DEVICE_KEYS.get(tx, (user.as_str(), device.as_str()))?;
    json.map(|json| json::canonical_from_raw(&json::raw(json)?)).transpose()
}

/// The keys of the people asked for, as `asker` may see them. No devices named means all of them.
/// What other servers hold can't be told from here and is left out.
pub fn query(
    tx: &impl Read,
    me: &ServerName,
    asker: &UserId,
    wanted: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
) -> Result<v3::Response> {
    if wanted.len() > MAX_ASKED {
        return Err(Error::invalid_param(format!("ask for {MAX_ASKED} users at most")));
    }
    let mut answer = v3::Response::new();
    for (user, devices) in wanted {
        if user.server_name() != me {
            continue;
        }
        show(tx, asker, (user, devices), &mut answer)?;
        if answer.device_keys.get(user).is_some_and(BTreeMap::is_empty) && !tables::USERS.has(tx, user.localpart())? {
            answer.device_keys.remove(user);
        }
    }
    Ok(answer)
}

/// Adds what is known of one person to an answer.
pub fn show(
    tx: &impl Read,
    asker: &UserId,
    (user, devices): (&OwnedUserId, &[OwnedDeviceId]),
    answer: &mut v3::Response,
) -> Result<()> {
    answer.device_keys.insert(user.clone(), of_user(tx, Some(asker), user, devices)?);
    let keys = cross_signing::of_user(tx, Some(asker), user)?;
    answer.master_keys.extend(keys.master.map(|key| (user.clone(), key)));
    answer.self_signing_keys.extend(keys.self_signing.map(|key| (user.clone(), key)));
    answer.user_signing_keys.extend(keys.user_signing.map(|key| (user.clone(), key)));
    Ok(())
}

/// What is said of a server whose keys are not to be had.
pub fn unreachable() -> Value {
    json!({ "errcode": "M_UNKNOWN", "error": "this server can't be reached" })
}

/// One of somebody's devices with keys.
pub fn any_of(tx: &impl Read, user: &UserId) -> Result<Option<String>> {
    let mut found = None;
    tables::DEVICE_KEYS.scan(tx, (user.as_str(), "")..=(user.as_str(), LAST), |(_, device), _| {
        found = Some(device.to_owned());
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// The keys of a user's devices, as `asker` may see them; nobody means another server.
pub fn of_user(
    tx: &impl Read,
    asker: Option<&UserId>,
    user: &UserId,
    wanted: &[OwnedDeviceId],
) -> Result<BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>> {
    let id = user.as_str();
    let mut rows = Vec::new();
    if wanted.is_empty() {
        rows = tables::DEVICE_KEYS.collect(tx, (id, "")..=(id, LAST), |(_, device), json| (device.into(), json))?;
    } else {
        for device in wanted {
            let json = tables::DEVICE_KEYS.get(tx, (id, device.as_str()))?;
            rows.extend(json.map(|json| (device.clone(), json)));
        }
    }
    let mut out = BTreeMap::new();
    for (device, json) in rows {
        let mut object: Map<String, Value> = serde_json::from_str(&json).map_err(Error::internal)?;
        signatures::show(tx, asker, (user, device.as_str()), &mut object)?;
        // What somebody calls their devices is nobody's business on other servers.
        let name = match asker {
            Some(_) => tables::DEVICES.get(tx, (id, device.as_str()))?.and_then(|row| row.display_name),
            None => None,
        };
        let unsigned = name.map(|name| ("device_display_name".to_owned(), Value::String(name)));
        object.insert("unsigned".into(), Value::Object(unsigned.into_iter().collect()));
        out.insert(device, Raw::from_json(json::to_raw(&object)?));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        e2ee::testing::{Key, alice, bob, device_keys, open, raw},
        store::rows::DeviceRow,
    };

    fn check_json(keys: &Value) -> Result<Checked> {
        check(alice(), "PHONE".into(), &raw(keys))
    }

    #[test]
    fn keys_have_to_be_the_sessions_own_and_signed() {
        let key = Key::new();
        let good = device_keys(alice(), "PHONE", &key);
        assert!(check_json(&good).is_ok());
        let other = check(bob(), "PHONE".into(), &raw(&good)).err().expect("refused");
        assert_eq!(other.errcode(), "M_INVALID_PARAM");
        let other = check(alice(), "TABLET".into(), &raw(&good)).err().expect("refused");
        assert_eq!(other.errcode(), "M_INVALID_PARAM");
        let mut forged = good.clone();
        forged["algorithms"] = json!(["none"]);
        assert_eq!(check_json(&forged).err().expect("refused").errcode(), "M_INVALID_SIGNATURE");
        let mut incomplete = good;
        incomplete.as_object_mut().expect("an object").remove("algorithms");
        assert_eq!(check_json(&incomplete).err().expect("refused").errcode(), "M_BAD_JSON");
    }

    #[tokio::test]
    async fn uploads_are_logged_once_and_shown_with_the_devices_name() {
        let (_dir, store) = open();
        let mut keys = device_keys(alice(), "PHONE", &Key::new());
        keys["unsigned"] = json!({ "device_display_name": "forged" });
        let checked = check_json(&keys).expect("good");
        let posted = store.write(move |tx| {
            upload(tx, &checked)?;
            let first = tx.pos()?;
            upload(tx, &checked)?;
            assert_eq!(first, tx.pos()?, "the same again changes nothing");
            let row = DeviceRow { display_name: Some("My phone".into()), ..DeviceRow::default() };
            tables::DEVICES.put(tx, (alice().as_str(), "PHONE"), &row)
        });
        posted.await.expect("written");
        let wanted = BTreeMap::from([
            (alice().to_owned(), vec![]),
            (bob().to_owned(), vec!["X".into()]),
            ("@c:elsewhere".try_into().expect("an ID"), vec![]),
        ]);
        let answer = store.read(|tx| query(tx, alice().server_name(), bob(), &wanted)).expect("answered");
        assert_eq!(answer.device_keys.len(), 1);
        let shown: Value = answer.device_keys[alice()]["PHONE"].deserialize_as().expect("JSON");
        keys["unsigned"] = json!({ "device_display_name": "My phone" });
        assert_eq!(shown, keys);
    }

    #[tokio::test]
    async fn a_forgotten_device_is_gone_and_said_to_be() {
        let (_dir, store) = open();
        let checked = check_json(&device_keys(alice(), "PHONE", &Key::new())).expect("good");
        let gone = store.write(move |tx| {
            upload(tx, &checked)?;
            let before = tx.pos()?;
            super::super::forget_device(tx, alice(), "PHONE".into())?;
            assert!(tx.pos()? > before);
            of_user(tx, Some(alice()), alice(), &[])
        });
        assert!(gone.await.expect("written").is_empty());
    }
}
