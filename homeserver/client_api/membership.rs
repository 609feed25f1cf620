//! Coming into rooms and going out of them. spec: client-server-api#room-membership

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomAliasId, RoomId, RoomOrAliasId, UserId,
    api::client::{
        knock::knock_room,
        membership::{
            ban_user, forget_room, invite_user, join_room_by_id, join_room_by_id_or_alias, kick_user, leave_room,
            unban_user,
        },
    },
    events::room::member::MembershipState,
};
use serde_json::{Map, Value};

use super::state;
use crate::{
    accounts::users,
    app::App,
    error::{Error, Result},
    federation::{invite::Invite, join::Wish},
    http::{Bucket, Session},
    rooms::{
        Room,
        draft::Draft,
        event,
        members::{self, Change, Meant},
    },
    store::{Read, WriteTx},
};

/// Servers that a client names as being in a room at most.
const MAX_VIA: usize = 20;

/// `POST /_matrix/client/v3/rooms/{roomId}/join`
pub async fn join_room(
    app: Arc<App>,
    session: Session,
    request: join_room_by_id::v3::Request,
) -> Result<join_room_by_id::v3::Response> {
    enter(&app, session, (&*request.room_id).into(), (Vec::new(), request.reason)).await?;
    Ok(join_room_by_id::v3::Response::new(request.room_id))
}

/// `POST /_matrix/client/v3/join/{roomIdOrAlias}`
pub async fn join_room_or_alias(
    app: Arc<App>,
    session: Session,
    request: join_room_by_id_or_alias::v3::Request,
) -> Result<join_room_by_id_or_alias::v3::Response> {
    let id = enter(&app, session, &request.room_id_or_alias, (request.via, request.reason)).await?;
    Ok(join_room_by_id_or_alias::v3::Response::new(id))
}

/// `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
pub async fn knock_room(
    app: Arc<App>,
    session: Session,
    request: knock_room::v3::Request,
) -> Result<knock_room::v3::Response> {
    let wish = wish(&app, session, &request.room_id_or_alias, (request.via, request.reason)).await?;
    let id = wish.room.clone();
    app.federation.knock(wish).await?;
    Ok(knock_room::v3::Response::new(id))
}

/// Brings somebody into a room, and answers which one it is.
pub(super) async fn enter(
    app: &App,
    session: Session,
    name: &RoomOrAliasId,
    (via, reason): (Vec<OwnedServerName>, Option<String>),
) -> Result<OwnedRoomId> {
    let wish = wish(app, session, name, (via, reason)).await?;
    let id = wish.room.clone();
    app.federation.join(wish).await?;
    Ok(id)
}

/// Who wants to go where. An alias of another server is asked for there.
async fn wish(
    app: &App,
    session: Session,
    name: &RoomOrAliasId,
    (mut via, reason): (Vec<OwnedServerName>, Option<String>),
) -> Result<Wish> {
    session.may_act()?;
    app.limits.take(Bucket::Join, &session.user)?;
    via.truncate(MAX_VIA);
    let room = match <&RoomAliasId>::try_from(name.as_str()) {
        Ok(alias) => {
            app.services.seek_alias(&app.store, alias).await?;
            let (room, servers) = app.federation.resolve(alias).await?;
            via.extend(servers);
            room
        }
        Err(_) => RoomId::parse(name.as_str()).map_err(|_| Error::invalid_param("this is no room ID and no alias"))?,
    };
    Ok(Wish { user: session.user, room, via, reason, more: Map::new() })
}

/// `POST /_matrix/client/v3/rooms/{roomId}/leave`
pub async fn leave_room(
    app: Arc<App>,
    session: Session,
    request: leave_room::v3::Request,
) -> Result<leave_room::v3::Response> {
    leave(&app, &session, request.room_id, request.reason).await?;
    Ok(leave_room::v3::Response::new())
}

pub(super) async fn leave(app: &App, session: &Session, room: OwnedRoomId, reason: Option<String>) -> Result<()> {
    app.limits.take(Bucket::Message, &session.user)?;
    let user = session.user.clone();
    app.federation.leave(Wish { user, room, via: Vec::new(), reason, more: Map::new() }).await
}

/// `POST /_matrix/client/v3/rooms/{roomId}/forget`
pub async fn forget_room(
    app: Arc<App>,
    session: Session,
    request: forget_room::v3::Request,
) -> Result<forget_room::v3::Response> {
    app.limits.take(Bucket::Message, &session.user)?;
    let work = move |tx: &WriteTx| {
        let room = Room::known(tx, &request.room_id)?;
        let room = room.ok_or_else(|| Error::not_found("this server does not know the room"))?;
        members::forget(tx, &room, &session.user)
    };
    app.store.write(work).await?;
    Ok(forget_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/invite`
pub async fn invite_user(
    app: Arc<App>,
    session: Session,
    request: invite_user::v3::Request,
) -> Result<invite_user::v3::Response> {
    app.limits.take(Bucket::Invite, &session.user)?;
    let invite_user::v3::InvitationRecipient::UserId(recipient) = request.recipient else {
        return Err(Error::bad_request("M_THREEPID_NOT_FOUND", "this server can't invite by e-mail or telephone"));
    };
    let act = Act {
        target: recipient.user_id,
        reason: recipient.reason,
        membership: MembershipState::Invite,
        more: Map::new(),
    };
    change(&app, session, request.room_id, act).await?;
    Ok(invite_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/ban`
pub async fn ban_user(
    app: Arc<App>,
    session: Session,
    request: ban_user::v3::Request,
) -> Result<ban_user::v3::Response> {
    app.limits.take(Bucket::Message, &session.user)?;
    let act =
        Act { target: request.user_id, reason: request.reason, membership: MembershipState::Ban, more: Map::new() };
    change(&app, session, request.room_id, act).await?;
    Ok(ban_user::v3::Response::new())
}

/// What somebody does to somebody else.
pub(super) struct Act {
    /// To whom.
    pub target: OwnedUserId,
    /// Why.
    pub reason: Option<String>,
    /// What they are to be.
    pub membership: MembershipState,
    /// Further content of the event, such as `is_direct`.
    pub more: Map<String, Value>,
}

pub(super) async fn change(app: &App, session: Session, room: OwnedRoomId, act: Act) -> Result<()> {
    session.may_act()?;
    // What they are to the room is part of what allows it.
    app.federation.whole(&room, &session.user).await?;
    if act.membership == MembershipState::Invite && !app.me.owns(&act.target) {
        let Act { target, reason, more, .. } = act;
        let invite = Invite { room, sender: session.user, target, reason, more };
        return app.federation.invite(invite).await.map(drop);
    }
    if act.membership == MembershipState::Invite {
        app.services.seek_user(&app.store, &act.target).await?;
    }
    let me = app.me.clone();
    let work = move |tx: &WriteTx| {
        let mut room = Room::of_member(tx, &room, &session.user)?;
        if act.membership == MembershipState::Invite {
            check_exists(tx, &me, &act.target)?;
        }
        let change = Change {
            sender: &session.user,
            target: &act.target,
            membership: act.membership.clone(),
            reason: act.reason.clone(),
            more: act.more.clone(),
        };
        members::change(tx, &me, &mut room, change).map(drop)
    };
    app.federation.write(work).await
}

/// A membership that is set as any piece of state: what it means is done as by the endpoint for that.
pub(super) async fn set(
    app: &App,
    session: &Session,
    room: OwnedRoomId,
    (draft, meant): (Draft, Meant),
) -> Result<OwnedEventId> {
    let Meant { target, membership, more } = meant;
    let is_own = target == session.user;
    let is_in = app.store.read(|tx| match Room::known(tx, &room)? {
        Some(room) => members::is_joined(tx, room.num, &session.user),
        None => Ok(false),
    })?;
    let wish = |more| Wish { user: session.user.clone(), room: room.clone(), via: Vec::new(), reason: None, more };
    match membership {
        MembershipState::Join | MembershipState::Knock if is_own && !is_in => {
            app.limits.take(Bucket::Join, &session.user)?;
            match membership {
                MembershipState::Join => app.federation.join(wish(more)).await?,
                _ => app.federation.knock(wish(more)).await?,
            }
        }
        // Who names the time at which they went went from here.
        MembershipState::Leave if is_own && (!is_in || draft.at.is_none()) => {
            app.limits.take(Bucket::Message, &session.user)?;
            app.federation.leave(wish(more)).await?;
        }
        MembershipState::Invite => {
            app.limits.take(Bucket::Invite, &session.user)?;
            app.federation.whole(&room, &session.user).await?;
            if !app.me.owns(&target) {
                let sender = session.user.clone();
                return app.federation.invite(Invite { room, sender, target, reason: None, more }).await;
            }
            app.services.seek_user(&app.store, &target).await?;
            return state::set_here(app, session, room, draft).await;
        }
        _ => {
            app.limits.take(Bucket::Message, &session.user)?;
            if !is_own {
                app.federation.whole(&room, &session.user).await?;
            }
            return state::set_here(app, session, room, draft).await;
        }
    }
    app.store.read(|tx| own_event(tx, &room, &session.user))
}

/// The event that says what somebody is to a room.
fn own_event(tx: &impl Read, room: &RoomId, user: &UserId) -> Result<OwnedEventId> {
    let room = Room::known(tx, room)?.ok_or_else(|| Error::internal("a membership of an unknown room"))?;
    let row = members::of(tx, room.num, user)?.ok_or_else(|| Error::internal("a membership that is not there"))?;
    event::parse_id(&event::row(tx, row.event)?.id)
}

/// A mistyped name of our own should be noticed, not invited.
pub(super) fn check_exists(tx: &impl Read, me: &crate::base::signing::Identity, user: &UserId) -> Result<()> {
    match me.owns(user) && users::lookup(tx, user)?.is_none() {
        true => Err(Error::not_found(format!("there is no {user} on this server"))),
        false => Ok(()),
    }
}

/// `POST /_matrix/client/v3/rooms/{roomId}/kick`
pub async fn kick_user(
    app: Arc<App>,
    session: Session,
    request: kick_user::v3::Request,
) -> Result<kick_user::v3::Response> {
    put_out(&app, session, request.room_id, (request.user_id, request.reason, false)).await?;
    Ok(kick_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/unban`
pub async fn unban_user(
    app: Arc<App>,
    session: Session,
    request: unban_user::v3::Request,
) -> Result<unban_user::v3::Response> {
    put_out(&app, session, request.room_id, (request.user_id, request.reason, true)).await?;
    Ok(unban_user::v3::Response::new())
}

pub(super) async fn put_out(
    app: &App,
    session: Session,
    room: OwnedRoomId,
    (target, reason, unban): (OwnedUserId, Option<String>, bool),
) -> Result<()> {
    session.may_act()?;
    app.limits.take(Bucket::Message, &session.user)?;
    app.federation.whole(&room, &session.user).await?;
    let me = app.me.clone();
    let work = move |tx: &WriteTx| {
        let mut room = Room::of_member(tx, &room, &session.user)?;
        members::put_out(tx, &me, &mut room, &session.user, &target, (reason.clone(), unban))
    };
    app.federation.write(work).await
}
