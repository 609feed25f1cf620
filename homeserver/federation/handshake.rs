//! What joining, leaving and knocking through another server have in common: one of them at a time for each
//! room, and several servers asked in turn, of which a silent one keeps nobody waiting for long.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName};
use tokio::{
    sync::OwnedMutexGuard,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::Failure;
use crate::{
    error::{Error, Result},
    rooms::room,
};

/// Servers that are asked for one thing at most.
const MAX_ASKED: usize = 20;
/// How long a server may be silent before the next one is asked too.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all of them together may take.
const TIME: Duration = Duration::from_secs(60);
/// Rooms beyond which it is looked for those that nobody enters any more.
const MANY_ROOMS: usize = 64;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Whose turn it is to enter a room, or to go away from its door.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<OwnedRoomId, Lock>>);

impl Turns {
    /// Waits until nobody else is at it, and keeps others waiting for as long as what is returned lives.
    pub async fn take(&self, room: &RoomId) -> OwnedMutexGuard<()> {
        let lock = self.lock(room);
        lock.lock_owned().await
    }

    /// Waits until nobody enters the room. What comes for it meanwhile would find it closed.
    pub async fn settled(&self, room: &RoomId) {
        let lock = self.rooms().get(room).cloned();
        if let Some(lock) = lock {
            drop(lock.lock().await);
        }
    }

    fn lock(&self, room: &RoomId) -> Lock {
        let mut rooms = self.rooms();
        if rooms.len() >= MANY_ROOMS {
            rooms.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        rooms.entry(room.to_owned()).or_default().clone()
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<OwnedRoomId, Lock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same question to several servers.
pub struct Attempts<T, F> {
    ask: F,
    left: VecDeque<OwnedServerName>,
    running: JoinSet<(OwnedServerName, Result<T>)>,
    patience: Duration,
    /// How long it may still be waited for answers.
    time: Duration,
    worst: Option<Error>,
}

impl<T, F, Fut> Attempts<T, F>
where
    T: Send + 'static,
    F: Fn(OwnedServerName) -> Fut,
    Fut: Future<Output = Result<T>> + Send + 'static,
{
    /// Asks `servers`, the first one first.
    pub fn new(servers: Vec<OwnedServerName>, ask: F) -> Self {
        Self::within(PATIENCE, TIME, servers, ask)
    }

    fn within(patience: Duration, time: Duration, servers: Vec<OwnedServerName>, ask: F) -> Self {
        let mut left: VecDeque<OwnedServerName> = VecDeque::new();
        for server in servers {
            if left.len() < MAX_ASKED && !left.contains(&server) {
                left.push_back(server);
            }
        }
        Self { ask, left, running: JoinSet::new(), patience, time, worst: None }
    }

    /// The next answer that came. None if there is no further one.
    pub async fn next(&mut self) -> Option<(OwnedServerName, T)> {
        // What is done with an answer takes nothing from the time that the others have.
        let began = Instant::now();
        let found = self.next_until(began + self.time).await;
        self.time = self.time.saturating_sub(began.elapsed());
        found
    }

    /// Whether there are others whom to ask, or who have been asked.
    pub fn has_others(&self) -> bool {
        !self.left.is_empty() || !self.running.is_empty()
    }

    async fn next_until(&mut self, until: Instant) -> Option<(OwnedServerName, T)> {
        loop {
            if self.running.is_empty() && !self.start() {
                return None;
            }
            let more = !self.left.is_empty();
            let done = tokio::select! {
                done = timeout_at(until, self.running.join_next()) => match done {
                    Ok(done) => done,
                    Err(_) => {
                        self.running.abort_all();
                        self.left.clear();
                        self.note(Error::bad_gateway("no other server answered in time"));
                        return None;
                    }
                },
                () = sleep(self.patience), if more => {
                    self.start();
                    continue;
                }
            };
            match done {
                Some(Ok((server, Ok(answer)))) => return Some((server, answer)),
                Some(Ok((server, Err(error)))) => {
                    self.failed(&server, error);
                    self.start();
                }
                Some(Err(error)) => self.note(Error::internal(error)),
                None => {}
            }
        }
    }

    /// Notes that what a server answered led nowhere.
    pub fn failed(&mut self, server: &ServerName, error: Error) {
        tracing::info!(%server, "{server} is of no help: {error}");
        self.note(error);
    }

    /// What people are told if none was of help: the error that says most.
    pub fn error(self) -> Error {
        self.worst.unwrap_or_else(|| Error::not_found("this server does not know the room, nor a server that does"))
    }

    fn note(&mut self, error: Error) {
        if self.worst.as_ref().is_none_or(|worst| says(&error) > says(worst)) {
            self.worst = Some(error);
        }
    }

    fn start(&mut self) -> bool {
        let Some(server) = self.left.pop_front() else { return false };
        let asking = (self.ask)(server.clone());
        self.running.spawn(async move { (server, asking.await) });
        true
    }
}

/// How much an error says about the room, and not only about a server.
fn says(error: &Error) -> u8 {
    match error.status().as_u16() {
        403 => 4,
        400 => 3,
        404 => 1,
        500.. => 0,
        _ => 2,
    }
}

/// What a server's refusal means for who asked us. That our request was wrong is not their fault.
/// spec: server-server-api#get_matrixfederationv1make_joinroomiduserid (400)
pub fn refused(failure: Failure) -> Error {
    let Failure::Refused { status, errcode, message, .. } = failure else { return failure.into() };
    let message = format!("the other server says: {message}");
    match (status.as_u16(), &*errcode) {
        (400, "M_INCOMPATIBLE_ROOM_VERSION") => Error::bad_request("M_INCOMPATIBLE_ROOM_VERSION", message),
        (400, "M_UNABLE_TO_AUTHORISE_JOIN") => Error::bad_request("M_UNABLE_TO_AUTHORISE_JOIN", message),
        (400, "M_UNABLE_TO_GRANT_JOIN") => Error::bad_request("M_UNABLE_TO_GRANT_JOIN", message),
        (403, "M_INVITE_BLOCKED") => Error::forbidden_as("M_INVITE_BLOCKED", message),
        (403, _) => Error::forbidden(message),
        (404, _) => Error::not_found(message),
        _ => Error::bad_gateway(message),
    }
}

/// The room versions that we speak, as they are asked for.
pub fn versions() -> Vec<RoomVersionId> {
    room::VERSIONS.to_vec()
}

/// The version that another server names, if we speak it. 400 `M_INCOMPATIBLE_ROOM_VERSION` otherwise.
pub fn spoken(version: Option<RoomVersionId>) -> Result<RoomVersionId> {
    // spec: server-server-api#get_matrixfederationv1make_joinroomiduserid: what says nothing is that old.
    let version = version.unwrap_or(RoomVersionId::V1);
    match room::rules(&version) {
        Ok(_) => Ok(version),
        Err(_) => Err(crate::rooms::handshake::incompatible(&version)),
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    fn servers() -> Vec<OwnedServerName> {
        [server_name!("a.test"), server_name!("b.test"), server_name!("c.test")].map(ToOwned::to_owned).to_vec()
    }

    #[tokio::test]
    async fn a_silent_server_keeps_nobody_waiting_and_a_failing_one_not_at_all() {
        let ask = |server: OwnedServerName| async move {
            match server.as_str() {
                "a.test" => std::future::pending().await,
                "b.test" => Err(Error::not_found("not there")),
                _ => Ok(7),
            }
        };
        let (patience, time) = (Duration::from_millis(20), Duration::from_millis(200));
        let mut attempts = Attempts::within(patience, time, servers(), ask);
        assert_eq!(attempts.next().await, Some((server_name!("c.test").to_owned(), 7)));
        assert!(attempts.has_others());
        attempts.failed(server_name!("c.test"), Error::forbidden("no"));
        assert_eq!(attempts.next().await, None, "the silent one is given up");
        assert_eq!(attempts.error().errcode(), "M_FORBIDDEN");
    }

    #[tokio::test]
    async fn one_enters_a_room_at_a_time() {
        let turns = Arc::new(Turns::default());
        let room = <&RoomId>::try_from("!a:b").expect("an ID");
        let first = turns.take(room).await;
        let (waiting, other) = (turns.clone(), turns.clone());
        let settled = tokio::spawn(async move { waiting.settled(room).await });
        let second = tokio::spawn(async move { drop(other.take(room).await) });
        tokio::task::yield_now().await;
        assert!(!settled.is_finished() && !second.is_finished());
        drop(first);
        settled.await.expect("ends");
        second.await.expect("ends");
        turns.settled(<&RoomId>::try_from("!c:d").expect("an ID")).await;
    }
}
