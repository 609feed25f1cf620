//! The server itself: which version it is, and how it is.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::{look, route};
use crate::{
    accounts::users,
    app::App,
    base::disk,
    error::Result,
    http::{Asked, Reply, Router, reply},
    rooms::{aliases, directory},
    store::Read,
};

pub(super) fn routes(router: &mut Router) {
    route(router, Method::GET, "/_synapse/admin/v1/server_version", version);
    route(router, Method::GET, "/_synapse/admin/v1/username_available", name_available);
    route(router, Method::GET, "/_matrix/client/unstable/chat.hearth.admin/health", health);
}

/// `GET /_synapse/admin/v1/server_version`
async fn version(_: Arc<App>, _: Asked) -> Result<Reply> {
    reply::json(&json!({ "server_version": concat!("Hearth ", env!("CARGO_PKG_VERSION")) }))
}

/// `GET /_synapse/admin/v1/username_available`
async fn name_available(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = users::wished(asked.query("username").unwrap_or_default(), &app.me.name)?;
    app.store.read(|tx| users::check_free(tx, &user))?;
    reply::json(&json!({ "available": true }))
}

/// How it stands with each application service.
fn services(app: &App, tx: &impl Read) -> Result<Value> {
    let now = tx.pos()?;
    let shown = app.services.all().iter().map(|service| {
        let health = service.health();
        json!({
            "id": service.told.id,
            "is_told": service.told.url.is_some(),
            "behind_by": service.told.url.as_ref().map(|_| now.saturating_sub(health.told)),
            "failing_since": health.failing_since,
            "last_error": health.error,
        })
    });
    Ok(shown.collect())
}

/// `GET …/chat.hearth.admin/health`
async fn health(app: Arc<App>, _: Asked) -> Result<Reply> {
    let found = look(app, |app, tx| {
        let database = app.config.data_dir.join("hearth.redb");
        let bytes = std::fs::metadata(&database).map(|file| file.len()).ok();
        Ok(json!({
            "server_name": app.me.name,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_ms": u64::try_from(app.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "memory": { "resident_bytes": disk::resident_memory(), "cache_budget_bytes": app.config.memory },
            "clients": { "waiting": app.hub.notifier.waiting() },
            "caches": { "room_state_bytes": app.store.cached_bytes() },
            "database": { "bytes": bytes, "free_disk_bytes": disk::free(&app.config.data_dir).ok() },
            "accounts": users::count(tx)?,
            "rooms": directory::count(tx)?,
            "aliases": aliases::count(tx)?,
            "app_services": services(app, tx)?,
        }))
    });
    reply::json(&found.await?)
}
