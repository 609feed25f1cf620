//! Typing notifications. spec: client-server-api#typing-notifications

use std::{sync::Arc, time::Duration};

use ruma::{RoomId, UserId, api::client::typing::create_typing_event};
use serde::Deserialize;

use crate::{
    app::App,
    error::{Error, Result},
    federation::fleeting::Fleeting,
    http::{Loose, Session},
    limits::Bucket,
    rooms::Room,
};

/// How long somebody types who does not say it.
const TIMEOUT_MS: u64 = 30_000;

/// Whether somebody types. The type in ruma wants a timeout, which the spec does not.
#[derive(Deserialize)]
pub struct Typing {
    typing: bool,
    /// For how long, in milliseconds.
    timeout: Option<u64>,
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
pub async fn set_typing(
    app: Arc<App>,
    session: Session,
    request: Loose<create_typing_event::v3::Request, Typing>,
) -> Result<create_typing_event::v3::Response> {
    let [room, user] = &request.path[..] else { return Err(Error::unrecognized()) };
    let room = <&RoomId>::try_from(room.as_str()).map_err(|_| Error::invalid_param("this is no room ID"))?;
    let user = <&UserId>::try_from(user.as_str()).map_err(|_| Error::invalid_param("this is no user ID"))?;
    session.owns(user)?;
    set(&app, &session, room, &request.body)?;
    Ok(create_typing_event::v3::Response::new())
}

/// Notes it, and tells those who are in the room.
pub fn set(app: &App, session: &Session, room: &RoomId, asked: &Typing) -> Result<()> {
    app.limits.take(Bucket::Presence, &session.user)?;
    let Room { num, row } = app.store.read(|tx| Room::of_member(tx, room, &session.user))?;
    let changed = match asked.typing {
        true => {
            let timeout = Duration::from_millis(asked.timeout.unwrap_or(TIMEOUT_MS));
            app.hub.typing.start(num, &session.user, timeout)
        }
        false => app.hub.typing.stop(num, &session.user),
    };
    if changed {
        app.hub.notifier.ring_room(num);
    }
    // Others are told again that somebody goes on typing: they forget it otherwise.
    if row.servers > 1 && (changed || asked.typing) {
        app.federation.outbox.tell_room(num, &Fleeting::Typing(room.to_owned(), session.user.clone(), asked.typing))?;
    }
    Ok(())
}
