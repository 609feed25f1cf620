//! Catching up: a server was away while many messages were sent in a room, comes back, and is asked for all of them.

use std::time::Instant;

use crate::Result;
use crate::bench::{Bench, Meter, pause};
use crate::listener::{Listener, Way};
use crate::pair::Pair;
use crate::report::Row;
use crate::talk::arrival;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let mut pair = Pair::start(bench).await?;
    let room = pair.meet().await?;
    let since = Listener::since(&mut pair.at_two(), &pair.bob).await?;
    let count = bench.scale.catch_up;
    pair.two.stop().await?;
    let last = pair.fill(&room, count).await?;
    pair.two.start(None).await?;

    let before = Meter::of(&[&pair.one, &pair.two])?;
    let (began, deadline) = (Instant::now(), bench.deadline());
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
        if Instant::now() > deadline {
            return Err(format!("{found} of {count} messages are there").into());
        }
        pause(began).await;
    }
    let all = began.elapsed();
    let cpu = Meter::of(&[&pair.one, &pair.two])?.each_since(&before, count);
    bench.report.add(Row::new(format!("back after {count} messages: the newest")).times(&mut [newest]));
    let row = Row::new(format!("back after {count} messages: all of them"));
    bench.report.add(row.rate(count, all).cpu(cpu).times(&mut [all]));
    Ok(())
}
