//! The client-server API: one file per chapter of the spec. A handler is three moves: parse, one
//! call, answer. This file is the list of routes.

pub mod account;
pub mod account_data;
pub mod admin;
pub mod appservice;
pub mod calls;
pub mod dehydrated;
pub mod delayed;
pub mod devices;
pub mod directory;
pub mod discovery;
pub mod filters;
pub mod friends;
pub mod guests;
pub mod key_backup;
pub mod keys;
pub mod media;
pub mod membership;
pub mod messages;
pub mod oauth;
pub mod openid;
pub mod peeking;
pub mod presence;
pub mod profile;
pub mod push_rules;
pub mod pushers;
pub mod receipts;
pub mod registration;
pub mod relations;
pub mod rendezvous;
pub mod reporting;
pub mod rooms;
pub mod search;
pub mod session;
pub mod sliding;
pub mod spaces;
pub mod state;
pub mod sync;
pub mod threepids;
pub mod to_device;
pub mod typing;
pub mod websocket;

use ruma::api::client::{
    authenticated_media::{get_content, get_content_as_filename, get_content_thumbnail},
    media::{self as old_media, create_content},
};

use ::http::Method;

use crate::{
    error::{Error, Result},
    http::Router,
};

/// All endpoints that clients use.
pub fn routes() -> Router {
    let mut router = Router::default();
    router.route_raw(discovery::versions).route_raw(discovery::well_known_client).route(discovery::well_known_support);
    account_routes(&mut router);
    personal_routes(&mut router);
    room_routes(&mut router);
    key_routes(&mut router);
    oauth::routes(&mut router);
    friends::routes(&mut router);
    search::routes(&mut router);
    admin::routes(&mut router);
    threepids::routes(&mut router);
    calls::routes(&mut router);
    delayed::routes(&mut router);
    account_data::routes(&mut router);
    peeking::routes(&mut router);
    rendezvous::routes(&mut router);
    sliding::routes(&mut router);
    appservice::routes(&mut router);
    spaces::routes(&mut router);
    pushers::routes(&mut router);
    router.route_raw(sync::sync).plain(Method::GET, websocket::PATH, websocket::open);
    media_routes(&mut router);
    router
}

fn account_routes(router: &mut Router) {
    router
        .route(session::login_types)
        .route(session::login)
        .route(session::login_token)
        .route(session::refresh)
        .route(session::logout)
        .route(session::logout_all)
        .route(session::whoami)
        .route_raw(registration::register)
        .route(registration::available)
        .route(registration::token_validity)
        .route(account::change_password)
        .route(account::deactivate)
        .route(account::third_party_ids)
        .route(openid::request_token)
        .route_raw(account::capabilities)
        .route(devices::devices)
        .route(devices::device)
        .route_raw(devices::rename)
        .route(devices::delete)
        .route(devices::delete_many)
        .route_raw(calls::turn_server);
}

fn personal_routes(router: &mut Router) {
    router
        .route_raw(profile::profile)
        .alias_raw("/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}", profile::profile)
        .route_raw(profile::field)
        .route(profile::set_field)
        .route(profile::remove_field)
        .route(presence::set)
        .route(presence::status)
        .route_raw(account_data::global)
        .route_raw(account_data::of_room)
        .route(account_data::set_global)
        .route(account_data::set_of_room)
        .route_raw(account_data::tags)
        .route(account_data::tag)
        .route(account_data::untag)
        .route(filters::create)
        .route_raw(filters::filter)
        .route_raw(push_rules::all)
        .alias_raw("/_matrix/client/v3/pushrules", push_rules::all)
        .route_raw(push_rules::global)
        .alias_raw("/_matrix/client/v3/pushrules/global", push_rules::global)
        .route(push_rules::rule)
        .route(push_rules::put)
        .route(push_rules::remove)
        .route(push_rules::enabled)
        .route(push_rules::enable)
        .route(push_rules::actions)
        .route(push_rules::set_actions);
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
        .route_raw(delayed::send_message)
        .route(messages::redact_event)
        .route(messages::room_event)
        .route(messages::messages)
        .route(messages::context)
        .route(search::people)
        .route(messages::event_at_time)
        .route(reporting::event)
        .route(reporting::room)
        .route(reporting::user)
        .route(relations::all)
        .route(relations::of_relation)
        .route(relations::of_type)
        .route(relations::threads)
        .route(receipts::set_receipt)
        .route(receipts::set_read_markers)
        .route(typing::set_typing)
        .route_raw(delayed::set_state)
        .alias_raw("/_matrix/client/v3/rooms/{room_id}/state/{event_type}", delayed::set_state)
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

fn key_routes(router: &mut Router) {
    router
        .route(keys::upload)
        .route(keys::query)
        .route(keys::claim)
        .route(keys::changes)
        .route(keys::upload_cross_signing)
        .route(keys::sign)
        .route_raw(key_backup::latest)
        .route_raw(key_backup::version)
        .route(key_backup::create)
        .route(key_backup::update)
        .route(key_backup::delete)
        .route_raw(key_backup::put_all)
        .route_raw(key_backup::put_of_room)
        .route_raw(key_backup::put_one)
        .route_raw(key_backup::all)
        .route_raw(key_backup::of_room)
        .route_raw(key_backup::one)
        .route_raw(key_backup::remove_all)
        .route_raw(key_backup::remove_of_room)
        .route_raw(key_backup::remove_one)
        .route(to_device::send);
    dehydrated::routes(router);
}

#[expect(deprecated, reason = "the unauthenticated endpoints are answered too")]
fn media_routes(router: &mut Router) {
    router
        .stream::<create_content::v3::Request, _, _>(media::upload)
        .stream::<old_media::create_content_async::v3::Request, _, _>(media::fulfil)
        .route(media::announce)
        .route_raw(media::preview)
        .alias_raw("/_matrix/media/v3/preview_url", media::preview)
        .stream::<get_content::v1::Request, _, _>(media::download)
        .stream::<get_content_as_filename::v1::Request, _, _>(media::download)
        .stream::<get_content_thumbnail::v1::Request, _, _>(media::thumbnail)
        .route(media::config)
        .route(media::old_config)
        .stream::<old_media::get_content::v3::Request, _, _>(media::old_download)
        .stream::<old_media::get_content_as_filename::v3::Request, _, _>(media::old_download)
        .stream::<old_media::get_content_thumbnail::v3::Request, _, _>(media::old_thumbnail);
}

/// Runs what takes more than a moment where it keeps no other request waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
