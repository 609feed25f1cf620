//! Locking and suspending accounts, by the spec's endpoints and by Synapse's; and from where accounts are used.
//! spec: client-server-api#server-administration, #account-locking, #account-suspension

use std::sync::Arc;

use http::Method;
use ruma::{
    OwnedUserId, UserId,
    api::client::admin::{get_user_info, is_user_locked, is_user_suspended, lock_user, suspend_user},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{account, check_not_server, named, route};
use crate::{
    accounts::{
        sessions::{self, Found},
        users,
    },
    app::App,
    error::{Error, Result},
    http::{Asked, Reply, Router, Session, reply, untyped::check_admin},
    store::{Read, WriteTx, rows::UserRow},
};

pub(super) fn routes(router: &mut Router) {
    router.route(is_locked).route(lock).route(is_suspended).route(suspend).route_raw(whois);
    route(router, Method::GET, "/_synapse/admin/v1/whois/{user_id}", whois_as_tools_ask);
    route(router, Method::PUT, "/_synapse/admin/v1/suspend/{user_id}", suspend_as_tools_ask);
}

/// An open account that may be looked at and, unless it is another administrator's, be kept from doing things.
fn target(app: &App, tx: &impl Read, by: &UserId, user: &UserId) -> Result<UserRow> {
    let row = account(app, tx, user)?;
    check_not_server(tx, user)?;
    if row.deactivated {
        return Err(Error::not_found("this account is closed"));
    }
    if row.admin || user == by {
        return Err(Error::forbidden("administrators can't be locked or suspended"));
    }
    Ok(row)
}

/// `GET /_matrix/client/v1/admin/lock/{userId}`
async fn is_locked(
    app: Arc<App>,
    session: Session,
    request: is_user_locked::v1::Request,
) -> Result<is_user_locked::v1::Response> {
    check_admin(&app, &session)?;
    let row = app.store.read(|tx| target(&app, tx, &session.user, &request.user_id))?;
    Ok(is_user_locked::v1::Response::new(row.locked))
}

/// `PUT /_matrix/client/v1/admin/lock/{userId}`
async fn lock(app: Arc<App>, session: Session, request: lock_user::v1::Request) -> Result<lock_user::v1::Response> {
    set(&app, &session, request.user_id, ("lock", request.locked), users::set_locked).await?;
    Ok(lock_user::v1::Response::new(request.locked))
}

/// `GET /_matrix/client/v1/admin/suspend/{userId}`
async fn is_suspended(
    app: Arc<App>,
    session: Session,
    request: is_user_suspended::v1::Request,
) -> Result<is_user_suspended::v1::Response> {
    check_admin(&app, &session)?;
    let row = app.store.read(|tx| target(&app, tx, &session.user, &request.user_id))?;
    Ok(is_user_suspended::v1::Response::new(row.suspended))
}

/// `PUT /_matrix/client/v1/admin/suspend/{userId}`
async fn suspend(
    app: Arc<App>,
    session: Session,
    request: suspend_user::v1::Request,
) -> Result<suspend_user::v1::Response> {
    set(&app, &session, request.user_id, ("suspend", request.suspended), users::set_suspended).await?;
    Ok(suspend_user::v1::Response::new(request.suspended))
}

async fn set(
    app: &Arc<App>,
    session: &Session,
    user: OwnedUserId,
    (what, is): (&'static str, bool),
    change: fn(&WriteTx, &UserId, bool) -> Result<()>,
) -> Result<()> {
    check_admin(app, session)?;
    let (inner, by, target_user) = (app.clone(), session.user.clone(), user.clone());
    let work = move |tx: &WriteTx| {
        target(&inner, tx, &by, &target_user)?;
        change(tx, &target_user, is)
    };
    app.store.write(work).await?;
    tracing::info!(admin = %session.user, %user, what, is, "an administrator acted");
    Ok(())
}

/// `PUT /_synapse/admin/v1/suspend/{user_id}`
async fn suspend_as_tools_ask(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        suspend: bool,
    }
    let (user, Body { suspend }) = (named(&asked)?, asked.body()?);
    set(&app, &asked.session, user.clone(), ("suspend", suspend), users::set_suspended).await?;
    reply::json(&json!({ format!("user_{user}_suspended"): suspend }))
}

/// `GET /_matrix/client/v3/admin/whois/{userId}`: administrators may ask of everybody, others of themselves.
async fn whois(app: Arc<App>, session: Session, request: get_user_info::v3::Request) -> Result<Reply> {
    if session.user != request.user_id {
        check_admin(&app, &session)?;
    }
    reply::json(&seen(&app, &request.user_id)?)
}

/// `GET /_synapse/admin/v1/whois/{user_id}`
async fn whois_as_tools_ask(app: Arc<App>, asked: Asked) -> Result<Reply> {
    reply::json(&seen(&app, &named(&asked)?)?)
}

fn seen(app: &App, user: &UserId) -> Result<Value> {
    let devices = app.store.read(|tx| {
        account(app, tx, user)?;
        sessions::devices(tx, user)
    })?;
    let mut connections = Vec::new();
    for (id, row) in devices {
        let now = app.last_seen.of(&Found { user: user.to_owned(), device: id.into() });
        let (at, ip) = now.map_or((row.last_seen, row.last_ip), |seen| (seen.at, seen.ip.to_string()));
        connections.push(json!({ "ip": ip, "last_seen": at }));
    }
    Ok(json!({ "user_id": user, "devices": { "": { "sessions": [{ "connections": connections }] } } }))
}
