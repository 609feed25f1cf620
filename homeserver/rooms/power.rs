//! Who may do what, by power level. Creators stand above all levels from room version 12 on; without a
//! power levels event the creator has 100 and everybody else 0.
//! spec: client-server-api#mroompower_levels

use std::collections::HashSet;

use ruma::{
    OwnedUserId, UserId,
    events::{
        StateEventType, TimelineEventType,
        room::power_levels::{RoomPowerLevels, RoomPowerLevelsEventContent, RoomPowerLevelsSource},
    },
    push::PushConditionPowerLevelsCtx,
    room_version_rules::AuthorizationRules,
    state_res::events::RoomCreateEvent,
};
use serde_json::{Map, Value};

use super::{
    event::Pdu,
    room::Room,
    state::{self, StateId},
};
use crate::{
    error::{Error, Result},
    store::Read,
};

/// What a level is needed for, besides sending events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Inviting.
    Invite,
    /// Redacting what others sent.
    Redact,
    /// Notifying the whole room.
    NotifyRoom,
}

/// The powers in a room as it stands.
pub struct Powers {
    creators: HashSet<OwnedUserId>,
    levels: Option<Map<String, Value>>,
    rules: AuthorizationRules,
}

impl Powers {
    /// The powers in a room.
    pub fn of(tx: &impl Read, room: &Room) -> Result<Self> {
        Self::at(tx, room, room.row.state)
    }

    /// The powers in a state of a room.
    pub fn at(tx: &impl Read, room: &Room, state: StateId) -> Result<Self> {
        let rules = room.rules().authorization;
        let event = |kind: StateEventType| match state::event(tx, state, &kind, "")? {
            Some(pos) => Pdu::at(tx, pos).map(Some),
            None => Ok::<_, Error>(None),
        };
        let create =
            event(StateEventType::RoomCreate)?.ok_or_else(|| Error::internal("a room without a create event"))?;
        let creators = RoomCreateEvent::new(create).creators(&rules).map_err(Error::internal)?;
        let levels = event(StateEventType::RoomPowerLevels)?.and_then(|event| event.content_as());
        Ok(Self { creators, levels, rules })
    }

    /// Somebody's level; the greatest there is for privileged creators.
    pub fn level(&self, user: &UserId) -> i64 {
        let creator = self.creators.contains(user);
        match &self.levels {
            _ if creator && self.rules.explicitly_privilege_room_creators => i64::MAX,
            Some(levels) => {
                let own = levels.get("users").and_then(|users| integer(users.get(user.as_str())?));
                own.unwrap_or_else(|| self.number("users_default", 0))
            }
            None if creator => 100,
            None => 0,
        }
    }

    /// The creators, and those whose level is named.
    pub fn named(&self) -> impl Iterator<Item = OwnedUserId> {
        let users = self.levels.as_ref().and_then(|levels| levels.get("users")?.as_object());
        let named = users.into_iter().flat_map(Map::keys).filter_map(|user| UserId::parse(user).ok());
        self.creators.iter().cloned().chain(named)
    }

    /// Whether somebody has the level for an action.
    pub fn may(&self, user: &UserId, action: Action) -> bool {
        self.level(user) >= self.needed(action)
    }

    /// Whether people whose level is not named have the level for an action.
    pub fn everybody_may(&self, action: Action) -> bool {
        self.number("users_default", 0) >= self.needed(action)
    }

    fn needed(&self, action: Action) -> i64 {
        match action {
            Action::Invite => self.number("invite", 0),
            Action::Redact => self.number("redact", 50),
            Action::NotifyRoom => {
                let levels = self.levels.as_ref().and_then(|levels| levels.get("notifications"));
                levels.and_then(|levels| integer(levels.get("room")?)).unwrap_or(50)
            }
        }
    }

    /// Whether somebody has the level to send events of a type.
    pub fn may_send(&self, user: &UserId, kind: &TimelineEventType, is_state: bool) -> bool {
        let events = self.levels.as_ref().and_then(|levels| levels.get("events"));
        let needed =
            events.and_then(|events| integer(events.get(kind.to_string())?)).unwrap_or_else(|| match is_state {
                // Without a power levels event everybody in the room may set state.
                true if self.levels.is_none() => 0,
                true => self.number("state_default", 50),
                false => self.number("events_default", 0),
            });
        self.level(user) >= needed
    }

    /// The same for push rules, of which some ask whether the sender may notify the whole room. None if
    /// the levels are not of the form that they should have.
    pub fn for_push(&self) -> Option<PushConditionPowerLevelsCtx> {
        let levels = self.levels.clone().map(|levels| serde_json::from_value(Value::Object(levels)));
        let levels: Option<RoomPowerLevelsEventContent> = levels.transpose().ok()?;
        let source = RoomPowerLevelsSource::from(levels);
        Some(RoomPowerLevels::new(source, &self.rules, self.creators.iter().cloned()).into())
    }

    fn number(&self, name: &str, default: i64) -> i64 {
        self.levels.as_ref().and_then(|levels| integer(levels.get(name)?)).unwrap_or(default)
    }
}

/// A level. Room versions up to 9 allow numbers in strings. spec: rooms/v10#values-in-mroompower_levels-events-must-be-integers
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
