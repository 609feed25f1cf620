//! Rooms that somebody is invited to or has knocked on, as far as outsiders may know them.
//! spec: client-server-api#stripped-state

use ruma::events::StateEventType;
use serde_json::value::RawValue;

use super::{
    body::{Events, Invited, Knocked},
    facts::{Membership, Mine},
    turn::{ById, Turn},
};
use crate::{
    error::{Error, Result},
    rooms::{
        Room,
        event::{self, Slices},
        state,
    },
    store::{Read, rows::EventRow, tables},
};

/// What outsiders are shown of a room.
const SHOWN: [StateEventType; 7] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomJoinRules,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
];

/// Both sections.
pub fn build(turn: &Turn<'_, impl Read>) -> Result<(ById<Invited>, ById<Knocked>)> {
    let (mut invites, mut knocks) = (ById::new(), ById::new());
    for mine in &turn.facts.rooms {
        let outside = matches!(mine.membership, Membership::Invite | Membership::Knock);
        if !outside || !(turn.is_new(mine.at) || turn.ask.full_state) {
            continue;
        }
        let room = Room::at(turn.tx, mine.room)?;
        if !turn.wants_room(&room) {
            continue;
        }
        let row = event::row(turn.tx, mine.event)?;
        // spec: client-server-api#ignoring-users: invites by ignored people are not sent.
        if mine.membership == Membership::Invite && turn.facts.ignores(&Slices::of(&row)?.sender) {
            continue;
        }
        let events = stripped(turn, mine, &row)?;
        match mine.membership {
            Membership::Invite => drop(invites.insert(room.row.id, Invited { invite_state: Events { events } })),
            _ => drop(knocks.insert(room.row.id, Knocked { knock_state: Events { events } })),
        }
    }
    Ok((invites, knocks))
}

/// What the inviting server gave, or for rooms that this server is in, the state at the invite.
fn stripped(turn: &Turn<'_, impl Read>, mine: &Mine, own: &EventRow) -> Result<Vec<Box<RawValue>>> {
    let (tx, user) = (turn.tx, &turn.ask.user);
    if let Some(json) = tables::STRIPPED.get(tx, (user.as_str(), mine.room))? {
        return serde_json::from_str(&json).map_err(Error::internal);
    }
    let mut out = Vec::new();
    for kind in &SHOWN {
        if let Some(pos) = state::event(tx, own.state_before, kind, "")? {
            out.push(event::stripped(&event::row(tx, pos)?)?);
        }
    }
    // Whoever invites has a name and a picture.
    let sender = Slices::of(own)?.sender.into_owned();
    if sender != user.as_str()
        && let Some(pos) = state::event(tx, own.state_before, &StateEventType::RoomMember, &sender)?
    {
        out.push(event::stripped(&event::row(tx, pos)?)?);
    }
    out.push(event::stripped(own)?);
    Ok(out)
}
