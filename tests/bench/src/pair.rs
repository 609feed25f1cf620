//! Two servers of the kind that is measured, which federate over real TLS, started for one measure and gone after it.

use std::rc::Rc;

use tempfile::TempDir;

use crate::bench::Bench;
use crate::circles;
use crate::http::Client;
use crate::person::Person;
use crate::resident::Resident;
use crate::server::Server;
use crate::{Result, hearth};

/// Two servers, with somebody on each.
pub struct Pair {
    pub one: Server,
    pub two: Server,
    pub alice: Rc<Person>,
    pub bob: Rc<Person>,
    certificates: TempDir,
}

impl Pair {
    /// Starts them.
    pub async fn start(bench: &mut Bench) -> Result<Pair> {
        let certificates = hearth::certificates(&bench.server.hearth()?)?;
        let mut servers = Vec::new();
        for _ in 0..2 {
            let mut server = bench.server.another(certificates.path())?;
            if let Err(failure) = server.start(None).await {
                return Err(format!("{failure}\n{}", server.last_words()).into());
            }
            servers.push(server);
        }
        let (Some(two), Some(one)) = (servers.pop(), servers.pop()) else {
            return Err("two servers".into());
        };
        let alice = Person::register(&mut Client::new(&one.authority), "alice", None).await?;
        let bob = Person::register(&mut Client::new(&two.authority), "bob", None).await?;
        Ok(Pair { one, two, alice: Rc::new(alice), bob: Rc::new(bob), certificates })
    }

    /// A server of the benchmark's own beside them.
    pub fn resident(&self) -> Result<Resident> {
        Resident::start(self.certificates.path())
    }

    /// A room of alice's that bob has come into.
    pub async fn meet(&self) -> Result<String> {
        let room = self.alice.create_room(&mut self.at_one(), "Bridge").await?;
        self.bob.join_by(&mut self.at_two(), &room, &self.one.name).await?;
        Ok(room)
    }

    pub fn at_one(&self) -> Client {
        Client::new(&self.one.authority)
    }

    pub fn at_two(&self) -> Client {
        Client::new(&self.two.authority)
    }

    /// Sends `count` messages of alice's from many connections, and then one more, whose number is the answer: the
    /// last of all.
    pub async fn fill(&self, room: &str, count: usize) -> Result<u64> {
        circles::write(&self.one.authority, &self.alice, room, count).await?;
        Ok(self.alice.send(&mut self.at_one(), room).await?.number)
    }
}
