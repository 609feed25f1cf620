//! People of ours at the doors of rooms that this server is not in: invited, or having knocked. Of such a
//! room only their own membership event is known, as an outlier, and what the room tells outsiders.
//!
//! A room that was never entered has a row without state, and [`Room::find`] does not find it; one that
//! everybody of ours has left is as it was when the last of them went.

use ruma::{OwnedEventId, RoomId, RoomVersionId, UserId, events::TimelineEventType};
use serde_json::{Map, Value, value::RawValue};

use super::{
    create,
    draft::{self, Cited, Draft},
    event::Pdu,
    inviting, members,
    pdu::Checked,
    room::Room,
    servers, stripped,
};
use crate::{
    base::{Pos, signing::Identity},
    error::{Error, Result},
    store::{
        Read, WriteTx,
        rows::{EventRow, MemberRow, Standing},
        tables,
    },
};

/// Doors that one person stands at, at most: whoever invites somebody to very many rooms is not heard.
const MAX_DOORS: usize = 1000;

/// Whether this server is in a room: somebody of ours is.
pub fn is_inside(tx: &impl Read, me: &Identity, room: &Room) -> Result<bool> {
    // A room that everybody has left has nobody elsewhere to ask: what is known here decides.
    Ok(room.row.state != 0 && (room.row.servers == 0 || servers::is_in(tx, room.num, &me.name)?))
}

/// Somebody of ours comes to the door of a room by a membership event of theirs.
pub struct Arrival<'a> {
    /// The room's version, as the other server says.
    pub version: &'a RoomVersionId,
    /// The event.
    pub event: &'a Checked,
    /// What the room tells outsiders, pruned.
    pub told: &'a [Box<RawValue>],
}

/// Notes an invite, or a knock that was taken in. Nothing changes for a room that this server is in: there
/// the event comes as all others do.
pub fn arrive(tx: &WriteTx, me: &Identity, arrival: &Arrival<'_>) -> Result<()> {
    let Arrival { version, event, told } = *arrival;
    let user = person(event.pdu())?;
    let mut room = room_or_new(tx, event.room_id(), version)?;
    if is_inside(tx, me, &room)? || tables::EVENT_IDS.has(tx, event.id().as_str())? {
        return Ok(());
    }
    if members::of(tx, room.num, user)?.is_none_or(|row| row.membership == "leave") && doors(tx, user)? >= MAX_DOORS {
        return Err(Error::forbidden("this person has too many invites"));
    }
    let pos = keep(tx, &room, event.id().as_str(), event.json().to_owned())?;
    tables::STRIPPED.put(tx, (user.as_str(), room.num), &stripped::to_text(told)?)?;
    stand(tx, &mut room, user, event.pdu(), pos)
}

fn doors(tx: &impl Read, user: &UserId) -> Result<usize> {
    let rooms = members::rooms_of(tx, user)?.into_iter();
    Ok(rooms.filter(|(_, row)| matches!(row.membership.as_str(), "invite" | "knock")).count())
}

/// The room with this ID, entered or not; made if it is new to us.
pub fn room_or_new(tx: &WriteTx, id: &RoomId, version: &RoomVersionId) -> Result<Room> {
    match Room::known(tx, id)? {
        Some(mut room) => {
            // Of a room that was never entered only hearsay was known.
            if room.row.state == 0 {
                room.row.version = version.to_string();
            }
            Ok(room)
        }
        None => create::new_room(tx, id, version),
    }
}

/// Whose membership an event is.
fn person(pdu: &Pdu) -> Result<&UserId> {
    let key = pdu.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok());
    key.filter(|_| pdu.kind == TimelineEventType::RoomMember).ok_or_else(|| Error::internal("no membership event"))
}

fn keep(tx: &WriteTx, room: &Room, id: &str, json: String) -> Result<Pos> {
    let pos = tx.next_pos();
    let row = EventRow {
        room: room.num,
        // What somebody may still read of a room that they were in before.
        state_before: room.row.state,
        standing: Standing::Outlier,
        redacted_by: 0,
        order: 0,
        state_after: 0,
        sent_by: None,
        id: id.to_owned(),
        pdu: json,
    };
    tables::EVENTS.put(tx, pos, &row)?;
    tables::EVENT_IDS.put(tx, id, &pos)?;
    Ok(pos)
}

fn stand(tx: &WriteTx, room: &mut Room, user: &UserId, pdu: &Pdu, pos: Pos) -> Result<()> {
    let membership = pdu.membership().unwrap_or_else(|| "leave".to_owned());
    members::set(tx, room, user, MemberRow { membership, event: pos, at: None, forgotten: false })?;
    room.save(tx)
}

/// Somebody's membership of a room that this server is not in, if they stand at its door.
pub fn standing(tx: &impl Read, me: &Identity, room: &Room, user: &UserId) -> Result<Option<(String, Pdu)>> {
    if is_inside(tx, me, room)? {
        return Ok(None);
    }
    let row = members::of(tx, room.num, user)?.filter(|row| matches!(row.membership.as_str(), "invite" | "knock"));
    row.map(|row| Ok((row.membership, Pdu::at(tx, row.event)?))).transpose()
}

/// Somebody goes away from a door by an event that a server in the room has taken in; or by one that only
/// this server knows, if `event` is none: then no server in the room was there to be told.
pub fn depart(
    tx: &WriteTx,
    me: &Identity,
    (room, user): (&RoomId, &UserId),
    (event, reason): (Option<&Checked>, Option<&str>),
) -> Result<()> {
    let mut room = Room::known(tx, room)?.ok_or_else(|| Error::not_found("this server does not know the room"))?;
    let Some((_, from)) = standing(tx, me, &room, user)? else { return Ok(()) };
    let (id, json) = match event {
        Some(event) if tables::EVENT_IDS.has(tx, event.id().as_str())? => return Ok(()),
        Some(event) => (event.id().to_string(), event.json().to_owned()),
        None => {
            let signed = silent_leave(me, &room, &from, user, reason)?;
            (signed.pdu.id.to_string(), signed.json)
        }
    };
    let pos = keep(tx, &room, &id, json)?;
    let gone = Pdu::at(tx, pos)?;
    tables::STRIPPED.remove(tx, (user.as_str(), room.num))?;
    stand(tx, &mut room, user, &gone, pos)
}

/// A leave event that follows on the invite or knock that it ends, and is sent to nobody.
fn silent_leave(me: &Identity, room: &Room, from: &Pdu, user: &UserId, reason: Option<&str>) -> Result<draft::Signed> {
    let mut content = Map::from_iter([("membership".to_owned(), Value::from("leave"))]);
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), reason.into());
    }
    let draft = Draft::state_of(TimelineEventType::RoomMember, user.as_str(), &content)?;
    let after = || vec![from.id.clone()];
    let cited = Cited { prev: after(), auth: after(), depth: from.depth.saturating_add(1) };
    draft::sign_on(me, (room.id(), &room.rules()), user, &draft, cited)
}

/// Whether an event may take an invite or a knock of somebody of ours back.
pub fn is_retraction(me: &Identity, pdu: &Pdu) -> bool {
    let ours = person(pdu).is_ok_and(|user| me.owns(user));
    ours && matches!(pdu.membership().as_deref(), Some("leave" | "ban"))
}

/// Takes an invite or a knock back, as the room's people have done: by an event about somebody of ours at
/// the door that names what it ends, or comes from the server that invited. Whether it is allowed can't be
/// known from outside. False if it is nothing of that kind.
pub fn retract(tx: &WriteTx, me: &Identity, event: &Checked) -> Result<bool> {
    let pdu = event.pdu();
    let Ok(user) = person(pdu) else { return Ok(false) };
    if !is_retraction(me, pdu) {
        return Ok(false);
    }
    let Some(room) = Room::known(tx, event.room_id())? else { return Ok(false) };
    let Some((_, from)) = standing(tx, me, &room, user)? else { return Ok(false) };
    let named = |ids: &[OwnedEventId]| ids.contains(&from.id);
    let by_inviter = from.sender.server_name() == pdu.sender.server_name() && from.sender != *user;
    if !named(&pdu.auth_events) && !named(&pdu.prev_events) && !by_inviter {
        return Ok(false);
    }
    depart(tx, me, (event.room_id(), user), (Some(event), None))?;
    Ok(true)
}

/// Whether somebody of ours lets somebody else invite them. 403 for accounts that are closed or not there, and
/// `M_INVITE_BLOCKED` for those who want no invites. spec: client-server-api#invite-permission
pub fn check_invitable(tx: &impl Read, user: &UserId, sender: &UserId) -> Result<()> {
    let account = crate::accounts::users::lookup(tx, user)?;
    if account.is_none_or(|account| account.deactivated) {
        return Err(Error::forbidden("there is no such person on this server"));
    }
    inviting::check_welcome(tx, user, sender)
}

/// The servers that may know a room at whose door somebody stands, the likeliest first: of who invited, of
/// who has a membership in what the room told.
pub fn servers_behind(tx: &impl Read, room: &Room, user: &UserId, from: &Pdu) -> Result<Vec<ruma::OwnedServerName>> {
    let mut out = vec![from.sender.server_name().to_owned()];
    if let Some(told) = tables::STRIPPED.get(tx, (user.as_str(), room.num))? {
        let told: Vec<Value> = serde_json::from_str(&told).map_err(Error::internal)?;
        for sender in told.iter().filter_map(|event| event.get("sender")?.as_str()) {
            if let Ok(sender) = UserId::parse(sender) {
                out.push(sender.server_name().to_owned());
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    out.retain(|server| server != user.server_name() && seen.insert(server.clone()));
    Ok(out)
}
