//! A person's rooms, those with the newest activity first, with what lists are filtered by. Worked out
//! once and then carried on: only rooms in which something happened are looked at again.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use quick_cache::{Weighter, sync};
use ruma::OwnedUserId;
use serde::Deserialize;

use crate::{
    accounts::invites::Wishes,
    base::{Pos, RoomNum},
    error::{Error, Result},
    rooms::{
        Room,
        event::{self, Slices},
        timeline,
    },
    store::{Read, tables},
    sync::{
        facts::{Membership, Mine},
        rooms_joined,
        turn::Turn,
    },
};

/// A room of a person's.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which.
    pub room: RoomNum,
    /// What they are to it.
    pub membership: Membership,
    /// Their membership event; 0 if their membership is gone without one.
    pub event: Pos,
    /// When it came to be so here.
    pub at: Pos,
    /// The newest activity, as far as it is theirs to know.
    pub latest: Pos,
    /// The newest activity that people take for something new.
    pub bump: Pos,
    /// The room's type.
    pub kind: Option<Arc<str>>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Whether it is in lists: not if the person left it or ignores who invites.
    pub listed: bool,
    /// They have forgotten it.
    pub forgotten: bool,
}

/// A person's rooms.
pub struct Ranking {
    upto: Pos,
    /// The newest first.
    pub entries: Vec<Entry>,
    places: HashMap<RoomNum, usize>,
}

impl Ranking {
    /// A room of it.
    pub fn entry(&self, room: RoomNum) -> Option<&Entry> {
        self.places.get(&room).and_then(|at| self.entries.get(*at))
    }

    fn new(upto: Pos, mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by_key(|entry| Reverse((entry.latest, entry.room)));
        let places = entries.iter().enumerate().map(|(at, entry)| (entry.room, at)).collect();
        Self { upto, entries, places }
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<OwnedUserId, Arc<Ranking>> for Weight {
    fn weight(&self, user: &OwnedUserId, ranking: &Arc<Ranking>) -> u64 {
        let per_room = size_of::<Entry>() + 2 * size_of::<(RoomNum, usize)>();
        (user.as_str().len() + 200 + ranking.entries.len() * per_room) as u64
    }
}

/// Rankings of people who synced lately.
pub struct Cache(sync::Cache<OwnedUserId, Arc<Ranking>, Weight>);

impl Cache {
    pub fn new(bytes: u64) -> Self {
        Self(sync::Cache::with_weighter(256, bytes, Weight))
    }

    /// The ranking as it is in a turn's snapshot.
    pub fn of(&self, turn: &Turn<'_, impl Read>) -> Result<Arc<Ranking>> {
        let user = &turn.ask.user;
        // One from after the snapshot can't be carried back.
        let old = self.0.get(user).filter(|old| old.upto <= turn.now);
        let joined = turn.facts.rooms.iter().filter(|mine| mine.membership == Membership::Join);
        let changed = match &old {
            Some(old) => rooms_joined::changed(turn, old.upto, joined.map(|mine| mine.room))?,
            None => BTreeSet::new(),
        };
        let mut entries = Vec::with_capacity(turn.facts.rooms.len());
        for mine in &turn.facts.rooms {
            let known = old.as_ref().and_then(|old| old.entry(mine.room));
            let same = |known: &&Entry| {
                known.at == mine.at
                    && known.event == mine.event
                    && known.forgotten == mine.forgotten
                    && !changed.contains(&mine.room)
            };
            entries.push(match known.filter(same) {
                // Whom one ignores may change without the invitation doing so.
                Some(known) if known.membership != Membership::Invite => known.clone(),
                _ => entry(turn, mine)?,
            });
        }
        let ranking = Arc::new(Ranking::new(turn.now, entries));
        self.0.insert(user.clone(), ranking.clone());
        Ok(ranking)
    }
}

fn entry(turn: &Turn<'_, impl Read>, mine: &Mine) -> Result<Entry> {
    let tx = turn.tx;
    let room = Room::at(tx, mine.room)?;
    let mut entry = Entry {
        room: mine.room,
        membership: mine.membership,
        event: mine.event,
        at: mine.at,
        latest: mine.at,
        bump: mine.at,
        kind: room.row.kind.as_deref().map(Arc::from),
        encrypted: room.row.encrypted,
        listed: true,
        forgotten: mine.forgotten,
    };
    match mine.membership {
        Membership::Join => {
            entry.latest = room.row.latest.max(mine.at);
            entry.bump = room.row.bump;
            if room.row.latest == 0 {
                let last = timeline::last(tx, mine.room, i64::MAX)?;
                entry.latest = last.map_or(mine.at, |(order, _)| u64::try_from(order).unwrap_or(0));
            }
        }
        Membership::Invite | Membership::Knock => {
            let sender = Slices::of(&event::row(tx, mine.event)?)?.sender.into_owned();
            let unwanted = turn.facts.ignores(&sender) || !Wishes::of(tx, &turn.ask.user)?.want(&sender);
            entry.listed = mine.membership == Membership::Knock || !unwanted;
            read_stripped(turn, &mut entry)?;
        }
        // Who left knows it; who was put out may not, and sees it in the list.
        Membership::Out if mine.event == 0 => entry.listed = false,
        Membership::Out => {
            let row = event::row(tx, mine.event)?;
            let own = Slices::of(&row)?.sender == turn.ask.user.as_str();
            entry.listed = !own
                && !mine.forgotten
                && rooms_joined::membership_in(tx, row.state_before, &turn.ask.user)?.is_some_and(|was| was == "join");
        }
    }
    Ok(entry)
}

/// What an invitation says of a room that this server is not in.
fn read_stripped(turn: &Turn<'_, impl Read>, entry: &mut Entry) -> Result<()> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "type")]
        kind: Option<serde_json::Value>,
    }
    let Some(json) = tables::STRIPPED.get(turn.tx, (turn.ask.user.as_str(), entry.room))? else { return Ok(()) };
    let events: Vec<serde_json::Value> = serde_json::from_str(&json).map_err(Error::internal)?;
    for event in events.into_iter().filter_map(|event| serde_json::from_value::<Event>(event).ok()) {
        match event.kind.as_str() {
            "m.room.create" => {
                entry.kind = event.content.kind.as_ref().and_then(|kind| kind.as_str()).map(Arc::from);
            }
            "m.room.encryption" => entry.encrypted = true,
            _ => {}
        }
    }
    Ok(())
}
