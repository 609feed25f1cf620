//! End-to-end encryption, the server's part: keys that devices publish, signatures on them, who has to
//! hear of changes, messages from device to device, and backups of keys. Pure rules over transactions; the server sees
//! public keys and sealed envelopes, and never what is in them. Never async.

pub mod cross_signing;
pub mod dehydrated;
pub mod device_keys;
pub mod device_lists;
pub mod key_backup;
pub mod one_time_keys;
pub mod remote_devices;
pub mod signatures;
pub mod to_device;

use ruma::{DeviceId, UserId};

use crate::{
    error::{Error, Result},
    store::{LAST, WriteTx, tables},
};

/// One key object at most: more than any client sends, and it still fits into a federation EDU.
const MAX_KEY_OBJECT: usize = 32 * 1024;

/// Refuses a key object that is too large to keep.
fn bound(json: &str) -> Result<()> {
    match json.len() <= MAX_KEY_OBJECT {
        true => Ok(()),
        false => Err(Error::too_large(format!("a key object is larger than {MAX_KEY_OBJECT} bytes"))),
    }
}

/// Forgets everything about a device that has signed out.
pub fn forget_device(tx: &WriteTx, user: &UserId, device: &DeviceId) -> Result<()> {
    let (user_id, device) = (user.as_str(), device.as_str());
    one_time_keys::forget(tx, user_id, device)?;
    tables::TO_DEVICE.remove_range(tx, (user_id, device, 0)..=(user_id, device, u64::MAX))?;
    signatures::forget(tx, user_id, device)?;
    dehydrated::forget(tx, user, device)?;
    if tables::DEVICE_KEYS.remove(tx, (user_id, device))? {
        device_lists::device_changed(tx, user, device)?;
    }
    Ok(())
}

/// Forgets everything about a person whose account was closed.
pub fn forget_user(tx: &WriteTx, user: &UserId) -> Result<()> {
    let id = user.as_str();
    let devices = tables::DEVICE_KEYS.collect(tx, (id, "")..=(id, LAST), |(_, device), _| device.to_owned())?;
    tables::DEVICE_KEYS.remove_range(tx, (id, "")..=(id, LAST))?;
    tables::CROSS_SIGNING_KEYS.remove_range(tx, (id, "")..=(id, LAST))?;
    tables::KEY_SIGNATURES.remove_range(tx, (id, "", "", "")..=(id, LAST, LAST, LAST))?;
    tables::ONE_TIME_KEYS.remove_range(tx, (id, "", "", 0, "")..=(id, LAST, LAST, u64::MAX, LAST))?;
    tables::ONE_TIME_KEY_COUNTS.remove_range(tx, (id, "", "")..=(id, LAST, LAST))?;
    tables::CLAIMED_KEYS.remove_range(tx, (id, "", 0, "")..=(id, LAST, u64::MAX, LAST))?;
    tables::FALLBACK_KEYS.remove_range(tx, (id, "", "")..=(id, LAST, LAST))?;
    tables::TO_DEVICE.remove_range(tx, (id, "", 0)..=(id, LAST, u64::MAX))?;
    tables::SIGNING_LOG.remove_range(tx, (id, 0)..=(id, u64::MAX))?;
    tables::DEHYDRATED.remove(tx, id)?;
    key_backup::delete_all(tx, user)?;
    for device in devices {
        device_lists::device_changed(tx, user, &device)?;
    }
    device_lists::keys_changed(tx, user)
}

#[cfg(test)]
mod testing;
