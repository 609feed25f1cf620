//! The server-server API: one file per chapter of the spec. A handler is three moves: parse, one call,
//! answer. This file is the list of routes.

pub mod events;
pub mod invites;
pub mod joins;
pub mod keys;
pub mod knocks;
pub mod leaves;
pub mod media;
pub mod public_rooms;
pub mod queries;
pub mod spaces;
pub mod streamed;
pub mod transactions;
pub mod user_keys;
pub mod version;

use crate::{
    error::{Error, Result},
    http::Router,
};

/// Adds all endpoints that other servers use.
pub fn routes(router: &mut Router) {
    key_routes(router);
    people_routes(router);
    event_routes(router);
    router.route(transactions::send);
    door_routes(router);
    router.route(version::version).route(version::well_known_server).route(version::query);
}

fn people_routes(router: &mut Router) {
    router
        .route(user_keys::query)
        .route(user_keys::claim)
        .route(user_keys::devices)
        .route_raw(queries::profile)
        .route(queries::directory)
        .route(queries::userinfo)
        .route(public_rooms::public_rooms)
        .route(public_rooms::search_public_rooms)
        .route_raw(spaces::hierarchy)
        .route_raw(media::download)
        .route_raw(media::thumbnail);
}

fn event_routes(router: &mut Router) {
    router
        .route(events::event)
        .route_raw(events::state)
        .route_raw(events::state_ids)
        .route_raw(events::event_auth)
        .route(events::backfill)
        .route(events::missing_events)
        .route(events::by_timestamp);
}

fn door_routes(router: &mut Router) {
    router
        .route(joins::make)
        .route_raw(joins::send)
        .route(leaves::make)
        .route(leaves::send)
        .route(knocks::make)
        .route(knocks::send)
        .route_raw(invites::send)
        .route_raw(invites::send_old);
}

fn key_routes(router: &mut Router) {
    router
        .route_raw(keys::own)
        .alias_raw("/_matrix/key/v2/server/{key_id}", keys::own)
        .route_raw(keys::of_server)
        .alias_raw("/_matrix/key/v2/query/{server_name}/{key_id}", keys::of_server)
        .route_raw(keys::of_many);
}

/// Runs what takes more than a moment away from the threads that serve everybody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
