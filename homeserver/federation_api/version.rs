//! What this server is, and where it is. spec: server-server-api#server-discovery

use std::sync::Arc;

use ruma::api::federation::discovery::{discover_homeserver, get_server_version::v1 as get_version};

use crate::{
    app::App,
    error::{Error, Result},
    http::Caller,
};

/// `GET /_matrix/federation/v1/version`
pub async fn version(_: Arc<App>, _: Caller, _: get_version::Request) -> Result<get_version::Response> {
    let mut server = get_version::Server::new();
    server.name = Some("Hearth".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut response = get_version::Response::new();
    response.server = Some(server);
    Ok(response)
}

/// `GET /.well-known/matrix/server`
pub async fn well_known_server(
    app: Arc<App>,
    _: Caller,
    _: discover_homeserver::Request,
) -> Result<discover_homeserver::Response> {
    let address = app.config.delegated().ok_or_else(|| Error::not_found("this server is where its name says"))?;
    Ok(discover_homeserver::Response::new(address))
}
