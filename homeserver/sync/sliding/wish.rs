//! What a client asks for, and what it is answered: the shapes of both, and the bounds of the first.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, OwnedUserId, api::client::sync::sync_events::v5::request::Extensions};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::extensions::Reported;
use crate::{
    base::Pos,
    error::{Error, Result},
};

/// Lists in a request at most; and rooms that it names.
const MAX_RULES: usize = 100;
/// Pairs of required state in a rule.
const MAX_PAIRS: usize = 200;
/// Ranges of a list, and values in a filter.
const MAX_VALUES: usize = 100;
/// Bytes of the name of a list or a connection.
const MAX_NAME: usize = 64;
/// Events of a timeline in one answer at most.
const MAX_LIMIT: u64 = 100;

/// The body of a request.
#[derive(Debug, Default, Deserialize)]
pub struct Wish {
    conn_id: Option<String>,
    /// Said again in the answer.
    pub txn_id: Option<String>,
    /// Lists of rooms.
    #[serde(default)]
    pub lists: BTreeMap<String, List>,
    /// Rooms by name.
    #[serde(default)]
    pub room_subscriptions: BTreeMap<OwnedRoomId, Rule>,
    /// What is wanted beside rooms.
    #[serde(default)]
    pub extensions: Extensions,
}

/// A list of rooms.
#[derive(Debug, Deserialize)]
pub struct List {
    ranges: Option<Vec<(u64, u64)>>,
    range: Option<(u64, u64)>,
    /// What is wanted of its rooms.
    #[serde(flatten)]
    pub rule: Rule,
    /// Which rooms it holds.
    #[serde(default)]
    pub filters: Filters,
}

/// What is wanted of a room.
#[derive(Debug, Default, Deserialize)]
pub struct Rule {
    /// State, as pairs of type and state key.
    #[serde(default)]
    pub required_state: Vec<(String, String)>,
    #[serde(default)]
    timeline_limit: u64,
}

/// Which rooms a list holds: those that pass all of it.
#[derive(Debug, Default, Deserialize)]
pub struct Filters {
    /// Conversations of two, or those that are not.
    pub is_dm: Option<bool>,
    /// Encrypted rooms, or those that are not.
    pub is_encrypted: Option<bool>,
    /// Invitations, or what is none.
    #[serde(alias = "is_invited")]
    pub is_invite: Option<bool>,
    /// Rooms of one of these types; null is a room without one.
    pub room_types: Option<Vec<Option<String>>>,
    /// Rooms of none of these types.
    pub not_room_types: Option<Vec<Option<String>>>,
    /// Rooms with one of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Rooms with none of these tags.
    #[serde(default)]
    pub not_tags: Vec<String>,
    /// Rooms that are children of one of these spaces.
    pub spaces: Option<Vec<OwnedRoomId>>,
}

impl List {
    /// From and to, both included.
    pub fn ranges(&self) -> impl Iterator<Item = (usize, usize)> {
        let all = self.ranges.iter().flatten().chain(&self.range);
        let number = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
        all.map(move |(from, to)| (number(*from), number(*to)))
    }

    fn check(&self) -> Result<()> {
        if self.ranges.as_ref().is_some_and(|ranges| ranges.len() > MAX_VALUES) {
            return Err(too_many("ranges"));
        }
        if self.ranges().any(|(from, to)| from > to) {
            return Err(Error::invalid_param("a range ends before it begins"));
        }
        let filters = &self.filters;
        let kinds = [&filters.room_types, &filters.not_room_types].into_iter().flatten().map(Vec::len);
        let lengths = kinds.chain([filters.tags.len(), filters.not_tags.len()]);
        if lengths.chain(filters.spaces.as_ref().map(Vec::len)).any(|length| length > MAX_VALUES) {
            return Err(too_many("values in a filter"));
        }
        self.rule.check()
    }
}

impl Rule {
    /// Events of the timeline.
    pub fn limit(&self) -> usize {
        usize::try_from(self.timeline_limit.min(MAX_LIMIT)).unwrap_or(0)
    }

    fn check(&self) -> Result<()> {
        match self.required_state.len() <= MAX_PAIRS {
            true => Ok(()),
            false => Err(too_many("pairs of required_state")),
        }
    }
}

impl Wish {
    /// Refuses what goes beyond the bounds.
    pub fn check(&self) -> Result<()> {
        if self.lists.len() > MAX_RULES || self.room_subscriptions.len() > MAX_RULES {
            return Err(too_many("lists or room_subscriptions"));
        }
        let names = self.lists.keys().map(String::as_str).chain(self.conn_id.as_deref()).chain(self.txn_id.as_deref());
        if names.into_iter().any(|name| name.len() > MAX_NAME) {
            return Err(Error::invalid_param(format!("names have {MAX_NAME} bytes at most")));
        }
        self.lists.values().try_for_each(List::check)?;
        self.room_subscriptions.values().try_for_each(Rule::check)
    }

    /// Which of its connections this is to the client.
    pub fn conn_id(&self) -> &str {
        self.conn_id.as_deref().unwrap_or_default()
    }

    /// Up to where the client has its to-device messages, if it says so.
    pub fn to_device_since(&self) -> Result<Option<Pos>> {
        let asked = &self.extensions.to_device;
        let since = asked.since.as_deref().filter(|since| !since.is_empty() && asked.enabled == Some(true));
        let bad = |_| Error::invalid_param("to_device.since is no token of this server");
        since.map(|since| since.parse()).transpose().map_err(bad)
    }

    /// Whether the client wants to know of keys.
    pub fn wants_keys(&self) -> bool {
        self.extensions.e2ee.enabled == Some(true)
    }
}

fn too_many(what: &str) -> Error {
    Error::invalid_param(format!("there are too many {what}"))
}

/// An answer.
#[derive(Serialize)]
pub struct Body<'a> {
    /// Where the next request goes on.
    pub pos: String,
    /// What the request said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txn_id: Option<&'a str>,
    /// Lists by name.
    pub lists: BTreeMap<String, Count>,
    /// Rooms by ID.
    pub rooms: BTreeMap<String, RoomResult>,
    /// What is not of rooms.
    pub extensions: Reported,
}

/// How many rooms a list has.
#[derive(Serialize)]
pub struct Count {
    /// All of them, whatever the ranges.
    pub count: usize,
}

/// Somebody whom a room can be named after.
#[derive(Serialize)]
pub struct Hero {
    /// Who.
    pub user_id: OwnedUserId,
    /// Their name in the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displayname: Option<String>,
    /// Their picture in the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

/// What is new in a room. What is left out has not changed, or is not there if `initial` is true.
#[derive(Default, Serialize)]
pub struct RoomResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<Hero>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_dm: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub initial: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expanded_timeline: bool,
    /// The name from before, which clients still look for.
    #[serde(rename = "unstable_expanded_timeline", skip_serializing_if = "std::ops::Not::not")]
    pub unstable_expanded_timeline: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_state: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_live: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invited_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub highlight_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bump_stamp: Option<Pos>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<String>,
    /// What an invitation shows, under the name that clients know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite_state: Option<Vec<Box<RawValue>>>,
    /// The same under its name in the proposal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripped_state: Option<Vec<Box<RawValue>>>,
}
