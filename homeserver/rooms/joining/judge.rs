//! Whether what a server hands over of a room's state holds: judged in pieces, as there may be very much of it. Of the
//! memberships that hold only their IDs are kept here; who cites one that is not in the same piece waits until that
//! has been laid down.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId,
    events::StateEventType,
    room_version_rules::{AuthorizationRules, RoomVersionRules},
    state_res::{check_state_dependent_auth_rules, check_state_independent_auth_rules},
};
use serde::Deserialize;

use super::{
    super::{
        event::{self, Pdu},
        pdu::{self, Checked},
        room,
    },
    Key,
};
use crate::{
    error::{Error, Result},
    store::Read,
};

const MEMBER: &str = "m.room.member";

/// An event that was handed over.
#[derive(Clone, Debug)]
pub struct Told {
    /// The event.
    pub event: Checked,
    /// Whether it is part of the state, and not only of what allows that.
    pub in_state: bool,
}

/// Judges what is handed over for a join.
pub struct Judge {
    room: OwnedRoomId,
    version: RoomVersionId,
    rules: RoomVersionRules,
    join: Pdu,
    /// Who vouches for it.
    voucher: Option<String>,
    /// The create event, once it is known.
    create: Option<OwnedEventId>,
    /// What the state is said to be, whether it holds or not.
    state: BTreeMap<Key, OwnedEventId>,
    good: HashSet<OwnedEventId>,
    /// What may be cited often, and whatever else is of the state the join is judged by.
    held: HashMap<OwnedEventId, Pdu>,
    /// What cites something that is not known to hold.
    waiting: HashMap<OwnedEventId, Told>,
    left_out: usize,
}

/// What holds of what was handed over.
pub struct Judged {
    /// The state, to the IDs of its events.
    pub state: BTreeMap<Key, OwnedEventId>,
    /// How many events hold.
    pub events: usize,
    /// How many were left out.
    pub left_out: usize,
}

/// The content of a join.
#[derive(Deserialize)]
struct Vouched {
    join_authorised_via_users_server: Option<String>,
}

impl Judge {
    /// For a room, a version and a join. Nothing but that create event begins the room, if it is known already.
    pub fn new(room: &RoomId, version: &RoomVersionId, join: &Pdu, create: Option<OwnedEventId>) -> Result<Self> {
        Ok(Self {
            room: room.to_owned(),
            version: version.clone(),
            rules: room::rules(version)?,
            join: join.clone(),
            voucher: join.content_as().and_then(|content: Vouched| content.join_authorised_via_users_server),
            create,
            state: BTreeMap::new(),
            good: HashSet::new(),
            held: HashMap::new(),
            waiting: HashMap::new(),
            left_out: 0,
        })
    }

    /// The rules of the room.
    pub fn rules(&self) -> &RoomVersionRules {
        &self.rules
    }

    /// What of a piece is to be laid down, each event after those that it cites. What holds and was not in the piece
    /// has to have been laid down before, or waits. 502 if this can't be the state of that room.
    pub fn piece(&mut self, tx: &impl Read, piece: Vec<Told>) -> Result<Vec<Told>> {
        let (mut new, mut again) = (HashMap::with_capacity(piece.len()), Vec::new());
        for told in piece {
            self.claim(&told)?;
            let id = told.event.id();
            if let Some(waiting) = self.waiting.get_mut(id) {
                waiting.in_state |= told.in_state;
            } else if self.good.contains(id) {
                // It is here already, and is of the state as well.
                again.extend(told.in_state.then_some(told));
            } else {
                let in_state = told.in_state;
                new.entry(id.to_owned()).or_insert(told).in_state |= in_state;
            }
        }
        let mut out = self.settle(tx, new)?;
        out.extend(again);
        Ok(out)
    }

    /// Whether some events wait until all others are laid down.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What of those that wait is to be laid down, once all others are.
    pub fn rest(&mut self, tx: &impl Read) -> Result<Vec<Told>> {
        let waiting = std::mem::take(&mut self.waiting);
        let out = self.settle(tx, waiting)?;
        self.left_out += self.waiting.drain().count();
        Ok(out)
    }

    /// The state that holds, once all has been judged. 502 if the room's beginning or the join do not hold.
    pub fn finish(mut self, tx: &impl Read, members_omitted: bool) -> Result<Judged> {
        let good = &self.good;
        self.state.retain(|_, id| good.contains(id));
        // 1. The room begins as it should.
        let create = self.state.get(&("m.room.create".to_owned(), String::new()));
        if create.is_none() || create != self.create.as_ref() {
            return Err(wrong("it has no create event that holds"));
        }
        // 2. The join is allowed, by what it cites and by the state.
        if !self.stands_on(&self.join) {
            return Err(wrong("something that allows this join is missing or does not hold"));
        }
        let none = HashMap::new();
        let cited = self.cited(tx, &none, &self.join)?.ok_or_else(|| Error::internal("what holds is not at hand"))?;
        is_allowed_by(&self.join, &cited, &self.rules.authorization).map_err(|why| not_allowed(&why))?;
        drop(cited);
        if members_omitted {
            self.add_cited_members();
        }
        self.check_in_state()?;
        Ok(Judged { state: self.state, events: self.good.len(), left_out: self.left_out })
    }

    /// Notes what an event is said to be.
    fn claim(&mut self, told: &Told) -> Result<()> {
        let pdu = told.event.pdu();
        if told.event.room_id() != self.room {
            return Err(wrong("there are events of other rooms in it"));
        }
        if !told.in_state {
            return Ok(());
        }
        let Some(key) = &pdu.state_key else { return Err(wrong("there is a message in the state")) };
        match self.state.insert((pdu.name.clone(), key.clone()), pdu.id.clone()) {
            None => Ok(()),
            Some(_) => Err(wrong("there are two events for the same piece of state")),
        }
    }

    /// Judges events that are not known to hold. Those that hold, in their order.
    fn settle(&mut self, tx: &impl Read, mut new: HashMap<OwnedEventId, Told>) -> Result<Vec<Told>> {
        let order = sorted(&new);
        let allowed = |told: &Told| self.is_allowed(tx, &new, told.event.pdu());
        let allowed: Vec<_> = order.iter().filter_map(|id| new.get(id)).map(allowed).collect::<Result<_>>()?;
        let mut out = Vec::with_capacity(order.len());
        for (id, allowed) in order.iter().zip(allowed) {
            let Some(told) = new.remove(id) else { continue };
            match allowed.filter(|_| self.stands_on(told.event.pdu())) {
                None => drop(self.waiting.insert(id.clone(), told)),
                Some(true) if self.may_begin(told.event.pdu())? => {
                    self.good.insert(id.clone());
                    self.hold(&told);
                    out.push(told);
                }
                Some(_) => self.left_out += 1,
            }
        }
        Ok(out)
    }

    /// Whether an event is allowed by those that it cites, as far as these hold. None where one of them is not at hand.
    fn is_allowed(&self, tx: &impl Read, new: &HashMap<OwnedEventId, Told>, pdu: &Pdu) -> Result<Option<bool>> {
        let cited = self.cited(tx, new, pdu)?;
        Ok(cited.map(|cited| is_allowed_by(pdu, &cited, &self.rules.authorization).is_ok()))
    }

    /// The IDs of what an event stands on: what it cites, and the create event that it need not name.
    fn below<'a>(&self, pdu: &'a Pdu) -> impl Iterator<Item = Cow<'a, EventId>> + use<'a> {
        let implied = implied(pdu, &self.rules.authorization).map(Cow::Owned);
        pdu.auth_events.iter().map(|id| Cow::Borrowed(&**id)).chain(implied)
    }

    fn stands_on(&self, pdu: &Pdu) -> bool {
        self.below(pdu).all(|id| self.good.contains(&*id))
    }

    /// What an event stands on: from among new events, or what has been found to hold. None if some of it is not at
    /// hand.
    fn cited<'a>(
        &'a self,
        tx: &impl Read,
        new: &'a HashMap<OwnedEventId, Told>,
        pdu: &Pdu,
    ) -> Result<Option<Vec<Cow<'a, Pdu>>>> {
        let mut out = Vec::with_capacity(pdu.auth_events.len() + 1);
        for id in self.below(pdu) {
            let near = new.get(&*id).map(|told| told.event.pdu()).or_else(|| self.held.get(&*id));
            let found = match near {
                Some(near) => Some(Cow::Borrowed(near)),
                None if self.good.contains(&*id) => Pdu::find(tx, &id)?.map(Cow::Owned),
                None => None,
            };
            let Some(found) = found else { return Ok(None) };
            out.push(found);
        }
        Ok(Some(out))
    }

    /// Whether an event does not begin the room a second time.
    fn may_begin(&mut self, pdu: &Pdu) -> Result<bool> {
        if pdu.name != "m.room.create" {
            return Ok(true);
        }
        if pdu::version_of(pdu).as_ref() != Some(&self.version) {
            return Err(wrong("the room is of another version than was said"));
        }
        Ok(*self.create.get_or_insert_with(|| pdu.id.clone()) == pdu.id)
    }

    /// Keeps what others will cite, and what the join is judged by.
    fn hold(&mut self, told: &Told) {
        let pdu = told.event.pdu();
        let is_like_many = told.in_state && pdu.name == MEMBER && !self.concerns_join(pdu);
        if !is_like_many {
            self.held.insert(pdu.id.clone(), pdu.clone());
        }
    }

    fn concerns_join(&self, member: &Pdu) -> bool {
        let user = member.state_key.as_deref();
        let people = [Some(self.join.sender.as_str()), self.join.state_key.as_deref(), self.voucher.as_deref()];
        self.join.auth_events.contains(&member.id) || user.is_some() && people.contains(&user)
    }

    /// Adds the memberships that the join cites to a state that has none: who vouches for it, and what its sender was
    /// before.
    fn add_cited_members(&mut self) {
        for event in self.join.auth_events.iter().filter_map(|id| self.held.get(id)) {
            if let Some(key) = event.state_key.as_ref().filter(|_| event.name == MEMBER) {
                self.state.entry((event.name.clone(), key.clone())).or_insert_with(|| event.id.clone());
            }
        }
    }

    /// Whether the state allows the join.
    fn check_in_state(&self) -> Result<()> {
        let fetch = |kind: &StateEventType, key: &str| {
            let id = self.state.get(&(kind.to_string(), key.to_owned()))?;
            self.held.get(id)
        };
        let checked = check_state_dependent_auth_rules(&self.rules.authorization, &self.join, fetch);
        checked.map_err(|why| not_allowed(&why))
    }
}

fn wrong(why: &str) -> Error {
    Error::bad_gateway(format!("the other server handed over what is not the room's state: {why}"))
}

fn not_allowed(why: &str) -> Error {
    wrong(&format!("it does not allow this join: {why}"))
}

/// The IDs, each after those that it cites. What stands in a circle is in no order, and cites something
/// that has not been found to hold.
fn sorted(all: &HashMap<OwnedEventId, Told>) -> Vec<OwnedEventId> {
    let mut least_deep: Vec<&Pdu> = all.values().map(|told| told.event.pdu()).collect();
    least_deep.sort_unstable_by(|one, other| (one.depth, &one.id).cmp(&(other.depth, &other.id)));
    let mut out = Vec::with_capacity(all.len());
    let mut seen: HashSet<&EventId> = HashSet::with_capacity(all.len());
    for pdu in least_deep {
        // (event, whether what it cites is done)
        let mut waiting = vec![(pdu, false)];
        while let Some((pdu, done)) = waiting.pop() {
            if done {
                out.push(pdu.id.clone());
            } else if seen.insert(&pdu.id) {
                waiting.push((pdu, true));
                let cited = pdu.auth_events.iter().filter_map(|id| all.get(id));
                waiting.extend(cited.map(|told| (told.event.pdu(), false)));
            }
        }
    }
    out
}

/// The create event after which the room is called, where events don't cite it.
fn implied(pdu: &Pdu, rules: &AuthorizationRules) -> Option<OwnedEventId> {
    let room = pdu.room_id.as_ref().filter(|_| rules.room_create_event_id_as_room_id)?;
    event::parse_id(&format!("${}", room.as_str().trim_start_matches('!'))).ok()
}

/// Whether an event is allowed by the events that it cites, if these hold.
/// spec: server-server-api#checks-performed-on-receipt-of-a-pdu (4)
fn is_allowed_by(pdu: &Pdu, cited: &[Cow<'_, Pdu>], rules: &AuthorizationRules) -> Result<(), String> {
    let find = |id: &EventId| cited.iter().find(|event| event.id == id).map(|event| &**event);
    check_state_independent_auth_rules(rules, pdu, find)?;
    let fetch = |kind: &StateEventType, key: &str| {
        let kind = kind.to_string();
        let is_it = |event: &&Cow<'_, Pdu>| event.name == kind && event.state_key.as_deref() == Some(key);
        cited.iter().find(is_it).map(|event| &**event)
    };
    check_state_dependent_auth_rules(rules, pdu, fetch)
}
