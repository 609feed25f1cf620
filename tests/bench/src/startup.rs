//! Start-up: from starting the process to its first answer, with an empty store and with a full one, after an orderly
//! stop and after a kill; and the memory of a server that has just started and does nothing.

use std::time::Duration;

use crate::Result;
use crate::bench::Bench;
use crate::circles::{Circle, fill};
use crate::report::Row;

/// The first start of all, which makes the store, and then starts on the store as it was made.
pub async fn empty(bench: &mut Bench) -> Result<()> {
    let first = bench.server.start(None).await?;
    if bench.server.can_restart() {
        bench.report.add(Row::new("first start of all").times(&mut [first]));
        let mut times = starts(bench, false).await?;
        bench.report.add(Row::new("start, empty store").times(&mut times));
    } else {
        bench.report.add(Row::new("start, empty store"));
    }
    let memory = bench.server.memory_at_rest().await?;
    bench.report.add(Row::new("memory idle, empty store").bytes(memory.map(|bytes| bytes as f64)));
    Ok(())
}

pub async fn full(bench: &mut Bench) -> Result<()> {
    let circles = Circle::first(bench, 8).await?;
    let before = bench.server.disk()?;
    let missing = bench.scale.events.saturating_sub(bench.written);
    if missing > 0 {
        let began = std::time::Instant::now();
        let sent = fill(bench, &circles, missing).await?;
        let each = bench.server.disk()?.zip(before).map(|(after, before)| (after as f64 - before as f64) / sent as f64);
        let row = Row::new(format!("filling up to {} messages", bench.written));
        bench.report.add(row.rate(sent as usize, began.elapsed()).bytes(each));
    }
    let events = bench.written;
    if bench.server.can_restart() {
        for (killed, after) in [(false, "a stop"), (true, "a kill")] {
            let mut times = starts(bench, killed).await?;
            bench.report.add(Row::new(format!("start after {after}, {events} messages")).times(&mut times));
        }
    } else {
        bench.report.add(Row::new(format!("start, {events} messages")));
    }
    let memory = bench.server.memory_at_rest().await?;
    let row = Row::new(format!("memory idle, {events} messages"));
    bench.report.add(row.bytes(memory.map(|bytes| bytes as f64)));
    Ok(())
}

async fn starts(bench: &mut Bench, killed: bool) -> Result<Vec<Duration>> {
    let person = bench.anybody();
    let mut times = Vec::new();
    for _ in 0..bench.scale.repeats {
        if killed {
            bench.server.kill().await?;
        } else {
            bench.server.stop().await?;
        }
        times.push(bench.server.start(person.as_deref()).await?);
    }
    Ok(times)
}
