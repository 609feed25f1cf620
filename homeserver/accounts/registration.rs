//! Who may register: everybody, who has a token, or nobody; and how a fresh server gets its first
//! administrator without a race. Deciding and making the account are one step of the writer.
//! spec: client-server-api#legacy-account-registration, #token-authenticated-registration

use ruma::UserId;

use crate::{
    accounts::{
        sessions,
        uia::{Flow, Stage},
        users,
    },
    base::{clock, random},
    config::{Config, Registration},
    error::{Error, Result},
    store::{Flow as Scan, Read, WriteTx, rows::RegistrationTokenRow, tables},
};

/// How the token for the first administrator begins, so that it is found without a search.
const FIRST_ADMIN: &str = "first-admin-";

const OPEN: &[Flow] = &[&[Stage::Dummy]];
const TOKEN: &[Flow] = &[&[Stage::RegistrationToken]];
const EITHER: &[Flow] = &[&[Stage::Dummy], &[Stage::RegistrationToken]];

/// The server's stance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What the config says.
    pub mode: Registration,
    /// Only this machine can reach the server, so that whoever registers first owns it.
    pub local: bool,
}

/// The stance that the config says.
pub fn policy(config: &Config) -> Policy {
    Policy { mode: config.registration, local: config.is_private() }
}

/// The ways in which one may register now. 403 `M_FORBIDDEN` if there are none. A token for the first
/// administrator opens a way even where registration is closed.
pub fn flows(tx: &impl Read, policy: Policy) -> Result<&'static [Flow]> {
    match (policy.mode, first_admin(tx)?.is_some()) {
        (Registration::Open, false) => Ok(OPEN),
        (Registration::Open, true) => Ok(EITHER),
        (Registration::Token, _) | (Registration::Closed, true) => Ok(TOKEN),
        (Registration::Closed, false) => Err(Error::forbidden("registration is closed on this server")),
    }
}

/// Whether a token would let one register now.
pub fn token_is_valid(tx: &impl Read, policy: Policy, token: &str) -> Result<bool> {
    Ok(usable(tx, policy, token)?.is_some())
}

/// Makes an account, or one of a guest's, by the guest's access token. Uses up the token, if one was shown. The first account of a server that only this
/// machine can reach becomes its administrator.
pub fn register(
    tx: &WriteTx,
    policy: Policy,
    user: &UserId,
    password: Option<String>,
    (token, guest): (Option<&str>, Option<&str>),
) -> Result<()> {
    check_name(tx, user, guest)?;
    let first = users::is_nobody_here(tx)?;
    let mut admin = first && policy.local && policy.mode == Registration::Open;
    match token {
        Some(token) => admin |= spend(tx, policy, token)?,
        None if policy.mode == Registration::Open => {}
        None => return Err(Error::forbidden("registering needs a token here")),
    }
    match guest {
        None => users::create(tx, user, password, admin),
        Some(_) => users::upgrade(tx, user, password, admin),
    }
}

/// Refuses a name that is somebody's: 400 `M_USER_IN_USE`; or where a guest wants to keep their own, with
/// their access token, if it isn't theirs: 403 `M_FORBIDDEN`.
pub fn check_name(tx: &impl Read, user: &UserId, guest: Option<&str>) -> Result<()> {
    let Some(token) = guest else { return users::check_free(tx, user) };
    let wrong = || Error::forbidden("this is not the access token of a guest of this name");
    let (found, _) = sessions::by_access_token(tx, token).map_err(|_| wrong())?;
    if found.user != *user || !users::is_guest(tx, user)? { Err(wrong()) } else { Ok(()) }
}

/// The token with which the first administrator registers, unless whoever registers first becomes that
/// anyway. A fresh server makes one; it stays the same until it is used or there is an administrator,
/// and then there is none for ever.
pub fn ensure_first_admin_token(tx: &WriteTx, policy: Policy) -> Result<Option<String>> {
    let needless = (policy.mode == Registration::Open && policy.local) || users::any_admin(tx)?;
    match first_admin(tx)? {
        Some(known) if needless => {
            tables::REGISTRATION_TOKENS.remove(tx, known.as_str())?;
            return Ok(None);
        }
        Some(known) => return Ok(Some(known)),
        None if needless || !users::is_nobody_here(tx)? => return Ok(None),
        None => {}
    }
    let token = format!("{FIRST_ADMIN}{}", random::id::<24>());
    let row = RegistrationTokenRow { uses_left: Some(1), used: 0, expires: None, admin: true };
    tables::REGISTRATION_TOKENS.put(tx, token.as_str(), &row)?;
    Ok(Some(token))
}

fn first_admin(tx: &impl Read) -> Result<Option<String>> {
    let mut found = None;
    tables::REGISTRATION_TOKENS.scan(tx, FIRST_ADMIN.., |token, row| {
        if token.starts_with(FIRST_ADMIN) && row.admin && row.uses_left != Some(0) {
            found = Some(token.to_owned());
        }
        Ok(Scan::Stop)
    })?;
    Ok(found)
}

fn usable(tx: &impl Read, policy: Policy, token: &str) -> Result<Option<RegistrationTokenRow>> {
    let row = tables::REGISTRATION_TOKENS.get(tx, token)?;
    Ok(row.filter(|row| {
        let left = row.uses_left != Some(0) && row.expires.is_none_or(|at| at > clock::now_ms());
        left && (row.admin || policy.mode != Registration::Closed)
    }))
}

/// Takes one use from a token. True if it makes an administrator.
fn spend(tx: &WriteTx, policy: Policy, token: &str) -> Result<bool> {
    let row = usable(tx, policy, token)?;
    let row = row.ok_or_else(|| Error::forbidden("this registration token is not valid any more"))?;
    match row.uses_left {
        Some(1) if row.admin => {
            tables::REGISTRATION_TOKENS.remove(tx, token)?;
            return Ok(true);
        }
        _ => {}
    }
    let uses_left = row.uses_left.map(|left| left.saturating_sub(1));
    tables::REGISTRATION_TOKENS.put(
        tx,
        token,
        &RegistrationTokenRow { uses_left, used: row.used + 1, ..row.clone() },
    )?;
    Ok(row.admin)
}

/// Tokens there are at most.
const MAX_TOKENS: u64 = 10_000;
/// Bytes of a token at most.
const MAX_TOKEN: usize = 64;

/// All tokens that were handed out, but for that of the first administrator.
pub fn tokens(tx: &impl Read) -> Result<Vec<(String, RegistrationTokenRow)>> {
    let mut all = tables::REGISTRATION_TOKENS.collect::<&str, _>(tx, .., |token, row| (token.to_owned(), row))?;
    all.retain(|(_, row)| !row.admin);
    Ok(all)
}

/// One of them. 404 `M_NOT_FOUND` if there is no such token.
pub fn token(tx: &impl Read, token: &str) -> Result<RegistrationTokenRow> {
    let row = tables::REGISTRATION_TOKENS.get(tx, token)?.filter(|row| !row.admin);
    row.ok_or_else(|| Error::not_found("there is no such registration token"))
}

/// Makes a token. 400 `M_INVALID_PARAM` if there is one of that name.
pub fn make_token(tx: &WriteTx, token: &str, row: &RegistrationTokenRow) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(good) || token.starts_with(FIRST_ADMIN) {
        return Err(Error::invalid_param(format!(
            "a token has 1 to {MAX_TOKEN} of the characters A-Z a-z 0-9 . _ ~ -"
        )));
    }
    if tables::REGISTRATION_TOKENS.has(tx, token)? {
        return Err(Error::invalid_param("there is such a registration token already"));
    }
    if tables::REGISTRATION_TOKENS.len(tx)? >= MAX_TOKENS {
        return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "there are too many registration tokens"));
    }
    tables::REGISTRATION_TOKENS.put(tx, token, row)
}

/// Changes how often and how long a token may be used.
pub fn change_token(tx: &WriteTx, name: &str, row: &RegistrationTokenRow) -> Result<()> {
    token(tx, name)?;
    tables::REGISTRATION_TOKENS.put(tx, name, row)
}

/// Takes a token away.
pub fn remove_token(tx: &WriteTx, name: &str) -> Result<()> {
    token(tx, name)?;
    tables::REGISTRATION_TOKENS.remove(tx, name).map(drop)
}

#[cfg(test)]
mod tests {
    use ruma::{OwnedUserId, user_id};

    use super::*;
    use crate::{accounts::testing, store::Store};

    const HOME: Policy = Policy { mode: Registration::Open, local: true };
    const PUBLIC: Policy = Policy { mode: Registration::Open, local: false };
    const GUARDED: Policy = Policy { mode: Registration::Token, local: false };
    const CLOSED: Policy = Policy { mode: Registration::Closed, local: false };

    async fn join(store: &Store, policy: Policy, name: &str, token: Option<&str>) -> Result<bool> {
        let user: OwnedUserId = format!("@{name}:b.c").try_into().expect("an ID");
        let (asked, token) = (user.clone(), token.map(str::to_owned));
        store.write(move |tx| register(tx, policy, &asked, None, (token.as_deref(), None))).await?;
        store.read(|tx| users::is_admin(tx, &user))
    }

    #[tokio::test]
    async fn at_home_the_first_to_register_administers_and_nobody_else() {
        let (_dir, store) = testing::store();
        assert_eq!(store.write(|tx| ensure_first_admin_token(tx, HOME)).await.expect("writes"), None);
        assert!(join(&store, HOME, "alice", None).await.expect("registers"));
        assert!(!join(&store, HOME, "bob", None).await.expect("registers"));
        let taken = join(&store, HOME, "bob", None).await.expect_err("taken");
        assert_eq!(taken.errcode(), "M_USER_IN_USE");
    }

    #[tokio::test]
    async fn elsewhere_one_token_makes_one_administrator() {
        for policy in [PUBLIC, GUARDED, CLOSED] {
            let (_dir, store) = testing::store();
            let ensure = || store.write(move |tx| ensure_first_admin_token(tx, policy));
            let token = ensure().await.expect("writes").expect("needed");
            assert_eq!(ensure().await.expect("writes").as_ref(), Some(&token), "the same until it is used");
            if policy == PUBLIC {
                assert!(!join(&store, policy, "quick", None).await.expect("registers"));
            }
            let (one, two) = tokio::join!(
                join(&store, policy, "alice", Some(&token)),
                join(&store, policy, "mallory", Some(&token))
            );
            assert_eq!([&one, &two].iter().filter(|made| matches!(made, Ok(true))).count(), 1);
            assert!(one.is_err() || two.is_err());
            assert_eq!(ensure().await.expect("writes"), None);
            assert!(!store.read(|tx| token_is_valid(tx, policy, &token)).expect("reads"));
        }
    }

    #[tokio::test]
    async fn tokens_open_what_is_guarded_and_not_what_is_closed() {
        let (_dir, store) = testing::store();
        let invite = |uses_left, expires| RegistrationTokenRow { uses_left, used: 0, expires, admin: false };
        let put = move |tx: &WriteTx| {
            users::create(tx, user_id!("@root:b.c"), None, true)?;
            tables::REGISTRATION_TOKENS.put(tx, "twice", &invite(Some(2), None))?;
            tables::REGISTRATION_TOKENS.put(tx, "late", &invite(None, Some(1)))
        };
        store.write(put).await.expect("writes");
        assert_eq!(store.read(|tx| flows(tx, CLOSED)).expect_err("closed").errcode(), "M_FORBIDDEN");
        assert_eq!(store.read(|tx| flows(tx, GUARDED)).expect("open"), TOKEN);
        assert!(join(&store, CLOSED, "a", Some("twice")).await.is_err());
        assert!(join(&store, GUARDED, "a", None).await.is_err());
        assert!(join(&store, GUARDED, "a", Some("late")).await.is_err());
        assert!(join(&store, GUARDED, "a", Some("unknown")).await.is_err());
        assert!(!join(&store, GUARDED, "a", Some("twice")).await.expect("registers"));
        assert!(!join(&store, GUARDED, "b", Some("twice")).await.expect("registers"));
        assert!(join(&store, GUARDED, "c", Some("twice")).await.is_err());
    }
}
