//! Going out of rooms, and away from the doors of those that this server is not in: a server in the room is
//! asked to take the leave in; if none is there, it is known only here. spec: server-server-api#leaving-rooms-rejecting-invites

use std::{sync::Arc, time::Duration};

use ruma::{
    ServerName,
    api::federation::membership::{create_leave_event::v2 as send_leave, prepare_leave_event::v1 as make_leave},
};

use super::{
    Bounds, Federation,
    handshake::{Attempts, refused, spoken},
    join::Wish,
};
use crate::{
    base::json,
    error::{Error, Result},
    rooms::{
        Room, doorstep,
        handshake::{self, Asked, Step},
        members,
        pdu::Checked,
        room,
    },
    store::WriteTx,
};

/// How long servers in the room are asked, before somebody is away without their knowing.
const TIME: Duration = Duration::from_secs(20);

impl Federation {
    /// Takes somebody of ours out of a room, or away from its door.
    pub async fn leave(self: &Arc<Self>, wish: Wish) -> Result<()> {
        let this = self.clone();
        let leaving = tokio::spawn(async move {
            let _turn = this.turns.take(&wish.room).await;
            match this.leave_here(&wish).await? {
                true => Ok(()),
                false => this.leave_elsewhere(&wish).await,
            }
        });
        leaving.await.map_err(Error::internal)?
    }

    /// False if they stand at the door of a room that this server is not in.
    async fn leave_here(&self, wish: &Wish) -> Result<bool> {
        let (me, wish) = (self.me.clone(), wish.clone());
        let work = move |tx: &WriteTx| {
            let unknown = || Error::not_found("this server does not know the room");
            let mut room = Room::known(tx, &wish.room)?.ok_or_else(unknown)?;
            if doorstep::standing(tx, &me, &room, &wish.user)?.is_some() {
                return Ok(false);
            }
            let saying = (wish.reason.clone(), wish.more.clone());
            members::leave_saying(tx, &me, &mut room, &wish.user, saying)?;
            Ok(true)
        };
        // Nobody is kept in a room by its policy server.
        self.write_anyway(work).await
    }

    async fn leave_elsewhere(&self, wish: &Wish) -> Result<()> {
        let event = match tokio::time::timeout(TIME, self.hand_in_leave(wish)).await {
            Ok(Ok(event)) => Some(event),
            Ok(Err(error)) => {
                tracing::info!(room = %wish.room, %error, "nobody in {} could be told that somebody left", wish.room);
                None
            }
            Err(_) => None,
        };
        let (me, wish) = (self.me.clone(), wish.clone());
        let depart = move |tx: &WriteTx| {
            doorstep::depart(tx, &me, (&wish.room, &wish.user), (event.as_ref(), wish.reason.as_deref()))
        };
        self.store.write(depart).await
    }

    async fn hand_in_leave(&self, wish: &Wish) -> Result<Checked> {
        let (remote, room, user) = (self.remote.clone(), wish.room.clone(), wish.user.clone());
        let mut attempts = Attempts::new(self.servers_for(wish)?, move |server| {
            let (remote, request) = (remote.clone(), make_leave::Request::new(room.clone(), user.clone()));
            async move { remote.call_within(Bounds::SMALL, &server, request).await.map_err(refused) }
        });
        while let Some((server, template)) = attempts.next().await {
            match self.hand_in_leave_to(wish, &server, template).await {
                Ok(event) => return Ok(event),
                Err(error) => attempts.failed(&server, error),
            }
        }
        Err(attempts.error())
    }

    async fn hand_in_leave_to(
        &self,
        wish: &Wish,
        server: &ServerName,
        template: make_leave::Response,
    ) -> Result<Checked> {
        let version = spoken(template.room_version)?;
        let (room, user, reason) = (&*wish.room, &*wish.user, wish.reason.as_deref());
        let asked = Asked { room, version: &version, user, step: Step::Leave, reason, more: &wish.more };
        let signed = self.store.read(|tx| handshake::complete(tx, &self.me, &template.event, &asked))?;
        let event = json::raw(signed.json)?;
        let request = send_leave::Request::new(wish.room.clone(), signed.pdu.id, event.clone());
        self.remote.call_within(Bounds::SMALL, server, request).await.map_err(refused)?;
        let mut checked = self.checker.check(vec![event], &room::rules(&version)?).await?;
        checked.pop().ok_or_else(|| Error::internal("our own leave does not hold"))
    }
}
