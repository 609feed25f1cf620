//! Sessions: a device of an account, and the tokens that prove it. Tokens are stored as hashes only,
//! and die with their device. Owns what a device is called and when it was last seen; its keys and
//! messages are `e2ee`'s, which therefore is told which sessions ended.
//! spec: client-server-api#using-access-tokens, #relationship-between-access-tokens-and-devices

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::digest;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

use crate::{
    accounts::users,
    base::{clock, random},
    error::{Error, Result},
    store::{
        LAST, Read, WriteTx,
        rows::{DeviceRow, TokenRow},
        tables,
    },
};

/// How long an access token works whose client can refresh it.
const ACCESS_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Sessions of an account at most; with a further one, the one that was away the longest ends.
const MAX_SESSIONS: usize = 500;
/// Bytes of a device's ID or name at most.
const MAX_TEXT: usize = 255;
/// Sessions whose last call is kept in memory at most, until it is written down.
const MAX_SEEN: usize = 100_000;

/// An account's session, found by its token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Whose.
    pub user: OwnedUserId,
    /// Which.
    pub device: OwnedDeviceId,
}

/// What somebody who signs in asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The device to sign in, known or new.
    pub device: Option<String>,
    /// What to call a new one.
    pub display_name: Option<String>,
    /// The client can refresh tokens.
    pub refresh: bool,
    /// Where the call comes from.
    pub ip: String,
}

/// Tokens, said once and never stored.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Whose.
    pub user: OwnedUserId,
    /// For which device.
    pub device: OwnedDeviceId,
    /// The access token.
    pub access: String,
    /// The refresh token, if the client can use one.
    pub refresh: Option<String>,
    /// How long the access token works, if not for ever.
    pub lifetime: Option<Duration>,
    /// Devices that had to go to make room for this one.
    pub ended: Vec<String>,
}

/// The hash under which a token is stored. Looking it up compares hashes, so that how long it takes
/// says nothing about tokens.
pub fn hash(token: &str) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

/// The session of an access token, and whether [`confirm`] is due before anything is answered. 401
/// `M_UNKNOWN_TOKEN` if there is none; with `soft_logout` if it has only expired.
pub fn by_access_token(tx: &impl Read, token: &str) -> Result<(Found, bool)> {
    let row = tables::TOKENS.get(tx, &*hash(token))?.filter(|row| !row.refresh);
    let row = row.ok_or_else(|| Error::unknown_token(false))?;
    if row.expires.is_some_and(|at| at <= clock::now_ms()) {
        return Err(Error::unknown_token(true));
    }
    let user = UserId::parse(&row.user).map_err(Error::internal)?;
    Ok((Found { user, device: row.device.into() }, row.next))
}

/// Starts a session, or gives the device that is named its tokens anew: the old ones end.
pub fn start(tx: &WriteTx, user: &UserId, wish: &Wish) -> Result<Issued> {
    if !users::is_open(tx, user)? {
        return Err(Error::forbidden("this account can't sign in"));
    }
    users::check_unlocked(tx, user)?;
    check_text("device ID", wish.device.as_deref())?;
    check_text("device name", wish.display_name.as_deref())?;
    let id = wish.device.clone().unwrap_or_else(random::device_id);
    let known = device(tx, user, &id)?;
    let mut ended = Vec::new();
    let mut row = match known {
        Some(mut row) => {
            revoke(tx, row.tokens.drain(..).chain(row.next.drain(..)))?;
            tx.wake(|wake| {
                wake.signed_out.insert(user.to_owned());
            });
            row
        }
        None => {
            ended = make_room(tx, user)?;
            DeviceRow { display_name: wish.display_name.clone(), ..DeviceRow::default() }
        }
    };
    (row.last_seen, row.last_ip) = (clock::now_ms(), wish.ip.clone());
    let issued = issue(tx, user, &id, wish.refresh, false)?;
    row.tokens = issued.hashes();
    tables::DEVICES.put(tx, (user.as_str(), &*id), &row)?;
    Ok(Issued { ended, ..issued })
}

/// Makes a device that has no session of its own, and answers which had to go for it. 400
/// `M_INVALID_PARAM` if there is one of that name.
pub fn add_device(tx: &WriteTx, user: &UserId, id: &str, display_name: Option<String>) -> Result<Vec<String>> {
    check_text("device ID", Some(id))?;
    check_text("device name", display_name.as_deref())?;
    if device(tx, user, id)?.is_some() {
        return Err(Error::invalid_param("you have a device of that name"));
    }
    let ended = make_room(tx, user)?;
    let row = DeviceRow { display_name, last_seen: clock::now_ms(), ..DeviceRow::default() };
    tables::DEVICES.put(tx, (user.as_str(), id), &row)?;
    Ok(ended)
}

/// Exchanges a refresh token for new tokens. The old ones stay good until one of the new is used, so
/// that a client which missed the answer can ask again.
/// spec: client-server-api#refreshing-access-tokens
pub fn refresh(tx: &WriteTx, token: &str) -> Result<Issued> {
    let hash = hash(token);
    let old = tables::TOKENS.get(tx, &*hash)?.filter(|row| row.refresh);
    let old = old.ok_or_else(|| Error::unknown_token(false))?;
    let user = UserId::parse(&old.user).map_err(Error::internal)?;
    users::check_unlocked(tx, &user)?;
    confirm(tx, token)?;
    let mut row = device(tx, &user, &old.device)?.ok_or_else(|| Error::unknown_token(false))?;
    revoke(tx, row.next.drain(..))?;
    let issued = issue(tx, &user, &old.device, true, true)?;
    row.next = issued.hashes();
    tables::DEVICES.put(tx, (user.as_str(), &*old.device), &row)?;
    Ok(issued)
}

/// Notes by which application a session signed in. To be called in the job that starts it.
pub fn set_application(tx: &WriteTx, user: &UserId, id: &str, application: &str) -> Result<()> {
    let Some(row) = device(tx, user, id)? else { return Ok(()) };
    let row = DeviceRow { application: Some(application.to_owned()), ..row };
    tables::DEVICES.put(tx, (user.as_str(), id), &row)
}

/// The session that any token of it stands for, whether it is still good for calling or not, with the
/// application that it signed in by.
pub fn by_any_token(tx: &impl Read, token: &str) -> Result<Option<(Found, Option<String>)>> {
    let Some(row) = tables::TOKENS.get(tx, &*hash(token))? else { return Ok(None) };
    let user = UserId::parse(&row.user).map_err(Error::internal)?;
    let application = device(tx, &user, &row.device)?.and_then(|device| device.application);
    Ok(Some((Found { user, device: row.device.into() }, application)))
}

/// Notes the first use of a token that came by [`refresh`]: the tokens from before end.
pub fn confirm(tx: &WriteTx, token: &str) -> Result<()> {
    let Some(row) = tables::TOKENS.get(tx, &*hash(token))?.filter(|row| row.next) else { return Ok(()) };
    let user = UserId::parse(&row.user).map_err(Error::internal)?;
    let Some(mut device) = device(tx, &user, &row.device)? else { return Ok(()) };
    revoke(tx, device.tokens.drain(..))?;
    device.tokens = std::mem::take(&mut device.next);
    for hash in &device.tokens {
        if let Some(row) = tables::TOKENS.get(tx, hash.as_str())? {
            tables::TOKENS.put(tx, hash.as_str(), &TokenRow { next: false, ..row })?;
        }
    }
    tables::DEVICES.put(tx, (user.as_str(), &*row.device), &device)
}

/// Ends a session. True if there was one.
pub fn end(tx: &WriteTx, user: &UserId, id: &str) -> Result<bool> {
    let Some(row) = device(tx, user, id)? else { return Ok(false) };
    revoke(tx, row.tokens.into_iter().chain(row.next))?;
    tables::DEVICES.remove(tx, (user.as_str(), id))?;
    tx.wake(|wake| {
        wake.signed_out.insert(user.to_owned());
    });
    Ok(true)
}

/// Ends all sessions of an account but `except`. Returns which.
pub fn end_all(tx: &WriteTx, user: &UserId, except: Option<&str>) -> Result<Vec<String>> {
    let mut ended = Vec::new();
    for (id, _) in devices(tx, user)? {
        if Some(id.as_str()) != except {
            end(tx, user, &id)?;
            ended.push(id);
        }
    }
    Ok(ended)
}

/// All sessions of an account, with their IDs.
pub fn devices(tx: &impl Read, user: &UserId) -> Result<Vec<(String, DeviceRow)>> {
    let all = (user.as_str(), "")..=(user.as_str(), LAST);
    tables::DEVICES.collect(tx, all, |(_, id), row| (id.to_owned(), row))
}

/// One session of an account.
pub fn device(tx: &impl Read, user: &UserId, id: &str) -> Result<Option<DeviceRow>> {
    tables::DEVICES.get(tx, (user.as_str(), id))
}

/// Refuses what is to be written for a session that has ended since its request came. 401
/// `M_UNKNOWN_TOKEN`.
pub fn check(tx: &impl Read, user: &UserId, id: &DeviceId) -> Result<()> {
    match tables::DEVICES.has(tx, (user.as_str(), id.as_str()))? {
        true => Ok(()),
        false => Err(Error::unknown_token(false)),
    }
}

/// Gives a session another name. 404 `M_NOT_FOUND` if there is no such session.
pub fn rename(tx: &WriteTx, user: &UserId, id: &str, name: &str) -> Result<()> {
    check_text("device name", Some(name).filter(|name| !name.is_empty()))?;
    let row = device(tx, user, id)?.ok_or_else(|| Error::not_found("you have no such device"))?;
    let display_name = Some(name.to_owned()).filter(|name| !name.is_empty());
    tables::DEVICES.put(tx, (user.as_str(), id), &DeviceRow { display_name, ..row })
}

/// Writes down when sessions were last seen. Sessions that ended meanwhile stay ended.
pub fn write_seen(tx: &WriteTx, seen: &[(Found, Seen)]) -> Result<()> {
    for (session, seen) in seen {
        let Some(row) = device(tx, &session.user, session.device.as_str())? else { continue };
        let row = DeviceRow { last_seen: seen.at, last_ip: seen.ip.to_string(), ..row };
        tables::DEVICES.put(tx, (session.user.as_str(), session.device.as_str()), &row)?;
    }
    Ok(())
}

impl Issued {
    fn hashes(&self) -> Vec<String> {
        [Some(&self.access), self.refresh.as_ref()].into_iter().flatten().map(|token| hash(token)).collect()
    }
}

fn issue(tx: &WriteTx, user: &UserId, device: &str, refreshable: bool, next: bool) -> Result<Issued> {
    let lifetime = refreshable.then_some(ACCESS_LIFETIME);
    let expires = lifetime.map(|for_| clock::now_ms() + u64::try_from(for_.as_millis()).unwrap_or(u64::MAX));
    let put = |refresh, expires| {
        let token = random::secret();
        let row = TokenRow { user: user.to_string(), device: device.to_owned(), refresh, next, expires };
        tables::TOKENS.put(tx, &*hash(&token), &row).map(|()| token)
    };
    let access = put(false, expires)?;
    let refresh = refreshable.then(|| put(true, None)).transpose()?;
    Ok(Issued { user: user.to_owned(), device: device.into(), access, refresh, lifetime, ended: Vec::new() })
}

fn revoke(tx: &WriteTx, hashes: impl Iterator<Item = String>) -> Result<()> {
    for hash in hashes {
        tables::TOKENS.remove(tx, hash.as_str())?;
    }
    Ok(())
}

fn make_room(tx: &WriteTx, user: &UserId) -> Result<Vec<String>> {
    let mut all = devices(tx, user)?;
    all.sort_by_key(|(_, row)| row.last_seen);
    let surplus = (all.len() + 1).saturating_sub(MAX_SESSIONS);
    let mut ended = Vec::new();
    for (id, _) in all.into_iter().take(surplus) {
        end(tx, user, &id)?;
        ended.push(id);
    }
    Ok(ended)
}

fn check_text(what: &str, text: Option<&str>) -> Result<()> {
    let good = |text: &str| !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    match text.is_none_or(good) {
        true => Ok(()),
        false => Err(Error::invalid_param(format!("a {what} has 1 to {MAX_TEXT} bytes and no control characters"))),
    }
}

/// A session's last call.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When, milliseconds.
    pub at: u64,
    /// From where.
    pub ip: IpAddr,
}

/// When sessions were last seen and from where: kept in memory and written down now and then, as
/// nobody needs it to the second and every request would be a write.
#[derive(Default)]
pub struct LastSeen {
    seen: Mutex<HashMap<Found, Seen>>,
}

impl LastSeen {
    /// Notes a call.
    pub fn saw(&self, session: &Found, ip: IpAddr) {
        let (mut seen, now) = (self.seen(), Seen { at: clock::now_ms(), ip });
        if let Some(last) = seen.get_mut(session) {
            *last = now;
        } else if seen.len() < MAX_SEEN {
            seen.insert(session.clone(), now);
        }
    }

    /// The last call of a session that is not written down yet.
    pub fn of(&self, session: &Found) -> Option<Seen> {
        self.seen().get(session).copied()
    }

    /// Takes what is to be written down by [`write_seen`].
    pub fn take(&self) -> Vec<(Found, Seen)> {
        std::mem::take(&mut *self.seen()).into_iter().collect()
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Found, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::{accounts::testing, store::Store};

    fn alice() -> &'static UserId {
        user_id!("@alice:b.c")
    }

    async fn house() -> (tempfile::TempDir, Store) {
        let (dir, store) = testing::store();
        store.write(|tx| users::create(tx, alice(), None, false)).await.expect("made");
        (dir, store)
    }

    async fn sign_in(store: &Store, device: Option<&str>, refresh: bool) -> Issued {
        let wish = Wish { device: device.map(str::to_owned), refresh, ..Wish::default() };
        store.write(move |tx| start(tx, alice(), &wish)).await.expect("signs in")
    }

    fn works(store: &Store, token: &str) -> bool {
        store.read(|tx| by_access_token(tx, token)).is_ok()
    }

    async fn renew(store: &Store, token: &Option<String>) -> Result<Issued> {
        let token = token.clone().expect("has a refresh token");
        store.write(move |tx| refresh(tx, &token)).await
    }

    async fn first_use(store: &Store, token: &str) {
        let token = token.to_owned();
        store.write(move |tx| confirm(tx, &token)).await.expect("confirms");
    }

    #[tokio::test]
    async fn the_store_holds_hashes_and_no_tokens() {
        let (dir, store) = house().await;
        let issued = sign_in(&store, None, true).await;
        assert!(works(&store, &issued.access));
        let refresh = issued.refresh.expect("has one");
        assert!(!works(&store, &refresh), "a refresh token is no access token");
        // What was written last is in the journal, and in the database once that is closed.
        let journal = std::fs::read(dir.path().join("hearth.journal")).expect("reads");
        store.close().await;
        let file = [journal, std::fs::read(dir.path().join("hearth.redb")).expect("reads")].concat();
        let holds = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds(&hash(&issued.access)) && holds(&hash(&refresh)));
        assert!(!holds(&issued.access) && !holds(&refresh));
    }

    #[tokio::test]
    async fn only_clients_that_can_refresh_get_tokens_that_expire() {
        let (_dir, store) = house().await;
        let plain = sign_in(&store, None, false).await;
        assert!(plain.refresh.is_none() && plain.lifetime.is_none());
        let modern = sign_in(&store, None, true).await;
        assert_eq!(modern.lifetime, Some(ACCESS_LIFETIME));
        let key = hash(&modern.access);
        let expire = move |tx: &WriteTx| {
            let row = tables::TOKENS.get(tx, key.as_str())?.expect("there");
            tables::TOKENS.put(tx, key.as_str(), &TokenRow { expires: Some(1), ..row })
        };
        store.write(expire).await.expect("writes");
        let error = store.read(|tx| by_access_token(tx, &modern.access)).expect_err("expired");
        assert_eq!(error.body()["soft_logout"], true);
        renew(&store, &modern.refresh).await.expect("its refresh token still works");
    }

    #[tokio::test]
    async fn an_old_refresh_token_works_until_a_new_token_is_used() {
        let (_dir, store) = house().await;
        let first = sign_in(&store, None, true).await;
        let lost = renew(&store, &first.refresh).await.expect("refreshes");
        let second = renew(&store, &first.refresh).await.expect("the answer was lost, so again");
        assert!(!works(&store, &lost.access) && works(&store, &first.access) && works(&store, &second.access));
        first_use(&store, &second.access).await;
        let error = renew(&store, &first.refresh).await.expect_err("revoked");
        assert_eq!(error.errcode(), "M_UNKNOWN_TOKEN");
        assert!(!works(&store, &first.access) && works(&store, &second.access));
        let third = renew(&store, &second.refresh).await.expect("refreshes");
        renew(&store, &third.refresh).await.expect("using the refresh token counts as well");
        assert!(renew(&store, &second.refresh).await.is_err());
        assert_eq!(store.read(|tx| tables::TOKENS.len(tx)).expect("reads"), 4, "none is left behind");
    }

    #[tokio::test]
    async fn signing_in_a_known_device_again_keeps_its_name_and_ends_its_tokens() {
        let (_dir, store) = house().await;
        let old = sign_in(&store, Some("PHONE"), true).await;
        store.write(|tx| rename(tx, alice(), "PHONE", "my phone")).await.expect("renames");
        let new = sign_in(&store, Some("PHONE"), false).await;
        assert!(!works(&store, &old.access) && works(&store, &new.access));
        assert!(renew(&store, &old.refresh).await.is_err());
        let row = store.read(|tx| device(tx, alice(), "PHONE")).expect("reads").expect("there");
        assert_eq!(row.display_name.as_deref(), Some("my phone"));
    }

    #[tokio::test]
    async fn tokens_die_with_their_device() {
        let (_dir, store) = house().await;
        let (phone, laptop) = (sign_in(&store, Some("PHONE"), true).await, sign_in(&store, None, false).await);
        renew(&store, &phone.refresh).await.expect("refreshes");
        assert!(store.write(|tx| end(tx, alice(), "PHONE")).await.expect("ends"));
        assert!(!works(&store, &phone.access) && works(&store, &laptop.access));
        assert_eq!(store.read(|tx| tables::TOKENS.len(tx)).expect("reads"), 1);
        let kept = laptop.device.clone();
        sign_in(&store, Some("TV"), false).await;
        let ended = store.write(move |tx| end_all(tx, alice(), Some(kept.as_str()))).await.expect("ends");
        assert_eq!(ended, ["TV"]);
        assert!(works(&store, &laptop.access));
    }

    #[tokio::test]
    async fn no_name_hides_a_session() {
        let (_dir, store) = house().await;
        let last = "\u{10FFFF}".repeat(63);
        for device in ["\u{10FFFF}", "\u{10FFFF}x", &last] {
            let session = sign_in(&store, Some(device), false).await;
            assert_eq!(store.read(|tx| devices(tx, alice())).expect("reads").len(), 1);
            assert_eq!(store.write(|tx| end_all(tx, alice(), None)).await.expect("ends"), [device]);
            assert!(!works(&store, &session.access));
        }
    }

    #[tokio::test]
    async fn the_session_that_was_away_the_longest_makes_room() {
        let (_dir, store) = house().await;
        let fill = |tx: &WriteTx| {
            for n in 0..MAX_SESSIONS {
                let row = DeviceRow { last_seen: 1 + n as u64, ..DeviceRow::default() };
                tables::DEVICES.put(tx, (alice().as_str(), &*format!("D{n}")), &row)?;
            }
            Ok(())
        };
        store.write(fill).await.expect("fills");
        let new = sign_in(&store, Some("NEW"), false).await;
        assert_eq!(new.ended, ["D0"]);
        assert_eq!(store.read(|tx| devices(tx, alice())).expect("reads").len(), MAX_SESSIONS);
    }

    #[tokio::test]
    async fn last_calls_are_written_down_for_sessions_that_still_are() {
        let (_dir, store) = house().await;
        sign_in(&store, Some("PHONE"), false).await;
        let seen = LastSeen::default();
        for device in ["PHONE", "GONE"] {
            seen.saw(&Found { user: alice().to_owned(), device: device.into() }, [10, 0, 0, 1].into());
        }
        let batch = seen.take();
        assert!(seen.take().is_empty());
        store.write(move |tx| write_seen(tx, &batch)).await.expect("writes");
        let rows = store.read(|tx| devices(tx, alice())).expect("reads");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].1.last_ip, "10.0.0.1");
    }
}
