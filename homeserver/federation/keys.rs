//! Keys of devices of other servers: asked of them, all at once and each within its time, checked, and kept
//! while their people share rooms with ours. spec: server-server-api#end-to-end-encryption

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId,
    api::{
        client::keys::get_keys,
        federation::{
            device::get_devices,
            keys::{claim_keys, get_keys as ask_keys},
        },
    },
};
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{Bounds, Failure, Remote};
use crate::{
    base::{Pos, signing::Identity},
    e2ee::{device_keys, one_time_keys::Claimed, remote_devices},
    error::{Error, Result},
    store::Store,
};

/// People in one question.
const PER_QUESTION: usize = 250;
/// People whose whole list is asked for at once, and who wait for that at most.
const RESYNCS: usize = 8;
const MAX_WAITING: usize = 1000;
/// How long a client's question may wait for other servers.
const LONGEST: Duration = Duration::from_secs(20);
/// People whose keys one job keeps.
const PER_JOB: usize = 50;

/// Devices wanted of people; none named means all.
pub type Wanted = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;
/// One-time keys wanted.
pub type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;
/// Servers that did not answer, with what is said of them.
pub type Failures = BTreeMap<String, Value>;

/// Asks other servers for keys. Clones are the same one.
#[derive(Clone)]
pub struct RemoteKeys(Arc<Inner>);

struct Inner {
    me: Arc<Identity>,
    store: Store,
    remote: Remote,
    /// Whose whole lists are being asked for.
    asking: Mutex<HashSet<OwnedUserId>>,
    places: Semaphore,
}

impl RemoteKeys {
    /// As `me`, keeping what is learned in `store`.
    pub fn new(me: Arc<Identity>, store: Store, remote: Remote) -> Self {
        Self(Arc::new(Inner { me, store, remote, asking: Mutex::default(), places: Semaphore::new(RESYNCS) }))
    }

    /// Keys of devices of people of other servers, added to an answer: what is kept and certain, and
    /// otherwise what their servers say. A server that can't be asked is named among the failures, and what
    /// is kept of its people, if anything, is given all the same.
    pub async fn query(
        &self,
        asker: &UserId,
        wanted: Wanted,
        time: Option<Duration>,
        answer: &mut get_keys::v3::Response,
    ) -> Result<()> {
        let mut questions = Vec::new();
        for (server, people) in by_server(&self.0.me.name, wanted) {
            let (kept, rest) = self.sort_out(people)?;
            self.add_kept(asker, &kept, answer)?;
            let rest: Vec<_> = rest.into_iter().collect();
            questions.extend(rest.chunks(PER_QUESTION).map(|people| (server.clone(), people.to_vec())));
        }
        let bounds = Bounds { time: time.unwrap_or(LONGEST).min(LONGEST), ..Bounds::USUAL };
        let mut asked = JoinSet::new();
        for (server, people) in questions {
            let keys = self.clone();
            asked.spawn(async move {
                let outcome = keys.ask(&server, &people, bounds).await;
                (server, people, outcome)
            });
        }
        while let Some(outcome) = asked.join_next().await {
            let (server, people, outcome) = outcome.map_err(Error::internal)?;
            match outcome {
                Ok(said) => add_said(&people, said, answer),
                Err(error) => {
                    tracing::debug!(%server, %error, "{server} does not tell its people's keys");
                    answer.failures.insert(server.to_string(), device_keys::unreachable());
                    self.add_kept(asker, &people.into_iter().collect(), answer)?;
                }
            }
        }
        Ok(())
    }

    /// People whose devices are certain to be known here, and the others.
    fn sort_out(&self, people: Wanted) -> Result<(Wanted, Wanted)> {
        let fresh = self.0.store.read(|tx| {
            let mut fresh = BTreeSet::new();
            for user in people.keys() {
                if remote_devices::is_fresh(tx, &self.0.me.name, user)? {
                    fresh.insert(user.clone());
                }
            }
            Ok(fresh)
        })?;
        Ok(people.into_iter().partition(|(user, _)| fresh.contains(user)))
    }

    fn add_kept(&self, asker: &UserId, people: &Wanted, answer: &mut get_keys::v3::Response) -> Result<()> {
        self.0.store.read(|tx| {
            for (user, devices) in people {
                let kept = remote_devices::is_kept(tx, user)?;
                if kept {
                    device_keys::show(tx, asker, (user, devices), answer)?;
                }
            }
            Ok(())
        })
    }

    /// Asks one server for all devices of some of its people, and keeps what it says of those who share a
    /// room with ours.
    async fn ask(
        &self,
        server: &ServerName,
        people: &[(OwnedUserId, Vec<OwnedDeviceId>)],
        bounds: Bounds,
    ) -> Result<ask_keys::v1::Response> {
        let moments = self.moments(people.iter().map(|(user, _)| user))?;
        // All of their devices: what is kept has to be whole.
        let wanted = people.iter().map(|(user, _)| (user.clone(), Vec::new())).collect();
        let said = self.0.remote.call_within(bounds, server, ask_keys::v1::Request::new(wanted)).await?;
        let none = BTreeMap::new();
        let mut checked = Vec::new();
        for (user, moment) in moments {
            let devices = said.device_keys.get(&user).unwrap_or(&none);
            let (master, own) = (said.master_keys.get(&user), said.self_signing_keys.get(&user));
            checked.push((remote_devices::check(&user, devices, master, own), moment));
        }
        for batch in checked.chunks(PER_JOB) {
            let (batch, me) = (batch.to_vec(), self.0.me.clone());
            let keep = move |tx: &_| {
                batch.iter().try_for_each(|(checked, at)| remote_devices::keep(tx, &me.name, checked, None, *at))
            };
            self.0.store.write(keep).await?;
        }
        Ok(said)
    }

    fn moments<'a>(&self, people: impl Iterator<Item = &'a OwnedUserId>) -> Result<Vec<(OwnedUserId, Pos)>> {
        self.0.store.read(|tx| people.map(|user| Ok((user.clone(), remote_devices::moment(tx, user)?))).collect())
    }

    /// Claims one-time keys of devices of other servers.
    pub async fn claim(&self, claims: Claims, time: Option<Duration>) -> (Claimed, Failures) {
        let mut servers = BTreeMap::<OwnedServerName, Claims>::new();
        for (user, devices) in claims {
            if user.server_name() != self.0.me.name {
                servers.entry(user.server_name().to_owned()).or_default().insert(user, devices);
            }
        }
        let bounds = Bounds { time: time.unwrap_or(LONGEST).min(LONGEST), ..Bounds::USUAL };
        let (mut claimed, mut failures) = (Claimed::new(), Failures::new());
        let mut answers = JoinSet::new();
        for (server, claims) in servers {
            let remote = self.0.remote.clone();
            answers.spawn(async move {
                let asked = claims.keys().cloned().collect::<BTreeSet<_>>();
                let answer = remote.call_within(bounds, &server, claim_keys::v1::Request::new(claims)).await;
                (server, asked, answer)
            });
        }
        while let Some(Ok((server, asked, answer))) = answers.join_next().await {
            match answer {
                Ok(said) => {
                    let own = said.one_time_keys.into_iter().filter(|(user, _)| asked.contains(user));
                    claimed.extend(own);
                }
                Err(failure) => {
                    tracing::debug!(%server, %failure, "{server} gives no one-time keys");
                    failures.insert(server.to_string(), device_keys::unreachable());
                }
            }
        }
        (claimed, failures)
    }

    /// Asks in the background for the whole list of somebody of whom something was missed. Somebody for whom
    /// that fails stays uncertain, and is asked for by who wants to know.
    pub fn resync(&self, user: OwnedUserId) {
        {
            let mut asking = self.0.asking.lock().unwrap_or_else(PoisonError::into_inner);
            if asking.len() >= MAX_WAITING || !asking.insert(user.clone()) {
                return;
            }
        }
        let keys = self.clone();
        tokio::spawn(async move {
            // It is never closed.
            let _place = keys.0.places.acquire().await;
            keys.0.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&user);
            if let Err(error) = keys.ask_whole(&user).await {
                tracing::debug!(%user, %error, "can't ask for somebody's devices");
            }
        });
    }

    async fn ask_whole(&self, user: &UserId) -> Result<()> {
        let moment = self.0.store.read(|tx| remote_devices::moment(tx, user))?;
        let request = get_devices::v1::Request::new(user.to_owned());
        let said = match self.0.remote.call(user.server_name(), request).await {
            Ok(said) => said,
            // There is no such person: they have no devices.
            Err(Failure::Refused { status, .. }) if status == http::StatusCode::NOT_FOUND => {
                get_devices::v1::Response::new(user.to_owned(), ruma::UInt::MIN)
            }
            Err(failure) => return Err(failure.into()),
        };
        if said.user_id != user {
            return Err(Error::bad_gateway("the answer is about somebody else"));
        }
        let devices = said.devices.into_iter().map(|device| (device.device_id, device.keys)).collect();
        let checked = remote_devices::check(user, &devices, said.master_key.as_ref(), said.self_signing_key.as_ref());
        let (me, stream) = (self.0.me.clone(), u64::from(said.stream_id));
        let keep = move |tx: &_| remote_devices::keep(tx, &me.name, &checked, Some(stream), moment);
        self.0.store.write(keep).await
    }
}

fn by_server(me: &ServerName, wanted: Wanted) -> BTreeMap<OwnedServerName, Wanted> {
    let mut servers = BTreeMap::<OwnedServerName, Wanted>::new();
    for (user, devices) in wanted {
        if user.server_name() != me {
            servers.entry(user.server_name().to_owned()).or_default().insert(user, devices);
        }
    }
    servers
}

/// What a server said of the people that it was asked for, as far as it is good.
fn add_said(
    people: &[(OwnedUserId, Vec<OwnedDeviceId>)],
    mut said: ask_keys::v1::Response,
    answer: &mut get_keys::v3::Response,
) {
    for (user, wanted) in people {
        let mut devices = said.device_keys.remove(user).unwrap_or_default();
        devices.retain(|device, keys| {
            (wanted.is_empty() || wanted.contains(device)) && device_keys::check(user, device, keys).is_ok()
        });
        answer.device_keys.insert(user.clone(), devices);
        let (master, own) = (said.master_keys.remove(user), said.self_signing_keys.remove(user));
        let (master, own) = remote_devices::good_keys(user, master, own);
        answer.master_keys.extend(master.map(|key| (user.clone(), key)));
        answer.self_signing_keys.extend(own.map(|key| (user.clone(), key)));
    }
}
