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
use crate::resident::{Resident, TRANSACTION};

/// People in each room.
const MEMBERS: usize = 100;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let pair = Pair::start(bench).await?;
    for origins in [1, 4] {
        let mut sources = Vec::new();
        for _ in 0..origins {
            let resident = pair.resident().await?;
            let room = resident.make_room(MEMBERS)?;
            pair.alice.join_by(&mut pair.at_one(), &room, resident.name()).await?;
            let (events, last) = resident.write(&room, bench.scale.inbound / origins)?;
            sources.push(Source { resident, room, events, last });
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
    events: Vec<String>,
    last: String,
}

impl Source {
    /// Sends all events, and waits until the last of them can be read: some servers answer before that.
    async fn send(&self, pair: &Pair, deadline: Instant) -> Result<()> {
        let (mut client, began) = (pair.at_one(), Instant::now());
        for batch in self.events.chunks(TRANSACTION) {
            let refused = self.resident.send(&mut client, &pair.one.name, batch).await?;
            if refused > 0 {
                return Err(format!("{refused} events were refused").into());
            }
        }
        let path = format!("{API}/rooms/{}/event/{}", escape(&self.room), escape(&self.last));
        loop {
            let authorization = Some(pair.alice.authorization());
            let call = Call { method: Method::GET, path: &path, authorization, body: Bytes::new() };
            if client.call(&call).await?.status.is_success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err("the last event is never seen".into());
            }
            pause(began).await;
        }
    }
}
