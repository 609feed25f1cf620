//! Paging back through a room's history: at its end, and below as many events as the scale says.

use std::time::{Duration, Instant};

use crate::Result;
use crate::bench::{Bench, Meter};
use crate::circles::{Circle, fill};
use crate::report::Row;

/// Pages that are timed at each place, and the events on one.
const PAGES: u64 = 20;
const PAGE: u64 = 100;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let circle = Circle::fresh(bench).await?;
    let circles = std::slice::from_ref(&circle);
    let person = circle.people[0].clone();
    // Enough below the deep place for all pages to be full. The place is sent alone: of messages sent at once, the last
    // to be answered needn't be the last of the room.
    fill(bench, circles, PAGES * PAGE).await?;
    let deep = person.send(&mut bench.client(), &circle.room).await?.event;
    bench.written += 1;
    let depth = fill(bench, circles, bench.scale.depth).await?;

    let from = person.place_of(&mut bench.client(), &circle.room, &deep).await?;
    for (from, depth) in [(None, 0), (Some(from), depth)] {
        let mut from = from;
        let mut client = bench.client();
        let mut times: Vec<Duration> = Vec::new();
        let before = Meter::read(&bench.server)?;
        for _ in 0..PAGES {
            let began = Instant::now();
            let (events, next) = person.page_back(&mut client, &circle.room, from.as_deref()).await?;
            times.push(began.elapsed());
            if events as u64 != PAGE {
                return Err(format!("a page of {events} events instead of {PAGE}").into());
            }
            from = Some(next);
        }
        let cpu = Meter::read(&bench.server)?.each_since(&before, times.len());
        bench.report.add(Row::new(format!("a page of {PAGE} at depth {depth}")).cpu(cpu).times(&mut times));
    }
    Ok(())
}
