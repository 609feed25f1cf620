//! JSON helpers: canonical objects, and raw slices that go from disk to socket unparsed.

use ruma::{CanonicalJsonObject, canonical_json::try_from_json_map};
use serde_json::{Map, Value, value::RawValue};

use crate::error::{Error, Result};

/// How deep a client's JSON may be nested. What is stored comes back inside of answers, and parsers
/// (ours, and those of clients) stop at about 128.
pub const MAX_DEPTH: usize = 100;
/// The same for what servers tell each other: in it there are events, which may be as deep by themselves.
pub const MAX_DEPTH_AROUND: usize = MAX_DEPTH + 10;

/// Whether JSON text is nested deeper than [`MAX_DEPTH`], found without parsing it: parsers skip over
/// what nobody asked for, however deep it is.
pub fn is_too_deep(text: &[u8]) -> bool {
    is_deeper_than(text, MAX_DEPTH)
}

/// The same for another depth.
pub fn is_deeper_than(text: &[u8], most: usize) -> bool {
    // What opens no more than that is no deeper, wherever it does: so little is looked at byte by byte.
    if text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= most {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > most {
            return true;
        }
    }
    false
}

/// JSON text with `instead` in the place of whatever is nested deeper than so many levels.
pub fn pruned(text: &str, most: usize, instead: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        let (was, opens, closes) = (depth, matches!(byte, b'[' | b'{'), matches!(byte, b']' | b'}'));
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            _ if opens => depth += 1,
            _ if closes => depth = depth.saturating_sub(1),
            _ => {}
        }
        if was <= most && depth <= most {
            out.push(byte);
        } else if was <= most {
            out.extend(instead.as_bytes());
        }
    }
    // What was left out begins and ends with bytes that are letters of their own.
    String::from_utf8(out).unwrap_or_default()
}

/// Text that is known to be JSON, as a raw value.
pub fn raw(text: String) -> Result<Box<RawValue>> {
    RawValue::from_string(text).map_err(Error::internal)
}

/// Any serialisable value, as a raw value.
pub fn to_raw(value: &impl serde::Serialize) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value).map_err(Error::internal)
}

/// An object from a client, as canonical JSON. 400 `M_BAD_JSON` for numbers that canonical JSON
/// does not have: fractions, and integers beyond ±(2^53 - 1).
pub fn canonical(object: Map<String, Value>) -> Result<CanonicalJsonObject> {
    try_from_json_map(object).map_err(|error| Error::bad_json(format!("not canonical JSON: {error}")))
}

/// A raw object from a client, parsed as canonical JSON.
pub fn canonical_from_raw(raw: &RawValue) -> Result<CanonicalJsonObject> {
    let object: Map<String, Value> = serde_json::from_str(raw.get())
        .map_err(|error| Error::bad_json(format!("a JSON object is wanted: {error}")))?;
    canonical(object)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::digest::{SHA256, digest};

    use super::*;

    const MAX_INT: i64 = (1 << 53) - 1;

    /// JSON that canonical JSON has.
    fn value() -> impl Strategy<Value = Value> {
        let plain = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-MAX_INT..=MAX_INT).prop_map(Value::from),
            prop_oneof![Just(MAX_INT), Just(-MAX_INT), Just(0)].prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        plain.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((".{0,3}", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::vec((".{0,4}", value()), 0..6).prop_map(|members| members.into_iter().collect())
    }

    /// The same value in another client's hand: members backwards, space where it may be, letters escaped.
    fn scrawl(value: &Value) -> String {
        let text = |text: &str| {
            let mut units = [0; 2];
            let letter = |letter: char| {
                letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect::<String>()
            };
            format!("\"{}\"", text.chars().map(letter).collect::<String>())
        };
        match value {
            Value::String(string) => text(string),
            Value::Array(values) => format!("[ {}\n]", values.iter().map(scrawl).collect::<Vec<_>>().join(" ,\t")),
            Value::Object(members) => {
                let members = members.iter().rev().map(|(key, value)| format!("{} : {}", text(key), scrawl(value)));
                format!("{{\r\n{} }}", members.collect::<Vec<_>>().join(" , "))
            }
            plain => format!(" {plain} "),
        }
    }

    fn written(object: &CanonicalJsonObject) -> String {
        serde_json::to_string(object).expect("serialisable")
    }

    /// Whether the members of every object stand in the order of their keys' code points.
    fn is_ordered(value: &ruma::CanonicalJsonValue) -> bool {
        match value {
            ruma::CanonicalJsonValue::Array(values) => values.iter().all(is_ordered),
            ruma::CanonicalJsonValue::Object(members) => {
                let keys: Vec<Vec<char>> = members.keys().map(|key| key.chars().collect()).collect();
                keys.is_sorted() && members.values().all(is_ordered)
            }
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn canonical_json_comes_back_as_it_was_and_is_its_own_canonical_form(object in object()) {
            let made = canonical(object.clone()).expect("canonical");
            let text = written(&made);
            prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), Value::Object(object));
            let again = canonical_from_raw(&raw(text.clone()).expect("JSON")).expect("canonical");
            prop_assert_eq!(written(&again), text);
            prop_assert!(is_ordered(&again.into()));
        }

        #[test]
        fn equal_objects_have_equal_bytes_and_hashes_however_they_were_written(object in object()) {
            let other = raw(scrawl(&Value::Object(object.clone()))).expect("JSON");
            let texts = [canonical(object), canonical_from_raw(&other)].map(|made| written(&made.expect("canonical")));
            prop_assert_eq!(&texts[0], &texts[1]);
            let [one, two] = texts.map(|text| digest(&SHA256, text.as_bytes()));
            prop_assert_eq!(one.as_ref(), two.as_ref());
        }

        #[test]
        fn integers_are_kept_within_their_bounds_and_refused_beyond(number: i64, near in -2i64..=2, sign: bool) {
            let edge = if sign { MAX_INT + near } else { -MAX_INT + near };
            for number in [number, edge, number >> 11] {
                let made = canonical(Map::from_iter([("n".to_owned(), number.into())]));
                match (-MAX_INT..=MAX_INT).contains(&number) {
                    true => prop_assert_eq!(written(&made.expect("canonical")), format!("{{\"n\":{number}}}")),
                    false => prop_assert_eq!(made.expect_err("too large").errcode(), "M_BAD_JSON"),
                }
            }
        }

        #[test]
        fn fractions_are_refused_wherever_they_are(mut object in object(), number: f64) {
            prop_assume!(number.is_finite());
            object.insert("x".to_owned(), serde_json::json!([{ "y": number }]));
            prop_assert_eq!(canonical(object).expect_err("a fraction").errcode(), "M_BAD_JSON");
        }
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(!is_too_deep(nested(MAX_DEPTH).as_bytes()));
        assert!(is_too_deep(nested(MAX_DEPTH + 1).as_bytes()));
        assert!(!is_too_deep(&[b"[".repeat(50), b"]".repeat(50)].concat().repeat(9)));
        assert!(!is_too_deep(format!("[{:?}]", nested(500) + "\"").as_bytes()));
        assert!(is_too_deep(format!("[\"\\\\\", {}]", nested(500)).as_bytes()));
        assert!(!is_too_deep(b"]]]]}}}}\"\\"));
        assert_eq!(pruned("{\"a]\":[[1,{}],\"[\\\"[\"],\"ü\":{}}", 2, "0"), "{\"a]\":[0,\"[\\\"[\"],\"ü\":{}}");
        assert_eq!(pruned(&nested(5), 5, "0"), nested(5));
    }
}
