//! People of ours are invited to rooms of other servers. spec: server-server-api#inviting-to-a-room

use std::sync::Arc;

use ruma::{
    EventId, OwnedUserId, RoomId, RoomVersionId,
    api::federation::membership::create_invite::{v1 as send_old_invite, v2 as send_invite},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    app::App,
    error::{Error, Result},
    federation::invite::Brought,
    http::{Bucket, Loose, Origin, Reply, reply},
    rooms::handshake,
};

/// What a request says, of which older servers leave out the last.
#[derive(Deserialize)]
pub struct Body {
    room_version: RoomVersionId,
    event: Box<RawValue>,
    #[serde(default)]
    invite_room_state: Vec<Box<RawValue>>,
}

/// Who is invited, whom an application service may be about to make.
#[derive(Deserialize)]
struct Guest {
    state_key: OwnedUserId,
}

/// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
pub async fn send(app: Arc<App>, origin: Origin, request: Loose<send_invite::Request, Body>) -> Result<Reply> {
    app.limits.take(Bucket::InviteFrom, &origin.server)?;
    let Body { room_version: version, event, invite_room_state: told } = request.body;
    let [room, id] = &request.path[..] else { return Err(Error::internal("the path has two arguments")) };
    let room = RoomId::parse(room).map_err(|_| Error::invalid_param("this is no room ID"))?;
    let id = EventId::parse(id).map_err(|_| Error::invalid_param("this is no event ID"))?;
    if let Ok(Guest { state_key }) = serde_json::from_str(event.get()) {
        app.services.seek_user(&app.store, &state_key).await?;
    }
    let signed = app.federation.take_invite(&origin.server, Brought { room, id, version, event, told }).await?;
    reply::json(&serde_json::json!({ "event": signed }))
}

/// `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`: for room versions 1 and 2 alone, of which none is
/// spoken here.
pub async fn send_old(_: Arc<App>, _: Origin, _: Loose<send_old_invite::Request, IgnoredAny>) -> Result<Reply> {
    Err(handshake::incompatible(&RoomVersionId::V1))
}
