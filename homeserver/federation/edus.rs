//! What other servers tell besides events: who types, who has read what, who is online, whose devices
//! changed, and messages from device to device. Each is taken only of the server's own people and for rooms
//! that they are in. What is not good is left out, and fails no transaction; what can't be written down
//! does, so that it is told again.
//! spec: server-server-api#edus

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedUserId, ServerName,
    api::federation::transactions::edu::{
        DeviceListUpdateContent, DirectDeviceContent, Edu, PresenceContent, ReceiptContent, SigningKeyUpdateContent,
        TypingContent,
    },
    serde::Raw,
};

use super::{keys::RemoteKeys, remote::short};
use crate::{
    accounts::presence::{Presence, Status},
    base::{json, signing::Identity},
    e2ee::{remote_devices, to_device},
    error::Result,
    notify::Notifier,
    rooms::{Room, acl, members, receipts, typing::Typing},
    store::{Read, Store, WriteTx},
};

/// EDUs of one transaction that are looked at. spec: server-server-api#transactions
const MAX_EDUS: usize = 100;
/// Receipts and presences of one EDU that are looked at, and receipts that one job writes.
const MAX_IN_ONE: usize = 1000;
const PER_JOB: usize = 100;
/// How long somebody types of whom nothing more is heard.
const TYPING_FOR: Duration = Duration::from_secs(30);

/// What a server told besides the events of a transaction.
#[derive(Default)]
pub struct Told {
    /// Keys and messages for devices: they come before the events that they open.
    pub before: Vec<Edu>,
    /// What is said of events, which may be among those that come along.
    pub after: Vec<Edu>,
}

impl Told {
    /// Understands what was told in one transaction; what makes no sense is left out.
    pub fn new(origin: &ServerName, edus: &[Raw<Edu>]) -> Self {
        let (mut told, mut left_out) = (Self::default(), Vec::new());
        for edu in edus.iter().take(MAX_EDUS) {
            if json::is_deeper_than(edu.json().get().as_bytes(), json::MAX_DEPTH_AROUND) {
                left_out.push("it is nested too deeply".to_owned());
                continue;
            }
            match edu.deserialize() {
                Ok(edu @ (Edu::Receipt(_) | Edu::Typing(_))) => told.after.push(edu),
                Ok(edu) => told.before.push(edu),
                Err(error) => left_out.push(format!("it makes no sense: {}", short(&error.to_string()))),
            }
        }
        log_left_out(origin, &left_out);
        told
    }
}

/// One line for a transaction, however much of it is left out.
fn log_left_out(origin: &ServerName, reasons: &[String]) {
    if let Some(why) = reasons.first() {
        tracing::info!(%origin, count = reasons.len(), "EDUs of {origin} are left out, one of them as: {why}");
    }
}

/// Takes in what is told.
pub struct Edus {
    /// Who we are.
    pub me: Arc<Identity>,
    /// The database.
    pub store: Store,
    /// Who waits.
    pub notifier: Notifier,
    /// Who types.
    pub typing: Arc<Typing>,
    /// Who is online, if that is wanted of other servers.
    pub presence: Option<Arc<Presence>>,
    /// Asks for devices of which something was missed.
    pub keys: RemoteKeys,
}

impl Edus {
    /// Takes in what a server told, in its order. Fails only where that is our own trouble: it has to be told
    /// again then, and what was taken already does no harm.
    pub async fn receive(&self, origin: &ServerName, edus: Vec<Edu>) -> Result<()> {
        let mut left_out = Vec::new();
        for edu in edus {
            match self.take(origin, edu).await {
                Err(error) if error.cause().is_some() => return Err(error),
                Err(error) => left_out.push(error.message().to_owned()),
                Ok(()) => {}
            }
        }
        log_left_out(origin, &left_out);
        Ok(())
    }

    async fn take(&self, origin: &ServerName, edu: Edu) -> Result<()> {
        match edu {
            Edu::Typing(told) => self.typing(origin, &told),
            Edu::Receipt(told) => self.receipts(origin, told).await,
            Edu::Presence(told) => self.presence(origin, told),
            Edu::DirectToDevice(told) => self.to_device(origin, told).await,
            Edu::DeviceListUpdate(told) => self.devices(origin, told).await,
            Edu::SigningKeyUpdate(told) => self.signing_keys(origin, told).await,
            _ => Ok(()),
        }
    }

    fn typing(&self, origin: &ServerName, told: &TypingContent) -> Result<()> {
        if told.user_id.server_name() != origin {
            return Ok(());
        }
        let room = self.store.read(|tx| {
            let Some(room) = room_for(tx, &told.room_id, origin)? else { return Ok(None) };
            Ok(members::is_joined(tx, room.num, &told.user_id)?.then_some(room.num))
        })?;
        let Some(room) = room else { return Ok(()) };
        let changed = match told.typing {
            true => self.typing.start(room, &told.user_id, TYPING_FOR),
            false => self.typing.stop(room, &told.user_id),
        };
        if changed {
            self.notifier.ring_room(room);
        }
        Ok(())
    }

    async fn receipts(&self, origin: &ServerName, told: ReceiptContent) -> Result<()> {
        let mut wanted = Vec::new();
        for (room, receipts) in told.receipts {
            if wanted.len() >= MAX_IN_ONE || self.store.read(|tx| room_for(tx, &room, origin))?.is_none() {
                continue;
            }
            let own = receipts.read.into_iter().filter(|(user, _)| user.server_name() == origin);
            wanted.extend(own.take(MAX_IN_ONE).map(|(user, receipt)| (room.clone(), user, receipt)));
        }
        for batch in wanted.chunks(PER_JOB) {
            let batch = batch.to_vec();
            let write = move |tx: &WriteTx| {
                for (room, user, receipt) in &batch {
                    let Some(room) = Room::find(tx, room)? else { continue };
                    let Some(event) = receipt.event_ids.first() else { continue };
                    let Ok(thread) = receipts::thread_name(&receipt.data.thread) else { continue };
                    if !members::is_joined(tx, room.num, user)? {
                        continue;
                    }
                    let ts = receipt.data.ts.map_or(u64::MAX, |ts| ts.0.into());
                    match receipts::receive(tx, &room, user, event, thread, ts) {
                        Err(error) if error.cause().is_some() => return Err(error),
                        // For what they can't see, or too many: the others are none the worse.
                        _ => {}
                    }
                }
                Ok(())
            };
            self.store.write(write).await?;
        }
        Ok(())
    }

    fn presence(&self, origin: &ServerName, told: PresenceContent) -> Result<()> {
        let Some(presence) = &self.presence else { return Ok(()) };
        let own = told.push.into_iter().filter(|update| update.user_id.server_name() == origin);
        for update in own.take(MAX_IN_ONE) {
            if !self.store.read(|tx| remote_devices::is_company(tx, &self.me.name, &update.user_id))? {
                continue;
            }
            let status = Status {
                state: update.presence,
                message: update.status_msg,
                last_active_ago: Some(update.last_active_ago.into()),
                currently_active: update.currently_active,
            };
            presence.hear(&update.user_id, status);
        }
        Ok(())
    }

    async fn to_device(&self, origin: &ServerName, told: DirectDeviceContent) -> Result<()> {
        if told.sender.server_name() != origin || !to_device::is_fit(&told) {
            return Ok(());
        }
        let me = self.me.clone();
        self.store.write(move |tx| to_device::receive(tx, &me.name, &told)).await
    }

    async fn devices(&self, origin: &ServerName, told: DeviceListUpdateContent) -> Result<()> {
        if told.user_id.server_name() != origin {
            return Ok(());
        }
        let (me, user) = (self.me.clone(), told.user_id.clone());
        let missed = self.store.write(move |tx| remote_devices::update(tx, &me.name, &told)).await?;
        if missed {
            self.keys.resync(user);
        }
        Ok(())
    }

    /// The keys that come along are not taken as they are: which signatures are on them, and whether they are
    /// all, only the whole list says.
    async fn signing_keys(&self, origin: &ServerName, told: SigningKeyUpdateContent) -> Result<()> {
        let user: OwnedUserId = told.user_id;
        if user.server_name() != origin {
            return Ok(());
        }
        let (me, person) = (self.me.clone(), user.clone());
        let kept = self.store.write(move |tx| {
            if !remote_devices::is_company(tx, &me.name, &person)? {
                return Ok(false);
            }
            remote_devices::mark_stale(tx, &person)?;
            remote_devices::is_kept(tx, &person)
        });
        if kept.await? {
            self.keys.resync(user);
        }
        Ok(())
    }
}

/// The room, if it is known here and lets the server in.
fn room_for(tx: &impl Read, room: &ruma::RoomId, origin: &ServerName) -> Result<Option<Room>> {
    let Some(room) = Room::find(tx, room)? else { return Ok(None) };
    Ok(acl::check(tx, &room, origin).is_ok().then_some(room))
}
