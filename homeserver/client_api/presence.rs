//! Presence. spec: client-server-api#presence

use std::{sync::Arc, time::Duration};

use ruma::{
    UserId,
    api::client::presence::{get_presence, set_presence},
    presence::PresenceState,
};

use crate::{
    app::App,
    error::{Error, Result},
    http::{Bucket, Session},
    rooms::members,
    store::Read,
};

/// `PUT /_matrix/client/v3/presence/{userId}/status`
pub async fn set(
    app: Arc<App>,
    session: Session,
    request: set_presence::v3::Request,
) -> Result<set_presence::v3::Response> {
    session.owns(&request.user_id)?;
    app.limits.take(Bucket::Presence, &session.user)?;
    app.presence.set(&session.user, session.device.as_str(), request.presence, request.status_msg)?;
    Ok(set_presence::v3::Response::new())
}

/// `GET /_matrix/client/v3/presence/{userId}/status`
pub async fn status(
    app: Arc<App>,
    session: Session,
    request: get_presence::v3::Request,
) -> Result<get_presence::v3::Response> {
    let user = &request.user_id;
    if session.owns(user).is_err() && !app.store.read(|tx| share_room(tx, &session.user, user))? {
        return Err(Error::forbidden("you share no room with this user"));
    }
    let Some(status) = app.presence.of(user) else {
        return Ok(get_presence::v3::Response::new(PresenceState::Offline));
    };
    let mut response = get_presence::v3::Response::new(status.state);
    response.currently_active = Some(status.currently_active);
    response.last_active_ago = status.last_active_ago.map(Duration::from_millis);
    response.status_msg = status.message;
    Ok(response)
}

fn share_room(tx: &impl Read, one: &UserId, other: &UserId) -> Result<bool> {
    for room in members::joined_rooms(tx, one)? {
        if members::is_joined(tx, room, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}
