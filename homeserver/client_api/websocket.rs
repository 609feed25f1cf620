//! The WebSocket: sync frames as they come to be, and requests that are answered by their IDs. Its rules
//! are those of the HTTP endpoints, whose handlers it calls. See spec/websocket.md.

mod conversation;
mod messages;
mod requests;

pub use messages::{Message, read as read_message};
pub use requests::check as check_request;

use std::sync::Arc;

use http::HeaderMap;
use ruma::api::IncomingRequest;

use super::sync::{self, Request};
use crate::{
    app::App,
    error::{Error, Result},
    http::{Call, Peer, Reply, Session, admit, websocket},
};
use conversation::Conversation;

/// Where it is.
pub const PATH: &str = "/_matrix/client/unstable/chat.hearth.ws/sync";
/// What is spoken.
const PROTOCOL: &str = "hearth.sync.v1";
/// What comes before a token that is given as a protocol, as browsers have to.
const TOKEN: &str = "hearth.token.";

/// `GET /_matrix/client/unstable/chat.hearth.ws/sync`
pub async fn open(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    let headers = call.headers();
    if !websocket::is_from_here(headers, &app.config.base_url()) {
        return Err(Error::forbidden("pages of other sites may not open this WebSocket"));
    }
    let (peer, token) = (Peer::of(&call), token(headers)?.to_owned());
    let session = admit::session(&app, &token, peer).await?;
    let protocol = websocket::offered(headers).any(|offered| offered == PROTOCOL).then_some(PROTOCOL);
    let (ask, presence) = ask(&app, &session, &call)?;
    let place = app.hub.sockets.enter(&session.user, app.config.max_connections)?;
    let (reply, socket) = websocket::accept(call, protocol)?;
    tokio::spawn(async move {
        let Some(socket) = socket.await else { return };
        let _syncing = app.presence.syncing(&session.user, session.device.as_str(), &presence);
        let conversation = Conversation::new(app, session, (token, peer), ask);
        let (code, reason, socket) = conversation.hold(socket).await;
        socket.close(code, reason).await;
        drop(place);
    });
    Ok(reply)
}

/// The access token: in the header, or among the protocols. Never in the query.
fn token(headers: &HeaderMap) -> Result<&str> {
    let offered = || websocket::offered(headers).find_map(|offered| offered.strip_prefix(TOKEN));
    admit::bearer(headers).or_else(offered).ok_or_else(Error::missing_token)
}

fn ask(app: &App, session: &Session, call: &Call) -> Result<(crate::sync::Ask, ruma::presence::PresenceState)> {
    let mut request = http::Request::new(&[][..]);
    *request.uri_mut() = call.uri().clone();
    let request =
        Request::try_from_http_request_inner(request, &[]).map_err(|error| Error::invalid_param(error.to_string()))?;
    let presence = request.presence();
    Ok((sync::ask(app, session, request)?, presence))
}
