//! Catching up: a server was away while many messages were sent in a room, comes back, and is asked for all of them.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Result;
use crate::bench::Bench;
use crate::listener::{Listener, Way};
use crate::pair::Pair;
use crate::report::Row;
use crate::talk::arrival;

/// How long it may take until everything is there.
const PATIENCE: Duration = Duration::from_secs(900);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let mut pair = Pair::start(bench).await?;
    let room = pair.meet().await?;
    let since = Listener::since(&mut pair.at_two(), &pair.bob).await?;
    let count = bench.scale.catch_up;
    pair.two.stop().await?;
    let last = pair.fill(&room, count).await?;
    pair.two.start(None).await?;

    let began = Instant::now();
    let mut listener = Listener::open(Way::LongPoll, &pair.two.authority, &pair.bob, &since).await?;
    // Whoever is back says something, which tells the others that they are.
    pair.bob.send(&mut pair.at_two(), &room).await?;
    arrival(&mut listener, last).await?;
    let newest = began.elapsed();
    loop {
        let found = pair.bob.history(&mut pair.at_two(), &room).await?.len();
        if found >= count {
            break;
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{found} of {count} messages are there").into());
        }
        sleep(Duration::from_millis(100)).await;
    }
    let all = began.elapsed();
    bench.report.add(Row::new(format!("back after {count} messages: the newest")).times(&mut [newest]));
    let row = Row::new(format!("back after {count} messages: all of them"));
    bench.report.add(row.rate(count, all).times(&mut [all]));
    Ok(())
}
