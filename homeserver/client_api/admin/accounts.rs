//! Accounts: listing, making, changing and closing them, and their sessions.

use std::{cmp::Ordering, sync::Arc};

use http::{Method, StatusCode};
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{account, backward, check_not_server, flag, look, named, part, route};
use crate::{
    accounts::{
        passwords, profile,
        sessions::{self, Found},
        users,
    },
    app::App,
    client_api::{account as own_account, devices, profile as own_profile},
    error::{Error, Result},
    http::{Asked, Reply, Router, reply},
    rooms::{Room, admins, members},
    store::{
        Flow, Read, WriteTx,
        rows::{DeviceRow, UserRow},
    },
};

const ONE: &str = "/_synapse/admin/v2/users/{user_id}";
const ADMIN: &str = "/_synapse/admin/v1/users/{user_id}/admin";
const DEVICE: &str = "/_synapse/admin/v2/users/{user_id}/devices/{device_id}";

pub(super) fn routes(router: &mut Router) {
    route(router, Method::GET, "/_synapse/admin/v2/users", list);
    route(router, Method::GET, "/_synapse/admin/v3/users", list_v3);
    route(router, Method::GET, ONE, get);
    route(router, Method::PUT, ONE, put);
    route(router, Method::POST, "/_synapse/admin/v1/deactivate/{user_id}", deactivate);
    route(router, Method::POST, "/_synapse/admin/v1/reset_password/{user_id}", reset_password);
    route(router, Method::GET, ADMIN, is_admin);
    route(router, Method::PUT, ADMIN, set_admin);
    route(router, Method::GET, "/_synapse/admin/v1/users/{user_id}/joined_rooms", joined_rooms);
    route(router, Method::GET, "/_synapse/admin/v1/users/{user_id}/memberships", memberships);
    route(router, Method::GET, "/_synapse/admin/v2/users/{user_id}/devices", list_devices);
    route(router, Method::POST, "/_synapse/admin/v2/users/{user_id}/delete_devices", delete_devices);
    route(router, Method::GET, DEVICE, device);
    route(router, Method::PUT, DEVICE, rename_device);
    route(router, Method::DELETE, DEVICE, delete_device);
}

/// An account with what lists are sorted by.
struct Entry {
    user: OwnedUserId,
    row: UserRow,
    profile: Map<String, Value>,
    seen: Option<u64>,
}

impl Entry {
    fn of(app: &App, tx: &impl Read, user: OwnedUserId, row: UserRow) -> Result<Self> {
        let profile = profile::of(tx, &user)?;
        let last = |(id, row): (String, DeviceRow)| {
            let now = app.last_seen.of(&Found { user: user.clone(), device: id.into() });
            now.map_or(row.last_seen, |seen| seen.at)
        };
        let seen = sessions::devices(tx, &user)?.into_iter().map(last).max();
        Ok(Self { user, row, profile, seen })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.profile.get(key).and_then(Value::as_str)
    }

    fn shown(&self) -> Value {
        json!({
            "name": self.user,
            "displayname": self.text("displayname"),
            "avatar_url": self.text("avatar_url"),
            "is_guest": self.row.guest,
            "admin": self.row.admin,
            "user_type": null,
            "deactivated": self.row.deactivated,
            "erased": self.row.erased,
            "shadow_banned": false,
            "locked": self.row.locked,
            "suspended": self.row.suspended,
            "creation_ts": self.row.created,
            "last_seen_ts": self.seen,
        })
    }

    fn compare(&self, other: &Self, by: &str) -> Ordering {
        match by {
            "is_guest" => self.row.guest.cmp(&other.row.guest),
            "admin" => self.row.admin.cmp(&other.row.admin),
            "deactivated" => self.row.deactivated.cmp(&other.row.deactivated),
            "locked" => self.row.locked.cmp(&other.row.locked),
            "suspended" => self.row.suspended.cmp(&other.row.suspended),
            "displayname" => self.text("displayname").cmp(&other.text("displayname")),
            "avatar_url" => self.text("avatar_url").cmp(&other.text("avatar_url")),
            "creation_ts" => self.row.created.cmp(&other.row.created),
            "last_seen_ts" => self.seen.cmp(&other.seen),
            _ => Ordering::Equal,
        }
    }
}

const ORDERS: [&str; 12] = [
    "name",
    "is_guest",
    "admin",
    "user_type",
    "deactivated",
    "shadow_banned",
    "displayname",
    "avatar_url",
    "creation_ts",
    "last_seen_ts",
    "locked",
    "suspended",
];

/// `GET /_synapse/admin/v2/users`
async fn list(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let deactivated = flag(&asked, "deactivated")?.unwrap_or(false);
    page(app, asked, move |row| deactivated || !row.deactivated).await
}

/// `GET /_synapse/admin/v3/users`
async fn list_v3(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let deactivated = flag(&asked, "deactivated")?;
    page(app, asked, move |row| deactivated.is_none_or(|wanted| wanted == row.deactivated)).await
}

async fn page(app: Arc<App>, asked: Asked, open: impl Fn(&UserRow) -> bool + Send + 'static) -> Result<Reply> {
    let ((from, limit), back) = (part(&asked)?, backward(&asked, false)?);
    let (guests, only_admins, locked) =
        (flag(&asked, "guests")?.unwrap_or(true), flag(&asked, "admins")?, flag(&asked, "locked")?);
    let lower = |name: &str| asked.query(name).map(str::to_lowercase);
    let (name, id) = (lower("name"), lower("user_id"));
    let order = asked.query("order_by").unwrap_or("name").to_owned();
    if !ORDERS.contains(&&*order) {
        return Err(Error::invalid_param(format!("order_by is one of {ORDERS:?}")));
    }
    let found = look(app, move |app, tx| {
        let mut rows = Vec::new();
        users::each(tx, |localpart, row| {
            let fits = open(&row)
                && (guests || !row.guest)
                && only_admins.is_none_or(|wanted| wanted == row.admin)
                && (locked != Some(false) || !row.locked);
            if fits && let Ok(user) = users::wished(localpart, &app.me.name) {
                rows.push((user, row));
            }
            Ok(Flow::Next)
        })?;
        let mut entries = Vec::with_capacity(rows.len());
        for (user, row) in rows {
            let entry = Entry::of(app, tx, user, row)?;
            let holds = |text: &str, wanted: &str| text.to_lowercase().contains(wanted);
            let fits = match (&name, &id) {
                (Some(name), _) => {
                    holds(entry.user.localpart(), name) || holds(entry.text("displayname").unwrap_or_default(), name)
                }
                (None, Some(id)) => holds(entry.user.as_str(), id),
                (None, None) => true,
            };
            if fits {
                entries.push(entry);
            }
        }
        entries.sort_by(|a, b| a.compare(b, &order));
        if back {
            entries.reverse();
        }
        let total = entries.len();
        let shown: Vec<Value> = entries.iter().skip(from).take(limit).map(Entry::shown).collect();
        let mut answer = json!({ "users": shown, "total": total });
        if from + shown.len() < total {
            answer["next_token"] = (from + shown.len()).to_string().into();
        }
        Ok(answer)
    });
    reply::json(&found.await?)
}

/// `GET /_synapse/admin/v2/users/{user_id}`
async fn get(app: Arc<App>, asked: Asked) -> Result<Reply> {
    reply::json(&details(&app, named(&asked)?)?)
}

fn details(app: &App, user: OwnedUserId) -> Result<Value> {
    app.store.read(|tx| {
        let row = account(app, tx, &user)?;
        let service = json!(row.service);
        let mut shown = Entry::of(app, tx, user, row)?.shown();
        for (name, value) in [("threepids", json!([])), ("external_ids", json!([])), ("appservice_id", service)] {
            shown[name] = value;
        }
        Ok(shown)
    })
}

/// What is to become of an account.
#[derive(Deserialize)]
struct Wanted {
    password: Option<String>,
    #[serde(default = "yes")]
    logout_devices: bool,
    displayname: Option<String>,
    avatar_url: Option<String>,
    admin: Option<bool>,
    deactivated: Option<bool>,
    locked: Option<bool>,
}

fn yes() -> bool {
    true
}

/// `PUT /_synapse/admin/v2/users/{user_id}`
async fn put(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    let user = named(&asked)?;
    let wanted: Wanted = asked.body()?;
    if !app.me.owns(&user) || users::wished(user.localpart(), &app.me.name)? != user {
        return Err(Error::invalid_param("this can't be an account of this server"));
    }
    let known = app.store.read(|tx| {
        check_not_server(tx, &user)?;
        users::lookup(tx, &user)
    })?;
    let closes = wanted.deactivated == Some(true) && known.as_ref().is_some_and(|row| !row.deactivated);
    if user == asked.session.user && (wanted.admin == Some(false) || wanted.locked == Some(true) || closes) {
        return Err(Error::forbidden("nobody can take this from themselves"));
    }
    let hash = match wanted.password.clone() {
        Some(password) => {
            passwords::check_new(&password)?;
            Some(app.hasher.hash(password).await?)
        }
        None => None,
    };
    let made = known.is_none();
    let (me, owner, profile) = (
        app.me.clone(),
        user.clone(),
        [("displayname", wanted.displayname.clone()), ("avatar_url", wanted.avatar_url.clone())],
    );
    let work = move |tx: &WriteTx| {
        settle(tx, &owner, &wanted, hash.as_ref())?;
        admins::keep(tx, &me, &owner)
    };
    app.store.write(work).await?;
    for (key, value) in profile {
        if let Some(value) = value {
            own_profile::change_of(&app, user.clone(), key, value).await?;
        }
    }
    if closes {
        own_account::close(&app, &user, false).await?;
    }
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok(reply::json_with(status, details(&app, user)?.to_string()))
}

/// Makes or changes an account, all but its profile and its end.
fn settle(tx: &WriteTx, user: &UserId, wanted: &Wanted, hash: Option<&String>) -> Result<()> {
    match users::lookup(tx, user)? {
        None => users::create(tx, user, hash.cloned(), false)?,
        Some(row) if row.deactivated && wanted.deactivated == Some(false) => {
            users::reactivate(tx, user, hash.cloned())?;
        }
        Some(_) => {
            if let Some(hash) = hash {
                users::set_password(tx, user, hash.clone())?;
                if wanted.logout_devices {
                    devices::ended(tx, user, &sessions::end_all(tx, user, None)?)?;
                }
            }
        }
    }
    if let Some(admin) = wanted.admin {
        users::set_admin(tx, user, admin)?;
    }
    match wanted.locked {
        Some(locked) => users::set_locked(tx, user, locked),
        None => Ok(()),
    }
}

/// `POST /_synapse/admin/v1/deactivate/{user_id}`
async fn deactivate(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        erase: bool,
    }
    let (user, Body { erase }) = (named(&asked)?, asked.body()?);
    app.store.read(|tx| {
        check_not_server(tx, &user)?;
        account(&app, tx, &user)
    })?;
    own_account::close(&app, &user, erase).await?;
    reply::json(&json!({ "id_server_unbind_result": "success" }))
}

/// `POST /_synapse/admin/v1/reset_password/{user_id}`
async fn reset_password(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        new_password: String,
        #[serde(default = "yes")]
        logout_devices: bool,
    }
    let (user, Body { new_password, logout_devices }) = (named(&asked)?, asked.body()?);
    app.store.read(|tx| {
        check_not_server(tx, &user)?;
        account(&app, tx, &user)
    })?;
    passwords::check_new(&new_password)?;
    let hash = app.hasher.hash(new_password).await?;
    let work = move |tx: &WriteTx| {
        users::set_password(tx, &user, hash.clone())?;
        match logout_devices {
            true => devices::ended(tx, &user, &sessions::end_all(tx, &user, None)?),
            false => Ok(()),
        }
    };
    app.store.write(work).await?;
    reply::json(&json!({}))
}

/// `GET /_synapse/admin/v1/users/{user_id}/admin`
async fn is_admin(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = named(&asked)?;
    let row = app.store.read(|tx| account(&app, tx, &user))?;
    reply::json(&json!({ "admin": row.admin && !row.deactivated }))
}

/// `PUT /_synapse/admin/v1/users/{user_id}/admin`
async fn set_admin(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        admin: bool,
    }
    let (user, Body { admin }) = (named(&asked)?, asked.body()?);
    if user == asked.session.user && !admin {
        return Err(Error::forbidden("nobody can take this from themselves"));
    }
    app.store.read(|tx| {
        check_not_server(tx, &user)?;
        account(&app, tx, &user)
    })?;
    let me = app.me.clone();
    let work = move |tx: &WriteTx| {
        users::set_admin(tx, &user, admin)?;
        admins::keep(tx, &me, &user)
    };
    app.store.write(work).await?;
    reply::json(&json!({}))
}

/// `GET /_synapse/admin/v1/users/{user_id}/joined_rooms`
async fn joined_rooms(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = named(&asked)?;
    let rooms = look(app, move |_, tx| {
        let rooms = members::joined_rooms(tx, &user)?.into_iter();
        rooms.map(|num| Ok(Room::at(tx, num)?.row.id)).collect::<Result<Vec<_>>>()
    });
    let rooms = rooms.await?;
    reply::json(&json!({ "total": rooms.len(), "joined_rooms": rooms }))
}

/// `GET /_synapse/admin/v1/users/{user_id}/memberships`
async fn memberships(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = named(&asked)?;
    let rooms = look(app, move |_, tx| {
        let rooms = members::all_rooms_of(tx, &user)?.into_iter();
        rooms.map(|(num, row)| Ok((Room::at(tx, num)?.row.id, row.membership.into()))).collect::<Result<Map<_, _>>>()
    });
    reply::json(&json!({ "memberships": rooms.await? }))
}

fn shown_device(app: &App, user: &UserId, id: String, row: DeviceRow) -> Value {
    let now = app.last_seen.of(&Found { user: user.to_owned(), device: id.as_str().into() });
    let (at, ip) = now.map_or((row.last_seen, row.last_ip), |seen| (seen.at, seen.ip.to_string()));
    json!({
        "device_id": id,
        "display_name": row.display_name,
        "last_seen_ip": ip,
        "last_seen_user_agent": null,
        "last_seen_ts": at,
        "user_id": user,
        "dehydrated": false,
    })
}

/// `GET /_synapse/admin/v2/users/{user_id}/devices`
async fn list_devices(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = named(&asked)?;
    let rows = app.store.read(|tx| {
        account(&app, tx, &user)?;
        sessions::devices(tx, &user)
    })?;
    let all: Vec<_> = rows.into_iter().map(|(id, row)| shown_device(&app, &user, id, row)).collect();
    reply::json(&json!({ "total": all.len(), "devices": all }))
}

/// `GET /_synapse/admin/v2/users/{user_id}/devices/{device_id}`
async fn device(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (user, id): (_, String) = (named(&asked)?, asked.path(1)?);
    let row = app.store.read(|tx| {
        account(&app, tx, &user)?;
        sessions::device(tx, &user, &id)?.ok_or_else(|| Error::not_found("there is no such device"))
    })?;
    reply::json(&shown_device(&app, &user, id, row))
}

/// `PUT /_synapse/admin/v2/users/{user_id}/devices/{device_id}`
async fn rename_device(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        display_name: Option<String>,
    }
    let (user, id): (OwnedUserId, String) = (named(&asked)?, asked.path(1)?);
    let Body { display_name } = asked.body()?;
    if let Some(name) = display_name {
        let work = move |tx: &WriteTx| {
            sessions::rename(tx, &user, &id, &name)?;
            crate::e2ee::device_lists::changed(tx, &user)
        };
        app.store.write(work).await?;
    }
    reply::json(&json!({}))
}

/// `DELETE /_synapse/admin/v2/users/{user_id}/devices/{device_id}`
async fn delete_device(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (user, id): (_, String) = (named(&asked)?, asked.path(1)?);
    end_devices(&app, user, vec![id]).await
}

/// `POST /_synapse/admin/v2/users/{user_id}/delete_devices`
async fn delete_devices(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        devices: Vec<String>,
    }
    let (user, Body { devices }) = (named(&asked)?, asked.body()?);
    end_devices(&app, user, devices).await
}

async fn end_devices(app: &Arc<App>, user: OwnedUserId, ids: Vec<String>) -> Result<Reply> {
    app.store.read(|tx| account(app, tx, &user))?;
    let work = move |tx: &WriteTx| {
        for id in &ids {
            sessions::end(tx, &user, id)?;
        }
        devices::ended(tx, &user, &ids)
    };
    app.store.write(work).await?;
    reply::json(&json!({}))
}
