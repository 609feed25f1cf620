//! Telling a service what happens: a loop for each, in order, one transaction at a time, each written down
//! before it is first sent, so that a retry is the same after a crash too. A service that can't be reached
//! is tried again, ever more rarely, and holds nobody up.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use ruma::OwnedUserId;
use tokio::sync::watch;

use super::{
    News, Service, Sources,
    ask::{Calls, Failure},
    gather::{self, Batch, Told},
    interest::Interest,
};
use crate::{
    base::{Pos, clock},
    e2ee::to_device,
    error::{Error, Result},
    store::{
        Read, WriteTx,
        rows::{ServiceRow, TryingRow},
        tables,
    },
};

/// How long one transaction may take: a bridge speaks to its network meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// The wait after the first failure, which doubles with each further one, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Positions without anything for a service after which it is written down that there was nothing.
const MAX_UNWRITTEN: Pos = 1000;

/// How it stands with a service.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Up to where it has been told.
    pub told: Pos,
    /// Since when it can't be told, milliseconds.
    pub failing_since: Option<u64>,
    /// How often in a row it could not.
    pub failures: u32,
    /// Why not, the last time.
    pub error: Option<String>,
    /// It has called since.
    pub(super) heard: bool,
}

/// Tells one service, until the server is to stop.
pub(super) async fn run(service: Arc<Service>, calls: Calls, sources: Sources, mut stop: watch::Receiver<bool>) {
    if service.told.url.is_none() {
        return;
    }
    let mut teller = Teller::new(service.clone(), calls, sources);
    loop {
        let turn = tokio::select! {
            turn = teller.turn() => turn,
            // An error says that nobody is left to ask for it, which means the same.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let wait = match turn {
            Ok(Turn::More) => continue,
            Ok(Turn::Idle) => None,
            Ok(Turn::Failed(wait)) => Some(wait),
            Err(error) => {
                let id = &service.told.id;
                tracing::warn!(service = id, %error, "can't go on telling the application service {id}");
                Some(LONGEST_WAIT)
            }
        };
        tokio::select! {
            () = rest(&service, wait) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Waits until there may be something to tell; after a failure for so long, or until the service calls.
async fn rest(service: &Service, wait: Option<Duration>) {
    let Some(wait) = wait else { return service.bell.notified().await };
    let heard = async {
        while !std::mem::take(&mut service.health.lock().unwrap_or_else(PoisonError::into_inner).heard) {
            service.bell.notified().await;
        }
    };
    tokio::select! {
        () = heard => {}
        () = tokio::time::sleep(wait) => {}
    }
}

enum Turn {
    /// There may be more.
    More,
    /// There is no more.
    Idle,
    /// It could not be told; to be tried again after so long.
    Failed(Duration),
}

struct Teller {
    service: Arc<Service>,
    calls: Calls,
    sources: Sources,
    interest: Interest,
    /// Up to where it has been told; none until that was read.
    told: Option<Told>,
    /// The number of the last transaction that it has taken.
    number: u64,
    /// The transaction that was being told when the server ended.
    fixed: Option<TryingRow>,
    /// How far of this is on disk.
    written: Pos,
    /// It was told more than is on disk.
    unwritten: bool,
    pending: Option<Pending>,
}

/// A transaction that it has not taken yet.
struct Pending {
    body: String,
    told: Told,
    recipients: Vec<(OwnedUserId, String)>,
}

impl Teller {
    fn new(service: Arc<Service>, calls: Calls, sources: Sources) -> Self {
        let (interest, told, fixed, pending) = (Interest::default(), None, None, None);
        Self { service, calls, sources, interest, told, number: 0, fixed, written: 0, unwritten: false, pending }
    }

    /// One step forward.
    async fn turn(&mut self) -> Result<Turn> {
        let told = match self.told {
            Some(told) => told,
            None => self.open().await?,
        };
        if self.pending.is_none() {
            let (batch, left) = self.look(told).await?;
            self.leave(left);
            let more = batch.more;
            if !self.prepare(told, batch).await? {
                return Ok(if more { Turn::More } else { Turn::Idle });
            }
        }
        let Some(pending) = &self.pending else { return Ok(Turn::Idle) };
        let path = format!("/_matrix/app/v1/transactions/{}", self.number + 1);
        match self.calls.put(&self.service, &path, pending.body.clone(), PATIENCE).await {
            Ok(()) => self.taken().await.map(|()| Turn::More),
            Err(failure) => Ok(Turn::Failed(self.failed(&failure))),
        }
    }

    /// Takes up what was left; a service that is new is told from now on.
    async fn open(&mut self) -> Result<Told> {
        let id = self.service.told.id.clone();
        let begin = move |tx: &WriteTx| {
            if let Some(row) = tables::APP_SERVICES.get(tx, id.as_str())? {
                return Ok((row, tx.pos()?));
            }
            // Numbers begin where no earlier database has given any.
            let now = tx.pos()?;
            let row = ServiceRow { events: now, messages: now, number: clock::now_ms(), trying: None };
            tables::APP_SERVICES.put(tx, id.as_str(), &row)?;
            Ok((row, now))
        };
        let (row, now) = self.sources.store.write(begin).await?;
        let told = Told { events: row.events, messages: row.messages, receipts: now, presence: 0 };
        (self.told, self.number, self.fixed, self.written) = (Some(told), row.number, row.trying, row.events);
        self.health(|health| health.told = row.events);
        Ok(told)
    }

    /// What there is for it, and what of the news is left.
    async fn look(&mut self, told: Told) -> Result<(Batch, News)> {
        let mut news = {
            let mut noted = self.service.news();
            let upto = noted.upto;
            std::mem::replace(&mut *noted, News { upto, ..News::default() })
        };
        let (service, sources, fixed) = (self.service.clone(), self.sources.clone(), self.fixed);
        let mut interest = std::mem::take(&mut self.interest);
        let work = move || {
            let looked = sources
                .store
                .read(|tx| gather::gather(tx, (&service, &sources), &mut interest, (told, &mut news, fixed)));
            (looked, interest, news)
        };
        let (looked, interest, news) = tokio::task::spawn_blocking(work).await.map_err(Error::internal)?;
        self.interest = interest;
        match looked {
            Ok(batch) => Ok((batch, news)),
            Err(error) => {
                self.leave(News { all_users: true, ..news });
                Err(error)
            }
        }
    }

    /// Notes what is still to be told.
    fn leave(&self, left: News) {
        let mut news = self.service.news();
        news.rooms.extend(left.rooms);
        news.users.extend(left.users);
        news.all_users |= left.all_users;
        news.presence |= left.presence;
    }

    /// Writes down what it is going to be told. False if that is nothing.
    async fn prepare(&mut self, before: Told, batch: Batch) -> Result<bool> {
        let after = batch.told;
        let Some(body) = batch.body else {
            if self.fixed.take().is_some() {
                (self.number, self.unwritten) = (self.number + 1, true);
            }
            self.told = Some(after);
            if self.unwritten || after.events > self.written + MAX_UNWRITTEN {
                self.write(after, None, Vec::new()).await?;
            }
            self.health(|health| health.told = after.events);
            return Ok(false);
        };
        if self.fixed.take().is_none() {
            let trying = TryingRow { events: after.events, messages: after.messages };
            self.write(before, Some(trying), Vec::new()).await?;
        }
        self.pending = Some(Pending { body, told: after, recipients: batch.recipients });
        Ok(true)
    }

    /// It has it, and is not told it again.
    async fn taken(&mut self) -> Result<()> {
        let Some(Pending { told, recipients, .. }) = self.pending.take() else { return Ok(()) };
        (self.told, self.unwritten) = (Some(told), true);
        self.number += 1;
        let recovered = self.health(|health| {
            let failed = health.failing_since.is_some();
            *health = Health { told: told.events, ..Health::default() };
            failed
        });
        if recovered {
            let id = &self.service.told.id;
            tracing::info!(service = id, "the application service {id} is told again what happens");
        }
        // A service that asks for messages by syncing as well is given them there too.
        match self.service.told.encryption && !recipients.is_empty() {
            true => self.write(told, None, recipients).await,
            false => Ok(()),
        }
    }

    fn failed(&self, failure: &Failure) -> Duration {
        let id = &self.service.told.id;
        let failures = self.health(|health| {
            health.failing_since.get_or_insert_with(clock::now_ms);
            health.failures = health.failures.saturating_add(1);
            health.error = Some(failure.to_string());
            health.failures
        });
        let wait = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_WAIT);
        match failures {
            1 | 6 => tracing::warn!(service = id, %failure, failures, "can't tell the application service {id}"),
            _ => tracing::debug!(service = id, %failure, failures, "can't tell the application service {id}"),
        }
        wait
    }

    async fn write(
        &mut self,
        told: Told,
        trying: Option<TryingRow>,
        received: Vec<(OwnedUserId, String)>,
    ) -> Result<()> {
        let row = ServiceRow { events: told.events, messages: told.messages, number: self.number, trying };
        let id = self.service.told.id.clone();
        let write = move |tx: &WriteTx| {
            for (user, device) in &received {
                to_device::acknowledge(tx, user, device, row.messages)?;
            }
            tables::APP_SERVICES.put(tx, id.as_str(), &row)
        };
        self.sources.store.write(write).await?;
        (self.written, self.unwritten) = (told.events, false);
        Ok(())
    }

    fn health<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        change(&mut self.service.health.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
