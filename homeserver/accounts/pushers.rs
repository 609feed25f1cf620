//! Pushers: where somebody wants to be told what happens, how it stands with each, and a log of the last
//! times that it was told something. Knows nothing of what is told. spec: client-server-api#push-notifications
//!
//! A pusher is known by an ID made of its application and pushkey, so that no pushkey is in a key or a URL.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ruma::{OwnedUserId, UserId};

use crate::{
    base::Pos,
    error::{Error, Result},
    store::{
        Flow, LAST, Read, WriteTx,
        rows::{PushedRow, PusherRow, PusherStateRow},
        tables,
    },
};

/// Pushers of an account at most.
const MAX_PUSHERS: usize = 50;
/// Entries of a pusher's log at most: the newest stay.
pub const MAX_LOG: u64 = 50;
/// The counter of up to where all that happened has been looked at.
const SEEN: &str = "push_seen";

/// The ID of a pusher.
pub fn id(app_id: &str, pushkey: &str) -> String {
    let named = format!("{}\n{app_id}{pushkey}", app_id.len());
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, named.as_bytes()).as_ref()[..18])
}

/// Somebody's pushers, with their IDs.
pub fn of(tx: &impl Read, user: &UserId) -> Result<Vec<(String, PusherRow)>> {
    let user = user.as_str();
    tables::PUSHERS.collect(tx, (user, "")..=(user, LAST), |(_, id), row| (id.to_owned(), row))
}

/// How it stands with a pusher.
pub fn state(tx: &impl Read, user: &UserId, id: &str) -> Result<PusherStateRow> {
    Ok(tables::PUSHER_STATES.get(tx, (user.as_str(), id))?.unwrap_or_default())
}

/// Everybody who has a pusher.
pub fn owners(tx: &impl Read) -> Result<Vec<OwnedUserId>> {
    let mut out: Vec<OwnedUserId> = Vec::new();
    tables::PUSHERS.scan(tx, ("", "")..=(LAST, LAST), |(user, _), _| {
        if out.last().is_none_or(|last| last.as_str() != user) {
            out.extend(UserId::parse(user).ok());
        }
        Ok(Flow::Next)
    })?;
    Ok(out)
}

/// Sets a pusher, and takes it away from everybody else who has it, unless `append`. One that is there
/// already stays where it is in what it has been told.
pub fn set(tx: &WriteTx, user: &UserId, mut row: PusherRow, append: bool) -> Result<()> {
    let id = id(&row.app_id, &row.pushkey);
    let own = of(tx, user)?;
    row.since = match own.iter().find(|(known, _)| *known == id) {
        Some((_, old)) => old.since,
        None if own.len() >= MAX_PUSHERS => {
            return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "this account has too many pushers already"));
        }
        None => tx.pos()?,
    };
    if !append {
        let all = (id.as_str(), "")..=(id.as_str(), LAST);
        for owner in tables::PUSHER_OWNERS.collect(tx, all, |(_, owner), ()| owner.to_owned())? {
            if owner != user.as_str()
                && let Ok(owner) = UserId::parse(owner)
            {
                remove(tx, &owner, &id)?;
            }
        }
    }
    tables::PUSHERS.put(tx, (user.as_str(), id.as_str()), &row)?;
    tables::PUSHER_OWNERS.put(tx, (id.as_str(), user.as_str()), &())?;
    tell(tx, user);
    Ok(())
}

/// Takes a pusher away. False if there is none.
pub fn remove(tx: &WriteTx, user: &UserId, id: &str) -> Result<bool> {
    let key = (user.as_str(), id);
    if !tables::PUSHERS.has(tx, key)? {
        return Ok(false);
    }
    tables::PUSHERS.remove(tx, key)?;
    tables::PUSHER_STATES.remove(tx, key)?;
    tables::PUSHER_OWNERS.remove(tx, (id, user.as_str()))?;
    tables::PUSHED.remove_range(tx, (user.as_str(), id, 0)..=(user.as_str(), id, u64::MAX))?;
    tell(tx, user);
    Ok(true)
}

/// Takes away the pushers that a session has set.
pub fn forget_device(tx: &WriteTx, user: &UserId, device: &str) -> Result<()> {
    for (id, row) in of(tx, user)? {
        if row.device == device {
            remove(tx, user, &id)?;
        }
    }
    Ok(())
}

fn tell(tx: &WriteTx, user: &UserId) {
    tx.wake(|wake| {
        wake.pushers.insert(user.to_owned());
    });
}

/// The log of a pusher, the newest first.
pub fn log(tx: &impl Read, user: &UserId, id: &str) -> Result<Vec<PushedRow>> {
    let user = user.as_str();
    let mut out = tables::PUSHED.collect(tx, (user, id, 0)..=(user, id, u64::MAX), |_, row| row)?;
    out.reverse();
    Ok(out)
}

/// How it stands with a pusher by now, and what it was told meanwhile.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Whose.
    pub user: OwnedUserId,
    /// Which.
    pub id: String,
    /// How it stands.
    pub state: PusherStateRow,
    /// What came of it, the oldest first.
    pub log: Vec<PushedRow>,
}

/// Writes down how it stands with pushers that are still there.
pub fn note(tx: &WriteTx, all: &[Progress]) -> Result<()> {
    for Progress { user, id, state, log } in all {
        let key = (user.as_str(), id.as_str());
        if !tables::PUSHERS.has(tx, key)? {
            continue;
        }
        tables::PUSHER_STATES.put(tx, key, state)?;
        let (first, last) = ((key.0, key.1, 0), (key.0, key.1, u64::MAX));
        let mut number = 0;
        tables::PUSHED.scan_back(tx, first..=last, |(_, _, newest), _| {
            number = newest;
            Ok(Flow::Stop)
        })?;
        for row in log {
            number += 1;
            tables::PUSHED.put(tx, (key.0, key.1, number), row)?;
        }
        if !log.is_empty() && number > MAX_LOG {
            tables::PUSHED.remove_range(tx, first..=(key.0, key.1, number - MAX_LOG))?;
        }
    }
    Ok(())
}

/// Up to where all that happened has been looked at.
pub fn seen(tx: &impl Read) -> Result<Pos> {
    Ok(tables::COUNTERS.get(tx, SEEN)?.unwrap_or(0))
}

/// Writes that down.
pub fn set_seen(tx: &WriteTx, pos: Pos) -> Result<()> {
    tables::COUNTERS.put(tx, SEEN, &pos)
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::{
        accounts::testing::{self, pusher},
        store::rows::Outcome,
    };

    #[test]
    fn ids_tell_pushers_apart() {
        assert_eq!(id("app", "key"), id("app", "key"));
        assert_ne!(id("app", "key"), id("appk", "ey"));
        assert_ne!(id("1", "\n1x"), id("1\n", "1x"));
    }

    #[tokio::test]
    async fn a_pusher_goes_with_its_session_and_to_whoever_sets_it_last() {
        let (_dir, store) = testing::store();
        let (alice, bob) = (user_id!("@alice:b.c"), user_id!("@bob:b.c"));
        let write = move |tx: &WriteTx| {
            set(tx, alice, pusher("one", "PHONE"), false)?;
            set(tx, alice, pusher("two", "TABLET"), false)?;
            set(tx, bob, pusher("one", "BOB"), true)?;
            assert_eq!((of(tx, alice)?.len(), of(tx, bob)?.len()), (2, 1), "both have it");
            assert_eq!(owners(tx)?, [alice.to_owned(), bob.to_owned()]);
            set(tx, bob, pusher("one", "BOB"), false)?;
            assert_eq!(of(tx, alice)?.len(), 1, "it has moved on");
            forget_device(tx, alice, "TABLET")?;
            assert!(of(tx, alice)?.is_empty());
            assert_eq!(owners(tx)?, [bob.to_owned()]);
            for n in 1..MAX_PUSHERS {
                set(tx, bob, pusher(&n.to_string(), "BOB"), false)?;
            }
            let full = set(tx, bob, pusher("more", "BOB"), false).expect_err("too many");
            assert_eq!(full.errcode(), "M_RESOURCE_LIMIT_EXCEEDED");
            set(tx, bob, pusher("one", "NEW"), false)
        };
        store.write(write).await.expect("writes");
    }

    #[tokio::test]
    async fn of_a_log_the_newest_entries_stay() {
        let (_dir, store) = testing::store();
        let alice = user_id!("@alice:b.c");
        let id = id("app", "one");
        let write = move |tx: &WriteTx| {
            set(tx, alice, pusher("one", "PHONE"), false)?;
            let told = |at: u64| PushedRow {
                at,
                took: 1,
                outcome: Outcome::Delivered,
                status: Some(200),
                error: None,
                event: None,
            };
            let progress = |from: u64, upto: u64| Progress {
                user: alice.to_owned(),
                id: id.clone(),
                state: PusherStateRow::default(),
                log: (from..upto).map(told).collect(),
            };
            note(tx, &[progress(0, 30), progress(30, 70)])?;
            let log = log(tx, alice, &id)?;
            assert_eq!((log.len() as u64, log[0].at, log[49].at), (MAX_LOG, 69, 20));
            remove(tx, alice, &id)?;
            note(tx, &[progress(0, 1)])?;
            assert!(super::log(tx, alice, &id)?.is_empty(), "nothing is noted of what is gone");
            assert_eq!(state(tx, alice, &id)?, PusherStateRow::default());
            Ok(())
        };
        store.write(write).await.expect("writes");
    }
}
