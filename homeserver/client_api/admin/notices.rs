//! Notices of the server to one of its people. spec: client-server-api#server-notices

use std::sync::Arc;

use http::Method;
use ruma::{UserId, events::TimelineEventType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{account, route};
use crate::{
    accounts::transactions::Transaction,
    app::App,
    base::json as raw,
    error::{Error, Result},
    http::{Asked, Reply, Router, reply},
    rooms::{admins, draft::Draft},
    store::WriteTx,
};

const PATH: &str = "/_synapse/admin/v1/send_server_notice";

pub(super) fn routes(router: &mut Router) {
    route(router, Method::POST, PATH, post);
    route(router, Method::PUT, "/_synapse/admin/v1/send_server_notice/{txn_id}", put);
}

/// `POST /_synapse/admin/v1/send_server_notice`
async fn post(app: Arc<App>, asked: Asked) -> Result<Reply> {
    send(app, asked, None).await
}

/// `PUT /_synapse/admin/v1/send_server_notice/{txn_id}`
async fn put(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let transaction = Transaction {
        user: asked.session.user.to_string(),
        device: asked.session.device.to_string(),
        endpoint: "send_server_notice".into(),
        id: asked.path(0)?,
    };
    send(app, asked, Some(transaction)).await
}

async fn send(app: Arc<App>, mut asked: Asked, transaction: Option<Transaction>) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        user_id: String,
        content: Map<String, Value>,
        #[serde(rename = "type")]
        kind: Option<String>,
        state_key: Option<String>,
    }
    let body: Body = asked.body()?;
    let user = UserId::parse(body.user_id).map_err(|_| Error::invalid_param("user_id is no user ID"))?;
    app.store.read(|tx| account(&app, tx, &user))?;
    let draft = Draft {
        kind: TimelineEventType::from(body.kind.unwrap_or_else(|| "m.room.message".into())),
        state_key: body.state_key,
        content: raw::to_raw(&body.content)?,
        redacts: None,
        at: None,
    };
    let me = app.me.clone();
    let work = move |tx: &WriteTx| {
        if let Some(transaction) = &transaction
            && let Some(id) = transaction.outcome(tx)?
        {
            return Ok(id);
        }
        let id = admins::notify(tx, &me, &user, &draft)?.to_string();
        if let Some(transaction) = &transaction {
            transaction.done(tx, &id)?;
        }
        Ok(id)
    };
    reply::json(&json!({ "event_id": app.store.write(work).await? }))
}
