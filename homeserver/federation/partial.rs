//! Fetching what a room lacks that was entered before all of its members were known (`rooms/partial.rs`): a
//! task for each such room, which goes on after a restart. A room's members are asked of the servers in it, one
//! after the other, and after a failure later and later.
//!
//! ```text
//!  joined ─► /state of a server ─► signatures, at once ─► judged ─► laid down in pieces ─► whole ─► looked at again
//!    ▲                  │ failed: another one; then later                                  │
//!  restart ─────────────┘                                              who waits for it ◄──┘
//! ```

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ruma::{OwnedServerName, RoomId, ServerName, UserId, api::federation::event::get_room_state::v1 as get_state};
use tokio::sync::{Notify, Semaphore};

use super::{
    Bounds, Federation,
    handed_over::{self, Answer},
    pieces::{Handed, Writing},
    steps::Steps,
};
use crate::{
    base::{RoomNum, clock, json, random},
    error::{Error, Result},
    rooms::{
        Pdu, Room, doorstep, event,
        joining::{Judge, Judged, Told},
        members,
        partial::{self, PartialRow},
        second_look::{self, Known, Went},
        servers,
    },
    store::WriteTx,
};

/// Servers that are asked in one round.
const MAX_ASKED: usize = 5;
/// How long it is waited after the first failed round, and at most: twice as long after each.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(3600);
/// How long it is waited after a failure of our own.
const OWN_PAUSE: Duration = Duration::from_secs(30);
/// How long a server may be silent in the first round, where there are others to ask: what is large takes long to put
/// together, and mostly one of them has it at hand.
const PROMPT: Duration = Duration::from_secs(20);
/// How long somebody waits who wants to know all members.
const PATIENCE: Duration = Duration::from_secs(25);
/// Rooms whose members are asked for at once: those of the others wait for no server that takes long.
const AT_ONCE: usize = 8;
/// How often it is looked whether somebody of ours is still in a room whose members are waited for.
const LOOK: Duration = Duration::from_secs(1);

/// The rooms that lack something.
pub struct Lacking {
    /// Those that are worked at, and whether to look again at the end.
    rooms: Mutex<HashMap<RoomNum, bool>>,
    /// Places for those whose members are asked for.
    places: Semaphore,
    /// Rings when a room is entered, or lacks nothing any more.
    news: Notify,
}

impl Default for Lacking {
    fn default() -> Self {
        Self { rooms: Mutex::default(), places: Semaphore::new(AT_ONCE), news: Notify::default() }
    }
}

impl Lacking {
    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomNum, bool>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is to be looked at again: then nobody works at the room any more.
    fn end(&self, room: RoomNum) -> bool {
        let mut rooms = self.rooms();
        match rooms.insert(room, false) {
            Some(true) => false,
            _ => {
                rooms.remove(&room);
                true
            }
        }
    }
}

impl Federation {
    /// Goes on with the rooms that lacked something when the server last stopped.
    pub fn resume_partial(self: &Arc<Self>) -> Result<()> {
        for (room, _) in self.store.read(partial::all)? {
            self.complete(room);
        }
        Ok(())
    }

    /// Fetches what a room lacks, beside everything else.
    pub(super) fn complete(self: &Arc<Self>, room: RoomNum) {
        match self.lacking.rooms().entry(room) {
            Entry::Occupied(mut worked_at) => drop(worked_at.insert(true)),
            Entry::Vacant(free) => {
                free.insert(false);
                tokio::spawn(self.clone().follow(room));
            }
        }
        self.lacking.news.notify_waiters();
    }

    /// Waits until all members of a room are known that somebody of ours is in. 502 if that takes long.
    pub async fn whole(&self, room: &RoomId, user: &UserId) -> Result<()> {
        let is_whole = || {
            self.store.read(|tx| match Room::known(tx, room)?.filter(Room::is_partial) {
                Some(room) => Ok(!members::is_joined(tx, room.num, user)?),
                None => Ok(true),
            })
        };
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let news = self.lacking.news.notified();
            if is_whole()? {
                return Ok(());
            }
            let look = tokio::time::Instant::now() + LOOK;
            if tokio::time::timeout_at(until.min(look), news).await.is_err() && look > until {
                let why = "not all members of this room are known yet: they are being fetched from other servers";
                return if is_whole()? { Ok(()) } else { Err(Error::bad_gateway(why)) };
            }
        }
    }

    async fn follow(self: Arc<Self>, room: RoomNum) {
        loop {
            let news = self.lacking.news.notified();
            let pause = match self.go_on(room).await {
                Ok(Some(pause)) => pause,
                Ok(None) if self.lacking.end(room) => return,
                Ok(None) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(%error, "can't go on fetching the members of a room");
                    OWN_PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = news => {}
            }
        }
    }

    /// Does what is next for a room, and says how long to wait then: none if nothing is left to do.
    async fn go_on(&self, num: RoomNum) -> Result<Option<Duration>> {
        let (room, row, inside) = self.store.read(|tx| {
            let room = Room::at(tx, num)?;
            let inside = doorstep::is_inside(tx, &self.me, &room)?;
            Ok((room, partial::of(tx, num)?, inside))
        })?;
        // Of a room that was left nobody tells anything any more; who enters it again begins anew.
        let Some(row) = row else { return Ok(None) };
        if !inside {
            self.forget_what_came(num).await?;
            self.arrivals.forget_in(room.id()).await?;
            return Ok(None);
        }
        if row.whole != 0 {
            self.clean_up(&room).await?;
            return Ok(None);
        }
        let wait = row.retry_at.saturating_sub(clock::now_ms());
        if wait > 0 {
            return Ok(Some(Duration::from_millis(wait)));
        }
        let filling = async {
            let _place = self.lacking.places.acquire().await.map_err(Error::internal)?;
            self.fill(&room, &row).await
        };
        let filled = tokio::select! {
            filled = filling => filled,
            left = self.left(&room, &row) => left,
        };
        match filled {
            Ok(()) => Ok(Some(Duration::ZERO)),
            // It was left meanwhile, or entered anew.
            Err(error) if error.status() == http::StatusCode::CONFLICT => Ok(Some(Duration::ZERO)),
            Err(error) if error.cause().is_some() => Err(error),
            Err(error) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << row.failures.min(16)).min(LAST_PAUSE);
                let id = room.id();
                tracing::warn!(room = %id, %error, ?pause, "nobody tells the members of {id}: it is tried again later");
                let retry_at = clock::now_ms() + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                let join = event::parse_id(&row.join)?;
                self.store.write(move |tx| partial::failed(tx, num, &join, retry_at)).await?;
                Ok(Some(pause))
            }
        }
    }

    /// Waits until nobody of ours is in a room any more, or it was entered anew: 409.
    async fn left(&self, room: &Room, row: &PartialRow) -> Result<()> {
        loop {
            tokio::time::sleep(LOOK).await;
            let is_here = self.store.read(|tx| {
                let is_same = partial::of(tx, room.num)?.is_some_and(|now| now.join == row.join);
                Ok(is_same && doorstep::is_inside(tx, &self.me, &Room::at(tx, room.num)?)?)
            })?;
            if !is_here {
                let id = room.id();
                tracing::info!(room = %id, "{id} is left: its members are not asked for any more");
                return Err(Error::conflict("M_UNKNOWN", "the room was left"));
            }
        }
    }

    /// Asks some of the servers in the room, one after the other.
    async fn fill(&self, room: &Room, row: &PartialRow) -> Result<()> {
        let mut last = Error::bad_gateway("no other server is in the room");
        let mut servers = self.who_knows(room, row)?.into_iter().peekable();
        while let Some(server) = servers.next() {
            let patience = if row.failures == 0 && servers.peek().is_some() { PROMPT } else { Bounds::LARGE.time };
            match self.fill_by(room, row, (&server, patience)).await {
                Ok(()) => return Ok(()),
                Err(error) if error.cause().is_some() || error.status() == http::StatusCode::CONFLICT => {
                    return Err(error);
                }
                Err(error) => {
                    let id = room.id();
                    tracing::info!(room = %id, %server, %error, "{server} does not tell the members of {id}");
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// The server by which the room was entered, and others in it in any order.
    fn who_knows(&self, room: &Room, row: &PartialRow) -> Result<Vec<OwnedServerName>> {
        let mut others = self.store.read(|tx| servers::in_room(tx, room.num))?;
        others.retain(|server| *server != self.me.name && server.as_str() != row.by);
        let mut out: Vec<OwnedServerName> = ServerName::parse(&row.by).into_iter().collect();
        while out.len() < MAX_ASKED && !others.is_empty() {
            let at = usize::from(u16::from_le_bytes(random::bytes::<2>())) % others.len();
            out.push(others.swap_remove(at));
        }
        Ok(out)
    }

    async fn fill_by(&self, room: &Room, row: &PartialRow, (server, patience): (&ServerName, Duration)) -> Result<()> {
        let (began, id, num) = (Instant::now(), room.id().to_owned(), room.num);
        let join = event::parse_id(&row.join)?;
        let request = get_state::Request::new(join.clone(), id.clone());
        let asking = self.remote.stream(Bounds::LARGE, server, request);
        let silent = |_| Error::bad_gateway("the other server says nothing");
        let incoming = tokio::time::timeout(patience, asking).await.map_err(silent)??;
        let Answer { state, auth_chain, place: _place, .. } =
            self.fetch.reader.receive(incoming, handed_over::OF_STATE).await?;
        let told = began.elapsed();
        tracing::info!(
            room = %id, %server, members = state.len(), ?told,
            "{server} tells of {} members and other state of {id}", state.len()
        );
        let judge = self.judge_of(room, row)?;
        let (laid, of) = (self.store.read(|tx| partial::laid(tx, num))?, join.clone());
        Steps::default().each(laid, move |tx, keys| partial::lay_off(tx, num, &of, keys)).run(&self.store).await?;
        let lay = |piece: Vec<Told>| {
            let of = join.clone();
            Steps::default().each(piece, move |tx, piece| partial::lay(tx, num, &of, piece))
        };
        let handed = Handed { state, auth_chain, members_omitted: false };
        let write = |piece| -> Writing<'_> { Box::pin(lay(piece).run(&self.store)) };
        let (Judged { state, left_out, .. }, last) = self.take_in_pieces(handed, judge, write).await?;
        let checked = began.elapsed();
        let count = state.keys().filter(|(kind, _)| kind == "m.room.member").count();
        lay(last).then(move |tx| partial::finish(tx, num, &join)).run(&self.store).await?;
        self.lacking.news.notify_waiters();
        let all = Duration::from_millis(clock::now_ms().saturating_sub(row.began));
        tracing::info!(
            room = %id, %server, members = count, left_out, ?told, ?checked, ?all,
            "{id} is whole: {count} members"
        );
        Ok(())
    }

    /// Who judges the members that a server tells of: they have to be of the room that was entered.
    fn judge_of(&self, room: &Room, row: &PartialRow) -> Result<Judge> {
        let (join, create) = self.store.read(|tx| {
            let join = Pdu::find(tx, &event::parse_id(&row.join)?)?;
            Ok((join, room.state_event(tx, &ruma::events::StateEventType::RoomCreate, "")?))
        })?;
        let join = join.ok_or_else(|| Error::internal("the join is missing by which a room was entered"))?;
        let create = create.ok_or_else(|| Error::internal("a room was entered without its beginning"))?;
        Judge::new(room.id(), &room.version(), &join, Some(create.id))
    }

    /// What is left to do for a room whose members are all known.
    async fn clean_up(&self, room: &Room) -> Result<()> {
        let num = room.num;
        self.look_again(room).await?;
        let told = self.store.read(|tx| servers::told(tx, num))?;
        let untelling = Steps::default().each(told, move |tx, servers| partial::tell(tx, num, servers, false));
        untelling.run(&self.store).await?;
        self.arrivals.resume_in(Some(room.id())).await?;
        self.store.write(move |tx: &WriteTx| partial::done(tx, num)).await
    }

    /// Judges once more what came while not all of the members were known (`rooms/second_look.rs`).
    async fn look_again(&self, room: &Room) -> Result<()> {
        let (num, mut known) = (room.num, None);
        loop {
            if known.is_none() {
                let store = self.store.clone();
                let looking = move || store.read(|tx| second_look::ahead(tx, num));
                if let Some(ahead) = tokio::task::spawn_blocking(looking).await.map_err(Error::internal)?? {
                    self.store.write(move |tx| second_look::confirm(tx, num, &ahead)).await?;
                }
            }
            let more = known.take();
            match self.store.write(move |tx| second_look::judge_some(tx, num, more.as_ref())).await? {
                Went::On => {}
                Went::TooHeavy => {
                    let store = self.store.clone();
                    let thinking = move || store.read(|tx| second_look::prepare(tx, num));
                    let is_light = tokio::task::spawn_blocking(thinking).await.map_err(Error::internal)??;
                    known = (!is_light).then_some(Known::TooHeavy);
                }
                Went::Unsigned(asked) => {
                    let (policy, json) = *asked;
                    let rules = room.rules();
                    let event = self.checker.check(vec![json::raw(json)?], &rules).await?.pop();
                    let signed = match event {
                        Some(event) => self.fetch.policy.vouch(&policy, &event, &rules).await,
                        None => None,
                    };
                    known = Some(Known::Asked(signed.map(|event| event.json().to_owned())));
                }
                Went::Over => return Ok(()),
            }
        }
    }

    /// Nobody is in the room any more: what came into it is not looked at again.
    pub(super) async fn forget_what_came(&self, num: RoomNum) -> Result<()> {
        while !self.store.write(move |tx| second_look::forget(tx, num)).await? {}
        Ok(())
    }
}
