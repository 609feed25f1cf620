//! Taking a room down: its local people out, its aliases away, and what was said in it forgotten. It takes as
//! many jobs as the room is large, so that nobody's message waits for it; how far it is stands in a table, and
//! what an end of the server interrupts goes on with the next start.

use std::sync::Arc;

use http::Method;
use ruma::{
    OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, UserId,
    api::client::room::{Visibility, create_room::v3::RoomPreset},
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{account, route};
use crate::{
    app::App,
    base::{clock, json as raw, random},
    error::{Error, Result},
    http::{Asked, Reply, Router, reply},
    rooms::{
        Room, aliases, blocked,
        create::{self, Wish},
        draft::{self, Draft},
        members::{self, Change},
        purge, room,
    },
    store::{
        LAST, WriteTx,
        rows::{Instead, RemovalRow},
        tables,
    },
};

/// People who are put out in one job, and events that are looked at in one.
const PEOPLE: usize = 10;
const EVENTS: usize = 200;
/// Removals that are remembered at most.
const MAX_REMOVALS: u64 = 10_000;

pub(super) fn routes(router: &mut Router) {
    route(router, Method::DELETE, "/_synapse/admin/v1/rooms/{room_id}", at_once);
    route(router, Method::DELETE, "/_synapse/admin/v2/rooms/{room_id}", begin);
    route(router, Method::GET, "/_synapse/admin/v2/rooms/{room_id}/delete_status", status_of_room);
    route(router, Method::GET, "/_synapse/admin/v2/rooms/delete_status/{delete_id}", status);
}

#[derive(Deserialize)]
struct Body {
    new_room_user_id: Option<OwnedUserId>,
    room_name: Option<String>,
    message: Option<String>,
    #[serde(default)]
    block: bool,
    #[serde(default = "yes")]
    purge: bool,
}

fn yes() -> bool {
    true
}

/// `DELETE /_synapse/admin/v1/rooms/{room_id}`: answered once it is done.
async fn at_once(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (id, row) = note(&app, asked).await?;
    let row = carry_out(&app, &id, row).await?;
    reply::json(&shown(&row))
}

/// `DELETE /_synapse/admin/v2/rooms/{room_id}`: answered once it has begun.
async fn begin(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (id, row) = note(&app, asked).await?;
    let answer = json!({ "delete_id": id });
    tokio::spawn(async move { report(carry_out(&app, &id, row).await) });
    reply::json(&answer)
}

/// Goes on with what an end of the server has interrupted.
pub fn resume(app: &Arc<App>) -> Result<()> {
    let all = app.store.read(|tx| tables::REMOVALS.collect::<&str, _>(tx, .., |id, row| (id.to_owned(), row)))?;
    for (id, row) in all.into_iter().filter(|(_, row)| row.status == "active") {
        let app = app.clone();
        tokio::spawn(async move { report(carry_out(&app, &id, row).await) });
    }
    Ok(())
}

fn report(outcome: Result<RemovalRow>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "a room could not be taken down");
    }
}

/// Notes what is to be done, before anything of it is.
async fn note(app: &Arc<App>, mut asked: Asked) -> Result<(String, RemovalRow)> {
    let room: OwnedRoomId = asked.path(0)?;
    let body: Body = asked.body()?;
    let admin = asked.session.user.clone();
    let instead = body.new_room_user_id.map(|owner| Instead {
        owner: owner.to_string(),
        name: body.room_name.unwrap_or_else(|| "Content Violation Notification".into()),
        message: body.message.unwrap_or_else(|| {
            "Sharing illegal content on this server is not permitted, and rooms in violation are blocked.".into()
        }),
    });
    let row = RemovalRow {
        room: room.to_string(),
        began: clock::now_ms(),
        status: "active".into(),
        purge: body.purge,
        instead,
        ..RemovalRow::default()
    };
    let (id, noted, server) = (random::id::<24>(), row.clone(), app.clone());
    let key = id.clone();
    let work = move |tx: &WriteTx| {
        if let Some(instead) = &noted.instead {
            account(&server, tx, &UserId::parse(&instead.owner).map_err(Error::internal)?)?;
        }
        match body.block {
            true => blocked::block(tx, &room, &admin)?,
            false => drop(Room::named(tx, &room)?),
        }
        if tables::REMOVALS.len(tx)? >= MAX_REMOVALS {
            forget_oldest(tx)?;
        }
        tables::REMOVALS.put(tx, &*key, &noted)
    };
    app.store.write(work).await?;
    Ok((id, row))
}

fn forget_oldest(tx: &WriteTx) -> Result<()> {
    let all = tables::REMOVALS.collect::<&str, _>(tx, .., |id, row| (row.began, id.to_owned(), row.status))?;
    match all.into_iter().filter(|(.., status)| status != "active").min() {
        Some((_, id, _)) => tables::REMOVALS.remove(tx, &*id).map(drop),
        None => Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "too many rooms are being taken down")),
    }
}

/// Does it, and says what came of it.
async fn carry_out(app: &Arc<App>, id: &str, mut row: RemovalRow) -> Result<RemovalRow> {
    let outcome = steps(app, id, &mut row).await;
    match &outcome {
        Ok(()) => row.status = "complete".into(),
        // The server is stopping, or its disk is full: it goes on with the next start.
        Err(error) if error.status() == http::StatusCode::SERVICE_UNAVAILABLE => {}
        Err(error) => (row.status, row.error) = ("failed".into(), Some(error.message().to_owned())),
    }
    save(app, id, &row).await?;
    outcome.map(|()| row)
}

async fn save(app: &Arc<App>, id: &str, row: &RemovalRow) -> Result<()> {
    let (id, row) = (id.to_owned(), row.clone());
    app.store.write(move |tx| tables::REMOVALS.put(tx, &*id, &row)).await
}

/// 1. Its aliases go, and the directory does not list it any more.
/// 2. A room in its place is made, if that is wanted.
/// 3. Its local people are put out, a few at a time, and into the new one.
/// 4. What was said is forgotten, piece by piece.
async fn steps(app: &Arc<App>, id: &str, row: &mut RemovalRow) -> Result<()> {
    let name = RoomId::parse(&row.room).map_err(Error::internal)?;
    let Some(room) = app.store.read(|tx| Room::find(tx, &name))? else { return Ok(()) };
    let num = room.num;
    let taken = app.store.write(move |tx| take_names(tx, num)).await?;
    row.aliases.extend(taken);
    if let Some(instead) = row.instead.clone().filter(|_| row.new_room.is_none()) {
        let me = app.me.clone();
        row.new_room = Some(app.store.write(move |tx| make_instead(tx, &me, &instead)).await?.to_string());
    }
    save(app, id, row).await?;
    let me = &app.me;
    let local: Vec<OwnedUserId> = app.store.read(|tx| {
        let mut out = Vec::new();
        for membership in ["join", "invite", "knock"] {
            out.extend(members::with(tx, num, membership)?.into_iter().filter(|user| me.owns(user)));
        }
        Ok(out)
    })?;
    for some in local.chunks(PEOPLE) {
        let (app_, some, new) = (app.clone(), some.to_vec(), row.new_room.clone());
        let (out, stay) =
            app.federation.write_unasked(move |tx| put_out(&app_, tx, num, &some, new.as_deref())).await?;
        row.kicked.extend(out);
        row.failed.extend(stay);
        save(app, id, row).await?;
    }
    if row.purge && row.failed.is_empty() {
        let mut after = Some(i64::MIN);
        while let Some(at) = after {
            after = app.store.write(move |tx| purge::some(tx, &Room::at(tx, num)?, at, EVENTS)).await?;
        }
    }
    Ok(())
}

fn take_names(tx: &WriteTx, num: u64) -> Result<Vec<String>> {
    let room = Room::at(tx, num)?;
    let names = aliases::of(tx, &room)?;
    for name in &names {
        tables::ALIASES.remove(tx, name.as_str())?;
    }
    tables::ROOM_ALIASES.remove_range(tx, (num, "")..=(num, LAST))?;
    tables::PUBLIC_ROOMS.remove(tx, num)?;
    tables::NETWORK_ROOMS.remove_range(tx, (num, "")..=(num, LAST))?;
    Ok(names.into_iter().filter(|name| <&RoomAliasId>::try_from(name.as_str()).is_ok()).collect())
}

fn make_instead(tx: &WriteTx, me: &crate::base::signing::Identity, instead: &Instead) -> Result<OwnedRoomId> {
    let owner = UserId::parse(&instead.owner).map_err(Error::internal)?;
    let wish = Wish {
        version: room::DEFAULT_VERSION,
        preset: RoomPreset::PublicChat,
        visibility: Visibility::Private,
        creation_content: Map::new(),
        // People read there what happened, and can't answer.
        power_levels: Map::from_iter([("users_default".to_owned(), Value::from(-10))]),
        initial_state: Vec::new(),
        name: Some(instead.name.clone()),
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: false,
        seed: Default::default(),
    };
    let id = create::create(tx, me, &owner, &wish)?;
    let content = raw::to_raw(&json!({ "msgtype": "m.text", "body": instead.message }))?;
    let draft = Draft::message(TimelineEventType::RoomMessage, content);
    draft::send(tx, me, &mut Room::named(tx, &id)?, &owner, &draft, None)?;
    Ok(id)
}

/// Puts some people out, and into a new room. Returns who is out, and who could not be put out.
fn put_out(
    app: &App,
    tx: &WriteTx,
    num: u64,
    people: &[OwnedUserId],
    new_room: Option<&str>,
) -> Result<(Vec<String>, Vec<String>)> {
    let (mut out, mut stay) = (Vec::new(), Vec::new());
    for user in people {
        // Whoever may not leave, as a room's damaged rules can have it, has not been written before that is found.
        match members::leave(tx, &app.me, &mut Room::at(tx, num)?, user, None) {
            Ok(()) => out.push(user.to_string()),
            Err(error) if error.errcode() == "M_FORBIDDEN" => {
                stay.push(user.to_string());
                continue;
            }
            Err(error) => return Err(error),
        }
        if let Some(id) = new_room {
            let mut room = Room::named(tx, &RoomId::parse(id).map_err(Error::internal)?)?;
            let join = Change {
                sender: user,
                target: user,
                membership: MembershipState::Join,
                reason: None,
                more: Map::new(),
            };
            members::change(tx, &app.me, &mut room, join)?;
        }
    }
    Ok((out, stay))
}

fn shown(row: &RemovalRow) -> Value {
    json!({
        "kicked_users": row.kicked,
        "failed_to_kick_users": row.failed,
        "local_aliases": row.aliases,
        "new_room_id": row.new_room,
    })
}

fn shown_status(id: &str, row: &RemovalRow) -> Value {
    let mut shown = json!({
        "delete_id": id,
        "room_id": row.room,
        "status": row.status,
        "shutdown_room": shown(row),
    });
    if let Some(error) = &row.error {
        shown["error"] = error.as_str().into();
    }
    shown
}

/// `GET /_synapse/admin/v2/rooms/delete_status/{delete_id}`
async fn status(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let id: String = asked.path(0)?;
    let row = app.store.read(|tx| tables::REMOVALS.get(tx, &*id))?;
    let row = row.ok_or_else(|| Error::not_found("there is no such removal of a room"))?;
    reply::json(&shown_status(&id, &row))
}

/// `GET /_synapse/admin/v2/rooms/{room_id}/delete_status`
async fn status_of_room(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let room: OwnedRoomId = asked.path(0)?;
    let mut all = app.store.read(|tx| tables::REMOVALS.collect::<&str, _>(tx, .., |id, row| (id.to_owned(), row)))?;
    all.retain(|(_, row)| room == row.room.as_str());
    all.sort_by_key(|(_, row)| row.began);
    if all.is_empty() {
        return Err(Error::not_found("nobody has taken this room down"));
    }
    let all: Vec<_> = all.iter().map(|(id, row)| shown_status(id, row)).collect();
    reply::json(&json!({ "results": all }))
}
