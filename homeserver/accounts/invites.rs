//! Whose invites somebody wants: nobody's, or as lists of people and servers say (MSC4155), the first that fits
//! deciding. spec: client-server-api#invite-permission

use ruma::UserId;
use serde_json::{Map, Value};

use crate::{accounts::account_data, error::Result, store::Read};

/// The lists, in the order in which they are asked, and what fitting one means.
const LISTS: [(&str, bool, Verdict); 6] = [
    ("allowed_users", false, Verdict::Wanted),
    ("ignored_users", false, Verdict::Ignored),
    ("blocked_users", false, Verdict::Blocked),
    ("allowed_servers", true, Verdict::Wanted),
    ("ignored_servers", true, Verdict::Ignored),
    ("blocked_servers", true, Verdict::Blocked),
];
/// The account data of the spec, and of MSC4155 while it is none of the spec's.
const CONFIG: &str = "m.invite_permission_config";
const FILTERS: &str = "org.matrix.msc4155.invite_permission_config";

/// What somebody's wishes say of an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is shown to them.
    Wanted,
    /// It is not shown to them, and whoever invites is not told so.
    Ignored,
    /// It is refused.
    Blocked,
}

/// Somebody's wishes.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    blocks_all: bool,
    /// Patterns in the order in which they are tried, whether of servers, and what they mean.
    rules: Vec<(String, bool, Verdict)>,
}

impl Wishes {
    /// As their account data say. What is of the wrong type there counts as not there.
    pub fn of(tx: &impl Read, user: &UserId) -> Result<Self> {
        let read = |kind| -> Result<Option<Map<String, Value>>> {
            Ok(account_data::get(tx, user, "", kind)?.and_then(|json| serde_json::from_str(&json).ok()))
        };
        let config = read(CONFIG)?.unwrap_or_default();
        let blocks_all = config.get("default_action").and_then(Value::as_str) == Some("block");
        // Clients of MSC4155 may write its lists under either name.
        let filters = match read(FILTERS)? {
            Some(filters) => filters,
            None => config,
        };
        Ok(Self { blocks_all, rules: rules(&filters) })
    }

    /// What they say of an invite by somebody.
    pub fn about(&self, sender: &UserId) -> Verdict {
        if self.blocks_all {
            return Verdict::Blocked;
        }
        let fits = |(pattern, is_server, _): &&(String, bool, Verdict)| {
            glob(pattern, if *is_server { sender.server_name().host() } else { sender.as_str() })
        };
        self.rules.iter().find(fits).map_or(Verdict::Wanted, |(_, _, verdict)| *verdict)
    }

    /// Whether an invite by somebody is shown to them.
    pub fn want(&self, sender: &str) -> bool {
        <&UserId>::try_from(sender).is_ok_and(|sender| self.about(sender) == Verdict::Wanted)
    }

    /// Bytes that they take in memory, about.
    pub fn weight(&self) -> usize {
        self.rules.iter().map(|(pattern, ..)| 40 + pattern.len()).sum()
    }
}

fn rules(filters: &Map<String, Value>) -> Vec<(String, bool, Verdict)> {
    let mut out = Vec::new();
    if filters.get("enabled").and_then(Value::as_bool) == Some(false) {
        return out;
    }
    for (list, is_server, verdict) in LISTS {
        let patterns = filters.get(list).and_then(Value::as_array).into_iter().flatten();
        out.extend(patterns.filter_map(Value::as_str).map(|pattern| (pattern.to_owned(), is_server, verdict)));
    }
    out
}

/// Whether a pattern, in which `*` is anything and `?` any letter, is a text. Capitals make no difference.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // Behind the last star, and up to where that star reaches.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, seen));
            }
            Some(wanted) if *wanted == b'?' || wanted.eq_ignore_ascii_case(&text[seen]) => {
                (at, seen) = (at + 1, seen + 1);
            }
            _ => {
                let Some((behind, reach)) = star else { return false };
                (at, seen) = (behind, reach + 1);
                star = Some((behind, reach + 1));
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_list_that_fits_decides() {
        let about = |filters: Value, sender: &UserId| {
            let Value::Object(filters) = filters else { panic!("an object") };
            Wishes { blocks_all: false, rules: rules(&filters) }.about(sender)
        };
        let (good, bad, other) = (user_id!("@good:evil.test"), user_id!("@bad:evil.test"), user_id!("@any:fine.test"));
        let filters = json!({"allowed_users": ["@good:*"], "blocked_servers": ["*.test"], "ignored_servers": ["evil.?est"],
            "blocked_users": "@not:a.list", "ignored_users": [7]});
        assert_eq!(about(filters.clone(), good), Verdict::Wanted);
        assert_eq!(about(filters.clone(), bad), Verdict::Ignored);
        assert_eq!(about(filters.clone(), other), Verdict::Blocked);
        assert_eq!(about(filters, user_id!("@any:elsewhere.org:8448")), Verdict::Wanted);
        let off = json!({"enabled": false, "blocked_servers": ["*"]});
        assert_eq!(about(off, bad), Verdict::Wanted);
        assert_eq!(about(json!({"blocked_servers": ["EVIL.test"]}), user_id!("@a:evil.test:1234")), Verdict::Blocked);
    }

    #[test]
    fn patterns_are_the_whole_text() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXXbYYbc", true),
            ("a*b*c", "aXXbYY", false),
            ("*a", "banana", true),
            ("?", "", false),
            ("**a?", "xxab", true),
            ("abc", "abcd", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
