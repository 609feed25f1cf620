//! Sessions: a device of an account, and the tokens that prove it. Tokens are stored as hashes only.

use std::{collections::HashMap, net::IpAddr, sync::Mutex};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::digest;
use ruma::{OwnedDeviceId, OwnedUserId, UserId};

use crate::{
    base::clock,
    error::{Error, Result},
    store::{Read, tables},
};

/// An account's session, found by its token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Whose.
    pub user: OwnedUserId,
    /// Which.
    pub device: OwnedDeviceId,
}

/// The hash under which a token is stored.
pub fn hash(token: &str) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

/// The session of an access token. 401 `M_UNKNOWN_TOKEN` if there is none; with `soft_logout` if it
/// has only expired.
pub fn by_access_token(tx: &impl Read, token: &str) -> Result<Found> {
    let row = tables::TOKENS.get(tx, &*hash(token))?.filter(|row| !row.refresh);
    let row = row.ok_or_else(|| Error::unknown_token(false))?;
    if row.expires.is_some_and(|at| at <= clock::now_ms()) {
        return Err(Error::unknown_token(true));
    }
    let user = UserId::parse(&row.user).map_err(Error::internal)?;
    Ok(Found { user, device: row.device.into() })
}

/// When sessions were last seen and from where: kept in memory and written down now and then, as
/// nobody needs it to the second and every request would be a write.
#[derive(Default)]
pub struct LastSeen {
    seen: Mutex<HashMap<Found, (u64, IpAddr)>>,
}

impl LastSeen {
    /// Notes a call.
    pub fn saw(&self, session: &Found, ip: IpAddr) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.insert(session.clone(), (clock::now_ms(), ip));
    }

    /// Takes what is to be written down.
    pub fn take(&self) -> HashMap<Found, (u64, IpAddr)> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
