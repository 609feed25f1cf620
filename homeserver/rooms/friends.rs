//! Who is a friend, who asks to be one, who was asked: derived from direct rooms and memberships, so that
//! there is no second truth. See `spec/friends.md`.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId, events::StateEventType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    event::{self, Slices},
    members,
    room::Room,
    timeline,
};
use crate::{
    accounts::{account_data, profile},
    base::Pos,
    error::{Error, Result},
    store::{Read, WriteTx},
};

/// Somebody on one of the lists.
#[derive(Clone, Debug, Serialize)]
pub struct Person {
    /// Who.
    pub user_id: OwnedUserId,
    /// The direct room.
    pub room_id: OwnedRoomId,
    /// What a request says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When a request was sent, by its server's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_ts: Option<u64>,
    /// What they are called there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displayname: Option<String>,
    /// How they look there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

/// What everybody is to somebody.
#[derive(Debug, Default, Serialize)]
pub struct Lists {
    /// Friends.
    pub friends: Vec<Person>,
    /// Who asks.
    pub incoming: Vec<Person>,
    /// Who was asked.
    pub outgoing: Vec<Person>,
}

/// What one person is to another, with all rooms that say so.
#[derive(Debug, Default)]
pub struct Ties {
    /// Rooms that both are in, the one that something happened in last first.
    pub friend: Vec<Room>,
    /// Rooms that the other invites to, the newest invitation first.
    pub incoming: Vec<Room>,
    /// Rooms that the other is invited to.
    pub outgoing: Vec<Room>,
    /// Rooms that the other has left or did not want to come to.
    pub left: Vec<Room>,
}

/// The lists of a person.
pub fn lists(tx: &impl Read, me: &UserId) -> Result<Lists> {
    let mut lists = Lists::default();
    let mut friends = BTreeSet::new();
    let mut invited = incoming(tx, me, None)?;
    for (other, rooms) in direct(tx, me)? {
        let ties = ties_in(tx, me, &other, &rooms)?;
        if let Some(room) = ties.friend.first() {
            lists.friends.push(person(tx, room, &other, None)?);
            friends.insert(other);
        } else if let Some(room) = ties.outgoing.first().filter(|_| !invited.contains_key(&other)) {
            let invite = members::of(tx, room.num, &other)?.map(|row| row.event);
            lists.outgoing.push(person(tx, room, &other, invite)?);
        }
    }
    invited.retain(|other, _| !friends.contains(other));
    for (other, invites) in invited {
        if let Some((pos, room)) = invites.first() {
            lists.incoming.push(person(tx, room, &other, Some(*pos))?);
        }
    }
    for requests in [&mut lists.incoming, &mut lists.outgoing] {
        requests.sort_by_key(|person| std::cmp::Reverse(person.sent_ts));
    }
    Ok(lists)
}

/// What one other person is to somebody.
pub fn ties(tx: &impl Read, me: &UserId, other: &UserId) -> Result<Ties> {
    let rooms = direct(tx, me)?.remove(other).unwrap_or_default();
    let mut ties = ties_in(tx, me, other, &rooms)?;
    let invites = incoming(tx, me, Some(other))?.remove(other).unwrap_or_default();
    ties.incoming = invites.into_iter().map(|(_, room)| room).collect();
    Ok(ties)
}

fn ties_in(tx: &impl Read, me: &UserId, other: &UserId, rooms: &BTreeSet<OwnedRoomId>) -> Result<Ties> {
    let mut ties = Ties::default();
    for id in rooms {
        let Some(room) = Room::find(tx, id)? else { continue };
        if !members::is_joined(tx, room.num, me)? {
            continue;
        }
        match members::of(tx, room.num, other)?.map(|row| row.membership).as_deref() {
            Some("join") => ties.friend.push(room),
            Some("invite") => ties.outgoing.push(room),
            Some("leave") => ties.left.push(room),
            _ => {}
        }
    }
    for rooms in [&mut ties.friend, &mut ties.outgoing, &mut ties.left] {
        let mut dated = Vec::with_capacity(rooms.len());
        for room in rooms.drain(..) {
            dated.push((timeline::last(tx, room.num, i64::MAX)?.map_or(0, |(order, _)| order), room));
        }
        dated.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
        rooms.extend(dated.into_iter().map(|(_, room)| room));
    }
    Ok(ties)
}

type Invites = BTreeMap<OwnedUserId, Vec<(Pos, Room)>>;

/// Invitations to direct rooms by people who are not ignored, or by one of them, the newest first.
fn incoming(tx: &impl Read, me: &UserId, only: Option<&UserId>) -> Result<Invites> {
    let ignored = account_data::ignored(tx, me)?;
    let mut out = Invites::new();
    for (num, row) in members::rooms_of(tx, me)? {
        if row.membership != "invite" {
            continue;
        }
        let invite = event::row(tx, row.event)?;
        let slices = Slices::of(&invite)?;
        let Ok(sender) = UserId::parse(&*slices.sender) else { continue };
        let wanted = only.is_none_or(|only| *only == sender) && !ignored.contains(&sender);
        if wanted && Invitation::of(&slices).is_direct {
            out.entry(sender).or_default().push((row.event, Room::at(tx, num)?));
        }
    }
    for invites in out.values_mut() {
        invites.sort_by_key(|(pos, _)| std::cmp::Reverse(*pos));
    }
    Ok(out)
}

/// What matters here of a membership event's content.
#[derive(Default, Deserialize)]
struct Invitation {
    #[serde(default)]
    is_direct: bool,
    #[serde(default)]
    reason: Option<String>,
}

impl Invitation {
    fn of(event: &Slices<'_>) -> Self {
        serde_json::from_str(event.content.get()).unwrap_or_default()
    }
}

/// Somebody as a list shows them; with the invitation that is their request.
fn person(tx: &impl Read, room: &Room, user: &UserId, invite: Option<Pos>) -> Result<Person> {
    let mut person = Person {
        user_id: user.to_owned(),
        room_id: room.id().to_owned(),
        note: None,
        sent_ts: None,
        displayname: None,
        avatar_url: None,
    };
    if let Some(pos) = invite {
        let row = event::row(tx, pos)?;
        let slices = Slices::of(&row)?;
        person.note = Invitation::of(&slices).reason;
        person.sent_ts = Some(slices.origin_server_ts);
    }
    let shown = shown_as(tx, room, user)?;
    let text = |key: &str| shown.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    (person.displayname, person.avatar_url) = (text("displayname"), text("avatar_url"));
    Ok(person)
}

/// How somebody shows themselves in a room: by its state, or of a room that this server is not in, by what
/// its invitation says.
fn shown_as(tx: &impl Read, room: &Room, user: &UserId) -> Result<Map<String, Value>> {
    if let Some(event) = room.state_event(tx, &StateEventType::RoomMember, user.as_str())? {
        return Ok(event.content_as().unwrap_or_default());
    }
    Ok(profile::of(tx, user).unwrap_or_default())
}

/// Which rooms are direct with whom, as somebody's account data says. What is no user or room ID is left
/// out, and so is the person themselves.
fn direct(tx: &impl Read, me: &UserId) -> Result<BTreeMap<OwnedUserId, BTreeSet<OwnedRoomId>>> {
    let mut out = BTreeMap::new();
    for (user, rooms) in stored(tx, me)? {
        let (Ok(user), Value::Array(rooms)) = (UserId::parse(user), rooms) else { continue };
        if user != me {
            out.insert(user, rooms.iter().filter_map(|id| RoomId::parse(id.as_str()?).ok()).collect());
        }
    }
    Ok(out)
}

fn stored(tx: &impl Read, me: &UserId) -> Result<Map<String, Value>> {
    let json = account_data::get(tx, me, "", account_data::DIRECT)?;
    Ok(json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default())
}

/// Notes that a room is direct with somebody (true), or is not (false).
pub fn set_direct(tx: &WriteTx, me: &UserId, other: &UserId, room: &RoomId, is: bool) -> Result<()> {
    let old = stored(tx, me)?;
    let mut content = old.clone();
    let entry = content.entry(other.as_str()).or_insert_with(|| Value::Array(Vec::new()));
    let rooms = entry.as_array_mut().ok_or_else(|| Error::unknown("your m.direct account data are damaged"))?;
    rooms.retain(|id| id.as_str() != Some(room.as_str()));
    if is {
        rooms.push(room.as_str().into());
    }
    if rooms.is_empty() {
        content.remove(other.as_str());
    }
    match content == old {
        true => Ok(()),
        false => account_data::set(tx, me, "", account_data::DIRECT, Value::Object(content).to_string()),
    }
}

/// Whether nobody but these two is in a room.
pub fn is_of_two(tx: &impl Read, room: &Room, me: &UserId, other: &UserId) -> Result<bool> {
    let both = [me, other].into_iter().map(|user| members::is_joined(tx, room.num, user));
    let both = both.collect::<Result<Vec<_>>>()?.into_iter().filter(|is| *is).count();
    Ok(room.row.joined <= both as u64)
}

/// Whether somebody has ever been in a room.
pub fn was_there(tx: &impl Read, room: &Room, user: &UserId) -> Result<bool> {
    let mut at = members::of(tx, room.num, user)?.map(|row| row.event);
    while let Some(pos) = at.filter(|pos| *pos != 0) {
        let row = event::row(tx, pos)?;
        if super::Pdu::at(tx, pos)?.membership().as_deref() == Some("join") {
            return Ok(true);
        }
        // Positions fall from step to step, so this ends.
        let earlier = super::state::event(tx, row.state_before, &StateEventType::RoomMember, user.as_str())?;
        at = earlier.filter(|earlier| *earlier < pos);
    }
    Ok(false)
}
