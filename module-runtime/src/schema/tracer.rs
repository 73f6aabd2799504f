//! Finds the structure of a type by deserializing it from a source that hashes what it is asked for and answers with samples.
//!
//! An enum shows one variant at a time, so a type is read in several passes until every variant of every enum has been seen.
//! A type inside itself gets no further once it has been seen twice: options are none there, lists empty, enums take a
//! variant that is known to end. A check that refuses a sample text gets the next one.

use std::any::type_name;
use std::collections::{HashMap, HashSet};

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::Hash;

/// Texts that are tried on types that accept only some.
const SAMPLES: [&str; 11] = [
    "",
    "a",
    "0",
    "1.0.0",
    "2000-01-01T00:00:00Z",
    "2000-01-01",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "127.0.0.1:80",
    "http://localhost/",
];

/// The most steps over all passes: schemas are small, and one that is not is called by name.
const STEPS_MOST: usize = 200_000;

/// How deep values may be nested; beyond it the program's stack would be at risk.
const DEPTH_MOST: usize = 96;

/// A hash of the structure of `T`, or none if it cannot be found.
pub(super) fn structure<T: DeserializeOwned>() -> Option<u64> {
    let mut trace = Trace::default();
    let mut total = Hash::new();
    loop {
        trace.begin_pass();
        match T::deserialize(Tracer(&mut trace)) {
            Ok(_) => {
                total.word(trace.pass.0);
                if trace.end_pass() == Left::Nothing {
                    return Some(total.0);
                }
            }
            Err(Stop::Opaque) => return None,
            Err(Stop::Refused) => trace.next_sample()?,
            Err(Stop::Endless) => {}
        }
    }
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// The type refused a value.
    #[error("a sample was refused")]
    Refused,
    /// The type asked for what has no structure of its own.
    #[error("no structure")]
    Opaque,
    /// An enum inside itself, before any variant of it was known to end. The variant is tried again later.
    #[error("no end")]
    Endless,
}

impl serde::de::Error for Stop {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self::Refused
    }
}

#[derive(PartialEq, Eq)]
enum Left {
    Variants,
    Nothing,
}

/// What is known of an enum.
#[derive(Default)]
struct Variants {
    seen: Vec<bool>,
    /// Reached the enum itself before `ends` was known.
    deferred: Vec<bool>,
    /// A variant that was read to its end without the enum inside itself.
    ends: Option<usize>,
    /// Taken in this pass.
    taken: Vec<usize>,
    /// Which enums lie inside each variant, as far as has been seen.
    inside: Vec<HashSet<&'static str>>,
}

#[derive(Default)]
struct Trace {
    pass: Hash,
    steps: usize,
    depth: usize,
    /// The structures and enums around the current place, by their full names, with the variant of an enum.
    around: Vec<(&'static str, Option<usize>)>,
    enums: HashMap<&'static str, Variants>,
    /// Which sample each text of this pass gets.
    samples: Vec<usize>,
    next_text: usize,
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl Trace {
    fn begin_pass(&mut self) {
        self.pass = Hash::new();
        self.depth = 0;
        self.next_text = 0;
        self.around.clear();
        self.enums.values_mut().for_each(|it| it.taken.clear());
    }

    fn end_pass(&mut self) -> Left {
        self.samples.clear();
        let mut left = Left::Nothing;
        for variants in self.enums.values_mut() {
            for taken in variants.taken.drain(..) {
                variants.seen[taken] = true;
            }
            if variants.seen.contains(&false) {
                left = Left::Variants;
            }
        }
        left
    }

    /// The last text that was given out gets the next sample.
    fn next_sample(&mut self) -> Option<()> {
        let last = self.next_text.checked_sub(1)?;
        self.samples.truncate(last + 1);
        self.samples[last] += 1;
        (self.samples[last] < SAMPLES.len()).then_some(())
    }

    fn text(&mut self) -> &'static str {
        if self.next_text == self.samples.len() {
            self.samples.push(0);
        }
        self.next_text += 1;
        SAMPLES[self.samples[self.next_text - 1]]
    }

    fn step(&mut self, tag: Tag) -> Result<(), Stop> {
        self.steps += 1;
        if self.steps > STEPS_MOST || self.depth > DEPTH_MOST {
            return Err(Stop::Opaque);
        }
        self.pass.byte(tag as u8);
        Ok(())
    }

    /// Whether the innermost structure or enum is inside another value of its own type.
    fn is_inside_itself(&self) -> bool {
        let Some(((last, _), before)) = self.around.split_last() else { return false };
        before.iter().any(|(name, _)| name == last)
    }

    /// Which variant of the enum `name` is shown now.
    fn choose(&mut self, name: &'static str, count: usize) -> Result<usize, Stop> {
        let outer = self.around.iter().rev().find(|(it, _)| *it == name).and_then(|(_, variant)| *variant);
        let variants = self.enums.entry(name).or_insert_with(|| Variants {
            seen: vec![false; count],
            deferred: vec![false; count],
            inside: vec![HashSet::new(); count],
            ..Variants::default()
        });
        if count == 0 || variants.seen.len() != count {
            return Err(Stop::Opaque);
        }
        if let Some(outer) = outer {
            return match variants.ends {
                Some(ends) => Ok(ends),
                None => {
                    variants.deferred[outer] = true;
                    Err(Stop::Endless)
                }
            };
        }
        let possible = |it: &usize| variants.ends.is_some() || !variants.deferred[*it];
        let unseen = (0..count).filter(possible).find(|it| !variants.seen[*it] && !variants.taken.contains(it));
        let fallback = variants.ends.or_else(|| (0..count).find(possible));
        // None left to show here: one that leads to an enum with some left; else any that is known to end. None known to end:
        // every variant contains the enum itself.
        let leads =
            |it: &usize| self.enums[name].inside[*it].iter().any(|inner| self.enums[inner].seen.contains(&false));
        let chosen = unseen.or_else(|| (0..count).find(leads)).or(fallback).ok_or(Stop::Opaque)?;
        self.enums.entry(name).or_default().taken.push(chosen);
        Ok(chosen)
    }

    /// Notes for every variant around the current place that the enum `name` lies in it.
    fn note_inside(&mut self, name: &'static str) {
        for (outer, variant) in &self.around {
            if let (Some(outer), Some(variant)) = (self.enums.get_mut(outer), variant) {
                outer.inside[*variant].insert(name);
            }
        }
    }
}

/// What a type asked for, as it goes into the hash.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Tag {
    Bool = 1,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Text,
    Bytes,
    Option,
    Unit,
    Newtype,
    List,
    Tuple,
    Map,
    Struct,
    Enum,
    Ignored,
    End,
}

struct Tracer<'t>(&'t mut Trace);

macro_rules! scalar {
    ($($method:ident $tag:ident $visit:ident $sample:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.0.step(Tag::$tag)?;
            visitor.$visit($sample)
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Stop;

    scalar! {
        deserialize_bool Bool visit_bool true;
        deserialize_i8 I8 visit_i8 1;
        deserialize_i16 I16 visit_i16 1;
        deserialize_i32 I32 visit_i32 1;
        deserialize_i64 I64 visit_i64 1;
        deserialize_i128 I128 visit_i128 1;
        deserialize_u8 U8 visit_u8 1;
        deserialize_u16 U16 visit_u16 1;
        deserialize_u32 U32 visit_u32 1;
        deserialize_u64 U64 visit_u64 1;
        deserialize_u128 U128 visit_u128 1;
        deserialize_f32 F32 visit_f32 1.0;
        deserialize_f64 F64 visit_f64 1.0;
        deserialize_char Char visit_char 'a';
        deserialize_bytes Bytes visit_bytes &[0; 16];
        deserialize_byte_buf Bytes visit_byte_buf vec![0; 16];
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.0.step(Tag::Unit)?;
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.0.step(Tag::Ignored)?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop::Opaque)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop::Opaque)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.0.step(Tag::Text)?;
        visitor.visit_borrowed_str(self.0.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.0.step(Tag::Option)?;
        if self.0.is_inside_itself() { visitor.visit_none() } else { visitor.visit_some(self.deeper()) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.0.step(Tag::Newtype)?;
        visitor.visit_newtype_struct(self.deeper())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.0.step(Tag::List)?;
        let left = usize::from(!self.0.is_inside_itself());
        self.parts(left, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.0.step(Tag::Tuple)?;
        self.0.pass.word(len as u64);
        self.parts(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.0.step(Tag::Map)?;
        let left = usize::from(!self.0.is_inside_itself());
        let depth = self.0.depth;
        let value = visitor.visit_map(Parts { trace: &mut *self.0, left })?;
        self.0.depth = depth;
        self.0.step(Tag::End)?;
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.0.step(Tag::Struct)?;
        self.0.pass.word(fields.len() as u64);
        fields.iter().for_each(|it| self.0.pass.text(it));
        self.0.around.push((type_name::<V::Value>(), None));
        let trace = &mut *self.0;
        let value = Tracer(trace).parts(fields.len(), visitor)?;
        self.0.around.pop();
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.0.step(Tag::Enum)?;
        self.0.pass.word(variants.len() as u64);
        variants.iter().for_each(|it| self.0.pass.text(it));
        let name = type_name::<V::Value>();
        let chosen = self.0.choose(name, variants.len())?;
        let inside_itself = self.0.around.iter().any(|(it, _)| *it == name);
        self.0.pass.word(chosen as u64);
        self.0.note_inside(name);
        self.0.around.push((name, Some(chosen)));
        let depth = self.0.depth;
        let value = visitor.visit_enum(Chosen { trace: &mut *self.0, variant: variants[chosen] })?;
        self.0.depth = depth;
        self.0.around.pop();
        if !inside_itself && let Some(known) = self.0.enums.get_mut(name) {
            known.ends.get_or_insert(chosen);
        }
        self.0.step(Tag::End)?;
        Ok(value)
    }
}

impl<'t> Tracer<'t> {
    fn deeper(self) -> Self {
        self.0.depth += 1;
        self
    }

    fn parts<'de, V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, Stop> {
        let depth = self.0.depth;
        let value = visitor.visit_seq(Parts { trace: &mut *self.0, left })?;
        self.0.depth = depth;
        self.0.step(Tag::End)?;
        Ok(value)
    }
}

struct Parts<'t> {
    trace: &'t mut Trace,
    left: usize,
}

impl Parts<'_> {
    fn part<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        let depth = self.trace.depth;
        let value = seed.deserialize(Tracer(&mut *self.trace).deeper())?;
        self.trace.depth = depth;
        Ok(value)
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Stop> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.part(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Stop> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        self.part(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

struct Chosen<'t> {
    trace: &'t mut Trace,
    variant: &'static str,
}

impl<'de> EnumAccess<'de> for Chosen<'_> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Stop> {
        let variant = seed.deserialize(StrDeserializer::<Stop>::new(self.variant))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.trace.step(Tag::Unit)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Stop> {
        self.trace.step(Tag::Newtype)?;
        seed.deserialize(Tracer(self.trace).deeper())
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        Tracer(self.trace).deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Stop> {
        self.trace.step(Tag::Struct)?;
        self.trace.pass.word(fields.len() as u64);
        fields.iter().for_each(|it| self.trace.pass.text(it));
        Tracer(self.trace).parts(fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests;
