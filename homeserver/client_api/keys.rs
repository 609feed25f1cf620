//! Keys for end-to-end encryption. spec: client-server-api#key-distribution, #cross-signing

use std::sync::Arc;

use ruma::api::client::keys::{
    claim_keys, get_key_changes, get_keys, upload_keys, upload_signatures, upload_signing_keys,
};

use super::blocking;
use crate::{
    accounts::{
        sessions,
        uia::{BY_PAGE, BY_PASSWORD},
    },
    app::App,
    base::token::SyncToken,
    e2ee::{cross_signing, device_keys, device_lists, one_time_keys, signatures},
    error::Result,
    http::{Bucket, Guarded, Session, uia},
};

/// `POST /_matrix/client/v3/keys/upload`
pub async fn upload(
    app: Arc<App>,
    session: Session,
    request: upload_keys::v3::Request,
) -> Result<upload_keys::v3::Response> {
    app.limits.take(Bucket::Costly, &session.user)?;
    session.needs_device()?;
    let upload_keys::v3::Request { device_keys, one_time_keys, fallback_keys, .. } = request;
    let (user, device) = (session.user, session.device);
    let device_keys = device_keys.map(|keys| device_keys::check(&user, &device, &keys)).transpose()?;
    one_time_keys::check(&one_time_keys, &fallback_keys)?;
    let counts = if device_keys.is_none() && one_time_keys.is_empty() && fallback_keys.is_empty() {
        app.store.read(|tx| one_time_keys::counts(tx, &user, &device))?
    } else {
        let job = app.store.write(move |tx| {
            sessions::check(tx, &user, &device)?;
            // One-time keys first: they are what clients get wrong, and nothing is written by then.
            one_time_keys::upload(tx, &user, &device, &one_time_keys)?;
            one_time_keys::upload_fallback(tx, &user, &device, &fallback_keys)?;
            device_keys.as_ref().map(|keys| device_keys::upload(tx, keys)).transpose()?;
            one_time_keys::counts(tx, &user, &device)
        });
        job.await?
    };
    Ok(upload_keys::v3::Response::new(counts))
}

/// `POST /_matrix/client/v3/keys/query`
pub async fn query(app: Arc<App>, session: Session, request: get_keys::v3::Request) -> Result<get_keys::v3::Response> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let (wanted, time) = (request.device_keys, request.timeout);
    let (store, me, asker) = (app.store.clone(), app.config.server_name.clone(), session.user.clone());
    let (mut answer, wanted) = blocking(move || {
        let answer = store.read(|tx| device_keys::query(tx, &me, &asker, &wanted))?;
        Ok((answer, wanted))
    })
    .await?;
    app.federation.keys.query(&session.user, wanted, time, &mut answer).await?;
    Ok(answer)
}

/// `POST /_matrix/client/v3/keys/claim`
pub async fn claim(
    app: Arc<App>,
    session: Session,
    request: claim_keys::v3::Request,
) -> Result<claim_keys::v3::Response> {
    app.limits.take(Bucket::Other, &session.user)?;
    let (jobs, elsewhere) = one_time_keys::divide(&app.config.server_name, request.one_time_keys)?;
    let (theirs, failures) = app.federation.keys.claim(elsewhere, request.timeout).await;
    let mut claimed = one_time_keys::Claimed::new();
    for claims in jobs {
        for (user, devices) in app.store.write(move |tx| one_time_keys::claim(tx, &claims)).await? {
            claimed.entry(user).or_default().extend(devices);
        }
    }
    claimed.extend(theirs);
    let mut response = claim_keys::v3::Response::new(claimed);
    response.failures = failures;
    Ok(response)
}

/// `GET /_matrix/client/v3/keys/changes`
pub async fn changes(
    app: Arc<App>,
    session: Session,
    request: get_key_changes::v3::Request,
) -> Result<get_key_changes::v3::Response> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let (from, to): (SyncToken, SyncToken) = (request.from.parse()?, request.to.parse()?);
    let read = move || app.store.read(|tx| device_lists::changes_since(tx, &session.user, from.pos, to.pos));
    let changes = blocking(read).await?;
    Ok(get_key_changes::v3::Response::new(changes.changed.into_iter().collect(), changes.left.into_iter().collect()))
}

/// `POST /_matrix/client/v3/keys/device_signing/upload`
pub async fn upload_cross_signing(
    app: Arc<App>,
    session: Session,
    asked: Guarded<upload_signing_keys::v3::Request>,
) -> Result<upload_signing_keys::v3::Response> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let upload_signing_keys::v3::Request { master_key, self_signing_key, user_signing_key, .. } = &asked.request;
    let keys = cross_signing::Keys {
        master: master_key.clone(),
        self_signing: self_signing_key.clone(),
        user_signing: user_signing_key.clone(),
    };
    let plan = app.store.read(|tx| cross_signing::judge(tx, &session.user, &keys))?;
    if plan.needs_auth() && session.service.is_none() {
        let row = app.store.read(|tx| sessions::device(tx, &session.user, session.device.as_str()))?;
        let by_oauth = row.is_some_and(|row| row.application.is_some());
        let flows = if by_oauth { BY_PAGE } else { BY_PASSWORD };
        uia::prove(&app, Some(&session), &asked, flows).await?;
    }
    if !plan.is_empty() {
        app.store.write(move |tx| cross_signing::replace(tx, &plan)).await?;
        app.grants.reset_done(&session.user);
    }
    Ok(upload_signing_keys::v3::Response::new())
}

/// `POST /_matrix/client/v3/keys/signatures/upload`
pub async fn sign(
    app: Arc<App>,
    session: Session,
    request: upload_signatures::v3::Request,
) -> Result<upload_signatures::v3::Response> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let (user, store) = (session.user.clone(), app.store.clone());
    let judged = blocking(move || store.read(|tx| signatures::judge(tx, &user, &request.signed_keys))).await?;
    let good = judged.good;
    if !good.is_empty() {
        app.store.write(move |tx| signatures::add(tx, &session.user, &good)).await?;
    }
    let mut response = upload_signatures::v3::Response::new();
    response.failures = judged.failures;
    Ok(response)
}
