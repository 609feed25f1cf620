//! Spaces: the rooms below one, in the order in which their children stand, as far as somebody may see
//! them; and what one room says of itself to whoever may come in. Rooms that this server does not know are
//! left out. spec: client-server-api#spaces, #get_matrixclientv1room_summaryroomidoralias

use std::collections::HashSet;

use ruma::{OwnedRoomId, RoomId, UserId, events::StateEventType};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    directory,
    event::{self, Slices},
    history, members, restricted,
    room::Room,
    state,
};
use crate::{
    error::{Error, Result},
    store::Read,
};

/// The type of rooms that hold others.
const SPACE: &str = "m.space";
/// Rooms that a walk comes to at most, on all its pages together.
const MAX_WALK: usize = 2000;
/// Levels that a walk goes down at most.
const MAX_DEPTH: usize = 50;
/// Rooms on a page, if the client does not say, and at most.
const PAGE: (usize, usize) = (50, 100);

/// A room that a space names as its child.
pub struct Child {
    /// Which.
    pub room: OwnedRoomId,
    /// Whether the space recommends it.
    pub suggested: bool,
    /// Where it stands among the others: by what the space says, then by age.
    place: (bool, String, u64),
    event: Map<String, Value>,
}

/// The children of a space, in their order. spec: client-server-api#ordering-of-children-within-a-space
pub fn children(tx: &impl Read, space: &Room) -> Result<Vec<Child>> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(default)]
        via: Vec<Value>,
        order: Option<Value>,
        suggested: Option<Value>,
    }
    let kind = StateEventType::SpaceChild.to_string();
    let mut out = Vec::new();
    for (key, pos) in state::without_members(tx, space.row.state)? {
        let (of, name) = state::key_name(tx, key)?;
        if of != kind {
            continue;
        }
        let Ok(room) = RoomId::parse(&name) else { continue };
        let row = event::row(tx, pos)?;
        let slices = Slices::of(&row)?;
        let Ok(content) = serde_json::from_str::<Content>(slices.content.get()) else { continue };
        if content.via.is_empty() {
            continue;
        }
        let order = content.order.as_ref().and_then(Value::as_str);
        let order = order.filter(|order| order.len() <= 50 && order.bytes().all(|byte| (0x20..=0x7E).contains(&byte)));
        let mut stripped: Map<String, Value> = parse(&event::stripped(&row)?)?;
        stripped.insert("origin_server_ts".to_owned(), slices.origin_server_ts.into());
        out.push(Child {
            room,
            suggested: content.suggested == Some(Value::Bool(true)),
            place: (order.is_none(), order.unwrap_or_default().to_owned(), slices.origin_server_ts),
            event: stripped,
        });
    }
    out.sort_by(|one, other| (&one.place, &one.room).cmp(&(&other.place, &other.room)));
    Ok(out)
}

fn parse(raw: &RawValue) -> Result<Map<String, Value>> {
    serde_json::from_str(raw.get()).map_err(Error::internal)
}

/// Whether somebody may know what a room says of itself: they are in it or invited, may come in, or
/// everybody may read it. Nobody is somebody without an account.
pub fn may_see(tx: &impl Read, room: &Room, user: Option<&UserId>) -> Result<bool> {
    if let Some(user) = user
        && let Some(row) = members::of(tx, room.num, user)?
        && matches!(row.membership.as_str(), "join" | "invite" | "knock")
    {
        return Ok(true);
    }
    if restricted::is_open_to(tx, room, user)? {
        return Ok(true);
    }
    history::is_world_readable(tx, room)
}

/// What a room says of itself.
pub fn summary(tx: &impl Read, room: &Room) -> Result<Map<String, Value>> {
    let mut out = directory::describe(tx, room)?;
    out.insert("room_version".to_owned(), room.row.version.as_str().into());
    let encryption: Option<Map<String, Value>> = room.state_content(tx, &StateEventType::RoomEncryption)?;
    if let Some(algorithm) = encryption.and_then(|mut content| content.remove("algorithm")).filter(Value::is_string) {
        out.insert("encryption".to_owned(), algorithm);
    }
    let allowed = restricted::allowed_rooms(tx, room)?;
    if !allowed.is_empty() {
        out.insert("allowed_room_ids".to_owned(), json!(allowed));
    }
    Ok(out)
}

/// A walk through a space that somebody asks for.
pub struct Walk {
    /// Rooms on a page.
    pub limit: Option<usize>,
    /// Levels below the first room.
    pub max_depth: Option<usize>,
    /// Only children that their spaces recommend.
    pub suggested_only: bool,
    /// The token of the page before.
    pub from: Option<String>,
}

/// One page of a walk, depth first, and the token of the next one.
pub fn page(tx: &impl Read, root: &Room, user: &UserId, walk: &Walk) -> Result<(Vec<Value>, Option<String>)> {
    let depth = walk.max_depth.unwrap_or(MAX_DEPTH).min(MAX_DEPTH);
    let limit = walk.limit.unwrap_or(PAGE.0).clamp(1, PAGE.1);
    let skip = walk.from.as_deref().map_or(Ok(0), |from| skipped(from, depth, walk.suggested_only))?;
    let (mut out, mut seen, mut at) = (Vec::new(), HashSet::from([root.row.id.clone()]), 0);
    let mut ahead = vec![(root.clone(), 0)];
    while let Some((room, level)) = ahead.pop() {
        if out.len() == limit {
            return Ok((out, Some(token(at, depth, walk.suggested_only))));
        }
        let is_space = room.row.kind.as_deref() == Some(SPACE);
        let mut below = if is_space { children(tx, &room)? } else { Vec::new() };
        below.retain(|child| child.suggested || !walk.suggested_only);
        if at >= skip {
            let mut entry = summary(tx, &room)?;
            let events: Vec<Value> = below.iter().map(|child| Value::Object(child.event.clone())).collect();
            entry.insert("children_state".to_owned(), events.into());
            out.push(Value::Object(entry));
        }
        at += 1;
        if at == MAX_WALK {
            break;
        }
        // Those that come first are taken first, so they are laid on top.
        for child in below.iter().rev().filter(|_| level < depth) {
            if seen.contains(child.room.as_str()) {
                continue;
            }
            let Some(known) = Room::find(tx, &child.room)? else { continue };
            if may_see(tx, &known, Some(user))? {
                seen.insert(known.row.id.clone());
                ahead.push((known, level + 1));
            }
        }
    }
    Ok((out, None))
}

/// A token says how many rooms came before, and what the walk was asked for.
fn token(at: usize, depth: usize, suggested_only: bool) -> String {
    format!("h{at}_{depth}_{suggested_only}")
}

/// 400 for what is no token of ours, or of another walk.
fn skipped(from: &str, depth: usize, suggested_only: bool) -> Result<usize> {
    let at = from.strip_prefix('h').and_then(|rest| rest.split('_').next()).and_then(|at| at.parse().ok());
    at.filter(|at| token(*at, depth, suggested_only) == from)
        .ok_or_else(|| Error::invalid_param("this token is of no walk of ours, or max_depth or suggested_only changed"))
}
