//! People of other servers come into our rooms. spec: server-server-api#joining-rooms

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use ruma::api::federation::membership::{create_join_event::v2 as send_join, prepare_join_event::v1 as make_join};
use tokio::sync::mpsc;

use crate::{
    app::App,
    base::Pos,
    error::{Error, Result},
    federation::handed_in::Taken,
    http::{Origin, Reply, reply},
    rooms::{
        Room,
        handshake::{self, HandedIn, HandedOver, Step},
    },
    store::Store,
};

/// Events of an answer that are read at a time.
const PIECE: usize = 200;
/// Pieces that wait for a slow reader.
const WAITING: usize = 4;

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

/// The answer as it is read: events don't change, so no snapshot is held for a slow reader.
fn answer(store: Store, taken: &Taken, over: HandedOver) -> Result<Reply> {
    let mut head = format!("{{\"event\":{},\"members_omitted\":{}", taken.event.json(), over.members_omitted);
    // The servers go with the members that were left out, who would have told of them.
    if over.members_omitted {
        let servers = serde_json::to_string(&over.servers).map_err(Error::internal)?;
        head += &format!(",\"servers_in_room\":{servers}");
    }
    let (pieces, body) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        // Whoever reads it may go away in the middle.
        let _ = write(&store, head, &over, &pieces).await;
    });
    let mut reply = Response::new(reply::stream(body));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(reply)
}

type Pieces = mpsc::Sender<io::Result<Bytes>>;

async fn write(store: &Store, head: String, over: &HandedOver, to: &Pieces) -> Result<(), ()> {
    send_piece(to, Ok(head + ",\"auth_chain\":[")).await?;
    write_list(store, &over.auth_chain, to).await?;
    send_piece(to, Ok("],\"state\":[".to_owned())).await?;
    write_list(store, &over.state, to).await?;
    send_piece(to, Ok("]}".to_owned())).await
}

async fn write_list(store: &Store, positions: &[Pos], to: &Pieces) -> Result<(), ()> {
    for (index, piece) in positions.chunks(PIECE).enumerate() {
        send_piece(to, store.read(|tx| handshake::text_of(tx, piece, index == 0))).await?;
    }
    Ok(())
}

async fn send_piece(to: &Pieces, text: Result<String>) -> Result<(), ()> {
    let piece = text.map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "a room could not be handed over");
        io::Error::other("the answer can't go on")
    });
    let failed = piece.is_err();
    to.send(piece).await.map_err(drop)?;
    if failed { Err(()) } else { Ok(()) }
}
