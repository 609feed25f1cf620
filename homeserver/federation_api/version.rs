//! What this server is, where it is, and what it does not know. spec: server-server-api#server-discovery

use std::sync::Arc;

use ruma::api::federation::{
    discovery::{discover_homeserver, get_server_version::v1 as get_version},
    query::get_custom_information::v1 as get_custom,
};

use crate::{
    app::App,
    error::{Error, Result},
    http::{Caller, Origin},
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

/// `GET /_matrix/federation/v1/query/{queryType}`: queries of kinds that nobody has agreed with us on.
pub async fn query(_: Arc<App>, _: Origin, request: get_custom::Request) -> Result<get_custom::Response> {
    let kind: String = request.query_type.chars().take(100).collect();
    Err(Error::not_found(format!("this server knows no queries of the kind {kind:?}")))
}
