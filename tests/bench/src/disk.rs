//! Disk: what a message takes, and what a membership change takes in a room of many members. The server is stopped
//! and started before each reading, if it is ours, so that all it will write is written.

use std::rc::Rc;

use crate::Result;
use crate::bench::{Bench, in_parallel};
use crate::circles::{Circle, fill};
use crate::person::Person;
use crate::report::Row;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    if bench.server.disk()?.is_none() {
        bench.report.add(Row::new("a message on disk"));
        bench.report.add(Row::new("a membership change on disk"));
        return Ok(());
    }
    messages(bench).await?;
    memberships(bench).await
}

async fn messages(bench: &mut Bench) -> Result<()> {
    let circle = Circle::fresh(bench).await?;
    let before = settled(bench).await?;
    let sent = fill(bench, &[circle], bench.scale.disk_messages).await?;
    let bytes = settled(bench).await? - before;
    bench.report.add(Row::new("a message on disk").bytes(Some(bytes / sent as f64)));
    Ok(())
}

async fn memberships(bench: &mut Bench) -> Result<()> {
    let members = bench.scale.members;
    let people = bench.people(members).await?;
    let room = people[0].create_room(&mut bench.client(), "Square").await?;
    let authority = bench.server.authority.clone();
    in_parallel(&authority, &people[1..], async |client, person| person.join(client, &room).await).await?;

    let before = settled(bench).await?;
    let movers: &[Rc<Person>] = &people[1..members.min(bench.scale.membership_changes / 2 + 1)];
    in_parallel(&authority, movers, async |client, person| {
        person.leave(client, &room).await?;
        person.join(client, &room).await
    })
    .await?;
    let bytes = settled(bench).await? - before;
    let name = format!("a membership change on disk, {members} members");
    bench.report.add(Row::new(name).bytes(Some(bytes / (movers.len() * 2) as f64)));
    Ok(())
}

async fn settled(bench: &mut Bench) -> Result<f64> {
    bench.server.restart().await?;
    let bytes = bench.server.disk()?.ok_or("nobody says where the data is")?;
    Ok(bytes as f64)
}
