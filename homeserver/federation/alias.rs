//! Where an alias of another server leads. spec: server-server-api#get_matrixfederationv1querydirectory

use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, api::federation::query::get_room_information::v1 as query_directory,
};

use super::{Bounds, Federation, handshake::refused};
use crate::{
    error::{Error, Result},
    rooms::aliases,
};

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
}
