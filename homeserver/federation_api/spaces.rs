//! What other servers may know of our spaces. spec: server-server-api#spaces

use std::sync::Arc;

use ruma::api::federation::space::get_hierarchy::v1 as get_hierarchy;

use super::blocking;
use crate::{
    app::App,
    error::Result,
    http::{Origin, Reply, reply},
    rooms::hierarchy,
};

/// `GET /_matrix/federation/v1/hierarchy/{roomId}`
pub async fn hierarchy(app: Arc<App>, origin: Origin, request: get_hierarchy::Request) -> Result<Reply> {
    let wanted = (request.room_id, request.suggested_only);
    let told = move || app.store.read(|tx| hierarchy::for_server(tx, &app.me, (&wanted.0, wanted.1), &origin.server));
    reply::json(&blocking(told).await?)
}
