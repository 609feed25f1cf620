//! Which rooms a list holds.

use std::collections::{HashMap, HashSet};

use ruma::OwnedRoomId;
use serde::Deserialize;

use super::{
    ranking::{Entry, Ranking},
    wish::Filters,
};
use crate::{
    accounts::account_data,
    base::RoomNum,
    error::Result,
    rooms::{Room, hierarchy},
    store::{Read, tables},
    sync::{facts::Membership, turn::Turn},
};

/// Spaces that a filter looks into at most.
const MAX_SPACES: usize = 50;

/// What filters of a request look at beside the rooms themselves, read when first asked for.
pub struct Aspects<'a, 'b, R: Read> {
    turn: &'a Turn<'b, R>,
    ranking: &'a Ranking,
    /// Conversations of two, as the person's clients say.
    pub dms: HashSet<RoomNum>,
    tags: Option<HashMap<RoomNum, Vec<String>>>,
}

impl<'a, 'b, R: Read> Aspects<'a, 'b, R> {
    pub fn new(turn: &'a Turn<'b, R>, ranking: &'a Ranking) -> Result<Self> {
        Ok(Self { turn, ranking, dms: dms(turn)?, tags: None })
    }

    /// The rooms of the ranking that pass, as places in it.
    pub fn passing(&mut self, filters: &Filters) -> Result<Vec<usize>> {
        if !(filters.tags.is_empty() && filters.not_tags.is_empty()) && self.tags.is_none() {
            self.tags = Some(tags(self.turn)?);
        }
        let children = match &filters.spaces {
            Some(spaces) => Some(self.children(spaces)?),
            None => None,
        };
        let within = |entry: &Entry| children.as_ref().is_none_or(|rooms| rooms.contains(&entry.room));
        let all = self.ranking.entries.iter().enumerate();
        let passing = all.filter(|(_, entry)| entry.listed && within(entry) && self.passes(entry, filters));
        Ok(passing.map(|(at, _)| at).collect())
    }

    fn passes(&self, entry: &Entry, filters: &Filters) -> bool {
        let is = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        let kind = |kinds: &[Option<String>]| kinds.iter().any(|kind| kind.as_deref() == entry.kind.as_deref());
        let tags = self.tags.as_ref().and_then(|tags| tags.get(&entry.room));
        let tagged = |wanted: &[String]| tags.is_some_and(|tags| tags.iter().any(|tag| wanted.contains(tag)));
        is(filters.is_dm, self.dms.contains(&entry.room))
            && is(filters.is_encrypted, entry.encrypted)
            && is(filters.is_invite, entry.membership == Membership::Invite)
            && filters.room_types.as_deref().is_none_or(kind)
            && !filters.not_room_types.as_deref().is_some_and(kind)
            && (filters.tags.is_empty() || tagged(&filters.tags))
            && !tagged(&filters.not_tags)
    }

    /// The rooms that are children of some spaces that the person is in.
    fn children(&self, spaces: &[OwnedRoomId]) -> Result<HashSet<RoomNum>> {
        let (tx, mut out) = (self.turn.tx, HashSet::new());
        for space in spaces.iter().take(MAX_SPACES) {
            let Some(num) = tables::ROOM_NUMS.get(tx, space.as_str())? else { continue };
            if self.ranking.entry(num).is_none_or(|entry| entry.membership != Membership::Join) {
                continue;
            }
            for child in hierarchy::children(tx, &Room::at(tx, num)?)? {
                out.extend(tables::ROOM_NUMS.get(tx, child.room.as_str())?);
            }
        }
        Ok(out)
    }
}

/// The rooms that account data calls conversations of two.
fn dms(turn: &Turn<'_, impl Read>) -> Result<HashSet<RoomNum>> {
    let json = account_data::get(turn.tx, &turn.ask.user, "", "m.direct")?;
    let by_person = json.and_then(|json| serde_json::from_str::<HashMap<String, Vec<String>>>(&json).ok());
    let mut out = HashSet::new();
    for id in by_person.unwrap_or_default().into_values().flatten() {
        out.extend(tables::ROOM_NUMS.get(turn.tx, id.as_str())?);
    }
    Ok(out)
}

/// The tags of all rooms that have any.
fn tags(turn: &Turn<'_, impl Read>) -> Result<HashMap<RoomNum, Vec<String>>> {
    #[derive(Deserialize)]
    struct Content {
        tags: HashMap<String, serde::de::IgnoredAny>,
    }
    let mut out = HashMap::new();
    for entry in account_data::all(turn.tx, &turn.ask.user)?.into_iter().filter(|entry| entry.kind == "m.tag") {
        let Ok(content) = serde_json::from_str::<Content>(&entry.json) else { continue };
        if let Some(room) = tables::ROOM_NUMS.get(turn.tx, entry.room.as_str())? {
            out.insert(room, content.tags.into_keys().collect());
        }
    }
    Ok(out)
}
