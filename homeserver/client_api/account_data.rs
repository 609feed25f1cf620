//! What clients keep on the server for themselves: account data and tags.
//! spec: client-server-api#client-config, #room-tagging

use std::sync::Arc;

use http::Method;
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::client::{
        config::{get_global_account_data, get_room_account_data, set_global_account_data, set_room_account_data},
        tag::{create_tag, delete_tag, get_tags},
    },
};
use serde_json::{Map, Value, json};

use crate::{
    accounts::{account_data, push_rules},
    app::App,
    base::json::raw,
    error::{Error, Result},
    http::{Asked, Bucket, Loose, Reply, Router, Session, reply, untyped},
};

type Object = Map<String, Value>;

/// Deleting account data, which is no part of the spec. spec: MSC3391
pub fn routes(router: &mut Router) {
    let user = "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}";
    untyped::route(router, Method::DELETE, &format!("{user}/account_data/{{event_type}}"), delete_global);
    let path = format!("{user}/rooms/{{room_id}}/account_data/{{event_type}}");
    untyped::route(router, Method::DELETE, &path, delete_of_room);
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3391/user/{userId}/account_data/{type}`
async fn delete_global(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let kind = asked.path(1)?;
    delete(&app, asked, String::new(), kind).await
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3391/user/{userId}/rooms/{roomId}/account_data/{type}`
async fn delete_of_room(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (room, kind) = (asked.path::<OwnedRoomId>(1)?, asked.path(2)?);
    delete(&app, asked, room.into(), kind).await
}

async fn delete(app: &App, asked: Asked, room: String, kind: String) -> Result<Reply> {
    let user: OwnedUserId = asked.path(0)?;
    check_own(app, &asked.session, user.as_str())?;
    app.store.write(move |tx: &_| account_data::delete_by_client(tx, &user, &room, &kind)).await?;
    reply::json(&json!({}))
}

/// `GET /_matrix/client/v3/user/{userId}/account_data/{type}`
pub async fn global(app: Arc<App>, session: Session, request: get_global_account_data::v3::Request) -> Result<Reply> {
    session.owns(&request.user_id)?;
    let kind = request.event_type.to_string();
    if kind == push_rules::TYPE {
        let rules = app.store.read(|tx| push_rules::of(tx, &session.user))?;
        return reply::json(&push_rules::content(&rules)?);
    }
    entry(&app, &session, "", &kind)
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
pub async fn of_room(app: Arc<App>, session: Session, request: get_room_account_data::v3::Request) -> Result<Reply> {
    session.owns(&request.user_id)?;
    entry(&app, &session, request.room_id.as_str(), &request.event_type.to_string())
}

fn entry(app: &App, session: &Session, room: &str, kind: &str) -> Result<Reply> {
    let json = app.store.read(|tx| account_data::get(tx, &session.user, room, kind))?;
    reply::json(&raw(json.ok_or_else(|| Error::not_found("there is no such account data"))?)?)
}

/// `PUT /_matrix/client/v3/user/{userId}/account_data/{type}`
pub async fn set_global(
    app: Arc<App>,
    session: Session,
    request: Loose<set_global_account_data::v3::Request, Object>,
) -> Result<set_global_account_data::v3::Response> {
    let [user, kind] = <[String; 2]>::try_from(request.path).map_err(|_| Error::unrecognized())?;
    check_own(&app, &session, &user)?;
    let set = move |tx: &_| account_data::set_by_client(tx, &session.user, "", &kind, &request.body);
    app.store.write(set).await?;
    Ok(set_global_account_data::v3::Response::new())
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
pub async fn set_of_room(
    app: Arc<App>,
    session: Session,
    request: Loose<set_room_account_data::v3::Request, Object>,
) -> Result<set_room_account_data::v3::Response> {
    let [user, room, kind] = <[String; 3]>::try_from(request.path).map_err(|_| Error::unrecognized())?;
    check_own(&app, &session, &user)?;
    check_room(&room)?;
    let set = move |tx: &_| account_data::set_by_client(tx, &session.user, &room, &kind, &request.body);
    app.store.write(set).await?;
    Ok(set_room_account_data::v3::Response::new())
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`
pub async fn tags(app: Arc<App>, session: Session, request: get_tags::v3::Request) -> Result<Reply> {
    session.owns(&request.user_id)?;
    let tags = app.store.read(|tx| account_data::tags(tx, &session.user, request.room_id.as_str()))?;
    reply::json(&json!({ "tags": tags }))
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
pub async fn tag(
    app: Arc<App>,
    session: Session,
    request: Loose<create_tag::v3::Request, Object>,
) -> Result<create_tag::v3::Response> {
    let [user, room, tag] = <[String; 3]>::try_from(request.path).map_err(|_| Error::unrecognized())?;
    check_own(&app, &session, &user)?;
    check_room(&room)?;
    let set = move |tx: &_| account_data::tag(tx, &session.user, &room, &tag, request.body.clone());
    app.store.write(set).await?;
    Ok(create_tag::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
pub async fn untag(
    app: Arc<App>,
    session: Session,
    request: delete_tag::v3::Request,
) -> Result<delete_tag::v3::Response> {
    session.owns(&request.user_id)?;
    app.limits.take(Bucket::Other, &session.user)?;
    let remove = move |tx: &_| account_data::untag(tx, &session.user, request.room_id.as_str(), &request.tag);
    app.store.write(remove).await?;
    Ok(delete_tag::v3::Response::new())
}

fn check_own(app: &App, session: &Session, user: &str) -> Result<()> {
    session.owns(&UserId::parse(user).map_err(|_| Error::invalid_param("this is no user ID"))?)?;
    app.limits.take(Bucket::Other, &session.user)
}

fn check_room(room: &str) -> Result<()> {
    RoomId::parse(room).map(drop).map_err(|_| Error::invalid_param("this is no room ID"))
}
