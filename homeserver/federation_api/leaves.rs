//! People of other servers go out of our rooms, or don't want to come in.
//! spec: server-server-api#leaving-rooms-rejecting-invites

use std::sync::Arc;

use ruma::api::federation::membership::{create_leave_event::v2 as send_leave, prepare_leave_event::v1 as make_leave};

use crate::{
    app::App,
    error::Result,
    http::Origin,
    rooms::handshake::{HandedIn, Step},
};

/// `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
pub async fn make(app: Arc<App>, origin: Origin, request: make_leave::Request) -> Result<make_leave::Response> {
    origin.owns(&request.user_id)?;
    let asked = (&*request.room_id, &*request.user_id);
    let (version, event) = app.federation.template(&origin.server, asked, (Step::Leave, None))?;
    Ok(make_leave::Response::new(Some(version), event))
}

/// `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
pub async fn send(app: Arc<App>, origin: Origin, request: send_leave::Request) -> Result<send_leave::Response> {
    let (room, event) = (&*request.room_id, &*request.event_id);
    let asked = HandedIn { origin: &origin.server, room, event, step: Step::Leave };
    app.federation.take_in(asked, &request.pdu).await?;
    Ok(send_leave::Response::new())
}
