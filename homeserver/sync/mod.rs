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
mod invites;
mod lazy;
mod presence;
mod room;
mod rooms_joined;
mod rooms_left;
mod summary;
mod turn;

use std::{sync::Arc, time::Duration};

use ruma::{OwnedDeviceId, OwnedUserId, api::client::filter::FilterDefinition};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use crate::{
    accounts::{filters, sessions},
    app::App,
    base::{Pos, token::SyncToken},
    e2ee::to_device,
    error::{Error, Result},
    notify::Taken,
    rooms::unread::{self, Unread},
    store::Read,
};
pub use body::Body;
use encryption::Keys;

/// A client that wants to wait longer is answered after this time all the same.
const MAX_WAIT: Duration = Duration::from_secs(90);
/// Answers that take long (a first sync, a long absence) are built this many at once at most, away
/// from the threads that serve everybody.
const HEAVY_AT_ONCE: usize = 4;
/// An absence of this many positions is a long one.
const LONG_ABSENCE: Pos = 5000;

/// What the server remembers to answer faster. All of it can be lost.
pub struct Memory {
    facts: facts::Cache,
    lazy: lazy::Cache,
    heavy: Semaphore,
    /// Unread counts.
    pub unread: Unread,
}

impl Memory {
    /// An empty memory of at most `bytes`.
    pub fn new(bytes: u64) -> Self {
        Self {
            facts: facts::Cache::new(bytes / 4),
            lazy: lazy::Cache::new(bytes / 4),
            heavy: Semaphore::new(HEAVY_AT_ONCE),
            unread: Unread::new(bytes / 2),
        }
    }
}

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
    pub filter: FilterDefinition,
    /// Whether they want all state, whatever they know.
    pub full_state: bool,
    /// How they want to be told of state.
    pub state_at: StateAt,
}

/// A filter as clients give it: its JSON, or the ID of one that they left here. None is no filter.
pub fn filter(app: &App, user: &ruma::UserId, text: Option<&str>) -> Result<FilterDefinition> {
    match text {
        None | Some("") => Ok(FilterDefinition::default()),
        Some(json) if json.starts_with('{') => filters::parse(json),
        Some(id) => {
            let unknown = |_| Error::invalid_param("you have no filter of that ID");
            filters::parse(&app.store.read(|tx| filters::get(tx, user, id)).map_err(unknown)?)
        }
    }
}

/// Answers a sync: at once if there is something to tell, and after `timeout` if there is not.
pub async fn sync(app: &Arc<App>, ask: Arc<Ask>, timeout: Duration) -> Result<Vec<u8>> {
    acknowledge(app, &ask);
    let seat = Arc::new(app.notifier.sit(&app.store, &ask.user)?);
    let at_once = ask.since.is_none() || ask.full_state;
    let until = Instant::now() + timeout.min(MAX_WAIT);
    let mut keys = None;
    loop {
        let rung = seat.rung();
        let body = turn(app, &seat, &ask).await?;
        let keys_changed = keys.is_some_and(|old: Keys| old != body.keys);
        let over = at_once || Instant::now() >= until || app.notifier.is_stopping();
        if over || keys_changed || !body.is_empty() {
            return body.to_bytes();
        }
        keys = Some(body.keys);
        wait(app, &seat, &ask, rung, until).await?;
    }
}

/// Waits until a seat that was rung `rung` times is rung again. 401 if that is because the session ended.
pub async fn wait(app: &App, seat: &Taken, ask: &Ask, rung: u64, until: Instant) -> Result<()> {
    let sessions = seat.sessions();
    tokio::select! {
        () = seat.ring_after(rung) => {}
        () = sleep_until(until) => {}
    }
    match seat.sessions() == sessions {
        true => Ok(()),
        false => check_session(app, ask),
    }
}

fn check_session(app: &App, ask: &Ask) -> Result<()> {
    match app.store.read(|tx| sessions::device(tx, &ask.user, ask.device.as_str()))? {
        Some(_) => Ok(()),
        None => Err(Error::unknown_token(false)),
    }
}

/// Builds the answer for this moment, empty or not.
pub async fn turn(app: &Arc<App>, seat: &Arc<Taken>, ask: &Arc<Ask>) -> Result<Body> {
    let newest = app.store.read(|tx| tx.pos())?;
    let heavy = match ask.since {
        Some(since) => ask.full_state || newest.saturating_sub(since.pos) > LONG_ABSENCE,
        None => true,
    };
    let built = match heavy {
        false => turn::build(app, seat, ask)?,
        true => {
            let _place = app.sync.heavy.acquire().await.map_err(Error::internal)?;
            let (app, seat, ask) = (app.clone(), seat.clone(), ask.clone());
            tokio::task::spawn_blocking(move || turn::build(&app, &seat, &ask)).await.map_err(Error::internal)??
        }
    };
    if !built.to_save.is_empty() {
        save_counts(app.clone(), ask.user.clone(), built.to_save);
    }
    Ok(built.body)
}

/// Writes down how far unread counts have come. Nobody waits for it: if it fails, they are worked out
/// again.
fn save_counts(app: Arc<App>, user: OwnedUserId, rows: Vec<turn::Counted>) {
    tokio::spawn(async move {
        let work = move |tx: &crate::store::WriteTx| {
            rows.iter().try_for_each(|(room, row)| unread::save(tx, &user, *room, row))
        };
        if let Err(error) = app.store.write(work).await {
            tracing::debug!(%error, "unread counts could not be written down");
        }
    });
}

/// Forgets the to-device messages that a client has, as its token says. Nobody waits for it: the token
/// says so again next time.
pub fn acknowledge(app: &Arc<App>, ask: &Ask) {
    let Some(since) = ask.since else { return };
    let upto = since.to_device;
    let waiting = app.store.read(|tx| to_device::unacknowledged(tx, &ask.user, ask.device.as_str(), upto));
    if !waiting.unwrap_or(false) {
        return;
    }
    let (app, user, device) = (app.clone(), ask.user.clone(), ask.device.clone());
    tokio::spawn(async move {
        let forgotten = app.store.write(move |tx| to_device::acknowledge(tx, &user, device.as_str(), upto)).await;
        if let Err(error) = forgotten {
            tracing::debug!(%error, "delivered to-device messages are still there");
        }
    });
}

#[cfg(test)]
mod tests;
