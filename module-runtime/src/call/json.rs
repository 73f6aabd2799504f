//! Values that are known by name only: JSON on one side, msgpack by field name on the other.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A JSON value, read from any self-describing encoding. What JSON has not is turned into what it has: bytes into numbers,
/// keys that are numbers into text, a number that is not finite into null.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Json(pub(crate) Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = parts.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((Json(key), Json(value))) = parts.next_entry()? {
            let key = match key {
                Value::String(key) => key,
                other => other.to_string(),
            };
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct All {
        text: &'static str,
        number: u64,
        negative: i8,
        float: f64,
        nothing: Option<u8>,
        unit: (),
        list: Vec<bool>,
        by_number: BTreeMap<u32, char>,
        bytes: serde_bytes::ByteBuf,
        variant: Variant,
        plain: Variant,
    }

    #[derive(Serialize)]
    enum Variant {
        Plain,
        With { x: u8 },
    }

    #[test]
    fn what_serde_writes_by_name_is_the_json_that_serde_writes() {
        let all = All {
            text: "ü",
            number: u64::MAX,
            negative: -1,
            float: 0.5,
            nothing: None,
            unit: (),
            list: vec![true, false],
            by_number: [(7, 'a')].into(),
            bytes: serde_bytes::ByteBuf::from(vec![0, 255]),
            variant: Variant::With { x: 1 },
            plain: Variant::Plain,
        };
        let Json(found) = rmp_serde::from_slice(&rmp_serde::to_vec_named(&all).unwrap()).unwrap();
        assert_eq!(found, serde_json::to_value(&all).unwrap());
        assert_eq!(found["by_number"], json!({"7": "a"}));
    }
}
