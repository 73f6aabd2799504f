//! What a method returns, as a tree that can be compared. Made by serializing it: so names of fields, which are the program's, are told
//! from keys of maps, which are data.

use std::fmt;

use serde::ser::{self, Serialize};

/// A value as serde sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Nothing,
    Truth(bool),
    Whole(i128),
    /// More than fits into the one before.
    Large(u128),
    /// Its bits.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// By key.
    Map(Vec<(Value, Value)>),
    Structure(Vec<(&'static str, Value)>),
    /// Its number, name and content.
    Variant(u32, &'static str, Box<Value>),
}

/// The value of what can be serialized.
pub(super) fn of<T: Serialize + ?Sized>(it: &T) -> Result<Value, Unserializable> {
    it.serialize(Maker)
}

/// The author's own `Serialize` has refused.
#[derive(Debug)]
pub(super) struct Unserializable;

impl fmt::Display for Unserializable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it cannot be serialized")
    }
}

impl std::error::Error for Unserializable {}

impl ser::Error for Unserializable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

struct Maker;

/// A part of a value that is made of many.
struct Parts<T> {
    parts: Vec<T>,
    key: Option<Value>,
    variant: Option<(u32, &'static str)>,
}

impl<T> Parts<T> {
    const fn new(variant: Option<(u32, &'static str)>) -> Self {
        Self { parts: Vec::new(), key: None, variant }
    }

    fn end(self, whole: impl FnOnce(Vec<T>) -> Value) -> Result<Value, Unserializable> {
        let value = whole(self.parts);
        Ok(match self.variant {
            Some((index, name)) => Value::Variant(index, name, Box::new(value)),
            None => value,
        })
    }
}

macro_rules! whole_numbers {
    ($($method:ident: $kind:ty,)*) => {
        $(fn $method(self, it: $kind) -> Result<Value, Unserializable> {
            Ok(Value::Whole(it.into()))
        })*
    };
}

type Made = Result<Value, Unserializable>;

impl ser::Serializer for Maker {
    type Ok = Value;
    type Error = Unserializable;
    type SerializeSeq = Parts<Value>;
    type SerializeTuple = Parts<Value>;
    type SerializeTupleStruct = Parts<Value>;
    type SerializeTupleVariant = Parts<Value>;
    type SerializeMap = Parts<(Value, Value)>;
    type SerializeStruct = Parts<(&'static str, Value)>;
    type SerializeStructVariant = Parts<(&'static str, Value)>;

    whole_numbers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
    }

    fn serialize_u128(self, it: u128) -> Made {
        Ok(i128::try_from(it).map_or(Value::Large(it), Value::Whole))
    }

    fn serialize_bool(self, it: bool) -> Made {
        Ok(Value::Truth(it))
    }

    fn serialize_f32(self, it: f32) -> Made {
        self.serialize_f64(it.into())
    }

    fn serialize_f64(self, it: f64) -> Made {
        Ok(Value::Float(it.to_bits()))
    }

    fn serialize_char(self, it: char) -> Made {
        Ok(Value::Text(it.into()))
    }

    fn serialize_str(self, it: &str) -> Made {
        Ok(Value::Text(it.into()))
    }

    fn serialize_bytes(self, it: &[u8]) -> Made {
        Ok(Value::Bytes(it.into()))
    }

    fn serialize_none(self) -> Made {
        Ok(Value::Nothing)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, it: &T) -> Made {
        of(it)
    }

    fn serialize_unit(self) -> Made {
        Ok(Value::Nothing)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Made {
        Ok(Value::Nothing)
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, name: &'static str) -> Made {
        Ok(Value::Variant(index, name, Box::new(Value::Nothing)))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, it: &T) -> Made {
        of(it)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        name: &'static str,
        it: &T,
    ) -> Made {
        Ok(Value::Variant(index, name, Box::new(of(it)?)))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<Value>, Unserializable> {
        Ok(Parts::new(None))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<Value>, Unserializable> {
        Ok(Parts::new(None))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<Value>, Unserializable> {
        Ok(Parts::new(None))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Parts<Value>, Unserializable> {
        Ok(Parts::new(Some((index, name))))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<(Value, Value)>, Unserializable> {
        Ok(Parts::new(None))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<(&'static str, Value)>, Unserializable> {
        Ok(Parts::new(None))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Parts<(&'static str, Value)>, Unserializable> {
        Ok(Parts::new(Some((index, name))))
    }

    /// As rmp-serde is.
    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! sequences {
    ($($name:ident: $method:ident,)*) => {
        $(impl ser::$name for Parts<Value> {
            type Ok = Value;
            type Error = Unserializable;

            fn $method<T: Serialize + ?Sized>(&mut self, it: &T) -> Result<(), Unserializable> {
                self.parts.push(of(it)?);
                Ok(())
            }

            fn end(self) -> Made {
                Parts::end(self, Value::List)
            }
        })*
    };
}

sequences! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! structures {
    ($($name:ident,)*) => {
        $(impl ser::$name for Parts<(&'static str, Value)> {
            type Ok = Value;
            type Error = Unserializable;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, it: &T) -> Result<(), Unserializable> {
                self.parts.push((name, of(it)?));
                Ok(())
            }

            fn end(self) -> Made {
                Parts::end(self, Value::Structure)
            }
        })*
    };
}

structures! {
    SerializeStruct,
    SerializeStructVariant,
}

impl ser::SerializeMap for Parts<(Value, Value)> {
    type Ok = Value;
    type Error = Unserializable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unserializable> {
        self.key = Some(of(key)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unserializable> {
        let key = self.key.take().ok_or(Unserializable)?;
        self.parts.push((key, of(value)?));
        Ok(())
    }

    fn end(mut self) -> Made {
        self.parts.sort();
        Self::end(self, Value::Map)
    }
}
