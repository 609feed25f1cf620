//! An event: as it federates (PDU), as it is kept, and as clients see it.

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::TimelineEventType, state_res,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::state::Overlay;
use crate::{
    base::{Pos, RoomNum},
    error::{Error, Result},
    store::{
        Read,
        rows::{EventRow, Standing},
        tables,
    },
};

/// A parsed event. Its format and signatures were checked before it got here.
#[derive(Clone, Debug, Deserialize)]
pub struct Pdu {
    /// Its ID, which room versions from 3 on compute and don't carry.
    #[serde(skip, default = "no_id")]
    pub id: OwnedEventId,
    /// Where its row is; 0 while it has none.
    #[serde(skip)]
    pub pos: Pos,
    /// Whether it was rejected.
    #[serde(skip)]
    pub rejected: bool,
    /// Its room; none for a create event whose ID is the room's.
    pub room_id: Option<OwnedRoomId>,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its type, as it is written: what state is kept by.
    #[serde(rename = "type")]
    pub name: String,
    /// Its type, as the rules know it. Several names may mean the same kind.
    #[serde(skip, default = "no_kind")]
    pub kind: TimelineEventType,
    /// The state key, for state events.
    pub state_key: Option<String>,
    /// Its content.
    pub content: Box<RawValue>,
    /// When its server says that it was sent.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// The events before it.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow it.
    pub auth_events: Vec<OwnedEventId>,
    /// What it redacts, in room versions up to 10. In later ones it may be anything.
    #[serde(default, deserialize_with = "event_id_or_nothing")]
    pub redacts: Option<OwnedEventId>,
    /// One more than the greatest depth of the events before it.
    pub depth: u64,
}

fn no_id() -> OwnedEventId {
    OwnedEventId::try_from("$").expect("a dollar sign is an event ID")
}

fn no_kind() -> TimelineEventType {
    TimelineEventType::from("")
}

fn event_id_or_nothing<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<OwnedEventId>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(value)?;
    Ok(value.and_then(|id| OwnedEventId::try_from(id.as_str()?).ok()))
}

impl Pdu {
    /// Parses an event from its federation JSON.
    pub fn parse(id: OwnedEventId, json: &str) -> Result<Self> {
        let mut pdu: Self = serde_json::from_str(json).map_err(|error| Error::bad_json(error.to_string()))?;
        pdu.id = id;
        pdu.kind = TimelineEventType::from(pdu.name.as_str());
        Ok(pdu)
    }

    /// The event at a position where there is one.
    pub fn at(tx: &impl Read, pos: Pos) -> Result<Self> {
        let row = row(tx, pos)?;
        let mut pdu = Self::parse(parse_id(&row.id)?, &row.pdu)?;
        pdu.pos = pos;
        pdu.rejected = row.standing == Standing::Rejected;
        Ok(pdu)
    }

    /// The event with this ID, if it is known.
    pub fn find(tx: &impl Read, id: &EventId) -> Result<Option<Self>> {
        match tables::EVENT_IDS.get(tx, id.as_str())? {
            Some(pos) => Self::at(tx, pos).map(Some),
            None => Ok(None),
        }
    }

    /// The content as a type, if it has that form.
    pub fn content_as<T: for<'a> Deserialize<'a>>(&self) -> Option<T> {
        serde_json::from_str(self.content.get()).ok()
    }

    /// Whether it is the state event (type, state key).
    pub fn is_state(&self, kind: &TimelineEventType, key: &str) -> bool {
        self.kind == *kind && self.state_key.as_deref() == Some(key)
    }

    /// The membership that a member event sets.
    pub fn membership(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Content {
            membership: String,
        }
        self.content_as::<Content>().map(|content| content.membership)
    }
}

/// The row at a position where there is one.
pub fn row(tx: &impl Read, pos: Pos) -> Result<EventRow> {
    tables::EVENTS.get(tx, pos)?.ok_or_else(|| Error::internal(format!("event {pos} is missing")))
}

/// Where an event is, if it is known, in whichever room.
pub fn position(tx: &impl Read, id: &EventId) -> Result<Option<Pos>> {
    tables::EVENT_IDS.get(tx, id.as_str())
}

/// The room's state after an event that has been judged over the state before it.
pub fn state_after(tx: &impl Read, pos: Pos) -> Result<Overlay> {
    let row = row(tx, pos)?;
    if row.state_after != 0 {
        return Ok(Overlay::of(row.state_after));
    }
    let mut after = Overlay::of(row.state_before);
    let pdu = Pdu::parse(parse_id(&row.id)?, &row.pdu)?;
    if let Some(state_key) = pdu.state_key.filter(|_| row.standing != Standing::Rejected)
        && let Some(key) = super::state::key(tx, &pdu.name, &state_key)?
    {
        after.set(tx, key, pos)?;
    }
    Ok(after)
}

/// The position and row of an event of a room by its ID, if it may be shown at all.
pub fn shown(tx: &impl Read, room: RoomNum, id: &EventId) -> Result<Option<(Pos, EventRow)>> {
    let Some(pos) = tables::EVENT_IDS.get(tx, id.as_str())? else {
        return Ok(None);
    };
    let row = row(tx, pos)?;
    Ok((row.room == room && row.standing == Standing::Accepted).then_some((pos, row)))
}

pub fn parse_id(id: &str) -> Result<OwnedEventId> {
    OwnedEventId::try_from(id).map_err(Error::internal)
}

impl state_res::Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.id
    }
    fn room_id(&self) -> Option<&RoomId> {
        self.room_id.as_deref()
    }
    fn sender(&self) -> &UserId {
        &self.sender
    }
    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }
    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }
    fn content(&self) -> &RawValue {
        &self.content
    }
    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }
    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }
    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }
    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }
    fn rejected(&self) -> bool {
        self.rejected
    }
}

/// The members of a PDU that clients see, as slices of its text.
#[derive(Deserialize)]
pub struct Slices<'a> {
    /// The type.
    #[serde(rename = "type", borrow)]
    pub kind: std::borrow::Cow<'a, str>,
    /// The sender.
    #[serde(borrow)]
    pub sender: std::borrow::Cow<'a, str>,
    /// The state key.
    #[serde(borrow)]
    pub state_key: Option<std::borrow::Cow<'a, str>>,
    /// The content.
    #[serde(borrow)]
    pub content: &'a RawValue,
    /// When it was sent.
    pub origin_server_ts: u64,
    /// What it redacts, in old room versions. In later ones it may be anything.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub redacts: Option<String>,
}

fn text_or_nothing<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let value = Option::<&RawValue>::deserialize(value)?;
    Ok(value.and_then(|text| serde_json::from_str(text.get()).ok()))
}

impl<'a> Slices<'a> {
    /// The slices of a stored event.
    pub fn of(row: &'a EventRow) -> Result<Self> {
        serde_json::from_str(&row.pdu).map_err(|error| Error::internal(format!("event {}: {error}", row.id)))
    }
}

/// What clients are told about an event besides the event. spec: client-server-api#room-event-format
#[derive(Serialize, Default)]
pub struct Unsigned {
    /// Milliseconds since it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<i64>,
    /// Only for the device that sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    /// Only for its sender, if the server sent it later: as what it waited.
    #[serde(rename = "org.matrix.msc4140.delay_id", skip_serializing_if = "Option::is_none")]
    pub delay_id: Option<String>,
    /// The content of the state event that this one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_content: Option<Box<RawValue>>,
    /// Who had sent that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_sender: Option<String>,
    /// The ID of that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces_state: Option<String>,
    /// The redaction that emptied it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_because: Option<Box<RawValue>>,
    /// What other events say about it.
    #[serde(rename = "m.relations", skip_serializing_if = "Option::is_none")]
    pub relations: Option<super::aggregations::Relations>,
    /// What the room tells who is invited by this event, for application services alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite_room_state: Option<Box<RawValue>>,
    /// What the reader was to the room at this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership: Option<String>,
}

#[derive(Serialize)]
struct ClientForm<'a> {
    content: &'a RawValue,
    event_id: &'a str,
    origin_server_ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a str>,
    sender: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<&'a str>,
    unsigned: &'a Unsigned,
}

/// The event as clients see it; with its room ID where the answer does not say the room otherwise.
pub fn client_form(
    row: &EventRow,
    slices: &Slices<'_>,
    room_id: Option<&str>,
    unsigned: &Unsigned,
) -> Result<Box<RawValue>> {
    let redaction = redaction_content(slices);
    let (content, redacts) = match &redaction {
        Some((content, redacts)) => (&**content, Some(redacts.as_str())),
        None => (slices.content, slices.redacts.as_deref()),
    };
    crate::base::json::to_raw(&ClientForm {
        content,
        event_id: &row.id,
        origin_server_ts: slices.origin_server_ts,
        room_id,
        sender: &slices.sender,
        state_key: slices.state_key.as_deref(),
        kind: &slices.kind,
        redacts,
        unsigned,
    })
}

/// A redaction names its target in the content (from room version 11) or beside it (before); clients
/// of either kind find it in both places. spec: rooms/v11#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property
fn redaction_content(slices: &Slices<'_>) -> Option<(Box<RawValue>, String)> {
    if slices.kind != "m.room.redaction" {
        return None;
    }
    let mut content: serde_json::Map<String, serde_json::Value> = serde_json::from_str(slices.content.get()).ok()?;
    let inside = content.get("redacts").and_then(|id| id.as_str()).map(str::to_owned);
    let target = inside.or_else(|| slices.redacts.as_deref().map(str::to_owned))?;
    content.insert("redacts".to_owned(), target.clone().into());
    Some((crate::base::json::to_raw(&content).ok()?, target))
}

/// The stripped form in which invited people see a state event.
pub fn stripped(row: &EventRow) -> Result<Box<RawValue>> {
    #[derive(Serialize)]
    struct Stripped<'a> {
        content: &'a RawValue,
        sender: &'a str,
        state_key: &'a str,
        #[serde(rename = "type")]
        kind: &'a str,
    }
    let slices = Slices::of(row)?;
    crate::base::json::to_raw(&Stripped {
        content: slices.content,
        sender: &slices.sender,
        state_key: slices.state_key.as_deref().unwrap_or_default(),
        kind: &slices.kind,
    })
}
