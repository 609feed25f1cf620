//! Sliding sync, as phones read it: the first page of somebody's room list, and what one message changes in it.

use std::time::Instant;

use serde_json::{Value, json};

use crate::Result;
use crate::bench::{Bench, Meter};
use crate::http::{Client, escape};
use crate::person::Person;
use crate::report::Row;

const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0";

/// Rooms that a phone's screen shows.
const SHOWN: usize = 20;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    for &count in bench.scale.sliding {
        let (person, rooms) = bench.dweller(count).await?;
        measure_rooms(bench, &person, &rooms).await?;
    }
    Ok(())
}

async fn measure_rooms(bench: &mut Bench, person: &Person, rooms: &[String]) -> Result<()> {
    let repeats = bench.scale.repeats as usize;
    let count = rooms.len();
    let mut client = bench.client();
    let mut times = Vec::new();
    let (mut pos, mut bytes) = (String::new(), 0);
    let before = Meter::read(&bench.server)?;
    for _ in 0..repeats {
        let began = Instant::now();
        let answer = person.post(&mut client, PATH, &wish()).await?;
        times.push(began.elapsed());
        expect(&answer, count.min(SHOWN))?;
        pos = place(&answer)?;
        bytes = answer.to_string().len();
    }
    let cpu = Meter::read(&bench.server)?.each_since(&before, repeats);
    let row = Row::new(format!("sliding sync, first page, {count} rooms"));
    bench.report.add(row.cpu(cpu).times(&mut times).bytes(Some(bytes as f64)));

    let mut times = Vec::new();
    let mut sender = bench.client();
    // The rooms are ordered by what was last said in them: a message in any of them brings it onto the page.
    for room in rooms.iter().cycle().take(repeats * 3) {
        person.send(&mut sender, room).await?;
        bench.written += 1;
        let (next, time) = update(&mut client, person, &pos).await?;
        pos = next;
        times.push(time);
    }
    bench.report.add(Row::new(format!("sliding sync of one message, {count} rooms")).times(&mut times));
    Ok(())
}

/// A server may say what it knows in more than one answer; the time is that of the one with the room.
async fn update(client: &mut Client, person: &Person, pos: &str) -> Result<(String, std::time::Duration)> {
    let path = format!("{PATH}&pos={}", escape(pos));
    let began = Instant::now();
    let answer = person.post(client, &path, &wish()).await?;
    let time = began.elapsed();
    expect(&answer, 1)?;
    Ok((place(&answer)?, time))
}

fn expect(answer: &Value, rooms: usize) -> Result<()> {
    let shown = answer["rooms"].as_object().map_or(0, |rooms| rooms.len());
    if shown != rooms {
        return Err(format!("a sliding sync of {shown} rooms instead of {rooms}").into());
    }
    Ok(())
}

fn place(answer: &Value) -> Result<String> {
    Ok(answer["pos"].as_str().ok_or("a sliding sync without pos")?.to_owned())
}

/// What a client's room list asks for.
fn wish() -> Value {
    json!({
        "conn_id": "room-list",
        "lists": {"all": {
            "ranges": [[0, SHOWN - 1]],
            "timeline_limit": 1,
            "required_state": [
                ["m.room.create", ""], ["m.room.name", ""], ["m.room.avatar", ""], ["m.room.canonical_alias", ""],
                ["m.room.encryption", ""], ["m.room.join_rules", ""], ["m.room.power_levels", ""],
                ["m.room.member", "$ME"], ["m.room.member", "$LAZY"],
            ],
        }},
        "extensions": {
            "to_device": {"enabled": true}, "e2ee": {"enabled": true}, "account_data": {"enabled": true},
            "receipts": {"enabled": true}, "typing": {"enabled": true},
        },
    })
}
