//! JSON helpers: canonical objects, and raw slices that go from disk to socket unparsed.

use ruma::{CanonicalJsonObject, canonical_json::try_from_json_map};
use serde_json::{Map, Value, value::RawValue};

use crate::error::{Error, Result};

/// How deep a client's JSON may be nested. What is stored comes back inside of answers, and parsers
/// (ours, and those of clients) stop at about 128.
pub const MAX_DEPTH: usize = 100;

/// Whether JSON text is nested deeper than [`MAX_DEPTH`], found without parsing it: parsers skip over
/// what nobody asked for, however deep it is.
pub fn is_too_deep(text: &[u8]) -> bool {
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
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
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
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(!is_too_deep(nested(MAX_DEPTH).as_bytes()));
        assert!(is_too_deep(nested(MAX_DEPTH + 1).as_bytes()));
        assert!(!is_too_deep(&[b"[".repeat(50), b"]".repeat(50)].concat().repeat(9)));
        assert!(!is_too_deep(format!("[{:?}]", nested(500) + "\"").as_bytes()));
        assert!(is_too_deep(format!("[\"\\\\\", {}]", nested(500)).as_bytes()));
        assert!(!is_too_deep(b"]]]]}}}}\"\\"));
    }
}
