//! Work on many items by all processors, a chunk at a time and away from where requests are answered. Knows neither
//! the items nor the work.
//!
//! A thread goes on with the next chunk by itself, unless somebody else waits for its place: where all processors are
//! busy, waking another thread after each chunk takes longer than the chunk.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};

use crate::error::{Error, Result};

/// Items of a chunk; of few items at least so many, as handing a chunk over costs something too.
const CHUNK: usize = 64;
const LEAST: usize = 16;
/// Items that are worked on by whoever asks: to have another thread do it takes as long.
const FEW: usize = 2;
/// Chunks that are ready before somebody takes them.
const AHEAD: usize = 8;

/// Places for so many threads as there are processors. Clones share them.
#[derive(Clone)]
pub struct Processors {
    places: Arc<Semaphore>,
    count: usize,
}

impl Default for Processors {
    fn default() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Self { places: Arc::new(Semaphore::new(count)), count }
    }
}

/// What comes of chunks, in the order of the items. Whoever lets go of it ends the work.
pub struct Results<O> {
    done: mpsc::Receiver<(usize, O)>,
    /// What came before its turn: no more than all others do in the time of one chunk.
    early: BTreeMap<usize, O>,
    next: usize,
    chunks: usize,
    _threads: JoinSet<()>,
}

impl<O: Send + 'static> Results<O> {
    /// Whether all was taken.
    pub fn is_over(&self) -> bool {
        self.next == self.chunks
    }

    /// What comes of the next chunk. None after the last one.
    pub async fn next(&mut self) -> Result<Option<O>> {
        while !self.is_over() {
            if let Some(next) = self.early.remove(&self.next) {
                self.next += 1;
                return Ok(Some(next));
            }
            let done = self.done.recv().await;
            let (index, done) = done.ok_or_else(|| Error::internal("a thread ended before its work"))?;
            self.early.insert(index, done);
        }
        Ok(None)
    }

    /// What comes of all chunks that are left.
    pub async fn rest(mut self) -> Result<Vec<O>> {
        let mut out = Vec::with_capacity(self.chunks - self.next);
        while let Some(next) = self.next().await? {
            out.push(next);
        }
        Ok(out)
    }
}

impl Processors {
    /// Begins with work on all items.
    pub fn begin<I, O>(&self, items: Vec<I>, work: impl Fn(Vec<I>) -> O + Clone + Send + 'static) -> Results<O>
    where
        I: Send + 'static,
        O: Send + 'static,
    {
        if items.len() <= FEW {
            let (_, done) = mpsc::channel(1);
            let early = BTreeMap::from([(0, work(items))]);
            return Results { done, early, next: 0, chunks: 1, _threads: JoinSet::new() };
        }
        let each = items.len().div_ceil(2 * self.count).clamp(LEAST, CHUNK);
        let chunks = items.len().div_ceil(each);
        let queue = Arc::new(Mutex::new(Queue { items: items.into_iter(), each, given: 0 }));
        let (ready, done) = mpsc::channel(AHEAD);
        let mut threads = JoinSet::new();
        for _ in 0..chunks.min(self.count) {
            threads.spawn(follow(self.places.clone(), queue.clone(), work.clone(), ready.clone()));
        }
        Results { done, early: BTreeMap::new(), next: 0, chunks, _threads: threads }
    }
}

/// Items that nobody has taken yet.
struct Queue<I> {
    items: std::vec::IntoIter<I>,
    each: usize,
    given: usize,
}

impl<I> Queue<I> {
    fn next(&mut self) -> Option<(usize, Vec<I>)> {
        let chunk: Vec<I> = self.items.by_ref().take(self.each).collect();
        self.given += 1;
        Some((self.given - 1, chunk)).filter(|(_, chunk)| !chunk.is_empty())
    }
}

/// Works in one place after another, until nothing is left or nobody wants it.
async fn follow<I: Send + 'static, O: Send + 'static>(
    places: Arc<Semaphore>,
    queue: Arc<Mutex<Queue<I>>>,
    work: impl Fn(Vec<I>) -> O + Clone + Send + 'static,
    ready: mpsc::Sender<(usize, O)>,
) {
    // They are never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        let (places, queue, work, ready) = (places.clone(), queue.clone(), work.clone(), ready.clone());
        let thread = move || stay(place, &places, &queue, work, &ready);
        if !tokio::task::spawn_blocking(thread).await.is_ok_and(|has_more| has_more) {
            return;
        }
    }
}

/// Works as long as nobody waits for this place. Whether there is more to do.
fn stay<I, O>(
    mut place: OwnedSemaphorePermit,
    places: &Arc<Semaphore>,
    queue: &Mutex<Queue<I>>,
    work: impl Fn(Vec<I>) -> O,
    ready: &mpsc::Sender<(usize, O)>,
) -> bool {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some((index, chunk)) = next else { return false };
        let worked = work(chunk);
        drop(place);
        if ready.blocking_send((index, worked)).is_err() {
            return false;
        }
        match places.clone().try_acquire_owned() {
            Ok(free) => place = free,
            Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;

    fn of(count: usize) -> Processors {
        Processors { places: Arc::new(Semaphore::new(count)), count }
    }

    #[tokio::test]
    async fn results_come_in_the_order_of_the_items_whoever_is_ready_first() {
        for (items, threads) in [(0, 2), (1, 2), (3, 1), (100, 2), (1000, 3)] {
            let slow = |chunk: Vec<usize>| {
                std::thread::sleep(Duration::from_micros(if chunk.contains(&0) { 30_000 } else { 100 }));
                chunk
            };
            let mut results = of(threads).begin((0..items).collect(), slow);
            let first = results.next().await.expect("worked").unwrap_or_default();
            let rest = results.rest().await.expect("worked");
            let all: Vec<usize> = first.into_iter().chain(rest.into_iter().flatten()).collect();
            assert_eq!(all, (0..items).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn nobody_works_far_ahead_of_who_takes_it_and_not_at_all_for_who_has_gone() {
        let done = Arc::new(AtomicUsize::new(0));
        let counting = done.clone();
        let work = move |chunk: Vec<usize>| counting.fetch_add(chunk.len(), Ordering::Relaxed);
        let mut results = of(2).begin((0..100 * CHUNK).collect(), work);
        results.next().await.expect("worked");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let ahead = done.load(Ordering::Relaxed);
        assert!(ahead <= (1 + AHEAD + 2 + 2) * CHUNK, "{ahead}");
        drop(results);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(done.load(Ordering::Relaxed) <= ahead + 2 * CHUNK);
    }

    #[tokio::test]
    async fn who_waits_for_a_place_has_one_before_another_is_done() {
        let processors = of(1);
        let slow = |chunk: Vec<usize>| std::thread::sleep(Duration::from_millis(chunk.len() as u64 / 16));
        let mut long = processors.begin((0..200 * CHUNK).collect(), slow);
        long.next().await.expect("worked");
        let short = processors.begin((0..3).collect(), slow).rest();
        let long = async { while long.next().await.expect("worked").is_some() {} };
        tokio::select! {
            biased;
            short = short => drop(short.expect("worked")),
            () = long => panic!("it waited for all of the other's work"),
        }
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_of_who_asked() {
        let bad = |chunk: Vec<usize>| assert!(!chunk.contains(&500));
        assert!(of(2).begin((0..1000).collect(), bad).rest().await.is_err());
        assert!(of(2).begin((0..400).collect(), bad).rest().await.is_ok());
    }
}
