//! What a service is to be told next: read from the store, between the positions up to which it has been told
//! and now. Decides nothing about when, and sends nothing.
//! spec: application-service-api#pushing-events

use std::collections::{BTreeMap, BTreeSet};

use ruma::{DeviceId, OneTimeKeyAlgorithm, OwnedUserId, UInt, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{
    News, Service, Sources,
    interest::{self, Interest},
};
use crate::{
    base::{Pos, RoomNum, json as text},
    e2ee::{device_lists, one_time_keys, to_device},
    error::Result,
    rooms::{event::Slices, members, receipts, stripped, timeline},
    store::{
        Flow, Read,
        rows::{EventRow, Standing, TryingRow},
        tables,
    },
};

/// Events, and messages for devices, of one transaction at most.
const MAX_EVENTS: usize = 100;
const MAX_MESSAGES: usize = 100;
/// Bytes of events after which a transaction takes no more.
const MAX_BYTES: usize = 2 << 20;
/// Events that are looked at in one turn.
const MAX_LOOK: usize = 2000;
/// Rooms and people whose passing news one transaction takes.
const MAX_PASSING: usize = 200;
/// Rooms of one person that are looked at to find out whether they are near.
const MAX_ROOMS: usize = 500;
/// People of one room that a transaction names because one of the service's came into it or went out of it. Of
/// the others a bridge learns when it next asks for their keys.
const MAX_COMPANY: usize = 1000;

/// Up to where a service has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub events: Pos,
    pub messages: Pos,
    /// What passes is told from when the server was started, and kept nowhere.
    pub receipts: Pos,
    pub presence: u64,
}

/// What there is for a service.
#[derive(Default)]
pub struct Batch {
    /// The body of a transaction; none if there is nothing to tell.
    pub body: Option<String>,
    /// Up to where it will then have been told.
    pub told: Told,
    /// Whether there is more.
    pub more: bool,
    /// Who has been given messages, up to `told.messages`.
    pub recipients: Vec<(OwnedUserId, String)>,
}

/// The body of a transaction. Names from before they were part of the spec are those that bridges look for.
#[derive(Serialize, Default)]
struct Body {
    events: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ephemeral: Vec<Value>,
    #[serde(rename = "de.sorunome.msc2409.ephemeral", skip_serializing_if = "Vec::is_empty")]
    old_ephemeral: Vec<Value>,
    #[serde(rename = "de.sorunome.msc2409.to_device", skip_serializing_if = "Vec::is_empty")]
    to_device: Vec<Value>,
    #[serde(rename = "org.matrix.msc3202.device_lists", skip_serializing_if = "Option::is_none")]
    device_lists: Option<Value>,
    #[serde(rename = "org.matrix.msc3202.device_one_time_keys_count", skip_serializing_if = "BTreeMap::is_empty")]
    counts: BTreeMap<OwnedUserId, BTreeMap<String, BTreeMap<OneTimeKeyAlgorithm, UInt>>>,
    #[serde(
        rename = "org.matrix.msc3202.device_unused_fallback_key_types",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    fallbacks: BTreeMap<OwnedUserId, BTreeMap<String, Vec<OneTimeKeyAlgorithm>>>,
}

impl Body {
    fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.ephemeral.is_empty()
            && self.old_ephemeral.is_empty()
            && self.to_device.is_empty()
            && self.device_lists.is_none()
            && self.counts.is_empty()
    }
}

/// Reads what there is: with `fixed`, exactly what a transaction up to these positions held.
pub fn gather(
    tx: &impl Read,
    (service, sources): (&Service, &Sources),
    interest: &mut Interest,
    (told, news, fixed): (Told, &mut News, Option<TryingRow>),
) -> Result<Batch> {
    let now = tx.pos()?;
    let body = Body::default();
    let mut gathering = Gathering { tx, service, sources, interest, body, told, moves: Moves::default(), more: false };
    gathering.events(fixed.map_or(now, |fixed| fixed.events))?;
    let mut recipients = Vec::new();
    // What a snapshot holds beyond the news is not looked for: it is not known yet whom it concerns.
    let heeded = if news.all_users { now } else { news.upto.min(now) };
    let upto = fixed.map_or(heeded, |fixed| fixed.messages);
    if service.listens() {
        recipients = gathering.messages(news, upto)?;
    } else {
        gathering.told.messages = upto;
    }
    if service.told.encryption {
        gathering.device_lists(told.events)?;
        gathering.keys(news)?;
    }
    // Whoever still waits for messages stays for the next time.
    if gathering.told.messages >= upto {
        (0..MAX_PASSING).for_each(|_| drop(news.users.pop_first()));
    }
    gathering.more |= !news.users.is_empty();
    // What came after those positions is looked for anew.
    news.all_users |= fixed.is_some();
    if service.told.ephemeral {
        gathering.passing(news, news.upto.min(now))?;
    }
    let Gathering { mut body, told, more, .. } = gathering;
    if service.told.old_names {
        body.old_ephemeral = std::mem::take(&mut body.ephemeral);
    }
    let body = if body.is_empty() { None } else { Some(text::to_raw(&body)?.get().to_owned()) };
    Ok(Batch { body, told, more, recipients })
}

struct Gathering<'a, T> {
    tx: &'a T,
    service: &'a Service,
    sources: &'a Sources,
    interest: &'a mut Interest,
    body: Body,
    told: Told,
    moves: Moves,
    more: bool,
}

/// Whose memberships changed by the events that a service is told.
#[derive(Default)]
struct Moves {
    came: BTreeSet<OwnedUserId>,
    gone: BTreeSet<OwnedUserId>,
    /// Rooms that one of its people came into.
    entered: BTreeSet<RoomNum>,
    /// Rooms that one of its people went out of, and when the last did.
    exited: BTreeMap<RoomNum, Pos>,
}

impl<T: Read> Gathering<'_, T> {
    /// Events in the order in which they came to be so here.
    fn events(&mut self, upto: Pos) -> Result<()> {
        let (from, mut bytes) = (self.told.events.saturating_add(1), 0);
        if from > upto {
            return Ok(());
        }
        let (found, reached) = look(self.tx, (from, upto))?;
        (self.told.events, self.more) = (reached, self.more || reached < upto);
        for (at, (pos, row)) in found {
            let slices = Slices::of(&row)?;
            if !self.interest.takes(self.tx, self.service, (pos, &row), &slices)? {
                continue;
            }
            let Some(room) = tables::ROOMS.get(self.tx, row.room)? else { continue };
            self.note_move((pos, &row), &slices)?;
            let told = self.invitation((pos, &row), &slices)?;
            let event = timeline::for_service(self.tx, &room.id, &row, &slices, told)?;
            bytes += event.get().len();
            self.body.events.push(event);
            if self.body.events.len() == MAX_EVENTS || bytes > MAX_BYTES {
                (self.told.events, self.more) = (at, true);
                break;
            }
        }
        Ok(())
    }

    /// Notes who came into a room or went out of it by an event.
    fn note_move(&mut self, (pos, row): (Pos, &EventRow), slices: &Slices<'_>) -> Result<()> {
        #[derive(Deserialize)]
        struct Content {
            membership: String,
        }
        let user = slices.state_key.as_deref().filter(|_| slices.kind == "m.room.member");
        let Some(user) = user.and_then(|user| UserId::parse(user).ok()) else { return Ok(()) };
        let Ok(Content { membership }) = serde_json::from_str(slices.content.get()) else { return Ok(()) };
        let is_ours = self.service.may_be(&user);
        match (interest::was_joined(self.tx, row, user.as_str())?, membership.as_str()) {
            (false, "join") => {
                if is_ours {
                    self.moves.entered.insert(row.room);
                }
                self.moves.came.insert(user);
            }
            (true, "leave" | "ban") => {
                if is_ours {
                    self.moves.exited.insert(row.room, pos);
                }
                self.moves.gone.insert(user);
            }
            _ => {}
        }
        Ok(())
    }

    /// What a room tells one of the service's people who is invited.
    fn invitation(&self, (pos, row): (Pos, &EventRow), slices: &Slices<'_>) -> Result<Option<Box<RawValue>>> {
        let Some(user) = slices.state_key.as_deref().filter(|_| slices.kind == "m.room.member") else {
            return Ok(None);
        };
        let Ok(user) = <&UserId>::try_from(user) else { return Ok(None) };
        let standing = members::of(self.tx, row.room, user)?;
        let invited = standing.is_some_and(|standing| standing.membership == "invite" && standing.event == pos);
        if !invited || !self.service.may_be(user) {
            return Ok(None);
        }
        if row.standing == Standing::Outlier
            && let Some(told) = tables::STRIPPED.get(self.tx, (user.as_str(), row.room))?
        {
            return text::raw(told).map(Some);
        }
        text::to_raw(&stripped::for_client(self.tx, row)?).map(Some)
    }

    /// Messages for devices of its people, the oldest first.
    fn messages(&mut self, news: &mut News, upto: Pos) -> Result<Vec<(OwnedUserId, String)>> {
        if news.all_users {
            news.all_users = false;
            let mut last = String::new();
            while let Some(user) = to_device::next_recipient(self.tx, &last)? {
                news.users.extend(UserId::parse(user.as_str()).ok().filter(|user| self.service.may_be(user)));
                last = user;
            }
            // The number of keys that are left is not kept anywhere, so it is said anew.
            news.users.insert(self.service.told.sender.clone());
        }
        let mut found: BTreeMap<Pos, Vec<(OwnedUserId, String, String)>> = BTreeMap::new();
        let span = (self.told.messages, upto);
        for user in news.users.iter().filter(|_| span.0 < span.1) {
            for (pos, device, event) in to_device::for_all_devices(self.tx, user, span, MAX_MESSAGES)? {
                found.entry(pos).or_default().push((user.clone(), device, event));
            }
        }
        let mut recipients = BTreeSet::new();
        self.told.messages = upto.max(self.told.messages);
        for (pos, messages) in found {
            if self.body.to_device.len() >= MAX_MESSAGES {
                self.more = true;
                break;
            }
            for (user, device, event) in messages {
                let mut event: Value = serde_json::from_str(&event).map_err(crate::error::Error::internal)?;
                event["to_user_id"] = user.as_str().into();
                event["to_device_id"] = device.as_str().into();
                self.body.to_device.push(event);
                recipients.insert((user, device));
            }
            if self.body.to_device.len() >= MAX_MESSAGES {
                self.told.messages = pos;
            }
        }
        Ok(recipients.into_iter().collect())
    }

    /// Whose devices changed, of people who share a room with one of its own, or who do since; and who shares none
    /// any more.
    fn device_lists(&mut self, from: Pos) -> Result<()> {
        let Moves { mut came, mut gone, entered, exited } = std::mem::take(&mut self.moves);
        for room in entered {
            let company = self.company(room, Pos::MAX)?;
            // Where another of its people was already, all are known.
            if !company.iter().any(|user| self.service.may_be(user) && !came.contains(user)) {
                came.extend(company);
            }
        }
        for (room, exit) in exited {
            if !self.interest.has(self.tx, self.service, room)? {
                gone.extend(self.company(room, exit)?);
            }
        }
        let (mut changed, mut left) = (BTreeSet::new(), BTreeSet::new());
        let logged = device_lists::log(self.tx, from, self.told.events)?.into_iter().map(|(_, user)| user);
        for user in logged.chain(came) {
            if !changed.contains(&user) && self.is_near(&user)? {
                changed.insert(user);
            }
        }
        for user in gone {
            if !changed.contains(&user) && !self.is_near(&user)? {
                left.insert(user);
            }
        }
        if !changed.is_empty() || !left.is_empty() {
            self.body.device_lists = Some(json!({ "changed": changed, "left": left }));
        }
        Ok(())
    }

    /// Who is in a room, and was when a position was taken.
    fn company(&self, room: RoomNum, at: Pos) -> Result<Vec<OwnedUserId>> {
        let mut out = Vec::new();
        members::each(self.tx, room, |user, row| {
            if row.membership == "join" && row.event <= at {
                out.extend(UserId::parse(user));
            }
            Ok(if out.len() < MAX_COMPANY { Flow::Next } else { Flow::Stop })
        })?;
        Ok(out)
    }

    /// How many keys the devices have left to which something came.
    fn keys(&mut self, news: &News) -> Result<()> {
        for user in news.users.iter().take(MAX_PASSING) {
            for device in to_device::devices(self.tx, user)? {
                let id = <&DeviceId>::from(device.as_str());
                let counts = one_time_keys::counts(self.tx, user, id)?;
                let fallbacks = one_time_keys::unused_fallbacks(self.tx, user, id)?;
                if tables::DEVICE_KEYS.has(self.tx, (user.as_str(), device.as_str()))? {
                    self.body.counts.entry(user.clone()).or_default().insert(device.clone(), counts);
                    self.body.fallbacks.entry(user.clone()).or_default().insert(device, fallbacks);
                }
            }
        }
        Ok(())
    }

    /// What passes: who types, who has read what, who is there.
    fn passing(&mut self, news: &mut News, upto: Pos) -> Result<()> {
        let mut rooms = Vec::new();
        while rooms.len() < MAX_PASSING
            && let Some(room) = news.rooms.pop_first()
        {
            rooms.push(room);
        }
        let done = news.rooms.is_empty();
        self.more |= !done;
        for room in rooms {
            if self.interest.has(self.tx, self.service, room)? {
                self.of_room(room, upto)?;
            }
        }
        if done {
            self.told.receipts = self.told.receipts.max(upto);
        }
        if std::mem::take(&mut news.presence) {
            for (number, user, status) in self.sources.presence.changed_since(self.told.presence, MAX_PASSING) {
                self.told.presence = number;
                if self.service.may_be(&user) || self.is_near(&user)? {
                    let content = json!({
                        "presence": status.state,
                        "last_active_ago": status.last_active_ago,
                        "status_msg": status.message,
                        "currently_active": status.currently_active,
                    });
                    let event = json!({ "type": "m.presence", "sender": user, "content": without_nulls(content) });
                    self.body.ephemeral.push(event);
                }
            }
            news.presence = self.told.presence < self.sources.presence.newest();
            self.more |= news.presence;
        }
        Ok(())
    }

    fn of_room(&mut self, num: RoomNum, upto: Pos) -> Result<()> {
        let Some(room) = tables::ROOMS.get(self.tx, num)? else { return Ok(()) };
        // Private receipts are told of its own account alone.
        let (sender, span) = (&self.service.told.sender, (self.told.receipts, upto));
        let shown = match span.0 < span.1 {
            true => receipts::changes(self.tx, num, span, sender, |_| false)?.events,
            false => Vec::new(),
        };
        for receipt in shown {
            let mut event = serde_json::to_value(&receipt).map_err(crate::error::Error::internal)?;
            event["room_id"] = room.id.as_str().into();
            self.body.ephemeral.push(event);
        }
        let user_ids = self.sources.typing.list(num, 0).unwrap_or_default();
        if self.interest.typing_is_new(num, &user_ids) {
            let content = json!({ "user_ids": user_ids });
            self.body.ephemeral.push(json!({ "type": "m.typing", "room_id": room.id, "content": content }));
        }
        Ok(())
    }

    /// Whether somebody is in a room that is the service's affair.
    fn is_near(&mut self, user: &UserId) -> Result<bool> {
        for room in members::joined_rooms(self.tx, user)?.into_iter().take(MAX_ROOMS) {
            if self.interest.has(self.tx, self.service, room)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Events by where they came to be so: (position, row).
type Found = BTreeMap<Pos, (Pos, EventRow)>;

/// The events between two positions, and up to where they were looked at. What was known before it came into
/// its room is found where it came in, and history that was fetched later nowhere.
fn look(tx: &impl Read, (from, upto): (Pos, Pos)) -> Result<(Found, Pos)> {
    let (mut found, mut looked, mut reached) = (Found::new(), 0, upto);
    tables::EVENTS.scan(tx, from..=upto, |pos, row| {
        looked += 1;
        let is_here = row.standing == Standing::Accepted && row.order == 0;
        if is_here || row.standing == Standing::Outlier {
            found.insert(pos, (pos, row));
        }
        Ok(if looked < MAX_LOOK {
            Flow::Next
        } else {
            reached = pos;
            Flow::Stop
        })
    })?;
    for (order, pos) in tables::LATE_EVENTS.collect(tx, from..=reached, |order, pos| (order, pos))? {
        if let Some(row) = tables::EVENTS.get(tx, pos)?.filter(|row| row.standing == Standing::Accepted) {
            found.insert(order, (pos, row));
        }
    }
    Ok((found, reached))
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}
