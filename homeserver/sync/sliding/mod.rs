//! Simplified sliding sync (MSC4186): a client says which lists of its rooms it looks at and how far,
//! and is told what is new in those. Built from the same pieces as `/sync`; what a client has been told
//! of each room is remembered for each of its connections, within bounds, and lost without harm.
//!
//! ```text
//!  pos → connection (what it was told) → ranking (its rooms by activity) → lists → rooms → extensions
//! ```

mod connection;
mod extensions;
mod filters;
mod lists;
mod ranking;
mod required;
mod room;
pub mod wish;

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedDeviceId, OwnedUserId};
use tokio::time::Instant;

pub use connection::Memory;
use connection::{Connection, Point};
use wish::Wish;

use crate::{
    base::{clock, token::SyncToken},
    error::{Error, Result},
    notify::Taken,
    rooms::unread::Reader,
    store::Read,
    sync::{
        Ask, Hub, MAX_WAIT, Seen, StateAt, acknowledge, encryption, filters as filter_cache, save_counts,
        turn::{self, Turn},
        wait,
    },
};

/// Who asks, and for what.
pub struct Asked {
    /// Who.
    pub user: OwnedUserId,
    /// Their device.
    pub device: OwnedDeviceId,
    /// Where their last answer left off. None at the beginning of a connection.
    pub pos: Option<String>,
    /// How long they wait for something new.
    pub timeout: Duration,
    /// What they want.
    pub wish: Wish,
}

/// Answers at once if there is something to tell, and after the timeout if there is not.
pub async fn sync(hub: &Arc<Hub>, asked: Asked) -> Result<Vec<u8>> {
    let asked = Arc::new(asked);
    let connection = Arc::new(hub.sliding.connection(&asked)?);
    if let Some(upto) = asked.wish.to_device_since()? {
        let token = SyncToken { pos: upto, ephemeral: 0, to_device: upto };
        Box::pin(acknowledge(hub, &asked.user, &asked.device, Some(token))).await;
    }
    let seat = Arc::new(hub.notifier.sit(&hub.store, &asked.user)?);
    let until = Instant::now() + asked.timeout.min(MAX_WAIT);
    let ask = ask(&asked, &connection);
    let session = crate::sync::session(hub, &ask)?;
    loop {
        let seen = Seen { sessions: seat.sessions(), rung: seat.rung() };
        let answer = Box::pin(answer(hub, &seat, &asked, &connection)).await?;
        let over = connection.is_new() || Instant::now() >= until || hub.notifier.is_stopping();
        if over || !answer.is_quiet {
            hub.sliding.keep(&asked, answer.connection);
            return Ok(answer.body);
        }
        wait(hub, &seat, (&ask, session), seen, until).await?;
    }
}

/// What is asked of the pieces that this shares with `/sync`.
fn ask(asked: &Asked, connection: &Connection) -> Ask {
    Ask {
        user: asked.user.clone(),
        device: asked.device.clone(),
        since: connection.since().map(|since| SyncToken::new(since.pos, since.ephemeral)),
        filter: filter_cache::none(),
        full_state: false,
        state_at: StateAt::End,
        lane: connection.lane(),
    }
}

/// An answer, and what the connection is once the client has it.
struct Answer {
    body: Vec<u8>,
    connection: Connection,
    /// There is nothing in it that is worth an answer.
    is_quiet: bool,
}

async fn answer(hub: &Arc<Hub>, seat: &Arc<Taken>, asked: &Arc<Asked>, connection: &Arc<Connection>) -> Result<Answer> {
    let (answer, to_save) = match connection.is_new() {
        false => build(hub, seat, asked, connection)?,
        true => {
            let place = hub.heavy.clone().acquire_owned().await.map_err(Error::internal)?;
            let (hub, seat, asked, connection) = (hub.clone(), seat.clone(), asked.clone(), connection.clone());
            let work = move || {
                // The place goes with the work, which goes on even if nobody waits for it any more.
                let _place = place;
                build(&hub, &seat, &asked, &connection)
            };
            tokio::task::spawn_blocking(work).await.map_err(Error::internal)??
        }
    };
    if !to_save.is_empty() {
        save_counts(hub.clone(), asked.user.clone(), to_save);
    }
    Ok(answer)
}

/// Builds the answer from a snapshot that is taken now.
fn build(hub: &Hub, seat: &Taken, asked: &Asked, connection: &Connection) -> Result<(Answer, Vec<turn::Counted>)> {
    let (personal, tick) = (seat.personal(), clock::last_tick());
    let ask = ask(asked, connection);
    hub.store.read(|tx| {
        let facts = hub.facts.of(hub, tx, seat, &ask.user, personal)?;
        let now = tx.pos()?;
        if ask.since.is_some_and(|since| since.pos > now) {
            // The store was put back to an older backup: what the client was told of is gone.
            return Err(connection::unknown_pos());
        }
        let turn = Turn {
            hub,
            tx,
            ask: &ask,
            facts: &facts,
            reader: Reader::new(&ask.user, &facts.rules, &facts.ignored),
            since: ask.since,
            now,
            to_save: RefCell::default(),
            moves: RefCell::default(),
            echo: Cell::default(),
        };
        let ranking = hub.sliding.ranking(&turn)?;
        let window = lists::window(&turn, &ranking, &asked.wish)?;
        let rooms = room::all(&turn, &ranking, &window, connection)?;
        let keys = encryption::Keys::of(tx, &ask.user, &ask.device)?;
        let told = connection.since().map(|since| since.keys);
        let extensions = extensions::build(&turn, &asked.wish, &window, (connection, &rooms), keys.clone())?;
        let keys_are_news = asked.wish.wants_keys() && told != Some(keys.hash());
        let is_quiet = rooms.shown.is_empty() && extensions.is_quiet() && !keys_are_news;
        let point = Point { pos: now, ephemeral: tick, keys: keys.hash() };
        let next = connection.followed_by(point, rooms.sent);
        let body = wish::Body {
            pos: next.pos(),
            txn_id: asked.wish.txn_id.as_deref(),
            lists: window.counts,
            rooms: rooms.shown,
            extensions,
        };
        let body = serde_json::to_vec(&body).map_err(Error::internal)?;
        Ok((Answer { body, connection: next, is_quiet }, turn.to_save.take()))
    })
}
