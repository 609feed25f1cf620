//! Which of a room's events a client asked for. spec: client-server-api#filtering

use ruma::api::client::filter::{RoomEventFilter, UrlFilter};
use serde::Deserialize;

use super::event::Slices;

/// Whether an event passes a filter.
pub fn passes(filter: &RoomEventFilter, event: &Slices<'_>) -> bool {
    let named = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, &event.kind));
    if named(&filter.not_types) || filter.types.as_deref().is_some_and(|types| !named(types)) {
        return false;
    }
    let sent = |senders: &[ruma::OwnedUserId]| senders.iter().any(|sender| sender.as_str() == event.sender);
    if sent(&filter.not_senders) || filter.senders.as_deref().is_some_and(|senders| !sent(senders)) {
        return false;
    }
    match filter.url_filter {
        Some(UrlFilter::EventsWithUrl) => has_url(event),
        Some(UrlFilter::EventsWithoutUrl) => !has_url(event),
        _ => true,
    }
}

/// Whether an event type fits a pattern, in which `*` stands for any run of characters.
pub fn matches(pattern: &str, kind: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = kind.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn has_url(event: &Slices<'_>) -> bool {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        url: Option<&'a serde_json::value::RawValue>,
    }
    serde_json::from_str::<Content<'_>>(event.content.get()).is_ok_and(|content| content.url.is_some())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_run_of_characters() {
        assert!(matches("m.room.message", "m.room.message"));
        assert!(!matches("m.room.message", "m.room.messages"));
        assert!(matches("m.room.*", "m.room.name"));
        assert!(matches("*", "anything"));
        assert!(matches("m.*.key.*", "m.call.key.x"));
        assert!(matches("*.name", "m.room.name"));
        assert!(!matches("*.name", "m.room.names"));
        assert!(!matches("a*a", "a"));
    }
}
