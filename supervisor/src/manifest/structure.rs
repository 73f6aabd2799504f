//! Whether a file has the shape of module.toml: known keys, right types, one of the allowed words.
//!
//! The walk follows the JSON Schema that is made from the types of `file.rs`, so what editors are told and what is
//! accepted cannot drift apart. What does not fit is reported and taken out of the tree; the rest still gets its
//! meaning checked, and an author sees everything that is wrong at once.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value as Schema;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::Fault;

/// The way to a value.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyPath(String);

impl KeyPath {
    pub fn key(&self, key: &str) -> Self {
        let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        if self.0.is_empty() { Self(key) } else { Self(format!("{}.{key}", self.0)) }
    }

    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) struct Walk<'s> {
    root: &'s Schema,
    pub faults: Vec<Fault>,
}

impl<'s> Walk<'s> {
    pub fn new(root: &'s Schema) -> Self {
        Self { root, faults: Vec::new() }
    }

    /// Checks the whole file and takes out of `table` what does not fit.
    pub fn file(&mut self, table: &mut DeTable<'_>) {
        self.table(self.root, table, &KeyPath::default());
    }

    fn table(&mut self, schema: &'s Schema, table: &mut DeTable<'_>, path: &KeyPath) {
        for (key, mut value) in std::mem::take(table) {
            let here = path.key(key.get_ref());
            let sound = if let Some(property) = schema.pointer(&format!("/properties/{}", pointer(key.get_ref()))) {
                self.value(property, &mut value, &here)
            } else if let Some(rest @ Schema::Object(_)) = schema.get("additionalProperties") {
                self.value(rest, &mut value, &here)
            } else {
                self.unknown_key(schema, &key, path, &here);
                false
            };
            if sound {
                table.insert(key, value);
            }
        }
    }

    fn value(&mut self, schema: &'s Schema, value: &mut Spanned<DeValue<'_>>, path: &KeyPath) -> bool {
        let schema = self.resolve(schema);
        let span = value.span();
        let types = self.types(schema);
        if !types.contains(&json_type(value.get_ref())) {
            let integer_for_number = value.get_ref().is_integer() && types.contains(&"number");
            if !integer_for_number {
                self.wrong_type(&types, value.get_ref(), span, path);
                return false;
            }
        }
        match value.get_mut() {
            DeValue::String(text) => self.word(schema, text, span, path),
            DeValue::Integer(number) => {
                let fits = i64::from_str_radix(number.as_str(), number.radix()).is_ok();
                if !fits {
                    self.fault(path, span, format!("`{}` = {number} is too large", path.as_str()), "a 64-bit integer");
                }
                fits
            }
            DeValue::Array(items) => {
                let Some(of) = schema.get("items") else { return true };
                let mut all = true;
                for (index, item) in items.iter_mut().enumerate() {
                    all &= self.value(of, item, &path.index(index));
                }
                all
            }
            DeValue::Table(table) => {
                self.table(schema, table, path);
                true
            }
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => true,
        }
    }

    fn word(&mut self, schema: &Schema, text: &str, span: Range<usize>, path: &KeyPath) -> bool {
        let words = words(schema);
        if words.is_empty() || words.contains(&text) {
            return true;
        }
        let guess = closest(text, words.iter().copied());
        let message = format!("`{}` = {text:?} is not known{}", path.as_str(), did_you_mean(guess, '"'));
        let allowed = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        self.fault(path, span, message, allowed);
        false
    }

    fn wrong_type(&mut self, types: &[&str], value: &DeValue<'_>, span: Range<usize>, path: &KeyPath) {
        let allowed = types.iter().map(|it| type_words(it)).collect::<Vec<_>>().join(", or ");
        let message = format!("`{}` is {}", path.as_str(), found(value));
        self.fault(path, span, message, allowed);
    }

    fn unknown_key(&mut self, schema: &Schema, key: &Spanned<Cow<'_, str>>, table: &KeyPath, here: &KeyPath) {
        let known: Vec<&str> = schema
            .get("properties")
            .and_then(Schema::as_object)
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect();
        let place = if table.as_str().is_empty() { String::new() } else { format!(" in `{}`", table.as_str()) };
        let guess = closest(key.get_ref(), known.iter().copied());
        let mut message = format!("unknown key {:?}{place}{}", key.get_ref(), did_you_mean(guess, '`'));
        if guess.is_none()
            && let Some(owner) = self.table_with(key.get_ref())
        {
            message.push_str(&format!("; `{}` belongs in `[{owner}]`", key.get_ref()));
        }
        self.fault(here, key.span(), message, known.join(", "));
    }

    /// The table of the schema that knows `key`: for keys that were written at the wrong place.
    fn table_with(&self, key: &str) -> Option<&'s str> {
        let properties = self.root.get("properties")?.as_object()?;
        properties.iter().find_map(|(name, table)| {
            let table = self.resolve(table);
            table.get("properties")?.get(key).map(|_| name.as_str())
        })
    }

    fn fault(&mut self, path: &KeyPath, span: Range<usize>, message: String, allowed: impl Into<String>) {
        self.faults.push(Fault { key: path.as_str().to_owned(), span, message, allowed: allowed.into() });
    }

    fn resolve(&self, schema: &'s Schema) -> &'s Schema {
        match schema.get("$ref").and_then(Schema::as_str).and_then(|name| name.strip_prefix('#')) {
            Some(pointer) => self.root.pointer(pointer).unwrap_or(schema),
            None => schema,
        }
    }

    fn types(&self, schema: &'s Schema) -> Vec<&'s str> {
        let mut types: Vec<&str> = match schema.get("type") {
            Some(Schema::String(one)) => vec![one],
            Some(Schema::Array(many)) => many.iter().filter_map(Schema::as_str).collect(),
            _ => Vec::new(),
        };
        for variant in ["anyOf", "oneOf"].iter().filter_map(|it| schema.get(it)?.as_array()).flatten() {
            types.extend(self.types(self.resolve(variant)));
        }
        types.dedup();
        types
    }
}

/// The words that a string may be; none: any text.
fn words(schema: &Schema) -> Vec<&str> {
    let variants = schema.get("oneOf").and_then(Schema::as_array).into_iter().flatten();
    let mut words: Vec<&str> =
        schema.get("enum").and_then(Schema::as_array).into_iter().flatten().filter_map(Schema::as_str).collect();
    words.extend(variants.filter_map(|it| it.get("const")?.as_str()));
    words
}

fn json_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
        DeValue::Datetime(_) => "datetime",
    }
}

fn type_words(json: &str) -> &str {
    match json {
        "string" => "a string in quotes",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "an array in [brackets]",
        "object" => "a table",
        other => other,
    }
}

fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {:?}", text.chars().take(60).collect::<String>()),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => format!("the boolean {value}"),
        DeValue::Datetime(value) => format!("the date {value}"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn closest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = candidates.map(|it| (strsim::jaro_winkler(&text.to_lowercase(), it), it));
    near.filter(|(score, _)| *score > 0.85).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, it)| it)
}

fn did_you_mean(guess: Option<&str>, quote: char) -> String {
    guess.map_or_else(String::new, |guess| format!("; did you mean {quote}{guess}{quote}?"))
}

fn pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Where the value at `path` stands; the nearest table around it where there is none.
pub(super) fn span_of(root: &Spanned<DeTable<'_>>, path: &KeyPath) -> Range<usize> {
    let mut best = 0..0;
    let mut stack: Vec<(KeyPath, &DeTable<'_>)> = vec![(KeyPath::default(), root.get_ref())];
    let mut length = 0;
    let mut better = |at: &KeyPath, span: Range<usize>| {
        let here = at.as_str();
        let leads =
            path.as_str().strip_prefix(here).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        if leads && here.len() > length {
            length = here.len();
            best = span;
        }
        leads
    };
    while let Some((at, table)) = stack.pop() {
        for (key, value) in table.iter() {
            let here = at.key(key.get_ref());
            if !better(&here, place(key, value)) {
                continue;
            }
            match value.get_ref() {
                DeValue::Table(inner) => stack.push((here, inner)),
                DeValue::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        let here = here.index(index);
                        if better(&here, item.span())
                            && let DeValue::Table(inner) = item.get_ref()
                        {
                            stack.push((here, inner));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    best
}

/// A table written with a header is best shown by its key, everything else by its value.
fn place(key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Range<usize> {
    if value.get_ref().is_table() || value.get_ref().is_array() && value.span().is_empty() {
        key.span()
    } else {
        value.span()
    }
}
