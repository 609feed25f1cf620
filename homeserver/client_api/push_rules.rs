//! Push rules, read and changed one by one. spec: client-server-api#push-rules-api

use std::sync::Arc;

use http::{Method, Request};
use ruma::{
    api::{
        IncomingRequest, Metadata,
        client::push::{
            delete_pushrule, get_pushrule, get_pushrule_actions, get_pushrule_enabled, get_pushrules_all,
            get_pushrules_global_scope, set_pushrule, set_pushrule_actions, set_pushrule_enabled,
        },
        error::DeserializationError,
    },
    push::Ruleset,
};
use serde_json::{Map, Value};

use crate::{
    accounts::push_rules,
    app::App,
    error::Result,
    http::{Bucket, Reply, Session, reply},
};

/// `GET /_matrix/client/v3/pushrules/`
pub async fn all(app: Arc<App>, session: Session, _: get_pushrules_all::v3::Request) -> Result<Reply> {
    reply::json(&push_rules::content(&own(&app, &session)?)?)
}

/// `GET /_matrix/client/v3/pushrules/global/`
pub async fn global(app: Arc<App>, session: Session, _: get_pushrules_global_scope::v3::Request) -> Result<Reply> {
    reply::json(&push_rules::content(&own(&app, &session)?)?["global"])
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn rule(
    app: Arc<App>,
    session: Session,
    request: get_pushrule::v3::Request,
) -> Result<get_pushrule::v3::Response> {
    let rules = own(&app, &session)?;
    let rule = push_rules::find(&rules, &request.kind, &request.rule_id)?;
    Ok(get_pushrule::v3::Response::new(rule.into()))
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn enabled(
    app: Arc<App>,
    session: Session,
    request: get_pushrule_enabled::v3::Request,
) -> Result<get_pushrule_enabled::v3::Response> {
    let rules = own(&app, &session)?;
    let rule = push_rules::find(&rules, &request.kind, &request.rule_id)?;
    Ok(get_pushrule_enabled::v3::Response::new(rule.enabled()))
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn actions(
    app: Arc<App>,
    session: Session,
    request: get_pushrule_actions::v3::Request,
) -> Result<get_pushrule_actions::v3::Response> {
    let rules = own(&app, &session)?;
    let rule = push_rules::find(&rules, &request.kind, &request.rule_id)?;
    Ok(get_pushrule_actions::v3::Response::new(rule.actions().to_vec()))
}

/// A rule to put. A body without conditions has none, which the spec allows and the type does not.
pub struct Put(pub set_pushrule::v3::Request);

impl Metadata for Put {
    const METHOD: Method = set_pushrule::v3::Request::METHOD;
    const RATE_LIMITED: bool = true;
    type Authentication = <set_pushrule::v3::Request as Metadata>::Authentication;
    type PathBuilder = <set_pushrule::v3::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = set_pushrule::v3::Request::PATH_BUILDER;
}

impl IncomingRequest for Put {
    type EndpointError = <set_pushrule::v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = set_pushrule::v3::Response;

    fn try_from_http_request_inner(request: Request<&[u8]>, arguments: &[&str]) -> Result<Self, DeserializationError> {
        let (head, body) = request.into_parts();
        let mut body: Map<String, Value> = serde_json::from_slice(body)?;
        body.entry("conditions").or_insert_with(|| Value::Array(Vec::new()));
        let body = serde_json::to_vec(&body)?;
        let request = Request::from_parts(head, &body[..]);
        set_pushrule::v3::Request::try_from_http_request_inner(request, arguments).map(Self)
    }
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn put(app: Arc<App>, session: Session, request: Put) -> Result<set_pushrule::v3::Response> {
    let Put(set_pushrule::v3::Request { rule, before, after, .. }) = request;
    let edit = move |rules: &mut Ruleset| push_rules::put(rules, rule.clone(), after.as_deref(), before.as_deref());
    change(&app, session, edit).await?;
    Ok(set_pushrule::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn remove(
    app: Arc<App>,
    session: Session,
    request: delete_pushrule::v3::Request,
) -> Result<delete_pushrule::v3::Response> {
    change(&app, session, move |rules| push_rules::remove(rules, &request.kind, &request.rule_id)).await?;
    Ok(delete_pushrule::v3::Response::new())
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn enable(
    app: Arc<App>,
    session: Session,
    request: set_pushrule_enabled::v3::Request,
) -> Result<set_pushrule_enabled::v3::Response> {
    let edit = move |rules: &mut Ruleset| push_rules::enable(rules, &request.kind, &request.rule_id, request.enabled);
    change(&app, session, edit).await?;
    Ok(set_pushrule_enabled::v3::Response::new())
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn set_actions(
    app: Arc<App>,
    session: Session,
    request: set_pushrule_actions::v3::Request,
) -> Result<set_pushrule_actions::v3::Response> {
    let edit =
        move |rules: &mut Ruleset| push_rules::act(rules, &request.kind, &request.rule_id, request.actions.clone());
    change(&app, session, edit).await?;
    Ok(set_pushrule_actions::v3::Response::new())
}

fn own(app: &App, session: &Session) -> Result<Ruleset> {
    app.store.read(|tx| push_rules::of(tx, &session.user))
}

async fn change(app: &App, session: Session, edit: impl Fn(&mut Ruleset) -> Result<()> + Send + 'static) -> Result<()> {
    app.limits.take(Bucket::Other, &session.user)?;
    app.store.write(move |tx| push_rules::change(tx, &session.user, &edit)).await
}
