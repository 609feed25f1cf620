//! JSON helpers: canonical objects, and raw slices that go from disk to socket unparsed.

use ruma::{CanonicalJsonObject, canonical_json::try_from_json_map};
use serde_json::{Map, Value, value::RawValue};

use crate::error::{Error, Result};

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
