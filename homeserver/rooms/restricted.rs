//! Restricted rooms: those who are in another room may come in, if somebody here vouches for them.
//! spec: client-server-api#restricted-rooms

use ruma::{OwnedUserId, RoomId, UserId, events::StateEventType};
use serde::Deserialize;

use super::{
    members,
    power::{Action, Powers},
    room::Room,
};
use crate::{
    base::signing::Identity,
    error::{Error, Result},
    store::{Flow, Read},
};

#[derive(Deserialize)]
struct JoinRules {
    join_rule: String,
    #[serde(default)]
    allow: Vec<Allow>,
}

#[derive(Deserialize)]
struct Allow {
    #[serde(rename = "type")]
    kind: String,
    room_id: Option<String>,
}

/// The member of ours who vouches for `user` joining, if the room is restricted and they are in one
/// of the rooms that it allows. None where nobody has to vouch; 403 if somebody would have to.
pub(super) fn authoriser(tx: &impl Read, me: &Identity, room: &Room, user: &UserId) -> Result<Option<OwnedUserId>> {
    let rules: Option<JoinRules> = room.state_content(tx, &StateEventType::RoomJoinRules)?;
    let Some(rules) = rules.filter(|rules| matches!(rules.join_rule.as_str(), "restricted" | "knock_restricted"))
    else {
        return Ok(None);
    };
    if !is_in_one(tx, &rules.allow, user)? {
        return Err(Error::forbidden("you are in none of the rooms whose members may join this one"));
    }
    let cannot = || Error::bad_request("M_UNABLE_TO_GRANT_JOIN", "nobody on this server may invite to this room");
    inviter(tx, me, room)?.map(Some).ok_or_else(cannot)
}

fn is_in_one(tx: &impl Read, allow: &[Allow], user: &UserId) -> Result<bool> {
    for allow in allow.iter().filter(|allow| allow.kind == "m.room_membership") {
        let Some(id) = allow.room_id.as_deref().and_then(|id| <&RoomId>::try_from(id).ok()) else { continue };
        if let Some(other) = Room::find(tx, id)?
            && members::is_joined(tx, other.num, user)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A member of ours who has the power to invite. Those who are named as powerful are asked first:
/// where everybody may invite, anybody will do.
fn inviter(tx: &impl Read, me: &Identity, room: &Room) -> Result<Option<OwnedUserId>> {
    let powers = Powers::of(tx, room)?;
    for user in powers.named() {
        if me.owns(&user) && powers.may(&user, Action::Invite) && members::is_joined(tx, room.num, &user)? {
            return Ok(Some(user));
        }
    }
    let mut found = None;
    if powers.everybody_may(Action::Invite) {
        members::each(tx, room.num, |user, row| {
            found = UserId::parse(user).ok().filter(|user| row.membership == "join" && me.owns(user));
            let fits = found.as_ref().is_some_and(|user| powers.may(user, Action::Invite));
            Ok(if fits { Flow::Stop } else { Flow::Next })
        })?;
    }
    Ok(found.filter(|user| powers.may(user, Action::Invite)))
}
