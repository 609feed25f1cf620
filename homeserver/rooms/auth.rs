//! Whether an event is allowed: the authorization rules of its room version, over a state.
//! spec: server-server-api#authorization-rules, rooms/v12#authorization-rules

use ruma::{
    EventId, OwnedEventId, RoomId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::AuthorizationRules,
    state_res::{auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules},
};
use serde_json::value::RawValue;

use super::{
    event::Pdu,
    state::{Overlay, StateId},
};
use crate::{
    error::{Error, Result},
    store::Read,
};

/// The events of a state that can allow a certain event.
pub struct Authority {
    events: Vec<Pdu>,
    create_is_cited: bool,
}

/// What the choice of authority depends on.
pub struct Wanted<'a> {
    /// The event's type.
    pub kind: &'a TimelineEventType,
    /// Who sends it.
    pub sender: &'a UserId,
    /// Its state key.
    pub state_key: Option<&'a str>,
    /// Its content.
    pub content: &'a RawValue,
}

impl Authority {
    /// No authority: what a create event needs.
    pub fn none() -> Self {
        Self { events: Vec::new(), create_is_cited: false }
    }

    /// Chooses them. spec: server-server-api#auth-events-selection
    pub fn choose(tx: &impl Read, rules: &AuthorizationRules, state: StateId, wanted: &Wanted<'_>) -> Result<Self> {
        Self::choose_in(tx, rules, &Overlay::of(state), wanted)
    }

    /// Chooses them in a state that need not be stored.
    pub fn choose_in(tx: &impl Read, rules: &AuthorizationRules, state: &Overlay, wanted: &Wanted<'_>) -> Result<Self> {
        let Wanted { kind, sender, state_key, content } = *wanted;
        let keys = auth_types_for_event(kind, sender, state_key, content, rules).map_err(Error::bad_json)?;
        let create_is_cited = keys.iter().any(|(kind, _)| *kind == StateEventType::RoomCreate);
        let mut events = Vec::with_capacity(keys.len() + 1);
        if !create_is_cited {
            push(tx, state, &StateEventType::RoomCreate, "", &mut events)?;
        }
        for (kind, key) in &keys {
            push(tx, state, kind, key, &mut events)?;
        }
        Ok(Self { events, create_is_cited })
    }

    /// The IDs that the event cites. Room version 12 implies the create event.
    pub fn cited(&self) -> Vec<OwnedEventId> {
        let cited =
            self.events.iter().filter(|event| self.create_is_cited || event.kind != TimelineEventType::RoomCreate);
        cited.map(|event| event.id.clone()).collect()
    }

    /// Checks an event of ours against them, by all rules. 403 says which one forbids it.
    pub fn check(&self, rules: &AuthorizationRules, pdu: &Pdu) -> Result<()> {
        check_state_independent_auth_rules(rules, pdu, |id| self.events.iter().find(|event| event.id == id))
            .map_err(Error::forbidden)?;
        self.check_state(rules, pdu)
    }

    /// Checks an event against them by the rules that depend on state.
    pub fn check_state(&self, rules: &AuthorizationRules, pdu: &Pdu) -> Result<()> {
        let fetch = |kind: &StateEventType, key: &str| {
            let kind = TimelineEventType::from(kind.to_string());
            self.events.iter().find(|event| event.is_state(&kind, key))
        };
        check_state_dependent_auth_rules(rules, pdu, fetch).map_err(Error::forbidden)
    }
}

fn push(tx: &impl Read, state: &Overlay, kind: &StateEventType, key: &str, events: &mut Vec<Pdu>) -> Result<()> {
    if let Some(pos) = state.event(tx, &kind.to_string(), key)? {
        events.push(Pdu::at(tx, pos)?);
    }
    Ok(())
}

/// The create event of a room that is called like it, from room version 12 on.
pub fn create_of(room: &RoomId) -> Option<OwnedEventId> {
    EventId::parse(format!("${}", room.strip_sigil())).ok()
}

/// What some events in a row say of an event of another server: the events that it cites itself, which
/// have to be the right ones, of its room and not rejected, and have to allow it. Every one of them has
/// to be known. The reason if they don't.
/// spec: server-server-api#checks-performed-on-receipt-of-a-pdu (4)
pub fn check_cited(rules: &AuthorizationRules, pdu: &Pdu, cited: &[Pdu]) -> Result<(), String> {
    let find = |id: &EventId| cited.iter().find(|event| event.id == id);
    check_state_independent_auth_rules(rules, pdu, find)?;
    let fetch = |kind: &StateEventType, key: &str| {
        let kind = TimelineEventType::from(kind.to_string());
        cited.iter().find(|event| event.is_state(&kind, key))
    };
    check_state_dependent_auth_rules(rules, pdu, fetch)
}
