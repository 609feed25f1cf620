//! Push: from a message to the moment when the gateway has been told of it for everybody in the room. The gateway is
//! the benchmark's own, which answers at once; nobody syncs, as for people whose telephones sleep.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::Result;
use crate::bench::{Bench, Meter, in_parallel};
use crate::pair::Pair;
use crate::person::{API, Person};
use crate::report::Row;
use crate::resident::Resident;

/// People who are told of each message.
const PEOPLE: usize = 100;

/// Messages before the clock starts.
const WARM_UP: usize = 2;

/// How long one message may take to be told to everybody.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let pair = Pair::start(bench).await?;
    let gateway = pair.resident()?;
    let room = pair.alice.create_room(&mut pair.at_one(), "Dormitory").await?;
    let names: Vec<String> = (0..PEOPLE).map(|number| format!("sleeper-{number}")).collect();
    in_parallel(&pair.one.authority, &names, async |client, name| {
        let person = Person::register(client, name, None).await?;
        person.join(client, &room).await?;
        let pusher = json!({
            "pushkey": name, "kind": "http", "app_id": "bench", "app_display_name": "Bench",
            "device_display_name": "Bench", "lang": "en",
            "data": {"url": format!("https://{}/_matrix/push/v1/notify", gateway.name()), "format": "event_id_only"},
        });
        person.post(client, &format!("{API}/pushers/set"), &pusher).await
    })
    .await?;

    let mut client = pair.at_one();
    let mut times = Vec::new();
    let mut before = Meter::of(&[&pair.one])?;
    let mut until = Instant::now() + bench.scale.window;
    for message in 0.. {
        let (began, told) = (Instant::now(), gateway.told());
        pair.alice.send(&mut client, &room).await?;
        all_told(&gateway, told + PEOPLE).await?;
        times.push(began.elapsed());
        if message == WARM_UP {
            times.clear();
            before = Meter::of(&[&pair.one])?;
            until = Instant::now() + bench.scale.window;
        }
        if Instant::now() > until && times.len() > WARM_UP {
            break;
        }
    }
    let (pushes, spent) = (times.len() * PEOPLE, times.iter().sum());
    let cpu = Meter::of(&[&pair.one])?.each_since(&before, pushes);
    let row = Row::new(format!("pushes to {PEOPLE} people by one gateway")).rate(pushes, spent).cpu(cpu);
    bench.report.add(row.times(&mut times));
    Ok(())
}

async fn all_told(gateway: &Resident, count: usize) -> Result<()> {
    let began = Instant::now();
    while gateway.told() < count {
        if began.elapsed() > PATIENCE {
            return Err(format!("the gateway was told {} of {count} times", gateway.told()).into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
