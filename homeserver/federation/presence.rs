//! Tells other servers who is online, if the settings say so: changes fold together for a moment, and go to
//! the servers that share a room with the person. Who comes together in a room is told who is there, and
//! whoever stays as they are is told of again now and then, since what is heard is forgotten after a while.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UInt, UserId, api::federation::transactions::edu::PresenceUpdate,
    presence::PresenceState,
};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};

use super::{Outbox, fleeting::Fleeting};
use crate::{
    accounts::presence::{Presence, Status},
    base::{RoomNum, signing::Identity},
    error::Result,
    rooms::{members, servers},
    store::Store,
};

/// How often it is looked who has changed.
const BEAT: Duration = Duration::from_secs(2);
/// People of whom one beat tells, for each reason there is to tell.
const AT_ONCE: usize = 200;
/// People of whom it is looked whether they are in a room that a server is new to, at most.
const MAX_LOOK: usize = 2000;
/// How often others are reminded of whoever is here. Shorter than anybody's memory.
const REMIND: Duration = Duration::from_secs(20 * 60);

/// What is told, and to whom.
struct Telling {
    me: Arc<Identity>,
    store: Store,
    presence: Arc<Presence>,
    outbox: Outbox,
}

/// Tells of changes for as long as it runs.
pub async fn follow(me: Arc<Identity>, store: Store, presence: Arc<Presence>, outbox: Outbox) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = presence.newest();
    let telling = Telling { me, store, presence, outbox };
    let (mut reminded, mut remaining) = (Instant::now(), Vec::new());
    loop {
        beats.tick().await;
        let changed = telling.presence.changed_since(seen, AT_ONCE);
        seen = changed.last().map_or(seen, |(number, ..)| *number);
        for (_, user, status) in changed.into_iter().filter(|(_, user, _)| telling.me.owns(user)) {
            note(telling.change(&user, status));
        }
        note(telling.arrivals());
        if reminded.elapsed() >= REMIND {
            (reminded, remaining) = (Instant::now(), telling.presence.everybody());
        }
        for user in remaining.split_off(remaining.len().saturating_sub(AT_ONCE)) {
            if let Some(status) = telling.here(&user) {
                note(telling.change(&user, status));
            }
        }
    }
}

fn note(told: Result<()>) {
    if let Err(error) = told {
        tracing::debug!(%error, "can't tell others who is online");
    }
}

impl Telling {
    fn change(&self, user: &UserId, status: Status) -> Result<()> {
        self.outbox.tell(self.store.read(|tx| servers::sharing_with(tx, user))?, &update(user, status))
    }

    /// Tells those who came together with others in a room of each other.
    fn arrivals(&self) -> Result<()> {
        let mut guests: BTreeMap<(RoomNum, OwnedServerName), u64> = BTreeMap::new();
        for (user, room) in self.presence.take_arrivals() {
            if let Some(status) = self.here(&user) {
                self.outbox.tell_room(room, &update(&user, status))?;
            } else if !self.me.owns(&user) {
                *guests.entry((room, user.server_name().to_owned())).or_default() += 1;
            }
        }
        for ((room, server), came) in guests {
            // A server that had people there before has been told.
            if self.store.read(|tx| servers::joined(tx, room, &server))? <= came {
                self.introduce(room, &server)?;
            }
        }
        Ok(())
    }

    fn introduce(&self, room: RoomNum, server: &ServerName) -> Result<()> {
        let everybody = self.presence.everybody().into_iter();
        let here = everybody.filter_map(|user| Some((self.here(&user)?, user))).take(MAX_LOOK);
        let ours = self.store.read(|tx| -> Result<_> {
            let mut ours = Vec::new();
            for (status, user) in here {
                if members::is_joined(tx, room, &user)? {
                    ours.push(update(&user, status));
                }
            }
            Ok(ours)
        })?;
        for update in ours.into_iter().take(AT_ONCE) {
            self.outbox.tell([server.to_owned()], &update)?;
        }
        Ok(())
    }

    /// The presence of somebody of this server, if they are there.
    fn here(&self, user: &OwnedUserId) -> Option<Status> {
        let status = self.me.owns(user).then(|| self.presence.of(user))?;
        status.filter(|status| status.state != PresenceState::Offline)
    }
}

fn update(user: &UserId, status: Status) -> Fleeting {
    let ago = UInt::new_saturating(status.last_active_ago.unwrap_or(0));
    let mut update = PresenceUpdate::new(user.to_owned(), status.state, ago);
    (update.status_msg, update.currently_active) = (status.message, status.currently_active);
    Fleeting::Presence(update)
}
