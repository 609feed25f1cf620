//! Removing files.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use super::route;
use crate::{
    app::App,
    error::Result,
    http::{Asked, Reply, Router, reply},
};

pub(super) fn routes(router: &mut Router) {
    route(router, Method::DELETE, "/_synapse/admin/v1/media/{server_name}/{media_id}", delete);
}

/// `DELETE /_synapse/admin/v1/media/{server_name}/{media_id}`: nobody gets the file here any more. One of another
/// server is fetched again when somebody asks for it.
async fn delete(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (server, id): (String, String) = (asked.path(0)?, asked.path(1)?);
    app.media.delete(&server, &id).await?;
    reply::json(&json!({ "deleted_media": [id], "total": 1 }))
}
