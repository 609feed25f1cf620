//! Pushers, what was told to them, and what somebody was notified of.
//! spec: client-server-api#push-notifications, #listing-notifications; our own part is in `spec/push.md`.

use std::sync::Arc;

use http::Method;
use ruma::{
    UserId,
    api::client::push::{get_notifications, get_pushers, set_pusher},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::blocking;
use crate::{
    accounts::pushers,
    app::App,
    base::clock,
    error::{Error, Result},
    http::{Asked, Bucket, Loose, Reply, Router, Session, reply, untyped},
    push::{self, Push},
    rooms::notifications,
    store::rows::{PushedRow, PusherRow, PusherStateRow},
};

/// Bytes of a pushkey, of an application's ID, of the other texts, and of the data as JSON, at most.
const MAX_PUSHKEY: usize = 512;
const MAX_APP_ID: usize = 64;
const MAX_TEXT: usize = 512;
const MAX_DATA: usize = 4096;
/// Notifications of a page if the client does not say how many, and at most.
const PAGE: usize = 20;
const MAX_PAGE: usize = 100;

/// The endpoints.
pub fn routes(router: &mut Router) {
    router.route_raw(list).route(set).route_raw(notified);
    untyped::route(router, Method::GET, "/_matrix/client/unstable/chat.hearth.push/pushers", logs);
}

/// `GET /_matrix/client/v3/pushers`
async fn list(app: Arc<App>, session: Session, _: get_pushers::v3::Request) -> Result<Reply> {
    let rows = app.store.read(|tx| pushers::of(tx, &session.user))?;
    let all: Vec<Value> = rows.into_iter().map(|(_, row)| shown(row)).collect();
    reply::json(&json!({ "pushers": all }))
}

fn shown(row: PusherRow) -> Value {
    let mut data = row.data;
    data.insert("url".to_owned(), row.url.into());
    let mut out = json!({
        "pushkey": row.pushkey,
        "kind": "http",
        "app_id": row.app_id,
        "app_display_name": row.app_name,
        "device_display_name": row.device_name,
        "lang": row.lang,
        "data": data,
        "org.matrix.msc3881.enabled": !row.disabled,
        "org.matrix.msc3881.device_id": row.device,
    });
    if let Some(tag) = row.profile_tag {
        out["profile_tag"] = tag.into();
    }
    out
}

/// The body of a request to set a pusher. `kind` has to be there, if only as null.
#[derive(Clone, Deserialize)]
pub struct Wish {
    #[serde(default, deserialize_with = "there")]
    kind: Option<Option<String>>,
    app_id: Option<String>,
    pushkey: Option<String>,
    app_display_name: Option<String>,
    device_display_name: Option<String>,
    profile_tag: Option<String>,
    lang: Option<String>,
    data: Option<Map<String, Value>>,
    #[serde(default)]
    append: Option<bool>,
    #[serde(rename = "org.matrix.msc3881.enabled", alias = "enabled")]
    enabled: Option<bool>,
}

/// Tells what is null from what is not there.
fn there<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(value).map(Some)
}

/// `POST /_matrix/client/v3/pushers/set`
async fn set(
    app: Arc<App>,
    session: Session,
    request: Loose<set_pusher::v3::Request, Wish>,
) -> Result<set_pusher::v3::Response> {
    app.limits.take(Bucket::Other, &session.user)?;
    let wish = request.body;
    let app_id = text("app_id", wish.app_id.clone(), MAX_APP_ID)?;
    let pushkey = text("pushkey", wish.pushkey.clone(), MAX_PUSHKEY)?;
    match wish.kind.clone() {
        None => return Err(Error::missing_param("kind is missing")),
        Some(None) => {
            let id = pushers::id(&app_id, &pushkey);
            app.store.write(move |tx| pushers::remove(tx, &session.user, &id)).await?;
        }
        Some(Some(kind)) if kind == "http" => {
            let append = wish.append.unwrap_or(false);
            let row = row(&app.push, &session, wish, (app_id, pushkey))?;
            app.store.write(move |tx| pushers::set(tx, &session.user, row.clone(), append)).await?;
        }
        Some(Some(kind)) => {
            return Err(Error::invalid_param(format!(
                "this server has no pushers of the kind {kind:?}, only \"http\""
            )));
        }
    }
    Ok(set_pusher::v3::Response::new())
}

fn row(push: &Push, session: &Session, wish: Wish, (app_id, pushkey): (String, String)) -> Result<PusherRow> {
    let mut data = wish.data.ok_or_else(|| Error::missing_param("data is missing"))?;
    if serde_json::to_vec(&data).map_or(usize::MAX, |json| json.len()) > MAX_DATA {
        return Err(Error::invalid_param(format!("data has {MAX_DATA} bytes at most")));
    }
    let url = match data.remove("url") {
        Some(Value::String(url)) => url,
        Some(_) => return Err(Error::invalid_param("data.url is a URL")),
        None => return Err(Error::missing_param("data.url is missing")),
    };
    push.check_url(&url).map_err(|why| Error::invalid_param(format!("data.url: {why}")))?;
    if wish.profile_tag.as_ref().is_some_and(|tag| tag.len() > MAX_TEXT) {
        return Err(Error::invalid_param(format!("profile_tag has {MAX_TEXT} bytes at most")));
    }
    Ok(PusherRow {
        app_id,
        pushkey,
        app_name: text("app_display_name", wish.app_display_name, MAX_TEXT)?,
        device_name: text("device_display_name", wish.device_display_name, MAX_TEXT)?,
        profile_tag: wish.profile_tag,
        lang: text("lang", wish.lang, MAX_TEXT)?,
        url,
        data,
        device: session.device.to_string(),
        disabled: wish.enabled == Some(false),
        since: 0,
        set: clock::now_ms(),
    })
}

fn text(name: &str, value: Option<String>, max: usize) -> Result<String> {
    match value {
        None => Err(Error::missing_param(format!("{name} is missing"))),
        Some(value) if value.len() > max => Err(Error::invalid_param(format!("{name} has {max} bytes at most"))),
        Some(value) => Ok(value),
    }
}

/// `GET /_matrix/client/v3/notifications`
async fn notified(app: Arc<App>, session: Session, request: get_notifications::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::Other, &session.user)?;
    let from = request.from.as_deref().map(notifications::parse_token).transpose()?;
    let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let wish = notifications::Wish { from, limit, highlights: request.only.as_deref() == Some("highlight") };
    let page = blocking(move || app.store.read(|tx| notifications::page(tx, &app.hub.unread, &session.user, &wish)));
    reply::json(&page.await?)
}

/// `GET /_matrix/client/unstable/chat.hearth.push/pushers`
async fn logs(app: Arc<App>, asked: Asked) -> Result<Reply> {
    reply::json(&of_account(&app, &asked.session.user).await?)
}

/// Somebody's pushers with how it stands with them and their logs, without what is secret of them.
pub(super) async fn of_account(app: &App, user: &UserId) -> Result<Value> {
    app.push.write_down().await?;
    app.store.read(|tx| {
        let mut all = Vec::new();
        for (id, row) in pushers::of(tx, user)? {
            let (state, log) = (pushers::state(tx, user, &id)?, pushers::log(tx, user, &id)?);
            all.push(explained(id, row, &state, log));
        }
        Ok(json!({ "pushers": all }))
    })
}

fn explained(id: String, row: PusherRow, state: &PusherStateRow, log: Vec<PushedRow>) -> Value {
    let failing = state.failures > 0;
    let entry = |row: PushedRow| {
        let mut out = json!({ "ts": row.at, "took_ms": row.took, "outcome": row.outcome });
        let more = [
            ("status", row.status.map(Value::from)),
            ("error", row.error.map(Value::from)),
            ("event_id", row.event.map(Value::from)),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                out[name] = value;
            }
        }
        out
    };
    json!({
        "id": id,
        "app_id": row.app_id,
        "app_display_name": row.app_name,
        "device_display_name": row.device_name,
        "device_id": row.device,
        "gateway": push::host(&row.url),
        "enabled": !row.disabled,
        "set_ts": row.set,
        "waiting": state.told.is_some() || state.badge_due,
        "failures": state.failures,
        "failing_since_ts": failing.then_some(state.failing_since),
        "retry_ts": failing.then_some(state.retry_at),
        "log": log.into_iter().map(entry).collect::<Vec<_>>(),
    })
}
