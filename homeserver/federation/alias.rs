//! Where an alias of another server leads. spec: server-server-api#get_matrixfederationv1querydirectory

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, UserId,
    api::federation::query::get_room_information::v1 as query_directory, events::TimelineEventType,
};
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::{Bounds, Federation, handshake::refused};
use crate::{
    error::{Error, Result},
    rooms::{Room, aliases, power::Powers},
};

/// Aliases of other servers that one event may newly name.
const MAX_NAMED: usize = 20;
/// Servers behind an alias that are taken in at most.
const MAX_SERVERS: usize = 50;

impl Federation {
    /// The room that an alias leads to, and servers that may be in it. 404 if there is no such alias.
    pub async fn resolve(&self, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let unknown = || Error::not_found("there is no such alias");
        if alias.server_name() == self.me.name {
            let found = self.store.read(|tx| aliases::resolve(tx, alias))?;
            return Ok((found.ok_or_else(unknown)?, vec![self.me.name.clone()]));
        }
        let request = query_directory::Request::new(alias.to_owned());
        let answer = self.remote.call_within(Bounds::SMALL, alias.server_name(), request).await.map_err(refused)?;
        let mut servers = answer.servers;
        servers.truncate(MAX_SERVERS);
        // Whoever gives a room a name is likely to be in it, whether it says so or not.
        if !servers.iter().any(|server| server == alias.server_name()) {
            servers.push(alias.server_name().to_owned());
        }
        Ok((answer.room_id, servers))
    }

    /// Those aliases of other servers, of all that somebody's canonical alias event newly names, that lead to
    /// its room. Nobody is asked for who may not send it: 403. 400 for more of them than is sensible.
    pub async fn that_lead_to(
        self: &Arc<Self>,
        room: &RoomId,
        sender: &UserId,
        content: &RawValue,
    ) -> Result<BTreeSet<OwnedRoomAliasId>> {
        let mut aliases = self.store.read(|tx| {
            let room = Room::of_member(tx, room, sender)?;
            match Powers::of(tx, &room)?.may_send(sender, &TimelineEventType::RoomCanonicalAlias, true) {
                true => aliases::newly_named(tx, &room, content),
                false => Err(Error::forbidden("you may not say what this room is called")),
            }
        })?;
        aliases.retain(|alias| alias.server_name() != self.me.name);
        if aliases.len() > MAX_NAMED {
            return Err(Error::invalid_param(format!("at most {MAX_NAMED} aliases of other servers at once")));
        }
        let mut asking = JoinSet::new();
        for alias in aliases {
            let this = self.clone();
            asking.spawn(async move {
                let found = this.resolve(&alias).await;
                (alias, found)
            });
        }
        let mut out = BTreeSet::new();
        for (alias, found) in asking.join_all().await {
            match found {
                Ok((id, _)) if id == room => drop(out.insert(alias)),
                Ok(_) => {}
                Err(error) => tracing::debug!(%alias, %error, "{alias} leads nowhere"),
            }
        }
        Ok(out)
    }
}
