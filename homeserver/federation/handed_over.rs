//! The state of a room as a server in it hands it over: read as it comes, each event held once; then
//! checked for who sent it, many at once and away from where requests are answered.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedServerName, ServerName, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::{
    keyring::{At, Keyring, Keys, Wanted},
    remote::Incoming,
    split::{Piece, Splitter},
};
use crate::{
    base::clock,
    error::{Error, Result},
    rooms::pdu::{self, Checked},
};

/// Events that a server may hand over at most.
const MAX_EVENTS: usize = 300_000;
/// Servers in a room that are taken in at most.
const MAX_SERVERS: usize = 50_000;
/// Events that one thread checks at a time.
const CHUNK: usize = 128;

/// What a server answers to a join, with nothing of it checked.
#[derive(Default)]
pub struct Answer {
    /// The state before the join.
    pub state: Vec<Box<RawValue>>,
    /// What allows it.
    pub auth_chain: Vec<Box<RawValue>>,
    /// The join, signed by who vouches for it.
    pub event: Option<Box<RawValue>>,
    /// Whether memberships are left out of the state.
    pub members_omitted: bool,
    /// The servers in the room.
    pub servers: BTreeSet<OwnedServerName>,
}

/// Reads an answer as it comes. 502 for one that makes no sense or is too long.
pub async fn receive(mut incoming: Incoming) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut splitter = Splitter::new(&["state", "auth_chain"]);
    while let Some(chunk) = incoming.chunk().await? {
        splitter.push(&chunk, |piece| answer.take(piece)).map_err(as_theirs)?;
    }
    splitter.finish().map_err(as_theirs)?;
    Ok(answer)
}

fn as_theirs(error: Error) -> Error {
    Error::bad_gateway(error.message().to_owned())
}

impl Answer {
    fn take(&mut self, piece: Piece) -> Result<()> {
        match piece {
            Piece::Item(list, event) => {
                if self.state.len() + self.auth_chain.len() >= MAX_EVENTS {
                    return Err(Error::bad_gateway("the other server handed over too many events"));
                }
                if list == 0 { self.state.push(event) } else { self.auth_chain.push(event) }
            }
            Piece::Member(name, value) => match &*name {
                "event" => self.event = Some(value).filter(|value| value.get().starts_with('{')),
                "members_omitted" => self.members_omitted = value.get() == "true",
                "servers_in_room" => {
                    let names: Vec<String> = serde_json::from_str(value.get()).unwrap_or_default();
                    self.servers.extend(names.iter().take(MAX_SERVERS).filter_map(|name| ServerName::parse(name).ok()));
                }
                _ => {}
            },
        }
        Ok(())
    }
}

/// The events whose format and signatures are right, in their order; and how many were left out.
pub async fn check(
    keyring: &Keyring,
    events: Vec<Box<RawValue>>,
    rules: &RoomVersionRules,
) -> Result<(Vec<Checked>, usize)> {
    let total = events.len();
    // 1. Whose keys are wanted.
    let reading = rules.clone();
    let read = in_chunks(events, move |chunk| (signers(&chunk, &reading), chunk)).await?;
    let (mut wanted, mut events) = (Wanted::new(), Vec::with_capacity(total));
    for (signers, chunk) in read {
        for (server, ids) in signers {
            wanted.entry(server).or_default().extend(ids);
        }
        events.extend(chunk);
    }
    // 2. The keys, all together.
    let keys = Arc::new(keyring.gather(&wanted, At::Time(clock::now_ms())).await?);
    // 3. The signatures.
    let checking = rules.clone();
    let checked = in_chunks(events, move |chunk| verify(chunk, &keys, &checking)).await?;
    let checked: Vec<Checked> = checked.into_iter().flatten().collect();
    let left_out = total - checked.len();
    Ok((checked, left_out))
}

fn signers(events: &[Box<RawValue>], rules: &RoomVersionRules) -> Wanted {
    let mut wanted = Wanted::new();
    for event in events {
        let Ok(parsed) = pdu::parse(event, rules) else { continue };
        for (server, ids) in parsed.signers(rules) {
            wanted.entry(server).or_default().extend(ids);
        }
    }
    wanted
}

fn verify(events: Vec<Box<RawValue>>, keys: &Keys, rules: &RoomVersionRules) -> Vec<Checked> {
    let mut out = Vec::with_capacity(events.len());
    for event in events {
        let checked = pdu::parse(&event, rules).and_then(|parsed| {
            let at = At::Time(parsed.pdu().origin_server_ts.get().into());
            let keys = keys.valid_at(&parsed.signers(rules), at);
            parsed.verify(&keys, rules)
        });
        match checked {
            Ok(checked) => out.push(checked),
            Err(error) => tracing::debug!(%error, "an event of a state is left out"),
        }
    }
    out
}

/// Does work on all items in threads of its own, as many as there are processors, a chunk at a time. The
/// results keep the order of the items.
async fn in_chunks<I, O>(items: Vec<I>, work: impl Fn(Vec<I>) -> O + Clone + Send + 'static) -> Result<Vec<O>>
where
    I: Send + 'static,
    O: Send + 'static,
{
    let mut chunks = Vec::with_capacity(items.len().div_ceil(CHUNK));
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        chunks.push(items.by_ref().take(CHUNK).collect::<Vec<I>>());
    }
    let queue = Arc::new(Mutex::new(chunks.into_iter().enumerate()));
    let mut threads = JoinSet::new();
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let (queue, work) = (queue.clone(), work.clone());
        threads.spawn_blocking(move || {
            let mut done = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((index, chunk)) = next else { return done };
                done.push((index, work(chunk)));
            }
        });
    }
    let mut done = Vec::new();
    while let Some(part) = threads.join_next().await {
        done.extend(part.map_err(Error::internal)?);
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_in_chunks_keeps_its_order() {
        let items: Vec<usize> = (0..5 * CHUNK + 1).collect();
        let doubled = in_chunks(items.clone(), |chunk| chunk.into_iter().map(|item| 2 * item).collect::<Vec<_>>());
        let doubled: Vec<usize> = doubled.await.expect("done").into_iter().flatten().collect();
        assert_eq!(doubled, items.iter().map(|item| 2 * item).collect::<Vec<_>>());
        assert!(in_chunks(Vec::<u8>::new(), |chunk| chunk.len()).await.expect("done").is_empty());
    }
}
