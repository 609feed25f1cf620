//! One-time keys, each handed out once, the oldest first; and fallback keys for when there are none
//! left. spec: client-server-api#one-time-and-fallback-keys

use std::collections::BTreeMap;

use ruma::{
    DeviceId, OneTimeKeyAlgorithm, OwnedDeviceId, OwnedOneTimeKeyId, OwnedUserId, ServerName, UInt, UserId,
    encryption::OneTimeKey, serde::Raw,
};

use super::bound;
use crate::{
    base::{json, signed_json},
    error::{Error, Result},
    store::{Flow, LAST, Read, WriteTx, rows::FallbackKeyRow, tables},
};

/// One-time keys of a device at most. The oldest give way: a client that keeps too many private halves
/// forgets the oldest too.
const MAX_KEYS: usize = 256;
/// Algorithms of fallback keys of a device at most.
const MAX_FALLBACKS: usize = 8;
/// Keys claimed in one request at most.
const MAX_CLAIMS: usize = 10_000;
/// Keys that one job claims: a bound on how long it keeps others waiting.
const PER_JOB: usize = 250;

/// Keys of a device that are remembered after they were handed out: as many as it may upload again, in a
/// request whose answer it missed.
const MAX_CLAIMED: usize = 2 * MAX_KEYS;

/// Keys with their IDs, as clients upload them.
pub type Keys = BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>;

/// Checks uploaded keys before anything is written.
pub fn check(one_time: &Keys, fallback: &Keys) -> Result<()> {
    if one_time.len() > MAX_KEYS {
        return Err(Error::invalid_param(format!("a device has {MAX_KEYS} one-time keys at most")));
    }
    if fallback.len() > MAX_FALLBACKS {
        return Err(Error::invalid_param(format!("a device has {MAX_FALLBACKS} fallback keys at most")));
    }
    let mut algorithms: Vec<_> = fallback.keys().map(|id| id.algorithm()).collect();
    algorithms.dedup();
    if algorithms.len() < fallback.len() {
        return Err(Error::invalid_param("there is one fallback key per algorithm at most"));
    }
    for (id, key) in one_time.iter().chain(fallback) {
        if id.as_str().len() > 255 {
            return Err(Error::invalid_param("a key's ID is longer than 255 bytes"));
        }
        bound(key.json().get())?;
        key.deserialize().map_err(|error| Error::bad_json(format!("{id}: {error}")))?;
    }
    Ok(())
}

/// Adds one-time keys. 400 if there already is a different one with the same ID. A key that was handed
/// out stays so when its upload is tried again.
pub fn upload(tx: &WriteTx, user: &UserId, device: &DeviceId, keys: &Keys) -> Result<()> {
    let (user, device) = (user.as_str(), device.as_str());
    let old = all(tx, user, device)?;
    let by_id: BTreeMap<&str, &str> = old.iter().map(|key| (&*key.id, &*key.json)).collect();
    let range = (user, device, 0, "")..=(user, device, u64::MAX, LAST);
    let claimed = tables::CLAIMED_KEYS.collect(tx, range, |(_, _, _, id), json| (id.to_owned(), json))?;
    let claimed: BTreeMap<_, _> = claimed.into_iter().collect();
    let mut new = Vec::new();
    for (id, key) in keys {
        if claimed.get(id.as_str()).is_some_and(|stored| same(stored, key.json().get())) {
            continue;
        }
        match by_id.get(id.as_str()) {
            Some(stored) if same(stored, key.json().get()) => {}
            Some(_) => return Err(Error::unknown(format!("there already is another one-time key {id}"))),
            None => new.push((id, key)),
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    let pos = tx.next_pos();
    for (id, key) in &new {
        let algorithm = id.algorithm();
        let key_of = (user, device, algorithm.as_str(), pos, id.as_str());
        tables::ONE_TIME_KEYS.put(tx, key_of, &key.json().get().to_owned())?;
        count(tx, (user, device, algorithm.as_str()), 1)?;
    }
    for key in old.iter().take((old.len() + new.len()).saturating_sub(MAX_KEYS)) {
        tables::ONE_TIME_KEYS.remove(tx, (user, device, &*key.algorithm, key.pos, &*key.id))?;
        count(tx, (user, device, &key.algorithm), -1)?;
    }
    Ok(())
}

struct Stored {
    algorithm: String,
    pos: u64,
    id: String,
    json: String,
}

/// A device's one-time keys, the oldest first.
fn all(tx: &impl Read, user: &str, device: &str) -> Result<Vec<Stored>> {
    let range = (user, device, "", 0, "")..=(user, device, LAST, u64::MAX, LAST);
    let mut keys = tables::ONE_TIME_KEYS.collect(tx, range, |(_, _, algorithm, pos, id), json| Stored {
        algorithm: algorithm.to_owned(),
        pos,
        id: id.to_owned(),
        json,
    })?;
    keys.sort_by_key(|key| key.pos);
    Ok(keys)
}

/// Whether two keys are the same. A key signed anew is still the same key.
fn same(stored: &str, given: &str) -> bool {
    let signed_part = |text: &str| {
        let object = json::canonical_from_raw(serde_json::from_str(text).ok()?).ok()?;
        signed_json::signed_part(&object)
    };
    stored == given || signed_part(stored).is_some_and(|stored| Some(stored) == signed_part(given))
}

fn count(tx: &WriteTx, key: (&str, &str, &str), by: i64) -> Result<()> {
    let now = tables::ONE_TIME_KEY_COUNTS.get(tx, key)?.unwrap_or(0).saturating_add_signed(by);
    match now {
        0 => tables::ONE_TIME_KEY_COUNTS.remove(tx, key).map(drop),
        now => tables::ONE_TIME_KEY_COUNTS.put(tx, key, &now),
    }
}

/// Sets fallback keys, each in place of the one with its algorithm. The same again stays used.
pub fn upload_fallback(tx: &WriteTx, user: &UserId, device: &DeviceId, keys: &Keys) -> Result<()> {
    let (user, device) = (user.as_str(), device.as_str());
    for (id, key) in keys {
        let algorithm = id.algorithm();
        let key_of = (user, device, algorithm.as_str());
        let row = FallbackKeyRow { id: id.to_string(), json: key.json().get().to_owned(), used: false };
        match tables::FALLBACK_KEYS.get(tx, key_of)? {
            Some(old) if old.id == row.id && same(&old.json, &row.json) => {}
            _ => tables::FALLBACK_KEYS.put(tx, key_of, &row)?,
        }
    }
    let range = (user, device, "")..=(user, device, LAST);
    match tables::FALLBACK_KEYS.collect(tx, range, |_, _| ())?.len() > MAX_FALLBACKS {
        true => Err(Error::invalid_param(format!("a device has {MAX_FALLBACKS} fallback keys at most"))),
        false => Ok(()),
    }
}

/// How many one-time keys a device has left, by algorithm. `signed_curve25519` is always named: some
/// clients take its absence for "unchanged".
pub fn counts(tx: &impl Read, user: &UserId, device: &DeviceId) -> Result<BTreeMap<OneTimeKeyAlgorithm, UInt>> {
    let (user, device) = (user.as_str(), device.as_str());
    let mut out = BTreeMap::from([(OneTimeKeyAlgorithm::SignedCurve25519, UInt::MIN)]);
    tables::ONE_TIME_KEY_COUNTS.scan(tx, (user, device, "")..=(user, device, LAST), |(_, _, algorithm), count| {
        out.insert(algorithm.into(), UInt::new_saturating(count));
        Ok(Flow::Next)
    })?;
    Ok(out)
}

/// The algorithms of a device's fallback keys that have not been handed out yet.
pub fn unused_fallbacks(tx: &impl Read, user: &UserId, device: &DeviceId) -> Result<Vec<OneTimeKeyAlgorithm>> {
    let (user, device) = (user.as_str(), device.as_str());
    let mut out = Vec::new();
    tables::FALLBACK_KEYS.scan(tx, (user, device, "")..=(user, device, LAST), |(_, _, algorithm), row| {
        if !row.used {
            out.push(algorithm.into());
        }
        Ok(Flow::Next)
    })?;
    Ok(out)
}

/// One key that somebody wants: of whose device, and for which algorithm.
pub type Claim = (OwnedUserId, OwnedDeviceId, OneTimeKeyAlgorithm);
/// Keys that were handed out, by user and device.
pub type Claimed = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Keys>>;

/// What is wanted: of whose device, and for which algorithm.
pub type Wanted = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;

/// Divides what a request wants into what one job each should claim, and what other servers would have to
/// be asked for.
pub fn divide(me: &ServerName, wanted: Wanted) -> Result<(Vec<Vec<Claim>>, Wanted)> {
    if wanted.values().map(BTreeMap::len).sum::<usize>() > MAX_CLAIMS {
        return Err(Error::invalid_param(format!("claim {MAX_CLAIMS} keys at once at most")));
    }
    let (mut claims, mut elsewhere) = (Vec::new(), Wanted::new());
    for (user, devices) in wanted {
        match user.server_name() == me {
            true => claims.extend(devices.into_iter().map(|(device, algorithm)| (user.clone(), device, algorithm))),
            false => drop(elsewhere.insert(user, devices)),
        }
    }
    Ok((claims.chunks(PER_JOB).map(<[Claim]>::to_vec).collect(), elsewhere))
}

/// Hands out a key for each claim that can be met. Each one-time key is handed out once; a fallback key
/// is handed out when there is none, and is used from then on.
pub fn claim(tx: &WriteTx, claims: &[Claim]) -> Result<Claimed> {
    let mut out = Claimed::new();
    for claim in claims {
        if let Some((id, json)) = claim_one(tx, claim)? {
            // Its owner should hear how many are left before they run out.
            tx.wake(|wake| {
                wake.users.insert(claim.0.clone());
            });
            let id = OwnedOneTimeKeyId::try_from(id).map_err(Error::internal)?;
            let key = (id, Raw::from_json(json::raw(json)?));
            out.entry(claim.0.clone()).or_default().insert(claim.1.clone(), Keys::from([key]));
        }
    }
    Ok(out)
}

fn claim_one(tx: &WriteTx, (user, device, algorithm): &Claim) -> Result<Option<(String, String)>> {
    let (user, device, algorithm) = (user.as_str(), device.as_str(), algorithm.as_str());
    let mut oldest = None;
    let range = (user, device, algorithm, 0, "")..=(user, device, algorithm, u64::MAX, LAST);
    tables::ONE_TIME_KEYS.scan(tx, range, |(_, _, _, pos, id), json| {
        oldest = Some((pos, id.to_owned(), json));
        Ok(Flow::Stop)
    })?;
    if let Some((pos, id, json)) = oldest {
        tables::ONE_TIME_KEYS.remove(tx, (user, device, algorithm, pos, &*id))?;
        count(tx, (user, device, algorithm), -1)?;
        remember(tx, (user, device), &id, &json)?;
        return Ok(Some((id, json)));
    }
    let Some(row) = tables::FALLBACK_KEYS.get(tx, (user, device, algorithm))? else { return Ok(None) };
    if !row.used {
        let used = FallbackKeyRow { used: true, ..row.clone() };
        tables::FALLBACK_KEYS.put(tx, (user, device, algorithm), &used)?;
    }
    Ok(Some((row.id, row.json)))
}

/// Remembers that a key was handed out, and forgets the oldest such.
fn remember(tx: &WriteTx, (user, device): (&str, &str), id: &str, json: &str) -> Result<()> {
    tables::CLAIMED_KEYS.put(tx, (user, device, tx.next_pos(), id), &json.to_owned())?;
    let (mut count, mut surplus) = (0, None);
    let range = (user, device, 0, "")..=(user, device, u64::MAX, LAST);
    tables::CLAIMED_KEYS.scan_back(tx, range, |(_, _, pos, id), _| {
        count += 1;
        surplus = (count > MAX_CLAIMED).then(|| (pos, id.to_owned()));
        Ok(if surplus.is_some() { Flow::Stop } else { Flow::Next })
    })?;
    match surplus {
        Some((pos, id)) => tables::CLAIMED_KEYS.remove(tx, (user, device, pos, &*id)).map(drop),
        None => Ok(()),
    }
}

/// Forgets a device's keys.
pub(super) fn forget(tx: &WriteTx, user: &str, device: &str) -> Result<()> {
    let range = (user, device, "", 0, "")..=(user, device, LAST, u64::MAX, LAST);
    tables::ONE_TIME_KEYS.remove_range(tx, range)?;
    tables::CLAIMED_KEYS.remove_range(tx, (user, device, 0, "")..=(user, device, u64::MAX, LAST))?;
    tables::ONE_TIME_KEY_COUNTS.remove_range(tx, (user, device, "")..=(user, device, LAST))?;
    tables::FALLBACK_KEYS.remove_range(tx, (user, device, "")..=(user, device, LAST))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        e2ee::testing::{alice, open, raw},
        store::Store,
    };

    fn phone() -> &'static DeviceId {
        "PHONE".into()
    }

    fn key(value: &str, signature: &str) -> Raw<OneTimeKey> {
        raw(&json!({ "key": value, "signatures": { alice().as_str(): { "ed25519:PHONE": signature } } }))
    }

    fn keys(values: impl IntoIterator<Item = (usize, String)>) -> Keys {
        let id = |n| OwnedOneTimeKeyId::try_from(format!("signed_curve25519:{n:06}")).expect("an ID");
        values.into_iter().map(|(n, value)| (id(n), key(&value, "AAAA"))).collect()
    }

    fn upload_one(n: usize, value: &str) -> Keys {
        keys([(n, value.to_owned())])
    }

    async fn left(store: &Store) -> u64 {
        let counts = store.read(|tx| counts(tx, alice(), phone())).expect("counted");
        counts[&OneTimeKeyAlgorithm::SignedCurve25519].into()
    }

    async fn claim_id(store: &Store) -> Option<String> {
        let claims = [(alice().to_owned(), phone().to_owned(), OneTimeKeyAlgorithm::SignedCurve25519)];
        let claimed = store.write(move |tx| claim(tx, &claims)).await.expect("claimed");
        let mut ids = claimed.into_values().flat_map(BTreeMap::into_values).flat_map(BTreeMap::into_keys);
        ids.next().map(|id| id.to_string())
    }

    #[tokio::test]
    async fn the_same_key_again_is_fine_and_another_with_its_id_is_not() {
        let (_dir, store) = open();
        let again = store.write(|tx| {
            upload(tx, alice(), phone(), &upload_one(1, "AAAA"))?;
            let mut signed_anew = upload_one(1, "AAAA");
            signed_anew.values_mut().for_each(|value| *value = key("AAAA", "BBBB"));
            upload(tx, alice(), phone(), &signed_anew)
        });
        again.await.expect("the same");
        let other = store.write(|tx| upload(tx, alice(), phone(), &upload_one(1, "CCCC"))).await;
        assert_eq!(other.expect_err("another").status(), 400);
        assert_eq!(left(&store).await, 1);
    }

    #[tokio::test]
    async fn a_key_that_was_handed_out_is_not_taken_in_again() {
        let (_dir, store) = open();
        for _ in 0..2 {
            store.write(|tx| upload(tx, alice(), phone(), &upload_one(1, "AAAA"))).await.expect("written");
            claim_id(&store).await;
        }
        store.write(|tx| upload(tx, alice(), phone(), &upload_one(1, "AAAA"))).await.expect("tried again");
        assert_eq!(left(&store).await, 0);
        store.write(|tx| upload(tx, alice(), phone(), &upload_one(2, "BBBB"))).await.expect("written");
        assert_eq!(claim_id(&store).await.as_deref(), Some("signed_curve25519:000002"));
    }

    #[tokio::test]
    async fn keys_are_claimed_once_oldest_first_and_then_the_fallback() {
        let (_dir, store) = open();
        let written = store.write(|tx| {
            upload(tx, alice(), phone(), &upload_one(9, "AAAA"))?;
            upload(tx, alice(), phone(), &upload_one(1, "BBBB"))?;
            upload_fallback(tx, alice(), phone(), &upload_one(5, "CCCC"))
        });
        written.await.expect("written");
        assert_eq!(store.read(|tx| unused_fallbacks(tx, alice(), phone())).expect("read").len(), 1);
        assert_eq!(claim_id(&store).await.as_deref(), Some("signed_curve25519:000009"));
        assert_eq!(claim_id(&store).await.as_deref(), Some("signed_curve25519:000001"));
        for _ in 0..2 {
            assert_eq!(claim_id(&store).await.as_deref(), Some("signed_curve25519:000005"));
        }
        assert!(store.read(|tx| unused_fallbacks(tx, alice(), phone())).expect("read").is_empty());
        let again = store.write(|tx| upload_fallback(tx, alice(), phone(), &upload_one(5, "CCCC")));
        again.await.expect("written");
        assert!(store.read(|tx| unused_fallbacks(tx, alice(), phone())).expect("read").is_empty());
        let fresh = store.write(|tx| upload_fallback(tx, alice(), phone(), &upload_one(6, "DDDD")));
        fresh.await.expect("written");
        assert_eq!(store.read(|tx| unused_fallbacks(tx, alice(), phone())).expect("read").len(), 1);
        assert_eq!(left(&store).await, 0);
    }

    #[tokio::test]
    async fn claims_at_the_same_time_never_get_the_same_key() {
        let (_dir, store) = open();
        let many = keys((0..50).map(|n| (n, format!("{n:04}"))));
        store.write(move |tx| upload(tx, alice(), phone(), &many)).await.expect("written");
        let mut claims = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let store = store.clone();
            claims.spawn(async move { claim_id(&store).await });
        }
        let ids: Vec<_> = claims.join_all().await.into_iter().flatten().collect();
        assert_eq!(ids.len(), 50);
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 50);
    }

    #[tokio::test]
    async fn a_device_has_256_keys_at_most_and_the_oldest_give_way() {
        let (_dir, store) = open();
        for round in 0..3 {
            let hundred = keys((round * 100..round * 100 + 100).map(|n| (n, format!("{n:04}"))));
            store.write(move |tx| upload(tx, alice(), phone(), &hundred)).await.expect("written");
        }
        assert_eq!(left(&store).await, 256);
        assert_eq!(claim_id(&store).await.as_deref(), Some("signed_curve25519:000044"));
        let too_many = keys((0..257).map(|n| (n, format!("{n:04}"))));
        assert_eq!(check(&too_many, &Keys::new()).expect_err("too many").status(), 400);
        let two = keys([(1, "AAAA".into()), (2, "BBBB".into())]);
        assert_eq!(check(&Keys::new(), &two).expect_err("two of one algorithm").status(), 400);
    }
}
