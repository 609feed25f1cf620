//! Search: something that is said often, and something that was said once, among as many messages as the store holds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::bench::{Bench, Meter, pause};
use crate::circles::{Circle, fill};
use crate::person::{API, Person};
use crate::report::Row;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let circles = Circle::first(bench, 8).await?;
    let missing = bench.scale.events.saturating_sub(bench.written);
    fill(bench, &circles, missing).await?;
    let (person, room) = (circles[0].people[0].clone(), circles[0].room.clone());
    let mut client = bench.client();
    let last = person.send(&mut client, &room).await?.number;
    bench.written += 1;
    let (all, began, deadline) = (bench.written, Instant::now(), bench.deadline());
    while find(bench, &person, &last.to_string()).await?.0 == 0 {
        if Instant::now() > deadline {
            return Err("the newest message can't be found".into());
        }
        pause(began).await;
    }
    let row = Row::new(format!("from a message to finding it, {all} messages"));
    bench.report.add(row.times(&mut [began.elapsed()]));
    for (what, term) in [("a common word", "soup"), ("three common words", "bread oven seven"), ("one message", "")] {
        let mut times = Vec::new();
        let before = Meter::read(&bench.server)?;
        for time in 0..bench.scale.repeats * 3 {
            let term = if term.is_empty() { (last - u64::from(time)).to_string() } else { term.to_owned() };
            let (found, spent) = find(bench, &person, &term).await?;
            if found == 0 && what != "one message" {
                return Err(format!("nobody has said {term:?}").into());
            }
            times.push(spent);
        }
        let cpu = Meter::read(&bench.server)?.each_since(&before, times.len());
        let row = Row::new(format!("search for {what}, {all} messages"));
        bench.report.add(row.cpu(cpu).times(&mut times));
    }
    let memory = bench.server.memory_at_rest().await?;
    let row = Row::new(format!("memory after searching {all} messages"));
    bench.report.add(row.bytes(memory.map(|bytes| bytes as f64)));
    let disk = bench.server.disk()?;
    let row = Row::new(format!("on disk, a message of {all} with its words"));
    bench.report.add(row.bytes(disk.map(|bytes| bytes as f64 / all as f64)));
    Ok(())
}

async fn find(bench: &Bench, person: &Person, term: &str) -> Result<(usize, Duration)> {
    let body = json!({"search_categories": {"room_events": {
        "search_term": term, "keys": ["content.body"], "order_by": "recent", "filter": {"limit": 10},
    }}});
    let mut client = bench.client();
    let began = Instant::now();
    let answer: Value = person.post(&mut client, &format!("{API}/search"), &body).await?;
    let found = &answer["search_categories"]["room_events"]["results"];
    Ok((found.as_array().map_or(0, |found| found.len()), began.elapsed()))
}
