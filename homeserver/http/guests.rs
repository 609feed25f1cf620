//! What guests may ask for: these endpoints, and no other that takes a session. They are those that the spec lists, and
//! `POST /join`, by which clients come into rooms, guests like others; who may come in is the same by both ways.
//! spec: client-server-api#guest-access

use http::Method;

/// The endpoints: what follows the version in the path, `*` being any segment.
const OPEN: [(&str, &str); 29] = [
    ("GET", "rooms/*/state"),
    ("GET", "rooms/*/context/*"),
    ("GET", "rooms/*/event/*"),
    ("GET", "rooms/*/state/*/*"),
    ("GET", "rooms/*/state/*"),
    ("GET", "rooms/*/messages"),
    ("GET", "rooms/*/members"),
    ("GET", "rooms/*/initialSync"),
    ("GET", "events"),
    ("GET", "sync"),
    ("GET", "media/download/*/*"),
    ("GET", "media/download/*/*/*"),
    ("GET", "media/thumbnail/*/*"),
    ("POST", "rooms/*/join"),
    ("POST", "join/*"),
    ("POST", "rooms/*/leave"),
    ("PUT", "rooms/*/send/*/*"),
    ("PUT", "rooms/*/state/*/*"),
    ("PUT", "rooms/*/state/*"),
    ("PUT", "sendToDevice/*/*"),
    ("PUT", "profile/*/displayname"),
    ("DELETE", "profile/*/displayname"),
    ("GET", "devices"),
    ("GET", "devices/*"),
    ("PUT", "devices/*"),
    ("GET", "account/whoami"),
    ("POST", "keys/upload"),
    ("POST", "keys/query"),
    ("POST", "keys/claim"),
];

/// Where the endpoints are that they may ask for.
const PREFIXES: [&str; 4] =
    ["/_matrix/client/v3/", "/_matrix/client/v1/", "/_matrix/client/r0/", "/_matrix/client/unstable/"];

/// Whether guests may ask for a path. What is written otherwise than usual, such as with needless escapes, is
/// none of these.
pub fn may(method: &Method, path: &str) -> bool {
    let Some(rest) = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix)) else { return false };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let method = if method == Method::HEAD { &Method::GET } else { method };
    OPEN.iter().any(|(open, pattern)| *open == method.as_str() && fits(rest, pattern))
}

fn fits(path: &str, pattern: &str) -> bool {
    let (mut path, mut pattern) = (path.split('/'), pattern.split('/'));
    loop {
        match (path.next(), pattern.next()) {
            (None, None) => return true,
            (Some(segment), Some(wanted)) if wanted == "*" || wanted == segment => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_spec_lists_fits() {
        let get = |path: &str| may(&Method::GET, path);
        assert!(get("/_matrix/client/v3/sync") && get("/_matrix/client/r0/rooms/%21a/messages"));
        assert!(get("/_matrix/client/v3/rooms/!a/state/m.room.name/"));
        assert!(!get("/_matrix/client/v3/rooms/!a") && !get("/_matrix/client/v3/rooms/!a/joined_members"));
        assert!(!get("/_matrix/client/v3/joined_rooms") && !get("/_matrix/federation/v1/sync") && !get("/sync"));
        let put = |path: &str| may(&Method::PUT, path);
        assert!(put("/_matrix/client/v3/profile/@a:b/displayname"));
        assert!(!put("/_matrix/client/v3/profile/@a:b/avatar_url"));
        assert!(!put("/_matrix/client/v3/profile/@a:b/displaynam%65"));
        assert!(!may(&Method::POST, "/_matrix/client/v3/sync"));
    }
}
