//! Somebody's sessions, as a list to look at and to thin out. spec: client-server-api#device-management

use std::sync::Arc;

use http::StatusCode;
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt, UserId,
    api::client::device::{Device, delete_device, delete_devices, get_device, get_devices, update_device},
};

use crate::{
    accounts::{
        pushers,
        sessions::{self, Found, Issued, Wish},
        transactions,
    },
    app::App,
    e2ee::{self, cross_signing, device_lists},
    error::{Error, Result},
    http::{Bucket, Guarded, Reply, Session, reply, uia},
    store::{WriteTx, rows::DeviceRow},
};

/// Devices that can be deleted at once.
const MAX_DELETED: usize = 500;

/// Starts a session. Every job that starts one calls this.
pub fn start(tx: &WriteTx, user: &UserId, wish: &Wish) -> Result<Issued> {
    if let Some(name) = &wish.device {
        check_name(tx, user, name)?;
    }
    let issued = sessions::start(tx, user, wish)?;
    ended(tx, user, &issued.ended)?;
    Ok(issued)
}

/// Refuses a device ID that is one of the person's cross-signing keys. spec: client-server-api#cross-signing
fn check_name(tx: &WriteTx, user: &UserId, name: &str) -> Result<()> {
    match cross_signing::is_key(tx, user, name)? {
        true => Err(Error::forbidden("this device ID is one of your cross-signing keys")),
        false => Ok(()),
    }
}

/// Removes what belonged to sessions that ended. Every job that ends sessions calls this.
pub fn ended(tx: &WriteTx, user: &UserId, devices: &[String]) -> Result<()> {
    for device in devices {
        transactions::forget(tx, user.as_str(), device)?;
        pushers::forget_device(tx, user, device)?;
        e2ee::forget_device(tx, user, device.as_str().into())?;
    }
    Ok(())
}

/// `GET /_matrix/client/v3/devices`
pub async fn devices(
    app: Arc<App>,
    session: Session,
    _: get_devices::v3::Request,
) -> Result<get_devices::v3::Response> {
    let rows = app.store.read(|tx| sessions::devices(tx, &session.user))?;
    let devices = rows.into_iter().map(|(id, row)| shown(&app, &session.user, id, row));
    Ok(get_devices::v3::Response::new(devices.collect()))
}

/// `GET /_matrix/client/v3/devices/{deviceId}`
pub async fn device(
    app: Arc<App>,
    session: Session,
    request: get_device::v3::Request,
) -> Result<get_device::v3::Response> {
    let id = request.device_id.to_string();
    let row = app.store.read(|tx| sessions::device(tx, &session.user, &id))?;
    let row = row.ok_or_else(|| Error::not_found("you have no such device"))?;
    Ok(get_device::v3::Response::new(shown(&app, &session.user, id, row)))
}

fn shown(app: &App, user: &UserId, id: String, row: DeviceRow) -> Device {
    let found = Found { user: user.to_owned(), device: id.into() };
    let (at, ip) = match app.last_seen.of(&found) {
        Some(seen) => (seen.at, seen.ip.to_string()),
        None => (row.last_seen, row.last_ip),
    };
    let mut device = Device::new(found.device);
    device.display_name = row.display_name;
    device.last_seen_ip = Some(ip).filter(|ip| !ip.is_empty());
    device.last_seen_ts = UInt::try_from(at).ok().map(MilliSecondsSinceUnixEpoch);
    device
}

/// `PUT /_matrix/client/v3/devices/{deviceId}`
pub async fn rename(app: Arc<App>, session: Session, request: update_device::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::Other, &session.user)?;
    let rename = move |tx: &_| {
        let (user, id) = (&session.user, request.device_id.as_str());
        let known = sessions::device(tx, user, id)?.is_some();
        match &request.display_name {
            // spec: application-service-api#device-management
            name if !known && session.service.is_some() => make(tx, user, id, name.clone()).map(|()| true),
            Some(name) => {
                sessions::rename(tx, user, id, name)?;
                device_lists::changed(tx, user).map(|()| false)
            }
            None if known => Ok(false),
            None => Err(Error::not_found("you have no such device")),
        }
    };
    let is_new = app.store.write(rename).await?;
    Ok(reply::json_with(if is_new { StatusCode::CREATED } else { StatusCode::OK }, "{}"))
}

/// Makes a device without a token, which an application service acts on.
fn make(tx: &WriteTx, user: &UserId, id: &str, name: Option<String>) -> Result<()> {
    check_name(tx, user, id)?;
    let gone = sessions::add_device(tx, user, id, name)?;
    ended(tx, user, &gone)
}

/// `DELETE /_matrix/client/v3/devices/{deviceId}`
pub async fn delete(
    app: Arc<App>,
    session: Session,
    asked: Guarded<delete_device::v3::Request>,
) -> Result<delete_device::v3::Response> {
    uia::require(&app, &session, &asked).await?;
    end(&app, session, vec![asked.request.device_id.to_string()]).await?;
    Ok(delete_device::v3::Response::new())
}

/// `POST /_matrix/client/v3/delete_devices`
pub async fn delete_many(
    app: Arc<App>,
    session: Session,
    asked: Guarded<delete_devices::v3::Request>,
) -> Result<delete_devices::v3::Response> {
    if asked.request.devices.len() > MAX_DELETED {
        return Err(Error::invalid_param(format!("at most {MAX_DELETED} devices can be deleted at once")));
    }
    uia::require(&app, &session, &asked).await?;
    end(&app, session, asked.request.devices.iter().map(ToString::to_string).collect()).await?;
    Ok(delete_devices::v3::Response::new())
}

async fn end(app: &App, session: Session, ids: Vec<String>) -> Result<()> {
    let end = move |tx: &_| {
        for id in &ids {
            sessions::end(tx, &session.user, id)?;
        }
        ended(tx, &session.user, &ids)
    };
    app.store.write(end).await
}
