//! Tells other servers who is online, if the settings say so: changes fold together for a moment, and go to
//! the servers that share a room with the person.

use std::{sync::Arc, time::Duration};

use ruma::{UInt, UserId, api::federation::transactions::edu::PresenceUpdate};

use super::{Outbox, fleeting::Fleeting};
use crate::{
    accounts::presence::{Presence, Status},
    base::signing::Identity,
    error::Result,
    rooms::servers,
    store::Store,
};

/// How often it is looked who has changed.
const BEAT: Duration = Duration::from_secs(2);
/// People of whom one beat tells.
const AT_ONCE: usize = 200;

/// Tells of changes for as long as it runs.
pub async fn follow(me: Arc<Identity>, store: Store, presence: Arc<Presence>, outbox: Outbox) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = presence.newest();
    loop {
        beats.tick().await;
        for (number, user, status) in presence.changed_since(seen, AT_ONCE) {
            seen = number;
            if !me.owns(&user) {
                continue;
            }
            if let Err(error) = tell(&store, &outbox, &user, status) {
                tracing::debug!(%error, "can't tell others who is online");
            }
        }
    }
}

fn tell(store: &Store, outbox: &Outbox, user: &UserId, status: Status) -> Result<()> {
    let ago = UInt::new_saturating(status.last_active_ago.unwrap_or(0));
    let mut update = PresenceUpdate::new(user.to_owned(), status.state, ago);
    (update.status_msg, update.currently_active) = (status.message, status.currently_active);
    outbox.tell(store.read(|tx| servers::sharing_with(tx, user))?, &Fleeting::Presence(update))
}
