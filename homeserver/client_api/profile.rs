//! Profiles. spec: client-server-api#profiles

use std::sync::Arc;

use ruma::{
    OwnedUserId, UserId,
    api::client::profile::{delete_profile_field, get_profile, get_profile_field, set_profile_field},
};
use serde_json::{Map, Value};

use crate::{
    accounts::{profile, users},
    app::App,
    base::RoomNum,
    error::{Error, Result},
    http::{Bucket, Caller, Loose, Reply, Session, reply},
    limits,
    rooms::members,
    store::WriteTx,
};

/// `GET /_matrix/client/v3/profile/{userId}`
pub async fn profile(app: Arc<App>, caller: Caller, request: get_profile::v3::Request) -> Result<Reply> {
    if !app.me.owns(&request.user_id) {
        return elsewhere(&app, caller, &request.user_id, None).await;
    }
    app.services.seek_user(&app.store, &request.user_id).await?;
    reply::json(&app.store.read(|tx| {
        check_known(&app, tx, &request.user_id)?;
        profile::of(tx, &request.user_id)
    })?)
}

/// `GET /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn field(app: Arc<App>, caller: Caller, request: get_profile_field::v3::Request) -> Result<Reply> {
    let key = request.field.as_str();
    if !app.me.owns(&request.user_id) {
        return elsewhere(&app, caller, &request.user_id, Some(key)).await;
    }
    app.services.seek_user(&app.store, &request.user_id).await?;
    let value = app.store.read(|tx| {
        check_known(&app, tx, &request.user_id)?;
        profile::field(tx, &request.user_id, key)
    })?;
    let value = value.ok_or_else(|| Error::not_found("this profile has no such field"))?;
    reply::json(&Map::from_iter([(key.to_owned(), value)]))
}

/// The profile of somebody of another server, or one field of it.
async fn elsewhere(app: &App, caller: Caller, user: &UserId, field: Option<&str>) -> Result<Reply> {
    app.limits.take(Bucket::Other, limits::address(caller.ip))?;
    let profile = app.federation.profile(user, field).await?;
    match field {
        Some(field) => {
            let value = profile.get(field).ok_or_else(|| Error::not_found("this profile has no such field"))?;
            reply::json(&Map::from_iter([(field.to_owned(), value.clone())]))
        }
        None => reply::json(&profile),
    }
}

fn check_known(app: &App, tx: &impl crate::store::Read, user: &UserId) -> Result<()> {
    match app.me.owns(user) && users::lookup(tx, user)?.is_some() {
        true => Ok(()),
        false => Err(Error::not_found("this server knows no such user")),
    }
}

/// `PUT /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn set_field(
    app: Arc<App>,
    session: Session,
    request: Loose<set_profile_field::v3::Request, Map<String, Value>>,
) -> Result<set_profile_field::v3::Response> {
    let Loose { mut body, path, .. } = request;
    let [user, key] = <[String; 2]>::try_from(path).map_err(|_| Error::unrecognized())?;
    let user = UserId::parse(user).map_err(|_| Error::invalid_param("this is no user ID"))?;
    let value = body.remove(&key).ok_or_else(|| Error::missing_param(format!("the body has no {key:?}")))?;
    change(&app, &session, user, move |tx, user| {
        profile::set(tx, user, &key, &value)?;
        Ok(matches!(key.as_str(), "displayname" | "avatar_url"))
    })
    .await?;
    Ok(set_profile_field::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn remove_field(
    app: Arc<App>,
    session: Session,
    request: delete_profile_field::v3::Request,
) -> Result<delete_profile_field::v3::Response> {
    let key = request.field.as_str().to_owned();
    change(&app, &session, request.user_id, move |tx, user| {
        profile::remove(tx, user, &key)?;
        Ok(matches!(key.as_str(), "displayname" | "avatar_url"))
    })
    .await?;
    Ok(delete_profile_field::v3::Response::new())
}

/// Rooms in which one job shows a changed profile: few, so that nobody's message waits for somebody
/// who is in a thousand rooms.
const ROOMS_AT_ONCE: usize = 10;

/// Changes one's own profile; `edit` says whether the change shows in rooms.
async fn change(
    app: &App,
    session: &Session,
    user: OwnedUserId,
    edit: impl Fn(&WriteTx, &UserId) -> Result<bool> + Send + 'static,
) -> Result<()> {
    session.owns(&user)?;
    session.may_act()?;
    app.limits.take(Bucket::Other, &user)?;
    change_in_rooms(app, user, edit).await
}

/// Changes a field of anybody's profile, as an administrator may.
pub(super) async fn change_of(app: &App, user: OwnedUserId, key: &'static str, value: String) -> Result<()> {
    change_in_rooms(app, user, move |tx, user| {
        profile::set(tx, user, key, &value.as_str().into())?;
        Ok(true)
    })
    .await
}

async fn change_in_rooms(
    app: &App,
    user: OwnedUserId,
    edit: impl Fn(&WriteTx, &UserId) -> Result<bool> + Send + 'static,
) -> Result<()> {
    let owner = user.clone();
    let work = move |tx: &WriteTx| match edit(tx, &owner)? {
        true => members::joined_rooms(tx, &owner),
        false => Ok(Vec::new()),
    };
    let rooms = app.store.write(work).await?;
    if !rooms.is_empty() {
        app.presence.profile_changed(&user);
    }
    for some in rooms.chunks(ROOMS_AT_ONCE) {
        let (me, owner, some_of) = (app.me.clone(), user.clone(), some.to_vec());
        let some = some_of.clone();
        let work =
            move |tx: &WriteTx| some.iter().try_for_each(|room| members::profile_changed(tx, &me, *room, &owner));
        match app.store.write(work).await {
            Err(error) if error.wants_signed().is_some() => change_one_by_one(app, &user, &some_of).await?,
            changed => changed?,
        }
    }
    Ok(())
}

/// The same where policy servers have to be asked. A room whose policy server does not want it keeps the old
/// name.
async fn change_one_by_one(app: &App, user: &UserId, rooms: &[RoomNum]) -> Result<()> {
    for room in rooms.iter().copied() {
        let (me, owner) = (app.me.clone(), user.to_owned());
        let work = move |tx: &WriteTx| members::profile_changed(tx, &me, room, &owner);
        match app.federation.write(work).await {
            Err(error) if error.cause().is_none() => tracing::debug!(room, %error, "a profile change is not signed"),
            changed => changed?,
        }
    }
    Ok(())
}
