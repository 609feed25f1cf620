//! Canonical JSON read strictly: no fractions, no integers beyond what JavaScript has, and no key twice,
//! so that no two readers can see different events in the same bytes.
//! spec: appendices#canonical-json, rooms/v6#canonical-json

use std::{collections::BTreeMap, fmt};

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// The object that a text holds.
pub fn object(text: &str) -> serde_json::Result<CanonicalJsonObject> {
    match serde_json::from_str(text)? {
        Strict(CanonicalJsonValue::Object(object)) => Ok(object),
        Strict(_) => Err(serde_json::Error::custom("an object is wanted")),
    }
}

struct Strict(CanonicalJsonValue);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = CanonicalJsonValue;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("canonical JSON")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Bool(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Int::try_from(value).map(CanonicalJsonValue::Integer).map_err(|_| E::custom("an integer is too large"))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Int::try_from(value).map(CanonicalJsonValue::Integer).map_err(|_| E::custom("an integer is too large"))
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(E::custom("a number is no integer"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut out = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            out.push(item);
        }
        Ok(CanonicalJsonValue::Array(out))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut out = BTreeMap::new();
        while let Some((key, Strict(value))) = members.next_entry::<String, _>()? {
            if out.insert(key, value).is_some() {
                return Err(A::Error::custom("a key stands twice in one object"));
            }
        }
        Ok(CanonicalJsonValue::Object(out))
    }
}
