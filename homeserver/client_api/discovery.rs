//! What this server is and can do. spec: client-server-api#api-versions, #well-known-uris

use std::sync::Arc;

use ruma::api::client::discovery::{
    discover_homeserver,
    discover_support::{self, Contact, ContactRole},
    get_supported_versions,
};

use serde_json::{Map, Value, json};

use super::calls;
use crate::{
    app::App,
    error::{Error, Result},
    http::{Caller, Reply, Session, reply},
};

/// The versions whose musts are met. Clients look for one they know among all of them.
/// What those after v1.11 ask for, and by which test it is held, is in `spec/versions.md`.
const VERSIONS: [&str; 19] = [
    "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12", "v1.13",
    "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// Extensions and earlier names of what the versions include, which clients still look for.
const FEATURES: &[&str] = &[
    "net.zemos.msc4383",
    "org.matrix.e2e_cross_signing",
    "org.matrix.msc3916.stable",
    "org.matrix.msc2285.stable",
    "org.matrix.msc3391",
    "org.matrix.msc3440.stable",
    "org.matrix.msc3814",
    "org.matrix.msc3827.stable",
    "org.matrix.msc3874",
    "org.matrix.msc3881",
    "org.matrix.msc4140",
    "org.matrix.msc4143",
    "org.matrix.msc4108",
    "org.matrix.msc4155",
    "org.matrix.msc4222",
    "org.matrix.msc4380.stable",
    "org.matrix.msc4486",
    "org.matrix.simplified_msc3575",
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "uk.tcpip.msc4133",
    "uk.tcpip.msc4133.stable",
    "chat.hearth.ws",
    "chat.hearth.friends",
    "chat.hearth.push",
];

/// `GET /_matrix/client/versions`, with which server this is (MSC4383).
pub async fn versions(_: Arc<App>, _: (Caller, Option<Session>), _: get_supported_versions::Request) -> Result<Reply> {
    let features: Map<String, Value> = FEATURES.iter().map(|name| ((*name).to_owned(), true.into())).collect();
    reply::json(&json!({
        "versions": VERSIONS,
        "unstable_features": features,
        "net.zemos.msc4383.server": { "name": "Hearth", "version": env!("CARGO_PKG_VERSION") },
    }))
}

/// `GET /.well-known/matrix/client`
pub async fn well_known_client(app: Arc<App>, _: Caller, _: discover_homeserver::Request) -> Result<Reply> {
    let mut known = json!({ "m.homeserver": { "base_url": app.config.base_url() } });
    let foci = calls::foci(&app.config.calls);
    if !foci.is_empty() {
        known["org.matrix.msc4143.rtc_foci"] = foci.into();
    }
    reply::json(&known)
}

/// `GET /.well-known/matrix/support`
pub async fn well_known_support(
    app: Arc<App>,
    _: Caller,
    _: discover_support::Request,
) -> Result<discover_support::Response> {
    let support = &app.config.support;
    let mut contacts = Vec::new();
    if let Some(email) = &support.email {
        contacts.push(Contact::with_email_address(ContactRole::Admin, email.clone()));
    }
    if let Some(id) = &support.matrix_id {
        contacts.push(Contact::with_matrix_id(ContactRole::Admin, id.clone()));
    }
    if contacts.is_empty() && support.page.is_none() {
        return Err(Error::not_found("this server does not say whom to turn to"));
    }
    let mut response = discover_support::Response::with_contacts(contacts);
    response.support_page = support.page.clone();
    Ok(response)
}
