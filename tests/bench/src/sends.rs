//! Sends: how many a second from 1, 16 and 64 people who each send as fast as they are answered, how long one takes,
//! and what it costs the server.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::time::sleep_until;

use crate::Result;
use crate::bench::{Bench, Meter};
use crate::circles::Circle;
use crate::report::Row;

/// Before the clock starts: connections are opened and caches warm.
const WARM_UP: Duration = Duration::from_secs(1);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    for &senders in bench.scale.senders {
        measure_senders(bench, senders).await?;
    }
    Ok(())
}

/// The senders are spread over eight rooms of eight people, whatever their number, so that a send is the same work in
/// each row.
async fn measure_senders(bench: &mut Bench, senders: usize) -> Result<()> {
    let circles = Circle::first(bench, 8).await?;
    let from = Instant::now() + WARM_UP;
    let until = from + bench.scale.window;
    let server = &bench.server;
    let sending = (0..senders).map(async |sender| {
        let circle = &circles[sender % circles.len()];
        let person = &circle.people[sender / circles.len() % circle.people.len()];
        let mut client = bench.client();
        let mut times = Vec::new();
        let mut sent = 0;
        while Instant::now() < until {
            let began = Instant::now();
            person.send(&mut client, &circle.room).await?;
            sent += 1;
            let ended = Instant::now();
            if ended > from && ended <= until {
                times.push(ended - began);
            }
        }
        Result::Ok((sent, times))
    });
    let costing = async {
        sleep_until(from.into()).await;
        let before = Meter::read(server)?;
        sleep_until(until.into()).await;
        Result::Ok((before, Meter::read(server)?))
    };
    let (sent, (before, after)) = tokio::try_join!(try_join_all(sending), costing)?;
    bench.written += sent.iter().map(|(count, _)| count).sum::<u64>();
    let mut times: Vec<Duration> = sent.into_iter().flat_map(|(_, times)| times).collect();
    let people = if senders == 1 { "sender" } else { "senders" };
    let row = Row::new(format!("sends, {senders} {people}"))
        .rate(times.len(), bench.scale.window)
        .cpu(after.each_since(&before, times.len()))
        .times(&mut times);
    bench.report.add(row);
    Ok(())
}
