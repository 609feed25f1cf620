//! Requests over the WebSocket: each is the body and path of an HTTP endpoint in one object, carried out
//! by that endpoint's handler.

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedTransactionId,
    api::client::{
        message::send_message_event, presence::set_presence, read_marker::set_read_marker, receipt::create_receipt,
        redact::redact_event, state::send_state_event,
    },
    events::{MessageLikeEventType, StateEventType, receipt::ReceiptThread},
    presence::PresenceState,
    serde::Raw,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::{
    app::App,
    base::json,
    client_api::{messages, presence, receipts, state, typing},
    error::{Error, Result},
    http::Session,
};

/// Bytes of a request's ID at most.
const MAX_ID: usize = 255;

/// Carries out a request and answers with the text of its reply, whatever happens.
pub async fn answer(app: Arc<App>, session: Session, text: String) -> String {
    #[derive(Serialize)]
    struct Reply<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        ok: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Value>,
    }
    let (id, asked) = read(&text);
    drop(text);
    let outcome = match asked {
        Ok(asked) => act(app, session, asked).await,
        Err(error) => Err(error),
    };
    let (ok, error) = match outcome {
        Ok(ok) => (Some(ok), None),
        Err(error) => (None, Some(describe(&error))),
    };
    let reply = Reply { kind: "reply", id: &id, ok, error };
    serde_json::to_string(&reply).unwrap_or_else(|_| r#"{"type":"reply","id":""}"#.to_owned())
}

/// The error's HTTP status with the members of its HTTP body. Our own faults are logged here, once.
fn describe(error: &Error) -> Value {
    if let Some(cause) = error.cause() {
        tracing::error!(cause, "a request over a WebSocket failed");
    }
    let mut body = error.body();
    body["status"] = error.status().as_u16().into();
    body
}

/// What is asked for.
enum Asked {
    Send(Send),
    State(SetState),
    Redact(Redact),
    Typing(SetTyping),
    Receipt(SetReceipt),
    ReadMarkers(SetReadMarkers),
    Presence(SetPresence),
}

/// Whether a text is a request of a form that is known here.
pub fn check(text: &str) -> Result<()> {
    read(text).1.map(drop)
}

/// A request's ID, empty if it has no good one, and what it asks for.
fn read(text: &str) -> (String, Result<Asked>) {
    #[derive(Deserialize)]
    struct Head {
        id: String,
        action: String,
    }
    match serde_json::from_str::<Head>(text) {
        Ok(head) if head.id.len() > MAX_ID => (String::new(), Err(Error::invalid_param("the ID is too long"))),
        Ok(head) => (head.id, asked(&head.action, text)),
        Err(error) => (String::new(), Err(Error::bad_json(error.to_string()))),
    }
}

fn asked(action: &str, text: &str) -> Result<Asked> {
    if json::is_too_deep(text.as_bytes()) {
        return Err(Error::not_json(format!("the request is nested deeper than {} levels", json::MAX_DEPTH)));
    }
    Ok(match action {
        "send" => Asked::Send(parse(text)?),
        "state" => Asked::State(parse(text)?),
        "redact" => Asked::Redact(parse(text)?),
        "typing" => Asked::Typing(parse(text)?),
        "receipt" => Asked::Receipt(parse(text)?),
        "read_markers" => Asked::ReadMarkers(parse(text)?),
        "presence" => Asked::Presence(parse(text)?),
        _ => return Err(Error::bad_request("M_UNRECOGNIZED", "there is no such action")),
    })
}

async fn act(app: Arc<App>, session: Session, asked: Asked) -> Result<Value> {
    match asked {
        Asked::Send(asked) => send(app, session, asked).await,
        Asked::State(asked) => set_state(app, session, asked).await,
        Asked::Redact(asked) => redact(app, session, asked).await,
        Asked::Typing(asked) => set_typing(&app, &session, asked),
        Asked::Receipt(asked) => set_receipt(app, session, asked).await,
        Asked::ReadMarkers(asked) => set_read_markers(app, session, asked).await,
        Asked::Presence(asked) => set_presence(app, session, asked).await,
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::bad_json(error.to_string()))
}

fn event(id: &OwnedEventId) -> Value {
    serde_json::json!({ "event_id": id })
}

fn nothing() -> Value {
    serde_json::json!({})
}

#[derive(Deserialize)]
struct Send {
    room_id: OwnedRoomId,
    event_type: MessageLikeEventType,
    txn_id: OwnedTransactionId,
    content: Box<RawValue>,
}

async fn send(app: Arc<App>, session: Session, asked: Send) -> Result<Value> {
    let Send { room_id, event_type, txn_id, content } = asked;
    let request = send_message_event::v3::Request::new_raw(room_id, txn_id, event_type, Raw::from_json(content));
    Ok(event(&messages::send_message(app, session, request).await?.event_id))
}

#[derive(Deserialize)]
struct SetState {
    room_id: OwnedRoomId,
    event_type: StateEventType,
    #[serde(default)]
    state_key: String,
    content: Box<RawValue>,
}

async fn set_state(app: Arc<App>, session: Session, asked: SetState) -> Result<Value> {
    let SetState { room_id, event_type, state_key, content } = asked;
    let request = send_state_event::v3::Request::new_raw(room_id, event_type, state_key, Raw::from_json(content));
    Ok(event(&state::set_state(app, session, request).await?.event_id))
}

#[derive(Deserialize)]
struct Redact {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    txn_id: OwnedTransactionId,
    reason: Option<String>,
}

async fn redact(app: Arc<App>, session: Session, asked: Redact) -> Result<Value> {
    let mut request = redact_event::v3::Request::new(asked.room_id, asked.event_id, asked.txn_id);
    request.reason = asked.reason;
    Ok(event(&messages::redact_event(app, session, request).await?.event_id))
}

#[derive(Deserialize)]
struct SetTyping {
    room_id: OwnedRoomId,
    #[serde(flatten)]
    state: typing::Typing,
}

fn set_typing(app: &App, session: &Session, asked: SetTyping) -> Result<Value> {
    typing::set(app, session, &asked.room_id, &asked.state)?;
    Ok(nothing())
}

#[derive(Deserialize)]
struct SetReceipt {
    room_id: OwnedRoomId,
    receipt_type: create_receipt::v3::ReceiptType,
    event_id: OwnedEventId,
    #[serde(default)]
    thread_id: ReceiptThread,
}

async fn set_receipt(app: Arc<App>, session: Session, asked: SetReceipt) -> Result<Value> {
    let mut request = create_receipt::v3::Request::new(asked.room_id, asked.receipt_type, asked.event_id);
    request.thread = asked.thread_id;
    receipts::set_receipt(app, session, request).await?;
    Ok(nothing())
}

#[derive(Deserialize)]
struct SetReadMarkers {
    room_id: OwnedRoomId,
    #[serde(rename = "m.fully_read")]
    fully_read: Option<OwnedEventId>,
    #[serde(rename = "m.read")]
    read: Option<OwnedEventId>,
    #[serde(rename = "m.read.private")]
    private: Option<OwnedEventId>,
}

async fn set_read_markers(app: Arc<App>, session: Session, asked: SetReadMarkers) -> Result<Value> {
    let mut request = set_read_marker::v3::Request::new(asked.room_id);
    request.fully_read = asked.fully_read;
    request.read_receipt = asked.read;
    request.private_read_receipt = asked.private;
    receipts::set_read_markers(app, session, request).await?;
    Ok(nothing())
}

#[derive(Deserialize)]
struct SetPresence {
    presence: PresenceState,
    status_msg: Option<String>,
}

async fn set_presence(app: Arc<App>, session: Session, asked: SetPresence) -> Result<Value> {
    let mut request = set_presence::v3::Request::new(session.user.clone(), asked.presence);
    request.status_msg = asked.status_msg;
    presence::set(app, session, request).await?;
    Ok(nothing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nested_too_deep_is_refused_as_over_http() {
        let send = |depth: usize| {
            let content = format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
            let head =
                r#"{"type":"request","id":"7","action":"send","room_id":"!r:b.c","event_type":"m.x","txn_id":"t""#;
            format!("{head},\"content\":{content}}}")
        };
        assert!(read(&send(json::MAX_DEPTH - 2)).1.is_ok());
        let (id, refused) = read(&send(json::MAX_DEPTH - 1));
        assert_eq!((&*id, refused.err().map(|error| error.errcode())), ("7", Some("M_NOT_JSON")));
    }
}
