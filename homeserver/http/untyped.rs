//! Requests of endpoints that ruma has no types for: our own extensions, and the administration. Each wants a
//! session; those of the administration want an administrator's, and what is done by them is logged.

use std::{collections::HashMap, future::Future, sync::Arc};

use http::Method;
use ruma::api::auth_scheme::AccessToken;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Call, Reply, Router, Session,
    admit::{Admit, Peer},
    body::{self, Share, Whose},
    router::decode,
};
use crate::{
    accounts::users,
    app::App,
    base::json,
    error::{Error, Result},
};

/// A request as it came, from somebody who has shown who they are.
pub struct Asked {
    /// Who asks.
    pub session: Session,
    path: Vec<String>,
    query: HashMap<String, String>,
    body: Map<String, Value>,
    /// Held until the request is answered.
    _share: Share,
}

impl Asked {
    async fn read(app: &App, call: Call, path: Vec<String>) -> Result<Self> {
        let peer = Peer::of(&call);
        let (head, body) = call.into_parts();
        let session = AccessToken::admit(app, &head, peer).await?;
        let (bytes, share) = body::collect(body, Whose::Account, &app.bodies).await?;
        if json::is_too_deep(&bytes) {
            return Err(Error::not_json(format!("the body is nested deeper than {} levels", json::MAX_DEPTH)));
        }
        let body = match &bytes[..] {
            [] => Map::new(),
            bytes => match serde_json::from_slice(bytes) {
                Ok(Value::Object(body)) => body,
                Ok(_) => return Err(Error::bad_json("the body is a JSON object")),
                Err(_) => return Err(Error::not_json("the body is not JSON")),
            },
        };
        Ok(Self { session, path, query: query(head.uri.query().unwrap_or_default())?, body, _share: share })
    }

    /// An argument in the path, as a type. 400 `M_INVALID_PARAM` if it is none.
    pub fn path<T: TryFrom<String>>(&self, index: usize) -> Result<T> {
        let text = self.path.get(index).cloned().unwrap_or_default();
        let shown = text.clone();
        T::try_from(text).map_err(|_| Error::invalid_param(format!("{shown:?} in the path can't be used")))
    }

    /// An argument in the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// An argument in the query, as a type. 400 `M_INVALID_PARAM` if it is none.
    pub fn query_as<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse = |text: &str| text.parse().map_err(|_| Error::invalid_param(format!("{name} can't be {text:?}")));
        self.query(name).map(parse).transpose()
    }

    /// The body, as a type. 400 `M_BAD_JSON` if it is not of that form.
    pub fn body<T: DeserializeOwned>(&mut self) -> Result<T> {
        let body = Value::Object(std::mem::take(&mut self.body));
        serde_json::from_value(body).map_err(|error| Error::bad_json(error.to_string()))
    }
}

pub(super) fn query(text: &str) -> Result<HashMap<String, String>> {
    let part =
        |text: &str| decode(&text.replace('+', " ")).ok_or_else(|| Error::invalid_param("the query is not UTF-8"));
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Ok((part(name)?, part(value)?)))
        .collect()
}

/// An endpoint without a type.
pub fn route<F, Fut>(router: &mut Router, method: Method, path: &str, handle: F)
where
    F: Fn(Arc<App>, Asked) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    router.plain_as("token", method, path, move |app, call, path| async move {
        let asked = Asked::read(&app, call, path).await?;
        handle(app, asked).await
    });
}

/// An endpoint without a type for administrators alone. Whatever it may change is logged: who, what, and
/// what came of it; not the arguments in its path that are secrets.
pub fn route_for_admins<F, Fut>(router: &mut Router, method: Method, path: &'static str, handle: F)
where
    F: Fn(Arc<App>, Asked) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    let changes = method != Method::GET;
    router.plain_as("admin", method.clone(), path, move |app, call, arguments| {
        let method = call.method().clone();
        async move {
            let asked = Asked::read(&app, call, arguments).await?;
            check_admin(&app, &asked.session)?;
            let admin = asked.session.user.clone();
            let about = if path.contains("{token}") { String::new() } else { asked.path.join(" ") };
            let answer = handle(app, asked).await;
            if changes {
                let outcome = answer.as_ref().map_or_else(Error::status, |reply| reply.status());
                tracing::info!(%admin, %method, path, about, outcome = outcome.as_u16(), "an administrator acted");
            }
            answer
        }
    });
}

/// Refuses who does not administer this server. 403 `M_FORBIDDEN`.
pub fn check_admin(app: &App, session: &Session) -> Result<()> {
    match app.store.read(|tx| users::is_admin(tx, &session.user))? {
        true => Ok(()),
        false => Err(Error::forbidden("this is for the server's administrators")),
    }
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn queries_are_decoded() {
        let found = query("a=1&b=x+y%26z&c&a=2").expect("parses");
        assert_eq!((found["a"].as_str(), found["b"].as_str(), found["c"].as_str()), ("2", "x y&z", ""));
        assert!(query("a=%FF").is_err());
    }
}
