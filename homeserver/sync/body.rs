//! The shape of the answer. Rooms have all their members even if they are empty, as some clients
//! insist on; everything else is left out when there is nothing to say.

use std::collections::BTreeMap;

use ruma::OwnedUserId;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{encryption::Keys, presence};
use crate::{
    base::token::SyncToken,
    error::{Error, Result},
    rooms::unread::Count,
};

/// A list of events, as Matrix wraps them.
#[derive(Serialize)]
pub struct Events<T> {
    /// The events.
    pub events: Vec<T>,
}

impl<T> Default for Events<T> {
    fn default() -> Self {
        Self { events: Vec::new() }
    }
}

impl<T> Events<T> {
    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// An event with a type and content and nothing else: account data, typing.
#[derive(Serialize)]
pub struct Plain<T> {
    /// The content.
    pub content: T,
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A whole answer.
#[derive(Serialize)]
pub struct Body {
    /// Where the next one continues.
    #[serde(serialize_with = "as_text")]
    pub next_batch: SyncToken,
    /// Rooms.
    #[serde(skip_serializing_if = "Rooms::is_empty")]
    pub rooms: Rooms,
    /// Others' presence.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub presence: Events<presence::Event>,
    /// The account's own data.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub account_data: Events<Plain<Box<RawValue>>>,
    /// Messages for this device.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub to_device: Events<Box<RawValue>>,
    /// Whose devices changed.
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    pub device_lists: DeviceLists,
    /// What is left of the device's keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// Whether there was more than one answer takes: the next one need not be waited for.
    #[serde(skip)]
    pub more: bool,
    /// Whether there is something in it that this device has just said itself.
    #[serde(skip)]
    pub echo: bool,
}

impl Body {
    /// Whether there is anything to tell.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.presence.is_empty()
            && self.account_data.is_empty()
            && self.to_device.is_empty()
            && self.device_lists.is_empty()
    }

    /// The JSON text.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(Error::internal)
    }
}

fn as_text<S: serde::Serializer>(token: &SyncToken, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(token)
}

/// The rooms of an answer, by ID.
#[derive(Default, Serialize)]
pub struct Rooms {
    /// Those that the person is in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub join: BTreeMap<String, Joined>,
    /// Those that they are invited to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invite: BTreeMap<String, Invited>,
    /// Those that they have knocked on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knock: BTreeMap<String, Knocked>,
    /// Those that they have left.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub leave: BTreeMap<String, Left>,
}

impl Rooms {
    fn is_empty(&self) -> bool {
        self.join.is_empty() && self.invite.is_empty() && self.knock.is_empty() && self.leave.is_empty()
    }
}

/// The state section under the name that the client knows.
#[derive(Serialize)]
pub enum State {
    /// Before the timeline.
    #[serde(rename = "state")]
    Start(Events<Box<RawValue>>),
    /// After it.
    #[serde(rename = "state_after")]
    End(Events<Box<RawValue>>),
    /// After it.
    #[serde(rename = "org.matrix.msc4222.state_after")]
    UnstableEnd(Events<Box<RawValue>>),
}

impl State {
    /// The events.
    pub fn events(&self) -> &[Box<RawValue>] {
        match self {
            Self::Start(state) | Self::End(state) | Self::UnstableEnd(state) => &state.events,
        }
    }
}

/// A piece of a room's timeline.
#[derive(Serialize)]
pub struct Timeline {
    /// The events, the oldest first.
    pub events: Vec<Box<RawValue>>,
    /// Whether some before them were left out.
    pub limited: bool,
    /// Where to ask for those.
    pub prev_batch: String,
}

/// A room that the person is in.
#[derive(Serialize)]
pub struct Joined {
    /// What the room list shows.
    pub summary: Summary,
    /// Its state.
    #[serde(flatten)]
    pub state: State,
    /// What was said.
    pub timeline: Timeline,
    /// Who types, who has read.
    pub ephemeral: Events<Box<RawValue>>,
    /// The person's data for the room.
    pub account_data: Events<Plain<Box<RawValue>>>,
    /// What is not read, outside threads if the client counts those by themselves.
    pub unread_notifications: Count,
    /// What is not read in threads.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread_thread_notifications: BTreeMap<String, Count>,
}

/// What a room list shows of a room. Left out is what has not changed.
#[derive(Default, Serialize)]
pub struct Summary {
    /// Who the room can be named after.
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<OwnedUserId>>,
    /// How many are in it.
    #[serde(rename = "m.joined_member_count", skip_serializing_if = "Option::is_none")]
    pub joined: Option<u64>,
    /// How many are invited.
    #[serde(rename = "m.invited_member_count", skip_serializing_if = "Option::is_none")]
    pub invited: Option<u64>,
    /// Whether members are still to come; see `spec/federation.md`.
    #[serde(rename = "chat.hearth.partial", skip_serializing_if = "Option::is_none")]
    pub partial: Option<bool>,
}

/// A room that the person has left.
#[derive(Serialize)]
pub struct Left {
    /// Its state.
    #[serde(flatten)]
    pub state: State,
    /// What was said.
    pub timeline: Timeline,
    /// The person's data for the room.
    pub account_data: Events<Plain<Box<RawValue>>>,
}

/// A room that the person is invited to.
#[derive(Serialize)]
pub struct Invited {
    /// What the invitation shows of it.
    pub invite_state: Events<Box<RawValue>>,
}

/// A room that the person has knocked on.
#[derive(Serialize)]
pub struct Knocked {
    /// What is shown of it.
    pub knock_state: Events<Box<RawValue>>,
}

/// Whose devices a client should ask for again, and whose it need not track any more.
#[derive(Default, Serialize)]
pub struct DeviceLists {
    /// Changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<OwnedUserId>,
    /// Gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<OwnedUserId>,
}

impl DeviceLists {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }
}
