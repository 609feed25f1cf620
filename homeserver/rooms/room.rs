//! A room as it stands in a transaction, and which room versions there are.

use ruma::{
    RoomId, RoomVersionId, UserId, api::client::discovery::get_capabilities::v3::RoomVersionStability,
    events::StateEventType, room_version_rules::RoomVersionRules,
};

use super::{
    event::Pdu,
    state::{self, StateId},
};
use crate::{
    base::{Pos, RoomNum},
    error::{Error, Result},
    store::{Read, WriteTx, rows::RoomRow, tables},
};

/// The version of rooms that are made without saying which. spec: rooms/v12
pub const DEFAULT_VERSION: RoomVersionId = RoomVersionId::V12;

/// The versions that can be made and joined. Older ones need another state resolution and other event
/// IDs; nearly all live rooms are in these.
pub const VERSIONS: [RoomVersionId; 7] = [
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// Types of events that people take for something new in a room.
const BUMPS: [&str; 9] = [
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "org.matrix.msc3381.poll.start",
    "m.beacon_info",
    "org.matrix.msc3672.beacon_info",
];

/// What is looked at of a create event.
#[derive(serde::Deserialize)]
struct Create {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The rules of a version. 400 `M_UNSUPPORTED_ROOM_VERSION` if we don't speak it.
pub fn rules(version: &RoomVersionId) -> Result<RoomVersionRules> {
    VERSIONS.contains(version).then(|| version.rules()).flatten().ok_or_else(|| {
        Error::bad_request("M_UNSUPPORTED_ROOM_VERSION", format!("room version {version} is not supported here"))
    })
}

/// What `/capabilities` says of the versions.
pub fn stability() -> impl Iterator<Item = (RoomVersionId, RoomVersionStability)> {
    VERSIONS.into_iter().map(|version| (version, RoomVersionStability::Stable))
}

/// A room, and its present.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its number in this store.
    pub num: RoomNum,
    /// Its present.
    pub row: RoomRow,
}

impl Room {
    /// The room with this ID, if its state is known here.
    pub fn find(tx: &impl Read, id: &RoomId) -> Result<Option<Self>> {
        Ok(Self::known(tx, id)?.filter(|room| room.row.state != 0))
    }

    /// The same, or one that people of ours only stand at the door of; see `doorstep`.
    pub fn known(tx: &impl Read, id: &RoomId) -> Result<Option<Self>> {
        match tables::ROOM_NUMS.get(tx, id.as_str())? {
            Some(num) => Self::at(tx, num).map(Some),
            None => Ok(None),
        }
    }

    /// The room with this ID. 404 if it is not known here.
    pub fn named(tx: &impl Read, id: &RoomId) -> Result<Self> {
        Self::find(tx, id)?.ok_or_else(|| Error::not_found("this server does not know the room"))
    }

    /// The room with this ID for somebody who should be in it. 403 if they aren't, whether the room
    /// is known or not, so that a stranger can't find out which rooms there are.
    pub fn of_member(tx: &impl Read, id: &RoomId, user: &UserId) -> Result<Self> {
        let outside = || Error::forbidden("you are not in this room");
        let room = Self::find(tx, id)?.ok_or_else(outside)?;
        let member = tables::MEMBERS.get(tx, (room.num, user.as_str()))?;
        match member {
            Some(member) if member.membership == "join" => Ok(room),
            _ => Err(outside()),
        }
    }

    /// The room with this number, which was handed out here.
    pub fn at(tx: &impl Read, num: RoomNum) -> Result<Self> {
        let row = tables::ROOMS.get(tx, num)?;
        let row = row.ok_or_else(|| Error::internal(format!("room {num} is missing")))?;
        Ok(Self { num, row })
    }

    /// Its ID.
    pub fn id(&self) -> &RoomId {
        <&RoomId>::try_from(self.row.id.as_str()).expect("it was a room ID when it was stored")
    }

    /// Whether not all of its members are known; see `partial`.
    pub fn is_partial(&self) -> bool {
        self.row.shown != 0
    }

    /// The state that clients are told of.
    pub fn shown(&self) -> StateId {
        if self.is_partial() { self.row.shown } else { self.row.state }
    }

    /// Its version.
    pub fn version(&self) -> RoomVersionId {
        RoomVersionId::try_from(self.row.version.as_str()).unwrap_or(DEFAULT_VERSION)
    }

    /// Its rules.
    pub fn rules(&self) -> RoomVersionRules {
        self.version().rules().unwrap_or(RoomVersionRules::V12)
    }

    /// The position of a current state event.
    pub fn state_pos(&self, tx: &impl Read, kind: &StateEventType, key: &str) -> Result<Option<Pos>> {
        state::event(tx, self.row.state, kind, key)
    }

    /// A current state event.
    pub fn state_event(&self, tx: &impl Read, kind: &StateEventType, key: &str) -> Result<Option<Pdu>> {
        match self.state_pos(tx, kind, key)? {
            Some(pos) => Pdu::at(tx, pos).map(Some),
            None => Ok(None),
        }
    }

    /// A current state event's content, if there is one and it is of the form `T`.
    pub fn state_content<T: serde::de::DeserializeOwned>(
        &self,
        tx: &impl Read,
        kind: &StateEventType,
    ) -> Result<Option<T>> {
        let event = self.state_event(tx, kind, "")?;
        Ok(event.and_then(|event| serde_json::from_str(event.content.get()).ok()))
    }

    /// Notes what lists of rooms are sorted and filtered by, after an event that came on top of a state.
    pub(super) fn note(&mut self, tx: &impl Read, before: StateId, pos: Pos, pdu: &Pdu) -> Result<()> {
        self.row.latest = pos;
        if BUMPS.contains(&pdu.kind.to_string().as_str()) {
            self.row.bump = pos;
        }
        if before != self.row.state { self.note_state(tx) } else { Ok(()) }
    }

    /// Notes what of that its state says.
    pub(super) fn note_state(&mut self, tx: &impl Read) -> Result<()> {
        if self.row.kind.is_none() {
            let create: Option<Create> = self.state_content(tx, &StateEventType::RoomCreate)?;
            self.row.kind = create.and_then(|content| content.kind);
        }
        self.row.encrypted = self.state_pos(tx, &StateEventType::RoomEncryption, "")?.is_some();
        Ok(())
    }

    /// Writes the present.
    pub(super) fn save(&self, tx: &WriteTx) -> Result<()> {
        tables::ROOMS.put(tx, self.num, &self.row)
    }
}
