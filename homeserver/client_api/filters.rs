//! Filters. spec: client-server-api#filtering

use std::sync::Arc;

use ruma::{
    UserId,
    api::client::filter::{create_filter, get_filter},
};
use serde_json::{Map, Value};

use crate::{
    accounts::filters,
    app::App,
    base::json::raw,
    error::{Error, Result},
    http::{Bucket, Loose, Reply, Session, reply},
};

/// `POST /_matrix/client/v3/user/{userId}/filter`
pub async fn create(
    app: Arc<App>,
    session: Session,
    request: Loose<create_filter::v3::Request, Map<String, Value>>,
) -> Result<create_filter::v3::Response> {
    let [user] = <[String; 1]>::try_from(request.path).map_err(|_| Error::unrecognized())?;
    session.owns(&UserId::parse(user).map_err(|_| Error::invalid_param("this is no user ID"))?)?;
    app.limits.take(Bucket::Other, &session.user)?;
    let id = app.store.write(move |tx| filters::create(tx, &session.user, &request.body)).await?;
    Ok(create_filter::v3::Response::new(id))
}

/// `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
pub async fn filter(app: Arc<App>, session: Session, request: get_filter::v3::Request) -> Result<Reply> {
    session.owns(&request.user_id)?;
    reply::json(&raw(app.store.read(|tx| filters::get(tx, &session.user, &request.filter_id))?)?)
}
