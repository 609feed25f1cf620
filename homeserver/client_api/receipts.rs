//! Receipts and read markers. spec: client-server-api#receipts, #read-and-unread-markers

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId,
    api::client::{
        read_marker::set_read_marker,
        receipt::create_receipt::{self, v3::ReceiptType},
    },
};

use crate::{
    app::App,
    error::{Error, Result},
    http::Session,
    limits::Bucket,
    rooms::{
        Room,
        receipts::{self, Kind},
    },
    store::WriteTx,
};

/// `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`
pub async fn set_receipt(
    app: Arc<App>,
    session: Session,
    request: create_receipt::v3::Request,
) -> Result<create_receipt::v3::Response> {
    let thread = receipts::thread_name(&request.thread)?.to_owned();
    let mark = match request.receipt_type {
        ReceiptType::Read => Mark::Receipt(Kind::Read, thread),
        ReceiptType::ReadPrivate => Mark::Receipt(Kind::Private, thread),
        ReceiptType::FullyRead if thread.is_empty() => Mark::FullyRead,
        ReceiptType::FullyRead => return Err(Error::invalid_param("m.fully_read has no thread_id")),
        other => return Err(Error::invalid_param(format!("there are no receipts of the type {other}"))),
    };
    set(&app, &session, request.room_id, vec![(mark, request.event_id)]).await?;
    Ok(create_receipt::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/read_markers`
pub async fn set_read_markers(
    app: Arc<App>,
    session: Session,
    request: set_read_marker::v3::Request,
) -> Result<set_read_marker::v3::Response> {
    let unthreaded = |kind| Mark::Receipt(kind, String::new());
    let marks = [
        request.fully_read.map(|event| (Mark::FullyRead, event)),
        request.read_receipt.map(|event| (unthreaded(Kind::Read), event)),
        request.private_read_receipt.map(|event| (unthreaded(Kind::Private), event)),
    ];
    set(&app, &session, request.room_id, marks.into_iter().flatten().collect()).await?;
    Ok(set_read_marker::v3::Response::new())
}

/// What is set at an event.
enum Mark {
    /// The marker of where somebody reads.
    FullyRead,
    /// A receipt, in a thread.
    Receipt(Kind, String),
}

async fn set(app: &App, session: &Session, room: OwnedRoomId, marks: Vec<(Mark, OwnedEventId)>) -> Result<()> {
    app.limits.take(Bucket::Other, &session.user)?;
    let user = session.user.clone();
    let work = move |tx: &WriteTx| {
        let room = Room::of_member(tx, &room, &user)?;
        // All checks come before the first write.
        for (mark, event) in &marks {
            let thread = if let Mark::Receipt(_, thread) = mark { thread } else { "" };
            receipts::place(tx, &room, &user, event, thread)?;
        }
        marks.iter().try_for_each(|(mark, event)| match mark {
            Mark::FullyRead => receipts::set_fully_read(tx, &room, &user, event),
            Mark::Receipt(kind, thread) => receipts::set(tx, &room, &user, *kind, event, thread),
        })
    };
    app.store.write(work).await
}
