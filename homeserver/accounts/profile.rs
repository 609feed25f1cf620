//! Profiles: a display name, an avatar, and whatever else somebody wants to say about themselves. Owns
//! the fields and their limits; what a change means for rooms is `rooms`' affair.
//! spec: client-server-api#profiles

use ruma::UserId;
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    store::{LAST, Read, WriteTx, tables},
};

/// Bytes of a whole profile: less than this.
const MAX_PROFILE: usize = 64 * 1024;
/// Bytes of a field's name at most.
const MAX_KEY: usize = 255;
/// Bytes of a display name at most: it is copied into a membership event in every room.
const MAX_DISPLAY_NAME: usize = 1024;
/// Bytes of an avatar's address at most.
const MAX_AVATAR: usize = 1024;

/// Sets a field. An empty display name or avatar takes the field away, as clients mean by it.
pub fn set(tx: &WriteTx, user: &UserId, key: &str, value: &Value) -> Result<()> {
    check_key(key)?;
    if matches!(key, "displayname" | "avatar_url") && value.as_str() == Some("") {
        return remove(tx, user, key);
    }
    check_value(key, value)?;
    let mut after = of(tx, user)?;
    after.insert(key.to_owned(), value.clone());
    let size = serde_json::to_vec(&after).map_err(Error::internal)?.len();
    if size >= MAX_PROFILE {
        return Err(Error::bad_request("M_PROFILE_TOO_LARGE", "a profile has less than 64 KiB"));
    }
    tables::PROFILES.put(tx, (user.as_str(), key), &value.to_string())
}

/// Takes a field away. Nothing happens if it is not set.
pub fn remove(tx: &WriteTx, user: &UserId, key: &str) -> Result<()> {
    check_key(key)?;
    tables::PROFILES.remove(tx, (user.as_str(), key)).map(drop)
}

/// All fields of a profile.
pub fn of(tx: &impl Read, user: &UserId) -> Result<Map<String, Value>> {
    let range = (user.as_str(), "")..=(user.as_str(), LAST);
    let fields = tables::PROFILES.collect(tx, range, |(_, key), json| (key.to_owned(), json))?;
    fields.into_iter().map(|(key, json)| Ok((key, serde_json::from_str(&json).map_err(Error::internal)?))).collect()
}

/// One field of a profile.
pub fn field(tx: &impl Read, user: &UserId, key: &str) -> Result<Option<Value>> {
    check_key(key)?;
    let json = tables::PROFILES.get(tx, (user.as_str(), key))?;
    json.map(|json| serde_json::from_str(&json).map_err(Error::internal)).transpose()
}

/// Puts the display name and picture into a membership event's content, or takes them out of it.
pub fn add_to_member(tx: &impl Read, user: &UserId, content: &mut Map<String, Value>) -> Result<()> {
    for key in ["displayname", "avatar_url"] {
        match field(tx, user, key)? {
            Some(value) => drop(content.insert(key.to_owned(), value)),
            None => drop(content.remove(key)),
        }
    }
    Ok(())
}

/// Adds what a profile shows of somebody to the content of a membership, where that says nothing of its own.
pub fn introduce(tx: &impl Read, user: &UserId, content: &mut Map<String, Value>) -> Result<()> {
    let mut shown = Map::new();
    add_to_member(tx, user, &mut shown)?;
    for (key, value) in shown {
        content.entry(key).or_insert(value);
    }
    Ok(())
}

/// Removes a whole profile.
pub fn forget(tx: &WriteTx, user: &UserId) -> Result<()> {
    tables::PROFILES.remove_range(tx, (user.as_str(), "")..=(user.as_str(), LAST))
}

/// spec: appendices#common-namespaced-identifier-grammar
fn check_key(key: &str) -> Result<()> {
    if key.len() > MAX_KEY {
        return Err(Error::bad_request("M_KEY_TOO_LARGE", format!("a profile key has at most {MAX_KEY} bytes")));
    }
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    match key.as_bytes() {
        [first, rest @ ..] if first.is_ascii_lowercase() && rest.iter().all(|byte| inside(*byte)) => Ok(()),
        _ => Err(Error::invalid_param("a profile key begins with a-z and goes on with a-z, 0-9 and - _ .")),
    }
}

fn check_value(key: &str, value: &Value) -> Result<()> {
    let text = |max: usize, what: &str| match value.as_str() {
        Some(text) if text.len() <= max => Ok(text),
        Some(_) => Err(Error::invalid_param(format!("{what} has at most {max} bytes"))),
        None => Err(Error::invalid_param(format!("{what} is a string"))),
    };
    match key {
        "displayname" => text(MAX_DISPLAY_NAME, "a display name").map(drop),
        "avatar_url" => match text(MAX_AVATAR, "an avatar")?.starts_with("mxc://") {
            true => Ok(()),
            false => Err(Error::invalid_param("an avatar is an mxc:// address")),
        },
        "m.tz" => text(MAX_KEY, "a time zone").map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;
    use crate::accounts::testing;

    #[tokio::test]
    async fn fields_of_any_kind_are_kept_within_limits() {
        let (_dir, store) = testing::store();
        let alice = user_id!("@alice:b.c");
        let put = |key: String, value: Value| store.write(move |tx| set(tx, alice, &key, &value));
        put("displayname".into(), json!("Alice")).await.expect("sets");
        put("avatar_url".into(), json!("mxc://b.c/x")).await.expect("sets");
        put("com.example.pets".into(), json!([{ "name": "Rex" }, null])).await.expect("sets");
        put("avatar_url".into(), json!("")).await.expect("takes away");
        let whole = store.read(|tx| of(tx, alice)).expect("reads");
        assert_eq!(
            Value::Object(whole),
            json!({ "displayname": "Alice", "com.example.pets": [{ "name": "Rex" }, null] })
        );
        let refused = [
            ("displayname".to_owned(), json!(null), "M_INVALID_PARAM"),
            ("displayname".to_owned(), json!("x".repeat(1025)), "M_INVALID_PARAM"),
            ("avatar_url".to_owned(), json!("https://b.c/x"), "M_INVALID_PARAM"),
            ("m.tz".to_owned(), json!(3), "M_INVALID_PARAM"),
            ("Upper".to_owned(), json!(1), "M_INVALID_PARAM"),
            (String::new(), json!(1), "M_INVALID_PARAM"),
            ("x".repeat(256), json!(1), "M_KEY_TOO_LARGE"),
            ("x.big".to_owned(), json!("x".repeat(MAX_PROFILE)), "M_PROFILE_TOO_LARGE"),
        ];
        for (key, value, code) in refused {
            assert_eq!(put(key.clone(), value).await.expect_err(&key).errcode(), code, "{key}");
        }
        store.write(move |tx| forget(tx, alice)).await.expect("forgets");
        assert!(store.read(|tx| of(tx, alice)).expect("reads").is_empty());
    }

    #[tokio::test]
    async fn many_small_fields_fill_a_profile_too() {
        let (_dir, store) = testing::store();
        let alice = user_id!("@alice:b.c");
        let fill =
            move |tx: &WriteTx| (0..70).try_for_each(|n| set(tx, alice, &format!("x.f{n}"), &json!("y".repeat(1000))));
        assert_eq!(store.write(fill).await.expect_err("full").errcode(), "M_PROFILE_TOO_LARGE");
    }
}
