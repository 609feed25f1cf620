//! Syncs: all of it, what one message changed, and nothing new, for somebody in 10, 100 and 1,000 rooms.

use std::time::{Duration, Instant};

use crate::Result;
use crate::bench::{Bench, cpu_each, in_parallel};
use crate::circles::MESSAGE;
use crate::http::Client;
use crate::person::{Person, Sync, next_batch};
use crate::report::Row;

/// Messages in each room, beside the events that create it.
const MESSAGES: usize = 3;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let person = bench.stranger().await?;
    let mut rooms = Vec::new();
    for &count in bench.scale.rooms {
        let missing: Vec<usize> = (rooms.len()..count).collect();
        let new = in_parallel(&bench.server.authority, &missing, async |client, number| {
            let room = person
                .create_room(client, &format!("Room {number}"))
                .await?;
            for _ in 0..MESSAGES {
                person.send(client, &room, MESSAGE).await?;
            }
            Ok(room)
        })
        .await?;
        bench.written += (new.len() * MESSAGES) as u64;
        rooms.extend(new);
        measure_rooms(bench, &person, &rooms).await?;
    }
    Ok(())
}

async fn measure_rooms(bench: &mut Bench, person: &Person, rooms: &[String]) -> Result<()> {
    let repeats = bench.scale.repeats;
    let count = rooms.len();
    let mut client = bench.client();

    let mut initial = Timed::default();
    let before = bench.server.cpu()?;
    for repeat in 0..repeats {
        // A server may keep answers to give them again; another limit each time asks for another answer.
        let ask = Sync {
            since: None,
            timeout: 0,
            events: 20 + repeat,
        };
        initial.sync(&mut client, person, &ask).await?;
    }
    let cpu = cpu_each(before, bench.server.cpu()?, repeats as usize);
    bench
        .report
        .add(initial.row(format!("initial sync, {count} rooms")).cpu(cpu));

    let mut incremental = Timed::default();
    let mut nothing = Timed::default();
    let mut sender = bench.client();
    let mut since = initial.next_batch;
    for room in rooms.iter().cycle().take(repeats as usize * 3) {
        person.send(&mut sender, room, MESSAGE).await?;
        bench.written += 1;
        incremental
            .sync(
                &mut client,
                person,
                &Sync {
                    since: Some(&since),
                    timeout: 0,
                    events: 20,
                },
            )
            .await?;
        since.clone_from(&incremental.next_batch);
        nothing
            .sync(
                &mut client,
                person,
                &Sync {
                    since: Some(&since),
                    timeout: 0,
                    events: 20,
                },
            )
            .await?;
        since.clone_from(&nothing.next_batch);
    }
    bench
        .report
        .add(incremental.row(format!("sync of one message, {count} rooms")));
    bench
        .report
        .add(nothing.row(format!("sync of nothing, {count} rooms")));
    Ok(())
}

/// Syncs that were timed, and where the last one ended.
#[derive(Default)]
struct Timed {
    times: Vec<Duration>,
    bytes: usize,
    next_batch: String,
}

impl Timed {
    async fn sync(&mut self, client: &mut Client, person: &Person, ask: &Sync<'_>) -> Result<()> {
        let began = Instant::now();
        let answer = person.sync(client, ask).await?;
        self.times.push(began.elapsed());
        self.bytes = answer.len();
        self.next_batch = next_batch(&answer)?;
        Ok(())
    }

    fn row(&mut self, name: String) -> Row {
        Row::new(name)
            .times(&mut self.times)
            .bytes(Some(self.bytes as f64))
    }
}
