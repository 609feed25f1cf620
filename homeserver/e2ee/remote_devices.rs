//! The devices of people of other servers, as far as they are known here: kept while the person shares a
//! room with one of ours, brought up to date by what their server tells, and asked for again whenever it is
//! not certain that nothing was missed. What is kept was checked: each device's keys are its own.
//! spec: server-server-api#device-management

use std::collections::BTreeMap;

use ruma::{
    OwnedDeviceId, OwnedUserId, ServerName, UserId,
    api::federation::transactions::edu::DeviceListUpdateContent,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};

use super::{cross_signing, device_keys, device_lists, signatures};
use crate::{
    base::Pos,
    error::Result,
    rooms::{members, servers},
    store::{Flow, LAST, Read, WriteTx, rows::RemoteListRow, tables},
};

/// Devices of one person that are kept: more than anybody has.
const MAX_DEVICES: usize = 500;

/// Somebody's devices and keys that were found good: made by [`check`] alone.
#[derive(Clone)]
pub struct Checked {
    user: OwnedUserId,
    devices: Vec<device_keys::Checked>,
    keys: Vec<cross_signing::Key>,
}

/// Checks what a server says of one of its people. What is not good is left out.
pub fn check(
    user: &UserId,
    devices: &BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>,
    master: Option<&Raw<CrossSigningKey>>,
    self_signing: Option<&Raw<CrossSigningKey>>,
) -> Checked {
    let good = devices.iter().take(MAX_DEVICES).filter_map(|(device, keys)| {
        device_keys::check(user, device, keys)
            .inspect_err(|error| tracing::debug!(%user, %device, %error, "a device's keys are no good"))
            .ok()
    });
    Checked { user: user.to_owned(), devices: good.collect(), keys: cross_signing::check(user, master, self_signing) }
}

/// Those of somebody's cross-signing keys that are good.
pub fn good_keys(
    user: &UserId,
    master: Option<Raw<CrossSigningKey>>,
    self_signing: Option<Raw<CrossSigningKey>>,
) -> (Option<Raw<CrossSigningKey>>, Option<Raw<CrossSigningKey>>) {
    let good = cross_signing::check(user, master.as_ref(), self_signing.as_ref()).len();
    (master.filter(|_| good > 0), self_signing.filter(|_| good > 1))
}

/// Whether somebody of another server is in a room with one of ours.
pub fn is_company(tx: &impl Read, me: &ServerName, user: &UserId) -> Result<bool> {
    for room in members::joined_rooms(tx, user)? {
        if servers::is_in(tx, room, me)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what is kept of somebody is certain to be all there is.
pub fn is_fresh(tx: &impl Read, me: &ServerName, user: &UserId) -> Result<bool> {
    let row = tables::REMOTE_DEVICE_LISTS.get(tx, user.as_str())?;
    let Some(row) = row.filter(|row| !row.stale) else { return Ok(false) };
    for room in members::joined_rooms(tx, user)? {
        // If we came into the room later, something may have gone by before.
        if servers::in_since(tx, room, me)?.is_some_and(|since| since <= row.kept_at) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The moment to compare with when an answer comes: if it is another then, the answer may be old already.
pub fn moment(tx: &impl Read, user: &UserId) -> Result<Pos> {
    Ok(tables::DEVICE_LOG_POS.get(tx, user.as_str())?.unwrap_or(0))
}

/// Keeps what a server has said, if the person shares a room with ours and nothing changed since the
/// question. `stream` is the number of the newest change that it takes in, if that is known.
pub fn keep(tx: &WriteTx, me: &ServerName, checked: &Checked, stream: Option<u64>, asked_at: Pos) -> Result<()> {
    let Checked { user, devices, keys } = checked;
    if moment(tx, user)? != asked_at || !is_company(tx, me, user)? {
        return Ok(());
    }
    let id = user.as_str();
    let mut same = true;
    let old = tables::DEVICE_KEYS.collect(tx, (id, "")..=(id, LAST), |(_, device), _| device.to_owned())?;
    for device in old.iter().filter(|old| !devices.iter().any(|new| new.device().as_str() == *old)) {
        same = false;
        forget(tx, user, device)?;
    }
    for device in devices {
        same &= !device_keys::keep(tx, device)?;
    }
    same &= !cross_signing::keep(tx, user, keys)?;
    if !same {
        device_lists::changed(tx, user)?;
    }
    let row = RemoteListRow { stream: stream.unwrap_or(0), stale: false, kept_at: tx.pos()? };
    tables::REMOTE_DEVICE_LISTS.put(tx, id, &row)
}

fn forget(tx: &WriteTx, user: &UserId, device: &str) -> Result<()> {
    signatures::forget(tx, user.as_str(), device)?;
    tables::DEVICE_KEYS.remove(tx, (user.as_str(), device)).map(drop)
}

/// Takes in what a server tells of a change. True if something was missed, so that the whole list has to be
/// asked for.
pub fn update(tx: &WriteTx, me: &ServerName, told: &DeviceListUpdateContent) -> Result<bool> {
    let (user, stream) = (&told.user_id, u64::from(told.stream_id));
    if !is_company(tx, me, user)? {
        return Ok(false);
    }
    let row = tables::REMOTE_DEVICE_LISTS.get(tx, user.as_str())?;
    let Some(row) = row.filter(|row| !row.stale) else {
        // Nothing is kept that could be brought up to date: who wants to know will ask.
        device_lists::changed(tx, user)?;
        return Ok(false);
    };
    if row.stream > 0 && stream <= row.stream {
        return Ok(false);
    }
    let follows =
        row.stream > 0 && !told.prev_id.is_empty() && told.prev_id.iter().all(|prev| u64::from(*prev) <= row.stream);
    if !follows || !apply(tx, told)? {
        mark_stale(tx, user)?;
        return Ok(true);
    }
    device_lists::changed(tx, user)?;
    tables::REMOTE_DEVICE_LISTS.put(tx, user.as_str(), &RemoteListRow { stream, ..row })?;
    Ok(false)
}

/// False if it can't be applied as it is.
fn apply(tx: &WriteTx, told: &DeviceListUpdateContent) -> Result<bool> {
    let (user, device) = (&told.user_id, &told.device_id);
    if device.as_str().len() > 255 {
        return Ok(false);
    }
    let Some(keys) = told.keys.as_ref().filter(|_| told.deleted != Some(true)) else {
        forget(tx, user, device.as_str())?;
        return Ok(true);
    };
    let Ok(checked) = device_keys::check(user, device, keys) else { return Ok(false) };
    let id = user.as_str();
    let (mut count, mut known) = (0, false);
    tables::DEVICE_KEYS.scan(tx, (id, "")..=(id, LAST), |(_, other), _| {
        (count, known) = (count + 1, known || other == device.as_str());
        Ok(Flow::Next)
    })?;
    if !known && count >= MAX_DEVICES {
        return Ok(true);
    }
    device_keys::keep(tx, &checked)?;
    Ok(true)
}

/// Notes that what is kept of somebody is not certain any more: who asks next, asks their server.
pub fn mark_stale(tx: &WriteTx, user: &UserId) -> Result<()> {
    if let Some(row) = tables::REMOTE_DEVICE_LISTS.get(tx, user.as_str())? {
        tables::REMOTE_DEVICE_LISTS.put(tx, user.as_str(), &RemoteListRow { stale: true, ..row })?;
    }
    device_lists::changed(tx, user)
}

/// Whether anything is kept of somebody.
pub fn is_kept(tx: &impl Read, user: &UserId) -> Result<bool> {
    tables::REMOTE_DEVICE_LISTS.has(tx, user.as_str())
}
