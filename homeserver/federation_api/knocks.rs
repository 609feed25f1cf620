//! People of other servers knock on our rooms. spec: server-server-api#knocking-rooms

use std::sync::Arc;

use ruma::api::federation::membership::{
    RawStrippedState, create_knock_event::v1 as send_knock, prepare_knock_event::v1 as make_knock,
};

use crate::{
    app::App,
    error::Result,
    http::Origin,
    rooms::{
        handshake::{HandedIn, Step},
        stripped,
    },
};

/// `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`
pub async fn make(app: Arc<App>, origin: Origin, request: make_knock::Request) -> Result<make_knock::Response> {
    origin.owns(&request.user_id)?;
    let asked = (&*request.room_id, &*request.user_id);
    let (version, event) = app.federation.template(&origin.server, asked, (Step::Knock, Some(&request.ver[..])))?;
    Ok(make_knock::Response::new(version, event))
}

/// `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
pub async fn send(app: Arc<App>, origin: Origin, request: send_knock::Request) -> Result<send_knock::Response> {
    let (room, event) = (&*request.room_id, &*request.event_id);
    let asked = HandedIn { origin: &origin.server, room, event, step: Step::Knock };
    let taken = app.federation.take_in(asked, &request.pdu).await?;
    let told = app.store.read(|tx| stripped::for_server(tx, taken.before, taken.event.pdu()))?;
    Ok(send_knock::Response::new(told.into_iter().map(RawStrippedState::Pdu).collect()))
}
