//! Telling other servers that somebody of ours does not type any more who has not said so themselves: they may
//! go on showing it otherwise. spec: server-server-api#typing-notifications

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{Outbox, fleeting::Fleeting};
use crate::{
    base::signing::Identity,
    rooms::{Room, typing::Typing},
    store::Store,
};

/// How often it is looked who that is.
const EVERY: Duration = Duration::from_secs(1);

/// Tells them, for as long as the server runs.
pub async fn follow(me: Arc<Identity>, store: Store, typing: Arc<Typing>, outbox: Outbox) {
    let mut beats = interval(EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        for (num, user) in typing.silent().into_iter().filter(|(_, user)| me.owns(user)) {
            let told = store.read(|tx| Room::at(tx, num)).and_then(|room| match room.row.servers > 1 {
                true => outbox.tell_room(num, &Fleeting::Typing(room.id().to_owned(), user, false)),
                false => Ok(()),
            });
            if let Err(error) = told {
                tracing::debug!(room = num, %error, "other servers can't be told that somebody stopped typing");
            }
        }
    }
}
