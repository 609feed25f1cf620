//! Looking into one room without coming in: what it looks like now, and what happens in it from then on. Clients show
//! rooms so that everybody may read. The streams of all rooms under the same names, which `/sync` took the place of, are
//! not spoken. spec: client-server-api#room-previews

use std::{sync::Arc, time::Duration};

use http::Method;
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json, value::RawValue};

use super::blocking;
use crate::{
    accounts::{filters::Events, sessions},
    app::App,
    error::{Error, Result},
    http::{Asked, Bucket, Reply, Router, Session, reply, untyped},
    rooms::{
        Room, directory, event,
        history::{self, Wanted, Way},
        members,
        timeline::{self, View},
    },
    store::Read,
};

/// Events of one answer, if the client does not say, and at most.
const PAGE: usize = 20;
const MAX_PAGE: usize = 100;
/// How long one request waits at most, as a sync does.
const PATIENCE: Duration = Duration::from_secs(60);

/// All endpoints.
pub fn routes(router: &mut Router) {
    let rooms = "/_matrix/client/v3/rooms/{room_id}/initialSync";
    untyped::route(router, Method::GET, rooms, now);
    untyped::route(router, Method::GET, "/_matrix/client/v3/events", from_now_on);
    untyped::route(router, Method::GET, "/_matrix/client/v3/events/{event_id}", one);
}

/// `GET /_matrix/client/v3/rooms/{roomId}/initialSync`
async fn now(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let session = &asked.session;
    app.limits.take(Bucket::Costly, &session.user)?;
    let (id, limit) = (asked.path::<OwnedRoomId>(0)?, asked.query_as("limit")?.unwrap_or(PAGE).min(MAX_PAGE));
    app.federation.whole(&id, &session.user).await?;
    let session = asked.session;
    let answer = blocking(move || app.store.read(|tx| shown(tx, &session, &id, limit))).await?;
    reply::json(&answer)
}

/// A room as it is now, or as somebody left it.
fn shown(tx: &impl Read, session: &Session, id: &OwnedRoomId, limit: usize) -> Result<Value> {
    let room = Room::find(tx, id)?.ok_or_else(hidden)?;
    let known = history::known_state(tx, &room, &session.user)?;
    let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
    let end = last(tx, &room)?;
    let filter = Events::default();
    let wanted = Wanted { way: Way::Back, from: end, to: None, limit, filter: &filter };
    let mut page = history::page(tx, &room, &mut view, &wanted)?;
    page.events.reverse();
    let state = history::state_in(tx, &mut view, (known, &[]), &filter)?;
    let visibility = if directory::lists(tx, room.num)? { "public" } else { "private" };
    let mut messages = json!({ "chunk": page.events, "end": timeline::token(end) });
    if let Some(start) = page.end {
        messages["start"] = timeline::token(start).into();
    }
    let mut out = json!({ "room_id": id, "messages": messages, "state": state, "visibility": visibility });
    if let Some(row) = members::of(tx, room.num, &session.user)? {
        out["membership"] = row.membership.into();
    }
    Ok(out)
}

/// `GET /_matrix/client/v3/events`, of one room.
async fn from_now_on(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = &asked.session.user;
    app.limits.take(Bucket::Costly, user)?;
    let Some(id) = asked.query_as::<OwnedRoomId>("room_id")? else {
        return Err(Error::missing_param("this server streams one room only, that of room_id"));
    };
    let patience = Duration::from_millis(asked.query_as("timeout")?.unwrap_or(0)).min(PATIENCE);
    let from = asked.query("from").map(timeline::parse_token).transpose()?;
    let room = app.store.read(|tx| {
        let room = Room::find(tx, &id)?.ok_or_else(hidden)?;
        history::known_state(tx, &room, user)?;
        Ok(room)
    })?;
    let from = match from {
        Some(from) => from,
        None => app.store.read(|tx| last(tx, &room))?,
    };
    let seat = app.hub.notifier.sit_at(&app.store, user, room.num)?;
    let (deadline, mut stop) = (tokio::time::Instant::now() + patience, app.stop.clone());
    let (events, end) = loop {
        let seen = seat.rung();
        let (app_too, session, id) = (app.clone(), asked.session.clone(), id.clone());
        let (events, end) = blocking(move || app_too.store.read(|tx| news(tx, &session, &id, from))).await?;
        if !events.is_empty() {
            break (events, end);
        }
        tokio::select! {
            () = seat.ring_after(seen) => {}
            () = tokio::time::sleep_until(deadline) => break (events, end),
            // An error says that nobody is left to ask for it, which means the same.
            _ = stop.wait_for(|stop| *stop) => break (events, end),
        }
    };
    let answer = json!({ "chunk": events, "start": timeline::token(from), "end": timeline::token(end) });
    reply::json(&answer)
}

/// What somebody may see of what happened in a room after a place, and where that ends.
fn news(tx: &impl Read, session: &Session, id: &OwnedRoomId, from: i64) -> Result<(Vec<Box<RawValue>>, i64)> {
    // It may have ended while it waited; those of services have no device.
    if session.needs_device().is_ok() {
        sessions::check(tx, &session.user, &session.device)?;
    }
    let room = Room::find(tx, id)?.ok_or_else(hidden)?;
    history::known_state(tx, &room, &session.user)?;
    let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
    let end = last(tx, &room)?.max(from);
    let filter = Events::default();
    let wanted = Wanted { way: Way::Forward, from, to: Some(end), limit: MAX_PAGE, filter: &filter };
    let page = history::page(tx, &room, &mut view, &wanted)?;
    Ok((page.events, page.end.unwrap_or(end)))
}

/// `GET /_matrix/client/v3/events/{eventId}`
async fn one(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let session = &asked.session;
    let id = asked.path::<OwnedEventId>(0)?;
    let shown = app.store.read(|tx| {
        let unknown = || Error::not_found("there is no such event, or you may not see it");
        let pos = event::position(tx, &id)?.ok_or_else(unknown)?;
        let room = Room::at(tx, event::row(tx, pos)?.room)?;
        let (pos, row) = event::shown(tx, room.num, &id)?.ok_or_else(unknown)?;
        let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
        view.see_row(tx, pos, &row)?.ok_or_else(unknown)
    })?;
    reply::json(&shown)
}

/// The last place of a room's timeline.
fn last(tx: &impl Read, room: &Room) -> Result<i64> {
    Ok(timeline::last(tx, room.num, i64::MAX)?.map_or(0, |(order, _)| order))
}

fn hidden() -> Error {
    Error::forbidden("you are not in this room")
}
