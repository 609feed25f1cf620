//! Deliveries: from the moment before a send to the moment when each of the listening people has it, by long-poll and
//! by WebSocket.
//!
//! The next message is sent when everybody has the last one, so that each delivery is an answer of its own and never
//! one of several that were folded together. The processor time of a delivery includes its share of the send.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout_at};

use crate::Result;
use crate::bench::{Bench, Meter, in_parallel};
use crate::listener::{Listener, Way};
use crate::person::{Person, marks};
use crate::report::Row;

/// Messages before the clock starts.
const WARM_UP: usize = 2;

/// The fewest messages measured, however slow the server is.
const FEWEST: usize = 3;

/// How long a message may be on its way to the last listener before the measure has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Number of a message, and when a listener had it.
type Arrival = (u64, Instant);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let sender = bench.stranger().await?;
    let room = sender.create_room(&mut bench.client(), "Hall").await?;
    let mut joined = 0;
    for &count in bench.scale.listening {
        let people = bench.people(count).await?;
        in_parallel(&bench.server.authority, &people[joined..], async |client, person| {
            person.join(client, &room).await
        })
        .await?;
        joined = count;
        for way in Way::ALL {
            let name = format!("deliveries to {count} by {}", way.name());
            let row = if way.is_spoken_by(&bench.server).await? {
                measure_way(bench, way, &sender, &room, count).await?
            } else {
                Row::default()
            };
            bench.report.add(Row { name, ..row });
        }
    }
    Ok(())
}

async fn measure_way(bench: &mut Bench, way: Way, sender: &Person, room: &str, count: usize) -> Result<Row> {
    let people = bench.people(count).await?;
    let authority = &bench.server.authority;
    let listeners = in_parallel(authority, &people, async |client, person| {
        let since = Listener::since(client, person).await?;
        Listener::open(way, authority, person, &since).await
    })
    .await?;
    let (arrived, arrivals) = unbounded_channel();
    let listening = listeners.into_iter().map(|listener| listen(listener, arrived.clone()));
    let written = Cell::new(0);
    let row = tokio::select! {
        row = send_and_wait(bench, sender, room, count, arrivals, &written) => row,
        // Listeners end only by an error.
        Err(failure) = try_join_all(listening) => Err(failure),
    };
    bench.written += written.get();
    row
}

async fn listen(mut listener: Listener<'_>, arrived: UnboundedSender<Arrival>) -> Result<()> {
    loop {
        let answer = listener.next().await?;
        let now = Instant::now();
        for number in marks(std::str::from_utf8(&answer)?) {
            // Nobody counts any more once the measure is over.
            let _ = arrived.send((number, now));
        }
    }
}

async fn send_and_wait(
    bench: &Bench,
    sender: &Person,
    room: &str,
    count: usize,
    mut arrivals: UnboundedReceiver<Arrival>,
    written: &Cell<u64>,
) -> Result<Row> {
    let mut client = bench.client();
    let mut times = Vec::new();
    let mut spent = Duration::ZERO;
    // Long-polls are asked for after the last answer was read: let them all be there.
    sleep(Duration::from_millis(500)).await;
    let mut before = Meter::read(&bench.server)?;
    for message in 1.. {
        let began = Instant::now();
        let number = sender.send(&mut client, room).await?.number;
        written.set(written.get() + 1);
        let ended = wait_for(number, count, began, &mut arrivals, &mut times).await?;
        spent += ended - began;
        if message == WARM_UP {
            times.clear();
            spent = Duration::ZERO;
            before = Meter::read(&bench.server)?;
        }
        if message >= WARM_UP + FEWEST && spent > bench.scale.window {
            break;
        }
    }
    let after = Meter::read(&bench.server)?;
    let row = Row::new("").rate(times.len(), spent).cpu(after.each_since(&before, times.len()));
    Ok(row.times(&mut times))
}

/// Waits until everybody has the message; the answer is when the last one had it.
async fn wait_for(
    number: u64,
    count: usize,
    began: Instant,
    arrivals: &mut UnboundedReceiver<Arrival>,
    times: &mut Vec<Duration>,
) -> Result<Instant> {
    let mut last = began;
    for arrived in 0..count {
        loop {
            match timeout_at((began + PATIENCE).into(), arrivals.recv()).await {
                Ok(Some((which, when))) if which == number => {
                    times.push(when - began);
                    last = last.max(when);
                    break;
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err("all listeners have ended".into()),
                Err(_) => {
                    return Err(format!("a message reached {arrived} of {count} people").into());
                }
            }
        }
    }
    Ok(last)
}
