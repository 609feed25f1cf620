//! Simplified sliding sync (MSC4186), as the Matrix Rust SDK and Element X use it.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use ruma::{
    api::{
        IncomingRequest, Metadata, auth_scheme::AccessToken, client::sync::sync_events::v5, error::DeserializationError,
    },
    presence::PresenceState,
};

use crate::{
    app::App,
    error::Result,
    http::{Bucket, Reply, Router, Session, reply},
    sync::sliding::{self, Asked, wish::Wish},
};

/// Adds the route.
pub fn routes(router: &mut Router) {
    router.route_raw(sync);
}

/// The request: parameters by ruma's type, the body by our own, which knows more filters and the newer
/// form of ranges.
pub struct Request {
    pos: Option<String>,
    timeout: Duration,
    presence: PresenceState,
    wish: Wish,
}

impl Metadata for Request {
    const METHOD: Method = v5::Request::METHOD;
    const RATE_LIMITED: bool = v5::Request::RATE_LIMITED;
    type Authentication = AccessToken;
    type PathBuilder = <v5::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = v5::Request::PATH_BUILDER;
}

impl IncomingRequest for Request {
    type EndpointError = <v5::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = <v5::Request as IncomingRequest>::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (head, body) = request.into_parts();
        let wish: Wish = serde_json::from_slice(body)?;
        let known = v5::Request::try_from_http_request_inner(http::Request::from_parts(head, &b"{}"[..]), arguments)?;
        Ok(Self { pos: known.pos, timeout: known.timeout.unwrap_or_default(), presence: known.set_presence, wish })
    }
}

/// `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`
pub async fn sync(app: Arc<App>, session: Session, request: Request) -> Result<Reply> {
    let Request { pos, timeout, presence, wish } = request;
    wish.check()?;
    if pos.is_none() {
        // A beginning takes work; going on does not.
        app.limits.take(Bucket::Costly, &session.user)?;
    }
    let syncing = app.presence.syncing(&session.user, session.device.as_str(), &presence);
    let asked = Asked { user: session.user, device: session.device, pos, timeout, wish };
    let body = sliding::sync(&app.hub, asked).await?;
    drop(syncing);
    Ok(reply::json_with(StatusCode::OK, body))
}
