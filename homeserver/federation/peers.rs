//! The servers to which there is something to tell, in memory: how far each has been told, which are busy,
//! and when those that can't be reached are tried again. A server that has been told everything is not here.
//!
//! What holds at every moment, and lets a restart begin at the right place: a server without a row that
//! says it is behind has been told everything up to `kept`; one whose row says so, everything up to the row's
//! position; and one that is not here, everything up to `seen`. What a server that was never behind has taken is
//! therefore written down now and then only: a message to it costs no commit, and after a crash it is told once
//! more what it took last, which it knows by its ID.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use http::StatusCode;
use ruma::{OwnedServerName, ServerName, api::federation::transactions::edu::Edu};

use super::{
    Failure,
    fleeting::{Fleeting, Waiting},
    remote::short,
    transaction::{Batch, Wanted},
};
use crate::{
    base::{Pos, random},
    store::rows::DestinationRow,
};

/// Until the second try, and the longest wait from one to the next, milliseconds.
const FIRST_WAIT: u64 = 1000;
const LONGEST_WAIT: u64 = 6 * 60 * 60_000;
/// How much longer each wait is than the one before.
const GROWTH: u64 = 3;
/// How long after the last try a server is tried that speaks to us, milliseconds: at first at once, as it has come
/// back; if it can't be reached even so, twice as late each time it speaks in vain, up to the longest.
const FIRST_GAP: u64 = 1000;
const LONGEST_GAP: u64 = 60_000;
/// Refusals of one thing alone after which it is left out.
const MAX_REFUSALS: u32 = 5;

/// All of them.
#[derive(Default)]
pub struct Peers {
    /// The log was gone through up to here.
    seen: Pos,
    /// And that is written down up to here.
    kept: Pos,
    known: HashMap<OwnedServerName, Peer>,
    /// How far servers have been told of which that is not written down.
    told: BTreeMap<OwnedServerName, Pos>,
    /// How far servers that are not here have been told, where that is further than the log was gone through: what is
    /// gathered for one goes to the end of the log.
    ahead: BTreeMap<OwnedServerName, Pos>,
    ready: Vec<OwnedServerName>,
    /// Who is to be tried when.
    due: BTreeSet<(u64, OwnedServerName)>,
}

#[derive(Default)]
struct Peer {
    /// It has been told everything up to here.
    cursor: Pos,
    /// There is something for it up to here.
    upto: Pos,
    /// There is more than that, or may be.
    more: bool,
    /// A loop is at it.
    running: bool,
    /// Its row says that it is behind.
    marked: bool,
    failures: u32,
    failing_since: u64,
    retry_at: u64,
    tried_at: u64,
    /// How often in a row it was tried for having spoken, in vain.
    called: u32,
    /// Why it could not be told, the last time.
    last_error: String,
    /// It has spoken while it was tried, which may have begun before it was there.
    speaking: bool,
    trying: Pos,
    narrow: bool,
    waiting: Waiting,
}

/// What a loop does next.
pub struct Turn {
    /// What to gather.
    pub wanted: Wanted,
    /// How often in a row it failed.
    pub failures: u32,
    /// What to send besides.
    pub fleeting: Vec<Edu>,
}

/// What becomes of a refusal.
#[derive(Default)]
pub struct Refused {
    /// To be written.
    pub row: Option<DestinationRow>,
    /// How often in a row.
    pub failures: u32,
    /// Milliseconds until the next try.
    pub wait: u64,
    /// The one thing that was sent is given up.
    pub skipped: bool,
    /// To be tried again now, in smaller pieces.
    pub again: bool,
}

impl Peer {
    fn wants(&self) -> bool {
        self.is_behind() || !self.waiting.is_empty()
    }

    /// Nobody is at it, and there is nothing for it.
    fn is_done(&self) -> bool {
        !self.running && self.failures == 0 && !self.wants()
    }

    /// There is something for it that is not only fleeting.
    fn is_behind(&self) -> bool {
        self.upto > self.cursor || self.more
    }

    fn row(&self) -> DestinationRow {
        DestinationRow {
            acked: self.cursor,
            behind: self.is_behind(),
            failures: self.failures,
            failing_since: self.failing_since,
            tried_at: self.tried_at,
            retry_at: self.retry_at,
            last_error: self.last_error.clone(),
            trying: self.trying,
        }
    }

    /// It can be told again.
    fn recovered(&mut self) {
        (self.failures, self.failing_since, self.retry_at) = (0, 0, 0);
        self.last_error = String::new();
    }

    fn failed(&mut self, why: String, now: u64, at_least: u64) {
        self.last_error = why;
        self.failing_since = if self.failures == 0 { now } else { self.failing_since };
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now + wait_after(self.failures).max(at_least);
        (self.running, self.tried_at) = (false, now);
        self.waiting = Waiting::default();
        if std::mem::take(&mut self.speaking) && at_least == 0 && self.may_be_called(now) {
            self.call(now);
        }
    }

    /// Whether it may be tried for having spoken.
    fn may_be_called(&self, now: u64) -> bool {
        let doublings = self.called.saturating_sub(1).min(10);
        let gap = if self.called == 0 { 0 } else { LONGEST_GAP.min(FIRST_GAP << doublings) };
        now.saturating_sub(self.tried_at) >= gap
    }

    /// It is to be tried now, for having spoken.
    fn call(&mut self, now: u64) {
        self.called = self.called.saturating_add(1);
        self.retry_at = now;
    }
}

/// How long to wait after so many failures in a row, somewhat by chance, so that not all who lost the same
/// server come back to it in the same moment.
fn wait_after(failures: u32) -> u64 {
    let wait = FIRST_WAIT.saturating_mul(GROWTH.saturating_pow(failures.saturating_sub(1))).min(LONGEST_WAIT);
    let [byte] = random::bytes::<1>();
    wait * 3 / 4 + wait * u64::from(byte) / 512
}

impl Peers {
    /// Begins where the log was gone through, with those that were behind.
    pub fn load(&mut self, seen: Pos, behind: Vec<(OwnedServerName, DestinationRow)>) {
        (self.seen, self.kept) = (seen, seen);
        for (server, row) in behind {
            let DestinationRow { acked, failures, failing_since, tried_at, retry_at, last_error, trying, .. } = row;
            let peer = Peer {
                cursor: acked,
                upto: acked,
                more: true,
                marked: true,
                failures,
                failing_since,
                tried_at,
                retry_at,
                last_error,
                trying,
                ..Peer::default()
            };
            self.known.insert(server.clone(), peer);
            self.due.insert((retry_at, server));
        }
    }

    /// Up to where the log was gone through.
    pub fn seen(&self) -> Pos {
        self.seen
    }

    /// Whether a server is here.
    pub fn knows(&self, server: &ServerName) -> bool {
        self.known.contains_key(server)
    }

    /// When somebody is to be tried next.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The log was gone through up to a position: for these servers, with the position up to which each was
    /// told when it was not here, there is something at its first and last place.
    pub fn dispatched(&mut self, upto: Pos, found: Vec<(OwnedServerName, Pos, (Pos, Pos))>) {
        for (server, acked, (first, last)) in found {
            let peer = self.peer(&server, acked.max(first - 1));
            peer.upto = peer.upto.max(last);
            self.wake(&server);
            if self.known.get(&server).is_some_and(Peer::is_done) {
                self.known.remove(&server);
            }
        }
        self.seen = upto;
        self.ahead.retain(|_, told| *told > upto);
    }

    /// Adds something fleeting for a server. True if somebody is to look after it.
    pub fn tell(&mut self, server: &ServerName, acked: Pos, fleeting: &Fleeting) -> bool {
        let cursor = acked.max(self.seen);
        let peer = self.peer(server, cursor);
        if peer.failures > 0 {
            return false;
        }
        peer.waiting.add(fleeting);
        self.wake(server);
        true
    }

    fn peer(&mut self, server: &ServerName, cursor: Pos) -> &mut Peer {
        let cursor = self.ahead.get(server).map_or(cursor, |told| cursor.max(*told));
        let fresh = || Peer { cursor, upto: cursor, ..Peer::default() };
        self.known.entry(server.to_owned()).or_insert_with(fresh)
    }

    /// Has a server looked after, if it is not already and needn't wait.
    fn wake(&mut self, server: &ServerName) {
        let Some(peer) = self.known.get_mut(server) else { return };
        if !peer.running && peer.failures == 0 && peer.wants() {
            peer.running = true;
            self.ready.push(server.to_owned());
        }
    }

    /// Who is to be looked after from now on.
    pub fn take_ready(&mut self, now: u64) -> Vec<OwnedServerName> {
        while let Some((at, server)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, server));
                break;
            }
            if let Some(peer) = self.known.get_mut(&server)
                && !peer.running
            {
                peer.running = true;
                self.ready.push(server);
            }
        }
        std::mem::take(&mut self.ready)
    }

    /// A server spoke to us. True if it is to be tried now.
    pub fn heard(&mut self, server: &ServerName, now: u64) -> bool {
        let Some(peer) = self.known.get_mut(server) else { return false };
        peer.speaking = peer.running;
        if peer.failures == 0 || peer.running || !peer.may_be_called(now) {
            return false;
        }
        let before = peer.retry_at;
        peer.call(now);
        self.due.remove(&(before, server.to_owned()));
        self.due.insert((now, server.to_owned()))
    }

    /// Tries a server that failed now, and not when its time has come. True if there was one to try.
    pub fn try_now(&mut self, server: &ServerName, now: u64) -> bool {
        let Some(peer) = self.known.get_mut(server).filter(|peer| peer.failures > 0 && !peer.running) else {
            return false;
        };
        self.due.remove(&(peer.retry_at, server.to_owned()));
        peer.retry_at = now;
        self.due.insert((now, server.to_owned()))
    }

    /// What the loop of a server does next; nothing if it is done.
    pub fn turn(&mut self, server: &ServerName) -> Option<Turn> {
        let peer = self.known.get_mut(server)?;
        if !peer.wants() {
            if peer.cursor > self.seen {
                self.ahead.insert(server.to_owned(), peer.cursor);
            }
            self.known.remove(server);
            return None;
        }
        let limit = if peer.trying > peer.cursor { peer.trying } else { Pos::MAX };
        let wanted = Wanted { cursor: peer.cursor, limit, narrow: peer.narrow };
        Some(Turn { wanted, failures: peer.failures, fleeting: peer.waiting.take() })
    }

    /// There was nothing for a server up to the end of a batch. Returns its row if that should be written.
    pub fn passed(&mut self, server: &ServerName, batch: &Batch) -> Option<DestinationRow> {
        let peer = self.known.get_mut(server)?;
        advance(peer, batch);
        let settled = peer.marked && !peer.wants();
        if settled {
            peer.marked = false;
            peer.recovered();
        }
        settled.then(|| peer.row())
    }

    /// A server that failed before is tried again. Returns its row, which says when it is tried next.
    pub fn before_attempt(&mut self, server: &ServerName, upto: Pos, now: u64) -> DestinationRow {
        let Some(peer) = self.known.get_mut(server) else { return DestinationRow::default() };
        (peer.trying, peer.marked, peer.tried_at) = (upto, true, now);
        let retry_at = now + wait_after(peer.failures + 1);
        DestinationRow { behind: true, retry_at, ..peer.row() }
    }

    /// A server has taken a batch. Returns its row if that should be written at once: it says what is not so any
    /// more, or messages are to be taken away with it.
    pub fn acknowledged(&mut self, server: &ServerName, batch: &Batch) -> Option<DestinationRow> {
        let peer = self.known.get_mut(server)?;
        advance(peer, batch);
        let was_marked = peer.marked;
        peer.recovered();
        (peer.called, peer.speaking, peer.narrow) = (0, false, false);
        let row = peer.row();
        if was_marked || batch.to_device > 0 {
            peer.marked = row.behind;
            self.told.remove(server);
            return Some(row);
        }
        if !batch.is_empty() {
            self.told.insert(server.to_owned(), row.acked);
        }
        None
    }

    /// Some of the servers that have been told more than is written down, and how far: to be written now.
    pub fn take_told(&mut self, most: usize) -> Vec<(OwnedServerName, Pos)> {
        let rest = self.told.keys().nth(most).cloned().map(|from| self.told.split_off(&from));
        std::mem::replace(&mut self.told, rest.unwrap_or_default()).into_iter().collect()
    }

    /// How many of those there are.
    pub fn told_count(&self) -> usize {
        self.told.len()
    }

    /// A server has not taken a batch. What was refused as bad is tried again in smaller pieces, and the one
    /// thing that is refused again and again is left out, so that nothing stops all that comes after it.
    pub fn refused(&mut self, server: &ServerName, batch: &Batch, failure: &Failure, now: u64) -> Refused {
        let (is_bad, at_least) = match failure {
            Failure::Refused { status, retry_after, .. } => (
                matches!(*status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE),
                retry_after.map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(0).min(LONGEST_WAIT)),
            ),
            Failure::Unreachable(_) => (false, 0),
        };
        let Some(peer) = self.known.get_mut(server) else { return Refused::default() };
        if is_bad && !peer.narrow && !batch.is_empty() {
            (peer.narrow, peer.trying) = (true, 0);
            return Refused { again: true, ..Refused::default() };
        }
        peer.trying = batch.upto;
        let skipped = is_bad && peer.narrow && peer.failures + 1 >= MAX_REFUSALS;
        if skipped {
            advance(peer, batch);
        }
        peer.failed(short(&failure.to_string()), now, at_least);
        let (row, failures, retry_at) = (peer.row(), peer.failures, peer.retry_at);
        self.due.insert((retry_at, server.to_owned()));
        // Of what was only fleeting nothing remains that a restart would have to know.
        let write = peer.marked || !batch.is_empty();
        peer.marked = write && row.behind;
        Refused { row: write.then_some(row), failures, wait: retry_at - now, skipped, again: false }
    }

    /// Something here failed: it is tried again later.
    pub fn failed(&mut self, server: &ServerName, now: u64) {
        let Some(peer) = self.known.get_mut(server) else { return };
        peer.failed("something is wrong here: the log says what".to_owned(), now, 0);
        self.due.insert((peer.retry_at, server.to_owned()));
    }

    /// How far the log was gone through, if that is to be written, with the rows of those that are behind and
    /// whose rows don't say so.
    pub fn checkpoint(&self) -> Option<(Pos, Vec<(OwnedServerName, DestinationRow)>)> {
        if self.seen == self.kept {
            return None;
        }
        let unmarked = self.known.iter().filter(|(_, peer)| !peer.marked && peer.is_behind());
        Some((self.seen, unmarked.map(|(server, peer)| (server.clone(), peer.row())).collect()))
    }

    /// That was written.
    pub fn written(&mut self, seen: Pos, behind: Vec<OwnedServerName>) {
        self.kept = self.kept.max(seen);
        for server in behind {
            if let Some(peer) = self.known.get_mut(&server) {
                peer.marked = true;
            }
        }
    }

    /// Entries of the log that were gone through and of which that is not written down, at most.
    pub fn unwritten(&self) -> Pos {
        self.seen - self.kept
    }

    /// Up to where everybody has been told everything.
    pub fn told_everybody(&self) -> Pos {
        self.known.values().filter(|peer| peer.is_behind()).map(|peer| peer.cursor).fold(self.kept, Pos::min)
    }

    /// How it stands with a server that there is something for.
    pub fn destination(&self, server: &ServerName) -> Option<DestinationRow> {
        self.known.get(server).map(Peer::row)
    }

    /// How far a server has been told, if that is not written down.
    pub fn told(&self, server: &ServerName) -> Option<Pos> {
        self.told.get(server).copied()
    }
}

fn advance(peer: &mut Peer, batch: &Batch) {
    peer.cursor = peer.cursor.max(batch.upto);
    peer.more = batch.more;
    if peer.trying <= peer.cursor {
        peer.trying = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is gathered goes to the end of the log, of which the last entries may not have been gone through yet.
    #[test]
    fn what_was_taken_before_it_was_known_to_be_for_a_server_is_not_told_it_again() {
        let (mut peers, server) = (Peers::default(), ServerName::parse("b.example").expect("a name"));
        peers.dispatched(5, vec![(server.clone(), 0, (5, 5))]);
        assert_eq!(peers.take_ready(0), std::slice::from_ref(&server));
        assert_eq!(peers.turn(&server).expect("something to tell").wanted.cursor, 4);
        peers.acknowledged(&server, &Batch { upto: 8, ..Batch::default() });
        assert!(peers.turn(&server).is_none());
        peers.dispatched(7, vec![(server.clone(), 0, (6, 7))]);
        assert!(peers.take_ready(0).is_empty() && !peers.knows(&server), "it has been told all that");
        peers.dispatched(9, vec![(server.clone(), 0, (8, 9))]);
        assert_eq!(peers.take_ready(0), std::slice::from_ref(&server));
        assert_eq!(peers.turn(&server).expect("something to tell").wanted.cursor, 8);
        assert!(peers.ahead.is_empty());
    }
}
