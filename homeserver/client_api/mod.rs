//! The client-server API: one file per chapter of the spec. A handler is three moves: parse, one
//! call, answer. This file is the list of routes.

pub mod directory;
pub mod discovery;
pub mod membership;
pub mod messages;
pub mod rooms;
pub mod state;

use crate::http::Router;

/// All endpoints that clients use.
pub fn routes() -> Router {
    let mut router = Router::default();
    router.route(discovery::versions).route(discovery::well_known_client);
    room_routes(&mut router);
    router
}

fn room_routes(router: &mut Router) {
    router
        .route(rooms::create_room)
        .route(rooms::joined_rooms)
        .route(rooms::upgrade_room)
        .route(membership::join_room)
        .route(membership::join_room_or_alias)
        .route(membership::knock_room)
        .route(membership::leave_room)
        .route(membership::forget_room)
        .route(membership::invite_user)
        .route(membership::ban_user)
        .route(membership::unban_user)
        .route(membership::kick_user)
        .route(messages::send_message)
        .route(messages::redact_event)
        .route(messages::room_event)
        .route(messages::messages)
        .route(messages::context)
        .route(state::set_state)
        .alias("/_matrix/client/v3/rooms/{room_id}/state/{event_type}", state::set_state)
        .route(state::all_state)
        .route_raw(state::state_for_key)
        .alias_raw("/_matrix/client/v3/rooms/{room_id}/state/{event_type}", state::state_for_key)
        .route(state::member_events)
        .route(state::joined_members)
        .route(directory::alias)
        .route(directory::set_alias)
        .route(directory::remove_alias)
        .route(directory::aliases_of)
        .route(directory::visibility)
        .route(directory::set_visibility)
        .route(directory::public_rooms)
        .route(directory::search_public_rooms);
}
