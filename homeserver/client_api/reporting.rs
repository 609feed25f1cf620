//! Reporting what the server's people should look at. spec: client-server-api#reporting-content

use std::sync::Arc;

use ruma::api::client::{
    reporting::report_user,
    room::{report_content, report_room},
};

use crate::{
    accounts::users,
    app::App,
    error::{Error, Result},
    http::{Bucket, Session},
    rooms::{
        Room, admins,
        event::{self, Slices},
        reports::{self, Report},
        timeline::View,
    },
    store::WriteTx,
};

/// `POST /_matrix/client/v3/rooms/{roomId}/report/{eventId}`
pub async fn event(
    app: Arc<App>,
    session: Session,
    request: report_content::v3::Request,
) -> Result<report_content::v3::Response> {
    let sender = app.store.read(|tx| {
        let unknown = || Error::not_found("there is no such event, or you are not in the room");
        let room = Room::of_member(tx, &request.room_id, &session.user).map_err(|_| unknown())?;
        let (pos, row) = event::shown(tx, room.num, &request.event_id)?.ok_or_else(unknown)?;
        let slices = Slices::of(&row)?;
        match View::new(tx, &room, &session.user, None)?.sight.may_see(tx, pos, &row, &slices)? {
            true => Ok(slices.sender.into_owned()),
            false => Err(unknown()),
        }
    })?;
    let report = Report {
        reporter: session.user.to_string(),
        reason: request.reason.unwrap_or_default(),
        room: Some(request.room_id.to_string()),
        event: Some(request.event_id.to_string()),
        user: Some(sender),
    };
    keep(&app, &session, report).await?;
    Ok(report_content::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/report`
pub async fn room(
    app: Arc<App>,
    session: Session,
    request: report_room::v3::Request,
) -> Result<report_room::v3::Response> {
    // Whether there is such a room is nobody's business: what is not known here is not kept, and the answer is
    // the same.
    let known = app.store.read(|tx| Ok(Room::find(tx, &request.room_id)?.is_some()))?;
    let report = Report {
        reporter: session.user.to_string(),
        reason: request.reason,
        room: Some(request.room_id.to_string()),
        event: None,
        user: None,
    };
    match known {
        true => keep(&app, &session, report).await?,
        false => app.limits.take(Bucket::Report, &session.user)?,
    }
    Ok(report_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/users/{userId}/report`
pub async fn user(
    app: Arc<App>,
    session: Session,
    request: report_user::v3::Request,
) -> Result<report_user::v3::Response> {
    let ours = app.me.owns(&request.user_id);
    let known = !ours || app.store.read(|tx| Ok(users::lookup(tx, &request.user_id)?.is_some()))?;
    let report = Report {
        reporter: session.user.to_string(),
        reason: request.reason,
        room: None,
        event: None,
        user: Some(request.user_id.to_string()),
    };
    match known {
        true => keep(&app, &session, report).await?,
        false => app.limits.take(Bucket::Report, &session.user)?,
    }
    Ok(report_user::v3::Response::new())
}

/// Keeps a report, and tells the administrators that there is one; not what it says.
async fn keep(app: &App, session: &Session, report: Report) -> Result<()> {
    app.limits.take(Bucket::Report, &session.user)?;
    let me = app.me.clone();
    let work = move |tx: &WriteTx| {
        reports::add(tx, &report)?;
        let about = match (&report.event, &report.room, &report.user) {
            (Some(_), Some(room), Some(user)) => format!("a message by {user} in {room}"),
            (_, Some(room), _) => format!("the room {room}"),
            (.., user) => user.clone().unwrap_or_default(),
        };
        admins::tell(tx, &me, &format!("{} reported {about}.", report.reporter))
    };
    app.store.write(work).await
}
