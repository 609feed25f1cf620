//! Aliases, and the directory of public rooms. spec: client-server-api#room-aliases, #published-room-directory

use std::sync::Arc;

use ruma::{
    OwnedServerName,
    api::client::{
        alias::{create_alias, delete_alias, get_alias},
        directory::{get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility},
        room::{Visibility, aliases as room_aliases},
    },
    events::TimelineEventType,
};

use crate::{
    accounts::users,
    app::App,
    error::{Error, Result},
    http::{Bucket, Caller, Session},
    rooms::{
        Room, aliases,
        directory::{self, Asked, List},
        history,
        power::Powers,
    },
    store::{WriteTx, tables},
};

/// `GET /_matrix/client/v3/directory/room/{roomAlias}`
pub async fn alias(app: Arc<App>, _: Caller, request: get_alias::v3::Request) -> Result<get_alias::v3::Response> {
    app.services.seek_alias(&app.store, &request.room_alias).await?;
    let (id, servers) = app.federation.resolve(&request.room_alias).await?;
    Ok(get_alias::v3::Response::new(id, servers))
}

/// `PUT /_matrix/client/v3/directory/room/{roomAlias}`
pub async fn set_alias(
    app: Arc<App>,
    session: Session,
    request: create_alias::v3::Request,
) -> Result<create_alias::v3::Response> {
    session.may_act()?;
    app.limits.take(Bucket::Other, &session.user)?;
    app.services.check_alias(session.service.as_ref(), &request.room_alias)?;
    let me = app.me.clone();
    let work = move |tx: &WriteTx| {
        aliases::check_free(tx, &me, &request.room_alias).map_err(|error| match error.errcode() {
            "M_ROOM_IN_USE" => Error::conflict("M_UNKNOWN", "this alias is taken"),
            _ => error,
        })?;
        // A service has full control over its namespace: its people need not be in the room.
        let room = match session.service {
            Some(_) => Room::named(tx, &request.room_id)?,
            None => Room::of_member(tx, &request.room_id, &session.user)?,
        };
        aliases::set(tx, &me, &request.room_alias, &room, &session.user)
    };
    app.store.write(work).await?;
    Ok(create_alias::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/directory/room/{roomAlias}`
pub async fn remove_alias(
    app: Arc<App>,
    session: Session,
    request: delete_alias::v3::Request,
) -> Result<delete_alias::v3::Response> {
    session.may_act()?;
    let me = app.me.clone();
    // A service has full control over its namespace.
    let anyway = session.service.as_ref().is_some_and(|service| service.has_alias(request.room_alias.as_str()));
    app.federation.write(move |tx| aliases::remove(tx, &me, &request.room_alias, (&session.user, anyway))).await?;
    Ok(delete_alias::v3::Response::new())
}

/// `GET /_matrix/client/v3/rooms/{roomId}/aliases`
pub async fn aliases_of(
    app: Arc<App>,
    session: Session,
    request: room_aliases::v3::Request,
) -> Result<room_aliases::v3::Response> {
    let found = app.store.read(|tx| {
        let room = Room::find(tx, &request.room_id)?.ok_or_else(|| Error::forbidden("you are not in this room"))?;
        if !history::is_world_readable(tx, &room)? {
            Room::of_member(tx, &request.room_id, &session.user)?;
        }
        aliases::of(tx, &room)
    })?;
    let found = found.into_iter().filter_map(|alias| alias.try_into().ok()).collect();
    Ok(room_aliases::v3::Response::new(found))
}

/// `GET /_matrix/client/v3/directory/list/room/{roomId}`
pub async fn visibility(
    app: Arc<App>,
    _: Caller,
    request: get_room_visibility::v3::Request,
) -> Result<get_room_visibility::v3::Response> {
    let listed = app.store.read(|tx| tables::PUBLIC_ROOMS.has(tx, Room::named(tx, &request.room_id)?.num))?;
    let visibility = if listed { Visibility::Public } else { Visibility::Private };
    Ok(get_room_visibility::v3::Response::new(visibility))
}

/// `PUT /_matrix/client/v3/directory/list/room/{roomId}`
pub async fn set_visibility(
    app: Arc<App>,
    session: Session,
    request: set_room_visibility::v3::Request,
) -> Result<set_room_visibility::v3::Response> {
    session.may_act()?;
    let work = move |tx: &WriteTx| {
        let room = Room::of_member(tx, &request.room_id, &session.user)?;
        let kind = TimelineEventType::RoomCanonicalAlias;
        if !Powers::of(tx, &room)?.may_send(&session.user, &kind, true) && !users::is_admin(tx, &session.user)? {
            return Err(Error::forbidden("you may not say whether this room is listed"));
        }
        match request.visibility {
            Visibility::Public => tables::PUBLIC_ROOMS.put(tx, room.num, &()),
            _ => tables::PUBLIC_ROOMS.remove(tx, room.num).map(drop),
        }
    };
    app.store.write(work).await?;
    Ok(set_room_visibility::v3::Response::new())
}

/// `GET /_matrix/client/v3/publicRooms`
pub async fn public_rooms(
    app: Arc<App>,
    caller: Caller,
    request: get_public_rooms::v3::Request,
) -> Result<get_public_rooms::v3::Response> {
    app.limits.take(Bucket::Other, crate::limits::address(caller.ip))?;
    let asked = Asked { since: request.since, limit: request.limit, ..Asked::default() };
    let list = list(&app, request.server, asked).await?;
    let mut response = get_public_rooms::v3::Response::new(list.rooms);
    response.next_batch = list.next;
    response.prev_batch = list.prev;
    response.total_room_count_estimate = list.total.try_into().ok();
    Ok(response)
}

/// `POST /_matrix/client/v3/publicRooms`
pub async fn search_public_rooms(
    app: Arc<App>,
    session: Session,
    request: get_public_rooms_filtered::v3::Request,
) -> Result<get_public_rooms_filtered::v3::Response> {
    app.limits.take(Bucket::Other, &session.user)?;
    let asked = Asked {
        since: request.since,
        limit: request.limit,
        term: request.filter.generic_search_term,
        types: request.filter.room_types,
        network: request.room_network.into(),
    };
    let list = list(&app, request.server, asked).await?;
    let mut response = get_public_rooms_filtered::v3::Response::new();
    response.chunk = list.rooms;
    response.next_batch = list.next;
    response.prev_batch = list.prev;
    response.total_room_count_estimate = list.total.try_into().ok();
    Ok(response)
}

/// A page of our directory, or of another server's.
async fn list(app: &App, server: Option<OwnedServerName>, asked: Asked) -> Result<List> {
    match server {
        Some(server) if server != app.me.name => app.federation.public_rooms(&server, asked).await,
        _ => app.store.read(|tx| directory::list(tx, &asked)),
    }
}
