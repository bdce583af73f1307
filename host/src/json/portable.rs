//! Reads a JSON value as `serde_json` reads it, without keeping it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// Any value that `serde_json`'s own `Value` can hold.
pub(super) struct Value;

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<Value>()?.is_some() {}
        Ok(Value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        while entries.next_entry::<Value, Value>()?.is_some() {}
        Ok(Value)
    }
}
