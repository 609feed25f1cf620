//! Rooms of eight people, which most messages of the benchmark are sent in, and filling them quickly.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::Result;
use crate::bench::{Bench, in_parallel};
use crate::http::{Authority, Client};
use crate::person::Person;

const SIZE: usize = 8;

/// Connections that fill rooms.
const WRITERS: usize = 128;

/// A room and its people.
pub struct Circle {
    pub room: String,
    pub people: Vec<Rc<Person>>,
}

impl Circle {
    /// The first `count` rooms of the run, each with eight people of its own, made if they are missing.
    pub async fn first(bench: &mut Bench, count: usize) -> Result<Vec<Rc<Circle>>> {
        let everybody = bench.people(SIZE * count).await?;
        for people in everybody.chunks(SIZE).skip(bench.circles.len()) {
            let circle = Circle::of(bench, people.to_vec()).await?;
            bench.circles.push(Rc::new(circle));
        }
        Ok(bench.circles[..count].to_vec())
    }

    /// A new room of the first eight people.
    pub async fn fresh(bench: &mut Bench) -> Result<Rc<Circle>> {
        let people = bench.people(SIZE).await?;
        Ok(Rc::new(Circle::of(bench, people).await?))
    }

    async fn of(bench: &Bench, people: Vec<Rc<Person>>) -> Result<Circle> {
        let [first, others @ ..] = people.as_slice() else {
            return Err("a room needs somebody".into());
        };
        let room = first.create_room(&mut bench.client(), "Kitchen").await?;
        in_parallel(&bench.server.authority, others, async |client, person| person.join(client, &room).await).await?;
        Ok(Circle { room, people })
    }
}

/// Sends `count` messages to these rooms over many connections, or as many as can be sent in time. The answer is how
/// many.
pub async fn fill(bench: &mut Bench, circles: &[Rc<Circle>], count: u64) -> Result<u64> {
    let deadline = bench.deadline();
    let left = Cell::new(count);
    let writers = (0..WRITERS).map(async |writer| {
        let circle = &circles[writer % circles.len()];
        let person = &circle.people[writer / circles.len() % circle.people.len()];
        let mut client = bench.client();
        while left.get() > 0 && Instant::now() < deadline {
            left.set(left.get() - 1);
            person.send(&mut client, &circle.room).await?;
        }
        Result::Ok(())
    });
    try_join_all(writers).await?;
    let sent = count - left.get();
    bench.written += sent;
    Ok(sent)
}

/// Sends `count` messages of one person's to one room over many connections.
pub async fn write(authority: &Authority, person: &Person, room: &str, count: usize) -> Result<()> {
    let left = Cell::new(count);
    let writers = (0..WRITERS / 2).map(async |_| {
        let mut client = Client::new(authority);
        while left.get() > 0 {
            left.set(left.get() - 1);
            person.send(&mut client, room).await?;
        }
        Result::Ok(())
    });
    try_join_all(writers).await?;
    Ok(())
}
