//! Joining rooms of other servers: until one can see the room and speak in it, until everybody in it is known, and the
//! memory that takes. Several rooms of each size are joined, as one by itself says little: each once by way of the
//! benchmark's own resident, then by way of a server of the kind that is measured.

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

/// Rooms of each size.
const ROOMS: usize = 5;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let pair = Pair::start(bench).await?;
    let resident = pair.resident()?;
    for &members in bench.scale.join_members {
        let (mut near, mut by_its_kind) = (Vec::new(), Vec::new());
        for _ in 0..ROOMS {
            let room = resident.make_room(members)?;
            near.push(join(&pair.one, &pair.alice, &room, resident.name(), members + 1).await?);
            by_its_kind.push(join(&pair.two, &pair.bob, &room, &pair.one.name, members + 2).await?);
        }
        add(bench, &near, &format!("join of {members} members"));
        add(bench, &by_its_kind, &format!("join of {members} members by way of its kind"));
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

fn add(bench: &mut Bench, joined: &[Joined], name: &str) {
    let times = |of: fn(&Joined) -> Duration| joined.iter().map(of).collect::<Vec<_>>();
    let most = |of: fn(&Joined) -> Option<f64>| joined.iter().filter_map(of).max_by(f64::total_cmp);
    let cpu: Option<f64> = joined.iter().map(|joined| joined.cpu).sum();
    let cpu = cpu.map(|all| all / joined.len() as f64);
    bench.report.add(Row::new(format!("{name}: usable")).times(&mut times(|joined| joined.usable)));
    let complete = Row::new(format!("{name}: complete")).times(&mut times(|joined| joined.complete));
    bench.report.add(complete.cpu(cpu).bytes(most(|joined| joined.memory)));
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
