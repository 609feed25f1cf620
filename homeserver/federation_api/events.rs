//! Events and states that other servers ask for.
//! spec: server-server-api#retrieving-events, #backfilling-and-retrieving-missing-events

use std::sync::Arc;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedRoomId, UInt,
    api::federation::{
        authorization::get_event_authorization::v1 as event_auth,
        backfill::get_backfill::v1 as backfill,
        event::{
            get_event::v1 as get_event, get_event_by_timestamp::v1 as by_timestamp, get_missing_events::v1 as missing,
            get_room_state::v1 as get_state, get_room_state_ids::v1 as state_ids,
        },
    },
};

use super::streamed;
use crate::{
    app::App,
    base::{Pos, clock},
    error::{Error, Result},
    http::{Origin, Reply},
    rooms::{
        Room, event,
        moments::{self, Towards},
        served::{Asker, MAX_EVENTS},
    },
    store::ReadTx,
};

/// `GET /_matrix/federation/v1/event/{eventId}`
pub async fn event(app: Arc<App>, origin: Origin, request: get_event::Request) -> Result<get_event::Response> {
    let pdu = app.store.read(|tx| {
        let unknown = || Error::not_found("this server has no such event");
        let pos = event::position(tx, &request.event_id)?.ok_or_else(unknown)?;
        let room = Room::at(tx, event::row(tx, pos)?.room)?;
        // Who may not know of the room may not know of the event either.
        let mut asker = Asker::new(tx, (&app.me.name, room.id()), &origin.server).map_err(|_| unknown())?;
        let (_, row) = asker.event(tx, &request.event_id)?;
        asker.tell(tx, &row)
    })?;
    Ok(get_event::Response::new(app.me.name.clone(), MilliSecondsSinceUnixEpoch::now(), pdu))
}

/// `GET /_matrix/federation/v1/state/{roomId}`
pub async fn state(app: Arc<App>, origin: Origin, request: get_state::Request) -> Result<Reply> {
    let (asker, chain, state) = large(&app, origin, request.room_id, move |tx, asker| {
        let state = asker.state_before(tx, &request.event_id)?;
        let chain = asker.auth_chain(tx, &state)?;
        Ok((asker, chain, state))
    })
    .await?;
    Ok(events_of(&app, asker, vec![("auth_chain", chain), ("pdus", state)]))
}

/// `GET /_matrix/federation/v1/state_ids/{roomId}`
pub async fn state_ids(app: Arc<App>, origin: Origin, request: state_ids::Request) -> Result<Reply> {
    let (chain, state) = large(&app, origin, request.room_id, move |tx, asker| {
        let state = asker.state_before(tx, &request.event_id)?;
        let chain = asker.auth_chain(tx, &state)?;
        Ok((chain, state))
    })
    .await?;
    let lists = vec![("auth_chain_ids", chain), ("pdu_ids", state)];
    let say = |tx: &ReadTx, pos| serde_json::to_string(&event::row(tx, pos)?.id).map_err(Error::internal);
    Ok(streamed::object(app.store.clone(), "{".to_owned(), lists, say))
}

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
pub async fn event_auth(app: Arc<App>, origin: Origin, request: event_auth::Request) -> Result<Reply> {
    let (asker, chain) = large(&app, origin, request.room_id, move |tx, asker| {
        let (pos, _) = asker.event(tx, &request.event_id)?;
        let chain = asker.auth_chain(tx, &[pos])?;
        Ok((asker, chain))
    })
    .await?;
    Ok(events_of(&app, asker, vec![("auth_chain", chain)]))
}

/// `GET /_matrix/federation/v1/backfill/{roomId}`
pub async fn backfill(app: Arc<App>, origin: Origin, request: backfill::Request) -> Result<backfill::Response> {
    let limit = count(request.limit);
    let pdus = large(&app, origin, request.room_id, move |tx, mut asker| {
        asker.backwards(tx, (&request.v, true), (&[], 0), limit)
    })
    .await?;
    Ok(backfill::Response::new(app.me.name.clone(), MilliSecondsSinceUnixEpoch::now(), pdus))
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
pub async fn missing_events(app: Arc<App>, origin: Origin, request: missing::Request) -> Result<missing::Response> {
    let (limit, least) = (count(request.limit), request.min_depth.into());
    let mut events = large(&app, origin, request.room_id, move |tx, mut asker| {
        asker.backwards(tx, (&request.latest_events, false), (&request.earliest_events, least), limit)
    })
    .await?;
    events.reverse();
    Ok(missing::Response::new(events))
}

/// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
pub async fn by_timestamp(
    app: Arc<App>,
    origin: Origin,
    request: by_timestamp::Request,
) -> Result<by_timestamp::Response> {
    let (id, ts) = app.store.read(|tx| {
        let asker = Asker::new(tx, (&app.me.name, &request.room_id), &origin.server)?;
        let found = moments::nearest(tx, &asker.room, request.ts.get().into(), Towards::from(request.dir))?;
        found.ok_or_else(|| Error::not_found("there is no event at that time"))
    })?;
    let ts = UInt::try_from(ts).map_err(Error::internal)?;
    Ok(by_timestamp::Response::new(id, MilliSecondsSinceUnixEpoch(ts)))
}

/// Works on what may be large away from where requests are answered.
async fn large<T: Send + 'static>(
    app: &Arc<App>,
    origin: Origin,
    room: OwnedRoomId,
    work: impl FnOnce(&ReadTx, Asker) -> Result<T> + Send + 'static,
) -> Result<T> {
    let began = clock::now_ms();
    let (store, me) = (app.store.clone(), app.me.clone());
    let working = move || {
        store.read(|tx| {
            let asker = Asker::new(tx, (&me.name, &room), &origin.server)?;
            work(tx, asker)
        })
    };
    let outcome = tokio::task::spawn_blocking(working).await.map_err(Error::internal)?;
    tracing::trace!(took = clock::now_ms().saturating_sub(began), "told another server of a room");
    outcome
}

/// Lists of events, as their asker may see them.
fn events_of(app: &App, mut asker: Asker, lists: Vec<(&'static str, Vec<Pos>)>) -> Reply {
    let say = move |tx: &ReadTx, pos| Ok(asker.tell(tx, &event::row(tx, pos)?)?.get().to_owned());
    streamed::object(app.store.clone(), "{".to_owned(), lists, say)
}

fn count(limit: UInt) -> usize {
    usize::try_from(limit).unwrap_or(MAX_EVENTS).min(MAX_EVENTS)
}
