//! Files: what somebody has uploaded, and removing it.

use std::{cmp::Ordering, sync::Arc};

use http::Method;
use serde_json::{Value, json};

use super::{account, backward, look, named, part, route};
use crate::{
    app::App,
    error::{Error, Result},
    http::{Asked, Reply, Router, reply},
    media::Upload,
};

const OF_ONE: &str = "/_synapse/admin/v1/users/{user_id}/media";

/// What lists can be sorted by.
const ORDERS: [&str; 8] = [
    "media_id",
    "upload_name",
    "created_ts",
    "last_access_ts",
    "media_length",
    "media_type",
    "quarantined_by",
    "safe_from_quarantine",
];

pub(super) fn routes(router: &mut Router) {
    route(router, Method::DELETE, "/_synapse/admin/v1/media/{server_name}/{media_id}", delete);
    route(router, Method::GET, OF_ONE, list);
    route(router, Method::DELETE, OF_ONE, delete_of_one);
}

/// `DELETE /_synapse/admin/v1/media/{server_name}/{media_id}`: nobody gets the file here any more. One of another
/// server is fetched again when somebody asks for it.
async fn delete(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (server, id): (String, String) = (asked.path(0)?, asked.path(1)?);
    app.media.delete(&server, &id).await?;
    reply::json(&json!({ "deleted_media": [id], "total": 1 }))
}

/// `GET /_synapse/admin/v1/users/{user_id}/media`
async fn list(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (from, _) = part(&asked)?;
    let (total, some) = some_of_one(app, &asked).await?;
    let next = from + some.len();
    let mut answer = json!({ "media": some.iter().map(shown).collect::<Vec<_>>(), "total": total });
    if !some.is_empty() && next < total {
        answer["next_token"] = next.into();
    }
    reply::json(&answer)
}

/// `DELETE /_synapse/admin/v1/users/{user_id}/media`: those that `GET` lists with the same arguments.
async fn delete_of_one(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (_, some) = some_of_one(app.clone(), &asked).await?;
    let ids = some.into_iter().map(|upload| upload.id).collect();
    let gone = app.media.delete_of(&named(&asked)?, ids).await?;
    reply::json(&json!({ "deleted_media": gone, "total": gone.len() }))
}

/// How much somebody has uploaded, and the part of it that is asked for: the newest first, unless an order is said.
async fn some_of_one(app: Arc<App>, asked: &Asked) -> Result<(usize, Vec<Upload>)> {
    let (user, (from, limit)) = (named(asked)?, part(asked)?);
    let order = asked.query("order_by");
    let back = backward(asked, order.is_none())?;
    let order = order.unwrap_or("created_ts").to_owned();
    if !ORDERS.contains(&&*order) {
        return Err(Error::invalid_param(format!("order_by is one of {ORDERS:?}")));
    }
    look(app, move |app, tx| {
        account(app, tx, &user)?;
        let mut all = app.media.of(tx, &user)?;
        all.sort_by(|one, other| compare(one, other, &order));
        if back {
            all.reverse();
        }
        Ok((all.len(), all.into_iter().skip(from).take(limit).collect()))
    })
    .await
}

fn shown(upload: &Upload) -> Value {
    json!({
        "media_id": upload.id,
        "created_ts": upload.row.created,
        "last_access_ts": null,
        "media_length": upload.row.size,
        "media_type": upload.row.content_type.as_deref().unwrap_or("application/octet-stream"),
        "quarantined_by": null,
        "safe_from_quarantine": false,
        "upload_name": upload.row.filename,
    })
}

fn compare(one: &Upload, other: &Upload, by: &str) -> Ordering {
    match by {
        "media_id" => one.id.cmp(&other.id),
        "upload_name" => one.row.filename.cmp(&other.row.filename),
        "media_length" => one.row.size.cmp(&other.row.size),
        "media_type" => one.row.content_type.cmp(&other.row.content_type),
        // They are in that order already; and when they were asked for last is not kept.
        _ => Ordering::Equal,
    }
}
