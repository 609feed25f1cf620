//! The server's own account, and the rooms in which it speaks: `#admins`, which is kept in step with who
//! administers the server, and a room of notices for whoever is told something.
//! spec: client-server-api#server-notices

use ruma::{
    OwnedEventId, OwnedUserId, RoomAliasId, RoomId, UserId,
    api::client::room::{Visibility, create_room::v3::RoomPreset},
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::{Map, Value, json};

use super::{
    create::{self, Wish},
    draft::{self, Draft},
    members::{self, Change},
    room::{DEFAULT_VERSION, Room},
};
use crate::{
    accounts::{account_data, profile, users},
    base::{json as raw, signing::Identity},
    error::{Error, Result},
    store::{Flow, Read, WriteTx, tables},
};

/// What the server's account is called, unless somebody has that name.
const NAMES: [&str; 3] = ["hearth", "hearth-server", "hearth-server-account"];
/// The alias of the room of the administrators.
const ALIAS: &str = "admins";
/// The tag by which clients know a room of notices.
const NOTICE_TAG: &str = "m.server_notice";

/// The server's own account, once there is one.
pub fn server_account(tx: &impl Read) -> Result<Option<OwnedUserId>> {
    let id = tables::IDENTITY.get(tx, "server_account")?;
    id.map(|id| UserId::parse(id).map_err(Error::internal)).transpose()
}

fn ensure_account(tx: &WriteTx, me: &Identity) -> Result<OwnedUserId> {
    if let Some(known) = server_account(tx)? {
        return Ok(known);
    }
    for name in NAMES {
        let user = users::wished(name, &me.name)?;
        if users::lookup(tx, &user)?.is_none() {
            users::create(tx, &user, None, false)?;
            profile::set(tx, &user, "displayname", &"Hearth".into())?;
            tables::IDENTITY.put(tx, "server_account", &user.to_string())?;
            return Ok(user);
        }
    }
    Err(Error::internal(format!("all names of the server's own account are taken: {NAMES:?}")))
}

/// The room of the administrators, once there is one.
pub fn room(tx: &impl Read) -> Result<Option<Room>> {
    match tables::IDENTITY.get(tx, "admin_room")? {
        Some(id) => Room::find(tx, &RoomId::parse(id).map_err(Error::internal)?),
        None => Ok(None),
    }
}

fn ensure_room(tx: &WriteTx, me: &Identity) -> Result<Room> {
    if let Some(room) = room(tx)? {
        return Ok(room);
    }
    let server = ensure_account(tx, me)?;
    let alias = RoomAliasId::parse(format!("#{ALIAS}:{}", me.name)).map_err(Error::internal)?;
    let wish = Wish {
        name: Some("Administrators".into()),
        topic: Some(format!("Who administers {}, and what the server tells them.", me.name)),
        // Somebody may have taken the name for a room of theirs before there was an administrator.
        alias: (!tables::ALIASES.has(tx, alias.as_str())?).then_some(alias),
        power_levels: Map::from_iter([("invite".to_owned(), json!(100)), ("kick".to_owned(), json!(100))]),
        ..private()
    };
    let id = create::create(tx, me, &server, &wish)?;
    tables::IDENTITY.put(tx, "admin_room", &id.to_string())?;
    Room::named(tx, &id)
}

/// A room of this server alone, which its account makes.
fn private() -> Wish {
    Wish {
        version: DEFAULT_VERSION,
        preset: RoomPreset::PrivateChat,
        visibility: Visibility::Private,
        creation_content: Map::from_iter([("m.federate".to_owned(), Value::Bool(false))]),
        power_levels: Map::new(),
        initial_state: Vec::new(),
        name: None,
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: false,
        seed: Default::default(),
    }
}

/// Brings somebody into the room of the administrators if they are one, and out of it if not. To be called
/// in every job that may have made the difference.
pub fn keep(tx: &WriteTx, me: &Identity, user: &UserId) -> Result<()> {
    let is_admin = users::is_admin(tx, user)?;
    let mut room = match (room(tx)?, is_admin) {
        (Some(room), _) => room,
        (None, true) => ensure_room(tx, me)?,
        (None, false) => return Ok(()),
    };
    let server = ensure_account(tx, me)?;
    let was = members::of(tx, room.num, user)?.map(|row| row.membership);
    match (is_admin, was.as_deref()) {
        (true, Some("join")) => Ok(()),
        (true, was) => {
            if was != Some("invite") {
                create::invite(tx, me, &mut room, &server, user, false)?;
            }
            let join = Change {
                sender: user,
                target: user,
                membership: MembershipState::Join,
                reason: None,
                more: Map::new(),
            };
            members::change(tx, me, &mut room, join).map(drop)
        }
        (false, Some("join" | "invite")) => {
            let why = Some("no longer an administrator".to_owned());
            members::put_out(tx, me, &mut room, &server, user, (why, false))
        }
        (false, _) => Ok(()),
    }
}

/// Brings the room in step with all administrators: what was changed while the server did not run.
pub fn reconcile(tx: &WriteTx, me: &Identity) -> Result<()> {
    let mut concerned = Vec::new();
    users::each(tx, |name, row| {
        if row.admin && !row.deactivated {
            concerned.extend(users::wished(name, &me.name).ok());
        }
        Ok(Flow::Next)
    })?;
    let server = server_account(tx)?;
    if let Some(room) = room(tx)? {
        concerned.extend(members::with(tx, room.num, "join")?);
    }
    concerned.sort_unstable();
    concerned.dedup();
    concerned.iter().filter(|user| Some(*user) != server.as_ref()).try_for_each(|user| keep(tx, me, user))
}

/// Says something to the administrators. Without any there is nobody to say it to.
pub fn tell(tx: &WriteTx, me: &Identity, text: &str) -> Result<()> {
    let (Some(mut room), Some(server)) = (room(tx)?, server_account(tx)?) else { return Ok(()) };
    let content = raw::to_raw(&json!({ "msgtype": "m.notice", "body": text }))?;
    draft::send(tx, me, &mut room, &server, &Draft::message(TimelineEventType::RoomMessage, content), None).map(drop)
}

/// Whether a room is somebody's room of notices, which they can't decline.
pub fn is_of_notices(tx: &impl Read, room: &Room, user: &UserId) -> Result<bool> {
    Ok(tables::NOTICE_ROOMS.get(tx, user.localpart())?.is_some_and(|id| id == room.row.id))
}

/// Sends somebody a notice of the server: an event in their room of notices, to which they are invited if
/// they are not there.
pub fn notify(tx: &WriteTx, me: &Identity, user: &UserId, draft: &Draft) -> Result<OwnedEventId> {
    if !users::is_open(tx, user)? {
        return Err(Error::not_found("there is no such account"));
    }
    let server = ensure_account(tx, me)?;
    let known = tables::NOTICE_ROOMS.get(tx, user.localpart())?;
    let id = match known {
        Some(id) => RoomId::parse(id).map_err(Error::internal)?,
        None => {
            let wish = Wish {
                name: Some("Server notices".into()),
                // They are read and not answered.
                power_levels: Map::from_iter([("users_default".to_owned(), json!(-10))]),
                ..private()
            };
            let id = create::create(tx, me, &server, &wish)?;
            tables::NOTICE_ROOMS.put(tx, user.localpart(), &id.to_string())?;
            id
        }
    };
    let mut room = Room::named(tx, &id)?;
    if !matches!(members::of(tx, room.num, user)?.map(|row| row.membership).as_deref(), Some("join" | "invite")) {
        create::invite(tx, me, &mut room, &server, user, false)?;
        account_data::tag(tx, user, id.as_str(), NOTICE_TAG, Map::new())?;
    }
    draft::send(tx, me, &mut room, &server, draft, None)
}
