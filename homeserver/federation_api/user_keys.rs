//! Keys of our people's devices, for other servers. spec: server-server-api#end-to-end-encryption,
//! #device-management

use std::sync::Arc;

use ruma::{
    UInt,
    api::federation::{device::get_devices, keys as user_keys},
};

use super::blocking;
use crate::{
    accounts::users,
    app::App,
    e2ee::{cross_signing, device_keys, device_lists, one_time_keys},
    error::{Error, Result},
    http::Origin,
};

/// People asked for at once at most.
const MAX_ASKED: usize = 1000;

/// `POST /_matrix/federation/v1/user/keys/query`
pub async fn query(
    app: Arc<App>,
    _: Origin,
    request: user_keys::get_keys::v1::Request,
) -> Result<user_keys::get_keys::v1::Response> {
    if request.device_keys.len() > MAX_ASKED {
        return Err(Error::invalid_param(format!("ask for {MAX_ASKED} users at most")));
    }
    let read = move || {
        app.store.read(|tx| {
            let mut answer = user_keys::get_keys::v1::Response::default();
            for (user, devices) in request.device_keys.iter().filter(|(user, _)| app.me.owns(user)) {
                if users::lookup(tx, user)?.is_none() {
                    continue;
                }
                answer.device_keys.insert(user.clone(), device_keys::of_user(tx, None, user, devices)?);
                let keys = cross_signing::of_user(tx, None, user)?;
                answer.master_keys.extend(keys.master.map(|key| (user.clone(), key)));
                answer.self_signing_keys.extend(keys.self_signing.map(|key| (user.clone(), key)));
            }
            Ok(answer)
        })
    };
    blocking(read).await
}

/// `POST /_matrix/federation/v1/user/keys/claim`
pub async fn claim(
    app: Arc<App>,
    _: Origin,
    request: user_keys::claim_keys::v1::Request,
) -> Result<user_keys::claim_keys::v1::Response> {
    let (jobs, _) = one_time_keys::divide(&app.config.server_name, request.one_time_keys)?;
    let mut claimed = one_time_keys::Claimed::new();
    for claims in jobs {
        for (user, devices) in app.store.write(move |tx| one_time_keys::claim(tx, &claims)).await? {
            claimed.entry(user).or_default().extend(devices);
        }
    }
    Ok(user_keys::claim_keys::v1::Response::new(claimed))
}

/// `GET /_matrix/federation/v1/user/devices/{userId}`
pub async fn devices(app: Arc<App>, _: Origin, request: get_devices::v1::Request) -> Result<get_devices::v1::Response> {
    let user = request.user_id;
    app.store.read(|tx| {
        if !app.me.owns(&user) || users::lookup(tx, &user)?.is_none() {
            return Err(Error::not_found("this server knows no such user"));
        }
        let stream = UInt::new_saturating(device_lists::stream(tx, &user)?);
        let mut answer = get_devices::v1::Response::new(user.clone(), stream);
        let devices = device_keys::of_user(tx, None, &user, &[])?.into_iter();
        answer.devices = devices.map(|(device, keys)| get_devices::v1::UserDevice::new(device, keys)).collect();
        let keys = cross_signing::of_user(tx, None, &user)?;
        (answer.master_key, answer.self_signing_key) = (keys.master, keys.self_signing);
        Ok(answer)
    })
}
