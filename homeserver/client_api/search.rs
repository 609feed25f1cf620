//! Searching what was said, and people. spec: client-server-api#server-side-search, #user-directory

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::Method;
use ruma::{OwnedRoomId, api::client::user_directory::search_users, events::StateEventType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};

use super::blocking;
use crate::{
    accounts::filters::Events,
    app::App,
    base::RoomNum,
    error::{Error, Result},
    http::{Asked, Bucket, Reply, Router, Session, reply, untyped},
    rooms::{
        Room, event,
        finding::{self, Found, Hit, Wanted},
        history::{self, Way},
        people,
        search::Key,
        state,
        timeline::{self, View},
        words::Query,
    },
    store::Read,
};

/// Results of one answer if the client does not say how many, and at most.
const PAGE: usize = 10;
const MAX_PAGE: usize = 100;
/// Events before or after a result at most.
const MAX_CONTEXT: usize = 50;
/// Pieces by which the index is brought up to date before a search: what was said just now is found.
const PIECES: usize = 8;
/// People that one answer lists at most.
const MAX_PEOPLE: usize = 100;
/// Bytes of what is searched for at most.
const MAX_TERM: usize = 1000;

/// The endpoints that have no type.
pub fn routes(router: &mut Router) {
    untyped::route(router, Method::POST, "/_matrix/client/v3/search", search);
}

#[derive(Deserialize)]
struct Body {
    search_categories: Categories,
}

#[derive(Deserialize)]
struct Categories {
    room_events: Option<Criteria>,
}

#[derive(Deserialize)]
struct Criteria {
    search_term: String,
    keys: Option<Vec<String>>,
    #[serde(default)]
    filter: Events,
    order_by: Option<String>,
    event_context: Option<Around>,
    #[serde(default)]
    include_state: bool,
    #[serde(default)]
    groupings: Groupings,
}

/// What is to be shown around a result.
#[derive(Clone, Copy, Deserialize)]
struct Around {
    #[serde(default = "five")]
    before_limit: usize,
    #[serde(default = "five")]
    after_limit: usize,
    #[serde(default)]
    include_profile: bool,
}

fn five() -> usize {
    5
}

#[derive(Default, Deserialize)]
struct Groupings {
    #[serde(default)]
    group_by: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    key: String,
}

/// Where a page begins, as our tokens say it.
#[derive(Clone, Default, PartialEq, Debug)]
struct From {
    /// After which result, where the newest come first.
    after: Option<(i64, RoomNum)>,
    /// After how many, where the best do.
    skip: usize,
    /// How many there are in all, as was found with the first page.
    count: Option<usize>,
    /// Of which group alone: its key, and whose or which it is.
    group: Option<(String, String)>,
}

impl From {
    fn parse(token: &str) -> Option<Self> {
        let mut parts = token.splitn(6, '~');
        let mut number = || parts.next()?.parse::<i64>().ok();
        let (order, room, skip, count) = (number()?, number()?, number()?, number()?);
        let group = match (parts.next(), parts.next()) {
            (Some(key), Some(value)) => Some((key.to_owned(), value.to_owned())),
            _ => None,
        };
        let room: RoomNum = room.try_into().ok()?;
        Some(Self {
            after: (room != 0).then_some((order, room)),
            skip: skip.try_into().ok()?,
            count: count.try_into().ok(),
            group,
        })
    }

    fn token(&self) -> String {
        let (order, room) = self.after.unwrap_or_default();
        let (skip, count) = (self.skip, self.count.unwrap_or_default());
        let group = self.group.as_ref().map(|(key, value)| format!("~{key}~{value}")).unwrap_or_default();
        format!("{order}~{room}~{skip}~{count}{group}")
    }
}

/// `POST /_matrix/client/v3/search`
async fn search(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    app.limits.take(Bucket::UserSearch, &asked.session.user)?;
    let from = match asked.query("next_batch") {
        Some(token) => {
            From::parse(token).ok_or_else(|| Error::invalid_param("this pagination token is not one of ours"))?
        }
        None => From::default(),
    };
    let body: Body = asked.body()?;
    let Some(criteria) = body.search_categories.room_events else {
        return reply::json(&json!({ "search_categories": {} }));
    };
    if criteria.search_term.len() > MAX_TERM {
        return Err(Error::invalid_param(format!("a search has at most {MAX_TERM} bytes")));
    }
    app.indexer.catch_up(PIECES).await?;
    let session = asked.session.clone();
    let answer = blocking(move || app.store.read(|tx| answer(tx, &session, &criteria, &from))).await?;
    reply::json(&json!({ "search_categories": { "room_events": answer } }))
}

fn keys(names: Option<&[String]>) -> Result<Vec<Key>> {
    let key = |name: &String| match name.as_str() {
        "content.body" => Ok(Key::Body),
        "content.name" => Ok(Key::Name),
        "content.topic" => Ok(Key::Topic),
        other => Err(Error::invalid_param(format!("{other:?} can't be searched"))),
    };
    names.map_or_else(|| Ok(vec![Key::Body, Key::Name, Key::Topic]), |names| names.iter().map(key).collect())
}

fn is_ranked(criteria: &Criteria) -> Result<bool> {
    match criteria.order_by.as_deref() {
        None | Some("rank") => Ok(true),
        Some("recent") => Ok(false),
        Some(_) => Err(Error::invalid_param("order_by is \"rank\" or \"recent\"")),
    }
}

fn answer(tx: &impl Read, session: &Session, criteria: &Criteria, from: &From) -> Result<Value> {
    let (query, keys, ranked) =
        (Query::parse(&criteria.search_term), keys(criteria.keys.as_deref())?, is_ranked(criteria)?);
    let group = |key: &str| from.group.as_ref().filter(|(is, _)| is == key).map(|(_, value)| value.as_str());
    let mut rooms = finding::rooms(tx, &session.user, &criteria.filter)?;
    rooms.retain(|room| group("room_id").is_none_or(|id| room.row.id == id));
    let view = |room| View::new(tx, room, &session.user, Some(&session.device));
    let mut views = rooms.iter().map(view).collect::<Result<Vec<_>>>()?;
    let limit = criteria.filter.limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(MAX_PAGE));
    let wanted = Wanted {
        query: &query,
        keys: &keys,
        filter: &criteria.filter,
        sender: group("sender"),
        ranked,
        after: from.after,
        skip: from.skip,
        limit: limit.clamp(1, MAX_PAGE),
    };
    let found = finding::find(tx, &rooms, &mut views, &wanted)?;
    let count = from.count.unwrap_or(found.count);
    let mut results = Vec::with_capacity(found.hits.len());
    for hit in &found.hits {
        let mut result = json!({ "rank": hit.rank, "result": hit.event });
        if let Some(around) = criteria.event_context {
            result["context"] = context(tx, &rooms[hit.room], &mut views[hit.room], hit, around)?;
        }
        results.push(result);
    }
    let mut answer = json!({ "count": count, "highlights": found.highlights, "results": results });
    let next = next(&found, &rooms, from, count, &wanted);
    if let Some(next) = &next {
        answer["next_batch"] = next.token().into();
    }
    answer["groups"] = groups(&found, &rooms, criteria, next.as_ref(), ranked)?;
    if criteria.include_state {
        answer["state"] = states(tx, session, &found, &rooms, &mut views)?;
    }
    Ok(answer)
}

/// Where the page after this one begins, if there is one.
fn next(found: &Found, rooms: &[Room], from: &From, count: usize, wanted: &Wanted<'_>) -> Option<From> {
    let last = found.hits.last().filter(|_| found.more)?;
    Some(From {
        after: (!wanted.ranked).then(|| (last.order, rooms[last.room].num)),
        skip: if wanted.ranked { wanted.skip + found.hits.len() } else { 0 },
        count: Some(count),
        group: from.group.clone(),
    })
}

/// The results by room or by sender, each with where the rest of it is found.
fn groups(found: &Found, rooms: &[Room], criteria: &Criteria, next: Option<&From>, ranked: bool) -> Result<Value> {
    #[derive(Default, Serialize)]
    struct Part {
        order: usize,
        results: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_batch: Option<String>,
    }
    let mut out = Map::new();
    for Group { key } in &criteria.groupings.group_by {
        let name = |hit: &Hit| match key.as_str() {
            "room_id" => Ok(rooms[hit.room].row.id.clone()),
            "sender" => Ok(hit.sender.clone()),
            _ => Err(Error::invalid_param("group_by knows \"room_id\" and \"sender\"")),
        };
        let mut parts: BTreeMap<String, Part> = BTreeMap::new();
        for hit in &found.hits {
            let order = parts.len();
            let part = parts.entry(name(hit)?).or_insert_with(|| Part { order, ..Part::default() });
            part.results.push(hit.id.clone());
        }
        for (value, part) in &mut parts {
            let passed = |(room, sender): &(usize, String)| match key.as_str() {
                "room_id" => rooms[*room].row.id == *value,
                _ => sender == value,
            };
            let skip = found.passed.iter().filter(|(of, _)| passed(of)).map(|(_, count)| count).sum();
            let group = Some((key.clone(), value.clone()));
            part.next_batch =
                next.map(|next| From { skip: if ranked { skip } else { 0 }, group, ..next.clone() }.token());
        }
        out.insert(key.clone(), serde_json::to_value(parts).map_err(Error::internal)?);
    }
    Ok(Value::Object(out))
}

/// What was said around a result, and how those who said it were called then.
fn context(tx: &impl Read, room: &Room, view: &mut View<'_>, hit: &Hit, around: Around) -> Result<Value> {
    let filter = Events::default();
    let mut page = |way, from, limit: usize| match limit.min(MAX_CONTEXT) {
        0 => Ok(history::Page { events: Vec::new(), senders: Vec::new(), end: None }),
        limit => history::page(tx, room, view, &history::Wanted { way, from, to: None, limit, filter: &filter }),
    };
    let before = page(Way::Back, hit.order - 1, around.before_limit)?;
    let after = page(Way::Forward, hit.order, around.after_limit)?;
    let start = before.end.unwrap_or(if around.before_limit == 0 { hit.order - 1 } else { i64::MIN });
    let end = match after.end {
        Some(end) => end,
        None if around.after_limit == 0 => hit.order,
        None => timeline::last(tx, room.num, i64::MAX)?.map_or(hit.order, |(order, _)| order),
    };
    let mut out = json!({ "start": timeline::token(start), "end": timeline::token(end) });
    if around.include_profile {
        let senders: BTreeSet<&String> = before.senders.iter().chain(&after.senders).chain([&hit.sender]).collect();
        let state = event::row(tx, hit.pos)?.state_before;
        let mut profiles = Map::new();
        for sender in senders {
            profiles.insert(sender.clone(), profile(tx, state, sender)?);
        }
        out["profile_info"] = Value::Object(profiles);
    }
    out["events_before"] = raw(before.events)?;
    out["events_after"] = raw(after.events)?;
    Ok(out)
}

fn raw(events: Vec<Box<RawValue>>) -> Result<Value> {
    serde_json::to_value(events).map_err(Error::internal)
}

/// How somebody was called in a state of a room.
fn profile(tx: &impl Read, at: state::StateId, user: &str) -> Result<Value> {
    let mut out = Map::new();
    if let Some(pos) = state::event(tx, at, &StateEventType::RoomMember, user)? {
        let content: Map<String, Value> = crate::rooms::Pdu::at(tx, pos)?.content_as().unwrap_or_default();
        out.extend(content.into_iter().filter(|(key, _)| matches!(key.as_str(), "displayname" | "avatar_url")));
    }
    Ok(Value::Object(out))
}

/// The present state of the rooms of the results, as far as the searcher may know it.
fn states(tx: &impl Read, session: &Session, found: &Found, rooms: &[Room], views: &mut [View<'_>]) -> Result<Value> {
    let mut out: BTreeMap<OwnedRoomId, Vec<Box<RawValue>>> = BTreeMap::new();
    let shown: BTreeSet<usize> = found.hits.iter().map(|hit| hit.room).collect();
    for index in shown {
        let known = history::known_state(tx, &rooms[index], &session.user)?;
        let mut events = Vec::new();
        for (_, pos) in state::all(tx, known)? {
            events.push(views[index].show_state(tx, pos)?);
        }
        out.insert(rooms[index].id().to_owned(), events);
    }
    serde_json::to_value(out).map_err(Error::internal)
}

/// `POST /_matrix/client/v3/user_directory/search`
pub async fn people(
    app: Arc<App>,
    session: Session,
    request: search_users::v3::Request,
) -> Result<search_users::v3::Response> {
    app.limits.take(Bucket::UserSearch, &session.user)?;
    if request.search_term.len() > MAX_TERM {
        return Err(Error::invalid_param(format!("a search has at most {MAX_TERM} bytes")));
    }
    let limit = usize::try_from(request.limit).unwrap_or(MAX_PEOPLE).clamp(1, MAX_PEOPLE);
    let find = move || app.store.read(|tx| people::search(tx, &app.me, &session.user, &request.search_term, limit));
    let (found, limited) = blocking(find).await?;
    let shown = |person: people::Person| {
        let mut user = search_users::v3::User::new(person.user);
        (user.display_name, user.avatar_url) = (person.name, person.avatar.map(Into::into));
        user
    };
    Ok(search_users::v3::Response::new(found.into_iter().map(shown).collect(), limited))
}

#[cfg(test)]
mod tests {
    use super::From;

    #[test]
    fn tokens_lead_back_where_they_came_from() {
        let group = Some(("room_id".to_owned(), "!a~b:c".to_owned()));
        let one = From { after: Some((-7, 3)), skip: 0, count: Some(12), group };
        let two = From { after: None, skip: 20, count: Some(40), group: None };
        for from in [one, two] {
            assert_eq!(From::parse(&from.token()).as_ref(), Some(&from));
        }
        for bad in ["", "x", "1~2~3", "1~-2~3~4", "~~~"] {
            assert_eq!(From::parse(bad), None, "{bad}");
        }
    }
}
