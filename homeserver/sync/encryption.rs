//! What end-to-end encryption needs: messages for the device, whose devices changed, how many keys are
//! left. spec: client-server-api#e2e-extensions-to-sync, #extensions-to-sync

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use ruma::{DeviceId, OneTimeKeyAlgorithm, UInt, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    body::{DeviceLists, Events},
    turn::Turn,
};
use crate::{
    base::{Pos, json},
    e2ee::{device_lists, one_time_keys, to_device},
    error::Result,
    store::Read,
};

/// What is left of a device's keys.
#[derive(Clone, Debug, Serialize)]
pub struct Keys {
    #[serde(rename = "device_one_time_keys_count")]
    counts: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    #[serde(rename = "device_unused_fallback_key_types")]
    fallbacks: Vec<OneTimeKeyAlgorithm>,
    /// The name from before it was part of the spec, which clients still look for.
    #[serde(rename = "org.matrix.msc2732.device_unused_fallback_key_types")]
    unstable_fallbacks: Vec<OneTimeKeyAlgorithm>,
}

impl Keys {
    /// Those of a device.
    pub fn of(tx: &impl Read, user: &UserId, device: &DeviceId) -> Result<Self> {
        let fallbacks = one_time_keys::unused_fallbacks(tx, user, device)?;
        let counts = one_time_keys::counts(tx, user, device)?;
        Ok(Self { counts, unstable_fallbacks: fallbacks.clone(), fallbacks })
    }

    /// A number that is another one when they have changed: what who waits has to remember of them.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (algorithm, count) in &self.counts {
            (algorithm.as_str(), u64::from(*count)).hash(&mut hasher);
        }
        for algorithm in &self.fallbacks {
            algorithm.as_str().hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Messages for the device.
pub struct ToDevice {
    pub events: Events<Box<RawValue>>,
    /// How far they go.
    pub upto: Pos,
}

/// The messages that the client has not said it has.
pub fn to_device(turn: &Turn<'_, impl Read>) -> Result<ToDevice> {
    let after = turn.since.map_or(0, |since| since.to_device);
    let pending = to_device::pending(turn.tx, &turn.ask.user, turn.ask.device.as_str(), after, turn.now)?;
    let events = pending.events.into_iter().map(json::raw).collect::<Result<_>>()?;
    Ok(ToDevice { events: Events { events }, upto: pending.upto })
}

/// Whose devices changed. To be built after the rooms, which tell who came and went.
pub fn device_lists(turn: &Turn<'_, impl Read>) -> Result<DeviceLists> {
    let Some(since) = turn.since else { return Ok(DeviceLists::default()) };
    let changes = device_lists::changes(turn.tx, &turn.ask.user, since.pos, turn.now, &turn.moves.borrow())?;
    let list = |users: std::collections::BTreeSet<_>| users.into_iter().collect();
    Ok(DeviceLists { changed: list(changes.changed), left: list(changes.left) })
}
