//! Asking somebody to be friends, and answering: our own extension, described in `spec/friends.md`. It is
//! composed of what everybody does with rooms, each step of which stands for itself: what an interruption
//! leaves is what the lists then say, and asking again goes on from there.

use std::sync::Arc;

use http::Method;
use ruma::{
    OwnedRoomId, OwnedUserId, RoomOrAliasId, UserId,
    api::client::room::{Visibility, create_room::v3::RoomPreset},
    events::room::member::MembershipState,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::membership::{self, Act};
use crate::{
    accounts::{account_data, users},
    app::App,
    error::{Error, Result},
    http::{Asked, Bucket, Reply, Router, Session, reply, untyped},
    rooms::{
        Room,
        create::{self, Wish},
        friends::{self, Ties},
        members, room,
    },
    store::WriteTx,
};

const BASE: &str = "/_matrix/client/unstable/chat.hearth.friends";
/// Characters of a note at most.
const MAX_NOTE: usize = 500;

/// The endpoints.
pub fn routes(router: &mut Router) {
    untyped::route(router, Method::GET, &format!("{BASE}/list"), list);
    untyped::route(router, Method::POST, &format!("{BASE}/request"), request);
    untyped::route(router, Method::POST, &format!("{BASE}/accept"), accept);
    untyped::route(router, Method::POST, &format!("{BASE}/reject"), reject);
    untyped::route(router, Method::POST, &format!("{BASE}/cancel"), cancel);
    untyped::route(router, Method::POST, &format!("{BASE}/remove"), remove);
}

/// Whom it is about.
#[derive(Deserialize)]
struct Whom {
    user_id: String,
    note: Option<String>,
}

fn whom(asked: &mut Asked) -> Result<(OwnedUserId, Option<String>)> {
    let Whom { user_id, note } = asked.body()?;
    let other = UserId::parse(user_id).map_err(|_| Error::invalid_param("user_id is no user ID"))?;
    if other == asked.session.user {
        return Err(Error::invalid_param("nobody is their own friend here"));
    }
    if note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE) {
        return Err(Error::invalid_param(format!("a note has at most {MAX_NOTE} characters")));
    }
    Ok((other, note.filter(|note| !note.is_empty())))
}

/// `GET …/list`
async fn list(app: Arc<App>, asked: Asked) -> Result<Reply> {
    app.limits.take(Bucket::Costly, &asked.session.user)?;
    let user = asked.session.user;
    let lists = super::blocking(move || app.store.read(|tx| friends::lists(tx, &user))).await?;
    reply::json(&lists)
}

fn ties(app: &App, session: &Session, other: &UserId) -> Result<Ties> {
    app.store.read(|tx| friends::ties(tx, &session.user, other))
}

fn state(state: &str, room: Option<&Room>) -> Result<Reply> {
    let mut answer = json!({ "state": state });
    if let Some(room) = room {
        answer["room_id"] = room.row.id.as_str().into();
    }
    reply::json(&answer)
}

/// `POST …/request`
async fn request(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    let (other, note) = whom(&mut asked)?;
    let session = asked.session.clone();
    session.may_act()?;
    app.store.read(|tx| {
        if account_data::ignored(tx, &session.user)?.contains(&other) {
            return Err(Error::forbidden("you ignore this person: stop that first"));
        }
        match app.me.owns(&other) && !users::is_open(tx, &other)? {
            true => Err(Error::not_found(format!("there is no {other} on this server"))),
            false => Ok(()),
        }
    })?;
    let ties = ties(&app, &session, &other)?;
    if let Some(room) = ties.friend.first() {
        return state("friend", Some(room));
    }
    if !ties.incoming.is_empty() {
        let room = take(&app, &session, &other, &ties).await?;
        return reply::json(&json!({ "state": "friend", "room_id": room }));
    }
    if let Some(room) = ties.outgoing.first() {
        return state("outgoing", Some(room));
    }
    app.limits.take(Bucket::Invite, &session.user)?;
    // A room that the other has left may not let them in again: they may be banned, or the right lost.
    if let Some(room) = ties.left.first() {
        let id = room.id().to_owned();
        if invite(&app, &session, &id, (&other, note.clone())).await.is_ok() {
            return state("outgoing", Some(room));
        }
    }
    let room = make(&app, &session, &other).await?;
    if let Err(error) = invite(&app, &session, &room, (&other, note)).await {
        abandon(&app, &session, &other, &room).await?;
        return Err(error);
    }
    reply::json(&json!({ "state": "outgoing", "room_id": room }))
}

/// Makes a room that is direct with somebody, and that nobody else is in yet.
async fn make(app: &App, session: &Session, other: &UserId) -> Result<OwnedRoomId> {
    app.limits.take(Bucket::CreateRoom, &session.user)?;
    let (me, user, other) = (app.me.clone(), session.user.clone(), other.to_owned());
    let wish = Wish {
        version: room::DEFAULT_VERSION,
        preset: RoomPreset::PrivateChat,
        visibility: Visibility::Private,
        creation_content: Map::new(),
        // Not as a second creator, whose invitation could not be taken back.
        power_levels: Map::from_iter([("users".to_owned(), json!({ (other.as_str()): 100 }))]),
        initial_state: Vec::new(),
        name: None,
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: true,
        seed: Default::default(),
    };
    let work = move |tx: &WriteTx| {
        let id = create::create(tx, &me, &user, &wish)?;
        friends::set_direct(tx, &user, &other, &id, true)?;
        Ok(id)
    };
    app.store.write(work).await
}

async fn invite(
    app: &App,
    session: &Session,
    room: &OwnedRoomId,
    (other, note): (&OwnedUserId, Option<String>),
) -> Result<()> {
    let more = Map::from_iter([("is_direct".to_owned(), Value::Bool(true))]);
    let act = Act { target: other.clone(), reason: note, membership: MembershipState::Invite, more };
    membership::change(app, session.clone(), room.clone(), act).await
}

/// Leaves a room and forgets that it was direct, and the room.
async fn abandon(app: &App, session: &Session, other: &UserId, room: &OwnedRoomId) -> Result<()> {
    membership::leave(app, session, room.clone(), None).await?;
    let (user, other, room) = (session.user.clone(), other.to_owned(), room.clone());
    let work = move |tx: &WriteTx| {
        friends::set_direct(tx, &user, &other, &room, false)?;
        members::forget(tx, &Room::named(tx, &room)?, &user)
    };
    app.store.write(work).await
}

/// Takes somebody's invitation, and takes back one's own: one room is enough.
async fn take(app: &App, session: &Session, other: &UserId, ties: &Ties) -> Result<OwnedRoomId> {
    let missing = || Error::not_found("this person has not asked to be your friend");
    let id = ties.incoming.first().ok_or_else(missing)?.id().to_owned();
    let named: &RoomOrAliasId = (&*id).into();
    membership::enter(app, session.clone(), named, (Vec::new(), None)).await?;
    let (user, friend, room) = (session.user.clone(), other.to_owned(), id.clone());
    app.store.write(move |tx| friends::set_direct(tx, &user, &friend, &room, true)).await?;
    for room in &ties.outgoing {
        withdraw(app, session, other, room).await?;
    }
    Ok(id)
}

/// Ends one's own invitation; and leaves the room, if the other was never in it. In a room where one may not
/// end it, which another client has made, leaving is all that one can do.
async fn withdraw(app: &App, session: &Session, other: &UserId, room: &Room) -> Result<()> {
    let id = room.id().to_owned();
    let was_there = app.store.read(|tx| friends::was_there(tx, room, other))?;
    let ended = membership::put_out(app, session.clone(), id.clone(), (other.to_owned(), None, false)).await;
    if let Err(error) = ended
        && error.errcode() != "M_FORBIDDEN"
    {
        return Err(error);
    }
    match was_there {
        true => Ok(()),
        false => abandon(app, session, other, &id).await,
    }
}

/// `POST …/accept`
async fn accept(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    let (other, _) = whom(&mut asked)?;
    let session = asked.session.clone();
    let ties = ties(&app, &session, &other)?;
    let room = take(&app, &session, &other, &ties).await?;
    reply::json(&json!({ "state": "friend", "room_id": room }))
}

/// `POST …/reject`
async fn reject(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    let (other, _) = whom(&mut asked)?;
    let session = asked.session.clone();
    let ties = ties(&app, &session, &other)?;
    if ties.incoming.is_empty() {
        return Err(Error::not_found("this person has not asked to be your friend"));
    }
    for room in &ties.incoming {
        membership::leave(&app, &session, room.id().to_owned(), None).await?;
    }
    state("none", None)
}

/// `POST …/cancel`
async fn cancel(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    let (other, _) = whom(&mut asked)?;
    let session = asked.session.clone();
    let ties = ties(&app, &session, &other)?;
    if ties.outgoing.is_empty() {
        return Err(Error::not_found("you have not asked this person"));
    }
    for room in &ties.outgoing {
        withdraw(&app, &session, &other, room).await?;
    }
    state("none", None)
}

/// `POST …/remove`
async fn remove(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    let (other, _) = whom(&mut asked)?;
    let session = asked.session.clone();
    let ties = ties(&app, &session, &other)?;
    if ties.friend.is_empty() {
        return Err(Error::not_found("this person is not your friend"));
    }
    for room in &ties.friend {
        let id = room.id().to_owned();
        if app.store.read(|tx| friends::is_of_two(tx, room, &session.user, &other))? {
            membership::leave(&app, &session, id.clone(), None).await?;
        }
        let (user, other) = (session.user.clone(), other.clone());
        app.store.write(move |tx| friends::set_direct(tx, &user, &other, &id, false)).await?;
    }
    state("none", None)
}
