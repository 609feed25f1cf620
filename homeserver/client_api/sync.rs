//! Syncing by long-poll. spec: client-server-api#syncing

use std::sync::Arc;

use http::{Method, StatusCode};
use ruma::{
    api::{
        IncomingRequest, Metadata, auth_scheme::AccessToken, client::sync::sync_events::v3, error::DeserializationError,
    },
    presence::PresenceState,
};

use crate::{
    app::App,
    error::Result,
    http::{Reply, Session, reply, router},
    sync::{self, Ask, StateAt},
};

/// The request, with what only older clients ask for.
pub struct Request {
    known: Box<v3::Request>,
    filter: Option<String>,
    unstable_state_after: bool,
}

impl Request {
    /// What the client wants its owner to be seen as.
    pub fn presence(&self) -> PresenceState {
        self.known.set_presence.clone()
    }
}

impl Metadata for Request {
    const METHOD: Method = v3::Request::METHOD;
    const RATE_LIMITED: bool = v3::Request::RATE_LIMITED;
    type Authentication = AccessToken;
    type PathBuilder = <v3::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = v3::Request::PATH_BUILDER;
}

impl IncomingRequest for Request {
    type EndpointError = <v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = <v3::Request as IncomingRequest>::OutgoingResponse;

    fn try_from_http_request_inner(
        mut request: http::Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (mut filter, mut unstable_state_after, mut rest) = (None, false, Vec::new());
        for parameter in request.uri().query().unwrap_or_default().split('&') {
            match parameter.split_once('=') {
                // Taken out, as it is parsed once for all who have the same one.
                Some(("filter", value)) => filter = Some(text(value)),
                Some(("org.matrix.msc4222.use_state_after", value)) => unstable_state_after = value == "true",
                _ => rest.push(parameter),
            }
        }
        *request.uri_mut() = format!("/?{}", rest.join("&")).parse().unwrap_or_default();
        let known = Box::new(v3::Request::try_from_http_request_inner(request, arguments)?);
        Ok(Self { known, filter, unstable_state_after })
    }
}

/// A query value as text. What is no UTF-8 is no filter's ID either.
fn text(value: &str) -> String {
    router::decode(&value.replace('+', " ")).unwrap_or_else(|| char::REPLACEMENT_CHARACTER.into())
}

/// `GET /_matrix/client/v3/sync`. What waits is a future that holds as little as it can: thousands of
/// them are parked at once.
pub fn sync(app: Arc<App>, session: Session, request: Request) -> impl Future<Output = Result<Reply>> + Send {
    let (timeout, presence) = (request.known.timeout.unwrap_or_default(), request.presence());
    let ask = ask(&app, &session, request).map(Arc::new);
    let syncing = app.presence.syncing(&session.user, session.device.as_str(), &presence);
    let hub = app.hub.clone();
    async move {
        let body = sync::sync(&hub, ask?, timeout).await?;
        drop(syncing);
        Ok(reply::json_with(StatusCode::OK, body))
    }
}

/// What a request asks for.
pub fn ask(app: &App, session: &Session, request: Request) -> Result<Ask> {
    let Request { known, filter, unstable_state_after } = request;
    let state_at = match (known.use_state_after, unstable_state_after) {
        (true, _) => StateAt::End,
        (false, true) => StateAt::UnstableEnd,
        (false, false) => StateAt::Start,
    };
    Ok(Ask {
        user: session.user.clone(),
        device: session.device.clone(),
        since: known.since.filter(|since| !since.is_empty()).map(|since| since.parse()).transpose()?,
        filter: sync::filter(&app.hub, &session.user, filter.as_deref())?,
        full_state: known.full_state,
        state_at,
        lane: 0,
    })
}
