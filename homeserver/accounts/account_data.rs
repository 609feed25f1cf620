//! Account data: what clients keep on the server for themselves, for the account or for one of its
//! rooms; and tags, which are the room type `m.tag`. Owns the log of what changed when.
//! spec: client-server-api#client-config, #room-tagging

use std::{collections::HashSet, ops::RangeInclusive};

use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    base::Pos,
    error::{Error, Result},
    store::{Flow, LAST, Read, WriteTx, rows::Dated, tables},
};

/// Bytes of one entry at most.
const MAX_JSON: usize = 256 * 1024;
/// Types of one account or of one of its rooms at most.
const MAX_TYPES: usize = 1000;
/// Bytes of all entries of an account at most, each with [`OVERHEAD`]: a first sync carries them all.
const MAX_TOTAL: u64 = 32 << 20;
/// What an entry weighs beside its content, so that small ones are bounded in number too.
const OVERHEAD: u64 = 512;
/// Bytes of a type or tag at most.
const MAX_NAME: usize = 255;
/// Tags of a room at most.
const MAX_TAGS: usize = 200;
/// The type that says which rooms are direct, and with whom.
pub const DIRECT: &str = "m.direct";
/// Types that only the server sets, through other endpoints.
const SERVER_MANAGED: [&str; 2] = ["m.fully_read", "m.push_rules"];
/// The room type that holds tags.
const TAGS: &str = "m.tag";
/// The content of what was deleted, or emptied, which is the same: sessions that knew it hear of it once, and for all
/// others it is as if it had never been. spec: MSC3391
const DELETED: &str = "{}";

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The room it is for, or nothing.
    pub room: String,
    /// Its type.
    pub kind: String,
    /// Its content, a JSON object.
    pub json: String,
}

/// An entry's content, unless it is deleted. `room` is empty for what belongs to the account as a whole.
pub fn get(tx: &impl Read, user: &UserId, room: &str, kind: &str) -> Result<Option<String>> {
    let row = tables::ACCOUNT_DATA.get(tx, (user.as_str(), room, kind))?;
    Ok(row.map(|row| row.json).filter(|json| json != DELETED))
}

/// Whether somebody has any entry. People of other servers have none.
pub fn has_any(tx: &impl Read, user: &UserId) -> Result<bool> {
    let mut found = false;
    tables::ACCOUNT_DATA.scan(tx, (user.as_str(), "", "")..=(user.as_str(), LAST, LAST), |_, _| {
        found = true;
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// Sets an entry for a client. 405 for what only the server may set.
pub fn set_by_client(tx: &WriteTx, user: &UserId, room: &str, kind: &str, content: &Map<String, Value>) -> Result<()> {
    if SERVER_MANAGED.contains(&kind) {
        return Err(Error::server_managed(format!("{kind} is set through its own endpoint")));
    }
    set(tx, user, room, kind, serde_json::to_string(content).map_err(Error::internal)?)
}

/// Deletes an entry for a client. Nothing happens if there is none.
pub fn delete_by_client(tx: &WriteTx, user: &UserId, room: &str, kind: &str) -> Result<()> {
    match get(tx, user, room, kind)?.is_some() || SERVER_MANAGED.contains(&kind) {
        true => set_by_client(tx, user, room, kind, &Map::new()),
        false => Ok(()),
    }
}

/// Sets an entry, and tells the account's other sessions.
pub fn set(tx: &WriteTx, user: &UserId, room: &str, kind: &str, json: String) -> Result<()> {
    if kind.is_empty() || kind.len() > MAX_NAME || kind.contains(char::is_control) {
        return Err(Error::invalid_param(format!("a type has 1 to {MAX_NAME} bytes and no control characters")));
    }
    if json.len() > MAX_JSON {
        return Err(Error::too_large(format!("account data has at most {MAX_JSON} bytes")));
    }
    let old = tables::ACCOUNT_DATA.get(tx, (user.as_str(), room, kind))?;
    match &old {
        Some(old) if old.json == json => return Ok(()),
        Some(_) => {}
        None => check_room(tx, user, room)?,
    }
    let weight = |json: &str| json.len() as u64 + OVERHEAD;
    let (before, after) = (old.as_ref().map_or(0, |old| weight(&old.json)), weight(&json));
    let total = tables::ACCOUNT_DATA_SIZES.get(tx, user.as_str())?.unwrap_or(0).saturating_sub(before) + after;
    if total > MAX_TOTAL && after > before && !SERVER_MANAGED.contains(&kind) {
        return Err(too_much());
    }
    tables::ACCOUNT_DATA_SIZES.put(tx, user.as_str(), &total)?;
    if let Some(old) = old {
        tables::ACCOUNT_DATA_LOG.remove(tx, (user.as_str(), old.pos))?;
    }
    let pos = tx.next_pos();
    tables::ACCOUNT_DATA.put(tx, (user.as_str(), room, kind), &Dated { pos, json })?;
    tables::ACCOUNT_DATA_LOG.put(tx, (user.as_str(), pos), &format!("{room}\n{kind}"))?;
    tx.wake(|wake| {
        wake.users.insert(user.to_owned());
    });
    Ok(())
}

/// The entries that changed after `since` up to `upto`, each as it is now.
pub fn changes(tx: &impl Read, user: &UserId, since: Pos, upto: Pos) -> Result<Vec<Entry>> {
    let range = (user.as_str(), since + 1)..=(user.as_str(), upto);
    let names = tables::ACCOUNT_DATA_LOG.collect(tx, range, |_, name| name)?;
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let (room, kind) = name.split_once('\n').ok_or_else(|| Error::internal("damaged account data log"))?;
        let row = tables::ACCOUNT_DATA.get(tx, (user.as_str(), room, kind))?;
        let row = row.ok_or_else(|| Error::internal("account data log without data"))?;
        entries.push(Entry { room: room.to_owned(), kind: kind.to_owned(), json: row.json });
    }
    Ok(entries)
}

/// All entries: those of the account first, then room by room.
pub fn all(tx: &impl Read, user: &UserId) -> Result<Vec<Entry>> {
    within(tx, (user.as_str(), "", "")..=(user.as_str(), LAST, ""))
}

/// All entries of one room.
pub fn of_room(tx: &impl Read, user: &UserId, room: &str) -> Result<Vec<Entry>> {
    within(tx, (user.as_str(), room, "")..=(user.as_str(), room, LAST))
}

fn within(tx: &impl Read, range: RangeInclusive<(&str, &str, &str)>) -> Result<Vec<Entry>> {
    let mut entries = tables::ACCOUNT_DATA.collect(tx, range, |(_, room, kind), row| Entry {
        room: room.to_owned(),
        kind: kind.to_owned(),
        json: row.json,
    })?;
    entries.retain(|entry| entry.json != DELETED);
    Ok(entries)
}

/// The tags of a room, by name.
pub fn tags(tx: &impl Read, user: &UserId, room: &str) -> Result<Map<String, Value>> {
    Ok(match tag_content(tx, user, room)?.remove("tags") {
        Some(Value::Object(tags)) => tags,
        _ => Map::new(),
    })
}

/// Tags a room.
pub fn tag(tx: &WriteTx, user: &UserId, room: &str, tag: &str, info: Map<String, Value>) -> Result<()> {
    if tag.is_empty() || tag.len() > MAX_NAME {
        return Err(Error::invalid_param(format!("a tag has 1 to {MAX_NAME} bytes")));
    }
    let mut tags = tags(tx, user, room)?;
    tags.insert(tag.to_owned(), Value::Object(info));
    if tags.len() > MAX_TAGS {
        return Err(Error::invalid_param(format!("a room has at most {MAX_TAGS} tags")));
    }
    set_tags(tx, user, room, tags)
}

/// Takes a tag from a room. Nothing happens if it has no such tag.
pub fn untag(tx: &WriteTx, user: &UserId, room: &str, tag: &str) -> Result<()> {
    let mut tags = tags(tx, user, room)?;
    match tags.remove(tag) {
        Some(_) => set_tags(tx, user, room, tags),
        None => Ok(()),
    }
}

/// Removes all entries of an account.
pub fn forget(tx: &WriteTx, user: &UserId) -> Result<()> {
    let entries = (user.as_str(), "", "")..=(user.as_str(), LAST, "");
    tables::ACCOUNT_DATA.remove_range(tx, entries)?;
    tables::ACCOUNT_DATA_SIZES.remove(tx, user.as_str())?;
    tables::ACCOUNT_DATA_LOG.remove_range(tx, (user.as_str(), 0)..=(user.as_str(), Pos::MAX))
}

fn tag_content(tx: &impl Read, user: &UserId, room: &str) -> Result<Map<String, Value>> {
    let json = get(tx, user, room, TAGS)?;
    json.map_or_else(|| Ok(Map::new()), |json| serde_json::from_str(&json).map_err(Error::internal))
}

fn set_tags(tx: &WriteTx, user: &UserId, room: &str, tags: Map<String, Value>) -> Result<()> {
    let mut content = tag_content(tx, user, room)?;
    content.insert("tags".into(), Value::Object(tags));
    set(tx, user, room, TAGS, Value::Object(content).to_string())
}

/// Refuses a further type where there are too many, and rooms that the account never had to do with:
/// there is no end of those.
fn check_room(tx: &impl Read, user: &UserId, room: &str) -> Result<()> {
    if !room.is_empty() {
        let num = tables::ROOM_NUMS.get(tx, room)?;
        let known = num.map(|num| tables::MEMBERS.has(tx, (num, user.as_str()))).transpose()?;
        // The log divides a room's ID from a type by a line feed.
        if known != Some(true) || room.contains(char::is_control) {
            return Err(Error::forbidden("you have not been in this room"));
        }
    }
    let mut types = 0;
    tables::ACCOUNT_DATA.scan(tx, (user.as_str(), room, "")..=(user.as_str(), room, LAST), |_, _| {
        types += 1;
        Ok(if types < MAX_TYPES { Flow::Next } else { Flow::Stop })
    })?;
    match types < MAX_TYPES {
        true => Ok(()),
        false => Err(too_much()),
    }
}

fn too_much() -> Error {
    Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "there is too much account data here already")
}

/// Whom somebody ignores. spec: client-server-api#ignoring-users
pub fn ignored(tx: &impl Read, user: &UserId) -> Result<HashSet<OwnedUserId>> {
    #[derive(Deserialize)]
    struct Content {
        ignored_users: serde_json::Map<String, serde_json::Value>,
    }
    let json = get(tx, user, "", "m.ignored_user_list")?;
    let content = json.and_then(|json| serde_json::from_str::<Content>(&json).ok());
    let names = content.into_iter().flat_map(|content| content.ignored_users).map(|(name, _)| name);
    // Nobody ignores themselves, whatever the list says.
    Ok(names.filter_map(|name| UserId::parse(name).ok()).filter(|other| other != user).collect())
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;
    use crate::{
        accounts::testing,
        store::{Store, rows::MemberRow},
    };

    fn alice() -> &'static UserId {
        user_id!("@alice:b.c")
    }

    /// A store in which Alice is in two rooms.
    async fn with_rooms() -> (tempfile::TempDir, Store) {
        let (dir, store) = testing::store();
        let member = MemberRow { membership: "join".into(), event: 0, at: None, forgotten: false };
        let written = store.write(move |tx| {
            for (num, room) in [(1, "!r:b.c"), (2, "!s:b.c")] {
                tables::ROOM_NUMS.put(tx, room, &num)?;
                tables::MEMBERS.put(tx, (num, alice().as_str()), &member)?;
            }
            Ok(())
        });
        written.await.expect("written");
        (dir, store)
    }

    #[tokio::test]
    async fn rooms_that_the_account_has_nothing_to_do_with_hold_nothing() {
        let (_dir, store) = with_rooms().await;
        for room in ["!made-up:b.c", "!r:b.c\nx"] {
            assert_eq!(put(&store, room, "x", json!({})).await.expect_err("a stranger").errcode(), "M_FORBIDDEN");
        }
        let error = put(&store, "!r:b.c", "x\ny", json!({})).await.expect_err("a line feed");
        assert_eq!(error.errcode(), "M_INVALID_PARAM");
    }

    #[tokio::test]
    async fn an_account_has_its_bound_in_all_its_rooms_together() {
        let (_dir, store) = with_rooms().await;
        let large = json!({ "text": "x".repeat(MAX_JSON - 100) });
        let content = large.as_object().cloned().expect("an object");
        let fill = move |tx: &WriteTx| {
            (0..MAX_TOTAL / (MAX_JSON as u64 + OVERHEAD)).try_for_each(|n| {
                let room = if n % 2 == 0 { "!r:b.c" } else { "!s:b.c" };
                set_by_client(tx, alice(), room, &format!("t{n}"), &content)
            })
        };
        store.write(fill).await.expect("fills");
        let error = put(&store, "!s:b.c", "more", large.clone()).await.expect_err("full");
        assert_eq!(error.errcode(), "M_RESOURCE_LIMIT_EXCEEDED");
        put(&store, "!r:b.c", "t0", json!({})).await.expect("it can get less");
        put(&store, "!s:b.c", "t1", json!({})).await.expect("it can get less");
        put(&store, "!s:b.c", "more", large).await.expect("then there is room again");
        store.write(|tx| forget(tx, alice())).await.expect("forgets");
        assert_eq!(store.read(|tx| tables::ACCOUNT_DATA_SIZES.get(tx, alice().as_str())).expect("reads"), None);
    }

    async fn put(store: &Store, room: &'static str, kind: &'static str, content: Value) -> Result<()> {
        let Value::Object(content) = content else { panic!("an object is wanted") };
        store.write(move |tx| set_by_client(tx, alice(), room, kind, &content)).await
    }

    #[tokio::test]
    async fn the_log_has_each_entry_once_where_it_changed_last() {
        let (_dir, store) = with_rooms().await;
        put(&store, "", "m.direct", json!({ "@bob:b.c": [] })).await.expect("sets");
        put(&store, "!r:b.c", "x", json!({ "n": 1 })).await.expect("sets");
        let since = store.read(|tx| tx.pos()).expect("reads");
        put(&store, "", "m.direct", json!({ "@bob:b.c": ["!r:b.c"] })).await.expect("sets");
        put(&store, "!r:b.c", "x", json!({ "n": 1 })).await.expect("sets the same");
        let upto = store.read(|tx| tx.pos()).expect("reads");
        let changed = store.read(|tx| changes(tx, alice(), since, upto)).expect("reads");
        let json = r#"{"@bob:b.c":["!r:b.c"]}"#.to_owned();
        assert_eq!(changed, [Entry { room: String::new(), kind: "m.direct".into(), json }]);
        assert_eq!(store.read(|tx| changes(tx, alice(), 0, upto)).expect("reads").len(), 2);
        assert_eq!(store.read(|tx| changes(tx, alice(), 0, since)).expect("reads").len(), 1);
        assert!(store.read(|tx| changes(tx, user_id!("@bob:b.c"), 0, upto)).expect("reads").is_empty());
        let everything = store.read(|tx| all(tx, alice())).expect("reads");
        assert_eq!(everything.iter().map(|entry| &*entry.kind).collect::<Vec<_>>(), ["m.direct", "x"]);
    }

    #[tokio::test]
    async fn what_is_deleted_or_emptied_is_told_once_and_gone() {
        let (_dir, store) = with_rooms().await;
        for (kind, by_emptying) in [("x", false), ("y", true)] {
            put(&store, "!r:b.c", kind, json!({ "n": 1 })).await.expect("sets");
            let since = store.read(|tx| tx.pos()).expect("reads");
            match by_emptying {
                true => put(&store, "!r:b.c", kind, json!({})).await.expect("empties"),
                false => {
                    let delete = |tx: &WriteTx| delete_by_client(tx, alice(), "!r:b.c", kind);
                    store.write(delete).await.expect("deletes");
                    store.write(delete).await.expect("deletes nothing");
                }
            }
            let upto = store.read(|tx| tx.pos()).expect("reads");
            let told = store.read(|tx| changes(tx, alice(), since, upto)).expect("reads");
            assert_eq!(told.iter().map(|entry| (&*entry.kind, &*entry.json)).collect::<Vec<_>>(), [(kind, "{}")]);
            assert_eq!(store.read(|tx| get(tx, alice(), "!r:b.c", kind)).expect("reads"), None);
        }
        assert!(store.read(|tx| all(tx, alice())).expect("reads").is_empty());
        assert!(store.read(|tx| of_room(tx, alice(), "!r:b.c")).expect("reads").is_empty());
        let error = store.write(|tx| delete_by_client(tx, alice(), "", "m.push_rules")).await.expect_err("refused");
        assert_eq!(error.status().as_u16(), 405);
    }

    #[tokio::test]
    async fn rule_20_what_the_server_manages_is_refused_to_clients() {
        let (_dir, store) = testing::store();
        for kind in ["m.fully_read", "m.push_rules"] {
            let error = put(&store, "", kind, json!({})).await.expect_err("refused");
            assert_eq!((error.status().as_u16(), error.errcode()), (405, "M_BAD_JSON"));
        }
        let long = "x".repeat(MAX_JSON);
        let error = put(&store, "", "x", json!({ "text": long })).await.expect_err("refused");
        assert_eq!(error.errcode(), "M_TOO_LARGE");
    }

    #[tokio::test]
    async fn a_room_holds_many_types_and_not_endlessly_many() {
        let (_dir, store) = with_rooms().await;
        let fill =
            |tx: &WriteTx| (0..MAX_TYPES).try_for_each(|n| set(tx, alice(), "!r:b.c", &format!("t{n}"), "{}".into()));
        store.write(fill).await.expect("fills");
        let error = put(&store, "!r:b.c", "more", json!({})).await.expect_err("full");
        assert_eq!(error.errcode(), "M_RESOURCE_LIMIT_EXCEEDED");
        put(&store, "!r:b.c", "t7", json!({ "changed": true })).await.expect("what is there can change");
        put(&store, "!s:b.c", "more", json!({})).await.expect("another room has its own");
    }

    #[tokio::test]
    async fn tags_come_and_go_and_keep_what_else_is_there() {
        let (_dir, store) = with_rooms().await;
        put(&store, "!r:b.c", TAGS, json!({ "tags": { "u.work": {} }, "other": 1 })).await.expect("sets");
        let order = json!({ "order": 0.25 }).as_object().cloned().expect("an object");
        store.write(move |tx| tag(tx, alice(), "!r:b.c", "m.favourite", order.clone())).await.expect("tags");
        store.write(|tx| untag(tx, alice(), "!r:b.c", "u.work")).await.expect("untags");
        store.write(|tx| untag(tx, alice(), "!r:b.c", "u.none")).await.expect("nothing to do");
        let json = store.read(|tx| get(tx, alice(), "!r:b.c", TAGS)).expect("reads").expect("there");
        let content: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(content, json!({ "tags": { "m.favourite": { "order": 0.25 } }, "other": 1 }));
        store.write(|tx| forget(tx, alice())).await.expect("forgets");
        assert!(store.read(|tx| all(tx, alice())).expect("reads").is_empty());
        assert_eq!(store.read(|tx| tables::ACCOUNT_DATA_LOG.len(tx)).expect("reads"), 0);
    }
}
