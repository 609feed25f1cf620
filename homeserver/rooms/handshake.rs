//! How people of other servers come into our rooms through us, go out, or knock: we hand out a template
//! of their membership event, their server signs it, and we look at what comes back before it is judged
//! like any other event. Knows nothing of the network.
//! spec: server-server-api#joining-rooms, #leaving-rooms-rejecting-invites, #knocking-rooms

use std::collections::BTreeSet;

use ruma::{
    EventId, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    canonical_json::redact_in_place,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
    signatures::sign_json,
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    acl,
    draft::{self, Cited, Draft, Signed},
    event::{self, Pdu},
    members, partial, pdu,
    restricted::{self, Among},
    room::{self, Room},
    servers,
    state::{self, StateId},
};
use crate::{
    accounts::profile,
    base::{Pos, json, signing::Identity},
    error::{Error, Result},
    store::{Read, tables},
};

/// Events of a state and its auth chain that are handed over at most: a bound on what one join costs.
const MAX_HANDED_OVER: usize = 500_000;
/// Servers that a template names as being in the room at most.
const MAX_SERVERS: usize = 50_000;

/// Which change of their own membership somebody wants to make through us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into the room.
    Join,
    /// Out of it, or away from its door.
    Leave,
    /// To its door.
    Knock,
}

impl Step {
    /// The membership that it leads to.
    pub fn membership(self) -> MembershipState {
        match self {
            Self::Join => MembershipState::Join,
            Self::Leave => MembershipState::Leave,
            Self::Knock => MembershipState::Knock,
        }
    }
}

/// A room that another server may speak with us about. 404 if we are not in it ourselves, 403 if the room
/// does not let that server in.
pub fn shared_room(tx: &impl Read, me: &Identity, id: &RoomId, origin: &ServerName) -> Result<Room> {
    let unknown = || Error::not_found("this server is not in the room");
    let room = Room::find(tx, id)?.ok_or_else(unknown)?;
    if !servers::is_in(tx, room.num, &me.name)? {
        return Err(unknown());
    }
    acl::check(tx, &room, origin)?;
    if room.is_partial() {
        return Err(partial::unable());
    }
    Ok(room)
}

/// Refuses a server that does not speak a room's version. 400 `M_INCOMPATIBLE_ROOM_VERSION`.
pub fn check_version(room: &Room, spoken: &[RoomVersionId]) -> Result<()> {
    match spoken.contains(&room.version()) {
        true => Ok(()),
        false => Err(incompatible(&room.version())),
    }
}

/// 400 `M_INCOMPATIBLE_ROOM_VERSION`.
pub fn incompatible(version: &RoomVersionId) -> Error {
    let message = format!("the room is of version {version}, which is not spoken on both sides");
    Error::bad_request("M_INCOMPATIBLE_ROOM_VERSION", message).with("room_version", version.as_str().into())
}

/// An unsigned event for somebody of another server, if the room's rules allow it. 403 if not; for
/// restricted rooms also what `restricted::authoriser` says.
pub fn template(tx: &impl Read, me: &Identity, room: &Room, user: &UserId, step: Step) -> Result<Box<RawValue>> {
    let mut content = Map::from_iter([("membership".to_owned(), Value::from(step.membership().as_str()))]);
    let was = members::of(tx, room.num, user)?.map(|row| row.membership);
    if step == Step::Join
        && !matches!(was.as_deref(), Some("join" | "invite"))
        && let Some(authoriser) = restricted::authoriser(tx, me, room, (user, Among::Everybody))?
    {
        content.insert("join_authorised_via_users_server".to_owned(), authoriser.as_str().into());
    }
    let draft = Draft::state_of(TimelineEventType::RoomMember, user.as_str(), &content)?;
    let (object, authority) = draft::unsigned(tx, room, user, &draft)?;
    let text = serde_json::to_string(&object).map_err(Error::internal)?;
    // It has no ID before it is signed, and none is looked at.
    let unsigned = Pdu::parse(event::parse_id("$unsigned")?, &text)?;
    authority.check(&room.rules().authorization, &unsigned)?;
    json::raw(text)
}

/// What we ask another server for.
pub struct Asked<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// Its version, as the other server says.
    pub version: &'a RoomVersionId,
    /// Who of ours.
    pub user: &'a UserId,
    /// Which change.
    pub step: Step,
    /// Why, in their words.
    pub reason: Option<&'a str>,
    /// What their membership says besides.
    pub more: &'a Map<String, Value>,
}

/// Makes a signed event of a template that another server gave. Of the template only what the room alone
/// knows is taken: what comes before and what allows it, and who vouches for a join. 502 if it is for
/// anything else than was asked for. spec: server-server-api#get_matrixfederationv1make_joinroomiduserid
pub fn complete(tx: &impl Read, me: &Identity, template: &RawValue, asked: &Asked<'_>) -> Result<Signed> {
    #[derive(Deserialize)]
    struct Template {
        #[serde(rename = "type")]
        kind: String,
        room_id: String,
        sender: String,
        state_key: String,
        content: Content,
        prev_events: Vec<OwnedEventId>,
        auth_events: Vec<OwnedEventId>,
        depth: u64,
    }
    #[derive(Deserialize)]
    struct Content {
        membership: String,
        join_authorised_via_users_server: Option<OwnedUserId>,
    }
    let wrong = |why: &str| Error::bad_gateway(format!("the other server's template can't be used: {why}"));
    let rules = room::rules(asked.version)?;
    let template: Template = serde_json::from_str(template.get()).map_err(|error| wrong(&error.to_string()))?;
    let user = asked.user.as_str();
    if template.kind != "m.room.member" || template.content.membership != asked.step.membership().as_str() {
        return Err(wrong("it is for another event"));
    }
    if template.room_id != asked.room.as_str() || template.sender != user || template.state_key != user {
        return Err(wrong("it is for another room or person"));
    }
    if template.prev_events.len() > pdu::MAX_PREV || template.auth_events.len() > pdu::MAX_AUTH {
        return Err(wrong("it cites too many events"));
    }
    let mut content = asked.more.clone();
    content.insert("membership".to_owned(), template.content.membership.into());
    if asked.step != Step::Leave {
        profile::introduce(tx, asked.user, &mut content)?;
    }
    if let Some(reason) = asked.reason {
        content.insert("reason".to_owned(), reason.into());
    }
    if let Some(voucher) = template.content.join_authorised_via_users_server.filter(|_| asked.step == Step::Join) {
        content.insert("join_authorised_via_users_server".to_owned(), voucher.as_str().into());
    }
    let draft = Draft::state_of(TimelineEventType::RoomMember, user, &content)?;
    let cited = Cited { prev: template.prev_events, auth: template.auth_events, depth: template.depth };
    draft::sign_on(me, (asked.room, &rules), asked.user, &draft, cited)
}

/// What a server hands in.
pub struct HandedIn<'a> {
    /// Whose request it is.
    pub origin: &'a ServerName,
    /// The room that it names in the path.
    pub room: &'a RoomId,
    /// The event that it names in the path.
    pub event: &'a EventId,
    /// Which change it asks for.
    pub step: Step,
}

/// Whether an event is what was asked for: that change, in that room, by somebody of that server, of
/// themselves. 400 `M_INVALID_PARAM`.
pub fn check_handed_in(pdu: &Pdu, room: &RoomId, asked: &HandedIn<'_>) -> Result<()> {
    let wrong = |what: &str| Error::invalid_param(format!("this event does not fit the request: {what}"));
    if pdu.kind != TimelineEventType::RoomMember {
        return Err(wrong("it is no membership"));
    }
    if pdu.membership().as_deref() != Some(asked.step.membership().as_str()) {
        return Err(wrong("it is another membership"));
    }
    if pdu.state_key.as_deref() != Some(pdu.sender.as_str()) {
        return Err(wrong("it is about somebody else than its sender"));
    }
    if pdu.sender.server_name() != asked.origin {
        return Err(wrong("its sender is of another server"));
    }
    if room != asked.room {
        return Err(wrong("it is in another room"));
    }
    if pdu.id != asked.event {
        return Err(wrong("it has another ID"));
    }
    Ok(())
}

/// The member of ours whom a join names as vouching for it. They have to sign it too, once it is found
/// that they do, by [`check_vouched`].
pub fn voucher(me: &Identity, room: &Room, pdu: &Pdu) -> Option<OwnedUserId> {
    #[derive(Deserialize)]
    struct Content {
        join_authorised_via_users_server: OwnedUserId,
    }
    let asked = room.rules().signatures.check_join_authorised_via_users_server;
    let content: Content = pdu.content_as().filter(|_| asked)?;
    Some(content.join_authorised_via_users_server).filter(|user| me.owns(user))
}

/// Whether a member of ours does vouch for a join that names them.
pub fn check_vouched(tx: &impl Read, me: &Identity, room: &Room, pdu: &Pdu, voucher: &UserId) -> Result<()> {
    restricted::check_authoriser(tx, me, room, (&pdu.sender, voucher))
}

/// An event with our signature beside the ones that it has. Nothing else of it changes.
pub fn countersign(me: &Identity, event: &RawValue, rules: &RoomVersionRules) -> Result<Box<RawValue>> {
    let mut object = json::canonical_from_raw(event)?;
    let mut signed = object.clone();
    signed.remove("unsigned");
    redact_in_place(&mut signed, &rules.redaction, None).map_err(|error| Error::bad_json(error.to_string()))?;
    sign_json(me.name.as_str(), &me.key, &mut signed).map_err(|error| Error::bad_json(error.to_string()))?;
    let signatures = signed.remove("signatures").ok_or_else(|| Error::internal("a signed event without signatures"))?;
    object.insert("signatures".to_owned(), signatures);
    json::to_raw(&object)
}

/// What a server that comes into a room is given: positions of events, so that they can be read in
/// pieces; events don't change.
pub struct HandedOver {
    /// The state before its member came in.
    pub state: Vec<Pos>,
    /// What allows the state and the join.
    pub auth_chain: Vec<Pos>,
    /// Whether memberships are left out of the state.
    pub members_omitted: bool,
    /// The servers that were in the room.
    pub servers: Vec<OwnedServerName>,
}

/// The state before a join for the server that sends it. With `omit_members` only the memberships that
/// are needed to name the room are in it, and what is in the state is not in the auth chain again.
pub fn hand_over(
    tx: &impl Read,
    room: &Room,
    (before, join): (StateId, &Pdu),
    omit_members: bool,
) -> Result<HandedOver> {
    let entries = match omit_members {
        true => state::without_members(tx, before)?,
        false => state::all(tx, before)?,
    };
    let mut kept: Vec<Pos> = entries.into_iter().map(|(_, pos)| pos).collect();
    if omit_members {
        for hero in heroes(tx, room, before, &join.sender)? {
            kept.extend(state::event(tx, before, &StateEventType::RoomMember, hero.as_str())?);
        }
    }
    let mut chain = Vec::new();
    let cited = positions(tx, &join.auth_events)?;
    walk(tx, kept.iter().copied().chain(cited.iter().copied()), &mut chain)?;
    let in_state: BTreeSet<Pos> = kept.iter().copied().collect();
    let is_cited: BTreeSet<Pos> = chain.iter().flat_map(|(_, below)| below).copied().chain(cited).collect();
    let wanted = |pos: &Pos| match omit_members {
        true => !in_state.contains(pos),
        false => is_cited.contains(pos),
    };
    let mut servers = servers::in_room(tx, room.num)?;
    servers.retain(|server| server != join.sender.server_name());
    servers.truncate(MAX_SERVERS);
    Ok(HandedOver {
        auth_chain: chain.into_iter().map(|(pos, _)| pos).filter(wanted).collect(),
        state: kept,
        members_omitted: omit_members,
        servers,
    })
}

/// Every event that is reached along auth events, with what it cites.
fn walk(tx: &impl Read, from: impl Iterator<Item = Pos>, out: &mut Vec<(Pos, Vec<Pos>)>) -> Result<()> {
    #[derive(Deserialize)]
    struct Cites {
        auth_events: Vec<OwnedEventId>,
    }
    let mut waiting: Vec<Pos> = from.collect();
    let mut seen: BTreeSet<Pos> = waiting.iter().copied().collect();
    while let Some(pos) = waiting.pop() {
        if out.len() >= MAX_HANDED_OVER {
            return Err(Error::internal("a room has too many events to hand over"));
        }
        let row = event::row(tx, pos)?;
        let cites: Cites = serde_json::from_str(&row.pdu).map_err(Error::internal)?;
        let below = positions(tx, &cites.auth_events)?;
        waiting.extend(below.iter().copied().filter(|pos| seen.insert(*pos)));
        out.push((pos, below));
    }
    Ok(())
}

fn positions(tx: &impl Read, ids: &[OwnedEventId]) -> Result<Vec<Pos>> {
    let mut out = Vec::with_capacity(ids.len());
    for id in ids {
        out.extend(tables::EVENT_IDS.get(tx, id.as_str())?);
    }
    Ok(out)
}

/// The people after whom a room without a name is called.
/// spec: server-server-api#put_matrixfederationv2send_joinroomideventid
fn heroes(tx: &impl Read, room: &Room, before: StateId, joining: &UserId) -> Result<Vec<OwnedUserId>> {
    for kind in [StateEventType::RoomName, StateEventType::RoomCanonicalAlias] {
        if state::event(tx, before, &kind, "")?.is_some() {
            return Ok(Vec::new());
        }
    }
    members::heroes(tx, room.num, joining)
}
