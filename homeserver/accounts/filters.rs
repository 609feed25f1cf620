//! Filters that clients leave here to name them later. Equal filters have equal IDs, so that a client
//! that uploads its filter at each start adds nothing. spec: client-server-api#filtering

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use ruma::{UserId, api::client::filter::FilterDefinition};
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    store::{LAST, Read, WriteTx, tables},
};

/// Bytes of a filter at most.
const MAX_JSON: usize = 64 * 1024;
/// Filters of an account at most.
const MAX_FILTERS: usize = 1000;

/// Keeps a filter and says its ID. 400 `M_BAD_JSON` if it is none.
pub fn create(tx: &WriteTx, user: &UserId, filter: &Map<String, Value>) -> Result<String> {
    let json = serde_json::to_string(filter).map_err(Error::internal)?;
    if json.len() > MAX_JSON {
        return Err(Error::too_large(format!("a filter has at most {MAX_JSON} bytes")));
    }
    parse(&json)?;
    let hash = digest::digest(&digest::SHA256, json.as_bytes());
    // Begins with a letter: an ID that begins with a brace would be taken for a filter itself.
    let id = format!("f{}", &URL_SAFE_NO_PAD.encode(hash)[..20]);
    if tables::FILTERS.has(tx, (user.as_str(), &*id))? {
        return Ok(id);
    }
    if ids(tx, user)?.len() >= MAX_FILTERS {
        return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "there are too many filters already"));
    }
    tables::FILTERS.put(tx, (user.as_str(), &*id), &json)?;
    Ok(id)
}

/// A filter's JSON. 404 `M_NOT_FOUND` if there is none of that ID.
pub fn get(tx: &impl Read, user: &UserId, id: &str) -> Result<String> {
    let json = tables::FILTERS.get(tx, (user.as_str(), id))?;
    json.ok_or_else(|| Error::not_found("you have no filter of that ID"))
}

/// The filter that JSON describes. 400 `M_BAD_JSON` if it describes none.
pub fn parse(json: &str) -> Result<FilterDefinition> {
    serde_json::from_str(json).map_err(|error| Error::bad_json(format!("not a filter: {error}")))
}

/// Removes all filters of an account.
pub fn forget(tx: &WriteTx, user: &UserId) -> Result<()> {
    tables::FILTERS.remove_range(tx, (user.as_str(), "")..=(user.as_str(), LAST))
}

fn ids(tx: &impl Read, user: &UserId) -> Result<Vec<String>> {
    let range = (user.as_str(), "")..=(user.as_str(), LAST);
    tables::FILTERS.collect(tx, range, |(_, id), _| id.to_owned())
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;
    use crate::accounts::testing;

    #[tokio::test]
    async fn equal_filters_are_one_and_what_is_no_filter_is_refused() {
        let (_dir, store) = testing::store();
        let alice = user_id!("@alice:b.c");
        let keep = |filter: Value| {
            let filter = filter.as_object().cloned().expect("an object");
            store.write(move |tx| create(tx, alice, &filter))
        };
        let id = keep(json!({ "room": { "timeline": { "limit": 5 } } })).await.expect("keeps");
        assert_eq!(keep(json!({ "room": { "timeline": { "limit": 5 } } })).await.expect("keeps"), id);
        assert_ne!(keep(json!({})).await.expect("keeps"), id);
        assert_eq!(store.read(|tx| ids(tx, alice)).expect("reads").len(), 2);
        let kept = store.read(|tx| get(tx, alice, &id)).expect("there");
        assert_eq!(kept, r#"{"room":{"timeline":{"limit":5}}}"#);
        assert!(store.read(|tx| get(tx, user_id!("@bob:b.c"), &id)).is_err());
        for bad in [json!({ "presence": "x" }), json!({ "room": { "timeline": { "rooms": ["not an ID"] } } })] {
            assert_eq!(keep(bad).await.expect_err("refused").errcode(), "M_BAD_JSON");
        }
    }
}
