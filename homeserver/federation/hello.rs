//! Telling other servers that this one is there again. Who could not reach it meanwhile would otherwise wait until
//! it tries once more by itself, which may be in hours. Said once, at the start, to servers that share rooms with
//! us, by a transaction with nothing in it; whoever does not hear it has missed nothing but that.

use std::sync::Arc;

use ruma::{OwnedServerName, api::federation::transactions::send_transaction_message::v1};
use tokio::task::JoinSet;

use super::{Bounds, Outbox, Remote};
use crate::{
    base::{clock, signing::Identity},
    error::{Error, Result},
    rooms::servers,
    store::Store,
};

/// Servers that are told at most: to be found by more is not worth asking so many who may be gone.
const MAX_TOLD: usize = 2_000;
/// Servers that are told at once.
const AT_ONCE: usize = 8;

/// Tells them. Those that are told something anyway hear of us by that.
pub async fn say(me: &Arc<Identity>, store: &Store, remote: &Remote, outbox: &Outbox) -> Result<()> {
    let (looking, name) = (store.clone(), me.name.clone());
    let look = move || looking.read(|tx| servers::known(tx, &name, "", MAX_TOLD));
    let known = tokio::task::spawn_blocking(look).await.map_err(Error::internal)??;
    let mut telling = JoinSet::new();
    for server in known {
        if outbox.destination(&server)?.is_some_and(|row| row.behind || row.failures > 0) {
            continue;
        }
        if telling.len() == AT_ONCE {
            telling.join_next().await;
        }
        telling.spawn(one(me.name.clone(), remote.clone(), server));
    }
    while telling.join_next().await.is_some() {}
    Ok(())
}

async fn one(me: OwnedServerName, remote: Remote, server: OwnedServerName) {
    let request = v1::Request::new(format!("f{}", clock::tick()).into(), me, clock::now());
    if let Err(failure) = remote.call_within(Bounds::SMALL, &server, request).await {
        tracing::debug!(%server, %failure, "{server} does not hear that we are there again");
    }
}
