//! Filters, parsed once for all who use the same one: thousands of parked requests share a few.

use std::sync::{Arc, LazyLock};

use quick_cache::{Weighter, sync};
use ruma::UserId;

use super::Hub;
use crate::{
    accounts::filters::{self, Filter},
    error::{Error, Result},
};

/// Bytes of a parsed filter with nothing in it.
const EMPTY: usize = 1500;

/// No filter.
static NONE: LazyLock<Arc<Filter>> = LazyLock::new(Arc::default);

#[derive(Clone)]
struct Weight;

impl Weighter<String, Arc<Filter>> for Weight {
    fn weight(&self, text: &String, _: &Arc<Filter>) -> u64 {
        // What is parsed takes about as much again as its text, and some more for its lists.
        (EMPTY + 4 * text.len()) as u64
    }
}

/// Filters by their JSON, or by whose they are and their ID, which never comes to mean another.
pub struct Cache(sync::Cache<String, Arc<Filter>, Weight>);

impl Cache {
    pub fn new(bytes: u64) -> Self {
        Self(sync::Cache::with_weighter(64, bytes, Weight))
    }
}

/// No filter.
pub fn none() -> Arc<Filter> {
    NONE.clone()
}

/// A filter as clients give it: its JSON, or the ID of one that they left here; none without either.
pub fn filter(hub: &Hub, user: &UserId, text: Option<&str>) -> Result<Arc<Filter>> {
    match text {
        None | Some("") => Ok(NONE.clone()),
        Some(json) if json.starts_with('{') => {
            hub.filters.0.get_or_insert_with(json, || filters::parse(json).map(Arc::new))
        }
        Some(id) => hub.filters.0.get_or_insert_with(&*format!("{user}\n{id}"), || {
            let unknown = |_| Error::invalid_param("you have no filter of that ID");
            let json = hub.store.read(|tx| filters::get(tx, user, id)).map_err(unknown)?;
            filters::parse(&json).map(Arc::new)
        }),
    }
}
