//! Rooms that somebody is invited to or has knocked on, as far as outsiders may know them.
//! spec: client-server-api#stripped-state

use serde_json::value::RawValue;

use super::{
    body::{Events, Invited, Knocked},
    facts::Membership,
    turn::{ById, Turn},
};
use crate::{
    accounts::invites::Wishes,
    base::RoomNum,
    error::{Error, Result},
    rooms::{
        Room,
        event::{self, Slices},
        stripped,
    },
    store::{
        Read,
        rows::{EventRow, Standing},
        tables,
    },
};

/// Both sections.
pub fn build(turn: &Turn<'_, impl Read>) -> Result<(ById<Invited>, ById<Knocked>)> {
    let wishes = Wishes::of(turn.tx, &turn.ask.user)?;
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
        // spec: client-server-api#ignoring-users, #invite-permission: invites by ignored people are not sent,
        // and none to who wants none.
        if mine.membership == Membership::Invite {
            let sender = Slices::of(&row)?.sender;
            if turn.facts.ignores(&sender) || !wishes.want(&sender) {
                continue;
            }
        }
        let events = stripped(turn, mine.room, &row)?;
        match mine.membership {
            Membership::Invite => drop(invites.insert(room.row.id, Invited { invite_state: Events { events } })),
            _ => drop(knocks.insert(room.row.id, Knocked { knock_state: Events { events } })),
        }
    }
    Ok((invites, knocks))
}

/// What the inviting server gave, or for rooms that this server is in, the state at the invite.
pub fn stripped(turn: &Turn<'_, impl Read>, room: RoomNum, own: &EventRow) -> Result<Vec<Box<RawValue>>> {
    if own.standing == Standing::Outlier
        && let Some(json) = tables::STRIPPED.get(turn.tx, (turn.ask.user.as_str(), room))?
    {
        return serde_json::from_str(&json).map_err(Error::internal);
    }
    stripped::for_client(turn.tx, own)
}
