//! Files that come from elsewhere, JSON above all: bounded in size, no key twice, errors as sentences.

use crate::error::{Error, Result};
use crate::guard;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// A JSON file as text.
///
/// # Errors
/// When it cannot be read, is not a regular file, is over 100 MB, or is not UTF-8.
pub(crate) fn text(path: &Path) -> Result<String> {
    guard::text(path, guard::MOST)
}

/// A JSON file that must hold an object.
///
/// # Errors
/// As [`text`], and when it is not JSON or not an object.
pub(crate) fn object(path: &Path) -> Result<serde_json::Value> {
    let text = text(path)?;
    if text.trim().is_empty() {
        return Err(Error::file(path, "found an empty file, expected a JSON object"));
    }
    let parsed = serde_json::from_str(&text).or_else(|error| match without_nan(&text) {
        Some(text) => serde_json::from_str(&text).map_err(|_| error),
        None => Err(error),
    });
    let value: serde_json::Value =
        parsed.map_err(|e| Error::file(path, format!("not valid JSON: {}", sentence(&e))))?;
    match value {
        serde_json::Value::Object(_) => Ok(value),
        other => Err(Error::file(path, format!("found {}, expected a JSON object", kind(&other)))),
    }
}

/// A text with null for the NaN and Infinity that Python's json writes; `None` where there are none outside of strings.
pub(crate) fn without_nan(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut found) = (text, false);
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        let (before, word) = rest.split_at(at);
        out.push_str(before);
        if let Some(number) = ["NaN", "Infinity", "-Infinity"].iter().find(|number| word.starts_with(**number)) {
            out.push_str("null");
            rest = &word[number.len()..];
            found = true;
            continue;
        }
        // A string as a whole, or one character.
        let mut escaped = true;
        let end = word.char_indices().find(|&(at, c)| {
            let closes = at > 0 && c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let end = if word.starts_with('"') { end.map_or(word.len(), |(at, _)| at + 1) } else { 1 };
        out.push_str(&word[..end]);
        rest = &word[end..];
    }
    out.push_str(rest);
    found.then_some(out)
}

/// What a JSON value is, for a message.
pub(crate) fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "true or false",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

/// serde_json's own words, cut: they may quote the input.
pub(crate) fn sentence(error: &serde_json::Error) -> String {
    const MOST: usize = 200;
    let text = error.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}… at line {} column {}", &text[..end], error.line(), error.column()),
        None => text,
    }
}

/// A value of an object whose type depends on its key.
pub(crate) trait Keyed<'de>: Sized {
    /// Reads the value that follows `key`.
    fn read<A: MapAccess<'de>>(key: &str, map: &mut A) -> std::result::Result<Self, A::Error>;
}

impl<'de> Keyed<'de> for String {
    fn read<A: MapAccess<'de>>(_key: &str, map: &mut A) -> std::result::Result<Self, A::Error> {
        map.next_value()
    }
}

/// The entries of a JSON object in their order, no key twice.
pub(crate) struct Unique<V>(Vec<(String, V)>);

impl<V> Unique<V> {
    /// The entries.
    pub(crate) fn into_entries(self) -> Vec<(String, V)> {
        self.0
    }
}

impl<'de, V: Keyed<'de>> Unique<V> {
    /// Parses an object.
    ///
    /// # Errors
    /// What is wrong, with the key it happened under.
    pub(crate) fn parse(text: &'de str) -> std::result::Result<Self, (Option<String>, serde_json::Error)> {
        let mut at = None;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let parsed = deserializer.deserialize_map(Entries { at: &mut at, value: PhantomData });
        parsed.and_then(|entries| deserializer.end().map(|()| Self(entries))).map_err(|e| (at, e))
    }
}

impl<'de, V: Keyed<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Entries { at: &mut None, value: PhantomData }).map(Self)
    }
}

struct Entries<'a, V> {
    /// The key whose value is being read.
    at: &'a mut Option<String>,
    value: PhantomData<V>,
}

impl<'de, V: Keyed<'de>> Visitor<'de> for Entries<'_, V> {
    type Value = Vec<(String, V)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                *self.at = Some(key);
                return Err(A::Error::custom("the name stands there twice"));
            }
            *self.at = Some(key.clone());
            let value = V::read(&key, &mut map)?;
            *self.at = None;
            entries.push((key, value));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_numbers_are_null() {
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity, -1], "NaN": "NaN \" NaN \\", "c": NaN}"#;
        let expected = r#"{"a": null, "b": [null, null, -1], "NaN": "NaN \" NaN \\", "c": null}"#;
        assert_eq!(without_nan(text).as_deref(), Some(expected));
        assert_eq!(without_nan(r#"{"a": "NaN"}"#), None);
    }
}
