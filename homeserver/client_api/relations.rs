//! What relates to an event, and the threads of a room.
//! spec: client-server-api#relationships-api, #querying-threads-in-a-room

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId, UInt,
    api::{
        Direction,
        client::{
            relations::{
                get_relating_events, get_relating_events_with_rel_type,
                get_relating_events_with_rel_type_and_event_type as get_relating_events_of_type,
            },
            threads::get_threads::{self, v1::IncludeThreads},
        },
    },
    uint,
};

use super::{blocking, messages::raws};
use crate::{
    app::App,
    error::{Error, Result},
    http::{Bucket, Session},
    rooms::{
        Room,
        history::{self, Page, Way},
        relations::{self, MAX_DEPTH, Wanted},
        threads,
        timeline::{self, View},
    },
};

/// Events of a page if the client does not say how many.
const PAGE: usize = 20;

/// What the three endpoints have in common.
struct Asked {
    room: OwnedRoomId,
    parent: OwnedEventId,
    rel_type: Option<String>,
    kind: Option<String>,
    recurse: bool,
    dir: Direction,
    from: Option<String>,
    to: Option<String>,
    limit: Option<UInt>,
}

/// Answers in the types of an endpoint, which differ from the others' in name alone.
macro_rules! answer {
    ($endpoint:ident, $app:ident, $session:ident, $request:ident, $rel_type:expr, $kind:expr) => {{
        let (recursed, from) = ($request.recurse, $request.from.clone());
        let asked = Asked {
            rel_type: $rel_type,
            kind: $kind,
            room: $request.room_id,
            parent: $request.event_id,
            recurse: $request.recurse,
            dir: $request.dir,
            from: $request.from,
            to: $request.to,
            limit: $request.limit,
        };
        let page = page($app, $session, asked).await?;
        let mut response = $endpoint::v1::Response::new(raws(page.events));
        response.next_batch = page.end.map(timeline::token);
        response.prev_batch = from;
        response.recursion_depth = recursed.then(|| UInt::try_from(MAX_DEPTH).unwrap_or(uint!(3)));
        Ok(response)
    }};
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}`
pub async fn all(
    app: Arc<App>,
    session: Session,
    request: get_relating_events::v1::Request,
) -> Result<get_relating_events::v1::Response> {
    answer!(get_relating_events, app, session, request, None, None)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}`
pub async fn of_relation(
    app: Arc<App>,
    session: Session,
    request: get_relating_events_with_rel_type::v1::Request,
) -> Result<get_relating_events_with_rel_type::v1::Response> {
    answer!(get_relating_events_with_rel_type, app, session, request, Some(request.rel_type.to_string()), None)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}`
pub async fn of_type(
    app: Arc<App>,
    session: Session,
    request: get_relating_events_of_type::v1::Request,
) -> Result<get_relating_events_of_type::v1::Response> {
    answer!(
        get_relating_events_of_type,
        app,
        session,
        request,
        Some(request.rel_type.to_string()),
        Some(request.event_type.to_string())
    )
}

async fn page(app: Arc<App>, session: Session, asked: Asked) -> Result<Page> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let token = |token: &Option<String>| token.as_deref().map(timeline::parse_token).transpose();
    let (from, to) = (token(&asked.from)?, token(&asked.to)?);
    let find = move || {
        app.store.read(|tx| {
            let unknown = || Error::not_found("there is no such event, or you may not see it");
            let room = Room::find(tx, &asked.room)?.ok_or_else(unknown)?;
            let wanted = Wanted {
                parent: &asked.parent,
                rel_type: asked.rel_type.as_deref(),
                kind: asked.kind.as_deref(),
                recurse: asked.recurse,
                way: if asked.dir == Direction::Backward { Way::Back } else { Way::Forward },
                from,
                to,
                limit: count(asked.limit),
            };
            let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
            relations::page(tx, &room, &mut view, &wanted)
        })
    };
    blocking(find).await
}

/// `GET /_matrix/client/v1/rooms/{roomId}/threads`
pub async fn threads(
    app: Arc<App>,
    session: Session,
    request: get_threads::v1::Request,
) -> Result<get_threads::v1::Response> {
    app.limits.take(Bucket::Costly, &session.user)?;
    let from = request.from.as_deref().map_or(Ok(i64::MAX), timeline::parse_token)?;
    if request.limit == Some(uint!(0)) {
        return Err(Error::invalid_param("limit is greater than zero"));
    }
    let participated = match request.include {
        IncludeThreads::All => false,
        IncludeThreads::Participated => true,
        other => return Err(Error::invalid_param(format!("include is \"all\" or \"participated\", not {other:?}"))),
    };
    let find = move || {
        app.store.read(|tx| {
            let outside = || Error::forbidden("you are not in this room");
            let room = Room::find(tx, &request.room_id)?.ok_or_else(outside)?;
            history::known_state(tx, &room, &session.user)?;
            let mut view = View::new(tx, &room, &session.user, Some(&session.device))?;
            threads::list(tx, &room, &mut view, (from, count(request.limit)), participated)
        })
    };
    let list = blocking(find).await?;
    let mut response = get_threads::v1::Response::new(raws(list.roots));
    response.next_batch = list.next.map(timeline::token);
    Ok(response)
}

fn count(limit: Option<UInt>) -> usize {
    limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}
