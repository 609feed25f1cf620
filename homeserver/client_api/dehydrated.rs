//! Dehydrated devices (MSC3814): keys and messages of a device that sleeps here.

use std::sync::Arc;

use http::Method;
use ruma::api::client::dehydrated_device::{
    delete_dehydrated_device, get_dehydrated_device, get_events, put_dehydrated_device,
};
use serde_json::json;

use super::devices;
use crate::{
    accounts::sessions,
    app::App,
    base::{Pos, json},
    e2ee::{dehydrated, device_keys, one_time_keys, to_device},
    error::{Error, Result},
    http::{Asked, Bucket, Reply, Router, Session, reply, untyped},
    store::{Read, WriteTx},
};

/// All endpoints.
pub fn routes(router: &mut Router) {
    router.route(put).route_raw(device).route(remove).route_raw(events);
    let path = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events";
    untyped::route(router, Method::GET, path, events_by_get);
}

/// `PUT /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
///
/// There is one for each person: a new one takes the place of the old.
async fn put(
    app: Arc<App>,
    session: Session,
    request: put_dehydrated_device::unstable::Request,
) -> Result<put_dehydrated_device::unstable::Response> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let user = session.user.clone();
    let id = request.device_id.clone();
    let keys = device_keys::check(&user, &id, &request.device_keys)?;
    one_time_keys::check(&request.one_time_keys, &request.fallback_keys)?;
    let put = move |tx: &WriteTx| {
        sessions::check(tx, &user, &session.device)?;
        let old = dehydrated::name(tx, &user)?;
        if old.as_deref() != Some(request.device_id.as_str())
            && sessions::device(tx, &user, request.device_id.as_str())?.is_some()
        {
            return Err(Error::invalid_param("one of your sessions has this device ID"));
        }
        if let Some(old) = old {
            sessions::end(tx, &user, &old)?;
            devices::ended(tx, &user, &[old])?;
        }
        let id = request.device_id.as_str();
        let ended = sessions::add_device(tx, &user, id, request.initial_device_display_name.clone())?;
        devices::ended(tx, &user, &ended)?;
        dehydrated::put(tx, &user, id, request.device_data.json())?;
        one_time_keys::upload(tx, &user, &request.device_id, &request.one_time_keys)?;
        one_time_keys::upload_fallback(tx, &user, &request.device_id, &request.fallback_keys)?;
        device_keys::upload(tx, &keys)
    };
    app.store.write(put).await?;
    Ok(put_dehydrated_device::unstable::Response::new(id))
}

/// `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
async fn device(app: Arc<App>, session: Session, _: get_dehydrated_device::unstable::Request) -> Result<Reply> {
    let row = app.store.read(|tx| dehydrated::of(tx, &session.user))?;
    reply::json(&json!({ "device_id": row.device, "device_data": json::raw(row.data)? }))
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
async fn remove(
    app: Arc<App>,
    session: Session,
    _: delete_dehydrated_device::unstable::Request,
) -> Result<delete_dehydrated_device::unstable::Response> {
    app.limits.take(Bucket::Other, &session.user)?;
    let remove = move |tx: &WriteTx| {
        let id = dehydrated::of(tx, &session.user)?.device;
        sessions::end(tx, &session.user, &id)?;
        devices::ended(tx, &session.user, std::slice::from_ref(&id))?;
        Ok(id)
    };
    let id = app.store.write(remove).await?;
    Ok(delete_dehydrated_device::unstable::Response::new(id.into()))
}

/// `POST /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{deviceId}/events`
///
/// Messages stay until the device is gone: whoever wakes it may have to begin again.
async fn events(app: Arc<App>, session: Session, request: get_events::unstable::Request) -> Result<Reply> {
    page(&app, &session, request.device_id.as_str(), request.next_batch.as_deref())
}

/// `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{deviceId}/events`
async fn events_by_get(app: Arc<App>, asked: Asked) -> Result<Reply> {
    page(&app, &asked.session, &asked.path::<String>(0)?, asked.query("next_batch"))
}

/// What waits for the device after a page, as many as a sync takes.
fn page(app: &App, session: &Session, device: &str, token: Option<&str>) -> Result<Reply> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let after = match token.filter(|token| !token.is_empty()) {
        Some(token) => token.parse::<Pos>().map_err(|_| Error::invalid_param("next_batch is no token of ours"))?,
        None => 0,
    };
    let pending = app.store.read(|tx| {
        if dehydrated::of(tx, &session.user)?.device != device {
            return Err(Error::forbidden("this is not your dehydrated device"));
        }
        to_device::pending(tx, &session.user, device, after, tx.pos()?)
    })?;
    let events = pending.events.into_iter().map(json::raw).collect::<Result<Vec<_>>>()?;
    reply::json(&json!({ "events": events, "next_batch": pending.upto.to_string() }))
}
