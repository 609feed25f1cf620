//! Knocking on rooms that this server is not in. spec: server-server-api#knocking-rooms

use std::sync::Arc;

use ruma::{
    RoomId, ServerName,
    api::federation::membership::{
        RawStrippedState, create_knock_event::v1 as send_knock, prepare_knock_event::v1 as make_knock,
    },
};
use serde_json::value::RawValue;

use super::{
    Bounds, Federation,
    handshake::{Attempts, refused, spoken, versions},
    join::Wish,
};
use crate::{
    base::json,
    error::{Error, Result},
    rooms::{
        doorstep::{self, Arrival},
        handshake::{self, Asked, Step},
        room,
        stripped::{self, MAX_TOLD},
    },
    store::WriteTx,
};

impl Federation {
    /// Knocks on a room for somebody of ours, by another server if this one is not in it.
    pub async fn knock(self: &Arc<Self>, wish: Wish) -> Result<()> {
        let this = self.clone();
        let knocking = tokio::spawn(async move {
            let _turn = this.turns.take(&wish.room).await;
            match this.change_here(&wish, Step::Knock).await? {
                true => Ok(()),
                false => this.knock_elsewhere(&wish).await,
            }
        });
        knocking.await.map_err(Error::internal)?
    }

    async fn knock_elsewhere(&self, wish: &Wish) -> Result<()> {
        let (remote, room, user) = (self.remote.clone(), wish.room.clone(), wish.user.clone());
        let mut attempts = Attempts::new(self.servers_for(wish)?, move |server| {
            let (remote, mut request) = (remote.clone(), make_knock::Request::new(room.clone(), user.clone()));
            request.ver = versions();
            async move { remote.call_within(Bounds::SMALL, &server, request).await.map_err(refused) }
        });
        while let Some((server, template)) = attempts.next().await {
            match self.hand_in_knock(wish, &server, &template).await {
                Ok(()) => return Ok(()),
                Err(error) if error.cause().is_some() => return Err(error),
                Err(error) => attempts.failed(&server, error),
            }
        }
        Err(attempts.error())
    }

    async fn hand_in_knock(&self, wish: &Wish, server: &ServerName, template: &make_knock::Response) -> Result<()> {
        let version = spoken(Some(template.room_version.clone()))?;
        let (room, user, reason) = (&*wish.room, &*wish.user, wish.reason.as_deref());
        let asked = Asked { room, version: &version, user, step: Step::Knock, reason, more: &wish.more };
        let signed = self.store.read(|tx| handshake::complete(tx, &self.me, &template.event, &asked))?;
        let event = json::raw(signed.json)?;
        let request = send_knock::Request::new(wish.room.clone(), signed.pdu.id, event.clone());
        let answer = self.remote.call_within(Bounds::SMALL, server, request).await.map_err(refused)?;
        let told = pruned(&answer.knock_room_state, &event, &wish.room)?;
        let mut checked = self.checker.check(vec![event], &room::rules(&version)?).await?;
        let event = checked.pop().ok_or_else(|| Error::internal("our own knock does not hold"))?;
        let me = self.me.clone();
        let arrive =
            move |tx: &WriteTx| doorstep::arrive(tx, &me, &Arrival { version: &version, event: &event, told: &told });
        self.store.write(arrive).await
    }
}

/// What another server tells of its room, pruned for clients; `own` is the event that brought it.
pub(super) fn pruned(told: &[RawStrippedState], own: &RawValue, room: &RoomId) -> Result<Vec<Box<RawValue>>> {
    let told: Vec<Box<RawValue>> = told.iter().take(MAX_TOLD).map(json::to_raw).collect::<Result<_>>()?;
    stripped::pruned(told.iter().map(|event| &**event).chain([own]), room)
}
