//! One turn: a snapshot, what the person's client knows and wants, and the sections in their order.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
};

use super::{
    Ask, Body, Hub, account_data,
    body::Rooms,
    encryption::{self, Keys},
    facts::Facts,
    invites, presence, rooms_joined, rooms_left,
};
use crate::{
    accounts::account_data::Entry,
    base::{Pos, RoomNum, clock, token::SyncToken},
    e2ee::device_lists::Moves,
    error::Result,
    notify::Taken,
    rooms::{Room, timeline::order_of, unread::Reader},
    store::{Read, rows::UnreadRow},
};

/// How far ahead of the clock the ephemeral part of a token may be, milliseconds.
const MAX_AHEAD: u64 = 60_000;

/// Unread counts of a room that should be written down.
pub type Counted = (RoomNum, UnreadRow);

/// What a turn leads to.
pub struct Built {
    /// The answer.
    pub body: Body,
    /// Unread counts that should be written down.
    pub to_save: Vec<Counted>,
}

/// What the sections share.
pub struct Turn<'a, R: Read> {
    pub hub: &'a Hub,
    pub tx: &'a R,
    pub ask: &'a Ask,
    pub facts: &'a Facts,
    pub reader: Reader<'a>,
    /// What the client knows. None if it knows nothing.
    pub since: Option<SyncToken>,
    /// The position of the snapshot.
    pub now: Pos,
    pub to_save: RefCell<Vec<Counted>>,
    /// Who came and went, for the device lists.
    pub moves: RefCell<Moves>,
    /// Something is told that the device has said itself.
    pub echo: Cell<bool>,
}

impl<R: Read> Turn<'_, R> {
    /// Whether something at a position is new to the client.
    pub fn is_new(&self, pos: Pos) -> bool {
        self.since.is_none_or(|since| pos > since.pos)
    }

    /// The place in timelines up to which the client knows them.
    pub fn since_order(&self) -> Option<i64> {
        self.since.map(|since| order_of(since.pos))
    }

    /// Whether the client wants to hear of a room at all.
    pub fn wants_room(&self, room: &Room) -> bool {
        self.ask.filter.room.wants(&room.row.id)
    }
}

/// Builds the answer from a snapshot that is taken now.
pub fn build(hub: &Hub, seat: &Taken, ask: &Ask) -> Result<Built> {
    // Both are read before the snapshot: what happens after shows in the next turn, not in none.
    let (personal, tick) = (seat.personal(), clock::last_tick());
    hub.store.read(|tx| {
        let facts = hub.facts.of(hub, tx, seat, &ask.user, personal)?;
        let now = tx.pos()?;
        let turn = Turn {
            hub,
            tx,
            ask,
            facts: &facts,
            reader: Reader::new(&ask.user, &facts.rules, &facts.ignored),
            // A token from beyond the present comes from a store that was put back to an older backup:
            // what it stands for is gone, so its client begins anew.
            since: ask.since.filter(|since| since.pos <= now).map(|since| credible(since, tick)),
            now,
            to_save: RefCell::default(),
            moves: RefCell::default(),
            echo: Cell::default(),
        };
        let body = sections(&turn, tick)?;
        Ok(Built { body, to_save: turn.to_save.into_inner() })
    })
}

/// A token whose ephemeral part is from a future that the clock will not reach soon was made by another
/// server or with a wrong clock: taken at its word, its client would not be told of typing and presence
/// until then.
pub(super) fn credible(since: SyncToken, tick: u64) -> SyncToken {
    match since.ephemeral > tick.max(clock::now_ms()).saturating_add(MAX_AHEAD) {
        true => SyncToken { ephemeral: 0, ..since },
        false => since,
    }
}

fn sections(turn: &Turn<'_, impl Read>, tick: u64) -> Result<Body> {
    let (global, mut by_room) = divide(account_data::entries(turn)?);
    let (invite, knock) = invites::build(turn)?;
    let rooms = Rooms {
        join: rooms_joined::build(turn, &mut by_room, tick)?,
        leave: rooms_left::build(turn, &mut by_room)?,
        invite,
        knock,
    };
    let to_device = encryption::to_device(turn)?;
    let presence = presence::build(turn, tick)?;
    Ok(Body {
        next_batch: SyncToken { pos: turn.now, ephemeral: presence.upto, to_device: to_device.upto },
        rooms,
        presence: presence.events,
        account_data: account_data::section(turn, global)?,
        to_device: to_device.events,
        device_lists: encryption::device_lists(turn)?,
        keys: Keys::of(turn.tx, &turn.ask.user, &turn.ask.device)?,
        more: to_device.upto < turn.now || presence.more,
        echo: turn.echo.get(),
    })
}

/// Account data of one room, by its ID.
pub type ByRoom = HashMap<String, Vec<Entry>>;

fn divide(entries: Vec<Entry>) -> (Vec<Entry>, ByRoom) {
    let (mut global, mut by_room) = (Vec::new(), ByRoom::new());
    for entry in entries {
        match entry.room.is_empty() {
            true => global.push(entry),
            false => by_room.entry(entry.room.clone()).or_default().push(entry),
        }
    }
    (global, by_room)
}

/// Shared by sections that list rooms.
pub type ById<T> = BTreeMap<String, T>;
