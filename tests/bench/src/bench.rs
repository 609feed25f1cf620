//! What the measures share: the server, the people registered so far, work done in parallel, and the report.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::try_join_all;
use tokio::time::sleep;

use crate::Result;
use crate::circles::Circle;
use crate::http::{Authority, Client};
use crate::options::{Options, Scale};
use crate::person::Person;
use crate::process;
use crate::report::Report;
use crate::server::Server;

/// Connections that set the scene for a measure: enough for a server to commit together, few enough to be polite.
const WORKERS: usize = 16;

/// Messages in each room of somebody in many rooms, beside the events that create it.
const MESSAGES: usize = 3;

/// What every measure is given.
pub struct Bench {
    pub server: Server,
    pub scale: Scale,
    pub report: Report,
    /// Events that this run has put into the store, as far as they are messages.
    pub written: u64,
    patience: Duration,
    registration_token: Option<String>,
    /// Tells this run's names from those of any run before it on the same server.
    run: String,
    names: usize,
    people: Vec<Rc<Person>>,
    pub circles: Vec<Rc<Circle>>,
    /// Somebody in many rooms, and the rooms.
    dweller: Option<(Rc<Person>, Vec<String>)>,
}

impl Bench {
    /// Everything but the start of the server, which is itself something to measure.
    pub fn prepare(options: &Options) -> Result<Bench> {
        let mut scale = options.scale.scale();
        scale.events = options.events.unwrap_or(scale.events);
        let server = Server::prepare(options)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let what = options.name.clone().unwrap_or_else(|| server.kind());
        let report = Report::new(&what, &process::machine(), scale.name, since.as_secs());
        Ok(Bench {
            server,
            scale,
            report,
            written: 0,
            patience: Duration::from_secs(options.patience),
            registration_token: options.registration_token.clone(),
            run: format!("{:x}", since.as_millis()),
            names: 0,
            people: Vec::new(),
            circles: Vec::new(),
            dweller: None,
        })
    }

    /// When filling something that begins now is given up.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// A connection of its own.
    pub fn client(&self) -> Client {
        Client::new(&self.server.authority)
    }

    /// Somebody who has registered already, if there is anybody.
    pub fn anybody(&self) -> Option<Rc<Person>> {
        self.people.first().cloned()
    }

    /// The first `count` people, registering those who are missing. Hashing their passwords is what takes the time, so
    /// all measures share them.
    pub async fn people(&mut self, count: usize) -> Result<Vec<Rc<Person>>> {
        let missing = count.saturating_sub(self.people.len());
        let new = self.register(missing).await?;
        self.people.extend(new);
        Ok(self.people[..count].to_vec())
    }

    /// Somebody who is in no room.
    pub async fn stranger(&mut self) -> Result<Rc<Person>> {
        // Whoever comes first to a fresh server is its administrator, and in a room for that.
        self.people(1).await?;
        let mut new = self.register(1).await?;
        new.pop().ok_or_else(|| "nobody was registered".into())
    }

    /// Somebody who is in so many rooms, each with a few messages. It is the same person each time, in more rooms than
    /// before, so ask for few first.
    pub async fn dweller(&mut self, count: usize) -> Result<(Rc<Person>, Vec<String>)> {
        let (person, mut rooms) = match self.dweller.take() {
            Some(dweller) => dweller,
            None => (self.stranger().await?, Vec::new()),
        };
        let missing: Vec<usize> = (rooms.len()..count).collect();
        let new = in_parallel(&self.server.authority, &missing, async |client, number| {
            let room = person.create_room(client, &format!("Room {number}")).await?;
            for _ in 0..MESSAGES {
                person.send(client, &room).await?;
            }
            Ok(room)
        })
        .await?;
        self.written += (new.len() * MESSAGES) as u64;
        rooms.extend(new);
        let first = rooms[..count].to_vec();
        self.dweller = Some((person.clone(), rooms));
        Ok((person, first))
    }

    async fn register(&mut self, count: usize) -> Result<Vec<Rc<Person>>> {
        if count >= 100 {
            eprintln!("bench:   registering {count} people");
        }
        let names: Vec<String> =
            (self.names..self.names + count).map(|number| format!("bench-{}-{number}", self.run)).collect();
        self.names += count;
        let token = self.registration_token.as_deref();
        in_parallel(&self.server.authority, &names, async |client, name| {
            Ok(Rc::new(Person::register(client, name, token).await?))
        })
        .await
    }
}

/// Does the same for each item over a few connections; the results are in no particular order.
pub async fn in_parallel<'t, T, R>(
    authority: &Authority,
    items: &'t [T],
    work: impl AsyncFn(&mut Client, &'t T) -> Result<R>,
) -> Result<Vec<R>> {
    let workers = (0..WORKERS).map(async |worker| {
        let mut client = Client::new(authority);
        let mut results = Vec::new();
        for item in items.iter().skip(worker).step_by(WORKERS) {
            results.push(work(&mut client, item).await?);
        }
        Result::Ok(results)
    });
    Ok(try_join_all(workers).await?.into_iter().flatten().collect())
}

/// Waits before it is looked once more whether what began then has come about: longer, the longer it has taken, so
/// that looking costs a slow server no larger share than a fast one, and what is measured is a fiftieth too long at most,
/// or a millisecond.
pub async fn pause(began: Instant) {
    sleep((began.elapsed() / 50).clamp(Duration::from_millis(1), Duration::from_secs(2))).await;
}

/// Processor time of the server and of ourselves at one moment.
pub struct Meter {
    when: Instant,
    server: Option<Duration>,
    own: Option<Duration>,
}

impl Meter {
    pub fn read(server: &Server) -> Result<Meter> {
        Meter::of(&[server])
    }

    /// The same of several servers together.
    pub fn of(servers: &[&Server]) -> Result<Meter> {
        let own = i32::try_from(std::process::id())?;
        let mut spent = Some(Duration::ZERO);
        for server in servers {
            spent = spent.zip(server.cpu()?).map(|(sum, more)| sum + more);
        }
        Ok(Meter { when: Instant::now(), server: spent, own: process::cpu(&[own])? })
    }

    /// The server's milliseconds for each of what was done since `before`. How busy the generator was is only said, for
    /// whoever wonders which of the two was the limit.
    pub fn each_since(&self, before: &Meter, count: usize) -> Option<f64> {
        if let (Some(after), Some(before_own)) = (self.own, before.own) {
            let share = (after - before_own).as_secs_f64() / (self.when - before.when).as_secs_f64();
            eprintln!("bench:   the generator used {:.0} % of a core", share * 100.0);
        }
        let used = self.server?.saturating_sub(before.server?);
        (count > 0).then(|| used.as_secs_f64() * 1000.0 / count as f64)
    }
}
