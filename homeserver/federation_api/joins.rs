//! People of other servers come into our rooms. spec: server-server-api#joining-rooms

use std::sync::Arc;

use ruma::api::federation::membership::{create_join_event::v2 as send_join, prepare_join_event::v1 as make_join};

use super::streamed;
use crate::{
    app::App,
    error::{Error, Result},
    federation::handed_in::Taken,
    http::{Origin, Reply},
    rooms::{
        Room, event,
        handshake::{self, HandedIn, HandedOver, Step},
    },
    store::Store,
};

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
pub async fn make(app: Arc<App>, origin: Origin, request: make_join::Request) -> Result<make_join::Response> {
    origin.owns(&request.user_id)?;
    let asked = (&*request.room_id, &*request.user_id);
    let (version, event) = app.federation.template(&origin.server, asked, (Step::Join, Some(&request.ver[..])))?;
    let mut response = make_join::Response::new(event);
    response.room_version = Some(version);
    Ok(response)
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
pub async fn send(app: Arc<App>, origin: Origin, request: send_join::Request) -> Result<Reply> {
    let (room, event) = (&*request.room_id, &*request.event_id);
    let asked = HandedIn { origin: &origin.server, room, event, step: Step::Join };
    let taken = app.federation.take_in(asked, &request.pdu).await?;
    let (store, join) = (app.store.clone(), taken.event.clone());
    let (before, omit) = (taken.before, request.omit_members);
    // The whole state is walked over, which takes its time in a large room.
    let walking = move || {
        store.read(|tx| {
            let room = Room::named(tx, join.room_id())?;
            handshake::hand_over(tx, &room, (before, join.pdu()), omit)
        })
    };
    let over = tokio::task::spawn_blocking(walking).await.map_err(Error::internal)??;
    answer(app.store.clone(), &taken, over)
}

/// The answer, as it is read.
fn answer(store: Store, taken: &Taken, over: HandedOver) -> Result<Reply> {
    let mut head = format!("{{\"event\":{},\"members_omitted\":{}", taken.event.json(), over.members_omitted);
    // The servers go with the members that were left out, who would have told of them.
    if over.members_omitted {
        let servers = serde_json::to_string(&over.servers).map_err(Error::internal)?;
        head += &format!(",\"servers_in_room\":{servers}");
    }
    let lists = vec![("auth_chain", over.auth_chain), ("state", over.state)];
    Ok(streamed::object(store, head, lists, |tx, pos| Ok(event::row(tx, pos)?.pdu)))
}
