//! Restricted rooms: those who are in another room may come in, if somebody here vouches for them.
//! spec: client-server-api#restricted-rooms, server-server-api#restricted-rooms

use ruma::{OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId, events::StateEventType};
use serde::Deserialize;

use super::{
    members,
    power::{Action, Powers},
    room::Room,
    servers,
};
use crate::{
    base::signing::Identity,
    error::{Error, Result},
    store::{Flow, Read},
};

/// Rooms named as a condition that are looked at: a bound on what one join can cost.
const MAX_CONDITIONS: usize = 50;

#[derive(Deserialize)]
struct JoinRules {
    join_rule: String,
    #[serde(default)]
    allow: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Allow {
    #[serde(rename = "type")]
    kind: String,
    room_id: Option<String>,
}

/// Among whom somebody who vouches is looked for.
#[derive(Clone, Copy)]
pub(super) enum Among<'a> {
    /// Everybody in the room: not in the writer, as there may be many.
    Everybody,
    /// Those whose power is named, and one who was found before.
    Known(Option<&'a UserId>),
}

/// The member of ours who vouches for `user` joining, if the room is restricted and they are in one
/// of the rooms that it allows. None where nobody has to vouch. Otherwise 403 for those who are in none
/// of them, 400 `M_UNABLE_TO_AUTHORISE_JOIN` where this server can't know that, and 400
/// `M_UNABLE_TO_GRANT_JOIN` where nobody of ours may vouch: other servers may then be asked.
pub(super) fn authoriser(
    tx: &impl Read,
    me: &Identity,
    room: &Room,
    (user, among): (&UserId, Among<'_>),
) -> Result<Option<OwnedUserId>> {
    let Some(rules) = restriction(tx, room)? else { return Ok(None) };
    check_conditions(tx, me, &rules.allow, user)?;
    let cannot = || Error::bad_request("M_UNABLE_TO_GRANT_JOIN", "nobody on this server may invite to this room");
    inviter(tx, me, room, among)?.map(Some).ok_or_else(cannot)
}

fn restriction(tx: &impl Read, room: &Room) -> Result<Option<JoinRules>> {
    let rules: Option<JoinRules> = room.state_content(tx, &StateEventType::RoomJoinRules)?;
    Ok(rules.filter(|rules| matches!(rules.join_rule.as_str(), "restricted" | "knock_restricted")))
}

/// Somebody of ours who may vouch for others in a restricted room. To be looked for before it is decided, as
/// it may take long.
pub fn voucher(tx: &impl Read, me: &Identity, id: &RoomId) -> Result<Option<OwnedUserId>> {
    match Room::find(tx, id)? {
        Some(room) if restriction(tx, &room)?.is_some() => inviter(tx, me, &room, Among::Everybody),
        _ => Ok(None),
    }
}

/// Whether `authoriser`, a member of ours who is named in somebody's join, vouches for it.
pub(super) fn check_authoriser(
    tx: &impl Read,
    me: &Identity,
    room: &Room,
    (user, authoriser): (&UserId, &UserId),
) -> Result<()> {
    let cannot = || Error::bad_request("M_UNABLE_TO_GRANT_JOIN", "nobody vouches for this join any more");
    check_conditions(tx, me, &restriction(tx, room)?.ok_or_else(cannot)?.allow, user)?;
    let may = Powers::of(tx, room)?.may(authoriser, Action::Invite);
    match may && members::is_joined(tx, room.num, authoriser)? {
        true => Ok(()),
        false => Err(cannot()),
    }
}

/// The rooms that conditions name.
fn conditions(allow: &[serde_json::Value]) -> impl Iterator<Item = OwnedRoomId> {
    let memberships = allow.iter().filter_map(|allow| Allow::deserialize(allow).ok());
    let memberships = memberships.filter(|allow| allow.kind == "m.room_membership").take(MAX_CONDITIONS);
    memberships.filter_map(|allow| RoomId::parse(allow.room_id?).ok())
}

fn check_conditions(tx: &impl Read, me: &Identity, allow: &[serde_json::Value], user: &UserId) -> Result<()> {
    let mut all_known = true;
    for id in conditions(allow) {
        let known = match Room::find(tx, &id)? {
            Some(other) if servers::is_in(tx, other.num, &me.name)? => Some(other),
            _ => None,
        };
        match known {
            Some(other) if members::is_joined(tx, other.num, user)? => return Ok(()),
            Some(_) => {}
            None => all_known = false,
        }
    }
    match all_known {
        true => Err(Error::forbidden("they are in none of the rooms whose members may join this one")),
        false => Err(Error::bad_request(
            "M_UNABLE_TO_AUTHORISE_JOIN",
            "this server is not in the rooms whose members may join this one",
        )),
    }
}

/// A member of ours who has the power to invite. Those who are named as powerful are asked first:
/// where everybody may invite, anybody will do.
fn inviter(tx: &impl Read, me: &Identity, room: &Room, among: Among<'_>) -> Result<Option<OwnedUserId>> {
    let powers = Powers::of(tx, room)?;
    let known = if let Among::Known(Some(user)) = among { Some(user.to_owned()) } else { None };
    for user in powers.named().chain(known) {
        if me.owns(&user) && powers.may(&user, Action::Invite) && members::is_joined(tx, room.num, &user)? {
            return Ok(Some(user));
        }
    }
    let mut found = None;
    if matches!(among, Among::Everybody) && powers.everybody_may(Action::Invite) {
        members::each(tx, room.num, |user, row| {
            found = UserId::parse(user).ok().filter(|user| row.membership == "join" && me.owns(user));
            let fits = found.as_ref().is_some_and(|user| powers.may(user, Action::Invite));
            Ok(if fits { Flow::Stop } else { Flow::Next })
        })?;
    }
    Ok(found.filter(|user| powers.may(user, Action::Invite)))
}

/// Whether somebody may come into a room, or ask to, as its rules stand. Nobody is somebody without an
/// account.
pub fn is_open_to(tx: &impl Read, room: &Room, user: Option<&UserId>) -> Result<bool> {
    let Some(rules) = room.state_content::<JoinRules>(tx, &StateEventType::RoomJoinRules)? else { return Ok(false) };
    match (rules.join_rule.as_str(), user) {
        ("public" | "knock" | "knock_restricted", _) => Ok(true),
        ("restricted", Some(user)) => {
            for id in conditions(&rules.allow) {
                if let Some(other) = Room::find(tx, &id)?
                    && members::is_joined(tx, other.num, user)?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// Whether everybody may come into a room who likes.
pub fn is_public(tx: &impl Read, room: &Room) -> Result<bool> {
    let rules = room.state_content::<JoinRules>(tx, &StateEventType::RoomJoinRules)?;
    Ok(rules.is_some_and(|rules| rules.join_rule == "public"))
}

/// Whether somebody of a server may come into a room, or ask to, as its rules stand.
pub fn is_open_to_server(tx: &impl Read, room: &Room, server: &ServerName) -> Result<bool> {
    let Some(rules) = room.state_content::<JoinRules>(tx, &StateEventType::RoomJoinRules)? else { return Ok(false) };
    match rules.join_rule.as_str() {
        "public" | "knock" | "knock_restricted" => Ok(true),
        "restricted" => {
            for id in conditions(&rules.allow) {
                if let Some(other) = Room::find(tx, &id)?
                    && servers::is_in(tx, other.num, server)?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// The rooms whose members may come into a restricted room.
pub fn allowed_rooms(tx: &impl Read, room: &Room) -> Result<Vec<String>> {
    Ok(restriction(tx, room)?.iter().flat_map(|rules| conditions(&rules.allow)).map(|id| id.to_string()).collect())
}
