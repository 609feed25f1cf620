//! Parts of events: only the fields that a filter names. spec: appendices#dot-separated-property-paths

use serde_json::{Map, Value, value::RawValue};

use crate::{
    base::json,
    error::{Error, Result},
};

/// The event with the named fields alone.
pub fn only(event: &RawValue, fields: &[String]) -> Result<Box<RawValue>> {
    let whole: Map<String, Value> = serde_json::from_str(event.get()).map_err(Error::internal)?;
    let mut part = Map::new();
    for field in fields {
        copy(&whole, &split(field), &mut part);
    }
    json::to_raw(&part)
}

fn copy(from: &Map<String, Value>, path: &[String], to: &mut Map<String, Value>) {
    let [name, rest @ ..] = path else { return };
    let Some(value) = from.get(name) else { return };
    if rest.is_empty() {
        to.insert(name.clone(), value.clone());
        return;
    }
    let Value::Object(inner) = value else { return };
    let into = to.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(into) = into {
        copy(inner, rest, into);
    }
}

/// The names in a path; a backslash before a dot or a backslash takes its meaning away.
fn split(path: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut rest = path.chars().peekable();
    while let Some(letter) = rest.next() {
        let letter = match letter {
            '.' => {
                names.push(String::new());
                continue;
            }
            '\\' => rest.next_if(|next| matches!(next, '.' | '\\')).unwrap_or('\\'),
            letter => letter,
        };
        names.last_mut().expect("there is at least one").push(letter);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_fields_are_kept_and_no_others() {
        let event = r#"{"type":"m.x","content":{"body":"hi","a.b":{"c":1},"d":2},"sender":"@a:b"}"#;
        let event = serde_json::from_str::<Box<RawValue>>(event).expect("JSON");
        let fields = ["type", "content.body", r"content.a\.b.c", "content.d.e", "no.such"].map(str::to_owned);
        let part = only(&event, &fields).expect("fields");
        assert_eq!(part.get(), r#"{"content":{"a.b":{"c":1},"body":"hi"},"type":"m.x"}"#);
        assert_eq!(split(r"a\\b\c"), [r"a\b\c"]);
    }
}
