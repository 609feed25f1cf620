//! Connections: what a client has been told so far, room by room. A connection keeps what was told up to
//! the last answer that the client is known to have, and what each of the answers after it added: a client that
//! missed one, or gave its request up for another, asks again with the same `pos` and has one of them. They live in memory, within a bound of bytes, and a
//! client whose connection is gone begins anew.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedDeviceId, OwnedUserId};

use super::{Asked, ranking, required::Required};
use crate::{
    base::{Pos, RoomNum, clock, random},
    error::{Error, Result},
    store::Read,
    sync::{facts::Membership, turn::Turn},
};

/// Connections of a device at most: the one that was not used for longest gives way.
const MAX_CONNECTIONS: usize = 8;
/// Answers to one `pos` of which a client may have any: beyond them the oldest is forgotten.
const MAX_ANSWERS: usize = 3;
/// A connection that was not used for this time is over, milliseconds.
const LIFETIME: u64 = 24 * 60 * 60 * 1000;
/// Bytes that a room of a connection takes, about.
const ROOM: usize = 48;

/// 400 `M_UNKNOWN_POS`: the client begins anew.
pub fn unknown_pos() -> Error {
    Error::bad_request("M_UNKNOWN_POS", "this connection is over: begin a new one")
}

/// Up to where a client was told.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// What is kept on disk.
    pub pos: Pos,
    /// What lives in memory.
    pub ephemeral: u64,
    /// What was left of its keys, as a number that is another one when it changes.
    pub keys: u64,
}

/// What a client was told of a room.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Up to where.
    pub upto: Pos,
    /// What the person was to the room.
    pub membership: Membership,
    /// How many of the newest events they have at least.
    pub limit: usize,
    /// Which state they were told of.
    pub required: Arc<Required>,
    /// Whether it was told to be a conversation of two.
    pub is_dm: bool,
}

/// A room of a connection, for those who change what was told of it.
pub type Change = (RoomNum, Sent);

/// What a client was told.
#[derive(Clone, Debug)]
pub struct Connection {
    lane: u64,
    used: u64,
    /// The answer that the client has: its number, and up to where it went.
    has: Option<(u64, Point)>,
    rooms: Arc<HashMap<RoomNum, Sent>>,
    /// The answers after that one, of which it may have any. The newest is the last.
    next: Vec<Next>,
}

#[derive(Clone, Debug)]
struct Next {
    number: u64,
    point: Point,
    changes: Arc<Vec<Change>>,
}

impl Connection {
    fn new() -> Self {
        let lane = u64::from_le_bytes(random::bytes());
        Self { lane, used: clock::now_ms(), has: None, rooms: Arc::default(), next: Vec::new() }
    }

    /// Whether nothing was told yet.
    pub fn is_new(&self) -> bool {
        self.has.is_none()
    }

    /// A number of the connection's own.
    pub fn lane(&self) -> u64 {
        self.lane
    }

    /// Up to where the client was told. None if it was told nothing yet.
    pub fn since(&self) -> Option<Point> {
        self.has.map(|(_, point)| point)
    }

    /// What the client was told of a room.
    pub fn sent(&self, room: RoomNum) -> Option<&Sent> {
        self.rooms.get(&room)
    }

    /// The rooms that the client was told of.
    pub fn rooms(&self) -> impl Iterator<Item = RoomNum> {
        self.rooms.keys().copied()
    }

    /// The connection with a further answer.
    pub fn followed_by(&self, point: Point, changes: Vec<Change>) -> Self {
        let next = Next { number: number(), point, changes: Arc::new(changes) };
        Self { used: clock::now_ms(), next: vec![next], ..self.clone() }
    }

    /// Takes in what else the client may have been answered to the same `pos`.
    fn beside(mut self, other: &Self) -> Self {
        if self.lane == other.lane && self.has.map(|(number, _)| number) == other.has.map(|(number, _)| number) {
            let kept = other.next.len().min(MAX_ANSWERS - 1);
            self.next.splice(0..0, other.next[other.next.len() - kept..].iter().cloned());
        }
        self
    }

    /// The token of the newest answer.
    pub fn pos(&self) -> String {
        let newest = self.next.last().map(|next| (next.number, next.point)).or(self.has);
        newest.map_or_else(String::new, |(number, point)| token(number, &point))
    }

    /// The connection for a client that has the answer of this token. None if that is neither the last that it is
    /// known to have nor one after it.
    fn at(&self, pos: &str) -> Option<Self> {
        if let Some(next) = self.next.iter().find(|next| token(next.number, &next.point) == pos) {
            let mut rooms = self.rooms.clone();
            if !next.changes.is_empty() {
                Arc::make_mut(&mut rooms).extend(next.changes.iter().cloned());
            }
            return Some(Self { has: Some((next.number, next.point)), rooms, next: Vec::new(), ..self.clone() });
        }
        let (number, point) = self.has?;
        (token(number, &point) == pos).then(|| Self { next: Vec::new(), ..self.clone() })
    }

    fn weight(&self) -> usize {
        let changes: usize = self.next.iter().map(|next| next.changes.len()).sum();
        200 + ROOM * (self.rooms.capacity() + changes)
    }
}

/// The position comes first, as pages of a timeline may begin at such a token.
fn token(number: u64, point: &Point) -> String {
    format!("s{}_{number}", point.pos)
}

/// A number that no other answer has or had, not even one before a restart.
fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = clock::now_ms() << 16;
    let last = LAST.fetch_update(Relaxed, Relaxed, |last| Some((last + 1).max(now)));
    last.map_or(now, |last| (last + 1).max(now))
}

type Device = (OwnedUserId, OwnedDeviceId);
/// The connections of a device by their names, those used last at the end.
type Connections = Arc<Vec<(String, Connection)>>;

#[derive(Clone)]
struct Weight;

impl Weighter<Device, Connections> for Weight {
    fn weight(&self, (user, device): &Device, connections: &Connections) -> u64 {
        let all = connections.iter().map(|(name, connection)| name.len() + connection.weight());
        (user.as_str().len() + device.as_str().len() + all.sum::<usize>()) as u64
    }
}

/// All that is remembered for sliding sync.
pub struct Memory {
    connections: Cache<Device, Connections, Weight>,
    /// Held while a device's connections are changed: it may be answered on several at once.
    keeping: Mutex<()>,
    rankings: ranking::Cache,
}

impl Memory {
    /// A memory of at most so many bytes.
    pub fn new(bytes: u64) -> Self {
        let connections = Cache::with_weighter(256, bytes / 2, Weight);
        Self { connections, keeping: Mutex::default(), rankings: ranking::Cache::new(bytes / 2) }
    }

    /// The connection that somebody goes on with, or a new one. 400 `M_UNKNOWN_POS` if it is lost.
    pub fn connection(&self, asked: &Asked) -> Result<Connection> {
        let Some(pos) = asked.pos.as_deref().filter(|pos| !pos.is_empty()) else { return Ok(Connection::new()) };
        let connections = self.connections.get(&(asked.user.clone(), asked.device.clone()));
        let connections = connections.ok_or_else(unknown_pos)?;
        let found = connections.iter().find(|(name, _)| name == asked.wish.conn_id());
        let fresh =
            |(_, connection): &&(String, Connection)| clock::now_ms().saturating_sub(connection.used) < LIFETIME;
        found.filter(fresh).and_then(|(_, connection)| connection.at(pos)).ok_or_else(unknown_pos)
    }

    /// Keeps a connection for the next request.
    pub fn keep(&self, asked: &Asked, connection: Connection) {
        let device = (asked.user.clone(), asked.device.clone());
        let _keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.connections.get(&device).map(|all| all.to_vec()).unwrap_or_default();
        let old = all.iter().position(|(name, _)| name == asked.wish.conn_id()).map(|index| all.remove(index).1);
        if all.len() == MAX_CONNECTIONS {
            all.remove(0);
        }
        let connection = old.iter().fold(connection, Connection::beside);
        all.push((asked.wish.conn_id().to_owned(), connection));
        self.connections.insert(device, Arc::new(all));
    }

    /// The person's rooms by activity.
    pub fn ranking(&self, turn: &Turn<'_, impl Read>) -> Result<Arc<ranking::Ranking>> {
        self.rankings.of(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(pos: Pos) -> Point {
        Point { pos, ephemeral: 0, keys: 0 }
    }

    fn sent(upto: Pos) -> Sent {
        Sent { upto, membership: Membership::Join, limit: 1, required: Arc::default(), is_dm: false }
    }

    #[test]
    fn a_client_goes_on_from_either_of_its_last_two_answers_and_no_other() {
        let one = Connection::new().followed_by(point(1), vec![(7, sent(1))]);
        let first = one.pos();
        let acked = one.at(&first).expect("it has the first");
        assert_eq!(acked.sent(7).map(|sent| sent.upto), Some(1));
        let two = acked.followed_by(point(2), vec![(7, sent(2)), (8, sent(2))]);
        let second = two.pos();
        let again = two.at(&first).expect("it missed the second");
        assert_eq!((again.sent(7).map(|sent| sent.upto), again.sent(8).is_none()), (Some(1), true));
        let on = two.at(&second).expect("it has the second");
        assert_eq!(on.rooms().count(), 2);
        assert!(on.at(&first).is_none(), "what was before is forgotten");
        assert!(Connection::new().at(&first).is_none());
    }

    #[test]
    fn answers_to_one_pos_are_kept_side_by_side_within_a_bound() {
        let one = Connection::new().followed_by(point(1), vec![(7, sent(1))]);
        let acked = one.at(&one.pos()).expect("it has the first");
        let mut answers: Vec<Connection> = Vec::new();
        for pos in 2..6 {
            let answer = acked.followed_by(point(pos), vec![(7, sent(pos))]);
            answers.push(answers.last().map_or(answer.clone(), |last| answer.clone().beside(last)));
        }
        let newest = answers.last().expect("some");
        let known: Vec<_> = answers.iter().map(|answer| newest.at(&answer.pos()).is_some()).collect();
        assert_eq!(known, [false, true, true, true]);
        let on = newest.at(&answers[1].pos()).expect("it has the second of them");
        assert_eq!(on.sent(7).map(|sent| sent.upto), Some(3));
    }

    #[test]
    fn connections_of_a_device_that_are_answered_at_once_are_all_kept() {
        let memory = Memory::new(1 << 20);
        let follow = |name: &str| {
            let wish = serde_json::json!({"conn_id": name});
            let mut asked = Asked {
                user: ruma::owned_user_id!("@alice:b.c"),
                device: "PHONE".into(),
                pos: None,
                timeout: std::time::Duration::ZERO,
                wish: serde_json::from_value(wish).expect("a wish"),
            };
            for pos in 1..5000 {
                let next = memory.connection(&asked).expect("kept").followed_by(point(pos), Vec::new());
                asked.pos = Some(next.pos());
                memory.keep(&asked, next);
            }
        };
        std::thread::scope(|scope| {
            for name in ["rooms", "encryption", "third"] {
                scope.spawn(move || follow(name));
            }
        });
    }

    #[test]
    fn no_two_answers_have_the_same_number() {
        let numbers: std::collections::BTreeSet<u64> = (0..1000).map(|_| number()).collect();
        assert_eq!(numbers.len(), 1000);
    }
}
