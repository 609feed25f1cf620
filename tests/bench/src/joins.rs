//! Joining rooms of other servers: until one can see the room and speak in it, until everybody in it is known, and the
//! memory that takes. The first join is by way of the benchmark's own resident, the second by way of a server of the
//! kind that is measured.

use std::time::{Duration, Instant};

use crate::Result;
use crate::bench::{Bench, Meter, pause};
use crate::http::Client;
use crate::listener::{Listener, Way};
use crate::pair::Pair;
use crate::person::Person;
use crate::report::Row;
use crate::server::Server;

/// How long it may take until everybody is known.
const PATIENCE: Duration = Duration::from_secs(600);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let pair = Pair::start(bench).await?;
    let resident = pair.resident()?;
    for &members in bench.scale.join_members {
        let room = resident.make_room(members)?;
        let rows = join(&pair.one, &pair.alice, &room, resident.name(), members + 1).await?;
        add(bench, rows, &format!("join of {members} members"));
        let rows = join(&pair.two, &pair.bob, &room, &pair.one.name, members + 2).await?;
        add(bench, rows, &format!("join of {members} members by way of its kind"));
    }
    Ok(())
}

/// Until usable, until complete, and what that took of the server: its processor time, and the memory that it has
/// grown by at most meanwhile.
struct Joined {
    usable: Duration,
    complete: Duration,
    cpu: Option<f64>,
    memory: Option<f64>,
}

fn add(bench: &mut Bench, joined: Joined, name: &str) {
    let Joined { usable, complete, cpu, memory } = joined;
    bench.report.add(Row::new(format!("{name}: usable")).times(&mut [usable]));
    bench.report.add(Row::new(format!("{name}: complete")).times(&mut [complete]).cpu(cpu).bytes(memory));
}

async fn join(server: &Server, person: &Person, room: &str, by: &str, expected: usize) -> Result<Joined> {
    let mut client = Client::new(&server.authority);
    let since = Listener::since(&mut client, person).await?;
    let mut listener = Listener::open(Way::LongPoll, &server.authority, person, &since).await?;
    server.forget_peak()?;
    let before = server.peak()?;
    let spent = Meter::of(&[server])?;
    let began = Instant::now();
    person.join_by(&mut client, room, by).await?;
    // The room's ID stands in quotes as a key of what the person is in, whatever the answer looks like otherwise.
    let key = format!("\"{room}\":");
    while !std::str::from_utf8(&listener.next().await?)?.contains(&key) {}
    person.send(&mut client, room).await?;
    let usable = began.elapsed();
    loop {
        let members = person.count_members(&mut client, room).await?;
        if members == expected {
            break;
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{members} of {expected} members are known").into());
        }
        pause(began).await;
    }
    let complete = began.elapsed();
    let cpu = Meter::of(&[server])?.each_since(&spent, 1);
    let memory = server.peak()?.zip(before).map(|(peak, before)| peak.saturating_sub(before) as f64);
    Ok(Joined { usable, complete, cpu, memory })
}
