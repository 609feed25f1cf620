//! Typing notifications. spec: client-server-api#typing-notifications

use std::sync::Arc;

use ruma::api::client::typing::create_typing_event::{self, v3::Typing};

use crate::{app::App, error::Result, http::Session, limits::Bucket, rooms::Room};

/// `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
pub async fn set_typing(
    app: Arc<App>,
    session: Session,
    request: create_typing_event::v3::Request,
) -> Result<create_typing_event::v3::Response> {
    session.owns(&request.user_id)?;
    app.limits.take(Bucket::Presence, &session.user)?;
    let room = app.store.read(|tx| Ok(Room::of_member(tx, &request.room_id, &session.user)?.num))?;
    let changed = match request.state {
        Typing::Yes(info) => app.hub.typing.start(room, &session.user, info.timeout),
        Typing::No => app.hub.typing.stop(room, &session.user),
    };
    if changed {
        app.hub.notifier.ring_room(room);
    }
    Ok(create_typing_event::v3::Response::new())
}
