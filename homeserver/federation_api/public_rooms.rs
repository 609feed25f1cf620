//! Our directory of public rooms, for other servers. spec: server-server-api#public-room-directory

use std::sync::Arc;

use ruma::api::federation::directory::{get_public_rooms::v1 as list, get_public_rooms_filtered::v1 as search};

use super::blocking;
use crate::{
    app::App,
    error::Result,
    http::Origin,
    rooms::directory::{self, Asked, List},
};

/// `GET /_matrix/federation/v1/publicRooms`
pub async fn public_rooms(app: Arc<App>, _: Origin, request: list::Request) -> Result<list::Response> {
    let network = request.room_network.into();
    let asked = Asked { since: request.since, limit: request.limit, network, ..Asked::default() };
    let List { rooms, next, prev, total } = blocking(move || app.store.read(|tx| directory::list(tx, &asked))).await?;
    let mut response = list::Response::new();
    (response.chunk, response.next_batch, response.prev_batch) = (rooms, next, prev);
    response.total_room_count_estimate = total.try_into().ok();
    Ok(response)
}

/// `POST /_matrix/federation/v1/publicRooms`
pub async fn search_public_rooms(app: Arc<App>, _: Origin, request: search::Request) -> Result<search::Response> {
    let asked = Asked {
        since: request.since,
        limit: request.limit,
        term: request.filter.generic_search_term,
        types: request.filter.room_types,
        network: request.room_network.into(),
    };
    let List { rooms, next, prev, total } = blocking(move || app.store.read(|tx| directory::list(tx, &asked))).await?;
    let mut response = search::Response::new();
    (response.chunk, response.next_batch, response.prev_batch) = (rooms, next, prev);
    response.total_room_count_estimate = total.try_into().ok();
    Ok(response)
}
