//! Inviting people of other servers: their server sees the invite and signs it before the room does. So it
//! is signed here over a snapshot, and written once it has come back.
//! spec: server-server-api#inviting-to-a-room

use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::value::RawValue;

use super::{
    append::{self, Incoming},
    auth::{Authority, Wanted},
    draft::{self, Signed},
    event::Pdu,
    members::{self, Change},
    policy::{self, Policy},
    room::Room,
    state::StateId,
    stripped,
};
use crate::{
    accounts::invites::{Verdict, Wishes},
    base::{json, signing::Identity},
    error::{Error, Result},
    store::{Read, WriteTx, rows::Standing, tables},
};

/// An invite that the room allows and that nobody has seen yet.
pub struct Prepared {
    /// The event.
    pub signed: Signed,
    /// The room's version.
    pub version: RoomVersionId,
    /// What the room tells the invited server of itself.
    pub told: Vec<Box<RawValue>>,
    /// The room's policy server, which has to sign it too.
    pub policy: Option<Policy>,
    before: StateId,
}

/// Refuses invites of somebody of ours who wants none by that sender. 403 `M_INVITE_BLOCKED`.
/// spec: client-server-api#invite-permission
pub fn check_welcome(tx: &impl Read, user: &UserId, sender: &UserId) -> Result<()> {
    match Wishes::of(tx, user)?.about(sender) {
        Verdict::Blocked => Err(Error::forbidden_as("M_INVITE_BLOCKED", "this person wants no such invites")),
        Verdict::Wanted | Verdict::Ignored => Ok(()),
    }
}

/// Signs an invite, if the room's rules allow it. 403 if not.
pub fn prepare(tx: &impl Read, me: &Identity, room: &RoomId, change: Change<'_>) -> Result<Prepared> {
    let sender = change.sender;
    let room = Room::of_member(tx, room, sender)?;
    let draft = members::draft(tx, me, &room, change, None)?;
    let signed = draft::sign(tx, me, &room, sender, &draft)?;
    let told = stripped::for_server(tx, room.row.state, &signed.pdu)?;
    let policy = policy::for_event(tx, &room, &signed.pdu)?;
    Ok(Prepared { version: room.version(), told, policy, before: room.row.state, signed })
}

/// The invite with the signatures of the invited server, which are all that is taken from its answer. 502
/// if it has not signed.
pub fn with_signatures_of(server: &ServerName, own: &str, answer: &RawValue) -> Result<CanonicalJsonObject> {
    let mut object: CanonicalJsonObject = serde_json::from_str(own).map_err(Error::internal)?;
    let theirs = json::canonical_from_raw(answer).ok();
    let theirs = theirs.as_ref().and_then(|theirs| theirs.get("signatures")?.as_object()?.get(server.as_str()));
    let theirs = theirs.ok_or_else(|| Error::bad_gateway("the invited server has not signed the invite"))?.clone();
    let of_server = match object.get_mut("signatures") {
        Some(CanonicalJsonValue::Object(all)) => all.entry(server.to_string()).or_insert_with(|| theirs.clone()),
        _ => return Err(Error::internal("our own invite has no signatures")),
    };
    // It may be the room's policy server as well, and has signed as that already.
    if let (CanonicalJsonValue::Object(known), CanonicalJsonValue::Object(theirs)) = (of_server, theirs) {
        known.extend(theirs);
    }
    Ok(object)
}

/// Writes an invite that has come back, if the room still allows it. 403 if not.
pub fn post(tx: &WriteTx, room: &RoomId, (prepared, json): (&Prepared, String)) -> Result<OwnedEventId> {
    let pdu = &prepared.signed.pdu;
    let mut room = Room::of_member(tx, room, &pdu.sender)?;
    if tables::EVENT_IDS.has(tx, pdu.id.as_str())? {
        return Ok(pdu.id.clone());
    }
    check_now(tx, &room, pdu)?;
    let incoming = Incoming {
        pdu,
        json,
        state_before: prepared.before,
        standing: Standing::Accepted,
        sent_by: None,
        outgoing: true,
    };
    append::append(tx, &mut room, incoming)?;
    Ok(pdu.id.clone())
}

/// Meanwhile the sender may have lost the power to invite, or the other come in or been banned.
fn check_now(tx: &impl Read, room: &Room, pdu: &Pdu) -> Result<()> {
    let rules = room.rules().authorization;
    let wanted =
        Wanted { kind: &pdu.kind, sender: &pdu.sender, state_key: pdu.state_key.as_deref(), content: &pdu.content };
    Authority::choose(tx, &rules, room.row.state, &wanted)?.check_state(&rules, pdu)
}
