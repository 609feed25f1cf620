//! Backups of room keys. spec: client-server-api#server-side-key-backups

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use ruma::{
    OwnedUserId,
    api::client::backup::{
        KeyBackupData, add_backup_keys, add_backup_keys_for_room, add_backup_keys_for_session, create_backup_version,
        delete_backup_keys, delete_backup_keys_for_room, delete_backup_keys_for_session, delete_backup_version,
        get_backup_info, get_backup_keys, get_backup_keys_for_room, get_backup_keys_for_session,
        get_latest_backup_info, update_backup_version,
    },
    serde::Raw,
};
use tokio::sync::mpsc;

use crate::{
    app::App,
    e2ee::key_backup::{self, Found, Key, Which},
    error::{Error, Result},
    http::{Bucket, Reply, Session, reply},
    store::{Store, WriteTx},
};

/// Keys that one piece of an answer holds: an answer with all of them is never whole in memory.
const PAGE: usize = 500;

/// `POST /_matrix/client/v3/room_keys/version`
pub async fn create(
    app: Arc<App>,
    session: Session,
    request: create_backup_version::v3::Request,
) -> Result<create_backup_version::v3::Response> {
    app.limits.take(Bucket::Other, &session.user)?;
    let version = app.store.write(move |tx| key_backup::create(tx, &session.user, request.algorithm.json())).await?;
    Ok(create_backup_version::v3::Response::new(version))
}

/// `GET /_matrix/client/v3/room_keys/version`
pub async fn latest(app: Arc<App>, session: Session, _: get_latest_backup_info::v3::Request) -> Result<Reply> {
    reply::json(&app.store.read(|tx| key_backup::info(tx, &session.user, None))?)
}

/// `GET /_matrix/client/v3/room_keys/version/{version}`
pub async fn version(app: Arc<App>, session: Session, request: get_backup_info::v3::Request) -> Result<Reply> {
    reply::json(&app.store.read(|tx| key_backup::info(tx, &session.user, Some(&request.version)))?)
}

/// `PUT /_matrix/client/v3/room_keys/version/{version}`
pub async fn update(
    app: Arc<App>,
    session: Session,
    request: update_backup_version::v3::Request,
) -> Result<update_backup_version::v3::Response> {
    app.limits.take(Bucket::Other, &session.user)?;
    let update = move |tx: &WriteTx| key_backup::update(tx, &session.user, &request.version, request.algorithm.json());
    app.store.write(update).await?;
    Ok(update_backup_version::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/room_keys/version/{version}`
pub async fn delete(
    app: Arc<App>,
    session: Session,
    request: delete_backup_version::v3::Request,
) -> Result<delete_backup_version::v3::Response> {
    app.limits.take(Bucket::Other, &session.user)?;
    let user = session.user.clone();
    app.store.write(move |tx| key_backup::delete(tx, &session.user, &request.version)).await?;
    sweep(&app, user);
    Ok(delete_backup_version::v3::Response::new())
}

/// Takes away the keys of a person's deleted backups, in jobs that don't hold the writer for long. What a
/// stop of the server leaves is taken away when they delete the next one.
pub fn sweep(app: &App, user: OwnedUserId) {
    let store = app.store.clone();
    tokio::spawn(async move {
        while let Ok(false) = store.read(|tx| key_backup::is_swept(tx, &user)) {
            let user = user.clone();
            if let Err(error) = store.write(move |tx| key_backup::sweep(tx, &user)).await {
                tracing::debug!(%error, "the keys of a deleted backup are still there");
                return;
            }
        }
    });
}

/// `PUT /_matrix/client/v3/room_keys/keys`
pub async fn put_all(app: Arc<App>, session: Session, request: add_backup_keys::v3::Request) -> Result<Reply> {
    let rooms = request.rooms.iter().map(|(room, keys)| (room.as_str(), &keys.sessions));
    put(&app, session, request.version, key_backup::check(rooms)?).await
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn put_of_room(
    app: Arc<App>,
    session: Session,
    request: add_backup_keys_for_room::v3::Request,
) -> Result<Reply> {
    let rooms = [(request.room_id.as_str(), &request.sessions)].into_iter();
    put(&app, session, request.version, key_backup::check(rooms)?).await
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn put_one(
    app: Arc<App>,
    session: Session,
    request: add_backup_keys_for_session::v3::Request,
) -> Result<Reply> {
    let sessions: BTreeMap<String, Raw<KeyBackupData>> = BTreeMap::from([(request.session_id, request.session_data)]);
    let rooms = [(request.room_id.as_str(), &sessions)].into_iter();
    put(&app, session, request.version, key_backup::check(rooms)?).await
}

async fn put(app: &App, session: Session, version: String, jobs: Vec<Vec<Key>>) -> Result<Reply> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let mut status = None;
    for keys in jobs {
        let (user, version) = (session.user.clone(), version.clone());
        status = Some(app.store.write(move |tx| key_backup::put(tx, &user, &version, &keys)).await?);
    }
    reply::json(&status.ok_or_else(|| Error::internal("a request is at least one job"))?)
}

/// `GET /_matrix/client/v3/room_keys/keys`
pub async fn all(app: Arc<App>, session: Session, request: get_backup_keys::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::Costly, &session.user)?;
    Keys { store: app.store.clone(), session, version: request.version, which: Which::default() }.answer()
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn of_room(app: Arc<App>, session: Session, request: get_backup_keys_for_room::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let which = Which { room: Some(request.room_id.to_string()), session: None };
    Keys { store: app.store.clone(), session, version: request.version, which }.answer()
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn one(app: Arc<App>, session: Session, request: get_backup_keys_for_session::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let which = Which { room: Some(request.room_id.to_string()), session: Some(request.session_id) };
    let found = app.store.read(|tx| key_backup::page(tx, &session.user, &request.version, &which, (None, 1)))?;
    let key = found.into_iter().next().ok_or_else(|| Error::not_found("there is no such key in the backup"))?;
    Ok(reply::json_with(http::StatusCode::OK, key.json))
}

/// Keys that are read piece by piece, while the client takes them.
struct Keys {
    store: Store,
    session: Session,
    version: String,
    which: Which,
}

impl Keys {
    fn answer(self) -> Result<Reply> {
        let first = self.page(None)?;
        let (pieces, body) = mpsc::channel(2);
        tokio::spawn(async move { self.write(first, &pieces).await });
        let mut reply = Response::new(reply::stream(body));
        reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(reply)
    }

    fn page(&self, after: Option<&Found>) -> Result<Vec<Found>> {
        self.store.read(|tx| key_backup::page(tx, &self.session.user, &self.version, &self.which, (after, PAGE)))
    }

    async fn write(self, mut page: Vec<Found>, pieces: &mpsc::Sender<io::Result<Bytes>>) {
        let by_room = self.which.room.is_none();
        let mut text = String::from(if by_room { "{\"rooms\":{" } else { "{\"sessions\":{" });
        let mut room: Option<String> = None;
        loop {
            for key in &page {
                let fresh = room.as_deref() != Some(&key.room);
                text += match (by_room && fresh, room.is_some()) {
                    (true, true) => "}},",
                    (false, true) => ",",
                    (_, false) => "",
                };
                if by_room && fresh {
                    text += &format!("{}:{{\"sessions\":{{", quoted(&key.room));
                }
                room = Some(key.room.clone());
                text += &format!("{}:{}", quoted(&key.session), key.json);
            }
            let last = if page.len() < PAGE { None } else { page.pop() };
            if last.is_none() {
                text += if by_room && room.is_some() { "}}}}" } else { "}}" };
            }
            // Whoever does not listen any more is told no more.
            if pieces.send(Ok(Bytes::from(std::mem::take(&mut text)))).await.is_err() {
                return;
            }
            let Some(last) = last else { return };
            page = match self.page(Some(&last)) {
                Ok(page) => page,
                // The backup was deleted meanwhile: that the answer breaks off says so.
                Err(error) => return drop(pieces.send(Err(io::Error::other(error))).await),
            };
        }
    }
}

fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

/// `DELETE /_matrix/client/v3/room_keys/keys`
pub async fn remove_all(app: Arc<App>, session: Session, request: delete_backup_keys::v3::Request) -> Result<Reply> {
    remove(&app, session, request.version, Which::default()).await
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn remove_of_room(
    app: Arc<App>,
    session: Session,
    request: delete_backup_keys_for_room::v3::Request,
) -> Result<Reply> {
    let which = Which { room: Some(request.room_id.to_string()), session: None };
    remove(&app, session, request.version, which).await
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn remove_one(
    app: Arc<App>,
    session: Session,
    request: delete_backup_keys_for_session::v3::Request,
) -> Result<Reply> {
    let which = Which { room: Some(request.room_id.to_string()), session: Some(request.session_id) };
    remove(&app, session, request.version, which).await
}

async fn remove(app: &App, session: Session, version: String, which: Which) -> Result<Reply> {
    app.limits.take(Bucket::Costly, &session.user)?;
    loop {
        let (user, version, which) = (session.user.clone(), version.clone(), which.clone());
        let (status, more) = app.store.write(move |tx| key_backup::remove(tx, &user, &version, &which)).await?;
        if !more {
            return reply::json(&status);
        }
    }
}
