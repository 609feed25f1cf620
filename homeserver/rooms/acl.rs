//! Server ACLs: which servers a room lets in. Not a rule of the event graph, but of who may speak with us
//! about a room: asked wherever another server names a room that this server is in.
//! spec: server-server-api#server-access-control-lists-acls
//!
//! Ask before a job, not in it: the list is as long as an event, and its patterns may be hostile.

use ruma::{
    ServerName,
    events::{StateEventType, room::server_acl::RoomServerAclEventContent},
};
use serde_json::{Map, Value};

use super::room::Room;
use crate::{
    error::{Error, Result},
    store::Read,
};

/// What a server name has at most. A pattern that wants more can't fit any.
const MAX_NAME: usize = 255;

/// Refuses a server that the room does not let in. 403 `M_FORBIDDEN`.
pub fn check(tx: &impl Read, room: &Room, server: &ServerName) -> Result<()> {
    let content: Option<Map<String, Value>> = room.state_content(tx, &StateEventType::RoomServerAcl)?;
    match content.is_none_or(|content| rules(content).is_allowed(server)) {
        true => Ok(()),
        false => Err(Error::forbidden("this server is not allowed in the room")),
    }
}

/// The list as it is meant. Whoever may set it may set nonsense: what is of the wrong type counts as not
/// there, as the spec says of each member.
fn rules(mut content: Map<String, Value>) -> RoomServerAclEventContent {
    let ip_literals = content.get("allow_ip_literals").and_then(Value::as_bool).unwrap_or(true);
    let mut patterns = |name: &str| {
        let Some(Value::Array(patterns)) = content.remove(name) else { return Vec::new() };
        let fitting = patterns.into_iter().filter_map(|pattern| match pattern {
            Value::String(pattern) => Some(pattern),
            _ => None,
        });
        fitting.filter(|pattern| pattern.chars().filter(|letter| *letter != '*').count() <= MAX_NAME).collect()
    };
    RoomServerAclEventContent::new(ip_literals, patterns("allow"), patterns("deny"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn allows(content: Value, server: &str) -> bool {
        let Value::Object(content) = content else { panic!("an object") };
        rules(content).is_allowed(<&ServerName>::try_from(server).expect("a server name"))
    }

    #[test]
    fn denying_goes_before_allowing_and_what_is_not_allowed_is_denied() {
        let list = json!({ "allow": ["*"], "deny": ["evil.example", "*.evil.example", "?.bad.example"] });
        assert!(allows(list.clone(), "good.example"));
        for server in ["evil.example", "sub.evil.example", "a.bad.example"] {
            assert!(!allows(list.clone(), server), "{server}");
        }
        assert!(allows(list.clone(), "ab.bad.example"));
        assert!(allows(list, "notevil.example"));
        assert!(!allows(json!({ "allow": ["only.example"] }), "other.example"));
        assert!(!allows(json!({}), "other.example"));
    }

    #[test]
    fn case_and_port_make_no_difference() {
        let list = json!({ "allow": ["*"], "deny": ["Evil.Example", "localhost"] });
        for server in ["evil.example", "EVIL.example:8448", "localhost:1234"] {
            assert!(!allows(list.clone(), server), "{server}");
        }
    }

    #[test]
    fn addresses_are_let_in_unless_the_room_says_otherwise() {
        let list = json!({ "allow": ["*"], "allow_ip_literals": false });
        for server in ["1.2.3.4", "1.2.3.4:8448", "[::1]", "[2001:db8::1]:8448"] {
            assert!(!allows(list.clone(), server), "{server}");
            assert!(allows(json!({ "allow": ["*"] }), server), "{server}");
            assert!(allows(json!({ "allow": ["*"], "allow_ip_literals": "no" }), server), "{server}");
        }
        assert!(allows(list, "1.2.3.4.example"));
        assert!(!allows(json!({ "allow": ["*"], "deny": ["1.2.3.*"] }), "1.2.3.4:1"));
    }

    #[test]
    fn what_is_of_the_wrong_type_is_not_there() {
        assert!(!allows(json!({ "allow": "*" }), "a.example"));
        assert!(allows(json!({ "allow": [7, "*"], "deny": {"a": 1} }), "a.example"));
        let endless = format!("{}*", "a?".repeat(400));
        assert!(allows(json!({ "allow": ["*"], "deny": [endless] }), "a.example"));
    }
}
