//! Profiles and directories of other servers, as people here ask for them.
//! spec: server-server-api#querying-for-information, #public-room-directory

use ruma::{
    ServerName, UserId,
    api::federation::{
        directory::get_public_rooms_filtered::v1 as search, query::get_profile_information::v1 as get_profile,
    },
    directory::{Filter, RoomNetwork},
    profile::ProfileFieldName,
};
use serde_json::{Map, Value};

use super::{Bounds, Federation};
use crate::{
    error::{Error, Result},
    rooms::directory::{Asked, List},
};

/// Bytes of a profile at most. spec: client-server-api#profiles
const MAX_PROFILE: usize = 64 * 1024;
/// Rooms of one page that are taken in at most.
const MAX_PAGE: usize = 500;

impl Federation {
    /// The profile of somebody of another server, or one field of it.
    pub async fn profile(&self, user: &UserId, field: Option<&str>) -> Result<Map<String, Value>> {
        let mut request = get_profile::Request::new(user.to_owned());
        request.field = field.map(ProfileFieldName::from);
        let bounds = Bounds { size: MAX_PROFILE, ..Bounds::SMALL };
        let answer = self.remote.call_within(bounds, user.server_name(), request).await?;
        let mut profile = Map::from_iter(answer.data);
        // What is no text there would be none in a client either.
        profile.retain(|key, value| !matches!(&**key, "displayname" | "avatar_url") || value.is_string());
        Ok(profile)
    }

    /// A page of another server's directory.
    pub async fn public_rooms(&self, server: &ServerName, asked: Asked) -> Result<List> {
        let mut request = search::Request::new();
        (request.since, request.limit) = (asked.since, asked.limit);
        let mut filter = Filter::new();
        (filter.generic_search_term, filter.room_types) = (asked.term, asked.types);
        (request.filter, request.room_network) = (filter, RoomNetwork::Matrix);
        let answer = self.remote.call(server, request).await.map_err(Error::from)?;
        let mut rooms = answer.chunk;
        rooms.truncate(MAX_PAGE);
        let total = answer.total_room_count_estimate.map_or(rooms.len() as u64, u64::from);
        Ok(List { rooms, next: answer.next_batch, prev: answer.prev_batch, total })
    }
}
