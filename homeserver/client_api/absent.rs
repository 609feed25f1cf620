//! What this server does not have and clients ask for when they start: answered as the spec wants it
//! from a server without.

use std::sync::Arc;

use ruma::api::client::voip::get_turn_server_info;
use serde_json::json;

use crate::{
    app::App,
    error::Result,
    http::{Reply, Session, reply},
};

/// `GET /_matrix/client/v3/voip/turnServer`
pub async fn turn_server(_: Arc<App>, _: Session, _: get_turn_server_info::v3::Request) -> Result<Reply> {
    reply::json(&json!({}))
}
