//! The signing keys of other servers: fetched from them, or of servers that don't answer from a notary;
//! checked, kept, and good only for as long as they say. Knows what a key is good for and not what was signed.
//! spec: server-server-api#retrieving-server-keys

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    api::federation::discovery::{
        get_remote_server_keys_batch::v2::{self as query, QueryCriteria},
        get_server_keys::v2 as own,
    },
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    flights::Flights,
    remote::{Bounds, Remote},
    server_keys::{self, Published},
};
use crate::{
    base::{clock, ed25519::PublicKey, json, signed_json, signing::Identity},
    error::Result,
    rooms::pdu::KnownKeys,
    store::{
        Flow, Read, Store, WriteTx,
        rows::{Dated, ServerKeyRow},
        tables,
    },
};

/// Servers that are asked at once for their keys.
const AT_ONCE: usize = 64;
/// How long all together may take before the notaries are asked for the rest.
const DIRECT_TIME: Duration = Duration::from_secs(15);
/// Servers whose keys a notary is asked for in one request.
const NOTARY_BATCH: usize = 200;
/// A server that has just answered is not asked again for so long, whichever keys it is said to have.
const FRESH: Duration = Duration::from_secs(30);
/// How long after a failure a server is asked again: at first, and at most, with doubling in between.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const MAX_RETRY: Duration = Duration::from_secs(15 * 60);
/// How long after a failure a server is asked again that speaks to us: it is there again, by what it says.
const SPEAKING_RETRY: Duration = Duration::from_secs(1);
/// Servers of which it is remembered when they were asked.
const REMEMBERED: usize = 20_000;
/// Keys that are prepared at most for the signatures of many events: a bound on the memory that takes.
const MAX_PREPARED: usize = 64;
/// Keys that are kept at most, and how many go when there are more.
const MAX_KEYS: u64 = 500_000;
const FORGOTTEN: usize = 100;

/// Which keys are wanted: by server and key ID, for about how many signatures.
pub type Wanted = BTreeMap<OwnedServerName, BTreeMap<String, usize>>;

/// What a key has to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Something signed at a time, in milliseconds: an event of room version 5 and up, or a request now.
    Time(u64),
    /// Something signed at any time, as in older room versions.
    Any,
}

/// Keys that were gathered, for many events of different times: each good for what was sent while it was.
#[derive(Default)]
pub struct Keys(BTreeMap<OwnedServerName, BTreeMap<String, Kept>>);

struct Kept {
    row: ServerKeyRow,
    /// Signatures that are to be checked by it.
    signatures: usize,
    /// Made when it is first needed: none if it is no key.
    public: OnceLock<Option<PublicKey>>,
}

impl Keys {
    fn row(&self, server: &ServerName, id: &str) -> Option<&ServerKeyRow> {
        Some(&self.0.get(server)?.get(id)?.row)
    }

    /// Leaves it to a few to be prepared for many signatures: those that have most of them.
    fn prepare_few(mut self) -> Self {
        let mut all: Vec<&mut Kept> = self.0.values_mut().flat_map(BTreeMap::values_mut).collect();
        all.sort_unstable_by_key(|kept| std::cmp::Reverse(kept.signatures));
        all.into_iter().skip(MAX_PREPARED).for_each(|kept| kept.signatures = 0);
        self
    }
}

impl KnownKeys for Keys {
    fn key(&self, server: &ServerName, id: &str, sent: u64) -> Option<&PublicKey> {
        let kept = self.0.get(server)?.get(id).filter(|kept| is_valid(&kept.row, At::Time(sent)))?;
        let public =
            kept.public.get_or_init(|| Some(signed_json::public_key(&kept.row.key)?.for_many(kept.signatures)));
        public.as_ref()
    }
}

fn is_valid(row: &ServerKeyRow, at: At) -> bool {
    match at {
        At::Any => true,
        // A key that was given up is good for what came before.
        At::Time(time) if row.old => time < row.valid_until,
        At::Time(time) => time <= row.valid_until,
    }
}

/// All keys. Clones share what is known.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    me: Arc<Identity>,
    store: Store,
    remote: Remote,
    notaries: Vec<OwnedServerName>,
    flights: Flights,
    asked: Cache<OwnedServerName, Asked>,
    at_once: Arc<Semaphore>,
}

/// When a server was last asked for its keys.
#[derive(Clone, Copy)]
struct Asked {
    again: Instant,
    /// The same if it speaks to us.
    speaking: Instant,
    failures: u32,
}

impl Keyring {
    /// Keeps keys in `store`, fetches them by `remote`.
    pub fn new(me: Arc<Identity>, store: Store, remote: Remote, notaries: Vec<OwnedServerName>) -> Self {
        Self(Arc::new(Inner {
            me,
            store,
            remote,
            notaries,
            flights: Flights::new(1),
            asked: Cache::new(REMEMBERED),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        }))
    }

    /// Keys for many events: those of `wanted` that can be had, good for the latest time among them if they
    /// are good so long. Which of them an event may use depends on when it was sent.
    ///
    /// 1. What is known and good is not fetched.
    /// 2. The rest is asked of the servers themselves, many at once, each once.
    /// 3. What is still missing is asked of the notaries.
    pub async fn gather(&self, wanted: &Wanted, latest: At) -> Result<Keys> {
        let known = self.known(wanted)?;
        let missing = self.lacking(&known, wanted, latest);
        if missing.is_empty() {
            return Ok(known.prepare_few());
        }
        self.ask_servers(&missing, latest).await;
        self.ask_notaries(wanted, latest).await?;
        Ok(self.known(wanted)?.prepare_few())
    }

    /// Whether a key is kept here, and good now.
    pub fn knows(&self, server: &OwnedServerName, id: &str) -> Result<bool> {
        let wanted = Wanted::from([(server.clone(), BTreeMap::from([(id.to_owned(), 1)]))]);
        Ok(self.missing(&wanted, At::Time(clock::now_ms()))?.is_empty())
    }

    /// The key of a request that is made now. Only its server itself is asked.
    pub async fn request_key(&self, server: &OwnedServerName, id: &str) -> Result<Option<String>> {
        let wanted = Wanted::from([(server.clone(), BTreeMap::from([(id.to_owned(), 1)]))]);
        let now = At::Time(clock::now_ms());
        if !self.missing(&wanted, now)?.is_empty() {
            self.ask_server(server, (&wanted, now), |asked| asked.speaking).await;
        }
        let known = self.known(&wanted)?;
        let row = known.row(server, id).filter(|row| !row.old && is_valid(row, now));
        Ok(row.map(|row| row.key.clone()))
    }

    /// The servers of which we have nothing to pass on that is good until a time, each its own.
    pub fn unsaid(&self, asked: &BTreeMap<OwnedServerName, u64>) -> Result<BTreeSet<OwnedServerName>> {
        self.0.store.read(|tx| {
            let mut unsaid = BTreeSet::new();
            for (server, until) in asked.iter().filter(|(server, _)| **server != self.0.me.name) {
                let said = tables::SERVER_KEYS_SAID.get(tx, server.as_str())?;
                if said.is_none_or(|said| said.pos < *until) {
                    unsaid.insert(server.clone());
                }
            }
            Ok(unsaid)
        })
    }

    /// What servers say of their keys, signed by themselves, to be passed on by a notary: good until a time,
    /// each its own, if they can be asked.
    pub async fn said(&self, asked: &BTreeMap<OwnedServerName, u64>) -> Result<Vec<CanonicalJsonObject>> {
        self.ask_servers(&self.unsaid(asked)?, At::Any).await;
        let mut out = Vec::new();
        for server in asked.keys() {
            if *server == self.0.me.name {
                out.push(server_keys::publish(&self.0.me)?);
                continue;
            }
            let Some(said) = self.0.store.read(|tx| tables::SERVER_KEYS_SAID.get(tx, server.as_str()))? else {
                continue;
            };
            out.push(json::canonical_from_raw(&json::raw(said.json)?)?);
        }
        Ok(out)
    }

    /// Those of the keys that are kept here, good or not.
    fn known(&self, wanted: &Wanted) -> Result<Keys> {
        let me = &self.0.me;
        self.0.store.read(|tx| {
            let mut keys = Keys::default();
            for (server, ids) in wanted {
                for (id, signatures) in ids {
                    let row = match *server == me.name {
                        true => server_keys::ours(me, id),
                        false => tables::SERVER_KEYS.get(tx, (server.as_str(), id.as_str()))?,
                    };
                    let Some(row) = row else { continue };
                    let kept = Kept { row, signatures: *signatures, public: OnceLock::new() };
                    keys.0.entry(server.clone()).or_default().insert(id.clone(), kept);
                }
            }
            Ok(keys)
        })
    }

    /// The servers of which a wanted key is not kept here, or not known to be good so late.
    fn missing(&self, wanted: &Wanted, latest: At) -> Result<BTreeSet<OwnedServerName>> {
        Ok(self.lacking(&self.known(wanted)?, wanted, latest))
    }

    /// The same, by what is known. A key that was given up will never be good later.
    fn lacking(&self, known: &Keys, wanted: &Wanted, latest: At) -> BTreeSet<OwnedServerName> {
        let is_here = |server: &OwnedServerName, id: &String| {
            known.row(server, id).is_some_and(|row| row.old || is_valid(row, latest))
        };
        let missing = wanted
            .iter()
            .filter(|(server, ids)| **server != self.0.me.name && !ids.keys().all(|id| is_here(server, id)));
        missing.map(|(server, _)| server.clone()).collect()
    }

    async fn ask_servers(&self, servers: &BTreeSet<OwnedServerName>, latest: At) {
        let mut asking = JoinSet::new();
        let until = tokio::time::Instant::now() + DIRECT_TIME;
        for server in servers {
            let (keyring, server) = (self.clone(), server.clone());
            let wanted = Wanted::new();
            asking.spawn(async move {
                // It is never closed.
                let place = keyring.0.at_once.clone().acquire_owned();
                let Ok(_place) = tokio::time::timeout_at(until, place).await else { return };
                keyring.ask_server(&server, (&wanted, latest), |asked| asked.again).await;
            });
        }
        // Who is slower is left to the notaries. What became of the calls is noted all the same: who is silent
        // would be waited for anew each time.
        let all = async { while asking.join_next().await.is_some() {} };
        _ = tokio::time::timeout_at(until, all).await;
        asking.detach_all();
    }

    /// Asks a server for its keys, unless it was asked just now (`again` says until when that is), or somebody
    /// did meanwhile and `wanted` is here.
    async fn ask_server(
        &self,
        server: &OwnedServerName,
        (wanted, latest): (&Wanted, At),
        again: impl Fn(&Asked) -> Instant,
    ) {
        let inner = &*self.0;
        let _place = inner.flights.enter(server).await;
        let asked = inner.asked.get(server);
        if asked.is_some_and(|asked| again(&asked) > Instant::now()) {
            return;
        }
        if !wanted.is_empty() && self.missing(wanted, latest).is_ok_and(|missing| missing.is_empty()) {
            return;
        }
        let failures = match self.fetch(server).await {
            Ok(()) => 0,
            Err(why) => {
                let failures = asked.map_or(0, |asked| asked.failures) + 1;
                match failures {
                    1 => tracing::info!(%server, "can't get the keys of {server}: {why}"),
                    _ => tracing::debug!(%server, why, "can't get the keys of {server}"),
                }
                failures
            }
        };
        let retry = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(MAX_RETRY);
        let (wait, speaking) = if failures == 0 { (FRESH, FRESH) } else { (retry, SPEAKING_RETRY) };
        let now = Instant::now();
        inner.asked.insert(server.clone(), Asked { again: now + wait, speaking: now + speaking, failures });
    }

    async fn fetch(&self, server: &ServerName) -> Result<(), String> {
        let answer = self.0.remote.call_within(Bounds::SMALL, server, own::Request::new()).await;
        let answer = answer.map_err(|failure| failure.to_string())?;
        let published = server_keys::check(answer.server_key.json(), server)?;
        self.keep(vec![published]).await.map_err(|error| error.to_string())
    }

    /// Asks the notaries in turn for what is still missing.
    async fn ask_notaries(&self, wanted: &Wanted, latest: At) -> Result<()> {
        for notary in &self.0.notaries {
            let missing: Vec<_> = self.missing(wanted, latest)?.into_iter().filter(|server| server != notary).collect();
            for batch in missing.chunks(NOTARY_BATCH) {
                if let Err(why) = self.ask_notary(notary, batch, wanted, latest).await {
                    tracing::debug!(%notary, why, "the notary {notary} was of no help");
                    break;
                }
            }
        }
        Ok(())
    }

    async fn ask_notary(
        &self,
        notary: &OwnedServerName,
        batch: &[OwnedServerName],
        wanted: &Wanted,
        latest: At,
    ) -> Result<(), String> {
        let mut criteria = QueryCriteria::new();
        if let At::Time(time) = latest {
            criteria.minimum_valid_until_ts =
                MilliSecondsSinceUnixEpoch::from_system_time(std::time::UNIX_EPOCH + Duration::from_millis(time));
        }
        let ids = |server| {
            let ids = wanted.get(server).into_iter().flat_map(BTreeMap::keys);
            ids.filter_map(|id| Some((OwnedServerSigningKeyId::try_from(id.as_str()).ok()?, criteria.clone())))
                .collect()
        };
        let request = query::Request::new(batch.iter().map(|server| (server.clone(), ids(server))).collect());
        let answer = self.0.remote.call_within(Bounds::SMALL, notary, request).await;
        let answer = answer.map_err(|failure| failure.to_string())?;
        let vouching = self.notary_keys(notary).await?;
        let mut kept = Vec::new();
        for keys in answer.server_keys {
            match server_keys::check_vouched(keys.json(), batch, notary, &vouching) {
                Ok(published) => kept.push(published),
                Err(why) => tracing::debug!(%notary, why, "the notary {notary} sent what can't be used"),
            }
        }
        self.keep(kept).await.map_err(|error| error.to_string())
    }

    /// The keys by which a notary vouches for others: its own, as it publishes them itself.
    async fn notary_keys(&self, notary: &OwnedServerName) -> Result<BTreeMap<String, String>, String> {
        let now = At::Time(clock::now_ms());
        let current = || -> Result<BTreeMap<String, String>> {
            let mut keys = BTreeMap::new();
            self.0.store.read(|tx| {
                scan(tx, notary, |id, row| {
                    if !row.old && is_valid(&row, now) {
                        keys.insert(id.to_owned(), row.key);
                    }
                })
            })?;
            Ok(keys)
        };
        let keys = current().map_err(|error| error.to_string())?;
        if !keys.is_empty() {
            return Ok(keys);
        }
        self.ask_server(notary, (&Wanted::new(), now), |asked| asked.again).await;
        let keys = current().map_err(|error| error.to_string())?;
        if keys.is_empty() { Err("its own keys can't be had".to_owned()) } else { Ok(keys) }
    }

    async fn keep(&self, published: Vec<Published>) -> Result<()> {
        if published.iter().all(|published| published.keys.is_empty()) {
            return Ok(());
        }
        self.0.store.write(move |tx| published.iter().try_for_each(|published| keep(tx, published))).await
    }
}

fn scan(tx: &impl Read, server: &ServerName, mut visit: impl FnMut(&str, ServerKeyRow)) -> Result<()> {
    tables::SERVER_KEYS.scan(tx, (server.as_str(), "").., |(name, id), row| {
        if name != server.as_str() {
            return Ok(Flow::Stop);
        }
        visit(id, row);
        Ok(Flow::Next)
    })
}

/// Writes down what a server says of its keys. What it once gave up stays given up, what was known to be
/// good for longer stays so (an older answer may come later, by a notary), and no notary replaces a key.
fn keep(tx: &WriteTx, published: &Published) -> Result<()> {
    let server = published.server.as_str();
    for (id, row) in &published.keys {
        let known = tables::SERVER_KEYS.get(tx, (server, id.as_str()))?;
        let counts = known.is_none_or(|known| match known.key == row.key {
            true => !known.old && (row.old || row.valid_until > known.valid_until),
            false => !published.vouched,
        });
        if counts {
            tables::SERVER_KEYS.put(tx, (server, id.as_str()), row)?;
        }
    }
    if !published.vouched {
        // In the place of a position stands the time until which it is good, which it does not say of itself.
        let until = published.keys.values().filter(|row| !row.old).map(|row| row.valid_until).max();
        let said = Dated { pos: until.unwrap_or_default(), json: published.json.clone() };
        tables::SERVER_KEYS_SAID.put(tx, server, &said)?;
    }
    if tables::SERVER_KEYS.len(tx)? > MAX_KEYS { forget_some(tx, server) } else { Ok(()) }
}

/// Forgets the keys that come after those of a server: as good as any, and they can be fetched again.
fn forget_some(tx: &WriteTx, server: &str) -> Result<()> {
    let mut gone = Vec::new();
    for from in [server, ""] {
        tables::SERVER_KEYS.scan(tx, (from, "").., |(name, id), _| {
            if name != server {
                gone.push((name.to_owned(), id.to_owned()));
            }
            Ok(if gone.len() < FORGOTTEN { Flow::Next } else { Flow::Stop })
        })?;
    }
    for (name, id) in gone {
        tables::SERVER_KEYS.remove(tx, (&*name, &*id))?;
        tables::SERVER_KEYS_SAID.remove(tx, &*name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_keys_only_those_with_most_signatures_are_prepared() {
        let row = ServerKeyRow { key: String::new(), valid_until: 0, old: false };
        let kept = |signatures| Kept { row: row.clone(), signatures, public: OnceLock::new() };
        let server = |number: usize| ServerName::parse(format!("s{number}.test")).expect("a name");
        let one = |number| (server(number), BTreeMap::from([("ed25519:1".to_owned(), kept(number + 1))]));
        let prepared = |keys: usize| {
            let kept = Keys((0..keys).map(one).collect()).prepare_few().0;
            let mut counts: Vec<usize> =
                kept.into_values().flat_map(BTreeMap::into_values).map(|kept| kept.signatures).collect();
            counts.sort_unstable();
            counts
        };
        assert_eq!(prepared(3), [1, 2, 3]);
        let many = prepared(3 * MAX_PREPARED);
        assert!(many[..2 * MAX_PREPARED].iter().all(|count| *count == 0));
        assert_eq!(many[2 * MAX_PREPARED..], (2 * MAX_PREPARED + 1..=3 * MAX_PREPARED).collect::<Vec<_>>());
    }
}
