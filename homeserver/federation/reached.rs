//! Whether others find this server: it is looked up and asked as they do that, from here and anew each time. Knows
//! nothing of routers, which may hide a server from itself alone.
//! spec: server-server-api#resolving-server-names

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use ruma::OwnedServerName;
use serde_json::value::RawValue;

use super::{
    Federation,
    discovery::{self, Target},
    remote::Remote,
    server_keys,
};
use crate::{
    error::{Error, Result},
    outside,
};

/// How long its answer may take, and how long it may be.
const PATIENCE: Duration = Duration::from_secs(15);
const MAX_ANSWER: usize = 1 << 20;

/// How others see this server.
#[derive(Debug)]
pub struct Seen {
    /// Where they call it: its host, and the port if that is known before it is called.
    pub address: String,
    /// Whom `.well-known` names, or why it can't be read. None if its name needs none.
    pub delegated: Option<Result<OwnedServerName, String>>,
    /// Whether this server answers there, and if not, why.
    pub answer: Result<(), String>,
}

impl Federation {
    /// Looks this server up as others do, and asks it for its keys. 15 s for each of the two at most.
    pub async fn seen_from_outside(&self) -> Result<Seen> {
        let me = &self.me.name;
        // What others remember, and their open connections, would hide what has just broken.
        let remote = Remote::new(self.me.clone(), &self.outside, true).map_err(Error::internal)?;
        let delegated = remote.discovery().delegation(me).await;
        let target = discovery::through(me, delegated.as_ref().and_then(|named| named.as_deref().ok()));
        let address = target.url.trim_start_matches("https://").to_owned();
        let asked = tokio::time::timeout(PATIENCE, self.is_at(&remote, &target)).await;
        let answer = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        Ok(Seen { address, delegated, answer })
    }

    async fn is_at(&self, remote: &Remote, target: &Target) -> Result<(), String> {
        let mut request = http::Request::new(Bytes::new());
        *request.uri_mut() = http::Uri::from_static("/_matrix/key/v2/server");
        let response = remote.send(target, request, None).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let body = outside::read(response, MAX_ANSWER).await?;
        let raw: &RawValue =
            serde_json::from_slice(&body).map_err(|_| "what answers there is no Matrix server".to_owned())?;
        let published = server_keys::check(raw, &self.me.name)?;
        let id = self.me.key.id().to_string();
        let ours = server_keys::ours(&self.me, &id).map(|row| row.key);
        match published.keys.get(&id).map(|row| &row.key) == ours.as_ref() {
            true => Ok(()),
            false => Err("another server answers there in its name: its key is not the one of this server".to_owned()),
        }
    }
}
