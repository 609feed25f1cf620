//! What is told only to those who can be reached now: who types, and who is online. The newest word
//! replaces the one before it that was not sent yet.

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomId, OwnedUserId,
    api::federation::transactions::edu::{Edu, PresenceContent, PresenceUpdate, TypingContent},
};

/// What waits for one server at most, of each kind.
const MAX_WAITING: usize = 100;

/// Something to tell.
#[derive(Clone, Debug)]
pub enum Fleeting {
    /// Somebody types, or does not any more.
    Typing(OwnedRoomId, OwnedUserId, bool),
    /// Somebody's presence.
    Presence(PresenceUpdate),
}

/// What waits for one server.
#[derive(Default, Debug)]
pub struct Waiting {
    typing: BTreeMap<(OwnedRoomId, OwnedUserId), bool>,
    presence: BTreeMap<OwnedUserId, PresenceUpdate>,
}

impl Waiting {
    /// Adds something, if there is room.
    pub fn add(&mut self, fleeting: &Fleeting) {
        match fleeting {
            Fleeting::Typing(room, user, typing) => put(&mut self.typing, (room.clone(), user.clone()), *typing),
            Fleeting::Presence(update) => put(&mut self.presence, update.user_id.clone(), update.clone()),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.typing.is_empty() && self.presence.is_empty()
    }

    /// Takes it all, as it is sent.
    pub fn take(&mut self) -> Vec<Edu> {
        let typing = std::mem::take(&mut self.typing).into_iter();
        let mut out: Vec<_> =
            typing.map(|((room, user), typing)| Edu::Typing(TypingContent::new(room, user, typing))).collect();
        if !self.presence.is_empty() {
            let push = std::mem::take(&mut self.presence).into_values().collect();
            out.insert(0, Edu::Presence(PresenceContent::new(push)));
        }
        out
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) {
    if map.len() < MAX_WAITING || map.contains_key(&key) {
        map.insert(key, value);
    }
}
