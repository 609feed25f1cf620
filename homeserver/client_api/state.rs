//! A room's state and its members. spec: client-server-api#getting-events-for-a-room

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedEventId, OwnedRoomAliasId, OwnedRoomId, RoomId, UserId,
    api::client::{
        membership::{get_member_events, joined_members},
        state::{get_state_event_for_key, get_state_events, send_state_event},
    },
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    blocking, membership,
    messages::{moment, raws},
};
use crate::{
    app::App,
    base::signing::Identity,
    error::{Error, Result},
    http::{Bucket, Reply, Session, reply},
    rooms::{
        Room, aliases,
        draft::{self, Draft},
        event::{self, Slices},
        history, members, partial, state, timeline,
        timeline::View,
    },
    store::{Flow, Read, WriteTx},
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
pub async fn set_state(
    app: Arc<App>,
    session: Session,
    request: send_state_event::v3::Request,
) -> Result<send_state_event::v3::Response> {
    session.may_act()?;
    let kind = TimelineEventType::from(request.event_type.to_string());
    let mut draft = Draft::state(kind, request.state_key, request.body.into_json());
    draft.at = moment(&session, request.timestamp);
    let id = set(&app, &session, request.room_id, draft).await?;
    Ok(send_state_event::v3::Response::new(id))
}

/// Sets state. What is so already is not said again: the answer is the event that said it.
pub async fn set(app: &App, session: &Session, room: OwnedRoomId, draft: Draft) -> Result<OwnedEventId> {
    if let Some(meant) = members::meant(&draft) {
        return membership::set(app, session, room, (draft, meant)).await;
    }
    app.limits.take(Bucket::Message, &session.user)?;
    set_here(app, session, room, draft).await
}

/// The part of [`set`] that needs nobody of another server.
pub(super) async fn set_here(app: &App, session: &Session, room: OwnedRoomId, draft: Draft) -> Result<OwnedEventId> {
    let (me, user) = (app.me.clone(), session.user.clone());
    let elsewhere = aliases_elsewhere(app, &room, &user, &draft).await?;
    let work = move |tx: &WriteTx| set_now(tx, &me, (&room, &user), (&draft, &elsewhere), None);
    app.federation.write(work).await
}

/// Aliases of other servers that a draft newly names and that lead to the room.
pub(super) async fn aliases_elsewhere(
    app: &App,
    room: &RoomId,
    user: &UserId,
    draft: &Draft,
) -> Result<BTreeSet<OwnedRoomAliasId>> {
    match draft.kind {
        TimelineEventType::RoomCanonicalAlias => app.federation.that_lead_to(room, user, &draft.content).await,
        _ => Ok(BTreeSet::new()),
    }
}

/// The part of [`set_here`] that decides and writes.
pub(super) fn set_now(
    tx: &WriteTx,
    me: &Identity,
    (room, user): (&RoomId, &UserId),
    (draft, elsewhere): (&Draft, &BTreeSet<OwnedRoomAliasId>),
    sent_by: Option<(String, String)>,
) -> Result<OwnedEventId> {
    let mut room = Room::of_member(tx, room, user)?;
    if draft.kind == TimelineEventType::RoomCanonicalAlias {
        aliases::check_named(tx, me, &room, (&draft.content, elsewhere))?;
    }
    if let Some(id) = unchanged(tx, &room, user, draft)? {
        return Ok(id);
    }
    let Some(meant) = members::meant(draft) else { return draft::send(tx, me, &mut room, user, draft, sent_by) };
    if meant.membership == MembershipState::Invite {
        membership::check_exists(tx, me, &meant.target)?;
    }
    let change = members::as_change(tx, me, &room, user, draft)?;
    match unchanged(tx, &room, user, &change)? {
        Some(id) => Ok(id),
        None => draft::send(tx, me, &mut room, user, &change, sent_by),
    }
}

/// The event that says the same from the same sender already.
fn unchanged(tx: &impl Read, room: &Room, sender: &UserId, draft: &Draft) -> Result<Option<OwnedEventId>> {
    let kind = StateEventType::from(draft.kind.to_string());
    let key = draft.state_key.as_deref().unwrap_or_default();
    let Some(now) = room.state_event(tx, &kind, key)?.filter(|now| now.sender == sender) else {
        return Ok(None);
    };
    let value = |raw: &RawValue| serde_json::from_str::<serde_json::Value>(raw.get()).ok();
    Ok((value(&now.content) == value(&draft.content)).then_some(now.id))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state`
pub async fn all_state(
    app: Arc<App>,
    session: Session,
    request: get_state_events::v3::Request,
) -> Result<get_state_events::v3::Response> {
    app.federation.whole(&request.room_id, &session.user).await?;
    let events = blocking(move || {
        app.store.read(|tx| {
            let room = known(tx, &request.room_id)?;
            let known = history::known_state(tx, &room, &session.user)?;
            let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
            let mut out = Vec::new();
            for (_, pos) in state::all(tx, known)? {
                out.push(view.show_state(tx, pos)?);
            }
            Ok(out)
        })
    })
    .await?;
    Ok(get_state_events::v3::Response::new(raws(events)))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
pub async fn state_for_key(
    app: Arc<App>,
    session: Session,
    request: get_state_event_for_key::v3::Request,
) -> Result<Reply> {
    let whole = request.format == get_state_event_for_key::v3::StateEventFormat::Event;
    let answer = app.store.read(|tx| {
        let room = known(tx, &request.room_id)?;
        let known = history::known_state(tx, &room, &session.user)?;
        let pos = state::event(tx, known, &request.event_type, &request.state_key)?;
        let pos = pos.ok_or_else(|| Error::not_found("the room has no such state"))?;
        if whole {
            return View::new(tx, &room, &session.user, Some(&session.device))?.show_state(tx, pos);
        }
        Ok(Slices::of(&event::row(tx, pos)?)?.content.to_owned())
    })?;
    reply::json(&answer)
}

/// `GET /_matrix/client/v3/rooms/{roomId}/members`
pub async fn member_events(
    app: Arc<App>,
    session: Session,
    request: get_member_events::v3::Request,
) -> Result<get_member_events::v3::Response> {
    app.limits.take(Bucket::Costly, &session.user)?;
    app.federation.whole(&request.room_id, &session.user).await?;
    let events = blocking(move || {
        app.store.read(|tx| {
            let room = known(tx, &request.room_id)?;
            let mut at = history::known_state(tx, &room, &session.user)?;
            if let Some(token) = &request.at {
                let asked = timeline::parse_token(token)?;
                if at == room.row.state {
                    at = timeline::state_at(tx, room.num, partial::known_at(&room, asked))?;
                }
            }
            let wanted = |asked: &Option<MembershipState>, is: &str| asked.as_ref().map(|asked| asked.as_str() == is);
            let keep = |is: &str| {
                wanted(&request.membership, is).unwrap_or(true) && !wanted(&request.not_membership, is).unwrap_or(false)
            };
            let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
            history::members_in(tx, &mut view, at, keep)
        })
    })
    .await?;
    Ok(get_member_events::v3::Response::new(raws(events)))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/joined_members`
pub async fn joined_members(
    app: Arc<App>,
    session: Session,
    request: joined_members::v3::Request,
) -> Result<joined_members::v3::Response> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Shown {
        displayname: Option<String>,
        avatar_url: Option<ruma::OwnedMxcUri>,
    }
    app.federation.whole(&request.room_id, &session.user).await?;
    let joined = blocking(move || {
        app.store.read(|tx| {
            let room = Room::of_member(tx, &request.room_id, &session.user)?;
            let mut out = std::collections::BTreeMap::new();
            members::each(tx, room.num, |user, row| {
                let Some(user) = UserId::parse(user).ok().filter(|_| row.membership == "join") else {
                    return Ok(Flow::Next);
                };
                let event = event::row(tx, row.event)?;
                let shown: Shown = serde_json::from_str(Slices::of(&event)?.content.get()).unwrap_or_default();
                let mut member = joined_members::v3::RoomMember::new();
                member.display_name = shown.displayname;
                member.avatar_url = shown.avatar_url;
                out.insert(user, member);
                Ok(Flow::Next)
            })?;
            Ok(out)
        })
    })
    .await?;
    Ok(joined_members::v3::Response::new(joined))
}

fn known(tx: &impl Read, id: &ruma::RoomId) -> Result<Room> {
    Room::find(tx, id)?.ok_or_else(|| Error::forbidden("you are not in this room"))
}
