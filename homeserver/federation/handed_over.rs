//! The state of a room as a server in it hands it over: read as it comes, each event held once. What is large is
//! held by one at a time, and who tells it too slowly is left.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedServerName, ServerName};
use serde_json::{Value, value::RawValue};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{
    remote::Incoming,
    split::{Piece, Splitter},
};
use crate::error::{Error, Result};

/// What anybody may hold of an answer. Of those that are larger one is held at a time, as each may be as large as is
/// allowed, and takes several times that while it is judged.
const FREE: usize = 4 << 20;
/// So many bytes are to come while we wait for so long, until all are there: otherwise who sends a byte now and then
/// keeps us for as long as a large answer may take.
const LEAST: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(15);
/// Events that a server may hand over at most.
const MAX_EVENTS: usize = 300_000;
/// Servers in a room that are taken in at most.
const MAX_SERVERS: usize = 50_000;

/// What a server answers to a join, or says of a state, with nothing of it checked.
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
    /// The place of what is large: given back with this.
    pub place: Place,
}

/// The place for an answer that is large, if this is one.
pub type Place = Option<OwnedSemaphorePermit>;

/// The lists in an answer to a join, and in one that tells of a state.
pub const OF_JOIN: &[&str] = &["state", "auth_chain"];
pub const OF_STATE: &[&str] = &["pdus", "auth_chain"];

/// The lists in an answer that names the events of a state.
const OF_STATE_IDS: &[&str] = &["pdu_ids", "auth_chain_ids"];

/// Reads answers. Clones share the place for what is large.
#[derive(Clone)]
pub struct Reader {
    large: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Reader {
    fn default() -> Self {
        Self { large: Arc::new(Semaphore::new(1)), patience: PATIENCE }
    }
}

impl Reader {
    /// Reads an answer as it comes. 502 for one that makes no sense, is too long or comes too slowly.
    pub async fn receive(&self, incoming: Incoming, lists: &'static [&'static str]) -> Result<Answer> {
        let mut answer = Answer::default();
        answer.place = self.take_apart(incoming, lists, |piece| answer.take(piece)).await?;
        Ok(answer)
    }

    /// Reads the IDs of a state's events, and of those that allow them, as they come. 502 as before.
    pub async fn receive_ids(&self, incoming: Incoming) -> Result<(Vec<OwnedEventId>, Vec<OwnedEventId>)> {
        let (mut state, mut chain) = (Vec::new(), Vec::new());
        let take = |piece| match piece {
            Piece::Item(..) if state.len() + chain.len() >= MAX_EVENTS => {
                Err(Error::bad_gateway("the other server tells of too large a state"))
            }
            Piece::Item(list, id) => {
                let id = serde_json::from_str(id.get()).map_err(|error| Error::bad_gateway(error.to_string()))?;
                if list == 0 {
                    state.push(id)
                } else {
                    chain.push(id)
                }
                Ok(())
            }
            Piece::Member(..) => Ok(()),
        };
        self.take_apart(incoming, OF_STATE_IDS, take).await?;
        Ok((state, chain))
    }

    async fn take_apart(
        &self,
        incoming: Incoming,
        lists: &'static [&'static str],
        mut take: impl FnMut(Piece) -> Result<()>,
    ) -> Result<Place> {
        let mut splitter = Splitter::new(lists);
        let mut reading = Reading { incoming, left: FREE, lacking: LEAST, patience: self.patience };
        let mut place = None;
        while let Some(chunk) = reading.chunk(self.patience).await? {
            if place.is_none() && reading.is_large() {
                place = reading.aside(self.large.clone().acquire_owned()).await.ok();
            }
            splitter.push(&chunk, &mut take).map_err(as_theirs)?;
        }
        splitter.finish().map_err(as_theirs)?;
        Ok(place)
    }
}

/// An answer that is coming.
struct Reading {
    incoming: Incoming,
    /// What may still be held freely.
    left: usize,
    /// What is to come before we have waited for so long.
    lacking: usize,
    patience: Duration,
}

impl Reading {
    async fn chunk(&mut self, patience: Duration) -> Result<Option<Bytes>> {
        let began = Instant::now();
        let late = |_| Error::bad_gateway("the other server tells it too slowly");
        let Some(chunk) = timeout(self.patience, self.incoming.chunk()).await.map_err(late)?? else { return Ok(None) };
        self.left = self.left.saturating_sub(chunk.len());
        self.lacking = self.lacking.saturating_sub(chunk.len());
        self.patience = self.patience.saturating_sub(began.elapsed());
        if self.lacking == 0 {
            (self.lacking, self.patience) = (LEAST, patience);
        }
        Ok(Some(chunk))
    }

    fn is_large(&self) -> bool {
        self.left == 0
    }

    /// Does something of ours, which is no time that the other server takes.
    async fn aside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = work.await;
        self.incoming.wait_longer(began.elapsed());
        done
    }
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
                    let names: Vec<Value> = serde_json::from_str(value.get()).unwrap_or_default();
                    let names = names.iter().filter_map(Value::as_str).filter_map(|name| ServerName::parse(name).ok());
                    self.servers.extend(names.take(MAX_SERVERS));
                }
                _ => {}
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures_util::stream;

    use super::*;
    use crate::federation::Bounds;

    const WHOLE: &[u8] = b"{\"pdus\": [{\"a\": 1}], \"auth_chain\": []}";

    /// An answer that is whole after so many spaces, of which so many come after each pause. It counts what has been
    /// taken of it, and is given up after ten seconds.
    fn answer(spaces: usize, (each, pause): (usize, u64), taken: &Arc<AtomicUsize>) -> Incoming {
        let taken = taken.clone();
        let pieces = stream::unfold(Some(spaces), move |left| {
            let taken = taken.clone();
            async move {
                let left = left?;
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let (bytes, left) = match left {
                    0 => (Bytes::from_static(WHOLE), None),
                    left => (Bytes::from(vec![b' '; each.min(left)]), Some(left.saturating_sub(each))),
                };
                taken.fetch_add(bytes.len(), Ordering::Relaxed);
                Some((Ok::<_, Infallible>(bytes), left))
            }
        });
        let bounds = Bounds { time: Duration::from_secs(10), ..Bounds::LARGE };
        Incoming::made_of(reqwest::Body::wrap_stream(pieces), bounds)
    }

    fn reader() -> Reader {
        Reader { patience: Duration::from_millis(1500), ..Reader::default() }
    }

    #[tokio::test]
    async fn who_tells_a_byte_now_and_then_is_left_soon_and_a_slow_line_is_slow_and_no_more() {
        let nobody = Arc::default();
        let read = |spaces, pace| {
            let incoming = answer(spaces, pace, &nobody);
            async move {
                let began = Instant::now();
                let answer = reader().receive(incoming, OF_STATE).await;
                (answer.map(|answer| answer.state.len()).map_err(|error| error.status().as_u16()), began.elapsed())
            }
        };
        let [trickling, silent, slow, endless] = [(1, 100), (10, 1_000_000), (LEAST, 500), (LEAST, 100)];
        let read =
            tokio::join!(read(1 << 20, trickling), read(10, silent), read(8 * LEAST, slow), read(1 << 30, endless));
        let took = |(answer, took): (_, Duration)| (answer, (took.as_secs_f32() + 0.25).floor());
        assert_eq!(took(read.0), (Err(502), 1.0));
        assert_eq!(took(read.1), (Err(502), 1.0));
        assert!(matches!(read.2, (Ok(1), took) if took > Duration::from_secs(4)), "{read:?}");
        assert_eq!(took(read.3), (Err(502), 10.0), "but no longer than it may take in all");
    }

    #[tokio::test]
    async fn one_large_answer_is_held_at_a_time_and_small_ones_pass_it() {
        let reader = reader();
        let read = |spaces, taken: &Arc<AtomicUsize>| {
            let (incoming, reader) = (answer(spaces, (1 << 18, 10), taken), reader.clone());
            tokio::spawn(async move { reader.receive(incoming, OF_STATE).await })
        };
        let (first, second, small) = (Arc::default(), Arc::default(), Arc::default());
        let held = read(6 << 20, &first).await.expect("ends").expect("heard");
        assert!(held.place.is_some());
        let waiting = read(6 << 20, &second);
        let passing = read(1 << 20, &small).await.expect("ends").expect("heard");
        assert!(passing.place.is_none());
        // As long as the first is looked at, the second waits, and is not given up for that.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let taken = second.load(Ordering::Relaxed);
        assert!(!waiting.is_finished() && (FREE..=FREE + (1 << 19)).contains(&taken), "{taken} bytes");
        drop(held);
        let heard = waiting.await.expect("ends").expect("heard");
        assert_eq!((heard.state.len(), heard.place.is_some()), (1, true));
    }
}
