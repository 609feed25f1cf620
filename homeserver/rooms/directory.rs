//! The directory of public rooms: what strangers are told of a room.
//! spec: client-server-api#published-room-directory

use std::collections::BTreeSet;

use ruma::{
    RoomAliasId, UInt,
    directory::{PublicRoomsChunk, RoomNetwork, RoomTypeFilter},
    events::StateEventType,
};
use serde_json::{Map, Value, json};

use super::{history, room::Room};
use crate::{
    base::RoomNum,
    error::{Error, Result},
    store::{Flow, Read, WriteTx, tables},
};

/// Rooms that one answer lists at most.
const MAX_PAGE: usize = 500;

/// What somebody asks of the directory.
#[derive(Default)]
pub struct Asked {
    /// Where the page starts.
    pub since: Option<String>,
    /// Rooms at most.
    pub limit: Option<UInt>,
    /// A word that the name, the topic or the alias holds.
    pub term: Option<String>,
    /// Types of rooms; none for all.
    pub types: Vec<RoomTypeFilter>,
    /// Which lists.
    pub network: Network,
}

/// Lists of rooms: our own, and those that application services keep of what they lead to.
#[derive(Default)]
pub enum Network {
    /// Our own.
    #[default]
    Matrix,
    /// All there are.
    All,
    /// That of one network of one service, by its name here.
    Of(String),
}

impl From<RoomNetwork> for Network {
    fn from(asked: RoomNetwork) -> Self {
        match asked {
            RoomNetwork::All => Self::All,
            RoomNetwork::ThirdParty(name) => Self::Of(name),
            _ => Self::Matrix,
        }
    }
}

impl Asked {
    fn is_search(&self) -> bool {
        !self.types.is_empty() || self.term.as_ref().is_some_and(|term| !term.is_empty())
    }
}

/// A page of the directory.
pub struct List {
    /// The rooms, the fullest first.
    pub rooms: Vec<PublicRoomsChunk>,
    /// Where the next page starts.
    pub next: Option<String>,
    /// Where the page before starts.
    pub prev: Option<String>,
    /// How many rooms there are in all.
    pub total: u64,
}

/// A page of the directory. 400 if `since` is not one of our tokens.
pub fn list(tx: &impl Read, asked: &Asked) -> Result<List> {
    let bad = |_| Error::invalid_param("this pagination token is not one of ours");
    let start: usize =
        asked.since.as_deref().map_or(Ok(0), |since| since.trim_start_matches('p').parse()).map_err(bad)?;
    let limit = asked.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let mut rooms = Vec::new();
    for num in on_lists(tx, &asked.network)? {
        let room = Room::at(tx, num)?;
        // What is not asked for need not be put together: only a search looks at what each room says of itself.
        if !asked.is_search() || fits(&describe(tx, &room)?, asked) {
            rooms.push((room.row.joined, num));
        }
    }
    rooms.sort_by_key(|(joined, num)| (std::cmp::Reverse(*joined), *num));
    let total = rooms.len();
    let page = rooms.into_iter().skip(start).take(limit).map(|(_, num)| describe(tx, &Room::at(tx, num)?));
    let page = page.collect::<Result<Vec<_>>>()?;
    Ok(List {
        next: (start + page.len() < total).then(|| format!("p{}", start + page.len())),
        prev: (start > 0).then(|| format!("p{}", start.saturating_sub(limit))),
        rooms: page.into_iter().map(parse).collect::<Result<_>>()?,
        total: total as u64,
    })
}

/// The rooms of some lists, each once.
fn on_lists(tx: &impl Read, network: &Network) -> Result<BTreeSet<RoomNum>> {
    let mut rooms = BTreeSet::new();
    if !matches!(network, Network::Of(_)) {
        rooms.extend(tables::PUBLIC_ROOMS.collect(tx, 0.., |room, ()| room)?);
    }
    if !matches!(network, Network::Matrix) {
        tables::NETWORK_ROOMS.scan(tx, (0, "").., |(room, name), ()| {
            if !matches!(network, Network::Of(wanted) if wanted != name) {
                rooms.insert(room);
            }
            Ok(Flow::Next)
        })?;
    }
    Ok(rooms)
}

/// Puts a room on the list of a service's network, or takes it from there.
pub fn list_for_network(tx: &WriteTx, room: &Room, network: &str, listed: bool) -> Result<()> {
    match listed {
        true => tables::NETWORK_ROOMS.put(tx, (room.num, network), &()),
        false => tables::NETWORK_ROOMS.remove(tx, (room.num, network)).map(drop),
    }
}

/// What strangers are told of one room.
pub fn describe(tx: &impl Read, room: &Room) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    out.insert("room_id".into(), room.row.id.as_str().into());
    out.insert("num_joined_members".into(), room.row.joined.into());
    out.insert("world_readable".into(), history::is_world_readable(tx, room)?.into());
    let mut copy = |kind: StateEventType, from: &str, to: &str| -> Result<()> {
        let content: Option<Map<String, Value>> = room.state_content(tx, &kind)?;
        // Whoever may set state may set nonsense: what is no text is left out.
        let value = content.and_then(|mut content| content.remove(from));
        let fits = |value: &Value| match to {
            "canonical_alias" => value.as_str().is_some_and(|alias| <&RoomAliasId>::try_from(alias).is_ok()),
            _ => value.is_string(),
        };
        if let Some(value) = value.filter(fits) {
            out.insert(to.to_owned(), value);
        }
        Ok(())
    };
    copy(StateEventType::RoomName, "name", "name")?;
    copy(StateEventType::RoomTopic, "topic", "topic")?;
    copy(StateEventType::RoomAvatar, "url", "avatar_url")?;
    copy(StateEventType::RoomCanonicalAlias, "alias", "canonical_alias")?;
    copy(StateEventType::RoomJoinRules, "join_rule", "join_rule")?;
    copy(StateEventType::RoomCreate, "type", "room_type")?;
    copy(StateEventType::RoomGuestAccess, "guest_access", "guest_can_join")?;
    let guests = out.get("guest_can_join") == Some(&json!("can_join"));
    out.insert("guest_can_join".into(), guests.into());
    Ok(out)
}

fn fits(room: &Map<String, Value>, asked: &Asked) -> bool {
    let text = |key: &str| room.get(key).and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let holds =
        |term: &String| ["name", "topic", "canonical_alias"].iter().any(|key| text(key).contains(&term.to_lowercase()));
    if asked.term.as_ref().is_some_and(|term| !term.is_empty() && !holds(term)) {
        return false;
    }
    let kind = room.get("room_type").and_then(Value::as_str);
    asked.types.is_empty() || asked.types.iter().any(|wanted| wanted.as_str() == kind)
}

fn parse(room: Map<String, Value>) -> Result<PublicRoomsChunk> {
    serde_json::from_value(Value::Object(room)).map_err(Error::internal)
}

/// All rooms that this server knows, listed or not.
pub fn all(tx: &impl Read) -> Result<Vec<RoomNum>> {
    tables::ROOM_NUMS.collect::<&str, _>(tx, .., |_, num| num)
}

/// How many there are.
pub fn count(tx: &impl Read) -> Result<u64> {
    tables::ROOM_NUMS.len(tx)
}

/// Whether the directory lists a room.
pub fn lists(tx: &impl Read, room: RoomNum) -> Result<bool> {
    tables::PUBLIC_ROOMS.has(tx, room)
}
