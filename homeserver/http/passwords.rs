//! Proving who somebody is by password, telling nobody which names exist.

use std::net::IpAddr;

use ruma::OwnedUserId;

use super::Bucket;
use crate::{
    accounts::users,
    app::App,
    error::{Error, Result},
    limits,
};

/// Bytes of a name that a bucket is labelled with at most.
const MAX_LABEL: usize = 255;

/// Who somebody is, by password.
pub struct Proven {
    /// The account.
    pub user: OwnedUserId,
    /// The hash that the password was found to be right for, to see that it is still the same later.
    pub hash: String,
}

/// Who tries a password, which decides whom failures are held against.
#[derive(Clone, Copy)]
pub enum By {
    /// Somebody at this address.
    Stranger(IpAddr),
    /// The account itself, in a session.
    Owner,
}

impl By {
    /// The buckets that failures are taken from.
    fn failures(self, label: &str) -> Vec<(Bucket, String)> {
        match self {
            Self::Stranger(ip) => {
                vec![(Bucket::LoginFailure, at(ip, label)), (Bucket::AccountFailure, label.to_owned())]
            }
            Self::Owner => vec![(Bucket::ProofFailure, label.to_owned())],
        }
    }
}

fn at(ip: IpAddr, label: &str) -> String {
    format!("{} {label}", limits::address(ip))
}

/// Proves by password that somebody is who they say: a localpart or a user ID, or None for what can't
/// be an account here. Known, unknown and closed accounts go the same way and cost the same.
pub async fn prove(app: &App, name: Option<&str>, password: String, by: By) -> Result<Proven> {
    let user = name.and_then(|name| users::meant(name, &app.me.name));
    let label: String = match &user {
        Some(user) => user.localpart().to_owned(),
        None => name.unwrap_or_default().chars().take(MAX_LABEL).collect(),
    };
    let failures = by.failures(&label);
    for (bucket, who) in &failures {
        app.limits.check_failures(*bucket, who)?;
    }
    if let By::Stranger(ip) = by {
        app.limits.take(Bucket::LoginAccount, at(ip, &label))?;
    }
    let row = app.store.read(|tx| user.as_ref().map(|user| users::lookup(tx, user)).transpose())?.flatten();
    let hash = row.and_then(|row| row.password);
    let right = app.hasher.verify(password, hash.clone()).await?;
    match (user, hash) {
        (Some(user), Some(hash)) if right => Ok(Proven { user, hash }),
        _ => {
            failures.iter().for_each(|(bucket, who)| app.limits.failed(*bucket, who));
            Err(Error::forbidden("the name or the password is wrong"))
        }
    }
}
