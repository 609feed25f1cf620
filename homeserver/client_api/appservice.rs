//! What application services ask for themselves, and what people ask of the networks that they lead to.
//! spec: application-service-api#client-server-api-extensions, client-server-api#third-party-networks

use std::{collections::BTreeMap, sync::Arc};

use ::http::StatusCode;
use ruma::api::{
    appservice::thirdparty as asked,
    client::{
        appservice::{request_ping, set_room_visibility},
        room::Visibility,
        thirdparty::{
            get_location_for_protocol, get_location_for_room_alias, get_protocol, get_protocols, get_user_for_protocol,
            get_user_for_user_id,
        },
    },
};

use crate::{
    app::App,
    appservice::{Service, ask::Failure, instance_id},
    error::{Error, Result},
    http::{Bucket, Reply, Router, Session, reply},
    rooms::{Room, directory},
    store::WriteTx,
};

/// Fields by which something is searched for, in number and in bytes, at most.
const MAX_FIELDS: usize = 50;
const MAX_FIELD: usize = 1000;

/// Adds what is answered here.
pub(super) fn routes(router: &mut Router) {
    router
        .route(ping)
        .route(list)
        .route_raw(networks)
        .route_raw(network)
        .route_raw(locations)
        .route_raw(people)
        .route_raw(locations_of_alias)
        .route_raw(people_behind);
}

/// `POST /_matrix/client/v1/appservice/{appserviceId}/ping`
async fn ping(
    app: Arc<App>,
    (_, service): (Session, Arc<Service>),
    request: request_ping::v1::Request,
) -> Result<request_ping::v1::Response> {
    if request.appservice_id != service.told.id {
        return Err(Error::forbidden("this is another application service"));
    }
    if service.told.url.is_none() {
        return Err(Error::bad_request("M_URL_NOT_SET", "the registration says no url"));
    }
    let failed = |status, errcode, why: String| Error::of_service(status, errcode, why);
    match app.services.ping(&service, request.transaction_id).await {
        Ok(duration) => Ok(request_ping::v1::Response::new(duration)),
        Err(Failure::TooLate) => {
            Err(failed(StatusCode::GATEWAY_TIMEOUT, "M_CONNECTION_TIMEOUT", "no answer in time".to_owned()))
        }
        Err(Failure::Unreachable(why)) => Err(failed(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED", why)),
        Err(Failure::Status(status, said)) => {
            let error = failed(StatusCode::BAD_GATEWAY, "M_BAD_STATUS", format!("the answer was {status}"));
            Err(error.with("status", status.into()).with("body", said.into()))
        }
    }
}

/// `PUT /_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}`
async fn list(
    app: Arc<App>,
    (_, service): (Session, Arc<Service>),
    request: set_room_visibility::v3::Request,
) -> Result<set_room_visibility::v3::Response> {
    let name = instance_id(&service.told.id, &request.network_id);
    if name.len() > MAX_FIELD {
        return Err(Error::invalid_param("the network's ID is too long"));
    }
    let listed = request.visibility == Visibility::Public;
    let work = move |tx: &WriteTx| {
        let room = Room::named(tx, &request.room_id)?;
        directory::list_for_network(tx, &room, &name, listed)
    };
    app.store.write(work).await?;
    Ok(set_room_visibility::v3::Response::new())
}

/// `GET /_matrix/client/v3/thirdparty/protocols`
async fn networks(app: Arc<App>, session: Session, _: get_protocols::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::Other, &session.user)?;
    reply::json(&app.services.networks().await)
}

/// `GET /_matrix/client/v3/thirdparty/protocol/{protocol}`
async fn network(app: Arc<App>, session: Session, request: get_protocol::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::Other, &session.user)?;
    let found = app.services.network(&request.protocol).await;
    reply::json(&found.ok_or_else(|| Error::not_found("there is no such network here"))?)
}

/// `GET /_matrix/client/v3/thirdparty/location/{protocol}`
async fn locations(app: Arc<App>, session: Session, request: get_location_for_protocol::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::UserSearch, &session.user)?;
    let mut question = asked::get_location_for_protocol::v1::Request::new(request.protocol.clone());
    question.fields = fields(request.fields)?;
    reply::json(&app.services.find(Some(&request.protocol), question).await)
}

/// `GET /_matrix/client/v3/thirdparty/user/{protocol}`
async fn people(app: Arc<App>, session: Session, request: get_user_for_protocol::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::UserSearch, &session.user)?;
    let mut question = asked::get_user_for_protocol::v1::Request::new(request.protocol.clone());
    question.fields = fields(request.fields)?;
    reply::json(&app.services.find(Some(&request.protocol), question).await)
}

/// `GET /_matrix/client/v3/thirdparty/location`
async fn locations_of_alias(
    app: Arc<App>,
    session: Session,
    request: get_location_for_room_alias::v3::Request,
) -> Result<Reply> {
    app.limits.take(Bucket::UserSearch, &session.user)?;
    let question = asked::get_location_for_room_alias::v1::Request::new(request.alias);
    reply::json(&app.services.find(None, question).await)
}

/// `GET /_matrix/client/v3/thirdparty/user`
async fn people_behind(app: Arc<App>, session: Session, request: get_user_for_user_id::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::UserSearch, &session.user)?;
    let question = asked::get_user_for_user_id::v1::Request::new(request.userid);
    reply::json(&app.services.find(None, question).await)
}

/// What is searched for, without what says who searches.
fn fields(mut given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    for own in ["access_token", "user_id", "device_id", "org.matrix.msc3202.device_id"] {
        given.remove(own);
    }
    let long = given.iter().any(|(name, value)| name.len().max(value.len()) > MAX_FIELD);
    match given.len() > MAX_FIELDS || long {
        true => Err(Error::invalid_param(format!("at most {MAX_FIELDS} fields of {MAX_FIELD} bytes are passed on"))),
        false => Ok(given),
    }
}
