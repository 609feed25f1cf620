//! Inviting people of other servers, and being told that people of ours are invited.
//! spec: server-server-api#inviting-to-a-room

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, ServerName,
    api::federation::membership::{RawStrippedState, create_invite::v2 as send_invite},
    canonical_json::redact_in_place,
    events::room::member::MembershipState,
    room_version_rules::RoomVersionRules,
};
use serde_json::{Map, Value, value::RawValue};

use super::{
    At, Bounds, Federation, Wanted,
    handshake::{refused, spoken},
};
use crate::{
    base::{clock, json, signed_json},
    error::{Error, Result},
    rooms::{
        Room, acl, blocked,
        doorstep::{self, Arrival},
        handshake,
        inviting::{self, Prepared},
        members::Change,
        pdu::{self, Checked, KnownKeys, Parsed},
        room,
        stripped::{self, MAX_TOLD},
    },
    store::WriteTx,
};

/// An invite that somebody of ours sends to somebody of another server.
#[derive(Clone, Debug)]
pub struct Invite {
    /// To which room.
    pub room: OwnedRoomId,
    /// Who.
    pub sender: OwnedUserId,
    /// Whom.
    pub target: OwnedUserId,
    /// Why, in the sender's words.
    pub reason: Option<String>,
    /// Further content, such as `is_direct`.
    pub more: Map<String, Value>,
}

/// An invite of somebody of ours as another server brings it.
pub struct Brought {
    /// The room that it names in the path.
    pub room: OwnedRoomId,
    /// The event that it names in the path.
    pub id: OwnedEventId,
    /// The room's version.
    pub version: RoomVersionId,
    /// The invite.
    pub event: Box<RawValue>,
    /// What the room tells of itself.
    pub told: Vec<Box<RawValue>>,
}

impl Federation {
    /// Invites somebody of another server, once that server has signed. Returns the invite's ID.
    pub async fn invite(self: &Arc<Self>, invite: Invite) -> Result<OwnedEventId> {
        let this = self.clone();
        tokio::spawn(async move { this.invite_now(invite).await }).await.map_err(Error::internal)?
    }

    async fn invite_now(&self, invite: Invite) -> Result<OwnedEventId> {
        let Invite { room, sender, target, reason, more } = invite;
        let change = Change { sender: &sender, target: &target, membership: MembershipState::Invite, reason, more };
        let mut prepared = self.store.read(|tx| inviting::prepare(tx, &self.me, &room, change))?;
        if let Some(policy) = &prepared.policy {
            let rules = room::rules(&prepared.version)?;
            prepared.signed.json = self.fetch.policy.signed(policy, &prepared.signed.json, &rules).await?;
        }
        let (to, id) = (target.server_name(), prepared.signed.pdu.id.clone());
        let event = json::raw(prepared.signed.json.clone())?;
        let told = prepared.told.iter().cloned().map(RawStrippedState::Pdu).collect();
        let request = send_invite::Request::new(room.clone(), id, prepared.version.clone(), event, told);
        let answer = self.remote.call_within(Bounds::SMALL, to, request).await.map_err(refused)?;
        let object = inviting::with_signatures_of(to, &prepared.signed.json, &answer.event)?;
        self.check_signed_by(to, &object, &room::rules(&prepared.version)?).await?;
        let json = serde_json::to_string(&object).map_err(Error::internal)?;
        let prepared: Arc<Prepared> = Arc::new(prepared);
        self.store.write(move |tx| inviting::post(tx, &room, (&prepared, json.clone()))).await
    }

    /// Whether a server has signed an event by one of its keys. 502 if not.
    async fn check_signed_by(
        &self,
        server: &ServerName,
        event: &CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<()> {
        let mut object = event.clone();
        redact_in_place(&mut object, &rules.redaction, None).map_err(|error| Error::bad_json(error.to_string()))?;
        let carried = object.get("signatures").and_then(|all| all.as_object()?.get(server.as_str())?.as_object());
        let ids = carried.into_iter().flat_map(CanonicalJsonObject::keys).take(8);
        let ids: BTreeMap<String, usize> = ids.map(|id| (id.clone(), 1)).collect();
        let (wanted, now) = (Wanted::from([(server.to_owned(), ids.clone())]), clock::now_ms());
        let keys = self.keyring.gather(&wanted, At::Time(now)).await?;
        let signed = ids.keys().any(|id| {
            let key = keys.key(server, id, now);
            key.is_some_and(|key| signed_json::is_signed_by_key(&object, server.as_str(), id, key))
        });
        match signed {
            true => Ok(()),
            false => Err(Error::bad_gateway("the invited server's signature on the invite is wrong")),
        }
    }

    /// Takes in an invite of somebody of ours, and signs it. 400 for what is no such invite; 403 if they
    /// are not to be invited.
    pub async fn take_invite(&self, origin: &ServerName, brought: Brought) -> Result<Box<RawValue>> {
        let version = spoken(Some(brought.version.clone()))?;
        let rules = room::rules(&version)?;
        let parsed = pdu::parse(&brought.event, &rules)?;
        let target = self.check_invite(origin, &brought, &parsed)?;
        self.store.read(|tx| {
            doorstep::check_invitable(tx, &target, &parsed.pdu().sender)?;
            blocked::check(tx, &brought.room)?;
            match Room::find(tx, &brought.room)? {
                Some(room) => acl::check(tx, &room, origin),
                None => Ok(()),
            }
        })?;
        let signed = handshake::countersign(&self.me, &brought.event, &rules)?;
        let mut checked = self.checker.check(vec![signed.clone()], &rules).await?;
        let event =
            checked.pop().ok_or_else(|| Error::invalid_param("the invite is not signed by its sender's server"))?;
        self.check_told(&brought, &rules).await?;
        let told = brought.told.iter().take(MAX_TOLD).chain([&brought.event]);
        let told = stripped::pruned(told.map(|event| &**event), &brought.room)?;
        let me = self.me.clone();
        let arrive =
            move |tx: &WriteTx| doorstep::arrive(tx, &me, &Arrival { version: &version, event: &event, told: &told });
        self.store.write(arrive).await?;
        Ok(signed)
    }

    /// Whether an event is an invite of somebody of ours by somebody of that server: nothing else is signed.
    /// spec: server-server-api#put_matrixfederationv2inviteroomideventid
    fn check_invite(&self, origin: &ServerName, brought: &Brought, parsed: &Parsed) -> Result<OwnedUserId> {
        let wrong = |what: &str| Error::invalid_param(format!("this is no invite that we could sign: {what}"));
        let pdu = parsed.pdu();
        if pdu.name != "m.room.member" || pdu.membership().as_deref() != Some("invite") {
            return Err(wrong("it is another event"));
        }
        if pdu.sender.server_name() != origin {
            return Err(wrong("its sender is of another server"));
        }
        if parsed.room_id() != brought.room || parsed.id() != brought.id {
            return Err(wrong("it has another ID, or is of another room"));
        }
        let target = pdu.state_key.as_deref().and_then(|key| OwnedUserId::try_from(key).ok());
        target.filter(|user| self.me.owns(user)).ok_or_else(|| wrong("it is for nobody of ours"))
    }

    /// What a room of version 12 tells has to prove that it is told of that room: whole events, signed, with
    /// the create event that the room is called after. Of older ones, whose servers may be older too, only
    /// what is of another room is refused. spec: MSC4311, server-server-api#inviting-to-a-room
    async fn check_told(&self, brought: &Brought, rules: &RoomVersionRules) -> Result<()> {
        let strict = rules.authorization.room_create_event_id_as_room_id;
        if brought.told.len() > MAX_TOLD {
            return Err(Error::invalid_param(format!("a room tells at most {MAX_TOLD} events of itself")));
        }
        if !strict {
            return Ok(());
        }
        let checked = self.checker.check(brought.told.clone(), rules).await?;
        if checked.len() < brought.told.len() || checked.iter().any(|event| event.room_id() != brought.room) {
            return Err(Error::invalid_param(
                "an event of invite_room_state is not signed, in another format than the room has, or of another room",
            ));
        }
        let is_create =
            |event: &Checked| event.pdu().name == "m.room.create" && event.pdu().state_key.as_deref() == Some("");
        match checked.iter().any(is_create) {
            true => Ok(()),
            false => Err(Error::missing_param("invite_room_state has no create event")),
        }
    }
}
