//! What reads bytes from outside, each with what must hold whatever the bytes are. Run on a few
//! thousand mutations in every `cargo test` (tests/fuzz.rs) and without end by cargo-fuzz (main.rs).

use std::{collections::BTreeSet, path::Path, sync::LazyLock};

use hearth::{
    accounts::{filters, push_rules},
    base::{json, signed_json, token::SyncToken},
    client_api::{self, media, sync, websocket},
    config::Config,
    error::{Error, Result},
    http::{
        Router, admit,
        ranges::{self, Parsed},
        router, server,
        shape::{Guarded, Loose},
    },
    rooms::{
        event::{Pdu, Slices, Unsigned, client_form, stripped},
        filter, timeline, unread,
    },
    store::rows::{EventRow, Row, Standing},
};
use http::{HeaderMap, HeaderValue, Method, header, request::Parts};
use ruma::{
    api::{IncomingRequest, client},
    event_id,
    http_headers::ContentDisposition,
    push::{PushConditionRoomCtx, Ruleset},
    room_id, uint, user_id,
};
use serde_json::{Map, Value, json, value::RawValue};

/// What tries an input. None if it was refused, as most should be.
pub type Target = fn(&[u8]) -> Option<()>;

/// Every target by its name.
pub const ALL: &[(&str, Target)] = &[
    ("paths", paths),
    ("bodies", bodies),
    ("canonical", canonical),
    ("filters", sync_filters),
    ("wildcards", wildcards),
    ("tokens", tokens),
    ("frames", frames),
    ("config", config),
    ("headers", headers),
    ("events", events),
    ("push_rules", rules),
];

/// The target of this name.
pub fn named(name: &str) -> Target {
    ALL.iter().find(|(known, _)| *known == name).expect("a target of this name").1
}

/// The lines of a text, as many as are wanted, empty where there are no more. The last has all the rest.
fn lines<const N: usize>(data: &[u8]) -> Option<[&str; N]> {
    let mut lines = std::str::from_utf8(data).ok()?.splitn(N, '\n');
    Some(std::array::from_fn(|_| lines.next().unwrap_or_default()))
}

/// An error that a client caused says so, with a code.
fn is_clients_fault(error: &Error) {
    assert!(error.status().is_client_error(), "{error}");
    assert!(error.errcode().starts_with("M_"), "{error}");
}

/// A path: it is decoded once, and leads to the same place by all of its prefixes.
fn paths(data: &[u8]) -> Option<()> {
    static ROUTER: LazyLock<Router> = LazyLock::new(client_api::routes);
    let [path] = lines(data)?;
    let mut leads = None;
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    assert_eq!(router::decode(&encode(path)).as_deref(), Some(path));
    if !path.contains('%') {
        assert_eq!(router::decode(path).as_deref(), Some(path));
    }
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
        let there = |path: &str| ROUTER.arguments(&method, path);
        match there(path) {
            Some(Ok(arguments)) => {
                leads = Some(());
                let decoded: BTreeSet<_> = path.split('/').filter_map(router::decode).collect();
                assert!(arguments.iter().all(|argument| argument.contains('/') || decoded.contains(argument)));
                if let Some(rest) = path.strip_prefix("/_matrix/client/v3/") {
                    let old = there(&format!("/_matrix/client/r0/{rest}")).and_then(|found| found.ok());
                    assert_eq!(old, Some(arguments));
                }
            }
            Some(Err(error)) => is_clients_fault(&error),
            None => {}
        }
    }
    leads
}

type Read = fn(Parts, &bytes::Bytes, &[String]) -> Result<()>;

fn read<R: IncomingRequest>(mut head: Parts, body: &bytes::Bytes, arguments: &[String]) -> Result<()> {
    head.method = R::METHOD;
    router::parse::<R>(head, body, arguments).map(drop)
}

/// Requests of every make: typed ones, the more tolerant, those with user-interactive authentication.
const REQUESTS: [Read; 14] = [
    read::<Loose<client::session::login::v3::Request, Map<String, Value>>>,
    read::<Guarded<client::account::register::v3::Request>>,
    read::<client::room::create_room::v3::Request>,
    read::<client::keys::upload_keys::v3::Request>,
    read::<sync::Request>,
    read::<client::message::get_message_events::v3::Request>,
    read::<client::message::send_message_event::v3::Request>,
    read::<client::state::send_state_event::v3::Request>,
    read::<client_api::push_rules::Put>,
    read::<client::to_device::send_event_to_device::v3::Request>,
    read::<client::receipt::create_receipt::v3::Request>,
    read::<client::directory::get_public_rooms_filtered::v3::Request>,
    read::<Guarded<client::keys::upload_signing_keys::v3::Request>>,
    read::<client::membership::join_room_by_id_or_alias::v3::Request>,
];

/// A request: a letter for its kind, path arguments between spaces; the query; the body.
fn bodies(data: &[u8]) -> Option<()> {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (first, query, body) = (std::str::from_utf8(part()).ok()?, part(), part());
    let mut words = first.split(' ').map(str::to_owned);
    let kind = words.next().and_then(|word| word.bytes().next()).unwrap_or_default();
    let read = REQUESTS[usize::from(kind.wrapping_sub(b'a')) % REQUESTS.len()];
    let request = http::Request::get([b"/x?", query].concat()).body(()).ok()?;
    let outcome = read(request.into_parts().0, &bytes::Bytes::copy_from_slice(body), &words.collect::<Vec<_>>());
    if let Err(error) = &outcome {
        is_clients_fault(error);
    }
    if json::is_too_deep(body) {
        assert_eq!(outcome.as_ref().expect_err("too deep").errcode(), "M_NOT_JSON");
    }
    outcome.ok()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether canonical JSON has all of these numbers.
fn has_canonical_numbers(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_i64().is_some_and(|number| number.unsigned_abs() < 1 << 53),
        Value::Array(values) => values.iter().all(has_canonical_numbers),
        Value::Object(members) => members.values().all(has_canonical_numbers),
        _ => true,
    }
}

/// Canonical JSON, written the way of the specification's grammar. spec: appendices#grammar
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => write_string(text, out),
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write_canonical(value, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|one, other| one.0.chars().cmp(other.0.chars()));
            out.push('{');
            for (at, (key, value)) in members.into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write_string(key, out);
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out.push('"');
}

/// Any JSON: depth is counted right, and canonical JSON is canonical, complete, and its own canonical form.
fn canonical(data: &[u8]) -> Option<()> {
    let value: Value = serde_json::from_slice(data).ok()?;
    assert_eq!(json::is_too_deep(data), depth(&value) > json::MAX_DEPTH);
    let raw: &RawValue = serde_json::from_slice(data).expect("JSON");
    let Value::Object(object) = &value else {
        is_clients_fault(&json::canonical_from_raw(raw).expect_err("no object"));
        return None;
    };
    match json::canonical(object.clone()) {
        Err(error) => {
            is_clients_fault(&error);
            assert!(!has_canonical_numbers(&value), "{error}");
            None
        }
        Ok(canonical) => {
            assert!(has_canonical_numbers(&value));
            assert_eq!(json::canonical_from_raw(raw).expect("canonical"), canonical);
            let text = serde_json::to_string(&canonical).expect("serialisable");
            let mut wanted = String::new();
            write_canonical(&value, &mut wanted);
            assert_eq!(text, wanted);
            let again: Box<RawValue> = json::raw(text).expect("JSON");
            assert_eq!(json::canonical_from_raw(&again).expect("canonical"), canonical);
            let signed = signed_json::signed_part(&canonical).expect("signable");
            assert!(!signed_json::verify(&signed, "c2lnbmF0dXJl", &signed));
            signed_json::is_signed_by(&canonical, "domain", "ed25519:1", "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI");
            Some(())
        }
    }
}

/// The row of an event as it would be stored, if a client could have sent it.
fn row(text: &str) -> Option<EventRow> {
    let object: Map<String, Value> = serde_json::from_str(text).ok()?;
    if json::is_too_deep(text.as_bytes()) {
        return None;
    }
    let pdu = serde_json::to_string(&json::canonical(object).ok()?).ok()?;
    Some(EventRow {
        room: 1,
        state_before: 2,
        standing: Standing::Accepted,
        redacted_by: 0,
        order: 0,
        state_after: 0,
        sent_by: Some(("D".into(), "t1".into())),
        id: "$event".into(),
        pdu,
    })
}

/// A filter of a sync; an event that it lets pass or not.
fn sync_filters(data: &[u8]) -> Option<()> {
    let [filter, event] = lines(data)?;
    let parsed = filters::parse(filter).inspect_err(is_clients_fault).ok()?;
    let row = row(event)?;
    let slices = Slices::of(&row).ok()?;
    let timeline = &parsed.room.timeline;
    let passes = filter::passes(timeline, "!room:server", &slices);
    if timeline.not_types.iter().any(|kind| kind == "*" || *kind == slices.kind) {
        assert!(!passes);
    }
    if timeline.rooms.is_some() {
        assert!(!passes || timeline.wants_room("!room:server"));
    }
    Some(())
}

/// A pattern; an event type. The naive way: a table of which beginnings match which.
fn wildcards(data: &[u8]) -> Option<()> {
    let [pattern, kind] = lines(data)?;
    let (pattern, kind) = (&pattern[..pattern.floor_char_boundary(200)], &kind[..kind.floor_char_boundary(200)]);
    let letters: Vec<char> = kind.chars().collect();
    let mut matching = vec![false; letters.len() + 1];
    matching[0] = true;
    for wanted in pattern.chars() {
        let before = std::mem::replace(&mut matching, vec![false; letters.len() + 1]);
        for at in 0..=letters.len() {
            matching[at] = match wanted {
                '*' => before[at] || (at > 0 && matching[at - 1]),
                letter => at > 0 && before[at - 1] && letters[at - 1] == letter,
            };
        }
    }
    assert_eq!(filters::matches(pattern, kind), matching[letters.len()], "{pattern:?} {kind:?}");
    Some(())
}

/// A token: what is read is what is written, and both kinds agree on the place.
fn tokens(data: &[u8]) -> Option<()> {
    let [text] = lines(data)?;
    let order = timeline::parse_token(text);
    match text.parse::<SyncToken>() {
        Err(error) => is_clients_fault(&error),
        Ok(token) => {
            assert_eq!(token.to_string().parse::<SyncToken>().expect("parses"), token);
            assert!(token.to_device <= token.pos);
            assert_eq!(*order.as_ref().expect("a place too"), timeline::order_of(token.pos));
        }
    }
    let order = order.inspect_err(is_clients_fault).ok()?;
    assert_eq!(timeline::parse_token(&timeline::token(order)).expect("parses"), order);
    Some(())
}

/// A text frame of a client.
fn frames(data: &[u8]) -> Option<()> {
    let [text] = lines(data)?;
    let value = serde_json::from_str::<Value>(text).ok();
    let request = websocket::check_request(text);
    match &request {
        Err(error) => is_clients_fault(error),
        Ok(()) => {
            assert!(!json::is_too_deep(text.as_bytes()));
            let known = ["send", "state", "redact", "typing", "receipt", "read_markers", "presence"];
            let action = value.as_ref().and_then(|value| value["action"].as_str());
            assert!(value.is_none() || action.is_some_and(|action| known.contains(&action)), "{action:?}");
        }
    }
    match websocket::read_message(text)? {
        websocket::Message::Request => {
            assert_eq!(value?["type"], "request");
            request.ok()
        }
        websocket::Message::Ack(token) => {
            let since = value?["since"].as_str().expect("text").parse::<SyncToken>();
            assert_eq!(since.expect("a token"), token);
            Some(())
        }
    }
}

/// A configuration file: what is wrong is said, at a place that there is.
fn config(data: &[u8]) -> Option<()> {
    let [text] = lines(data)?;
    match Config::parse(text, Path::new("/etc/hearth.toml")) {
        Ok(config) => {
            assert!(!config.listen.is_empty() || config.tls.is_some());
            let url = config.base_url();
            assert!(url.starts_with("http://") || url.starts_with("https://"), "{url}");
            assert!(!url.ends_with('/') && !url.contains(['@', '#', '?', ' ']), "{url}");
            Some(())
        }
        Err(problems) => {
            assert!(!problems.list.is_empty());
            assert!(problems.list.iter().all(|problem| !problem.text.is_empty()));
            let last = text.split('\n').count();
            let places = problems.list.iter().filter_map(|problem| problem.place);
            assert!(places.clone().all(|(line, column)| (1..=last).contains(&line) && column >= 1), "{problems}");
            assert!(problems.to_string().starts_with("/etc/hearth.toml:"));
            None
        }
    }
}

/// Headers: a range and a size, who asks, a type and a name to show a file by.
fn headers(data: &[u8]) -> Option<()> {
    let [range, size, forwarded, kind, authorization, name] = lines(data)?;
    let size: u64 = size.parse().unwrap_or(size.len() as u64);
    match ranges::parse(range, size) {
        Parsed::Part(part) => assert!(part.start < part.end && part.end <= size, "{range:?} of {size}: {part:?}"),
        Parsed::Beyond | Parsed::Ignore => {}
    }
    let mut asked = HeaderMap::new();
    for (name, value) in [("x-forwarded-for", forwarded), ("authorization", authorization)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            asked.insert(name, value);
        }
    }
    asked.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("a, b"));
    if let Some(address) = server::forwarded_for(&asked) {
        let last = forwarded.rsplit(',').next().expect("there is always one");
        assert_eq!(last.trim().parse(), Ok(address));
    }
    if let Some(token) = admit::bearer(&asked) {
        assert!(authorization.ends_with(token) || authorization.trim().ends_with(token));
    }
    let (kind, disposition) = media::shown_as(Some(kind), Some(name.to_owned()));
    assert!(!kind.is_empty());
    let shown = disposition.to_str().expect("visible ASCII");
    let parsed: ContentDisposition = shown.parse().expect("others can read it");
    assert!(["inline", "attachment"].contains(&parsed.disposition_type.as_str()), "{shown}");
    let harmful = ["html", "svg", "xml", "javascript"];
    let kind = kind.to_str().unwrap_or_default().to_ascii_lowercase();
    let essence = kind.split(';').next().unwrap_or_default();
    if harmful.iter().any(|harmful| essence.contains(harmful)) {
        assert_eq!(parsed.disposition_type.as_str(), "attachment", "{kind}");
    }
    Some(())
}

/// An event, as it is stored and as clients see it.
fn events(data: &[u8]) -> Option<()> {
    if let Ok(row) = EventRow::decode(data) {
        assert_eq!(EventRow::decode(&row.encode().expect("encodes")).expect("decodes"), row);
    }
    let [text] = lines(data)?;
    if let Err(error) = Pdu::parse(event_id!("$event").to_owned(), text) {
        is_clients_fault(&error);
    }
    let row = row(text)?;
    assert_eq!(EventRow::decode(&row.encode().expect("encodes")).expect("decodes"), row);
    let slices = Slices::of(&row).ok()?;
    let shown = client_form(&row, &slices, Some("!room"), &Unsigned::default()).expect("shown");
    let (shown, stored): (Value, Value) = (parsed(shown.get()), parsed(&row.pdu));
    for same in ["type", "sender", "origin_server_ts", "state_key"] {
        assert_eq!(shown.get(same).filter(|value| !value.is_null()), stored.get(same).filter(|value| !value.is_null()));
    }
    assert_eq!((&shown["event_id"], &shown["room_id"]), (&json!("$event"), &json!("!room")));
    match slices.kind == "m.room.redaction" && shown.get("redacts").is_some() {
        true => assert_eq!(shown["content"]["redacts"], shown["redacts"]),
        false => assert_eq!(shown["content"], stored["content"]),
    }
    parsed(stripped(&row).expect("stripped").get());
    Some(())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// A push rule's kind and ID; the rule; an event that it is tried on.
fn rules(data: &[u8]) -> Option<()> {
    let [path, rule, event] = lines(data)?;
    let me = user_id!("@me:b.c");
    let (kind, id) = path.split_once(' ').unwrap_or((path, "id"));
    let (head, ()) = http::Request::put("/x").body(()).expect("a request").into_parts();
    let body = bytes::Bytes::copy_from_slice(rule.as_bytes());
    let mut rules = Ruleset::server_default(me);
    let put = router::parse::<client_api::push_rules::Put>(head, &body, &[kind.to_owned(), id.to_owned()]);
    let put = put.and_then(|put| push_rules::put(&mut rules, put.0.rule, None, None));
    put.as_ref().inspect_err(|error| is_clients_fault(error)).ok();
    let shown = push_rules::content(&rules).expect("shown");
    let stored: Ruleset = serde_json::from_value(shown["global"].clone()).expect("rules still");
    assert_eq!(push_rules::content(&stored).expect("shown"), shown);
    let row = row(event)?;
    let slices = Slices::of(&row).ok()?;
    let context = PushConditionRoomCtx::new(room_id!("!r:b.c").to_owned(), uint!(2), me.to_owned(), "Me".to_owned());
    let verdict = unread::verdict(&rules, &slices, &context).expect("judged");
    assert_eq!(unread::verdict(&stored, &slices, &context).expect("judged"), verdict);
    put.ok()
}
