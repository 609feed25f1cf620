//! Syncs: all of it, what one message changed, and nothing new, for somebody in 10, 100 and 1,000 rooms.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Result;
use crate::bench::{Bench, Meter};
use crate::http::Client;
use crate::person::{Person, Sync};
use crate::report::Row;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    for &count in bench.scale.rooms {
        let (person, rooms) = bench.dweller(count).await?;
        measure_rooms(bench, &person, &rooms).await?;
    }
    Ok(())
}

async fn measure_rooms(bench: &mut Bench, person: &Person, rooms: &[String]) -> Result<()> {
    let repeats = bench.scale.repeats as usize;
    let count = rooms.len();
    let mut client = bench.client();

    let mut initial = Timed::default();
    let before = Meter::read(&bench.server)?;
    for _ in 0..repeats {
        initial.sync(&mut client, person, Sync::initial(), count).await?;
    }
    let cpu = Meter::read(&bench.server)?.each_since(&before, repeats);
    bench.report.add(initial.row(format!("initial sync, {count} rooms")).cpu(cpu));

    let mut incremental = Timed::default();
    let mut nothing = Timed::default();
    let mut sender = bench.client();
    let mut since = initial.next_batch;
    for room in rooms.iter().cycle().take(repeats * 3) {
        person.send(&mut sender, room).await?;
        bench.written += 1;
        since = incremental.sync(&mut client, person, Sync::after(&since), 1).await?;
        since = nothing.sync(&mut client, person, Sync::after(&since), 0).await?;
    }
    bench.report.add(incremental.row(format!("sync of one message, {count} rooms")));
    bench.report.add(nothing.row(format!("sync of nothing, {count} rooms")));
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
    /// An answer with fewer or more rooms than there is news of isn't the work that is measured.
    async fn sync(&mut self, client: &mut Client, person: &Person, ask: Sync<'_>, rooms: usize) -> Result<String> {
        let began = Instant::now();
        let answer = person.sync(client, ask).await?;
        self.times.push(began.elapsed());
        self.bytes = answer.len();
        let answer: Answer = serde_json::from_slice(&answer)?;
        if answer.rooms.join.len() != rooms {
            return Err(format!("a sync of {} rooms instead of {rooms}", answer.rooms.join.len()).into());
        }
        self.next_batch.clone_from(&answer.next_batch);
        Ok(answer.next_batch)
    }

    fn row(&mut self, name: String) -> Row {
        Row::new(name).times(&mut self.times).bytes(Some(self.bytes as f64))
    }
}

#[derive(Deserialize)]
struct Answer {
    next_batch: String,
    #[serde(default)]
    rooms: Rooms,
}

#[derive(Deserialize, Default)]
struct Rooms {
    #[serde(default)]
    join: HashMap<String, IgnoredAny>,
}
