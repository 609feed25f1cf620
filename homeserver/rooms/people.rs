//! Searching for people: everybody of this server, and of others those whom the searcher shares a room with or
//! who are in a room that is open to all. spec: client-server-api#user-directory

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId, events::StateEventType};
use serde::Deserialize;

use super::{history, members, restricted, room::Room};
use crate::{
    accounts::{profile, users},
    base::{RoomNum, signing::Identity},
    error::Result,
    store::{Flow, Read, tables},
};

/// Accounts of this server that one search looks at.
const MAX_ACCOUNTS: usize = 100_000;
/// Members of rooms that one search looks at.
const MAX_MEMBERS: usize = 20_000;
/// Rooms that are open to all of which one search looks at the members, beside the searcher's own; and rooms that it
/// looks at to find those.
const MAX_ROOMS: usize = 500;
const MAX_LOOKED: usize = 5000;

/// Somebody who was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub user: OwnedUserId,
    /// What they are called.
    pub name: Option<String>,
    /// How they look.
    pub avatar: Option<String>,
}

/// People whose name or ID begins with or holds all words of `term`, the nearest first; and whether there are
/// more than `limit`.
pub fn search(
    tx: &impl Read,
    me: &Identity,
    searcher: &UserId,
    term: &str,
    limit: usize,
) -> Result<(Vec<Person>, bool)> {
    let sought = Sought::new(term, me);
    let mut found: BTreeMap<(u8, OwnedUserId), Person> = BTreeMap::new();
    let mut note = |person: Person| {
        if person.user != searcher
            && let Some(distance) = sought.distance(&person)
        {
            found.insert((distance, person.user.clone()), person);
        }
    };
    let mut local = Vec::new();
    users::each(tx, |name, row| {
        if !row.deactivated && !row.locked {
            local.extend(users::wished(name, &me.name).ok());
        }
        Ok(if local.len() < MAX_ACCOUNTS { Flow::Next } else { Flow::Stop })
    })?;
    for user in local {
        let mut fields = profile::of(tx, &user)?;
        let mut text = |key: &str| fields.remove(key).and_then(|value| value.as_str().map(str::to_owned));
        let (name, avatar) = (text("displayname"), text("avatar_url"));
        note(Person { user, name, avatar });
    }
    for person in remote(tx, me, searcher)? {
        note(person);
    }
    let limited = found.len() > limit;
    Ok((found.into_values().take(limit).collect(), limited))
}

/// People of other servers who may be found.
fn remote(tx: &impl Read, me: &Identity, searcher: &UserId) -> Result<Vec<Person>> {
    let mut seen = BTreeMap::<OwnedUserId, RoomNum>::new();
    let mut looked = 0;
    let own = members::joined_rooms(tx, searcher)?;
    for room in own.into_iter().chain(open_to_all(tx)?) {
        members::each(tx, room, |user, row| {
            looked += 1;
            if row.membership == "join"
                && let Ok(user) = UserId::parse(user)
                && !me.owns(&user)
            {
                seen.entry(user).or_insert(room);
            }
            Ok(if looked < MAX_MEMBERS { Flow::Next } else { Flow::Stop })
        })?;
    }
    seen.into_iter().map(|(user, room)| shown_in(tx, room, user)).collect()
}

/// Rooms with people of other servers into which everybody may come, or which everybody may read, published or not:
/// the newest.
fn open_to_all(tx: &impl Read) -> Result<Vec<RoomNum>> {
    let (mut shared, mut looked) = (Vec::new(), 0);
    tables::ROOMS.scan_back::<RoomNum>(tx, .., |num, row| {
        looked += 1;
        if row.servers > 1 {
            shared.push(num);
        }
        Ok(if looked < MAX_LOOKED { Flow::Next } else { Flow::Stop })
    })?;
    let mut open = Vec::new();
    for num in shared {
        let room = Room::at(tx, num)?;
        if open.len() < MAX_ROOMS && (restricted::is_public(tx, &room)? || history::is_world_readable(tx, &room)?) {
            open.push(num);
        }
    }
    Ok(open)
}

fn shown_in(tx: &impl Read, room: RoomNum, user: OwnedUserId) -> Result<Person> {
    #[derive(Default, Deserialize)]
    struct Member {
        displayname: Option<String>,
        avatar_url: Option<String>,
    }
    let event = Room::at(tx, room)?.state_event(tx, &StateEventType::RoomMember, user.as_str())?;
    let Member { displayname, avatar_url } = event.and_then(|event| event.content_as()).unwrap_or_default();
    Ok(Person { user, name: displayname, avatar: avatar_url })
}

/// What somebody has typed.
struct Sought {
    whole: String,
    /// A whole ID of somebody.
    id: Option<String>,
    words: Vec<String>,
}

impl Sought {
    fn new(term: &str, me: &Identity) -> Self {
        let whole = term.trim().to_lowercase();
        let local = whole.trim_start_matches('@').strip_suffix(&format!(":{}", me.name)).map(str::to_owned);
        Self {
            id: whole.starts_with('@').then(|| whole.clone()),
            words: whole.trim_start_matches('@').split_whitespace().map(str::to_owned).collect(),
            whole: local.unwrap_or_else(|| whole.trim_start_matches('@').to_owned()),
        }
    }

    /// How far somebody is from what is sought: 0 for exactly them. None if they are not meant.
    fn distance(&self, person: &Person) -> Option<u8> {
        let local = person.user.localpart().to_lowercase();
        let name = person.name.as_deref().unwrap_or_default().to_lowercase();
        if self.whole.is_empty() {
            return None;
        }
        if local == self.whole || name == self.whole || self.id.as_deref() == Some(&person.user.as_str().to_lowercase())
        {
            return Some(0);
        }
        if local.starts_with(&self.whole) || name.starts_with(&self.whole) {
            return Some(1);
        }
        let begins = |word: &String| {
            name.split(|letter: char| !letter.is_alphanumeric()).any(|part| part.starts_with(word.as_str()))
        };
        if self.words.iter().all(begins) {
            return Some(2);
        }
        let id = person.user.as_str().to_lowercase();
        let holds = |word: &String| name.contains(word.as_str()) || id.contains(word.as_str());
        self.words.iter().all(holds).then_some(3)
    }
}
