//! Local accounts: which names are good and taken, who administers, and closing an account for good.
//! Knows hashes of passwords and never a password.

use ruma::{OwnedUserId, ServerName, UserId};

use crate::{
    accounts::{account_data, filters, profile, sessions},
    base::{Pos, clock},
    error::{Error, Result},
    store::{Flow, Read, WriteTx, rows::UserRow, tables},
};

/// The user ID that a wished name leads to. 400 `M_INVALID_USERNAME` if there is none. Capitals become
/// small, as two accounts must not differ in case alone.
/// spec: appendices#user-identifiers
pub fn wished(name: &str, server: &ServerName) -> Result<OwnedUserId> {
    let invalid = |why: &'static str| Error::bad_request("M_INVALID_USERNAME", why);
    let local = name.to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
    if local.is_empty() || !local.bytes().all(allowed) {
        return Err(invalid("a name has one or more of a-z, 0-9 and . _ = - / +"));
    }
    let id = format!("@{local}:{server}");
    if id.len() > 255 {
        return Err(invalid("the name is too long: a user ID has at most 255 bytes"));
    }
    UserId::parse(id).map_err(|_| invalid("this can't be a name here"))
}

/// The user ID that somebody who signs in means by a localpart or a whole ID. None if it can't be one
/// of this server. spec: client-server-api#matrix-user-id
pub fn meant(name: &str, server: &ServerName) -> Option<OwnedUserId> {
    let local = match name.strip_prefix('@') {
        Some(rest) => rest.strip_suffix(server.as_str())?.strip_suffix(':')?,
        None => name,
    };
    wished(local, server).ok()
}

/// The account of a local user, open or closed.
pub fn lookup(tx: &impl Read, user: &UserId) -> Result<Option<UserRow>> {
    tables::USERS.get(tx, user.localpart())
}

/// Whether a local account exists and is open.
pub fn is_open(tx: &impl Read, user: &UserId) -> Result<bool> {
    Ok(lookup(tx, user)?.is_some_and(|row| !row.deactivated))
}

/// Whether a local user administers this server.
pub fn is_admin(tx: &impl Read, user: &UserId) -> Result<bool> {
    Ok(lookup(tx, user)?.is_some_and(|row| row.admin && !row.deactivated))
}

/// Whether anybody administers this server.
pub fn any_admin(tx: &impl Read) -> Result<bool> {
    let mut found = false;
    tables::USERS.scan::<&str>(tx, .., |_, row| {
        found = row.admin && !row.deactivated;
        Ok(if found { Flow::Stop } else { Flow::Next })
    })?;
    Ok(found)
}

/// How many accounts there are, closed ones included.
pub fn count(tx: &impl Read) -> Result<u64> {
    tables::USERS.len(tx)
}

/// Refuses whose account is locked. 401 `M_USER_LOCKED`. spec: client-server-api#account-locking
pub fn check_unlocked(tx: &impl Read, user: &UserId) -> Result<()> {
    match lookup(tx, user)?.is_some_and(|row| row.locked) {
        false => Ok(()),
        true => Err(locked()),
    }
}

/// What those are told whose account is locked.
pub fn locked() -> Error {
    Error::unauthorized("M_USER_LOCKED", "this account is locked").with("soft_logout", true.into())
}

/// Whether a local user is a guest.
pub fn is_guest(tx: &impl Read, user: &UserId) -> Result<bool> {
    match tables::GUESTS.len(tx)? {
        0 => Ok(false),
        _ => tables::GUESTS.has(tx, user.as_str()),
    }
}

/// Guests who are forgotten in one go.
pub const MAX_IDLE: usize = 100;
/// Guests there are at most. Closing the account of one makes place for another.
const MAX_GUESTS: u64 = 10_000;
/// The counter of accounts that are or were guests', and no more than that.
const AS_GUESTS: &str = "users_as_guests";

/// The counter of accounts that application services have made.
const BY_SERVICES: &str = "users_by_services";

/// Refuses a name that is or was somebody's. 400 `M_USER_IN_USE`.
pub fn check_free(tx: &impl Read, user: &UserId) -> Result<()> {
    match tables::USERS.has(tx, user.localpart())? {
        true => Err(Error::bad_request("M_USER_IN_USE", "this name is taken")),
        false => Ok(()),
    }
}

/// Makes an account. `password` is its hash; without one nobody can sign in to it by password.
pub fn create(tx: &WriteTx, user: &UserId, password: Option<String>, admin: bool) -> Result<()> {
    check_free(tx, user)?;
    let row = UserRow {
        password,
        admin,
        deactivated: false,
        erased: false,
        locked: false,
        suspended: false,
        guest: false,
        service: None,
        created: clock::now_ms(),
    };
    tables::USERS.put(tx, user.localpart(), &row)
}

/// Makes an account that an application service acts as. Nobody can sign in to it by password.
pub fn create_for_service(tx: &WriteTx, user: &UserId, service: &str) -> Result<()> {
    create(tx, user, None, false)?;
    let row = open(tx, user)?;
    tables::COUNTERS.put(tx, BY_SERVICES, &(counted(tx, BY_SERVICES)? + 1))?;
    tables::USERS.put(tx, user.localpart(), &UserRow { service: Some(service.to_owned()), ..row })
}

/// Makes an account for a guest. 403 `M_RESOURCE_LIMIT_EXCEEDED` if there are too many already.
pub fn create_guest(tx: &WriteTx, user: &UserId) -> Result<()> {
    if tables::GUESTS.len(tx)? >= MAX_GUESTS {
        return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "there are too many guests here"));
    }
    create(tx, user, None, false)?;
    let row = open(tx, user)?;
    tables::GUESTS.put(tx, user.as_str(), &())?;
    tables::COUNTERS.put(tx, AS_GUESTS, &(counted(tx, AS_GUESTS)? + 1))?;
    tables::USERS.put(tx, user.localpart(), &UserRow { guest: true, ..row })
}

/// Makes a guest's account one like any other.
pub fn upgrade(tx: &WriteTx, user: &UserId, password: Option<String>, admin: bool) -> Result<()> {
    let row = open(tx, user)?;
    tables::GUESTS.remove(tx, user.as_str())?;
    tables::COUNTERS.put(tx, AS_GUESTS, &counted(tx, AS_GUESTS)?.saturating_sub(1))?;
    tables::USERS.put(tx, user.localpart(), &UserRow { guest: false, password, admin, ..row })
}

/// Guests who have not been here since a moment, some of them. `seen` says when a session was here last, if that is
/// known better than by its row.
pub fn idle_guests(
    tx: &impl Read,
    since: u64,
    seen: impl Fn(&UserId, &str) -> Option<u64>,
) -> Result<Vec<OwnedUserId>> {
    let mut out = Vec::new();
    tables::GUESTS.scan::<&str>(tx, .., |user, ()| {
        let Ok(user) = UserId::parse(user) else { return Ok(Flow::Next) };
        let sessions = sessions::devices(tx, &user)?.into_iter();
        // Whoever has no session can't come back.
        let last = sessions.map(|(id, row)| seen(&user, &id).unwrap_or(row.last_seen)).max();
        if last.is_none_or(|last| last < since) {
            out.push(user);
        }
        Ok(if out.len() >= MAX_IDLE { Flow::Stop } else { Flow::Next })
    })?;
    Ok(out)
}

/// Takes a guest's account away. Whoever was in no room leaves nothing behind; the names of others stay taken, as
/// nobody else is to be known in those rooms by them. Returns the sessions that ended.
pub fn forget_guest(tx: &WriteTx, user: &UserId) -> Result<Vec<String>> {
    // They may have made it an account of their own meanwhile.
    if !is_guest(tx, user)? {
        return Ok(Vec::new());
    }
    let ended = deactivate(tx, user, false)?;
    profile::forget(tx, user)?;
    account_data::forget(tx, user)?;
    let mut was_somewhere = false;
    tables::USER_ROOMS.scan(tx, (user.as_str(), 0)..=(user.as_str(), u64::MAX), |_, _| {
        was_somewhere = true;
        Ok(Flow::Stop)
    })?;
    if !was_somewhere {
        tables::USERS.remove(tx, user.localpart())?;
        tables::COUNTERS.put(tx, AS_GUESTS, &counted(tx, AS_GUESTS)?.saturating_sub(1))?;
    }
    Ok(ended)
}

fn counted(tx: &impl Read, counter: &str) -> Result<u64> {
    Ok(tables::COUNTERS.get(tx, counter)?.unwrap_or(0))
}

/// Whether nobody but application services and guests has made an account.
pub fn is_nobody_here(tx: &impl Read) -> Result<bool> {
    Ok(count(tx)? == counted(tx, BY_SERVICES)? + counted(tx, AS_GUESTS)?)
}

/// Refuses if an account's password is no longer the one that was found right: between proving it and
/// acting on it, it may have been changed or the account closed.
pub fn check_password_is(tx: &impl Read, user: &UserId, hash: &str) -> Result<()> {
    match lookup(tx, user)?.and_then(|row| row.password).as_deref() == Some(hash) {
        true => Ok(()),
        false => Err(Error::forbidden("the name or the password is wrong")),
    }
}

/// Gives an account another password, by its hash.
pub fn set_password(tx: &WriteTx, user: &UserId, password: String) -> Result<()> {
    let row = open(tx, user)?;
    tables::USERS.put(tx, user.localpart(), &UserRow { password: Some(password), ..row })
}

/// Makes an account an administrator's, or no longer.
pub fn set_admin(tx: &WriteTx, user: &UserId, admin: bool) -> Result<()> {
    let row = open(tx, user)?;
    tables::USERS.put(tx, user.localpart(), &UserRow { admin, ..row })
}

/// Locks an account, or no longer: then it can't be used, and keeps its sessions. Who waits is woken, to
/// find that out. spec: client-server-api#account-locking
pub fn set_locked(tx: &WriteTx, user: &UserId, locked: bool) -> Result<()> {
    let row = open(tx, user)?;
    tx.wake(|wake| {
        wake.signed_out.insert(user.to_owned());
    });
    tables::USERS.put(tx, user.localpart(), &UserRow { locked, ..row })
}

/// Suspends an account, or no longer. spec: client-server-api#account-suspension
pub fn set_suspended(tx: &WriteTx, user: &UserId, suspended: bool) -> Result<()> {
    let row = open(tx, user)?;
    tables::USERS.put(tx, user.localpart(), &UserRow { suspended, ..row })
}

/// Opens a closed account again, with a new password by its hash if there is one.
pub fn reactivate(tx: &WriteTx, user: &UserId, password: Option<String>) -> Result<()> {
    let row = lookup(tx, user)?.ok_or_else(|| Error::not_found("there is no such account"))?;
    if !row.deactivated {
        return Ok(());
    }
    tables::ERASED.remove(tx, user.as_str())?;
    if row.guest {
        tables::GUESTS.put(tx, user.as_str(), &())?;
    }
    tables::USERS.put(tx, user.localpart(), &UserRow { password, deactivated: false, erased: false, ..row })
}

/// When somebody wanted to be forgotten, if they did. Who was not there by then sees nothing of what they said.
/// spec: client-server-api#account-deactivation
pub fn erased_at(tx: &impl Read, user: &str) -> Result<Option<Pos>> {
    match tables::ERASED.len(tx)? {
        0 => Ok(None),
        _ => tables::ERASED.get(tx, user),
    }
}

/// Visits all accounts, closed ones included, by name.
pub fn each(tx: &impl Read, mut visit: impl FnMut(&str, UserRow) -> Result<Flow>) -> Result<()> {
    tables::USERS.scan::<&str>(tx, .., |name, row| visit(name, row))
}

/// Closes an account for good: no password, no sessions, and its name stays taken. With `erase` what
/// it kept here goes too. Returns the sessions that ended.
/// spec: client-server-api#account-deactivation
pub fn deactivate(tx: &WriteTx, user: &UserId, erase: bool) -> Result<Vec<String>> {
    let row = open(tx, user)?;
    let closed = UserRow { password: None, admin: false, deactivated: true, erased: erase, ..row };
    tables::USERS.put(tx, user.localpart(), &closed)?;
    filters::forget(tx, user)?;
    tables::GUESTS.remove(tx, user.as_str())?;
    if erase {
        profile::forget(tx, user)?;
        account_data::forget(tx, user)?;
        tables::ERASED.put(tx, user.as_str(), &tx.next_pos())?;
    }
    sessions::end_all(tx, user, None)
}

fn open(tx: &impl Read, user: &UserId) -> Result<UserRow> {
    let row = lookup(tx, user)?.filter(|row| !row.deactivated);
    row.ok_or_else(|| Error::not_found("there is no such account"))
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, user_id};

    use super::*;
    use crate::accounts::testing;

    #[test]
    fn names_are_lowered_and_held_to_the_grammar() {
        let server = server_name!("b.c");
        assert_eq!(wished("Alice", server).expect("good"), "@alice:b.c");
        assert_eq!(wished("a.b_c=d-e/f+9", server).expect("good"), "@a.b_c=d-e/f+9:b.c");
        for bad in ["", "a b", "a:b", "ä", "a@b", "a\n", &"x".repeat(251)] {
            assert_eq!(wished(bad, server).expect_err(bad).errcode(), "M_INVALID_USERNAME");
        }
        assert_eq!(wished(&"x".repeat(250), server).expect("good").as_str().len(), 255);
    }

    #[test]
    fn signing_in_takes_localparts_and_ids_of_this_server() {
        let server = server_name!("b.c");
        for name in ["alice", "Alice", "@alice:b.c"] {
            assert_eq!(meant(name, server).expect("ours"), "@alice:b.c");
        }
        for name in ["@alice:other", "@alice", "@:b.c", "alice:b.c", "@alice:xb.c"] {
            assert_eq!(meant(name, server), None, "{name}");
        }
    }

    #[tokio::test]
    async fn a_closed_account_stays_closed_and_its_name_taken() {
        let (_dir, store) = testing::store();
        let alice = user_id!("@alice:b.c");
        let ended = store.write(move |tx| {
            create(tx, alice, Some("hash".into()), true)?;
            sessions::start(tx, alice, &sessions::Wish::default())?;
            deactivate(tx, alice, true)
        });
        assert_eq!(ended.await.expect("closes").len(), 1);
        let row = store.read(|tx| lookup(tx, alice)).expect("reads").expect("kept");
        assert!(row.password.is_none() && !store.read(|tx| is_admin(tx, alice)).expect("reads"));
        let again = store.write(move |tx| create(tx, alice, None, false)).await;
        assert_eq!(again.expect_err("taken").errcode(), "M_USER_IN_USE");
        let session = store.write(move |tx| sessions::start(tx, alice, &sessions::Wish::default())).await;
        assert_eq!(session.expect_err("closed").errcode(), "M_FORBIDDEN");
    }
}
