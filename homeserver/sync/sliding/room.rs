//! What is new in the rooms that a request looks at.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, events::StateEventType};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    connection::{Change, Connection, Sent},
    lists::{Config, Window},
    ranking::{Entry, Ranking},
    required::Required,
    wish::{Hero, RoomResult},
};
use crate::{
    base::{Pos, RoomNum, json},
    error::Result,
    rooms::{
        Pdu, Room,
        event::{self, Slices},
        members, receipts,
        state::{self, StateId},
        timeline::{self, View, order_of},
    },
    store::Read,
    sync::{
        counts,
        facts::Membership,
        invites,
        room::{self, Shown, Span},
        rooms_joined, rooms_left,
        turn::Turn,
    },
};

/// Rooms that one answer tells of at most: the rest is for the next one, which comes at once.
const MAX_ROOMS: usize = 200;

/// What is told of rooms.
pub struct Told {
    /// What is new in them, by room ID.
    pub shown: BTreeMap<String, RoomResult>,
    /// What the client knows of them then.
    pub sent: Vec<Change>,
    /// Rooms that are told of from the beginning.
    pub initial: BTreeSet<RoomNum>,
}

/// All rooms that a request looks at, those that have something new.
pub fn all(turn: &Turn<'_, impl Read>, ranking: &Ranking, window: &Window, connection: &Connection) -> Result<Told> {
    let mut told = Told { shown: BTreeMap::new(), sent: Vec::new(), initial: BTreeSet::new() };
    let read = read_by_themselves(turn, window)?;
    // Rooms that the person left are in no list, and told of once if the client knows them.
    let left = connection.rooms().filter_map(|room| {
        let (entry, sent) = (ranking.entry(room)?, connection.sent(room)?);
        let news = entry.membership == Membership::Out && !entry.listed && sent.membership != Membership::Out;
        news.then(|| (room, Config { limit: sent.limit, required: sent.required.clone(), lists: Vec::new() }))
    });
    for (num, config) in window.rooms.iter().cloned().chain(left) {
        if told.shown.len() == MAX_ROOMS {
            break;
        }
        let Some(entry) = ranking.entry(num) else { continue };
        let is_dm = window.dms.contains(&num);
        let look = Look { turn, entry, config: &config, sent: connection.sent(num), is_dm, read: read.contains(&num) };
        if !look.may_be_new() {
            continue;
        }
        if let Some((id, mut result)) = look.look()? {
            if result.initial {
                told.initial.insert(num);
            }
            result.lists = config.lists.clone();
            told.shown.insert(id, result);
        }
        told.sent.push((num, look.now_sent()));
    }
    Ok(told)
}

/// The rooms that the person has read further in: their counts are others.
fn read_by_themselves(turn: &Turn<'_, impl Read>, window: &Window) -> Result<BTreeSet<RoomNum>> {
    let Some(since) = turn.since else { return Ok(BTreeSet::new()) };
    let mut out = BTreeSet::new();
    for room in rooms_joined::changed(turn, since.pos, window.rooms.iter().map(|(room, _)| *room))? {
        let changes = receipts::changes(turn.tx, room, (since.pos, turn.now), &turn.ask.user, |_| true)?;
        if changes.own {
            out.insert(room);
        }
    }
    Ok(out)
}

/// One room, with what is known of it and wanted.
struct Look<'a, 'b, R: Read> {
    turn: &'a Turn<'b, R>,
    entry: &'a Entry,
    config: &'a Config,
    sent: Option<&'a Sent>,
    is_dm: bool,
    read: bool,
}

impl<R: Read> Look<'_, '_, R> {
    fn may_be_new(&self) -> bool {
        let Some(sent) = self.sent else {
            return self.entry.membership != Membership::Out || self.entry.listed;
        };
        self.read
            || sent.membership != self.entry.membership
            || self.entry.latest > sent.upto
            || self.entry.at > sent.upto
            || self.config.limit > sent.limit
            || self.is_dm != sent.is_dm
            || self.config.required != sent.required
    }

    /// What the client knows once it has the answer.
    fn now_sent(&self) -> Sent {
        Sent {
            upto: self.turn.now,
            membership: self.entry.membership,
            limit: self.config.limit.max(self.sent.map_or(0, |sent| sent.limit)),
            required: self.config.required.clone(),
            is_dm: self.is_dm,
        }
    }

    fn look(&self) -> Result<Option<(String, RoomResult)>> {
        let room = Room::at(self.turn.tx, self.entry.room)?;
        let result = match self.entry.membership {
            Membership::Join => self.inside(&room, room.row.state, order_of(self.turn.now))?,
            Membership::Invite | Membership::Knock => Some(self.outside()?),
            Membership::Out => self.gone(&room)?,
        };
        Ok(result.map(|result| (room.row.id, result)))
    }

    /// An invitation or a knock: what those outside may know.
    fn outside(&self) -> Result<RoomResult> {
        let row = event::row(self.turn.tx, self.entry.event)?;
        let stripped = invites::stripped(self.turn, self.entry.room, &row)?;
        Ok(RoomResult {
            initial: true,
            is_dm: self.is_dm.then_some(true),
            bump_stamp: Some(self.entry.bump),
            membership: Some(name(self.entry.membership)),
            invite_state: Some(stripped.clone()),
            stripped_state: Some(stripped),
            ..RoomResult::default()
        })
    }

    /// A room that the person went out of: up to that moment and no further.
    fn gone(&self, room: &Room) -> Result<Option<RoomResult>> {
        let known = self.sent.filter(|sent| sent.membership == Membership::Join).map(|sent| sent.upto);
        let is_new = |order| known.is_none_or(|upto| order > order_of(upto));
        let exit = match self.entry.forgotten {
            false => rooms_left::exit(self.turn, (self.entry.event, self.entry.at), is_new)?,
            true => None,
        };
        let mut result = match exit {
            Some(exit) => {
                let order = timeline::order(self.turn.tx, exit)?.unwrap_or_else(|| order_of(self.entry.at));
                let state = timeline::state_at(self.turn.tx, room.num, order)?;
                self.inside(room, state, order)?.unwrap_or_default()
            }
            None => RoomResult::default(),
        };
        // The counts are of the room as it is now, which is none of the person's business any more.
        (result.joined_count, result.invited_count) = (None, None);
        result.bump_stamp = Some(self.entry.bump);
        result.membership = Some("leave");
        if self.entry.event == 0 {
            return Ok(Some(result));
        }
        let row = event::row(self.turn.tx, self.entry.event)?;
        let mut view = View::new(self.turn.tx, room, &self.turn.ask.user, Some(&self.turn.ask.device))?;
        view.name_room = false;
        let own = view.show(self.turn.tx, (self.entry.event, &row), &Slices::of(&row)?)?;
        if !result.required_state.iter().any(|event| event.get() == own.get()) {
            result.required_state.push(own);
        }
        if Pdu::at(self.turn.tx, self.entry.event)?.membership().as_deref() == Some("ban") {
            result.membership = Some("ban");
        }
        Ok(Some(result))
    }

    /// A room as those inside know it, with a state and up to a position.
    fn inside(&self, room: &Room, state: StateId, upto: i64) -> Result<Option<RoomResult>> {
        let turn = self.turn;
        let since = self.known_upto(room)?;
        let grown = since.is_some() && self.sent.is_some_and(|sent| self.config.limit > sent.limit);
        let mut view = View::new(turn.tx, room, &turn.ask.user, Some(&turn.ask.device))?;
        view.name_room = false;
        let span = Span { since: since.filter(|_| !grown).map(order_of), upto, limit: self.config.limit };
        let shown = room::timeline(turn, room, &mut view, &span, None)?;
        let changed = match since {
            Some(since) => Some(state::diff(turn.tx, timeline::state_at(turn.tx, room.num, order_of(since))?, state)?),
            None => None,
        };
        let mut result = self.fields(room, state, changed.as_deref())?;
        result.required_state = self.state(room, &mut view, (state, changed.as_deref()), &shown)?;
        let live = turn.since.map_or(0, |token| shown.live(token.pos));
        let piece = shown.timeline;
        let quiet = piece.events.is_empty() && result.required_state.is_empty() && !self.read;
        if since.is_some() && quiet && !piece.limited && result.is_dm.is_none() {
            return Ok(None);
        }
        (result.timeline, result.limited) = (piece.events, piece.limited);
        result.prev_batch = Some(piece.prev_batch);
        result.num_live = Some(live);
        (result.expanded_timeline, result.unstable_expanded_timeline) = (grown, grown);
        if self.entry.membership == Membership::Join {
            let (count, _) = counts::build(turn, room)?;
            (result.notification_count, result.highlight_count) = (Some(count.notify), Some(count.highlight));
            result.bump_stamp = Some(self.entry.bump);
            result.membership = Some("join");
        }
        Ok(Some(result))
    }

    /// Up to where the client knows the room from inside.
    fn known_upto(&self, room: &Room) -> Result<Option<Pos>> {
        let Some(sent) = self.sent.filter(|sent| sent.membership == Membership::Join) else { return Ok(None) };
        if self.entry.membership == Membership::Join && self.entry.at > sent.upto {
            // Who was out in between knows nothing that can be relied on.
            let before = event::row(self.turn.tx, self.entry.event)?.state_before;
            let was = rooms_joined::membership_in(self.turn.tx, before, &self.turn.ask.user)?;
            let then = timeline::state_at(self.turn.tx, room.num, order_of(sent.upto))?;
            let known = rooms_joined::membership_in(self.turn.tx, then, &self.turn.ask.user)?;
            if was.as_deref() != Some("join") || known.as_deref() != Some("join") {
                return Ok(None);
            }
        }
        Ok(Some(sent.upto))
    }

    /// What a list shows of the room, as far as it has changed.
    fn fields(&self, room: &Room, state: StateId, changed: Option<&[(u64, Pos)]>) -> Result<RoomResult> {
        let tx = self.turn.tx;
        let touched = |kind: StateEventType| -> Result<bool> {
            let key = state::key(tx, &kind.to_string(), "")?;
            Ok(changed.is_none_or(|changed| changed.iter().any(|(other, _)| Some(*other) == key)))
        };
        let people = changed.is_none_or(|changed| changed.iter().any(|(key, _)| state::is_member(*key)));
        let name = text(tx, state, &StateEventType::RoomName, |content| content.name)?;
        let renamed = touched(StateEventType::RoomName)?;
        let mut result = RoomResult { initial: changed.is_none(), ..RoomResult::default() };
        if (renamed || people) && name.is_none() {
            let heroes = members::heroes(tx, room.num, &self.turn.ask.user)?;
            result.heroes = Some(heroes.into_iter().map(|user| hero(tx, state, user)).collect::<Result<_>>()?);
        }
        if renamed && (changed.is_some() || name.is_some()) {
            result.name = Some(name);
        }
        if touched(StateEventType::RoomAvatar)? {
            let url = text(tx, state, &StateEventType::RoomAvatar, |content| content.url)?;
            result.avatar = Some(url).filter(|url| changed.is_some() || url.is_some());
        }
        if people {
            (result.joined_count, result.invited_count) = (Some(room.row.joined), Some(room.row.invited));
        }
        let told = self.sent.is_some_and(|sent| sent.is_dm);
        result.is_dm = (self.is_dm != told || (changed.is_none() && self.is_dm)).then_some(self.is_dm);
        Ok(result)
    }

    /// The state that is wanted and new to the client.
    fn state(
        &self,
        room: &Room,
        view: &mut View<'_>,
        (state, changed): (StateId, Option<&[(u64, Pos)]>),
        shown: &Shown,
    ) -> Result<Vec<Box<RawValue>>> {
        let (turn, required) = (self.turn, &self.config.required);
        let (tx, me) = (turn.tx, turn.ask.user.as_str());
        let mut wanted = match changed {
            None => whole(tx, state, required, me)?,
            Some(changed) => {
                let mut wanted = self.of_changes(room, changed)?;
                if let Some(sent) = self.sent.filter(|sent| sent.required != *required) {
                    wanted.extend(more(tx, state, (required, &sent.required), me)?);
                }
                wanted
            }
        };
        if required.lazy {
            let own = changed.is_none().then_some(me);
            for user in shown.senders().chain(own) {
                let Some(key) = state::key(tx, &StateEventType::RoomMember.to_string(), user)? else { continue };
                if let Some(pos) = state::at(tx, state, key)?
                    && !turn.hub.lazy.has(turn.ask, room.num, key, pos)
                {
                    wanted.insert(key, pos);
                }
            }
        }
        let mut by_pos: Vec<_> = wanted.into_iter().map(|(key, pos)| (pos, key)).collect();
        by_pos.sort_unstable();
        let mut events = Vec::with_capacity(by_pos.len());
        for (pos, key) in by_pos {
            if pos == 0 {
                events.push(stub(tx, key)?);
                continue;
            }
            let row = event::row(tx, pos)?;
            let event = view.show(tx, (pos, &row), &Slices::of(&row)?)?;
            events.push(room::format(turn, view, &row, event)?);
            if state::is_member(key) {
                turn.hub.lazy.note(turn.ask, room.num, key, (pos, turn.now));
            }
        }
        Ok(events)
    }

    /// Those of some changes that are wanted. Of members who are told as they are needed, those that the
    /// client knows already.
    fn of_changes(&self, room: &Room, changed: &[(u64, Pos)]) -> Result<BTreeMap<u64, Pos>> {
        let (tx, me, required) = (self.turn.tx, self.turn.ask.user.as_str(), &self.config.required);
        let mut out = BTreeMap::new();
        for (key, pos) in changed {
            let lazily =
                required.lazy && state::is_member(*key) && self.turn.hub.lazy.knows(self.turn.ask, room.num, *key);
            let (kind, name) = state::key_name(tx, *key)?;
            if lazily || required.wants(&kind, &name, me) {
                out.insert(*key, *pos);
            }
        }
        Ok(out)
    }
}

fn name(membership: Membership) -> &'static str {
    match membership {
        Membership::Join => "join",
        Membership::Invite => "invite",
        Membership::Knock => "knock",
        Membership::Out => "leave",
    }
}

/// All state that is wanted.
fn whole(tx: &impl Read, state: StateId, required: &Required, me: &str) -> Result<BTreeMap<u64, Pos>> {
    let mut out = BTreeMap::new();
    if required.has_wildcards() {
        for (key, pos) in state::without_members(tx, state)? {
            let (kind, name) = state::key_name(tx, key)?;
            if required.wants(&kind, &name, me) {
                out.insert(key, pos);
            }
        }
    }
    for (kind, name) in required.named(me) {
        if let Some(key) = state::key(tx, kind, name)?
            && let Some(pos) = state::at(tx, state, key)?
        {
            out.insert(key, pos);
        }
    }
    if required.all_members {
        out.extend(state::all(tx, state)?.into_iter().filter(|(key, _)| state::is_member(*key)));
    }
    Ok(out)
}

/// The state that is wanted now and was not before.
fn more(tx: &impl Read, state: StateId, (now, before): (&Required, &Required), me: &str) -> Result<BTreeMap<u64, Pos>> {
    let mut out = whole(tx, state, now, me)?;
    let mut known = Vec::new();
    for key in out.keys() {
        let (kind, name) = state::key_name(tx, *key)?;
        if before.wants(&kind, &name, me) {
            known.push(*key);
        }
    }
    for key in known {
        out.remove(&key);
    }
    Ok(out)
}

/// State that is not set any more.
fn stub(tx: &impl Read, key: u64) -> Result<Box<RawValue>> {
    #[derive(Serialize)]
    struct Stub {
        #[serde(rename = "type")]
        kind: String,
        state_key: String,
    }
    let (kind, state_key) = state::key_name(tx, key)?;
    json::to_raw(&Stub { kind, state_key })
}

/// What is looked at of a room's name and picture and of its members.
#[derive(Deserialize)]
struct Content {
    name: Option<String>,
    url: Option<String>,
    displayname: Option<String>,
    avatar_url: Option<String>,
}

fn text(
    tx: &impl Read,
    state: StateId,
    kind: &StateEventType,
    pick: impl FnOnce(Content) -> Option<String>,
) -> Result<Option<String>> {
    let Some(pos) = state::event(tx, state, kind, "")? else { return Ok(None) };
    Ok(Pdu::at(tx, pos)?.content_as::<Content>().and_then(pick).filter(|text| !text.is_empty()))
}

fn hero(tx: &impl Read, state: StateId, user_id: OwnedUserId) -> Result<Hero> {
    let event = state::event(tx, state, &StateEventType::RoomMember, user_id.as_str())?;
    let content = match event {
        Some(pos) => Pdu::at(tx, pos)?.content_as::<Content>(),
        None => None,
    };
    let (displayname, avatar_url) = content.map_or((None, None), |content| (content.displayname, content.avatar_url));
    Ok(Hero { user_id, displayname, avatar_url })
}
