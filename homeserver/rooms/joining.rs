//! A room's state as a server in the room hands it over when somebody of ours comes in: judged as a whole,
//! laid down in pieces that nobody sees, then opened by one small job.
//!
//! 1. [`judge`] keeps what is of the room and allowed by the events that it cites, and refuses all of it if
//!    the room's beginning or the join itself do not hold. No store is needed for that.
//! 2. [`lay_events`] and [`lay_state`] write it in pieces. The room has no state yet, or the one from when
//!    the last of ours went; only the index of its members goes ahead, those of ours left out who would see
//!    it. What a crash leaves behind is where the next join goes on from: `STAGED` says which state the
//!    index stands at.
//! 3. [`open`] writes the join on top. With it the room is there.

use std::collections::{BTreeMap, HashMap, HashSet};

use ruma::{
    OwnedEventId, RoomId, RoomVersionId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::{AuthorizationRules, RoomVersionRules},
    state_res::{check_state_dependent_auth_rules, check_state_independent_auth_rules},
};

use super::{
    append::{self, Incoming},
    doorstep,
    event::{self, Pdu},
    members,
    pdu::{self, Checked},
    redact,
    room::{self, Room},
    state::{self, StateId},
};
use crate::{
    base::{Pos, RoomNum, signing::Identity},
    error::{Error, Result},
    store::{
        Read, WriteTx,
        rows::{EventRow, Standing},
        tables,
    },
};

/// Events that are judged by one processor before another one begins to help.
const LEAST: usize = 200;

/// What another server hands over.
pub struct Given {
    /// The state before the join.
    pub state: Vec<Checked>,
    /// What allows it.
    pub auth_chain: Vec<Checked>,
    /// Whether memberships are left out of the state.
    pub members_omitted: bool,
}

/// What of it holds.
pub struct Judged {
    /// The events, each after those that it cites.
    pub events: Vec<Checked>,
    /// The state: (event type, state key) to event ID.
    pub state: BTreeMap<(String, String), OwnedEventId>,
    /// How many events were left out.
    pub left_out: usize,
}

/// Judges what a server hands over for a join. 502 if it can't be the state of that room, or does not
/// allow the join.
pub fn judge(given: Given, (room, version): (&RoomId, &RoomVersionId), join: &Pdu) -> Result<Judged> {
    let rules = room::rules(version)?;
    let partial = given.members_omitted;
    let wanted = state_of(&given.state)?;
    // 1. Everything is of this room.
    let mut all: HashMap<OwnedEventId, Checked> = HashMap::with_capacity(given.state.len() + given.auth_chain.len());
    for event in given.auth_chain.into_iter().chain(given.state) {
        if event.room_id() != room {
            return Err(wrong("there are events of other rooms in it"));
        }
        all.insert(event.id().to_owned(), event);
    }
    // 2. Each event is allowed by those that it cites.
    let order = sorted(&all);
    let total = order.len();
    let allowed = allowed(&order, &all, &rules);
    let mut good: HashSet<OwnedEventId> = HashSet::with_capacity(total);
    let mut kept = Vec::with_capacity(total);
    for (id, is_allowed) in order.into_iter().zip(allowed) {
        if is_allowed && all.get(&id).is_some_and(|event| stands_on(event.pdu(), &good, &rules)) {
            good.insert(id.clone());
            kept.push(id);
        }
    }
    // 3. The room begins as it should.
    let mut state: BTreeMap<_, _> = wanted.into_iter().filter(|(_, id)| good.contains(id)).collect();
    let create = state.get(&("m.room.create".to_owned(), String::new())).and_then(|id| all.get(id));
    let create = create.ok_or_else(|| wrong("it has no create event that holds"))?;
    if pdu::version_of(create.pdu()).as_ref() != Some(version) {
        return Err(wrong("the room is of another version than was said"));
    }
    // 4. The join is allowed, by what it cites and by the state.
    if !stands_on(join, &good, &rules) {
        return Err(wrong("something that allows this join is missing or does not hold"));
    }
    check_cited(join, &all, &rules).map_err(|error| not_allowed(&error))?;
    if partial {
        add_cited_members(join, &all, &mut state);
    }
    check_in_state(join, &state, &all, &rules).map_err(|error| not_allowed(&error))?;
    let left_out = total - kept.len();
    let events = kept.into_iter().filter_map(|id| all.remove(&id)).collect();
    Ok(Judged { events, state, left_out })
}

fn wrong(why: &str) -> Error {
    Error::bad_gateway(format!("the other server handed over what is not the room's state: {why}"))
}

fn not_allowed(error: &Error) -> Error {
    wrong(&format!("it does not allow this join: {}", error.message()))
}

/// The state that some events make, one event to a key.
fn state_of(events: &[Checked]) -> Result<BTreeMap<(String, String), OwnedEventId>> {
    let mut out = BTreeMap::new();
    for event in events {
        let Some(key) = &event.pdu().state_key else { return Err(wrong("there is a message in the state")) };
        if out.insert((event.pdu().name.clone(), key.clone()), event.id().to_owned()).is_some() {
            return Err(wrong("there are two events for the same piece of state"));
        }
    }
    Ok(out)
}

/// The IDs, each after those that it cites. What stands in a circle is in no order, and cites something
/// that has not been found to hold.
fn sorted(all: &HashMap<OwnedEventId, Checked>) -> Vec<OwnedEventId> {
    let mut ids: Vec<&OwnedEventId> = all.keys().collect();
    ids.sort_unstable_by_key(|id| (all[*id].pdu().depth, *id));
    let mut out = Vec::with_capacity(all.len());
    let mut seen: HashSet<&OwnedEventId> = HashSet::with_capacity(all.len());
    for id in ids {
        // (event, whether what it cites is done)
        let mut waiting = vec![(id, false)];
        while let Some((id, done)) = waiting.pop() {
            if done {
                out.push(id.clone());
                continue;
            }
            if !seen.insert(id) {
                continue;
            }
            waiting.push((id, true));
            for cited in &all[id].pdu().auth_events {
                if let Some((cited, _)) = all.get_key_value(cited) {
                    waiting.push((cited, false));
                }
            }
        }
    }
    out
}

/// Which of some events are allowed by those that they cite, as far as these hold: found by all processors.
fn allowed(order: &[OwnedEventId], all: &HashMap<OwnedEventId, Checked>, rules: &RoomVersionRules) -> Vec<bool> {
    let is_allowed = |id: &OwnedEventId| all.get(id).is_some_and(|event| check_cited(event.pdu(), all, rules).is_ok());
    let look = |part: &[OwnedEventId]| part.iter().map(is_allowed).collect::<Vec<bool>>();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let mut parts = order.chunks(order.len().div_ceil(processors).max(LEAST));
        let first = parts.next().unwrap_or_default();
        let others: Vec<_> = parts.map(|part| scope.spawn(move || look(part))).collect();
        let mut out = look(first);
        for other in others {
            out.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        out
    })
}

/// Whether all events that an event cites hold, the create event among them that it need not name.
fn stands_on(pdu: &Pdu, good: &HashSet<OwnedEventId>, rules: &RoomVersionRules) -> bool {
    let is_good = |id: &OwnedEventId| good.contains(id);
    pdu.auth_events.iter().all(is_good) && implied(pdu, &rules.authorization).iter().all(is_good)
}

/// The create event after which the room is called, where events don't cite it.
fn implied(pdu: &Pdu, rules: &AuthorizationRules) -> Option<OwnedEventId> {
    let room = pdu.room_id.as_ref().filter(|_| rules.room_create_event_id_as_room_id)?;
    event::parse_id(&format!("${}", room.as_str().trim_start_matches('!'))).ok()
}

/// Whether an event is allowed by the events that it cites, if these hold.
/// spec: server-server-api#checks-performed-on-receipt-of-a-pdu (4)
fn check_cited(pdu: &Pdu, all: &HashMap<OwnedEventId, Checked>, rules: &RoomVersionRules) -> Result<()> {
    let find = |id: &ruma::EventId| all.get(id).map(Checked::pdu);
    let rules = &rules.authorization;
    check_state_independent_auth_rules(rules, pdu, find).map_err(Error::forbidden)?;
    let implied = implied(pdu, rules);
    let cited = || pdu.auth_events.iter().chain(&implied).filter_map(|id| find(id));
    let fetch = |kind: &StateEventType, key: &str| {
        let kind = kind.to_string();
        cited().find(|event| event.name == kind && event.state_key.as_deref() == Some(key))
    };
    check_state_dependent_auth_rules(rules, pdu, fetch).map_err(Error::forbidden)
}

/// Whether a state allows an event.
fn check_in_state(
    pdu: &Pdu,
    state: &BTreeMap<(String, String), OwnedEventId>,
    all: &HashMap<OwnedEventId, Checked>,
    rules: &RoomVersionRules,
) -> Result<()> {
    let fetch = |kind: &StateEventType, key: &str| {
        let id = state.get(&(kind.to_string(), key.to_owned()))?;
        all.get(id).map(Checked::pdu)
    };
    check_state_dependent_auth_rules(&rules.authorization, pdu, fetch).map_err(Error::forbidden)
}

/// Adds the memberships that a join cites to a state that has none: who vouches for it, and what its
/// sender was before.
fn add_cited_members(
    join: &Pdu,
    all: &HashMap<OwnedEventId, Checked>,
    state: &mut BTreeMap<(String, String), OwnedEventId>,
) {
    for event in join.auth_events.iter().filter_map(|id| all.get(id)) {
        if let Some(key) = event.pdu().state_key.as_ref().filter(|_| event.pdu().name == "m.room.member") {
            state.entry((event.pdu().name.clone(), key.clone())).or_insert_with(|| event.id().to_owned());
        }
    }
}

/// The room that is to be entered, which is made if it is new. 409 if somebody of ours is in it already.
pub fn begin(tx: &WriteTx, me: &Identity, id: &RoomId, version: &RoomVersionId) -> Result<Room> {
    let mut room = doorstep::room_or_new(tx, id, version)?;
    if doorstep::is_inside(tx, me, &room)? {
        return Err(Error::conflict("M_UNKNOWN", "this server is in the room already"));
    }
    room.row.version = version.to_string();
    room.save(tx)?;
    Ok(room)
}

/// Writes events that were judged, as outliers. What is there already stays as it is. Says where each is.
pub fn lay_events(tx: &WriteTx, num: RoomNum, events: &[Checked]) -> Result<Vec<Pos>> {
    let room = Room::at(tx, num)?;
    let mut places = Vec::with_capacity(events.len());
    for event in events {
        if let Some(pos) = tables::EVENT_IDS.get(tx, event.id().as_str())? {
            places.push(pos);
            continue;
        }
        let pos = tx.next_pos();
        places.push(pos);
        let row = EventRow {
            room: num,
            state_before: 0,
            standing: Standing::Outlier,
            redacted_by: 0,
            order: 0,
            state_after: 0,
            sent_by: None,
            id: event.id().to_string(),
            pdu: event.json().to_owned(),
        };
        tables::EVENTS.put(tx, pos, &row)?;
        tables::EVENT_IDS.put(tx, event.id().as_str(), &pos)?;
        redact::meet(tx, &room, pos, event.pdu())?;
    }
    Ok(places)
}

/// A piece of state: (event type, state key) to the event's ID; none where nothing is set any more.
pub type Entry = ((String, String), Option<OwnedEventId>);

/// What has to be laid down to come from what is laid down already to a state, divided into what may go
/// ahead and what only [`open`] may write: that people of ours are in the room or at its door.
pub fn plan(
    tx: &impl Read,
    me: &Identity,
    room: &Room,
    judged: &BTreeMap<(String, String), OwnedEventId>,
) -> Result<(Vec<Entry>, Vec<Entry>)> {
    let (mut ahead, mut held) = (Vec::new(), Vec::new());
    for (key, _) in state::all(tx, staged(tx, room)?)? {
        let name = state::key_name(tx, key)?;
        if !judged.contains_key(&name) {
            ahead.push((name, None));
        }
    }
    for (key, id) in judged {
        let ours = key.0 == "m.room.member" && <&UserId>::try_from(key.1.as_str()).is_ok_and(|user| me.owns(user));
        let shows = ours && Pdu::find(tx, id)?.is_some_and(|event| event.membership().as_deref() != Some("leave"));
        let entry = (key.clone(), Some(id.clone()));
        if shows { held.push(entry) } else { ahead.push(entry) }
    }
    Ok((ahead, held))
}

/// The state that the index of a room's members stands at while it is entered.
fn staged(tx: &impl Read, room: &Room) -> Result<StateId> {
    Ok(tables::STAGED.get(tx, room.num)?.unwrap_or(room.row.state))
}

/// Writes a piece of the state.
pub fn lay_state(tx: &WriteTx, num: RoomNum, entries: &[Entry]) -> Result<()> {
    let mut room = Room::at(tx, num)?;
    let before = staged(tx, &room)?;
    let after = with(tx, before, entries)?;
    members::step(tx, &mut room, (before, after), tx.pos()?)?;
    room.save(tx)?;
    tables::STAGED.put(tx, num, &after)
}

fn with(tx: &WriteTx, before: StateId, entries: &[Entry]) -> Result<StateId> {
    state::with(tx, before, &numbered(tx, entries)?)
}

/// Pieces of state by their key's number, with the positions of their events.
pub(super) fn numbered(tx: &WriteTx, entries: &[Entry]) -> Result<BTreeMap<u64, Pos>> {
    let mut changes = BTreeMap::new();
    for ((kind, key), id) in entries {
        let number = state::key_or_new(tx, kind, key)?;
        let pos = match id {
            Some(id) => {
                tables::EVENT_IDS.get(tx, id.as_str())?.ok_or_else(|| Error::internal("a state event is missing"))?
            }
            None => 0,
        };
        changes.insert(number, pos);
    }
    Ok(changes)
}

/// What [`open`] opens.
pub struct Opening<'a> {
    /// The join, as the server in the room has taken it in.
    pub join: &'a Checked,
    /// What [`plan`] held back.
    pub held: &'a [Entry],
}

/// Writes the join on top of the state that was laid down: the room is there.
pub fn open(tx: &WriteTx, me: &Identity, num: RoomNum, opening: &Opening<'_>) -> Result<Pos> {
    let mut room = Room::at(tx, num)?;
    let Some(laid) = tables::STAGED.get(tx, num)? else {
        return Err(Error::internal("a room was opened before its state was there"));
    };
    let pdu = opening.join.pdu();
    let before = with(tx, laid, opening.held)?;
    members::step(tx, &mut room, (laid, before), tx.pos()?)?;
    (room.row.state, room.row.shown) = (before, 0);
    debug_assert!(me.owns(&pdu.sender) && pdu.kind == TimelineEventType::RoomMember);
    enter_by(tx, &mut room, opening.join, before)
}

/// The room begins here with the join: what was laid down beside it is its own now.
pub(super) fn enter_by(tx: &WriteTx, room: &mut Room, join: &Checked, before: StateId) -> Result<Pos> {
    let pdu = join.pdu();
    tables::STAGED.remove(tx, room.num)?;
    tables::STRIPPED.remove(tx, (pdu.sender.as_str(), room.num))?;
    // Whatever was built here before is not what the room builds on now.
    room.row.extremities.clear();
    let incoming = Incoming {
        pdu,
        json: join.json().to_owned(),
        state_before: before,
        standing: Standing::Accepted,
        sent_by: None,
        outgoing: false,
    };
    append::append(tx, room, incoming)
}

#[cfg(test)]
mod tests;
