//! Parked syncs: how much memory each of them costs with its connection, by long-poll and by WebSocket.

use std::cell::Cell;
use std::rc::Rc;

use futures_util::future::try_join_all;

use crate::Result;
use crate::bench::{Bench, in_parallel};
use crate::listener::{Listener, Way};
use crate::person::Person;
use crate::process;
use crate::report::Row;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let people = bench.people(bench.scale.waiting_people).await?;
    for way in Way::ALL {
        for &count in bench.scale.parked {
            let name = format!("each of {count} syncs parked by {}", way.name());
            let bytes = if way.is_spoken_by(&bench.server).await? {
                measure_parked(bench, way, &people, count).await?
            } else {
                None
            };
            bench.report.add(Row::new(name).bytes(bytes));
        }
    }
    Ok(())
}

/// The memory before is that of a server which has just started and has answered everybody once.
async fn measure_parked(bench: &mut Bench, way: Way, people: &[Rc<Person>], count: usize) -> Result<Option<f64>> {
    if count > process::connections() {
        return Err(format!("{count} connections are more than the limit on open files allows").into());
    }
    bench.server.restart().await?;
    let authority = &bench.server.authority;
    let places = in_parallel(authority, people, async |client, person| {
        Ok((person.clone(), Listener::since(client, person).await?))
    })
    .await?;
    let Some(before) = bench.server.memory_at_rest().await? else {
        return Ok(None);
    };

    let places: Vec<_> = places.iter().cycle().take(count).collect();
    let listeners =
        in_parallel(authority, &places, async |_, (person, since)| Listener::open(way, authority, person, since).await)
            .await?;
    let answers = Cell::new(0_usize);
    let waiting = listeners.into_iter().map(async |mut listener| -> Result<()> {
        loop {
            listener.next().await?;
            answers.set(answers.get() + 1);
        }
    });
    let after = tokio::select! {
        after = bench.server.memory_at_rest() => after?,
        Err(failure) = try_join_all(waiting) => return Err(failure),
    };
    if answers.get() > count / 100 {
        let answers = answers.get();
        return Err(format!("{answers} of {count} syncs were answered instead of waiting").into());
    }
    Ok(after.map(|after| (after as f64 - before as f64) / count as f64))
}
