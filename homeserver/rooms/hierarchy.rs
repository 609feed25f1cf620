//! Spaces: the rooms below one, in the order in which their children stand, as far as somebody may see
//! them; and what one room says of itself to whoever may come in. Of rooms that this server is not in it
//! is told what other servers said (`hearsay`): a walk names those that it lacks.
//! spec: client-server-api#spaces, #get_matrixclientv1room_summaryroomidoralias,
//! server-server-api#get_matrixfederationv1hierarchyroomid

use std::collections::{HashMap, HashSet};

use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId, events::StateEventType};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    acl, directory, doorstep,
    event::{self, Slices},
    hearsay::{self, Told},
    history, members, restricted,
    room::Room,
    servers, state,
};
use crate::{
    base::{json, signing::Identity},
    error::{Error, Result},
    store::{Flow, Read},
};

/// The type of rooms that hold others.
pub(super) const SPACE: &str = "m.space";
/// Rooms that a walk comes to at most, on all its pages together, and children that it looks at for them.
const MAX_WALK: usize = 2000;
const MAX_LOOKS: usize = 20_000;
/// Levels that a walk goes down at most.
const MAX_DEPTH: usize = 50;
/// Rooms on a page, if the client does not say, and at most.
const PAGE: (usize, usize) = (50, 100);
/// The text of a page, beyond which the rest is for the next one.
const PAGE_TEXT: usize = 2 << 20;
/// Servers that a child is said to be on, of which are remembered.
const MAX_VIA: usize = 5;
/// Children that another server is told of.
const MAX_CHILDREN: usize = 1000;
/// Members that are looked at to find whether somebody of another server is invited.
const MAX_INVITED: usize = 5000;

/// A room that a space names as its child.
pub struct Child {
    /// Which.
    pub room: OwnedRoomId,
    /// Servers that may know it.
    pub via: Vec<OwnedServerName>,
    /// Whether the space recommends it.
    pub suggested: bool,
    /// Where it stands among the others: by what the space says, then by age.
    place: (bool, String, u64),
    /// The event that names it, stripped, and with its time.
    pub event: Map<String, Value>,
}

impl Child {
    /// The child that a stripped event names, if it names one.
    pub(super) fn of(event: Map<String, Value>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Named {
            state_key: OwnedRoomId,
            content: Content,
            #[serde(default)]
            origin_server_ts: u64,
        }
        #[derive(Deserialize)]
        struct Content {
            #[serde(default)]
            via: Vec<Value>,
            order: Option<Value>,
            suggested: Option<Value>,
        }
        let Named { state_key, content, origin_server_ts } = Named::deserialize(&event).ok()?;
        if content.via.is_empty() {
            return None;
        }
        let via = content.via.iter().filter_map(|server| ServerName::parse(server.as_str()?).ok());
        let order = content.order.as_ref().and_then(Value::as_str);
        let order = order.filter(|order| order.len() <= 50 && order.bytes().all(|byte| (0x20..=0x7E).contains(&byte)));
        Some(Self {
            room: state_key,
            via: via.take(MAX_VIA).collect(),
            suggested: content.suggested == Some(Value::Bool(true)),
            place: (order.is_none(), order.unwrap_or_default().to_owned(), origin_server_ts),
            event,
        })
    }
}

/// The order of children. spec: client-server-api#ordering-of-children-within-a-space
pub(super) fn sort(children: &mut [Child]) {
    children.sort_by(|one, other| (&one.place, &one.room).cmp(&(&other.place, &other.room)));
}

/// The children of a space, in their order; none of what is no space.
pub fn children(tx: &impl Read, space: &Room) -> Result<Vec<Child>> {
    let mut out = Vec::new();
    if space.row.kind.as_deref() != Some(SPACE) {
        return Ok(out);
    }
    let kind = StateEventType::SpaceChild.to_string();
    for (key, pos) in state::without_members(tx, space.row.state)? {
        let (of, _) = state::key_name(tx, key)?;
        if of != kind {
            continue;
        }
        let row = event::row(tx, pos)?;
        let mut stripped: Map<String, Value> = parse(&event::stripped(&row)?)?;
        stripped.insert("origin_server_ts".to_owned(), Slices::of(&row)?.origin_server_ts.into());
        out.extend(Child::of(stripped));
    }
    sort(&mut out);
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

/// Whether a server may know it: somebody of it is in the room or may come in, or everybody may read it; and
/// the room does not shut it out.
fn may_tell(tx: &impl Read, room: &Room, server: &ServerName) -> Result<bool> {
    if acl::check(tx, room, server).is_err() {
        return Ok(false);
    }
    Ok(servers::is_in(tx, room.num, server)?
        || history::is_world_readable(tx, room)?
        || restricted::is_open_to_server(tx, room, server)?)
}

/// Whether somebody of a server is invited to a room, as far as is looked.
fn has_invited(tx: &impl Read, room: &Room, server: &ServerName) -> Result<bool> {
    let (mut found, mut looked) = (false, 0);
    members::each(tx, room.num, |user, row| {
        let is_theirs = || <&UserId>::try_from(user).is_ok_and(|user| user.server_name() == server);
        found = row.membership == "invite" && is_theirs();
        looked += 1;
        Ok(if found || looked == MAX_INVITED { Flow::Stop } else { Flow::Next })
    })?;
    Ok(found)
}

/// What a room says of itself.
pub fn summary(tx: &impl Read, room: &Room) -> Result<Map<String, Value>> {
    let mut out = directory::describe(tx, room)?;
    // Without a rule nobody comes in who is not invited; to say nothing would mean that all may.
    out.entry("join_rule").or_insert_with(|| "invite".into());
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

/// The room with this ID, if what is known of it here is its present.
pub fn here(tx: &impl Read, me: &Identity, id: &RoomId) -> Result<Option<Room>> {
    match Room::find(tx, id)? {
        Some(room) if doorstep::is_inside(tx, me, &room)? => Ok(Some(room)),
        _ => Ok(None),
    }
}

/// What another server is told of a space and the rooms right below it. 404 for what it may not know.
pub fn for_server(
    tx: &impl Read,
    me: &Identity,
    (root, suggested_only): (&RoomId, bool),
    server: &ServerName,
) -> Result<Value> {
    let hidden = || Error::not_found("there is no such room, or it is not yours to see");
    let room = here(tx, me, root)?.ok_or_else(hidden)?;
    let is_shut_out = acl::check(tx, &room, server).is_err();
    if is_shut_out || (!may_tell(tx, &room, server)? && !has_invited(tx, &room, server)?) {
        return Err(hidden());
    }
    let mut below = children(tx, &room)?;
    below.retain(|child| child.suggested || !suggested_only);
    below.truncate(MAX_CHILDREN);
    let (mut told, mut inaccessible) = (Vec::new(), Vec::new());
    for child in &below {
        match here(tx, me, &child.room)? {
            Some(room) if may_tell(tx, &room, server)? => told.push(summary(tx, &room)?),
            Some(room) => inaccessible.push(room.row.id),
            None => {}
        }
    }
    let mut root = summary(tx, &room)?;
    root.insert("children_state".to_owned(), below.into_iter().map(|child| Value::Object(child.event)).collect());
    Ok(json!({ "room": root, "children": told, "inaccessible_children": inaccessible }))
}

/// A walk through a space that somebody asks for.
pub struct Walk {
    /// Where it begins, and servers that may know that room.
    pub root: (OwnedRoomId, Vec<OwnedServerName>),
    /// Who walks.
    pub user: ruma::OwnedUserId,
    /// Rooms on a page.
    pub limit: Option<usize>,
    /// Levels below the first room.
    pub max_depth: Option<usize>,
    /// Only children that their spaces recommend.
    pub suggested_only: bool,
    /// The token of the page before.
    pub from: Option<String>,
}

/// What other servers said of rooms: none where they were asked in vain.
pub type Elsewhere = HashMap<OwnedRoomId, Option<std::sync::Arc<Told>>>;

/// One page of a walk, depth first.
pub struct Page {
    /// The rooms.
    pub rooms: Vec<Box<RawValue>>,
    /// The token of the next one.
    pub next: Option<String>,
    /// Rooms of which other servers would have to be asked before this is whole, with those servers.
    pub lacking: Vec<(OwnedRoomId, Vec<OwnedServerName>)>,
}

/// A room that a walk comes to.
struct Stop {
    id: OwnedRoomId,
    via: Vec<OwnedServerName>,
    level: usize,
    /// What was said, by another server, of the space that it is below.
    above: Option<std::sync::Arc<Told>>,
}

/// What a walk finds at a stop.
struct Found {
    summary: Map<String, Value>,
    children: Vec<Child>,
    told: Option<std::sync::Arc<Told>>,
}

/// One page of a walk, with what is known here and was gathered. 403 if the first room is not to be seen.
pub fn page(tx: &impl Read, me: &Identity, walk: &Walk, elsewhere: &Elsewhere) -> Result<Page> {
    let depth = walk.max_depth.unwrap_or(MAX_DEPTH).min(MAX_DEPTH);
    let limit = walk.limit.unwrap_or(PAGE.0).clamp(1, PAGE.1);
    let skip = walk.from.as_deref().map_or(Ok(0), |from| skipped(from, depth, walk.suggested_only))?;
    let (mut seen, mut at, mut text) = (HashSet::new(), 0, 0);
    let mut page = Page { rooms: Vec::new(), next: None, lacking: Vec::new() };
    let mut ahead = vec![Stop { id: walk.root.0.clone(), via: walk.root.1.clone(), level: 0, above: None }];
    for _ in 0..MAX_LOOKS {
        let Some(stop) = ahead.pop() else { break };
        if seen.contains(&stop.id) {
            continue;
        }
        let Some(found) = look(tx, me, (walk, &stop), elsewhere, &mut page.lacking)? else { continue };
        seen.insert(stop.id);
        let Found { mut summary, children: mut below, told } = found;
        below.retain(|child| child.suggested || !walk.suggested_only);
        if at >= skip {
            let events: Vec<Value> = below.iter().map(|child| Value::Object(child.event.clone())).collect();
            summary.insert("children_state".to_owned(), events.into());
            let entry = json::to_raw(&summary)?;
            text += entry.get().len();
            if page.rooms.len() == limit || (text > PAGE_TEXT && !page.rooms.is_empty()) {
                page.next = Some(token(at, depth, walk.suggested_only));
                return Ok(page);
            }
            page.rooms.push(entry);
        }
        at += 1;
        if at == MAX_WALK {
            break;
        }
        // Those that come first are taken first, so they are laid on top.
        for Child { room, via, .. } in below.into_iter().rev().filter(|_| stop.level < depth) {
            ahead.push(Stop { id: room, via, level: stop.level + 1, above: told.clone() });
        }
    }
    match at == 0 && page.lacking.is_empty() {
        true => Err(Error::forbidden("there is no such room, or it is not yours to see")),
        false => Ok(page),
    }
}

/// What is to be seen at a stop. Of a room that is not known here what another server said counts: that of
/// which it was asked, or what it said of the children of a space.
fn look(
    tx: &impl Read,
    me: &Identity,
    (walk, stop): (&Walk, &Stop),
    elsewhere: &Elsewhere,
    lacking: &mut Vec<(OwnedRoomId, Vec<OwnedServerName>)>,
) -> Result<Option<Found>> {
    if let Some(room) = here(tx, me, &stop.id)? {
        return match may_see(tx, &room, Some(&walk.user))? {
            true => Ok(Some(Found { summary: summary(tx, &room)?, children: children(tx, &room)?, told: None })),
            false => Ok(None),
        };
    }
    let in_passing = stop.above.as_ref().and_then(|above| above.children.get(&stop.id));
    let (summary, told) = match elsewhere.get(&stop.id) {
        Some(Some(told)) => (Some(&told.summary), Some(told.clone())),
        Some(None) => (in_passing, None),
        None => {
            let is_known = stop.above.as_ref().is_some_and(|above| above.is_enough(&stop.id));
            if !is_known && !lacking.iter().any(|(room, _)| *room == stop.id) {
                let by = stop.above.iter().map(|above| above.by.clone());
                lacking.push((stop.id.clone(), stop.via.iter().cloned().chain(by).collect()));
            }
            (in_passing, None)
        }
    };
    let Some(summary) = summary else { return Ok(None) };
    if !hearsay::may_see(tx, &stop.id, summary, &walk.user)? {
        return Ok(None);
    }
    let children = told.as_ref().map(|told| told.below()).unwrap_or_default();
    Ok(Some(Found { summary: summary.clone(), children, told }))
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
