//! The server-server API: one file per chapter of the spec. A handler is three moves: parse, one call,
//! answer. This file is the list of routes.

pub mod keys;
pub mod version;

use crate::http::Router;

/// Adds all endpoints that other servers use.
pub fn routes(router: &mut Router) {
    key_routes(router);
    router.route(version::version).route(version::well_known_server).route(version::query);
}

fn key_routes(router: &mut Router) {
    router
        .route_raw(keys::own)
        .alias_raw("/_matrix/key/v2/server/{key_id}", keys::own)
        .route_raw(keys::of_server)
        .alias_raw("/_matrix/key/v2/query/{server_name}/{key_id}", keys::of_server)
        .route_raw(keys::of_many);
}
