//! What of a room another server is told when it asks: whether it may ask at all, which events it may see,
//! and those that it asks for by the graph. What it may not see it gets without content, so that the graph
//! holds together. spec: server-server-api#backfilling-and-retrieving-missing-events,
//! #retrieving-events, client-server-api#room-history-visibility

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName, UserId, events::StateEventType};
use serde_json::value::RawValue;

use super::{
    acl,
    event::{self, Pdu, Slices},
    history, members, partial, redact,
    room::Room,
    servers,
    state::{self, Overlay, StateId},
};
use crate::{
    accounts::users,
    base::{Pos, json},
    error::{Error, Result},
    store::{
        Flow, Read,
        rows::{EventRow, Standing},
        tables,
    },
};

/// Events that one answer holds at most.
pub const MAX_EVENTS: usize = 100;
/// Events that are looked at for one answer.
const MAX_LOOK: usize = 2_000;
/// Events of an auth chain that are told.
const MAX_CHAIN: usize = 200_000;

/// A server that asks about a room, and may.
pub struct Asker {
    /// The room.
    pub room: Room,
    server: OwnedServerName,
    visibility_key: Option<u64>,
    /// The keys of the memberships of the server's people, once they matter.
    people: Option<Vec<u64>>,
    /// Whether it may see what was said in a state.
    states: HashMap<StateId, bool>,
}

impl Asker {
    /// 403 for a server that is not in the room, unless everybody may read it, or that the room shuts out.
    /// 404 for a room that we are not in.
    pub fn new(tx: &impl Read, (me, id): (&ServerName, &ruma::RoomId), server: &ServerName) -> Result<Self> {
        let unknown = || Error::not_found("this server is not in the room");
        let room = Room::find(tx, id)?.ok_or_else(unknown)?;
        if !servers::is_in(tx, room.num, me)? {
            return Err(unknown());
        }
        acl::check(tx, &room, server)?;
        if !servers::is_in(tx, room.num, server)? && !history::is_world_readable(tx, &room)? {
            return Err(Error::forbidden("your server is not in the room"));
        }
        let visibility_key = state::key(tx, &StateEventType::RoomHistoryVisibility.to_string(), "")?;
        Ok(Self { room, server: server.to_owned(), visibility_key, people: None, states: HashMap::new() })
    }

    /// An event as the server may see it.
    pub fn tell(&mut self, tx: &impl Read, row: &EventRow) -> Result<Box<RawValue>> {
        let is_seen = row.redacted_by != 0 || (self.may_see(tx, row)? && !self.hides(tx, row)?);
        let text = if is_seen { row.pdu.clone() } else { redact::emptied(&self.room, row)?.pdu };
        json::raw(text)
    }

    /// Whether the server may see an event's content. State is no secret: it got that with the room.
    fn may_see(&mut self, tx: &impl Read, row: &EventRow) -> Result<bool> {
        let slices = Slices::of(row)?;
        let is_own = UserId::parse(&*slices.sender).is_ok_and(|sender| sender.server_name() == self.server);
        if is_own || slices.state_key.is_some() {
            return Ok(true);
        }
        if row.standing == Standing::Outlier {
            return Ok(false);
        }
        if let Some(known) = self.states.get(&row.state_before) {
            return Ok(*known);
        }
        let allowed = match self.visibility(tx, row.state_before)?.as_deref() {
            Some("invited") => self.was(tx, row.state_before, &["join", "invite"])?,
            Some("joined") => self.was(tx, row.state_before, &["join"])?,
            _ => true,
        };
        self.states.insert(row.state_before, allowed);
        Ok(allowed)
    }

    /// Whether the server sees nothing of what somebody of ours said, as that one wanted to be forgotten before
    /// it came into the room. What rules and state are made of stays.
    fn hides(&self, tx: &impl Read, row: &EventRow) -> Result<bool> {
        let slices = Slices::of(row)?;
        if slices.state_key.is_some() && slices.kind != "m.room.member" {
            return Ok(false);
        }
        match users::erased_at(tx, &slices.sender)? {
            Some(at) => Ok(!servers::came_before(tx, self.room.num, &self.server, at)?),
            None => Ok(false),
        }
    }

    fn visibility(&self, tx: &impl Read, state: StateId) -> Result<Option<String>> {
        #[derive(serde::Deserialize)]
        struct Content {
            history_visibility: String,
        }
        let Some(key) = self.visibility_key else { return Ok(None) };
        let Some(pos) = state::at(tx, state, key)? else { return Ok(None) };
        Ok(Pdu::at(tx, pos)?.content_as::<Content>().map(|content| content.history_visibility))
    }

    /// Whether one of the server's people was one of these to the room in a state.
    fn was(&mut self, tx: &impl Read, state: StateId, wanted: &[&str]) -> Result<bool> {
        if self.people.is_none() {
            let mut keys = Vec::new();
            let mut users = Vec::new();
            members::each(tx, self.room.num, |user, _| {
                if UserId::parse(user).is_ok_and(|user| user.server_name() == self.server) {
                    users.push(user.to_owned());
                }
                Ok(Flow::Next)
            })?;
            for user in users {
                keys.extend(state::key(tx, "m.room.member", &user)?);
            }
            self.people = Some(keys);
        }
        for key in self.people.iter().flatten() {
            if let Some(pos) = state::at(tx, state, *key)?
                && Pdu::at(tx, pos)?.membership().is_some_and(|is| wanted.contains(&is.as_str()))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An event of the room that was not rejected. 404 if there is none.
    pub fn event(&self, tx: &impl Read, id: &EventId) -> Result<(Pos, EventRow)> {
        let unknown = || Error::not_found("this server has no such event");
        let pos = event::position(tx, id)?.ok_or_else(unknown)?;
        let row = event::row(tx, pos)?;
        let fits = row.room == self.room.num && row.standing != Standing::Rejected;
        if fits { Ok((pos, row)) } else { Err(unknown()) }
    }

    /// The positions of the state before an event. 404 if it is not known.
    pub fn state_before(&self, tx: &impl Read, id: &EventId) -> Result<Vec<Pos>> {
        let (_, row) = self.event(tx, id)?;
        if row.standing == Standing::Outlier {
            return Err(Error::not_found("this server does not know the state there"));
        }
        if self.room.is_partial() {
            return Err(partial::unable());
        }
        Ok(Overlay::of(row.state_before).all(tx)?.into_iter().map(|(_, pos)| pos).collect())
    }

    /// The positions of all that some events build their permission on, without those. The create event is
    /// among them also where the room's ID names it and no event has to.
    pub fn auth_chain(&self, tx: &impl Read, from: &[Pos]) -> Result<Vec<Pos>> {
        let (mut waiting, mut seen) = (from.to_vec(), BTreeSet::new());
        if self.room.rules().authorization.room_create_event_id_as_room_id {
            let create = self.room.state_pos(tx, &StateEventType::RoomCreate, "")?;
            seen.extend(create.filter(|create| from != [*create]));
        }
        while let Some(pos) = waiting.pop() {
            for id in Pdu::at(tx, pos)?.auth_events {
                if let Some(cited) = event::position(tx, &id)?
                    && seen.insert(cited)
                {
                    waiting.push(cited);
                }
            }
            if seen.len() > MAX_CHAIN {
                return Err(Error::unknown("the auth chain is too long to be told"));
            }
        }
        Ok(seen.into_iter().collect())
    }

    /// Events from some backwards, the deepest first: those themselves if `with_them`; not beyond `until`,
    /// nor less deep than `least`.
    pub fn backwards(
        &mut self,
        tx: &impl Read,
        (from, with_them): (&[OwnedEventId], bool),
        (until, least): (&[OwnedEventId], u64),
        limit: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        let mut seen: HashSet<OwnedEventId> = until.iter().cloned().collect();
        let mut next: BTreeSet<(u64, Pos)> = BTreeSet::new();
        let mut out = Vec::new();
        for id in from {
            if let Ok((pos, row)) = self.event(tx, id)
                && row.standing != Standing::Outlier
                && seen.insert(id.clone())
            {
                next.insert((Pdu::at(tx, pos)?.depth, pos));
            }
        }
        let starts: HashSet<Pos> = next.iter().map(|(_, pos)| *pos).collect();
        for _ in 0..MAX_LOOK {
            let Some((depth, pos)) = next.pop_last() else { break };
            let (row, pdu) = (event::row(tx, pos)?, Pdu::at(tx, pos)?);
            let is_start = starts.contains(&pos);
            if row.standing != Standing::Rejected && depth >= least && (with_them || !is_start) {
                out.push(self.tell(tx, &row)?);
            }
            if out.len() >= limit.min(MAX_EVENTS) {
                break;
            }
            for id in pdu.prev_events {
                let Some(before) = tables::EVENT_IDS.get(tx, id.as_str())? else { continue };
                let row = event::row(tx, before)?;
                if row.room == self.room.num && row.standing != Standing::Outlier && seen.insert(id) {
                    next.insert((Pdu::at(tx, before)?.depth, before));
                }
            }
        }
        Ok(out)
    }
}
