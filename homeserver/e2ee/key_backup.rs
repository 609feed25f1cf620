//! Backups of room keys: what a person's devices leave here, encrypted, so that a new device of theirs
//! can read old messages. The newest backup is the one that takes keys; of two keys of one session the
//! better stays. spec: client-server-api#server-side-key-backups

use std::{cmp::Reverse, collections::BTreeMap};

use ruma::UserId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    base::Pos,
    error::{Error, Result},
    store::{Flow, LAST, Read, WriteTx, rows::client::BackupRow, tables},
};

/// Bytes of one key at most: more than ten times of what clients send.
const MAX_KEY: usize = 8 * 1024;
/// Bytes of what a backup is encrypted by.
const MAX_AUTH_DATA: usize = 64 * 1024;
/// Keys in all backups of an account together.
const MAX_KEYS: u64 = 500_000;
/// Backups of an account.
const MAX_BACKUPS: usize = 50;
/// Bytes of a room's or a session's ID.
const MAX_ID: usize = 255;
/// Keys that one job writes.
const PER_JOB: usize = 250;

/// How a backup is encrypted, as clients say it.
#[derive(Deserialize)]
struct Method {
    algorithm: String,
    auth_data: Box<RawValue>,
    version: Option<String>,
}

impl Method {
    fn parse(json: &RawValue) -> Result<Self> {
        let method: Self = serde_json::from_str(json.get()).map_err(|error| Error::bad_json(error.to_string()))?;
        if !method.auth_data.get().starts_with('{') {
            return Err(Error::bad_json("auth_data must be an object"));
        }
        if method.auth_data.get().len() > MAX_AUTH_DATA || method.algorithm.len() > MAX_ID {
            return Err(Error::too_large("algorithm or auth_data are too long"));
        }
        Ok(method)
    }
}

/// A backup as clients are told of it.
#[derive(Serialize)]
pub struct Info {
    algorithm: String,
    auth_data: Box<RawValue>,
    count: u64,
    etag: String,
    version: String,
}

/// What a change of keys led to.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// How many keys there are.
    pub count: u64,
    /// Another one whenever the keys have changed.
    pub etag: String,
}

impl Status {
    fn of(row: &BackupRow) -> Self {
        Self { count: row.count, etag: row.etag.to_string() }
    }
}

/// Which keys.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Those of one room.
    pub room: Option<String>,
    /// That of one session in it.
    pub session: Option<String>,
}

/// A key that is to be kept.
#[derive(Clone, Debug)]
pub struct Key {
    room: String,
    session: String,
    worth: Worth,
    json: String,
}

/// Of two keys of a session the one that is worth more stays: the verified one, then the one that reads
/// from further back, then the one that went through fewer hands.
type Worth = (bool, Reverse<u64>, Reverse<u64>);

/// Makes a backup, which is the current one from now on, and answers its version.
pub fn create(tx: &WriteTx, user: &UserId, method: &RawValue) -> Result<String> {
    let method = Method::parse(method)?;
    if backups(tx, user)?.iter().filter(|(_, row)| !row.deleted).count() >= MAX_BACKUPS {
        let message = format!("you have {MAX_BACKUPS} backups: delete one first");
        return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", message));
    }
    let version = tx.next_pos();
    let auth_data = method.auth_data.get().to_owned();
    let row = BackupRow { algorithm: method.algorithm, auth_data, count: 0, etag: version, deleted: false };
    tables::BACKUPS.put(tx, (user.as_str(), version), &row)?;
    Ok(version.to_string())
}

/// A backup, or without a version the current one. 404 if there is none.
pub fn info(tx: &impl Read, user: &UserId, version: Option<&str>) -> Result<Info> {
    let (version, row) = match version {
        Some(version) => named(tx, user, version)?,
        None => current(tx, user)?.ok_or_else(unknown)?,
    };
    Ok(Info {
        algorithm: row.algorithm,
        auth_data: crate::base::json::raw(row.auth_data)?,
        count: row.count,
        etag: row.etag.to_string(),
        version: version.to_string(),
    })
}

/// Changes a backup's `auth_data`: its algorithm stays. 400 `M_INVALID_PARAM` if that is another.
pub fn update(tx: &WriteTx, user: &UserId, version: &str, method: &RawValue) -> Result<()> {
    let method = Method::parse(method)?;
    let (pos, row) = named(tx, user, version)?;
    if method.version.is_some_and(|given| given != version) {
        return Err(Error::invalid_param("the body names another version than the path"));
    }
    if method.algorithm != row.algorithm {
        return Err(Error::invalid_param("the algorithm of a backup can't be changed"));
    }
    let row = BackupRow { auth_data: method.auth_data.get().to_owned(), ..row };
    tables::BACKUPS.put(tx, (user.as_str(), pos), &row)
}

/// Deletes a backup. Its keys are gone for everybody at once; [`sweep`] gives back their room.
pub fn delete(tx: &WriteTx, user: &UserId, version: &str) -> Result<()> {
    let (pos, row) = named(tx, user, version)?;
    tables::BACKUPS.put(tx, (user.as_str(), pos), &BackupRow { deleted: true, ..row })
}

/// Deletes all backups of an account.
pub fn delete_all(tx: &WriteTx, user: &UserId) -> Result<()> {
    for (pos, row) in backups(tx, user)?.into_iter().filter(|(_, row)| !row.deleted) {
        tables::BACKUPS.put(tx, (user.as_str(), pos), &BackupRow { deleted: true, ..row })?;
    }
    Ok(())
}

/// Whether there is something for [`sweep`] to do.
pub fn is_swept(tx: &impl Read, user: &UserId) -> Result<bool> {
    Ok(!backups(tx, user)?.iter().any(|(_, row)| row.deleted))
}

/// Takes away some of the keys of deleted backups, and the backups once they are empty.
pub fn sweep(tx: &WriteTx, user: &UserId) -> Result<()> {
    let Some((version, _)) = backups(tx, user)?.into_iter().find(|(_, row)| row.deleted) else { return Ok(()) };
    let names = names(tx, user, version, &Which::default(), PER_JOB)?;
    for (room, session) in &names {
        tables::BACKUP_KEYS.remove(tx, (user.as_str(), version, &**room, &**session))?;
    }
    match names.len() < PER_JOB {
        true => tables::BACKUPS.remove(tx, (user.as_str(), version)).map(drop),
        false => Ok(()),
    }
}

/// Checks keys that a client sends, and divides them into what one job each should write.
pub fn check<'a, T: 'a>(
    keys: impl Iterator<Item = (&'a str, &'a BTreeMap<String, ruma::serde::Raw<T>>)>,
) -> Result<Vec<Vec<Key>>> {
    #[derive(Deserialize)]
    struct Data<'a> {
        first_message_index: u64,
        forwarded_count: u64,
        is_verified: bool,
        #[serde(borrow)]
        session_data: &'a RawValue,
    }
    let mut out = Vec::new();
    for (room, sessions) in keys {
        for (session, raw) in sessions {
            let json = raw.json().get();
            let data: Data<'_> = serde_json::from_str(json)
                .map_err(|error| Error::bad_json(format!("the key of session {session:?}: {error}")))?;
            if !data.session_data.get().starts_with('{') {
                return Err(Error::bad_json("session_data must be an object"));
            }
            if json.len() > MAX_KEY {
                return Err(Error::too_large(format!("a key is larger than {MAX_KEY} bytes")));
            }
            if room.len() > MAX_ID || session.len() > MAX_ID {
                return Err(Error::invalid_param(format!("IDs have {MAX_ID} bytes at most")));
            }
            out.push(Key {
                room: room.to_owned(),
                session: session.clone(),
                worth: (data.is_verified, Reverse(data.first_message_index), Reverse(data.forwarded_count)),
                json: json.to_owned(),
            });
        }
    }
    // No key is still a question: whether the version is right, and what is there.
    if out.is_empty() {
        return Ok(vec![Vec::new()]);
    }
    Ok(out.chunks(PER_JOB).map(<[Key]>::to_vec).collect())
}

/// Puts keys into the current backup, which `version` has to be. 403 `M_WRONG_ROOM_KEYS_VERSION` if not.
pub fn put(tx: &WriteTx, user: &UserId, version: &str, keys: &[Key]) -> Result<Status> {
    let (pos, mut row) = current(tx, user)?.ok_or_else(unknown)?;
    if pos.to_string() != version {
        let error = Error::forbidden_as("M_WRONG_ROOM_KEYS_VERSION", "this is not the current backup");
        return Err(error.with("current_version", pos.to_string().into()));
    }
    let all: u64 = backups(tx, user)?.iter().filter(|(_, row)| !row.deleted).map(|(_, row)| row.count).sum();
    let (mut added, mut changed) = (0, false);
    let mut news = Vec::new();
    for key in keys {
        let place = (user.as_str(), pos, &*key.room, &*key.session);
        match tables::BACKUP_KEYS.get(tx, place)? {
            Some(old) if worth(&old)? >= key.worth => continue,
            Some(_) => {}
            None => added += 1,
        }
        changed = true;
        news.push((place, &key.json));
    }
    if all + added > MAX_KEYS {
        return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", format!("a backup takes {MAX_KEYS} keys")));
    }
    for (place, json) in news {
        tables::BACKUP_KEYS.put(tx, place, json)?;
    }
    if changed {
        (row.count, row.etag) = (row.count + added, tx.next_pos());
        tables::BACKUPS.put(tx, (user.as_str(), pos), &row)?;
    }
    Ok(Status::of(&row))
}

fn worth(json: &str) -> Result<Worth> {
    #[derive(Deserialize)]
    struct Data {
        first_message_index: u64,
        forwarded_count: u64,
        is_verified: bool,
    }
    let data: Data = serde_json::from_str(json).map_err(Error::internal)?;
    Ok((data.is_verified, Reverse(data.first_message_index), Reverse(data.forwarded_count)))
}

/// Takes some keys out of a backup, and says whether there are more of those.
pub fn remove(tx: &WriteTx, user: &UserId, version: &str, which: &Which) -> Result<(Status, bool)> {
    let (pos, mut row) = named(tx, user, version)?;
    let names = names(tx, user, pos, which, PER_JOB)?;
    for (room, session) in &names {
        tables::BACKUP_KEYS.remove(tx, (user.as_str(), pos, &**room, &**session))?;
    }
    if !names.is_empty() {
        (row.count, row.etag) = (row.count.saturating_sub(names.len() as u64), tx.next_pos());
        tables::BACKUPS.put(tx, (user.as_str(), pos), &row)?;
    }
    Ok((Status::of(&row), names.len() == PER_JOB))
}

/// A key that was found.
pub struct Found {
    /// The room's ID.
    pub room: String,
    /// The session's ID.
    pub session: String,
    /// The key as it was sent.
    pub json: String,
}

/// Keys of a backup in the order of rooms and sessions, after one that was found already.
pub fn page(
    tx: &impl Read,
    user: &UserId,
    version: &str,
    which: &Which,
    (after, limit): (Option<&Found>, usize),
) -> Result<Vec<Found>> {
    let (version, _) = named(tx, user, version)?;
    let mut found = Vec::new();
    let from = after.map_or_else(|| start(which), |last| (last.room.as_str(), last.session.as_str()));
    tables::BACKUP_KEYS.scan(tx, range(user, version, which, from), |(_, _, room, session), json| {
        let is_last = after.is_some_and(|last| last.room == room && last.session == session);
        if !is_last {
            found.push(Found { room: room.to_owned(), session: session.to_owned(), json });
        }
        Ok(if found.len() == limit { Flow::Stop } else { Flow::Next })
    })?;
    Ok(found)
}

fn names(tx: &impl Read, user: &UserId, version: Pos, which: &Which, limit: usize) -> Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    tables::BACKUP_KEYS.scan(tx, range(user, version, which, start(which)), |(_, _, room, session), _| {
        out.push((room.to_owned(), session.to_owned()));
        Ok(if out.len() == limit { Flow::Stop } else { Flow::Next })
    })?;
    Ok(out)
}

type Place<'a> = (&'a str, Pos, &'a str, &'a str);

fn start(which: &Which) -> (&str, &str) {
    (which.room.as_deref().unwrap_or_default(), which.session.as_deref().unwrap_or_default())
}

fn range<'a>(
    user: &'a UserId,
    version: Pos,
    which: &'a Which,
    (room, session): (&'a str, &'a str),
) -> std::ops::RangeInclusive<Place<'a>> {
    let end = (which.room.as_deref().unwrap_or(LAST), which.session.as_deref().unwrap_or(LAST));
    (user.as_str(), version, room, session)..=(user.as_str(), version, end.0, end.1)
}

fn backups(tx: &impl Read, user: &UserId) -> Result<Vec<(Pos, BackupRow)>> {
    let all = (user.as_str(), 0)..=(user.as_str(), Pos::MAX);
    tables::BACKUPS.collect(tx, all, |(_, version), row| (version, row))
}

fn current(tx: &impl Read, user: &UserId) -> Result<Option<(Pos, BackupRow)>> {
    Ok(backups(tx, user)?.into_iter().rfind(|(_, row)| !row.deleted))
}

/// A backup by the name that clients know it by. 404 if there is none.
fn named(tx: &impl Read, user: &UserId, version: &str) -> Result<(Pos, BackupRow)> {
    // Only one way of writing a number is its name.
    let pos = version.parse::<Pos>().ok().filter(|pos| pos.to_string() == version).ok_or_else(unknown)?;
    let row = tables::BACKUPS.get(tx, (user.as_str(), pos))?.filter(|row| !row.deleted);
    Ok((pos, row.ok_or_else(unknown)?))
}

fn unknown() -> Error {
    Error::not_found("there is no such key backup")
}

#[cfg(test)]
mod tests {
    use ruma::{api::client::backup::KeyBackupData, serde::Raw};
    use serde_json::{Value, json};

    use super::*;
    use crate::e2ee::testing::{alice, bob, open, raw};

    fn method() -> Box<RawValue> {
        crate::base::json::to_raw(&json!({ "algorithm": "m.test", "auth_data": { "x": 1 } })).expect("JSON")
    }

    fn keys(room: &str, sessions: Value) -> Vec<Key> {
        let Value::Object(sessions) = sessions else { panic!("an object") };
        let sessions: BTreeMap<String, Raw<KeyBackupData>> =
            sessions.iter().map(|(id, key)| (id.clone(), raw(key))).collect();
        check([(room, &sessions)].into_iter()).expect("good").concat()
    }

    fn key(verified: bool, first: u64, forwarded: u64) -> Value {
        json!({ "is_verified": verified, "first_message_index": first, "forwarded_count": forwarded,
            "session_data": { "n": [verified, first, forwarded] } })
    }

    #[tokio::test]
    async fn of_two_keys_of_a_session_the_better_stays() {
        let (_dir, store) = open();
        let job = store.write(|tx| {
            let version = create(tx, alice(), &method())?;
            let mut etag = version.clone();
            let mut put_one = |key: Value, stays: bool| -> Result<()> {
                let status = put(tx, alice(), &version, &keys("!r", json!({ "s": key })))?;
                assert_eq!(status.count, 1);
                assert_eq!(status.etag == etag, stays);
                etag = status.etag;
                Ok(())
            };
            put_one(key(false, 5, 5), false)?;
            put_one(key(false, 5, 5), true)?;
            put_one(key(false, 6, 0), true)?;
            put_one(key(false, 5, 4), false)?;
            put_one(key(false, 4, 9), false)?;
            put_one(key(true, 9, 9), false)?;
            put_one(key(false, 0, 0), true)?;
            let found = page(tx, alice(), &version, &Which::default(), (None, 10))?;
            assert!(found[0].json.contains("[true,9,9]"));
            Ok(())
        });
        job.await.expect("written");
    }

    #[tokio::test]
    async fn only_the_newest_backup_takes_keys_and_deleted_ones_are_as_if_they_never_were() {
        let (_dir, store) = open();
        let job = store.write(|tx| {
            let old = create(tx, alice(), &method())?;
            put(tx, alice(), &old, &keys("!r", json!({ "s": key(true, 0, 0), "t": key(true, 0, 0) })))?;
            let new = create(tx, alice(), &method())?;
            let refused = put(tx, alice(), &old, &[]).expect_err("refused");
            assert_eq!((refused.errcode(), &refused.body()["current_version"]), (WRONG, &json!(new)));
            assert_eq!(page(tx, alice(), &old, &Which::default(), (None, 10))?.len(), 2);
            assert!(page(tx, bob(), &old, &Which::default(), (None, 10)).is_err());
            delete(tx, alice(), &new)?;
            assert_eq!(info(tx, alice(), None)?.version, old);
            assert!(info(tx, alice(), Some(&new)).is_err() && info(tx, alice(), Some(&format!("0{old}"))).is_err());
            assert_eq!(put(tx, alice(), &old, &[])?.count, 2);
            delete(tx, alice(), &old)?;
            assert!(info(tx, alice(), None).is_err() && !is_swept(tx, alice())?);
            while !is_swept(tx, alice())? {
                sweep(tx, alice())?;
            }
            assert_eq!((tables::BACKUPS.len(tx)?, tables::BACKUP_KEYS.len(tx)?), (0, 0));
            Ok(())
        });
        job.await.expect("written");
    }

    const WRONG: &str = "M_WRONG_ROOM_KEYS_VERSION";

    #[tokio::test]
    async fn keys_are_read_and_taken_away_by_room_and_session() {
        let (_dir, store) = open();
        let job = store.write(|tx| {
            let version = create(tx, alice(), &method())?;
            for room in ["!a", "!b"] {
                put(tx, alice(), &version, &keys(room, json!({ "s": key(true, 0, 0), "t": key(true, 0, 0) })))?;
            }
            let room = Which { room: Some("!a".into()), session: None };
            let one = Which { session: Some("t".into()), ..room.clone() };
            let names = |which: &Which, after: Option<&Found>| -> Result<Vec<String>> {
                let found = page(tx, alice(), &version, which, (after, 3))?;
                Ok(found.into_iter().map(|key| key.room + &key.session).collect())
            };
            assert_eq!(names(&Which::default(), None)?, ["!as", "!at", "!bs"]);
            let last = Found { room: "!b".into(), session: "s".into(), json: String::new() };
            assert_eq!(names(&Which::default(), Some(&last))?, ["!bt"]);
            assert_eq!(names(&room, None)?, ["!as", "!at"]);
            assert_eq!(names(&one, None)?, ["!at"]);
            let (status, more) = remove(tx, alice(), &version, &one)?;
            assert_eq!((status.count, more), (3, false));
            assert_eq!(remove(tx, alice(), &version, &one)?.0, status, "nothing changed");
            assert_eq!(remove(tx, alice(), &version, &Which::default())?.0.count, 0);
            Ok(())
        });
        job.await.expect("written");
    }
}
