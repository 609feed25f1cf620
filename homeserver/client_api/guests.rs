//! The end of guests' accounts: whoever has not been here for long is forgotten, so that open doors fill neither the
//! database nor the places that there are. spec: client-server-api#guest-access

use std::{sync::Arc, time::Duration};

use super::account;
use crate::{
    accounts::{sessions::Found, users},
    app::App,
    base::clock,
    error::Result,
};

/// It is looked for them so often while they may be away, within these bounds.
const LOOKS: u64 = 24;
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60 * 60);

/// Forgets guests who stay away, for ever.
pub async fn run(app: Arc<App>) {
    let every = Duration::from_millis(app.config.guest_lifetime / LOOKS).clamp(LEAST, MOST);
    loop {
        match forget_some(&app).await {
            // There may be more.
            Ok(some) if some >= users::MAX_IDLE => continue,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "guests who stay away can't be forgotten"),
        }
        tokio::time::sleep(every).await;
    }
}

/// Forgets some who have stayed away too long. Returns how many it were.
async fn forget_some(app: &Arc<App>) -> Result<usize> {
    let (looking, since) = (app.clone(), clock::now_ms().saturating_sub(app.config.guest_lifetime));
    let idle = super::blocking(move || {
        looking.store.read(|tx| {
            users::idle_guests(tx, since, |user, device| {
                let session = Found { user: user.to_owned(), device: device.into() };
                looking.last_seen.of(&session).map(|seen| seen.at)
            })
        })
    })
    .await?;
    let mut forgotten = 0;
    for user in idle {
        match account::forget_guest(app, &user).await {
            Ok(()) => forgotten += 1,
            // It is tried again, and the others need not wait for it.
            Err(error) => tracing::warn!(%user, %error, "the guest {user} can't be forgotten"),
        }
    }
    if forgotten > 0 {
        tracing::info!(forgotten, "guests who stayed away were forgotten");
    }
    Ok(forgotten)
}
