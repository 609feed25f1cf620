//! The account itself: its password and its end; and what the server offers it.
//! spec: client-server-api#account-management, #capabilities-negotiation

use std::sync::Arc;

use ruma::{
    UserId,
    api::client::{
        account::{ThirdPartyIdRemovalStatus, change_password, deactivate, get_3pids},
        discovery::get_capabilities,
    },
};
use serde_json::{Map, Value, json};

use super::{devices, key_backup};
use crate::{
    accounts::{passwords, sessions, users},
    app::App,
    e2ee,
    error::{Error, Result},
    http::{Bucket, Caller, Guarded, Reply, Session, reply, uia},
    media::uploads,
    rooms::{Room, admins, delayed, members, room},
};

/// `POST /_matrix/client/v3/account/password`
pub async fn change_password(
    app: Arc<App>,
    (_, session): (Caller, Option<Session>),
    asked: Guarded<change_password::v3::Request>,
) -> Result<change_password::v3::Response> {
    // Without a session it would take an e-mail address to prove who one is.
    let session = session.ok_or_else(Error::missing_token)?;
    app.limits.take(Bucket::Other, &session.user)?;
    passwords::check_new(&asked.request.new_password)?;
    uia::require(&app, &session, &asked).await?;
    let hash = app.hasher.hash(asked.request.new_password).await?;
    let change = move |tx: &_| {
        users::set_password(tx, &session.user, hash.clone())?;
        if asked.request.logout_devices {
            let ended = sessions::end_all(tx, &session.user, Some(session.device.as_str()))?;
            devices::ended(tx, &session.user, &ended)?;
        }
        Ok(())
    };
    app.store.write(change).await?;
    Ok(change_password::v3::Response::new())
}

/// `POST /_matrix/client/v3/account/deactivate`
pub async fn deactivate(
    app: Arc<App>,
    (_, session): (Caller, Option<Session>),
    asked: Guarded<deactivate::v3::Request>,
) -> Result<deactivate::v3::Response> {
    let session = session.ok_or_else(Error::missing_token)?;
    app.limits.take(Bucket::Other, &session.user)?;
    uia::require(&app, &session, &asked).await?;
    close(&app, &session.user, asked.request.erase).await?;
    Ok(deactivate::v3::Response::new(ThirdPartyIdRemovalStatus::Success))
}

/// Closes an account for good.
pub(super) async fn close(app: &App, user: &UserId, erase: bool) -> Result<()> {
    leave_rooms(app, user).await?;
    let (me, owner) = (app.me.clone(), user.to_owned());
    let close = move |tx: &_| {
        let ended = users::deactivate(tx, &owner, erase)?;
        devices::ended(tx, &owner, &ended)?;
        e2ee::forget_user(tx, &owner)?;
        delayed::forget(tx, &owner)?;
        if erase {
            uploads::forget(tx, &owner)?;
        }
        admins::keep(tx, &me, &owner)
    };
    app.store.write(close).await?;
    app.media.stir();
    key_backup::sweep(app, user.to_owned());
    Ok(())
}

/// Forgets a guest's account. What they said in rooms stays.
pub(super) async fn forget_guest(app: &App, user: &UserId) -> Result<()> {
    leave_rooms(app, user).await?;
    let owner = user.to_owned();
    let forget = move |tx: &_| {
        let ended = users::forget_guest(tx, &owner)?;
        devices::ended(tx, &owner, &ended)?;
        e2ee::forget_user(tx, &owner)
    };
    app.store.write(forget).await
}

/// Leaves every room, each in a job of its own, as there may be many. An interruption leaves an open
/// account in fewer rooms, and its owner can try again.
async fn leave_rooms(app: &App, user: &UserId) -> Result<()> {
    let rooms = app.store.read(|tx| members::rooms_of(tx, user))?;
    for (num, row) in rooms {
        if !matches!(row.membership.as_str(), "join" | "invite" | "knock") {
            continue;
        }
        let (me, user) = (app.me.clone(), user.to_owned());
        let leave = move |tx: &_| match members::leave(tx, &me, &mut Room::at(tx, num)?, &user, None) {
            Err(error) if error.errcode() == "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM" => Ok(()),
            left => left,
        };
        app.federation.write_unasked(leave).await?;
    }
    Ok(())
}

/// `GET /_matrix/client/v3/account/3pid`
pub async fn third_party_ids(_: Arc<App>, _: Session, _: get_3pids::v3::Request) -> Result<get_3pids::v3::Response> {
    Ok(get_3pids::v3::Response::new(Vec::new()))
}

/// `GET /_matrix/client/v3/capabilities`
///
/// Written out in full, as clients differ in what they take a missing one for.
pub async fn capabilities(app: Arc<App>, session: Session, _: get_capabilities::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::Other, &session.user)?;
    let versions: Map<String, Value> =
        room::stability().map(|(version, stability)| (version.to_string(), stability.as_str().into())).collect();
    let is_admin = app.store.read(|tx| users::is_admin(tx, &session.user))?;
    let mut capabilities = json!({
        "m.room_versions": { "default": room::DEFAULT_VERSION.as_str(), "available": versions },
        "m.change_password": { "enabled": true },
        "m.set_displayname": { "enabled": true },
        "m.set_avatar_url": { "enabled": true },
        "m.profile_fields": { "enabled": true },
        "m.3pid_changes": { "enabled": false },
        "m.get_login_token": { "enabled": true },
        "m.forget_forced_upon_leave": { "enabled": false },
        "chat.hearth.admin": { "enabled": is_admin },
        "io.element.msc4452.preview_url": { "enabled": app.config.url_previews },
    });
    let (max_delay, max_scheduled) = (app.config.delayed.max_delay, app.config.delayed.max_scheduled);
    for name in ["m.delayed_events", "org.matrix.msc4140.delayed_events"] {
        capabilities[name] = json!({ "max_delay_ms": max_delay, "max_scheduled": max_scheduled });
    }
    // To be left out for others. spec: client-server-api#capabilities-negotiation
    if is_admin {
        capabilities["m.account_moderation"] = json!({ "suspend": true, "lock": true });
    }
    reply::json(&json!({ "capabilities": capabilities }))
}
