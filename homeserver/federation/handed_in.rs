//! What servers hand in for people of theirs who come into our rooms, go out or knock: looked at, signed by
//! who vouches for it, checked for who sent it, and judged like any other event.
//! spec: server-server-api#joining-rooms, #leaving-rooms-rejecting-invites, #knocking-rooms

use ruma::{RoomVersionId, ServerName};
use serde_json::value::RawValue;

use super::Federation;
use crate::{
    base::Pos,
    error::{Error, Result},
    rooms::{
        Room,
        accept::{self, Arrival, Lacks, Verdict},
        event,
        handshake::{self, HandedIn},
        pdu::{self, Checked},
        state::StateId,
    },
    store::{WriteTx, rows::Standing},
};

/// An event that is part of the room now.
pub struct Taken {
    /// Where it is.
    pub pos: Pos,
    /// The room's state before it.
    pub before: StateId,
    /// The event as it was taken in.
    pub event: Checked,
    /// The room's version.
    pub version: RoomVersionId,
}

impl Federation {
    /// Takes in what a server hands in. 400 or 403 for what can't be.
    pub async fn take_in(&self, asked: HandedIn<'_>, event: &RawValue) -> Result<Taken> {
        // 1. It is what is asked for, in a room that lets that server in.
        let (version, event) = self.store.read(|tx| {
            let room = handshake::shared_room(tx, &self.me, asked.room, asked.origin)?;
            let rules = room.rules();
            let parsed = pdu::parse(event, &rules)?;
            handshake::check_handed_in(parsed.pdu(), parsed.room_id(), &asked)?;
            // 2. Who is named as vouching for it does so.
            let signed = match handshake::voucher(&self.me, &room, parsed.pdu()) {
                Some(voucher) => {
                    handshake::check_vouched(tx, &self.me, &room, parsed.pdu(), &voucher)?;
                    handshake::countersign(&self.me, event, &rules)?
                }
                None => event.to_owned(),
            };
            Ok((room.version(), signed))
        })?;
        // 3. It is signed by who has to.
        let rules = crate::rooms::room::rules(&version)?;
        let mut checked = self.checker.check(vec![event], &rules).await?;
        let event =
            checked.pop().ok_or_else(|| Error::invalid_param("the event is not signed by who has to sign it"))?;
        // 4. The room's rules allow it.
        let (pos, before) = self.accept(&event, true).await?;
        Ok(Taken { pos, before, event, version })
    }

    /// Brings an event into its room. 403 if it does not become part of it. With `outgoing` the room's other
    /// servers are told by us.
    pub(super) async fn accept(&self, event: &Checked, outgoing: bool) -> Result<(Pos, StateId)> {
        let (mut event, mut prepared) = (event.clone(), false);
        loop {
            let arriving = event.clone();
            let work = move |tx: &WriteTx| {
                let mut room = Room::named(tx, arriving.room_id())?;
                let arrival = Arrival { event: &arriving, state_before: None, outgoing, unvouched: false };
                match accept::accept(tx, &mut room, arrival)? {
                    Verdict::Is(pos, standing) => Ok(Ok((pos, standing, event::row(tx, pos)?.state_before))),
                    other => Ok(Err(other)),
                }
            };
            match self.store.write(work).await? {
                Ok((pos, Standing::Accepted, before)) => return Ok((pos, before)),
                Ok(_) => return Err(Error::forbidden("the room does not allow this")),
                Err(Verdict::TooHeavy) if !prepared => {
                    let (store, arriving) = (self.store.clone(), event.clone());
                    let preparing = move || {
                        store.read(|tx| {
                            let room = Room::named(tx, arriving.room_id())?;
                            let arrival = Arrival { event: &arriving, state_before: None, outgoing, unvouched: false };
                            accept::prepare(tx, &room, arrival)
                        })
                    };
                    tokio::task::spawn_blocking(preparing).await.map_err(Error::internal)??;
                    prepared = true;
                }
                Err(Verdict::Lacks(Lacks::Signature(policy))) if event.vouched() != Some(&policy) => {
                    let rules = self.store.read(|tx| Ok(Room::named(tx, event.room_id())?.rules()))?;
                    let refused = || Error::forbidden("the room's policy server does not welcome this");
                    event = self.fetch.policy.vouch(&policy, &event, &rules).await.ok_or_else(refused)?;
                }
                Err(_) => return Err(Error::invalid_param("the event builds on what is not known here: ask again")),
            }
        }
    }

    /// A template for a server, and what it is a template of; see [`handshake::template`].
    pub fn template(
        &self,
        origin: &ServerName,
        (room, user): (&ruma::RoomId, &ruma::UserId),
        (step, versions): (handshake::Step, Option<&[RoomVersionId]>),
    ) -> Result<(RoomVersionId, Box<RawValue>)> {
        self.store.read(|tx| {
            let room = handshake::shared_room(tx, &self.me, room, origin)?;
            if let Some(versions) = versions {
                handshake::check_version(&room, versions)?;
            }
            Ok((room.version(), handshake::template(tx, &self.me, &room, user, step)?))
        })
    }
}
