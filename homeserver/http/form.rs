//! Requests of pages and of OAuth: forms in the body or the query, and JSON from who has no session.

use std::collections::HashMap;

use http::{Method, header};
use ruma::api::auth_scheme::NoAccessToken;
use serde::de::DeserializeOwned;

use super::{
    Call, Caller,
    admit::{Admit, Peer},
    body::{self, Whose},
    untyped::query,
};
use crate::{
    app::App,
    base::json,
    error::{Error, Result},
};

/// A form that somebody sent, in the body of a POST or else in the query.
pub struct Form {
    /// Who sent it.
    pub caller: Caller,
    /// Which languages they read, as their browser says.
    pub languages: String,
    fields: HashMap<String, String>,
}

impl Form {
    /// Reads it. 400 if it is no form.
    pub async fn read(app: &App, call: Call) -> Result<Self> {
        let peer = Peer::of(&call);
        let (head, body) = call.into_parts();
        let caller = NoAccessToken::admit(app, &head, peer).await?;
        let languages = head.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let languages = languages.unwrap_or_default().to_owned();
        let fields = match head.method {
            Method::POST => {
                let (bytes, _share) = body::collect(body, Whose::Stranger, &app.bodies).await?;
                query(std::str::from_utf8(&bytes).map_err(|_| Error::invalid_param("the form is not UTF-8"))?)?
            }
            _ => query(head.uri.query().unwrap_or_default())?,
        };
        Ok(Self { caller, languages, fields })
    }

    /// A field that is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }
}

/// JSON of somebody without a session, as a type.
pub async fn read_json<T: DeserializeOwned>(app: &App, call: Call) -> Result<(Caller, T)> {
    let peer = Peer::of(&call);
    let (head, body) = call.into_parts();
    let caller = NoAccessToken::admit(app, &head, peer).await?;
    let (bytes, _share) = body::collect(body, Whose::Stranger, &app.bodies).await?;
    if json::is_too_deep(&bytes) {
        return Err(Error::not_json(format!("the body is nested deeper than {} levels", json::MAX_DEPTH)));
    }
    let parsed = serde_json::from_slice(&bytes).map_err(|error| Error::bad_json(error.to_string()))?;
    Ok((caller, parsed))
}
