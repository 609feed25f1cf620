//! What people say of themselves: display name, picture, and further fields.

use ruma::UserId;
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    store::{Read, tables},
};

/// A field of somebody's profile.
pub fn field(tx: &impl Read, user: &UserId, key: &str) -> Result<Option<Value>> {
    let text = tables::PROFILES.get(tx, (user.as_str(), key))?;
    text.map(|text| serde_json::from_str(&text).map_err(Error::internal)).transpose()
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
