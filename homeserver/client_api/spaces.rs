//! Spaces, what rooms say of themselves, and the rooms that two people share.
//! spec: client-server-api#spaces, #room-summaries, #mutual-rooms

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedRoomId, UInt,
    api::client::{membership::get_mutual_rooms, room::get_summary, space::get_hierarchy},
};
use serde_json::json;

use crate::{
    app::App,
    error::{Error, Result},
    http::{Bucket, Caller, Reply, Router, Session, reply},
    limits,
    rooms::{
        Room,
        hierarchy::{self, Page, Walk},
        members,
    },
};

/// Rooms in one answer about what two people share.
const PAGE: usize = 100;

/// Adds the routes.
pub fn routes(router: &mut Router) {
    router
        .route_raw(hierarchy)
        .route_raw(summary)
        .alias_raw("/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}", summary)
        .route_raw(mutual_rooms)
        .route_raw(mutual_rooms_of_old);
}

/// `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`
pub async fn hierarchy(app: Arc<App>, session: Session, request: get_hierarchy::v1::Request) -> Result<Reply> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let number = |wanted: Option<UInt>| wanted.map(|wanted| usize::try_from(wanted).unwrap_or(usize::MAX));
    let walk = Walk {
        root: (request.room_id, Vec::new()),
        user: session.user,
        limit: number(request.limit),
        max_depth: number(request.max_depth),
        suggested_only: request.suggested_only,
        from: request.from,
    };
    let Page { rooms, next, .. } = app.federation.walk(walk).await?;
    match next {
        Some(next) => reply::json(&json!({ "rooms": rooms, "next_batch": next })),
        None => reply::json(&json!({ "rooms": rooms })),
    }
}

/// `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`
pub async fn summary(
    app: Arc<App>,
    (caller, session): (Caller, Option<Session>),
    request: get_summary::v1::Request,
) -> Result<Reply> {
    match &session {
        Some(session) => app.limits.take(Bucket::Costly, &session.user)?,
        None => app.limits.take(Bucket::Other, limits::address(caller.ip))?,
    }
    let user = session.map(|session| session.user);
    let hidden = || Error::not_found("there is no such room, or it is not yours to see");
    let (id, via) = match OwnedRoomId::try_from(request.room_id_or_alias) {
        Ok(id) => (id, request.via),
        // Who has no account does not make this server ask others.
        Err(alias) if user.is_none() && alias.server_name() != app.me.name => return Err(hidden()),
        Err(alias) => app.federation.resolve(&alias).await?,
    };
    let asker = user.as_deref();
    let here = app.store.read(|tx| match hierarchy::here(tx, &app.me, &id)? {
        Some(room) if hierarchy::may_see(tx, &room, asker)? => hierarchy::summary(tx, &room).map(Some),
        Some(_) => Err(hidden()),
        None => Ok(None),
    })?;
    let mut summary = match (here, asker) {
        (Some(summary), _) => summary,
        (None, Some(user)) => app.federation.summary(&id, &via, user).await?,
        (None, None) => return Err(hidden()),
    };
    if let Some(user) = asker {
        let known = app.store.read(|tx| match Room::known(tx, &id)? {
            Some(room) => members::of(tx, room.num, user),
            None => Ok(None),
        })?;
        summary.insert("membership".to_owned(), known.map_or_else(|| "leave".into(), |row| row.membership.into()));
    }
    reply::json(&summary)
}

/// `GET /_matrix/client/v1/mutual_rooms`
pub async fn mutual_rooms(app: Arc<App>, session: Session, request: get_mutual_rooms::v1::Request) -> Result<Reply> {
    mutual(app, session, request.user_id, request.from).await
}

/// `GET /_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms`
pub async fn mutual_rooms_of_old(
    app: Arc<App>,
    session: Session,
    request: get_mutual_rooms::unstable::Request,
) -> Result<Reply> {
    mutual(app, session, request.user_id, request.from).await
}

/// A token is the last room of the page before: it stays good whatever happens meanwhile.
async fn mutual(app: Arc<App>, session: Session, other: ruma::OwnedUserId, from: Option<String>) -> Result<Reply> {
    app.limits.take(Bucket::Costly, &session.user)?;
    if other == session.user {
        return Err(Error::invalid_param("you share all your rooms with yourself"));
    }
    let bad = |_| Error::invalid_param("from is no token of ours");
    let after: Option<u64> = from.map(|from| from.parse()).transpose().map_err(bad)?;
    let (joined, count, next) = app.store.read(|tx| {
        let mine: BTreeSet<u64> = members::joined_rooms(tx, &session.user)?.into_iter().collect();
        let shared: BTreeSet<u64> =
            members::joined_rooms(tx, &other)?.into_iter().filter(|room| mine.contains(room)).collect();
        let rest: Vec<u64> = shared.iter().copied().filter(|room| after.is_none_or(|after| *room > after)).collect();
        let mut joined = Vec::new();
        for room in rest.iter().take(PAGE) {
            joined.push(Room::at(tx, *room)?.row.id);
        }
        let next = rest.get(PAGE - 1).filter(|_| rest.len() > PAGE).map(u64::to_string);
        Ok((joined, shared.len(), next))
    })?;
    match next {
        Some(next) => reply::json(&json!({ "joined": joined, "count": count, "next_batch": next })),
        None => reply::json(&json!({ "joined": joined, "count": count })),
    }
}
