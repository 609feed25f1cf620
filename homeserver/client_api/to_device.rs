//! Messages from device to device. spec: client-server-api#send-to-device-messaging

use std::sync::Arc;

use ruma::api::client::to_device::send_event_to_device::v3::{Request, Response};

use crate::{
    accounts::{sessions, transactions::Transaction},
    app::App,
    e2ee::to_device,
    error::Result,
    http::{Bucket, Session},
    store::WriteTx,
};

/// Servers whose messages one job writes.
const SERVERS_AT_ONCE: usize = 25;

/// `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`
pub async fn send(app: Arc<App>, session: Session, request: Request) -> Result<Response> {
    let kind = request.event_type.to_string();
    let others = to_device::for_others(&app.config.server_name, (&session.user, &kind), &request.messages)?;
    let jobs = to_device::check(&app.config.server_name, &kind, request.messages)?;
    let weight = app.store.read(|tx| to_device::weight(tx, &jobs))?;
    let weight = weight.saturating_add(to_device::weight_for_others(&others));
    app.limits.take_many(Bucket::ToDevice, &session.user, weight)?;
    for (part, messages) in jobs.into_iter().enumerate() {
        // A retry of the request divides alike, so each part is a transaction of its own.
        let transaction = Transaction {
            user: session.user.to_string(),
            device: session.device.to_string(),
            endpoint: format!("sendToDevice/{kind}/{part}"),
            id: request.txn_id.to_string(),
        };
        let (sender, kind) = (session.user.clone(), kind.clone());
        let device = session.device.clone();
        let send = move |tx: &WriteTx| {
            sessions::check(tx, &sender, &device)?;
            to_device::send(tx, &transaction, &sender, &kind, &messages)
        };
        app.store.write(send).await?;
    }
    for (part, messages) in others.chunks(SERVERS_AT_ONCE).enumerate() {
        let transaction = Transaction {
            user: session.user.to_string(),
            device: session.device.to_string(),
            endpoint: format!("sendToDevice/{kind}/others/{part}"),
            id: request.txn_id.to_string(),
        };
        let (user, device, messages) = (session.user.clone(), session.device.clone(), messages.to_vec());
        let send = move |tx: &WriteTx| {
            sessions::check(tx, &user, &device)?;
            to_device::send_to_others(tx, &transaction, &messages)
        };
        app.store.write(send).await?;
    }
    Ok(Response::new())
}
