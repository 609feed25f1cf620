//! Making rooms, listing one's own, upgrading them. spec: client-server-api#rooms-1

use std::sync::Arc;

use ruma::{
    OwnedUserId, RoomAliasId, RoomId, UserId,
    api::client::{
        membership::joined_rooms,
        room::{Visibility, create_room, create_room::v3::RoomPreset, upgrade_room},
    },
};

use serde_json::Map;
use tokio::task::JoinSet;

use crate::{
    app::App,
    error::{Error, Result},
    federation::invite::Invite,
    http::{Bucket, Session},
    rooms::{
        Room,
        create::{self, Seed, Wish},
        members, room, upgrade,
    },
};

/// People who may be invited while a room is made.
const MAX_INVITES: usize = 100;
/// State events that a room may start with, beside those that every room has.
const MAX_STATE: usize = 100;

/// `POST /_matrix/client/v3/createRoom`
pub async fn create_room(
    app: Arc<App>,
    session: Session,
    request: create_room::v3::Request,
) -> Result<create_room::v3::Response> {
    session.may_act()?;
    app.limits.take(Bucket::CreateRoom, &session.user)?;
    let wish = wish(&app, request)?;
    if let Some(alias) = &wish.alias {
        app.services.check_alias(session.service.as_ref(), alias)?;
    }
    for guest in &wish.invite {
        app.services.seek_user(&app.store, guest).await?;
    }
    let (me, creator) = (app.me.clone(), session.user.clone());
    let elsewhere: Vec<OwnedUserId> = wish.invite.iter().filter(|guest| !app.me.owns(guest)).cloned().collect();
    let is_direct = wish.is_direct;
    let id = app.store.write(move |tx| create::create(tx, &me, &creator, &wish)).await?;
    invite_elsewhere(&app, &session.user, &id, (elsewhere, is_direct)).await;
    Ok(create_room::v3::Response::new(id))
}

/// Invites people of other servers to a new room, all at once. The room is there, whoever can't be invited.
async fn invite_elsewhere(app: &App, sender: &UserId, room: &RoomId, (guests, is_direct): (Vec<OwnedUserId>, bool)) {
    let mut inviting = JoinSet::new();
    for target in guests {
        let more = if is_direct { Map::from_iter([("is_direct".to_owned(), true.into())]) } else { Map::new() };
        let invite = Invite { room: room.to_owned(), sender: sender.to_owned(), target, reason: None, more };
        let federation = app.federation.clone();
        inviting.spawn(async move { (invite.target.clone(), federation.invite(invite).await) });
    }
    while let Some(done) = inviting.join_next().await {
        if let Ok((target, Err(error))) = done {
            tracing::info!(%room, %target, %error, "{target} could not be invited to a new room");
        }
    }
}

fn wish(app: &App, request: create_room::v3::Request) -> Result<Wish> {
    if !request.invite_3pid.is_empty() {
        return Err(Error::bad_request("M_THREEPID_NOT_FOUND", "this server can't invite by e-mail or telephone"));
    }
    if request.invite.len() > MAX_INVITES {
        return Err(Error::invalid_param(format!("at most {MAX_INVITES} people can be invited at once")));
    }
    let alias = request.room_alias_name.map(|name| {
        let alias = RoomAliasId::parse(format!("#{name}:{}", app.me.name));
        alias.map_err(|_| Error::invalid_param("this can't be the name of an alias"))
    });
    let preset = request.preset.unwrap_or(match request.visibility {
        Visibility::Public => RoomPreset::PublicChat,
        _ => RoomPreset::PrivateChat,
    });
    if request.initial_state.len() > MAX_STATE {
        return Err(Error::invalid_param(format!("a room starts with at most {MAX_STATE} state events")));
    }
    let initial_state = request.initial_state.iter().map(|state| create::state_wish(state.json()));
    Ok(Wish {
        version: request.room_version.unwrap_or(room::DEFAULT_VERSION),
        preset,
        visibility: request.visibility,
        creation_content: create::object(request.creation_content.as_ref())?,
        power_levels: create::object(request.power_level_content_override.as_ref())?,
        initial_state: initial_state.collect::<Result<_>>()?,
        name: request.name,
        topic: request.topic,
        alias: alias.transpose()?,
        invite: request.invite,
        is_direct: request.is_direct,
        seed: Seed::default(),
    })
}

/// `GET /_matrix/client/v3/joined_rooms`
pub async fn joined_rooms(
    app: Arc<App>,
    session: Session,
    _: joined_rooms::v3::Request,
) -> Result<joined_rooms::v3::Response> {
    let rooms = app.store.read(|tx| {
        let rooms = members::joined_rooms(tx, &session.user)?.into_iter();
        rooms.map(|num| Ok(Room::at(tx, num)?.id().to_owned())).collect()
    })?;
    Ok(joined_rooms::v3::Response::new(rooms))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/upgrade`
pub async fn upgrade_room(
    app: Arc<App>,
    session: Session,
    request: upgrade_room::v3::Request,
) -> Result<upgrade_room::v3::Response> {
    session.may_act()?;
    app.limits.take(Bucket::CreateRoom, &session.user)?;
    let me = app.me.clone();
    let wanted = upgrade::Wanted {
        version: request.new_version,
        additional_creators: request.additional_creators,
        seed: Seed::default(),
    };
    let work = move |tx: &_| {
        let mut room = Room::of_member(tx, &request.room_id, &session.user)?;
        upgrade::upgrade(tx, &me, &mut room, &session.user, &wanted)
    };
    Ok(upgrade_room::v3::Response::new(app.federation.write(work).await?))
}
