//! What a client has to be told between two positions: the answer of `/sync`, and the frames of the
//! WebSocket. One file per section. Reads only, and decides nothing about rooms: what may be seen is
//! asked of `rooms/`. spec: client-server-api#syncing
//!
//! A turn goes: seat → snapshot → sections from `since` to now → the answer, or if there is nothing to
//! tell, wait until the seat is rung. Events go from disk to socket as slices of JSON.

mod account_data;
mod body;
mod counts;
mod encryption;
mod ephemeral;
mod facts;
mod fields;
mod filters;
mod hub;
mod invites;
mod lazy;
mod presence;
mod room;
mod rooms_joined;
mod rooms_left;
pub mod sliding;
mod sockets;
mod summary;
mod turn;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use tokio::time::{Instant, sleep_until};

use crate::{
    accounts::{filters::Filter, sessions, users},
    base::{Pos, token::SyncToken},
    e2ee::to_device,
    error::{Error, Result},
    notify::Taken,
    rooms::unread,
    store::Read,
};
pub use body::Body;
pub use filters::filter;
pub use hub::Hub;

/// A client that wants to wait longer is answered after this time all the same.
const MAX_WAIT: Duration = Duration::from_secs(90);
/// How much later a client hears what it has just said itself. It learns from the answer to its request which
/// event that is; clients that are told of the event first may take it for another one (matrix-js-sdk does for the
/// first reply in a thread, and then shows that it could not be sent).
const ECHO_DELAY: Duration = Duration::from_millis(20);
/// An absence of this many positions is a long one.
const LONG_ABSENCE: Pos = 5000;

/// How a client wants to be told of state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateAt {
    /// As it was before the timeline.
    #[default]
    Start,
    /// As it is after the timeline.
    End,
    /// The same, under the name that it had before it was part of the spec.
    UnstableEnd,
}

/// Who wants to be told what.
pub struct Ask {
    /// Who.
    pub user: OwnedUserId,
    /// Their device.
    pub device: OwnedDeviceId,
    /// What they know already.
    pub since: Option<SyncToken>,
    /// What they want to know.
    pub filter: Arc<Filter>,
    /// Whether they want all state, whatever they know.
    pub full_state: bool,
    /// How they want to be told of state.
    pub state_at: StateAt,
    /// Which of the device's conversations this is, if it has several at once: each is told everything.
    pub lane: u64,
}

impl Ask {
    /// What the same client asks for once it has an answer.
    pub fn after(&self, answer: SyncToken) -> Self {
        Self {
            user: self.user.clone(),
            device: self.device.clone(),
            since: Some(answer),
            filter: self.filter.clone(),
            full_state: false,
            state_at: self.state_at,
            lane: self.lane,
        }
    }
}

/// Answers a sync: at once if there is something to tell, and after `timeout` if there is not.
pub async fn sync(hub: &Arc<Hub>, mut ask: Arc<Ask>, timeout: Duration) -> Result<Vec<u8>> {
    Box::pin(acknowledge(hub, &ask.user, &ask.device, ask.since)).await;
    let seat = Arc::new(hub.notifier.sit(&hub.store, &ask.user)?);
    let session = session(hub, &ask)?;
    let at_once = ask.since.is_none() || ask.full_state;
    let until = Instant::now() + timeout.min(MAX_WAIT);
    let mut keys = None;
    loop {
        // Both before the turn: what happens during it ends the wait after it.
        let seen = Seen { sessions: seat.sessions(), rung: seat.rung() };
        let more;
        keys = {
            // Boxed, and gone before the wait: what is parked should weigh little.
            let body = Box::pin(turn(hub, &seat, &ask)).await?;
            let keys_changed = keys.is_some_and(|old| old != body.keys.hash());
            let over = at_once || Instant::now() >= until || hub.notifier.is_stopping();
            if over || keys_changed || !body.is_empty() {
                let echo = body.echo && ask.since.is_some();
                let bytes = body.to_bytes()?;
                if echo {
                    drop(body);
                    tokio::time::sleep(ECHO_DELAY).await;
                }
                return Ok(bytes);
            }
            // There was nothing for this client up to here. It is spared the way the next time, or it
            // would be longer each time; but it was told nothing, so nothing counts as acknowledged.
            ask = Arc::new(ask.after(body.next_batch));
            more = body.more;
            Some(body.keys.hash())
        };
        match more {
            true => tokio::task::yield_now().await,
            false => wait(hub, &seat, (&ask, session), seen, until).await?,
        }
    }
}

/// What a seat had counted when a turn began.
#[derive(Clone, Copy)]
struct Seen {
    sessions: u64,
    rung: u64,
}

/// Waits until a seat is rung again. 401 if that is because the session ended.
async fn wait(hub: &Hub, seat: &Taken, (ask, session): (&Ask, u64), seen: Seen, until: Instant) -> Result<()> {
    if seat.sessions() == seen.sessions {
        tokio::select! {
            () = seat.ring_after(seen.rung) => {}
            () = sleep_until(until) => {}
        }
    }
    match seat.sessions() == seen.sessions {
        true => Ok(()),
        false if self::session(hub, ask)? == session => Ok(()),
        false => Err(Error::unknown_token(false)),
    }
}

/// A number that is another one once the device was signed in anew: then whoever waits with the old token waits
/// in vain. 401 if the session has ended or the account is locked.
fn session(hub: &Hub, ask: &Ask) -> Result<u64> {
    hub.store.read(|tx| {
        users::check_unlocked(tx, &ask.user)?;
        let device = sessions::device(tx, &ask.user, ask.device.as_str())?;
        let device = device.ok_or_else(|| Error::unknown_token(false))?;
        let mut hasher = DefaultHasher::new();
        device.tokens.hash(&mut hasher);
        Ok(hasher.finish())
    })
}

/// Builds the answer for this moment, empty or not.
pub async fn turn(hub: &Arc<Hub>, seat: &Arc<Taken>, ask: &Arc<Ask>) -> Result<Body> {
    let newest = hub.store.read(|tx| tx.pos())?;
    let heavy = match ask.since {
        Some(since) => ask.full_state || newest.saturating_sub(since.pos) > LONG_ABSENCE,
        None => true,
    };
    let built = match heavy {
        false => turn::build(hub, seat, ask)?,
        true => {
            let place = hub.heavy.clone().acquire_owned().await.map_err(Error::internal)?;
            let (hub, seat, ask) = (hub.clone(), seat.clone(), ask.clone());
            let work = move || {
                // The place goes with the work, which goes on even if nobody waits for it any more.
                let _place = place;
                turn::build(&hub, &seat, &ask)
            };
            tokio::task::spawn_blocking(work).await.map_err(Error::internal)??
        }
    };
    if !built.to_save.is_empty() {
        save_counts(hub.clone(), ask.user.clone(), built.to_save);
    }
    Ok(built.body)
}

/// Writes down how far unread counts have come. Nobody waits for it: if it fails, they are worked out
/// again.
fn save_counts(hub: Arc<Hub>, user: OwnedUserId, rows: Vec<turn::Counted>) {
    tokio::spawn(async move {
        let work = move |tx: &crate::store::WriteTx| {
            rows.iter().try_for_each(|(room, row)| unread::save(tx, &user, *room, row))
        };
        if let Err(error) = hub.store.write(work).await {
            tracing::debug!(%error, "unread counts could not be written down");
        }
    });
}

/// Forgets the to-device messages that a client has, as its token says. Returns once they are gone, so
/// that no later answer holds them again; if that fails, the token says so again next time.
pub async fn acknowledge(hub: &Hub, user: &UserId, device: &DeviceId, since: Option<SyncToken>) {
    let Some(since) = since else { return };
    let upto = since.to_device;
    let waiting = hub.store.read(|tx| {
        // A token from beyond the present says nothing of what came since the store was put back.
        Ok(since.pos <= tx.pos()? && to_device::unacknowledged(tx, user, device.as_str(), upto)?)
    });
    if !waiting.unwrap_or(false) {
        return;
    }
    let (user, device) = (user.to_owned(), device.to_owned());
    let forget = move |tx: &crate::store::WriteTx| to_device::acknowledge(tx, &user, device.as_str(), upto);
    if let Err(error) = hub.store.write(forget).await {
        tracing::debug!(%error, "delivered to-device messages are still there");
    }
}

#[cfg(test)]
mod tests;
