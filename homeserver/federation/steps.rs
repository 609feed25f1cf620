//! What is too much for one job of the writer: steps in their order, in as few jobs as hold up nobody else's for
//! long. Knows how much is written and not what.

use std::sync::Arc;

use crate::{
    error::Result,
    store::{Store, WriteTx},
};

/// Items that one job writes at most, which takes it a few milliseconds: what other people's requests wait for.
const PIECE: usize = 400;

/// A part of a job.
type Part = Box<dyn FnMut(&WriteTx) -> Result<()> + Send>;

/// The steps. What is small stands in one job, and so in one commit; of each job all or nothing is done.
#[derive(Default)]
pub struct Steps {
    jobs: Vec<Vec<Part>>,
    /// Items that the last job writes.
    filled: usize,
}

impl Steps {
    /// And then: work on all items of a list, some at a time.
    pub fn each<T: Send + Sync + 'static>(
        mut self,
        items: Vec<T>,
        work: impl Fn(&WriteTx, &[T]) -> Result<()> + Clone + Send + 'static,
    ) -> Self {
        let items = Arc::new(items);
        let mut start = 0;
        while start < items.len() {
            let (part, work) = (items.clone(), work.clone());
            let end = items.len().min(start + self.room());
            self.add(end - start, Box::new(move |tx| work(tx, &part[start..end])));
            start = end;
        }
        self
    }

    /// And then: one thing.
    pub fn then(mut self, work: impl FnMut(&WriteTx) -> Result<()> + Send + 'static) -> Self {
        self.add(1, Box::new(work));
        self
    }

    /// How much is to be added to the last job at most, or if that is full, to the next.
    fn room(&self) -> usize {
        if self.filled < PIECE { PIECE - self.filled } else { PIECE }
    }

    fn add(&mut self, items: usize, part: Part) {
        match self.jobs.last_mut().filter(|_| self.filled < PIECE) {
            Some(job) => {
                job.push(part);
                self.filled += items;
            }
            None => {
                self.jobs.push(vec![part]);
                self.filled = items;
            }
        }
    }

    /// Does all of it, one job after the other. If one fails, those before it are done, and those after it are not.
    pub async fn run(self, store: &Store) -> Result<()> {
        for mut job in self.jobs {
            store.write(move |tx| job.iter_mut().try_for_each(|part| part(tx))).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::{
        error::Error,
        store::{Options, Read},
    };

    /// What was done: the items of a list, or the name of one thing.
    type Done = Arc<Mutex<Vec<Vec<usize>>>>;

    fn note(done: &Done) -> impl Fn(&WriteTx, &[usize]) -> Result<()> + Clone + Send + 'static {
        let done = done.clone();
        move |tx, items| {
            tx.next_pos();
            done.lock().unwrap_or_else(PoisonError::into_inner).push(items.to_vec());
            Ok(())
        }
    }

    #[tokio::test]
    async fn small_steps_share_a_job_long_ones_are_cut_and_none_comes_before_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 16, min_free: 0 };
        let store = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens");
        let done = Done::default();
        let list = |length: usize| (0..length).collect::<Vec<_>>();
        let one = note(&done);
        let steps = Steps::default()
            .each(list(3), note(&done))
            .each(Vec::new(), note(&done))
            .each(list(2 * PIECE), note(&done))
            .then(move |tx| one(tx, &[7]));
        assert_eq!(steps.jobs.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 2]);
        steps.run(&store).await.expect("done");
        let wanted: Vec<Vec<usize>> = vec![
            list(3),
            (0..PIECE - 3).collect(),
            (PIECE - 3..2 * PIECE - 3).collect(),
            (2 * PIECE - 3..2 * PIECE).collect(),
            vec![7],
        ];
        assert_eq!(*done.lock().expect("whole"), wanted);
        let before = store.read(Read::pos).expect("read");
        let failing = Steps::default()
            .each(list(PIECE), note(&done))
            .each(list(3), note(&done))
            .then(|_| Err(Error::forbidden("no")))
            .each(list(PIECE), note(&done));
        assert_eq!(failing.run(&store).await.expect_err("refused").errcode(), "M_FORBIDDEN");
        assert_eq!(store.read(Read::pos).expect("read"), before + 1, "the job before it is done");
    }
}
