//! Our keys, and as a notary those of others. spec: server-server-api#retrieving-server-keys

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    CanonicalJsonObject, OwnedServerName,
    api::federation::discovery::{
        get_remote_server_keys::v2 as get_of_server, get_remote_server_keys_batch::v2 as get_of_many,
        get_server_keys::v2 as get_own,
    },
};
use serde_json::json;

use crate::{
    app::App,
    base::clock,
    error::{Error, Result},
    federation::server_keys,
    http::{Bucket, Caller, Reply, reply},
    limits,
};

/// Servers whose keys one request may ask for.
const MAX_SERVERS: usize = 200;

/// `GET /_matrix/key/v2/server`
pub async fn own(app: Arc<App>, _: Caller, _: get_own::Request) -> Result<Reply> {
    reply::json(&server_keys::publish(&app.me)?)
}

/// `GET /_matrix/key/v2/query/{serverName}`
pub async fn of_server(app: Arc<App>, caller: Caller, request: get_of_server::Request) -> Result<Reply> {
    let asked = BTreeMap::from([(request.server_name, request.minimum_valid_until_ts.get().into())]);
    answer(&app, caller, asked).await
}

/// `POST /_matrix/key/v2/query`
pub async fn of_many(app: Arc<App>, caller: Caller, request: get_of_many::Request) -> Result<Reply> {
    if request.server_keys.len() > MAX_SERVERS {
        return Err(Error::invalid_param(format!("keys of {MAX_SERVERS} servers at most can be asked for")));
    }
    let until = |criteria: &get_of_many::QueryCriteria| criteria.minimum_valid_until_ts.map(|until| until.get().into());
    let latest = |keys: &BTreeMap<_, _>| keys.values().filter_map(until).max().unwrap_or_else(clock::now_ms);
    let asked = request.server_keys.iter().map(|(server, keys)| (server.clone(), latest(keys))).collect();
    answer(&app, caller, asked).await
}

/// What each server says of its keys, with our signature beside its own. Servers whose keys can't be had are
/// left out.
async fn answer(app: &App, caller: Caller, asked: BTreeMap<OwnedServerName, u64>) -> Result<Reply> {
    let keyring = &app.federation.keyring;
    let new = keyring.unsaid(&asked)?.len();
    app.limits.take_many(Bucket::NewServer, limits::address(caller.ip), u32::try_from(new).unwrap_or(u32::MAX))?;
    let mut signed: Vec<CanonicalJsonObject> = keyring.said(&asked).await?;
    for object in &mut signed {
        server_keys::sign(&app.me, object)?;
    }
    reply::json(&json!({ "server_keys": signed }))
}
