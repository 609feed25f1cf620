//! Events from outside: how many a second a server takes, with their hashes and signatures checked, from one server
//! and from four at once.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hyper::Method;
use tokio::time::sleep;

use crate::Result;
use crate::bench::{Bench, Meter};
use crate::http::{Call, escape};
use crate::pair::Pair;
use crate::person::API;
use crate::report::Row;
use crate::resident::{Resident, TRANSACTION};

/// People in each room.
const MEMBERS: usize = 100;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let pair = Pair::start(bench).await?;
    for origins in [1, 4] {
        let mut sources = Vec::new();
        for _ in 0..origins {
            let resident = pair.resident().await?;
            let room = resident.make_room(MEMBERS)?;
            pair.alice.join_by(&mut pair.at_one(), &room, resident.name()).await?;
            let (events, last) = resident.write(&room, bench.scale.inbound / origins)?;
            sources.push((resident, room, events, last));
        }
        let before = Meter::of(&[&pair.one])?;
        let began = Instant::now();
        let sending = sources.iter().map(|(resident, room, events, last)| source(&pair, resident, room, events, last));
        try_join_all(sending).await?;
        let (spent, count) = (began.elapsed(), bench.scale.inbound);
        let cpu = Meter::of(&[&pair.one])?.each_since(&before, count);
        let who = if origins == 1 { "1 server" } else { "4 servers" };
        bench.report.add(Row::new(format!("events taken from {who}")).rate(count, spent).cpu(cpu));
    }
    Ok(())
}

/// Sends all events of one server, and waits until the last of them can be read: some servers answer before that.
async fn source(pair: &Pair, resident: &Resident, room: &str, events: &[String], last: &str) -> Result<()> {
    let mut client = pair.at_one();
    for batch in events.chunks(TRANSACTION) {
        let refused = resident.send(&mut client, &pair.one.name, batch).await?;
        if refused > 0 {
            return Err(format!("{refused} events were refused").into());
        }
    }
    let path = format!("{API}/rooms/{}/event/{}", escape(room), escape(last));
    let began = Instant::now();
    loop {
        let authorization = Some(pair.alice.authorization());
        let call = Call { method: Method::GET, path: &path, authorization, body: bytes::Bytes::new() };
        if client.call(&call).await?.status.is_success() {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err("the last event is never seen".into());
        }
        sleep(Duration::from_millis(5)).await;
    }
}
