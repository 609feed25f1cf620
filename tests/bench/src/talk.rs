//! Between two servers: how long a message is on its way from somebody here to somebody there, and how many a second
//! can be.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::Result;
use crate::bench::{Bench, Meter};
use crate::listener::{Listener, Way};
use crate::pair::Pair;
use crate::person::marks;
use crate::report::Row;

/// Messages before the clock starts.
const WARM_UP: usize = 3;

/// How long a message may be on its way.
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let pair = Pair::start(bench).await?;
    let room = pair.meet().await?;
    let since = Listener::since(&mut pair.at_two(), &pair.bob).await?;
    let mut listener = Listener::open(Way::LongPoll, &pair.two.authority, &pair.bob, &since).await?;

    let mut client = pair.at_one();
    let mut times = Vec::new();
    let mut spent = Meter::of(&[&pair.one, &pair.two])?;
    let until = Instant::now() + bench.scale.window;
    for message in 0.. {
        let began = Instant::now();
        let number = pair.alice.send(&mut client, &room).await?.number;
        arrival(&mut listener, number).await?;
        times.push(began.elapsed());
        if message == WARM_UP {
            times.clear();
            spent = Meter::of(&[&pair.one, &pair.two])?;
        }
        if Instant::now() > until && times.len() > WARM_UP {
            break;
        }
    }
    let cpu = Meter::of(&[&pair.one, &pair.two])?.each_since(&spent, times.len());
    let all: Duration = times.iter().sum();
    let row = Row::new("to another server, one at a time").rate(times.len(), all).cpu(cpu);
    bench.report.add(row.times(&mut times));

    let count = bench.scale.talk;
    let before = Meter::of(&[&pair.one, &pair.two])?;
    let began = Instant::now();
    let last = pair.fill(&room, count).await?;
    let sent = began.elapsed();
    arrival(&mut listener, last).await?;
    let spent = began.elapsed();
    let cpu = Meter::of(&[&pair.one, &pair.two])?.each_since(&before, count);
    let arrived = pair.bob.history(&mut pair.at_two(), &room).await?.len();
    if arrived < count {
        return Err(format!("{arrived} of {count} messages arrived").into());
    }
    let row = Row::new(format!("to another server, {count} from 64 senders")).rate(count, spent).cpu(cpu);
    bench.report.add(row.times(&mut [spent.saturating_sub(sent)]));
    Ok(())
}

/// Waits until a message is there.
pub async fn arrival(listener: &mut Listener<'_>, number: u64) -> Result<()> {
    let waiting = async {
        loop {
            let answer = listener.next().await?;
            if marks(std::str::from_utf8(&answer)?).any(|mark| mark == number) {
                return Ok(());
            }
        }
    };
    timeout(PATIENCE, waiting).await.map_err(|_| format!("message {number} never arrived"))?
}
