//! Events from other servers, checked for who sent them: the keys of all in one go, the signatures many at
//! once and away from where requests are answered.

use std::sync::Arc;

use ruma::room_version_rules::RoomVersionRules;
use serde_json::value::RawValue;

use super::{
    keyring::{At, Keyring, Keys, Wanted},
    processors::{Processors, Results},
};
use crate::{
    base::clock,
    error::Result,
    rooms::pdu::{self, Checked, Outline, Parsed, Signers},
};

/// Checks signatures, on so many threads at once as there are processors. Clones share them.
#[derive(Clone)]
pub struct Checker {
    keyring: Keyring,
    processors: Processors,
}

impl Checker {
    /// With these keys.
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring, processors: Processors::default() }
    }

    /// Those of some events that are events of a room with these rules, and are signed; in their order. Each
    /// is held parsed only while it is looked at, as there may be very many.
    pub async fn check(&self, events: Vec<Box<RawValue>>, rules: &RoomVersionRules) -> Result<Vec<Checked>> {
        let events = events.into_iter().map(|raw| Outlined { raw, list: 0, depth: 0 }).collect();
        let (events, keys) = self.outline(events, rules).await?;
        let checked = self.checking(events, keys, rules).0.rest().await?;
        Ok(checked.into_iter().flatten().map(|(_, event)| event).collect())
    }

    /// The same for lists of very many, of which some are taken at a time, the least deep first: as a rule that is
    /// after those which allow them. The keys of all are had then.
    pub async fn begin<const N: usize>(
        &self,
        lists: [Vec<Box<RawValue>>; N],
        rules: &RoomVersionRules,
    ) -> Result<Checking> {
        let of_list = |(list, events): (usize, Vec<Box<RawValue>>)| {
            events.into_iter().map(move |raw| Outlined { raw, list, depth: 0 })
        };
        let events = lists.into_iter().enumerate().flat_map(of_list).collect();
        let (mut events, keys) = self.outline(events, rules).await?;
        events.sort_by_key(|event| event.depth);
        Ok(self.checking(events, keys, rules))
    }

    /// Notes the depths of some events, and gets the keys of all together.
    async fn outline(&self, events: Vec<Outlined>, rules: &RoomVersionRules) -> Result<(Vec<Outlined>, Keys)> {
        let (total, rules) = (events.len(), rules.clone());
        let reading = self.processors.begin(events, move |chunk| Signatures::of(chunk, &rules));
        let (mut all, mut events) = (Signatures::default(), Vec::with_capacity(total));
        for (signatures, chunk) in reading.rest().await? {
            all.add(signatures);
            events.extend(chunk);
        }
        Ok((events, self.keys(&all).await?))
    }

    /// Begins with the signatures.
    fn checking(&self, events: Vec<Outlined>, keys: Keys, rules: &RoomVersionRules) -> Checking {
        let (keys, rules) = (Arc::new(keys), rules.clone());
        Checking(self.processors.begin(events, move |chunk| verify_outlined(chunk, &keys, &rules)))
    }

    /// What comes of each of some events whose format is right.
    pub async fn verify(&self, events: Vec<Parsed>, rules: &RoomVersionRules) -> Result<Vec<Result<Checked>>> {
        let mut all = Signatures::default();
        for event in &events {
            all.note(event.signers(rules), event.sent());
        }
        let (keys, rules) = (Arc::new(self.keys(&all).await?), rules.clone());
        let work = move |chunk| pdu::verify(chunk, &*keys, &rules);
        Ok(self.processors.begin(events, work).rest().await?.into_iter().flatten().collect())
    }

    async fn keys(&self, signatures: &Signatures) -> Result<Keys> {
        self.keyring.gather(&signatures.wanted, At::Time(signatures.latest.min(clock::now_ms()))).await
    }
}

/// An event that is to be checked: of which list, and how deep in the room.
struct Outlined {
    raw: Box<RawValue>,
    list: usize,
    depth: u64,
}

/// Events whose keys are had, and whose signatures are being checked.
pub struct Checking(Results<Vec<(usize, Checked)>>);

impl Checking {
    /// Whether there are none left.
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Those of the next ones that are signed, each with the number of its list: about so many.
    pub async fn some(&mut self, about: usize) -> Result<Vec<(usize, Checked)>> {
        let mut out = Vec::new();
        while out.len() < about
            && let Some(next) = self.0.next().await?
        {
            out.extend(next);
        }
        Ok(out)
    }
}

/// By which keys some events are said to be signed, and when the last of them was sent.
#[derive(Default)]
struct Signatures {
    wanted: Wanted,
    latest: u64,
}

impl Signatures {
    /// Of some events, whose depth is noted.
    fn of(mut events: Vec<Outlined>, rules: &RoomVersionRules) -> (Self, Vec<Outlined>) {
        let mut out = Self::default();
        for event in &mut events {
            let Some(Outline { signers, sent, depth }) = pdu::outline(&event.raw, rules) else { continue };
            out.note(signers, sent);
            event.depth = depth;
        }
        (out, events)
    }

    fn note(&mut self, signers: Signers, sent: u64) {
        self.latest = self.latest.max(sent);
        for (server, ids) in signers {
            let counts = self.wanted.entry(server).or_default();
            ids.into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
        }
    }

    fn add(&mut self, other: Self) {
        self.latest = self.latest.max(other.latest);
        for (server, ids) in other.wanted {
            let counts = self.wanted.entry(server).or_default();
            ids.into_iter().for_each(|(id, count)| *counts.entry(id).or_default() += count);
        }
    }
}

fn verify_outlined(events: Vec<Outlined>, keys: &Keys, rules: &RoomVersionRules) -> Vec<(usize, Checked)> {
    let (mut lists, mut parsed) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
    let left_out = |error| tracing::debug!(%error, "an event of another server is left out");
    for Outlined { raw, list, .. } in events {
        match pdu::parse(&raw, rules) {
            Ok(event) => {
                lists.push(list);
                parsed.push(event);
            }
            Err(error) => left_out(error),
        }
    }
    let checked = lists.into_iter().zip(pdu::verify(parsed, keys, rules));
    checked.filter_map(|(list, checked)| Some((list, checked.map_err(left_out).ok()?))).collect()
}
