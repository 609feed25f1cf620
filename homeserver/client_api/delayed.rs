//! Sending events later: keeping them, managing what waits, and sending it when it is due.
//! spec: MSC4140; under the paths of its present text, those for its unstable form, and with the query argument by
//! which older clients ask for it.

mod list;

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, UserId,
    api::{
        auth_scheme::AccessTokenOptional,
        client::{message::send_message_event, state::send_state_event},
    },
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::sync::watch;

use super::{messages, state};
use crate::{
    accounts::{transactions::Transaction, users},
    app::App,
    base::{clock, json::raw},
    error::{Error, Result},
    http::{
        Asked, Bucket, Call, Peer, Queried, Reply, Router, Session,
        admit::{self, Admit},
        body, reply, untyped,
    },
    limits,
    rooms::{
        Room,
        delayed::{self, Wish},
        draft::{self, Draft},
        members::{self, Meant},
    },
    store::{Read, WriteTx, rows::client::DelayedRow},
};

/// How older clients ask for a delay.
const PARAMETER: &str = "org.matrix.msc4140.delay";
/// The stable paths' prefix, and the other.
const STABLE: &str = "/_matrix/client/v1";
const UNSTABLE: &str = "/_matrix/client/unstable/org.matrix.msc4140";
/// That of listing them, which is a proposal of its own.
const LISTING: &str = "/_matrix/client/unstable/org.matrix.msc4486";
/// Events that are sent in one go, before it is looked anew what is due.
const AT_ONCE: usize = 100;
/// What could not be sent as the server can't write now is tried again after this time.
const PAUSE: Duration = Duration::from_secs(5);

/// All endpoints.
pub fn routes(router: &mut Router) {
    for rooms in ["/_matrix/client/v3".to_owned(), UNSTABLE.to_owned()] {
        let path = format!("{rooms}/rooms/{{room_id}}/delayed_event/{{event_type}}/{{txn_id}}");
        untyped::route(router, Method::PUT, &path, put);
    }
    for listing in [STABLE, LISTING] {
        untyped::route(router, Method::GET, &format!("{listing}/delayed_events"), list::all);
    }
    untyped::route(router, Method::GET, &format!("{UNSTABLE}/delayed_events"), list::of_old);
    untyped::route(router, Method::GET, &format!("{STABLE}/delayed_events/{{delay_id}}"), list::one);
    untyped::route(router, Method::GET, &format!("{UNSTABLE}/delayed_events/{{delay_id}}"), list::one_of_old);
    // Services of calls are told the ID, a secret, to act for those who are in a call.
    for prefix in [STABLE, UNSTABLE] {
        let path = format!("{prefix}/delayed_events/{{delay_id}}/{{action}}");
        router.plain_as("optional", Method::POST, &path, manage);
    }
    router.plain_as("optional", Method::POST, &format!("{UNSTABLE}/delayed_events/{{delay_id}}"), manage);
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
pub async fn send_message(
    app: Arc<App>,
    session: Session,
    asked: Queried<send_message_event::v3::Request>,
) -> Result<Reply> {
    let Some(delay) = asked.query(PARAMETER).map(str::to_owned) else {
        return reply::typed(messages::send_message(app, session, asked.request).await?);
    };
    let request = asked.request;
    let transaction = (format!("send_later/{}/{}", request.room_id, request.event_type), request.txn_id.to_string());
    let wish = Wish {
        room: request.room_id.into(),
        kind: request.event_type.to_string(),
        state_key: None,
        content: request.body.into_json().get().to_owned(),
        delay: milliseconds(&app, &delay)?,
    };
    schedule(&app, &session, wish, Some(transaction)).await
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
pub async fn set_state(
    app: Arc<App>,
    session: Session,
    asked: Queried<send_state_event::v3::Request>,
) -> Result<Reply> {
    let Some(delay) = asked.query(PARAMETER).map(str::to_owned) else {
        return reply::typed(state::set_state(app, session, asked.request).await?);
    };
    let request = asked.request;
    let wish = Wish {
        room: request.room_id.into(),
        kind: request.event_type.to_string(),
        state_key: Some(request.state_key),
        content: request.body.into_json().get().to_owned(),
        delay: milliseconds(&app, &delay)?,
    };
    schedule(&app, &session, wish, None).await
}

/// The delay of a query. One that is too long is refused as older clients know it.
fn milliseconds(app: &App, text: &str) -> Result<u64> {
    let delay = text.parse().map_err(|_| Error::invalid_param("the delay is a number of milliseconds"))?;
    let most = app.config.delayed.max_delay;
    if delay > most {
        let error = Error::unknown(format!("events wait {most} ms at most"));
        let error = error.with("org.matrix.msc4140.errcode", "M_MAX_DELAY_EXCEEDED".into());
        return Err(error.with("org.matrix.msc4140.max_delay", most.into()));
    }
    Ok(delay)
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/delayed_event/{eventType}/{txnId}`
async fn put(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(alias = "delay")]
        delay_ms: u64,
        state_key: Option<String>,
        content: Box<RawValue>,
    }
    let (room, kind) = (asked.path::<OwnedRoomId>(0)?, asked.path::<String>(1)?);
    let transaction = (format!("delayed_event/{room}/{kind}"), asked.path(2)?);
    let Body { delay_ms, state_key, content } = asked.body()?;
    if !content.get().starts_with('{') {
        return Err(Error::bad_json("the content of an event is an object"));
    }
    let wish = Wish { room: room.into(), kind, state_key, content: content.get().to_owned(), delay: delay_ms };
    schedule(&app, &asked.session, wish, Some(transaction)).await
}

async fn schedule(app: &App, session: &Session, wish: Wish, transaction: Option<(String, String)>) -> Result<Reply> {
    session.may_act()?;
    app.limits.take(Bucket::Message, &session.user)?;
    let (user, limits) = (session.user.clone(), app.config.delayed);
    let (room, draft) = drafted(&wish.room, &wish.kind, wish.state_key.as_deref(), &wish.content)?;
    let invites = |meant: Meant| meant.membership == MembershipState::Invite && !app.me.owns(&meant.target);
    if members::meant(&draft).is_some_and(invites) {
        return Err(Error::unknown("people of other servers can't be invited later"));
    }
    let transaction = transaction.map(|(endpoint, id)| Transaction {
        user: user.to_string(),
        device: session.device.to_string(),
        endpoint,
        id,
    });
    let work = move |tx: &WriteTx| {
        if let Some(known) = transaction.as_ref().map(|transaction| transaction.outcome(tx)).transpose()?.flatten() {
            return Ok(known);
        }
        Room::of_member(tx, &room, &user)?;
        let id = delayed::schedule(tx, &user, wish.clone(), limits)?;
        if let Some(transaction) = &transaction {
            transaction.done(tx, &id)?;
        }
        Ok(id)
    };
    let id = app.store.write(work).await?;
    app.alarm.notify_one();
    reply::json(&json!({ "delay_id": id }))
}

/// `POST /_matrix/client/v1/delayed_events/{delayId}/{action}`: the ID is enough, and who shows who they are can only
/// name their own. Without an action in the path it is in the body, as it was once.
async fn manage(app: Arc<App>, call: Call, path: Vec<String>) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        action: String,
    }
    let peer = Peer::of(&call);
    let (head, incoming) = call.into_parts();
    let claim = AccessTokenOptional::admit(&app, &head, peer).await?;
    let (body, _share) = body::collect(incoming, AccessTokenOptional::whose(&claim), &app.bodies).await?;
    let (caller, session) = claim;
    match &session {
        Some(session) => app.limits.take(Bucket::Other, &session.user)?,
        None => app.limits.take(Bucket::Other, limits::address(caller.ip))?,
    }
    let mut path = path.into_iter();
    let id = path.next().unwrap_or_default();
    let action = match path.next() {
        Some(action) => action,
        None => serde_json::from_slice::<Body>(&body).map_err(|error| Error::bad_json(error.to_string()))?.action,
    };
    act(&app, id, &action, session.as_ref()).await
}

async fn act(app: &App, id: String, action: &str, session: Option<&Session>) -> Result<Reply> {
    let user = session.map(|session| session.user.clone());
    let settled = |row: &DelayedRow| match (action, &row.outcome) {
        (_, None) => Ok(false),
        ("send", Some(outcome)) if outcome.event.is_some() => Ok(true),
        ("cancel", Some(outcome)) if outcome.event.is_none() => Ok(true),
        // Who would have it wait longer is told that it does not wait, as clients know that.
        ("restart", Some(outcome)) if outcome.event.is_some() => Err(Error::not_found("the event has been sent")),
        (_, Some(outcome)) => Err(Error::conflict(
            "M_UNKNOWN",
            if outcome.event.is_some() { "the event has been sent" } else { "the event was cancelled" },
        )),
    };
    match action {
        "send" => {
            let row = app.store.read(|tx| delayed::find(tx, &id, user.as_deref()))?;
            if !settled(&row)? {
                let sender = UserId::parse(row.user.as_str()).map_err(Error::internal)?;
                app.limits.take(Bucket::Message, sender)?;
                send(app, &id, &row, true).await?;
            }
        }
        "cancel" | "restart" => {
            let restarts = action == "restart";
            // What was settled is known by the row, which is read again where it is changed.
            let row = app.store.read(|tx| delayed::find(tx, &id, user.as_deref()))?;
            if !settled(&row)? {
                let change = move |tx: &WriteTx| {
                    let row = delayed::find(tx, &id, user.as_deref())?;
                    match (row.outcome.is_some(), restarts) {
                        (true, _) => Err(Error::not_found("the event does not wait any more")),
                        (false, true) => delayed::restart(tx, &id, row),
                        (false, false) => delayed::finish(tx, &id, row, Ok(None)),
                    }
                };
                app.store.write(change).await?;
                app.alarm.notify_one();
            }
        }
        _ => return Err(Error::unrecognized()),
    }
    reply::json(&json!({}))
}

/// The event that waits.
fn drafted(room: &str, kind: &str, state_key: Option<&str>, content: &str) -> Result<(OwnedRoomId, Draft)> {
    let room = OwnedRoomId::try_from(room).map_err(Error::internal)?;
    let (kind, content) = (TimelineEventType::from(kind), raw(content.to_owned())?);
    let draft = match state_key {
        Some(key) => Draft::state(kind, key, content),
        None => Draft::message(kind, content),
    };
    Ok((room, draft))
}

/// Sends an event that waits, and says so in the same transaction; `early` before it is due. If that fails it
/// waits on.
async fn send(app: &App, id: &str, row: &DelayedRow, early: bool) -> Result<()> {
    let user = OwnedUserId::try_from(row.user.as_str()).map_err(Error::internal)?;
    let (room, draft) = drafted(&row.room, &row.kind, row.state_key.as_deref(), &row.content)?;
    let elsewhere = state::aliases_elsewhere(app, &room, &user, &draft).await?;
    let (me, id) = (app.me.clone(), id.to_owned());
    let work = move |tx: &WriteTx| {
        let row = delayed::find(tx, &id, None)?;
        let due = row.since.saturating_add(row.delay);
        if row.outcome.is_some() || (!early && due > clock::now_ms()) {
            return Ok(());
        }
        may_act(tx, &user)?;
        let sent_by = Some(delayed::sent_later(&id));
        let event: OwnedEventId = match draft.state_key {
            Some(_) => state::set_now(tx, &me, (&room, &user), (&draft, &elsewhere), sent_by)?,
            None => {
                let mut room = Room::of_member(tx, &room, &user)?;
                draft::send(tx, &me, &mut room, &user, &draft, sent_by)?
            }
        };
        delayed::finish(tx, &id, row, Ok(Some(event.into())))
    };
    app.federation.write(work).await
}

/// Refuses what is sent for somebody who could not send it now.
fn may_act(tx: &impl Read, user: &UserId) -> Result<()> {
    match users::lookup(tx, user)?.filter(|account| !account.deactivated) {
        None => Err(Error::forbidden("there is no such account any more")),
        Some(account) if account.locked => Err(users::locked()),
        Some(account) if account.suspended => Err(admit::suspended()),
        Some(_) => Ok(()),
    }
}

/// Sends what is due, until the server is to stop. What fell due while it did not run comes first.
pub async fn run(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    loop {
        let pause = match send_due(&app).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::debug!(%error, "what is due can't be sent");
                PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = app.alarm.notified() => {}
            // An error says that nobody is left to ask for it, which means the same.
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Sends what is due, and says for how long nothing will be.
async fn send_due(app: &Arc<App>) -> Result<Duration> {
    for _ in 0..AT_ONCE {
        let Some((due, id)) = app.store.read(delayed::next)? else { return Ok(Duration::from_secs(3600)) };
        let now = clock::now_ms();
        if due > now {
            return Ok(Duration::from_millis(due - now));
        }
        let row = app.store.read(|tx| delayed::find(tx, &id, None))?;
        let limited = match UserId::parse(row.user.as_str()) {
            Ok(user) => app.limits.take(Bucket::Message, user),
            Err(error) => Err(Error::internal(error)),
        };
        let sent = match limited {
            Ok(()) => send(app, &id, &row, false).await,
            Err(error) => Err(error),
        };
        let Err(error) = sent else { continue };
        if matches!(error.status(), StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE) {
            return Err(error);
        }
        let fail = move |tx: &WriteTx| {
            let row = delayed::find(tx, &id, None)?;
            match row.outcome.is_none() {
                true => delayed::finish(tx, &id, row, Err(error.clone())),
                false => Ok(()),
            }
        };
        app.store.write(fail).await?;
    }
    Ok(Duration::ZERO)
}
