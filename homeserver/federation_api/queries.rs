//! What other servers ask about our people and aliases. spec: server-server-api#querying-for-information

use std::sync::Arc;

use ruma::api::federation::{
    openid::get_openid_userinfo::v1 as get_userinfo,
    query::{get_profile_information::v1 as get_profile, get_room_information::v1 as get_alias},
};
use serde_json::{Map, Value};

use crate::{
    accounts::{openid, profile, users},
    app::App,
    error::{Error, Result},
    http::{Bucket, Caller, Origin, Reply, reply},
    limits,
    rooms::{Room, aliases, servers},
};

/// Servers in a room that are named at most: enough to join by.
const MAX_SERVERS: usize = 50;

/// `GET /_matrix/federation/v1/query/profile`
pub async fn profile(app: Arc<App>, _: Origin, request: get_profile::Request) -> Result<Reply> {
    let user = &request.user_id;
    app.services.seek_user(&app.store, user).await?;
    let fields = app.store.read(|tx| {
        if !app.me.owns(user) || users::lookup(tx, user)?.is_none_or(|user| user.deactivated) {
            return Err(Error::not_found("this server knows no such user"));
        }
        match &request.field {
            None => profile::of(tx, user),
            Some(field) => {
                let value: Option<Value> = profile::field(tx, user, field.as_str())?;
                Ok(Map::from_iter(value.map(|value| (field.to_string(), value))))
            }
        }
    })?;
    reply::json(&fields)
}

/// `GET /_matrix/federation/v1/query/directory`
pub async fn directory(app: Arc<App>, _: Origin, request: get_alias::Request) -> Result<get_alias::Response> {
    app.services.seek_alias(&app.store, &request.room_alias).await?;
    app.store.read(|tx| {
        let unknown = || Error::not_found("there is no such alias");
        let id = aliases::resolve(tx, &request.room_alias)?.ok_or_else(unknown)?;
        let room = Room::named(tx, &id)?;
        let mut inside = servers::in_room(tx, room.num)?;
        // We ourselves first, as long as we are in it: it is we who were asked.
        inside.sort_by_key(|server| *server != app.me.name);
        inside.truncate(MAX_SERVERS);
        Ok(get_alias::Response::new(id, inside))
    })
}

/// `GET /_matrix/federation/v1/openid/userinfo`
pub async fn userinfo(app: Arc<App>, caller: Caller, request: get_userinfo::Request) -> Result<get_userinfo::Response> {
    app.limits.take(Bucket::Other, limits::address(caller.ip))?;
    let user = openid::user_of(&app.me, &request.access_token)
        .ok_or_else(|| Error::unauthorized("M_UNKNOWN_TOKEN", "this token is unknown or has expired"))?;
    let there = app.store.read(|tx| users::lookup(tx, &user))?.is_some_and(|user| !user.deactivated);
    match there {
        true => Ok(get_userinfo::Response::new(user)),
        false => Err(Error::unauthorized("M_UNKNOWN_TOKEN", "this token is unknown or has expired")),
    }
}
