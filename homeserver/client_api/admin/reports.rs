//! What people have reported.

use std::sync::Arc;

use http::Method;
use ruma::{EventId, events::StateEventType};
use serde_json::{Map, Value, json};

use super::{backward, look, part, route};
use crate::{
    app::App,
    base::Pos,
    error::{Error, Result},
    http::{Asked, Reply, Router, reply},
    rooms::{Room, event, reports},
    store::{Read, rows::ReportRow},
};

const ONE: &str = "/_synapse/admin/v1/event_reports/{report_id}";

pub(super) fn routes(router: &mut Router) {
    route(router, Method::GET, "/_synapse/admin/v1/event_reports", of_events);
    route(router, Method::GET, ONE, get);
    route(router, Method::DELETE, ONE, remove);
    route(router, Method::GET, "/_matrix/client/unstable/chat.hearth.admin/reports", all);
}

/// `GET /_synapse/admin/v1/event_reports`
async fn of_events(app: Arc<App>, asked: Asked) -> Result<Reply> {
    list(app, asked, "event_reports", |row| row.event.is_some()).await
}

/// `GET …/chat.hearth.admin/reports`: those of rooms and people too.
async fn all(app: Arc<App>, asked: Asked) -> Result<Reply> {
    list(app, asked, "reports", |_| true).await
}

async fn list(app: Arc<App>, asked: Asked, name: &'static str, kind: fn(&ReportRow) -> bool) -> Result<Reply> {
    let ((from, limit), newest_first) = (part(&asked)?, backward(&asked, true)?);
    let wanted = |name: &str| asked.query(name).map(str::to_owned);
    let (reporter, room, sender) = (wanted("user_id"), wanted("room_id"), wanted("event_sender_user_id"));
    let found = look(app, move |_, tx| {
        let is = |wanted: &Option<String>, is: Option<&String>| wanted.as_ref().is_none_or(|wanted| is == Some(wanted));
        let keep = |row: &ReportRow| {
            kind(row)
                && is(&reporter, Some(&row.reporter))
                && is(&room, row.room.as_ref())
                && is(&sender, row.user.as_ref())
        };
        let (page, total) = reports::page(tx, (from, limit), newest_first, keep)?;
        let shown: Vec<Value> = page.iter().map(|(id, row)| shown(tx, *id, row)).collect::<Result<_>>()?;
        let mut answer = json!({ name: shown, "total": total });
        if from + page.len() < total {
            answer["next_token"] = (from + page.len()).into();
        }
        Ok(answer)
    });
    reply::json(&found.await?)
}

fn shown(tx: &impl Read, id: Pos, row: &ReportRow) -> Result<Value> {
    let room = row.room.as_deref().and_then(|id| <&ruma::RoomId>::try_from(id).ok());
    let room = room.map(|id| Room::find(tx, id)).transpose()?.flatten();
    let text = |kind: StateEventType, key: &str| -> Result<Value> {
        let Some(room) = &room else { return Ok(Value::Null) };
        let content: Option<Map<String, Value>> = room.state_content(tx, &kind)?;
        Ok(content.and_then(|mut content| content.remove(key)).unwrap_or_default())
    };
    Ok(json!({
        "id": id,
        "event_id": row.event,
        "room_id": row.room,
        "name": text(StateEventType::RoomName, "name")?,
        "canonical_alias": text(StateEventType::RoomCanonicalAlias, "alias")?,
        "reason": row.reason,
        "score": null,
        "received_ts": row.at,
        "sender": row.user,
        "user_id": row.reporter,
    }))
}

fn number(asked: &Asked) -> Result<Pos> {
    let text: String = asked.path(0)?;
    text.parse().map_err(|_| Error::invalid_param("a report's ID is a number"))
}

/// `GET /_synapse/admin/v1/event_reports/{report_id}`
async fn get(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let id = number(&asked)?;
    let found = app.store.read(|tx| {
        let row = reports::one(tx, id)?;
        let mut answer = shown(tx, id, &row)?;
        if let Some(event) = row.event.as_deref().and_then(|id| <&EventId>::try_from(id).ok())
            && let Some(pos) = event::position(tx, event)?
        {
            let pdu = event::row(tx, pos)?.pdu;
            answer["event_json"] = serde_json::from_str(&pdu).map_err(Error::internal)?;
        }
        Ok(answer)
    })?;
    reply::json(&found)
}

/// `DELETE /_synapse/admin/v1/event_reports/{report_id}`
async fn remove(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let id = number(&asked)?;
    app.store.write(move |tx| reports::remove(tx, id)).await?;
    reply::json(&json!({}))
}
