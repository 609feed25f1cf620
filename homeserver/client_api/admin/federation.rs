//! The other servers: with whom rooms are shared, since when one can't be reached, and trying it now; and whether they
//! find this one.

use std::sync::Arc;

use http::Method;
use ruma::{OwnedServerName, ServerName};
use serde_json::{Value, json};

use super::{backward, look, part, route};
use crate::{
    app::App,
    error::{Error, Result},
    http::{Asked, Reply, Router, reply},
    rooms::{Room, servers},
    store::rows::DestinationRow,
};

const ALL: &str = "/_synapse/admin/v1/federation/destinations";
const ONE: &str = "/_synapse/admin/v1/federation/destinations/{destination}";
/// Servers that are looked at for a list at most.
const MAX_SERVERS: usize = 20_000;
/// What a list can be ordered by.
const ORDERS: [&str; 5] =
    ["destination", "retry_last_ts", "retry_interval", "failure_ts", "last_successful_stream_ordering"];

pub(super) fn routes(router: &mut Router) {
    route(router, Method::GET, "/_matrix/client/unstable/chat.hearth.admin/federation", seen);
    route(router, Method::GET, ALL, list);
    route(router, Method::GET, ONE, get);
    route(router, Method::GET, "/_synapse/admin/v1/federation/destinations/{destination}/rooms", rooms);
    route(router, Method::POST, "/_synapse/admin/v1/federation/destinations/{destination}/reset_connection", reset);
}

/// `GET …/chat.hearth.admin/federation`: whether others find this server.
async fn seen(app: Arc<App>, _: Asked) -> Result<Reply> {
    let (name, enabled) = (&app.me.name, app.config.federation.enabled);
    if !enabled {
        return reply::json(&json!({ "server_name": name, "enabled": enabled }));
    }
    let seen = app.federation.seen_from_outside().await?;
    let delegated = seen.delegated.map(|read| match read {
        Ok(server) => json!({ "server": server }),
        Err(why) => json!({ "error": why }),
    });
    reply::json(&json!({
        "server_name": name,
        "enabled": enabled,
        "address": seen.address,
        "well_known": delegated,
        "error": seen.answer.err(),
    }))
}

fn shown(server: &ServerName, row: Option<DestinationRow>) -> Value {
    let row = row.unwrap_or_default();
    let failing = row.failures > 0;
    json!({
        "destination": server,
        "failure_ts": failing.then_some(row.failing_since),
        "retry_last_ts": if failing { row.tried_at } else { 0 },
        "retry_interval": if failing { row.retry_at.saturating_sub(row.tried_at) } else { 0 },
        "last_successful_stream_ordering": (row.acked > 0).then_some(row.acked),
        "chat.hearth.last_error": failing.then_some(row.last_error),
    })
}

/// Servers that are ordered by name, in another order. Of those that are equal the names decide.
fn ordered(app: &App, mut servers: Vec<OwnedServerName>, by: &str, backward: bool) -> Result<Vec<OwnedServerName>> {
    if by == "destination" {
        if backward {
            servers.reverse();
        }
        return Ok(servers);
    }
    let rank = |server: &OwnedServerName| -> Result<u64> {
        Ok(shown(server, app.federation.outbox.destination(server)?)[by].as_u64().unwrap_or_default())
    };
    let mut ranked = servers.into_iter().map(|server| Ok((rank(&server)?, server))).collect::<Result<Vec<_>>>()?;
    ranked.sort_by_key(|(rank, _)| if backward { u64::MAX - rank } else { *rank });
    Ok(ranked.into_iter().map(|(_, server)| server).collect())
}

/// `GET /_synapse/admin/v1/federation/destinations`
async fn list(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (from, limit) = part(&asked)?;
    let wanted = asked.query("destination").unwrap_or_default().to_lowercase();
    let by = asked.query("order_by").unwrap_or("destination").to_owned();
    if !ORDERS.contains(&&*by) {
        return Err(Error::invalid_param(format!("order_by is one of {ORDERS:?}")));
    }
    let backward = backward(&asked, false)?;
    let (total, page) = look(app, move |app, tx| {
        let mut all = servers::known(tx, &app.me.name, "", MAX_SERVERS)?;
        all.retain(|server| server.as_str().contains(&wanted));
        let all = ordered(app, all, &by, backward)?;
        let page = all.iter().skip(from).take(limit);
        let page = page.map(|server| Ok(shown(server, app.federation.outbox.destination(server)?)));
        Ok((all.len(), page.collect::<Result<Vec<Value>>>()?))
    })
    .await?;
    let next = from + page.len();
    let mut answer = json!({ "destinations": page, "total": total });
    if next < total {
        answer["next_token"] = next.to_string().into();
    }
    reply::json(&answer)
}

/// The server that a path names. 404 if no room is shared with it and there never was anything to tell it.
fn named(app: &App, asked: &Asked) -> Result<(OwnedServerName, Option<DestinationRow>)> {
    let server: OwnedServerName = asked.path(0)?;
    let row = app.federation.outbox.destination(&server)?;
    let shares = app.store.read(|tx| Ok(!servers::rooms_of(tx, &server)?.is_empty()))?;
    match (shares || row.is_some()) && server != app.me.name {
        true => Ok((server, row)),
        false => Err(Error::not_found("this server has nothing to do with that one")),
    }
}

/// `GET /_synapse/admin/v1/federation/destinations/{destination}`
async fn get(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (server, row) = named(&app, &asked)?;
    reply::json(&shown(&server, row))
}

/// `GET /_synapse/admin/v1/federation/destinations/{destination}/rooms`
async fn rooms(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (from, limit) = part(&asked)?;
    let (server, row) = named(&app, &asked)?;
    let acked = row.map_or(0, |row| row.acked);
    let (total, page) = look(app, move |_, tx| {
        let all = servers::rooms_of(tx, &server)?;
        let page =
            all.iter().skip(from).take(limit).map(|num| Ok(Room::at(tx, *num)?.row.id)).collect::<Result<Vec<_>>>()?;
        Ok((all.len(), page))
    })
    .await?;
    let next = from + page.len();
    let page: Vec<Value> = page.into_iter().map(|id| json!({ "room_id": id, "stream_ordering": acked })).collect();
    let mut answer = json!({ "rooms": page, "total": total });
    if next < total {
        answer["next_token"] = next.to_string().into();
    }
    reply::json(&answer)
}

/// `POST /_synapse/admin/v1/federation/destinations/{destination}/reset_connection`
async fn reset(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (server, row) = named(&app, &asked)?;
    if row.is_none_or(|row| row.failures == 0) {
        return Err(Error::unknown("that server is not tried in vain"));
    }
    app.federation.outbox.try_now(&server);
    reply::json(&json!({}))
}
