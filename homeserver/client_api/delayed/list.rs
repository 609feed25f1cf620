//! Listing what somebody wanted sent later: by the proposal that has filters and pages, and as clients knew it before
//! that. Owns how an event that waits or has waited is shown; changes nothing.
//! spec: MSC4140, MSC4486

use std::sync::Arc;

use ruma::{OwnedRoomId, UserId};
use serde_json::{Value, json};

use crate::{
    app::App,
    base::json::raw,
    error::{Error, Result},
    http::{Asked, Bucket, Reply, reply},
    rooms::delayed,
    store::{
        Read,
        rows::client::{DelayedRow, Outcome},
    },
};

/// Events on one page.
const PAGE: usize = 50;

/// `GET /_matrix/client/v1/delayed_events`: what waits and what came of the rest, by when it is or was to be sent.
pub async fn all(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = &asked.session.user;
    app.limits.take(Bucket::Costly, user)?;
    let wanted = Wanted::of(&asked)?;
    let mut found = app.store.read(|tx| {
        let mut found = kept(tx, delayed::of(tx, user)?, user)?;
        found.extend(kept(tx, delayed::done(tx, user.as_str())?, user)?);
        Ok(found)
    })?;
    found.retain(|(id, row)| wanted.takes(row) && wanted.is_beyond((due(row), id)));
    found.sort_by(|(one, row), (other, other_row)| (due(row), one).cmp(&(due(other_row), other)));
    if wanted.backwards {
        found.reverse();
    }
    let rest = found.split_off(found.len().min(PAGE));
    let next = found.last().filter(|_| !rest.is_empty()).map(|(id, row)| format!("{}_{id}", due(row)));
    let shown = found.iter().map(|(id, row)| shown(id, row)).collect::<Result<Vec<_>>>()?;
    let mut out = json!({ "delayed_events": shown });
    if let Some(next) = next {
        out["next_batch"] = next.into();
    }
    reply::json(&out)
}

/// `GET /_matrix/client/unstable/org.matrix.msc4140/delayed_events`: what waits, and what came of the rest apart from
/// it, with the names that clients know from before.
pub async fn of_old(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let user = &asked.session.user;
    app.limits.take(Bucket::Costly, user)?;
    let (waiting, done) = app.store.read(|tx| {
        let waiting = kept(tx, delayed::of(tx, user)?, user)?;
        Ok((waiting, kept(tx, delayed::done(tx, user.as_str())?, user)?))
    })?;
    let waiting = waiting.iter().map(|(id, row)| shown_as_of_old(id, row)).collect::<Result<Vec<_>>>()?;
    let mut finalised = Vec::new();
    for (id, row) in &done {
        let Some(outcome) = &row.outcome else { continue };
        let reason = match outcome {
            Outcome { error: Some(_), .. } => "error",
            Outcome { at, event: Some(_), .. } if *at >= due(row) => "delay",
            _ => "action",
        };
        let mut item = said(outcome);
        item["delayed_event"] = shown_as_of_old(id, row)?;
        item["outcome"] = if outcome.event.is_some() { "send" } else { "cancel" }.into();
        item["reason"] = reason.into();
        item["origin_server_ts"] = outcome.at.into();
        finalised.push(item);
    }
    reply::json(&json!({ "delayed_events": waiting, "scheduled": waiting, "finalised": finalised }))
}

/// `GET /_matrix/client/v1/delayed_events/{delayId}`
pub async fn one(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (id, row) = find(&app, &asked)?;
    reply::json(&shown(&id, &row)?)
}

/// `GET /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}`
pub async fn one_of_old(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (id, row) = find(&app, &asked)?;
    reply::json(&shown_as_of_old(&id, &row)?)
}

fn find(app: &App, asked: &Asked) -> Result<(String, DelayedRow)> {
    app.limits.take(Bucket::Costly, &asked.session.user)?;
    let id: String = asked.path(0)?;
    let row = app.store.read(|tx| delayed::find(tx, &id, Some(&asked.session.user)))?;
    Ok((id, row))
}

fn kept(tx: &impl Read, ids: Vec<(u64, String)>, user: &UserId) -> Result<Vec<(String, DelayedRow)>> {
    ids.into_iter().map(|(_, id)| delayed::find(tx, &id, Some(user)).map(|row| (id, row))).collect()
}

/// When an event is or was to be sent.
fn due(row: &DelayedRow) -> u64 {
    row.since.saturating_add(row.delay)
}

/// What of all a request wants to see.
struct Wanted {
    room: Option<OwnedRoomId>,
    kind: Option<String>,
    status: Option<String>,
    times: (u64, u64),
    /// The last event of the page before: when it is due, and its ID.
    after: Option<(u64, String)>,
    backwards: bool,
}

impl Wanted {
    /// 400 `M_INVALID_PARAM` for what has no meaning here.
    fn of(asked: &Asked) -> Result<Self> {
        let refuse = |name: &str| Error::invalid_param(format!("{name} can't have this value"));
        let after = match asked.query("from") {
            Some(from) => {
                let (due, id) = from.split_once('_').ok_or_else(|| refuse("from"))?;
                Some((due.parse().map_err(|_| refuse("from"))?, id.to_owned()))
            }
            None => None,
        };
        let room = asked.query("room_id").map(|id| id.parse().map_err(|_| refuse("room_id"))).transpose()?;
        let status = asked.query("status");
        if status.is_some_and(|status| !["scheduled", "sent", "cancelled", "failed"].contains(&status)) {
            return Err(refuse("status"));
        }
        let backwards = match asked.query("dir") {
            None | Some("f") => false,
            Some("b") => true,
            Some(_) => return Err(refuse("dir")),
        };
        let times = (asked.query_as("from_ts")?.unwrap_or(0), asked.query_as("to_ts")?.unwrap_or(u64::MAX));
        let (kind, status) = (asked.query("type").map(str::to_owned), status.map(str::to_owned));
        Ok(Self { room, kind, status, times, after, backwards })
    }

    fn takes(&self, row: &DelayedRow) -> bool {
        let status = match &row.outcome {
            None => "scheduled",
            Some(Outcome { event: Some(_), .. }) => "sent",
            Some(Outcome { error: Some(_), .. }) => "failed",
            Some(_) => "cancelled",
        };
        (self.times.0..=self.times.1).contains(&due(row))
            && self.room.as_ref().is_none_or(|room| *room == row.room)
            && self.kind.as_ref().is_none_or(|kind| *kind == row.kind)
            && self.status.as_ref().is_none_or(|wanted| wanted == status)
    }

    /// Whether an event stands on a page after the one before.
    fn is_beyond(&self, (due, id): (u64, &str)) -> bool {
        let Some((last, last_id)) = &self.after else { return true };
        let (this, last) = ((due, id), (*last, last_id.as_str()));
        if self.backwards { this < last } else { this > last }
    }
}

/// An event that waits or has waited.
fn shown(id: &str, row: &DelayedRow) -> Result<Value> {
    let mut out = json!({
        "delay_id": id, "room_id": row.room, "type": row.kind, "content": raw(row.content.clone())?,
        "delay_ms": row.delay, "delayed_since_ts": row.since,
    });
    if let Some(key) = &row.state_key {
        out["state_key"] = key.as_str().into();
    }
    if let Some(outcome) = &row.outcome {
        let mut finalised = said(outcome);
        finalised["finalised_ts"] = outcome.at.into();
        out["finalised"] = finalised;
    }
    Ok(out)
}

/// The same, with the names from before beside those of now.
fn shown_as_of_old(id: &str, row: &DelayedRow) -> Result<Value> {
    let mut out = shown(id, row)?;
    out["delay"] = row.delay.into();
    out["running_since"] = row.since.into();
    if let (Some(outcome), Some(out)) = (&row.outcome, out.as_object_mut()) {
        out.insert("finalised_ts".to_owned(), outcome.at.into());
        if let Value::Object(said) = said(outcome) {
            out.extend(said);
        }
    }
    Ok(out)
}

/// What came of an event: the event that was sent, or why it was not.
fn said(outcome: &Outcome) -> Value {
    let mut out = json!({});
    if let Some(event) = &outcome.event {
        out["event_id"] = event.as_str().into();
    }
    if let Some((errcode, message)) = &outcome.error {
        out["error"] = json!({ "errcode": errcode, "error": message });
    }
    out
}
