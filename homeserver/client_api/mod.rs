//! The client-server API: one file per chapter of the spec. A handler is three moves: parse, one
//! call, answer. This file is the list of routes.

pub mod discovery;

use crate::http::Router;

/// All endpoints that clients use.
pub fn routes() -> Router {
    let mut router = Router::default();
    router.route(discovery::versions).route(discovery::well_known_client);
    router
}
