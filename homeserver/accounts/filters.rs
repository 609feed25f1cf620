//! Filters that clients leave here to name them later. Equal filters have equal IDs, so that a client
//! that uploads its filter at each start adds nothing. spec: client-server-api#filtering

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    store::{LAST, Read, WriteTx, tables},
};

/// Bytes of a filter at most.
const MAX_JSON: usize = 64 * 1024;
/// Filters of an account at most.
const MAX_FILTERS: usize = 1000;

/// What a client wants to be told by a sync. What it does not say is as in the default.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The parts of events to tell. None for all.
    pub event_fields: Option<Vec<String>>,
    /// In which form events are told.
    pub event_format: Format,
    /// Which presence.
    #[serde(deserialize_with = "outside_rooms")]
    pub presence: Events,
    /// Which account data outside rooms.
    #[serde(deserialize_with = "outside_rooms")]
    pub account_data: Events,
    /// What of rooms.
    pub room: Rooms,
}

/// The form of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As clients know it.
    #[default]
    Client,
    /// As servers do.
    Federation,
}

/// What of which rooms.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rooms {
    /// Whether rooms that were left are told of in a first sync too.
    pub include_leave: bool,
    /// The rooms to tell of. None for all.
    pub rooms: Option<Vec<OwnedRoomId>>,
    /// Rooms not to tell of.
    pub not_rooms: Vec<OwnedRoomId>,
    /// Which events of the timeline.
    pub timeline: Events,
    /// Which state.
    pub state: Events,
    /// What of typing and receipts.
    pub ephemeral: Events,
    /// Which account data of rooms.
    pub account_data: Events,
}

/// Names of fields before they were part of the spec, and now. There are apps that say both.
const OLD_NAMES: [(&str, &str); 4] = [
    ("io.element.relation_senders", "related_by_senders"),
    ("io.element.relation_types", "related_by_rel_types"),
    ("org.matrix.msc3874.rel_types", "rel_types"),
    ("org.matrix.msc3874.not_rel_types", "not_rel_types"),
];

/// Which events. The same form serves outside rooms, where what speaks of rooms means nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, remote = "Self")]
pub struct Events {
    /// How many at most, where events are paged.
    pub limit: Option<u64>,
    /// The types wanted, in which `*` stands for any run of characters. None for all.
    pub types: Option<Vec<String>>,
    /// Types not wanted.
    pub not_types: Vec<String>,
    /// The senders wanted. None for all.
    pub senders: Option<Vec<OwnedUserId>>,
    /// Senders not wanted.
    pub not_senders: Vec<OwnedUserId>,
    /// The rooms wanted. None for all.
    pub rooms: Option<Vec<OwnedRoomId>>,
    /// Rooms not wanted.
    pub not_rooms: Vec<OwnedRoomId>,
    /// Whether the content must have a `url`, or must not.
    pub contains_url: Option<bool>,
    /// Whether only those members are told whom the client needs to know.
    pub lazy_load_members: bool,
    /// Whether members are told again though the client has them.
    pub include_redundant_members: bool,
    /// Whether unread counts are divided by threads.
    pub unread_thread_notifications: bool,
    /// Only what one of these people has related something to.
    pub related_by_senders: Option<Vec<OwnedUserId>>,
    /// Only what something relates to in one of these ways.
    pub related_by_rel_types: Option<Vec<String>>,
    /// Only what itself relates to something in one of these ways.
    pub rel_types: Option<Vec<String>>,
    /// Nothing that relates to something in one of these ways.
    pub not_rel_types: Vec<String>,
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let mut fields = Map::deserialize(from)?;
        for (old, new) in OLD_NAMES {
            if let Some(value) = fields.remove(old) {
                fields.entry(new).or_insert(value);
            }
        }
        // The form as it is derived, which knows the names of now.
        Self::deserialize(Value::Object(fields)).map_err(D::Error::custom)
    }
}

/// Reads a filter of what is in no room. What it says of rooms is not looked at: there are apps (gomuks) that want
/// nothing of the rooms `*`.
fn outside_rooms<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Events, D::Error> {
    let mut fields = Map::deserialize(from)?;
    fields.retain(|name, _| name != "rooms" && name != "not_rooms");
    serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom)
}

impl Rooms {
    /// Whether anything of a room is wanted.
    pub fn wants(&self, room: &str) -> bool {
        names_room(self.rooms.as_deref(), &self.not_rooms, room)
    }
}

impl Events {
    /// Whether events of a room are wanted.
    pub fn wants_room(&self, room: &str) -> bool {
        names_room(self.rooms.as_deref(), &self.not_rooms, room)
    }

    /// Whether events of a type are wanted.
    pub fn wants_type(&self, kind: &str) -> bool {
        let named = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, kind));
        !named(&self.not_types) && self.types.as_deref().is_none_or(named)
    }

    /// Whether events of a sender are wanted. What nobody sent is not among what certain people sent.
    pub fn wants_sender(&self, sender: Option<&str>) -> bool {
        let named = |users: &[OwnedUserId]| sender.is_some_and(|sender| users.iter().any(|user| user == sender));
        !named(&self.not_senders) && self.senders.as_deref().is_none_or(named)
    }

    /// Whether an event is wanted as far as its content goes.
    pub fn wants_content(&self, content: &str) -> bool {
        self.contains_url.is_none_or(|wanted| wanted == has_url(content))
    }
}

fn names_room(rooms: Option<&[OwnedRoomId]>, not_rooms: &[OwnedRoomId], room: &str) -> bool {
    let named = |rooms: &[OwnedRoomId]| rooms.iter().any(|id| id == room);
    !named(not_rooms) && rooms.is_none_or(named)
}

fn has_url(content: &str) -> bool {
    #[derive(Deserialize)]
    struct Content {
        #[serde(default, deserialize_with = "present")]
        url: bool,
    }
    fn present<'de, D: serde::Deserializer<'de>>(value: D) -> std::result::Result<bool, D::Error> {
        serde::de::IgnoredAny::deserialize(value).map(|_| true)
    }
    serde_json::from_str::<Content>(content).is_ok_and(|content| content.url)
}

/// Whether an event type fits a pattern, in which `*` stands for any run of characters.
pub fn matches(pattern: &str, kind: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = kind.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Keeps a filter and says its ID. 400 `M_BAD_JSON` if it is none.
pub fn create(tx: &WriteTx, user: &UserId, filter: &Map<String, Value>) -> Result<String> {
    let json = serde_json::to_string(filter).map_err(Error::internal)?;
    if json.len() > MAX_JSON {
        return Err(Error::too_large(format!("a filter has at most {MAX_JSON} bytes")));
    }
    parse(&json)?;
    let hash = digest::digest(&digest::SHA256, json.as_bytes());
    // Begins with a letter: an ID that begins with a brace would be taken for a filter itself.
    let id = format!("f{}", &URL_SAFE_NO_PAD.encode(hash)[..20]);
    if tables::FILTERS.has(tx, (user.as_str(), &*id))? {
        return Ok(id);
    }
    if ids(tx, user)?.len() >= MAX_FILTERS {
        return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "there are too many filters already"));
    }
    tables::FILTERS.put(tx, (user.as_str(), &*id), &json)?;
    Ok(id)
}

/// A filter's JSON. 404 `M_NOT_FOUND` if there is none of that ID.
pub fn get(tx: &impl Read, user: &UserId, id: &str) -> Result<String> {
    let json = tables::FILTERS.get(tx, (user.as_str(), id))?;
    json.ok_or_else(|| Error::not_found("you have no filter of that ID"))
}

/// The filter that JSON describes. 400 `M_BAD_JSON` if it describes none.
pub fn parse(json: &str) -> Result<Filter> {
    serde_json::from_str(json).map_err(|error| Error::bad_json(format!("not a filter: {error}")))
}

/// The filter of a room's events that JSON describes; none without it. 400 `M_BAD_JSON` if it describes none.
pub fn parse_events(json: Option<&str>) -> Result<Events> {
    match json.filter(|json| !json.is_empty()) {
        Some(json) => serde_json::from_str(json).map_err(|error| Error::bad_json(format!("not a filter: {error}"))),
        None => Ok(Events::default()),
    }
}

/// Removes all filters of an account.
pub fn forget(tx: &WriteTx, user: &UserId) -> Result<()> {
    tables::FILTERS.remove_range(tx, (user.as_str(), "")..=(user.as_str(), LAST))
}

fn ids(tx: &impl Read, user: &UserId) -> Result<Vec<String>> {
    let range = (user.as_str(), "")..=(user.as_str(), LAST);
    tables::FILTERS.collect(tx, range, |(_, id), _| id.to_owned())
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;
    use crate::accounts::testing;

    #[test]
    fn stars_stand_for_any_run_of_characters() {
        assert!(matches("m.room.message", "m.room.message"));
        assert!(!matches("m.room.message", "m.room.messages"));
        assert!(matches("m.room.*", "m.room.name"));
        assert!(matches("*", "anything"));
        assert!(matches("m.*.key.*", "m.call.key.x"));
        assert!(matches("*.name", "m.room.name"));
        assert!(!matches("*.name", "m.room.names"));
        assert!(!matches("a*a", "a"));
    }

    #[test]
    fn a_filter_says_which_events_it_wants() {
        let filter =
            parse_events(Some(r#"{"types":["m.*"],"not_types":["m.b"],"senders":["@a:b"],"contains_url":true}"#));
        let filter = filter.expect("a filter");
        assert!(filter.wants_type("m.a") && !filter.wants_type("m.b") && !filter.wants_type("x"));
        assert!(filter.wants_sender(Some("@a:b")) && !filter.wants_sender(Some("@c:b")) && !filter.wants_sender(None));
        assert!(filter.wants_content(r#"{"url":null}"#) && !filter.wants_content(r#"{"file":{"url":1}}"#));
        let filter =
            parse_events(Some(r#"{"not_senders":["@a:b"],"rooms":["!x:y"],"org.matrix.msc3874.rel_types":["r"]}"#));
        let filter = filter.expect("a filter");
        assert!(!filter.wants_sender(Some("@a:b")) && filter.wants_sender(None) && filter.wants_content("{}"));
        assert!(filter.wants_room("!x:y") && !filter.wants_room("!z:y"));
        assert_eq!(filter.rel_types, Some(vec!["r".to_owned()]));
        // Said by both names, the one of the spec counts.
        let both = r#"{"rel_types":["a"],"org.matrix.msc3874.rel_types":["b"],"not_rel_types":["c"],
            "org.matrix.msc3874.not_rel_types":["d"],"io.element.relation_types":["e"],"related_by_rel_types":["f"],
            "related_by_senders":["@a:b"],"io.element.relation_senders":["@c:d"]}"#;
        let filter = parse_events(Some(both)).expect("a filter");
        assert_eq!((filter.rel_types, filter.not_rel_types), (Some(vec!["a".to_owned()]), vec!["c".to_owned()]));
        assert_eq!(filter.related_by_rel_types, Some(vec!["f".to_owned()]));
        assert_eq!(filter.related_by_senders, Some(vec![user_id!("@a:b").to_owned()]));
        assert!(parse_events(Some("[1")).is_err() && parse_events(Some("")).is_ok());
    }

    #[tokio::test]
    async fn equal_filters_are_one_and_what_is_no_filter_is_refused() {
        let (_dir, store) = testing::store();
        let alice = user_id!("@alice:b.c");
        let keep = |filter: Value| {
            let filter = filter.as_object().cloned().expect("an object");
            store.write(move |tx| create(tx, alice, &filter))
        };
        let id = keep(json!({ "room": { "timeline": { "limit": 5 } } })).await.expect("keeps");
        assert_eq!(keep(json!({ "room": { "timeline": { "limit": 5 } } })).await.expect("keeps"), id);
        assert_ne!(keep(json!({})).await.expect("keeps"), id);
        assert_eq!(store.read(|tx| ids(tx, alice)).expect("reads").len(), 2);
        let kept = store.read(|tx| get(tx, alice, &id)).expect("there");
        assert_eq!(kept, r#"{"room":{"timeline":{"limit":5}}}"#);
        assert!(store.read(|tx| get(tx, user_id!("@bob:b.c"), &id)).is_err());
        for bad in [json!({ "presence": "x" }), json!({ "room": { "timeline": { "rooms": ["not an ID"] } } })] {
            assert_eq!(keep(bad).await.expect_err("refused").errcode(), "M_BAD_JSON");
        }
    }
}
