//! Keys of encryption: how many a second can be asked for and claimed, by people of one room of each other.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use crate::Result;
use crate::bench::{Bench, Meter, in_parallel};
use crate::circles::Circle;
use crate::person::{API, Person};
use crate::report::Row;
use crate::signing::Key;

/// One-time keys that each device has for others: as many as a claim for each of them takes.
const ONE_TIME_KEYS: usize = 200;

/// People who ask at once.
const ASKING: usize = 8;

/// They are asked for in uploads of so many, as clients do.
const UPLOAD: usize = 50;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let circle = Circle::fresh(bench).await?;
    let authority = bench.server.authority.clone();
    in_parallel(&authority, &circle.people, async |client, person| {
        let mut keys = device_keys(person)?;
        for upload in 0..ONE_TIME_KEYS / UPLOAD {
            keys["one_time_keys"] = one_time_keys(person, upload * UPLOAD)?;
            person.post(client, &format!("{API}/keys/upload"), &keys).await?;
            keys = json!({});
        }
        Ok(())
    })
    .await?;
    query(bench, &circle).await?;
    claim(bench, &circle).await
}

/// Everybody asks for the keys of all of the room.
async fn query(bench: &mut Bench, circle: &Circle) -> Result<()> {
    let wanted: Map<String, Value> = circle.people.iter().map(|person| (person.id.clone(), json!([]))).collect();
    let body = json!({ "device_keys": wanted });
    let until = Instant::now() + bench.scale.window;
    let before = Meter::read(&bench.server)?;
    let asking = circle.people.iter().take(ASKING).map(async |person| {
        let mut client = bench.client();
        let mut times = Vec::new();
        while Instant::now() < until {
            let began = Instant::now();
            let answer = person.post(&mut client, &format!("{API}/keys/query"), &body).await?;
            times.push(began.elapsed());
            let people = answer["device_keys"].as_object().map_or(0, |people| people.len());
            if people != circle.people.len() {
                return Err(format!("keys of {people} people").into());
            }
        }
        Result::Ok(times)
    });
    let began = Instant::now();
    let times: Vec<Vec<Duration>> = try_join_all(asking).await?;
    add(bench, "queries for the keys of 8 people", &before, began.elapsed(), times)
}

/// Each claims a key of each other, again and again until all keys are gone.
async fn claim(bench: &mut Bench, circle: &Circle) -> Result<()> {
    let left = Cell::new(ONE_TIME_KEYS);
    let before = Meter::read(&bench.server)?;
    let claiming = circle.people.iter().take(ASKING).map(async |person| {
        let mut client = bench.client();
        let mut times = Vec::new();
        while left.get() > 0 {
            left.set(left.get() - 1);
            let wanted: Map<String, Value> = circle
                .people
                .iter()
                .map(|other| (other.id.clone(), json!({other.device.as_str(): "signed_curve25519"})))
                .collect();
            let body = json!({ "one_time_keys": wanted });
            let began = Instant::now();
            let answer = person.post(&mut client, &format!("{API}/keys/claim"), &body).await?;
            times.push(began.elapsed());
            let people = answer["one_time_keys"].as_object().map_or(0, |people| people.len());
            if people != circle.people.len() {
                return Err(format!("claimed keys of {people} people").into());
            }
        }
        Result::Ok(times)
    });
    let began = Instant::now();
    let times = try_join_all(claiming).await?;
    add(bench, "claims of a key of each of 8 people", &before, began.elapsed(), times)
}

fn add(bench: &mut Bench, name: &str, before: &Meter, spent: Duration, times: Vec<Vec<Duration>>) -> Result<()> {
    let mut times: Vec<Duration> = times.into_iter().flatten().collect();
    let cpu = Meter::read(&bench.server)?.each_since(before, times.len());
    bench.report.add(Row::new(name).rate(times.len(), spent).cpu(cpu).times(&mut times));
    Ok(())
}

fn device_keys(person: &Person) -> Result<Value> {
    let (user, device) = (person.id.as_str(), person.device.as_str());
    let key = Key::new(device)?;
    let mut keys = json!({
        "user_id": user,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {format!("curve25519:{device}"): key.public(), key.id(): key.public()},
    });
    key.sign(user, &mut keys);
    Ok(json!({ "device_keys": keys }))
}

fn one_time_keys(person: &Person, first: usize) -> Result<Value> {
    let mut keys = Map::new();
    for number in first..first + UPLOAD {
        let key = Key::new(&person.device)?;
        let mut signed = json!({ "key": key.public() });
        key.sign(&person.id, &mut signed);
        keys.insert(format!("signed_curve25519:{number}"), signed);
    }
    Ok(keys.into())
}
