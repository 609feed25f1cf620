//! Events from outside: how many a second a server takes, with their hashes and signatures checked, from one server
//! and from four at once.

use std::time::Instant;

use bytes::Bytes;
use futures_util::future::try_join_all;
use hyper::Method;

use crate::Result;
use crate::bench::{Bench, Meter, pause};
use crate::http::{Call, escape};
use crate::pair::Pair;
use crate::person::API;
use crate::report::Row;
use crate::resident::{Event, Resident, TRANSACTION};

/// People in each room.
const MEMBERS: usize = 100;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let pair = Pair::start(bench).await?;
    for origins in [1, 4] {
        let mut sources = Vec::new();
        for _ in 0..origins {
            let resident = pair.resident()?;
            let room = resident.make_room(MEMBERS)?;
            pair.alice.join_by(&mut pair.at_one(), &room, resident.name()).await?;
            let events = resident.write(&room, bench.scale.inbound / origins)?;
            sources.push(Source { resident, room, events });
        }
        let deadline = bench.deadline();
        let before = Meter::of(&[&pair.one])?;
        let began = Instant::now();
        let sending = sources.iter().map(|source| source.send(&pair, deadline));
        try_join_all(sending).await?;
        let (spent, count) = (began.elapsed(), bench.scale.inbound);
        let cpu = Meter::of(&[&pair.one])?.each_since(&before, count);
        let who = if origins == 1 { "1 server" } else { "4 servers" };
        bench.report.add(Row::new(format!("events taken from {who}")).rate(count, spent).cpu(cpu));
    }
    Ok(())
}

/// A server, and the events of a room of its own that it sends.
struct Source {
    resident: Resident,
    room: String,
    events: Vec<Event>,
}

impl Source {
    /// Sends all events, each transaction once the last event of the one before can be read. Some servers answer
    /// before they have judged what they were sent, and of too much that waits forget all but the newest.
    async fn send(&self, pair: &Pair, deadline: Instant) -> Result<()> {
        let mut client = pair.at_one();
        for batch in self.events.chunks(TRANSACTION) {
            let began = Instant::now();
            let refused = self.resident.send(&mut client, &pair.one.name, batch).await?;
            if refused > 0 {
                return Err(format!("{refused} events were refused").into());
            }
            let last = batch.last().map_or("", |event| event.id.as_str());
            let path = format!("{API}/rooms/{}/event/{}", escape(&self.room), escape(last));
            let authorization = Some(pair.alice.authorization());
            let call = Call { method: Method::GET, path: &path, authorization, body: Bytes::new() };
            while !client.call(&call).await?.status.is_success() {
                if Instant::now() > deadline {
                    return Err("an event is never seen".into());
                }
                pause(began).await;
            }
        }
        Ok(())
    }
}
