//! What this server does not have and clients ask for when they start: answered as the spec wants it
//! from a server without.

use std::{collections::BTreeMap, sync::Arc};

use ruma::api::client::{thirdparty::get_protocols, voip::get_turn_server_info};
use serde_json::json;

use crate::{
    app::App,
    error::Result,
    http::{Reply, Session, reply},
};

/// `GET /_matrix/client/v3/thirdparty/protocols`
pub async fn protocols(_: Arc<App>, _: Session, _: get_protocols::v3::Request) -> Result<get_protocols::v3::Response> {
    Ok(get_protocols::v3::Response::new(BTreeMap::new()))
}

/// `GET /_matrix/client/v3/voip/turnServer`
pub async fn turn_server(_: Arc<App>, _: Session, _: get_turn_server_info::v3::Request) -> Result<Reply> {
    reply::json(&json!({}))
}
