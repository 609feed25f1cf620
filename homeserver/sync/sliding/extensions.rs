//! What is told beside rooms: messages for the device, keys, account data, receipts, who types. Of rooms
//! it concerns those that the client has been told of.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, api::client::sync::sync_events::v5::request::ExtensionRoomConfig};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{connection::Connection, lists::Window, room::Told, wish::Wish};
use crate::{
    base::{RoomNum, json},
    e2ee::{device_lists, to_device},
    error::Result,
    rooms::{Room, receipts, state, timeline},
    store::{Read, tables},
    sync::{
        account_data,
        body::{DeviceLists, Plain},
        encryption::Keys,
        facts::Membership,
        rooms_joined,
        turn::Turn,
    },
};

/// All extensions that were asked for.
#[derive(Default, Serialize)]
pub struct Reported {
    #[serde(skip_serializing_if = "Option::is_none")]
    to_device: Option<ToDevice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e2ee: Option<Encryption>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_data: Option<AccountData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipts: Option<ByRoom>,
    #[serde(skip_serializing_if = "Option::is_none")]
    typing: Option<ByRoom>,
}

#[derive(Serialize)]
struct ToDevice {
    next_batch: String,
    events: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Encryption {
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    device_lists: DeviceLists,
    #[serde(flatten)]
    keys: Keys,
}

#[derive(Serialize)]
struct AccountData {
    global: Vec<Plain<Box<RawValue>>>,
    rooms: BTreeMap<String, Vec<Plain<Box<RawValue>>>>,
}

#[derive(Default, Serialize)]
struct ByRoom {
    rooms: BTreeMap<String, Box<RawValue>>,
}

impl Reported {
    /// Whether there is nothing that is worth an answer. Counts of keys are looked at elsewhere.
    pub fn is_quiet(&self) -> bool {
        self.to_device.as_ref().is_none_or(|found| found.events.is_empty())
            && self.e2ee.as_ref().is_none_or(|found| found.device_lists.is_empty())
            && self.account_data.as_ref().is_none_or(|found| found.global.is_empty() && found.rooms.is_empty())
            && self.receipts.as_ref().is_none_or(|found| found.rooms.is_empty())
            && self.typing.as_ref().is_none_or(|found| found.rooms.is_empty())
    }
}

/// What was asked for.
pub fn build(
    turn: &Turn<'_, impl Read>,
    wish: &Wish,
    window: &Window,
    (connection, told): (&Connection, &Told),
    keys: Keys,
) -> Result<Reported> {
    let (asked, on) = (&wish.extensions, |enabled: Option<bool>| enabled == Some(true));
    let rooms = Rooms { window, connection, told };
    let mut out = Reported::default();
    if on(asked.to_device.enabled) {
        out.to_device = Some(to_device(turn, wish)?);
    }
    if on(asked.e2ee.enabled) {
        out.e2ee = Some(Encryption { device_lists: device_lists(turn)?, keys });
    }
    if on(asked.account_data.enabled) {
        let which = rooms.of(asked.account_data.lists.as_deref(), asked.account_data.rooms.as_deref(), turn)?;
        out.account_data = Some(account_data(turn, &which)?);
    }
    if on(asked.receipts.enabled) {
        let which = rooms.of(asked.receipts.lists.as_deref(), asked.receipts.rooms.as_deref(), turn)?;
        out.receipts = Some(receipts(turn, &which)?);
    }
    if on(asked.typing.enabled) {
        let which = rooms.of(asked.typing.lists.as_deref(), asked.typing.rooms.as_deref(), turn)?;
        out.typing = Some(typing(turn, &which)?);
    }
    Ok(out)
}

/// The rooms that an extension concerns.
struct Rooms<'a> {
    window: &'a Window,
    connection: &'a Connection,
    told: &'a Told,
}

/// Which rooms, and which of them are new to the client.
struct Which {
    rooms: BTreeSet<RoomNum>,
    initial: BTreeSet<RoomNum>,
}

impl Rooms<'_> {
    fn of(
        &self,
        lists: Option<&[String]>,
        rooms: Option<&[ExtensionRoomConfig]>,
        turn: &Turn<'_, impl Read>,
    ) -> Result<Which> {
        let mut known: BTreeSet<RoomNum> = self.connection.rooms().collect();
        known.extend(&self.told.initial);
        let any_list = lists.is_none_or(|lists| lists.iter().any(|list| list == "*"));
        let any_room = rooms.is_none_or(|rooms| rooms.contains(&ExtensionRoomConfig::AllSubscribed));
        if !any_list || !any_room {
            let mut named = BTreeSet::new();
            for (room, config) in &self.window.rooms {
                let listed = config.lists.iter().any(|list| lists.is_none_or(|lists| lists.contains(list)));
                if (any_list && !config.lists.is_empty()) || (!any_list && listed) {
                    named.insert(*room);
                }
                if any_room && self.window.subscribed.contains(room) {
                    named.insert(*room);
                }
            }
            for room in rooms.unwrap_or_default() {
                if let ExtensionRoomConfig::Room(id) = room {
                    named.extend(tables::ROOM_NUMS.get(turn.tx, id.as_str())?);
                }
            }
            known.retain(|room| named.contains(room));
        }
        let inside = |room: &RoomNum| {
            turn.facts.rooms.iter().any(|mine| mine.room == *room && mine.membership == Membership::Join)
        };
        let initial = self.told.initial.intersection(&known).copied().filter(inside).collect();
        Ok(Which { rooms: known, initial })
    }
}

fn to_device(turn: &Turn<'_, impl Read>, wish: &Wish) -> Result<ToDevice> {
    let after = wish.to_device_since()?.unwrap_or(0);
    let pending = to_device::pending(turn.tx, &turn.ask.user, turn.ask.device.as_str(), after, turn.now)?;
    let events = pending.events.into_iter().map(json::raw).collect::<Result<_>>()?;
    Ok(ToDevice { next_batch: pending.upto.to_string(), events })
}

/// Whose devices changed, whichever rooms the client looks at: it tracks the people of all of them.
fn device_lists(turn: &Turn<'_, impl Read>) -> Result<DeviceLists> {
    let Some(since) = turn.since else { return Ok(DeviceLists::default()) };
    let tx = turn.tx;
    let joined = turn.facts.rooms.iter().filter(|mine| mine.membership == Membership::Join);
    let changed = rooms_joined::changed(turn, since.pos, joined.map(|mine| mine.room))?;
    for mine in &turn.facts.rooms {
        let concerns = match mine.membership {
            Membership::Join => changed.contains(&mine.room),
            Membership::Out => turn.is_new(mine.at),
            Membership::Invite | Membership::Knock => false,
        };
        if !concerns {
            continue;
        }
        let room = Room::at(tx, mine.room)?;
        let was_in = rooms_joined::was_in(turn, &room)?;
        match mine.membership {
            Membership::Out if was_in => turn.moves.borrow_mut().exited.push(room.num),
            Membership::Join if turn.is_new(mine.at) && !was_in => turn.moves.borrow_mut().entered.push(room.num),
            Membership::Join => {
                let known = timeline::state_at(tx, room.num, timeline::order_of(since.pos))?;
                rooms_joined::note_moves(turn, known, &state::diff(tx, known, room.row.state)?)?;
            }
            _ => {}
        }
    }
    let changes = device_lists::changes(tx, &turn.ask.user, since.pos, turn.now, &turn.moves.borrow())?;
    let list = |users: BTreeSet<OwnedUserId>| users.into_iter().collect();
    Ok(DeviceLists { changed: list(changes.changed), left: list(changes.left) })
}

fn account_data(turn: &Turn<'_, impl Read>, which: &Which) -> Result<AccountData> {
    let global = account_data::section(turn, account_data::own_entries(turn)?)?.events;
    let mut out = AccountData { global, rooms: BTreeMap::new() };
    if turn.since.is_some() {
        for entry in account_data::entries(turn)? {
            let room = match entry.room.is_empty() {
                true => None,
                false => tables::ROOM_NUMS.get(turn.tx, entry.room.as_str())?,
            };
            if room.is_some_and(|room| which.rooms.contains(&room) && !which.initial.contains(&room)) {
                let id = entry.room.clone();
                let events = account_data::of_room(turn, vec![entry])?.events;
                out.rooms.entry(id).or_default().extend(events);
            }
        }
    }
    for room in &which.initial {
        let room = Room::at(turn.tx, *room)?;
        let events = account_data::of_room(turn, account_data::all_of_room(turn, &room)?)?.events;
        if !events.is_empty() {
            out.rooms.insert(room.row.id, events);
        }
    }
    Ok(out)
}

fn receipts(turn: &Turn<'_, impl Read>, which: &Which) -> Result<ByRoom> {
    let mut out = ByRoom::default();
    let news = match turn.since {
        Some(since) => rooms_joined::changed(turn, since.pos, joined(turn, which))?,
        None => BTreeSet::new(),
    };
    for num in news.union(&which.initial) {
        let since = turn.since.filter(|_| !which.initial.contains(num)).map_or(0, |since| since.pos);
        let shown =
            receipts::changes(turn.tx, *num, (since, turn.now), &turn.ask.user, |user| turn.facts.ignores(user))?;
        if let Some(event) = receipts::Event::merged(shown.events) {
            out.rooms.insert(Room::at(turn.tx, *num)?.row.id, json::to_raw(&event)?);
        }
    }
    Ok(out)
}

fn typing(turn: &Turn<'_, impl Read>, which: &Which) -> Result<ByRoom> {
    #[derive(Serialize)]
    struct Typing {
        user_ids: Vec<OwnedUserId>,
    }
    let since = turn.since.map_or(0, |since| since.ephemeral);
    let mut out = ByRoom::default();
    let news: BTreeSet<RoomNum> = turn.hub.typing.changed_since(since).into_iter().collect();
    for num in joined(turn, which).collect::<BTreeSet<_>>() {
        let is_new = which.initial.contains(&num);
        if !is_new && !news.contains(&num) {
            continue;
        }
        let Some(mut user_ids) = turn.hub.typing.list(num, if is_new { 0 } else { since }) else { continue };
        user_ids.retain(|user| !turn.facts.ignores(user.as_str()));
        if !is_new || !user_ids.is_empty() {
            let event = Plain { content: Typing { user_ids }, kind: "m.typing".to_owned() };
            out.rooms.insert(Room::at(turn.tx, num)?.row.id, json::to_raw(&event)?);
        }
    }
    Ok(out)
}

/// The rooms of an extension that the person is in.
fn joined<'a>(turn: &'a Turn<'_, impl Read>, which: &'a Which) -> impl Iterator<Item = RoomNum> + Clone + 'a {
    let mine = turn.facts.rooms.iter().filter(|mine| mine.membership == Membership::Join);
    mine.map(|mine| mine.room).filter(|room| which.rooms.contains(room))
}
