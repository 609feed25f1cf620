//! Sending events, redacting them, and reading a room's history.
//! spec: client-server-api#sending-events-to-a-room, #getting-events-for-a-room

use std::sync::Arc;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, UInt, UserId,
    api::{
        Direction,
        client::{
            context::get_context,
            message::{get_message_events, send_message_event},
            redact::redact_event,
            room::{get_event_by_timestamp, get_room_event},
        },
    },
    events::TimelineEventType,
    serde::Raw,
};
use serde_json::{json, value::RawValue};

use super::blocking;
use crate::{
    accounts::{
        filters::{self, Events},
        transactions::Transaction,
    },
    app::App,
    error::{Error, Result},
    http::{Bucket, Queried, Session},
    rooms::{
        Pdu, Room,
        draft::{self, Draft},
        event, gaps,
        history::{self, Wanted, Way},
        moments::{self, Towards},
        timeline::{self, View},
    },
    store::WriteTx,
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
pub async fn send_message(
    app: Arc<App>,
    session: Session,
    request: send_message_event::v3::Request,
) -> Result<send_message_event::v3::Response> {
    let kind = TimelineEventType::from(request.event_type.to_string());
    let transaction = Transaction {
        user: session.user.to_string(),
        device: session.device.to_string(),
        endpoint: format!("send/{}/{kind}", request.room_id),
        id: request.txn_id.to_string(),
    };
    let mut draft = Draft::message(kind, request.body.into_json());
    draft.at = moment(&session, request.timestamp);
    let id = send(&app, &session, request.room_id, (draft, transaction)).await?;
    Ok(send_message_event::v3::Response::new(id))
}

/// The moment that an application service says something is from; what others say of it counts for nothing.
/// spec: application-service-api#timestamp-massaging
pub(super) fn moment(session: &Session, ts: Option<MilliSecondsSinceUnixEpoch>) -> Option<u64> {
    session.service.as_ref().and(ts).map(|ts| ts.get().into())
}

/// Sends an event once: for a transaction ID that was used before, the answer is what it led to.
pub async fn send(
    app: &App,
    session: &Session,
    room: ruma::OwnedRoomId,
    (draft, transaction): (Draft, Transaction),
) -> Result<OwnedEventId> {
    app.limits.take(Bucket::Message, &session.user)?;
    let may_act = session.may_act();
    let (me, user) = (app.me.clone(), session.user.clone());
    let work = move |tx: &WriteTx| {
        if let Some(id) = transaction.outcome(tx)? {
            return OwnedEventId::try_from(id).map_err(Error::internal);
        }
        let mut room = Room::of_member(tx, &room, &user)?;
        if let Err(suspended) = &may_act
            && !redacts_own(tx, &draft, &user)?
        {
            return Err(suspended.clone());
        }
        let sent_by = Some((transaction.device.clone(), transaction.id.clone()));
        let id = draft::send(tx, &me, &mut room, &user, &draft, sent_by)?;
        transaction.done(tx, id.as_str())?;
        Ok(id)
    };
    app.federation.write(work).await
}

/// Whether an event would redact one of the sender's own, which also the suspended may.
fn redacts_own(tx: &WriteTx, draft: &Draft, user: &UserId) -> Result<bool> {
    let Some(target) = &draft.redacts else { return Ok(false) };
    Ok(Pdu::find(tx, target)?.is_some_and(|event| event.sender == user))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`
pub async fn redact_event(
    app: Arc<App>,
    session: Session,
    request: redact_event::v3::Request,
) -> Result<redact_event::v3::Response> {
    let transaction = Transaction {
        user: session.user.to_string(),
        device: session.device.to_string(),
        endpoint: format!("redact/{}/{}", request.room_id, request.event_id),
        id: request.txn_id.to_string(),
    };
    let content = request.reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
    let draft = Draft {
        kind: TimelineEventType::RoomRedaction,
        state_key: None,
        content: crate::base::json::to_raw(&content)?,
        redacts: Some(request.event_id.clone()),
        at: None,
    };
    let id = send(&app, &session, request.room_id, (draft, transaction)).await?;
    Ok(redact_event::v3::Response::new(id))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`
pub async fn room_event(
    app: Arc<App>,
    session: Session,
    request: get_room_event::v3::Request,
) -> Result<get_room_event::v3::Response> {
    let event = app.store.read(|tx| {
        let unknown = || Error::not_found("there is no such event, or you may not see it");
        let room = Room::find(tx, &request.room_id)?.ok_or_else(unknown)?;
        let (pos, row) = event::shown(tx, room.num, &request.event_id)?.ok_or_else(unknown)?;
        let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
        view.see_row(tx, pos, &row)?.ok_or_else(unknown)
    })?;
    Ok(get_room_event::v3::Response::new(Raw::from_json(event)))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/messages`
pub async fn messages(
    app: Arc<App>,
    session: Session,
    asked: Queried<get_message_events::v3::Request>,
) -> Result<get_message_events::v3::Response> {
    let filter = filters::parse_events(asked.query("filter"))?;
    let request = asked.request;
    app.limits.take(Bucket::Costly, &session.user)?;
    let limit = limit(request.limit, &filter);
    let way = if request.dir == Direction::Backward { Way::Back } else { Way::Forward };
    let from = app.store.read(|tx| {
        let room = Room::find(tx, &request.room_id)?.ok_or_else(|| Error::forbidden("you are not in this room"))?;
        history::known_state(tx, &room, &session.user)?;
        match &request.from {
            Some(token) => timeline::parse_token(token),
            None if way == Way::Back => Ok(timeline::last(tx, room.num, i64::MAX)?.map_or(0, |(order, _)| order)),
            None => Ok(i64::MIN),
        }
    })?;
    let gap = app.federation.fetch.reach(&request.room_id, way, from, limit).await?;
    // There the page ends at the latest, and the next one begins.
    let stop = gap.map(|gap| if way == Way::Back { gap.before.saturating_sub(1) } else { gap.start().max(from) });
    let read = move || {
        app.store.read(|tx| {
            let room = Room::named(tx, &request.room_id)?;
            let state = history::known_state(tx, &room, &session.user)?;
            let to = request.to.as_deref().map(timeline::parse_token).transpose()?;
            let is_nearer = |stop: &i64| to.is_none_or(|to| if way == Way::Back { *stop > to } else { *stop < to });
            let stop = stop.filter(is_nearer);
            let wanted = Wanted { way, from, to: stop.or(to), limit, filter: &filter };
            let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
            let page = history::page(tx, &room, &mut view, &wanted)?;
            let members = match filter.lazy_load_members {
                true => history::members_of_senders(tx, &mut view, state, &page.senders)?,
                false => Vec::new(),
            };
            let mut response = get_message_events::v3::Response::new();
            response.start = timeline::token(from);
            // Before what is here there may be more, which nobody could be asked for just now.
            let beyond = match way == Way::Back && !page.events.is_empty() {
                true => gaps::first(tx, room.num)?.filter(|gap| gap.row.after.is_none()).map(|gap| gap.before - 1),
                false => None,
            };
            response.end = page.end.or(stop).or(beyond).map(timeline::token);
            response.chunk = raws(page.events);
            response.state = raws(members);
            Ok(response)
        })
    };
    blocking(read).await
}

/// `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`
pub async fn event_at_time(
    app: Arc<App>,
    session: Session,
    request: get_event_by_timestamp::v1::Request,
) -> Result<get_event_by_timestamp::v1::Response> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let ts = request.ts.get();
    app.store.read(|tx| Room::of_member(tx, &request.room_id, &session.user))?;
    app.federation.fetch.reach_time(&request.room_id, ts, request.dir).await?;
    let found = app.store.read(|tx| {
        let room = Room::of_member(tx, &request.room_id, &session.user)?;
        let mut view = View::new(tx, &room, &session.user, None)?;
        let towards = Towards::from(request.dir);
        moments::nearest_that(tx, &room, ts.into(), towards, |place| Ok(view.see(tx, place.event)?.is_some()))
    })?;
    let (_, id, sent) = found.ok_or_else(|| Error::not_found("there is no event at that time that you may see"))?;
    let sent = MilliSecondsSinceUnixEpoch(UInt::try_from(sent).map_err(Error::internal)?);
    let id = OwnedEventId::try_from(id).map_err(Error::internal)?;
    Ok(get_event_by_timestamp::v1::Response::new(id, sent))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`
pub async fn context(
    app: Arc<App>,
    session: Session,
    asked: Queried<get_context::v3::Request>,
) -> Result<get_context::v3::Response> {
    let filter = filters::parse_events(asked.query("filter"))?;
    let request = asked.request;
    app.limits.take(Bucket::Costly, &session.user)?;
    let read = move || {
        app.store.read(|tx| {
            let unknown = || Error::not_found("there is no such event, or you may not see it");
            let room = Room::find(tx, &request.room_id)?.ok_or_else(unknown)?;
            let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
            let limit = limit(request.limit, &filter);
            let found = history::context(tx, &room, (&mut view, &session.user), &request.event_id, (limit, &filter))?;
            let senders = [&found.before.senders[..], &found.after.senders[..]].concat();
            let shown = history::state_in(tx, &mut view, (found.state, &senders), &filter)?;
            let mut response = get_context::v3::Response::new();
            response.start = Some(timeline::token(found.start));
            response.end = Some(timeline::token(found.end));
            response.events_before = raws(found.before.events);
            response.event = Some(Raw::from_json(found.event));
            response.events_after = raws(found.after.events);
            response.state = raws(shown);
            Ok(response)
        })
    };
    blocking(read).await
}

/// How many events are wanted: what the query or the filter says, whichever is less.
fn limit(asked: UInt, filter: &Events) -> usize {
    let limit = filter.limit.map_or(u64::from(asked), |limit| limit.min(asked.into()));
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Raw events as the types that ruma's answers want; no byte is touched.
pub fn raws<T>(events: Vec<Box<RawValue>>) -> Vec<Raw<T>> {
    events.into_iter().map(Raw::from_json).collect()
}
