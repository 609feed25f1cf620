//! Registration tokens, which an invitation link carries: how often and until when they may be used.

use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{flag, route};
use crate::{
    accounts::registration,
    app::App,
    base::{clock, random},
    error::{Error, Result},
    http::{Asked, Reply, Router, reply},
    store::{WriteTx, rows::RegistrationTokenRow},
};

const ONE: &str = "/_synapse/admin/v1/registration_tokens/{token}";

pub(super) fn routes(router: &mut Router) {
    route(router, Method::GET, "/_synapse/admin/v1/registration_tokens", list);
    route(router, Method::POST, "/_synapse/admin/v1/registration_tokens/new", create);
    route(router, Method::GET, ONE, get);
    route(router, Method::PUT, ONE, change);
    route(router, Method::DELETE, ONE, remove);
}

fn shown(token: &str, row: &RegistrationTokenRow) -> Value {
    json!({
        "token": token,
        "uses_allowed": row.uses_left.map(|left| left + row.used),
        "pending": 0,
        "completed": row.used,
        "expiry_time": row.expires,
    })
}

fn is_valid(row: &RegistrationTokenRow) -> bool {
    row.uses_left != Some(0) && row.expires.is_none_or(|at| at > clock::now_ms())
}

/// `GET /_synapse/admin/v1/registration_tokens`
async fn list(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let valid = flag(&asked, "valid")?;
    let mut all = app.store.read(registration::tokens)?;
    all.retain(|(_, row)| valid.is_none_or(|valid| valid == is_valid(row)));
    let all: Vec<_> = all.iter().map(|(token, row)| shown(token, row)).collect();
    reply::json(&json!({ "registration_tokens": all }))
}

/// `GET /_synapse/admin/v1/registration_tokens/{token}`
async fn get(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let token: String = asked.path(0)?;
    reply::json(&shown(&token, &app.store.read(|tx| registration::token(tx, &token))?))
}

/// A member that may be missing, null, or a number.
fn number(body: &serde_json::Map<String, Value>, name: &str) -> Result<Option<Option<u64>>> {
    match body.get(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(Some(number))),
            None => Err(Error::invalid_param(format!("{name} is a whole number that is not negative, or null"))),
        },
    }
}

/// Until when; not until a time that has been.
fn expiry(body: &serde_json::Map<String, Value>) -> Result<Option<Option<u64>>> {
    let expiry = number(body, "expiry_time")?;
    match expiry.flatten().is_some_and(|at| at <= clock::now_ms()) {
        true => Err(Error::invalid_param("expiry_time has passed already")),
        false => Ok(expiry),
    }
}

/// `POST /_synapse/admin/v1/registration_tokens/new`
async fn create(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Name {
        token: Option<String>,
        length: Option<usize>,
    }
    let body: serde_json::Map<String, Value> = asked.body()?;
    let name: Name = serde_json::from_value(Value::Object(body.clone())).map_err(|e| Error::bad_json(e.to_string()))?;
    let length = name.length.unwrap_or(16);
    if !(1..=64).contains(&length) {
        return Err(Error::invalid_param("length is 1 to 64"));
    }
    let token = name.token.unwrap_or_else(|| {
        let made = random::id::<64>();
        made.chars().filter(char::is_ascii_alphanumeric).take(length).collect()
    });
    let row = RegistrationTokenRow {
        uses_left: number(&body, "uses_allowed")?.flatten(),
        used: 0,
        expires: expiry(&body)?.flatten(),
        admin: false,
    };
    let answer = shown(&token, &row);
    app.store.write(move |tx| registration::make_token(tx, &token, &row)).await?;
    reply::json(&answer)
}

/// `PUT /_synapse/admin/v1/registration_tokens/{token}`
async fn change(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    let token: String = asked.path(0)?;
    let body: serde_json::Map<String, Value> = asked.body()?;
    let (allowed, expires) = (number(&body, "uses_allowed")?, expiry(&body)?);
    let name = token.clone();
    let work = move |tx: &WriteTx| {
        let mut row = registration::token(tx, &name)?;
        if let Some(allowed) = allowed {
            row.uses_left = allowed.map(|allowed| allowed.saturating_sub(row.used));
        }
        if let Some(expires) = expires {
            row.expires = expires;
        }
        registration::change_token(tx, &name, &row)?;
        Ok(row)
    };
    reply::json(&shown(&token, &app.store.write(work).await?))
}

/// `DELETE /_synapse/admin/v1/registration_tokens/{token}`
async fn remove(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let token: String = asked.path(0)?;
    app.store.write(move |tx| registration::remove_token(tx, &token)).await?;
    reply::json(&json!({}))
}
