//! Pushers of an account, for the administrator: how it stands with them and what came of it, without what is
//! secret of them.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::{account, named, route};
use crate::{
    accounts::pushers,
    app::App,
    client_api::pushers::of_account,
    error::Result,
    http::{Asked, Reply, Router, reply},
};

pub(super) fn routes(router: &mut Router) {
    route(router, Method::GET, "/_matrix/client/unstable/chat.hearth.admin/pushers/{user_id}", explained);
    route(router, Method::GET, "/_synapse/admin/v1/users/{user_id}/pushers", list);
}

/// `GET …/chat.hearth.admin/pushers/{user_id}`
async fn explained(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = named(&asked)?;
    app.store.read(|tx| account(&app, tx, &user))?;
    reply::json(&of_account(&app, &user).await?)
}

/// `GET /_synapse/admin/v1/users/{user_id}/pushers`: with IDs of ours where the pushkeys would be, as who has a
/// pushkey can tell the device something.
async fn list(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = named(&asked)?;
    let rows = app.store.read(|tx| {
        account(&app, tx, &user)?;
        pushers::of(tx, &user)
    })?;
    let all: Vec<Value> = rows
        .into_iter()
        .map(|(id, row)| {
            json!({
                "pushkey": id,
                "kind": "http",
                "app_id": row.app_id,
                "app_display_name": row.app_name,
                "device_display_name": row.device_name,
                "profile_tag": row.profile_tag.unwrap_or_default(),
                "lang": row.lang,
                "data": { "url": row.url },
            })
        })
        .collect();
    reply::json(&json!({ "pushers": all, "total": all.len() }))
}
