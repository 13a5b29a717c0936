//! What templates were written for: Python's `str`, `repr` and `json.dumps`, over minijinja's values.
//!
//! Everything that makes a text says before how long it may become, so that a template cannot take memory without end.

use super::budget::Budget;
use super::tuple::is_tuple;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::fmt::Write;
use std::sync::LazyLock;

/// A result, or minijinja's error.
pub(super) type Made<T> = Result<T, Error>;

/// Values within values that are written out; deeper ones are refused.
const DEPTH: usize = 100;

/// An operation that cannot be done.
pub(super) fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Python's `str(value)`.
pub(super) fn text(value: &Value, budget: &Budget) -> Made<String> {
    let made = match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => repr_of(value, budget)?,
    };
    budget.charge(made.len())?;
    Ok(made)
}

/// Python's `repr(value)`.
pub(super) fn repr_of(value: &Value, budget: &Budget) -> Made<String> {
    let mut out = String::new();
    repr(value, &mut out, DEPTH, budget)?;
    Ok(out)
}

fn repr(value: &Value, out: &mut String, depth: usize, budget: &Budget) -> Made<()> {
    if depth == 0 {
        return Err(wrong("values stand too deep within each other to be written"));
    }
    if out.len() > budget.left() {
        return Err(budget.spent());
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Number if !value.is_integer() => out.push_str(&float(value)),
        ValueKind::Map => {
            out.push('{');
            for (at, key) in value.try_iter()?.enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                repr(&key, out, depth - 1, budget)?;
                out.push_str(": ");
                repr(&value.get_item(&key)?, out, depth - 1, budget)?;
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let [open, close] = if is_tuple(value) { ['(', ')'] } else { ['[', ']'] };
            out.push(open);
            for (at, item) in value.try_iter()?.enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                repr(&item, out, depth - 1, budget)?;
            }
            // A tuple of one item.
            out.push_str(if open == '(' && value.len() == Some(1) { "," } else { "" });
            out.push(close);
        }
        // True, False, None and whole numbers are written by minijinja as by Python.
        _ => write!(out, "{value}").map_err(|_| wrong("a value cannot be written"))?,
    }
    Ok(())
}

/// A text in quotes, as `repr` writes it.
fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_ascii_graphic() || c == ' ' || printable(c) => out.push(c),
            c => {
                let code = c as u32;
                let _ = match code {
                    0..0x100 => write!(out, "\\x{code:02x}"),
                    0x100..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable` of one character: what is neither a separator nor of the category "other".
pub(super) fn printable(c: char) -> bool {
    static HIDDEN: LazyLock<Option<regex::Regex>> = LazyLock::new(|| regex::Regex::new(r"[\p{C}\p{Z}--[ ]]").ok());
    let mut bytes = [0; 4];
    !HIDDEN.as_ref().is_some_and(|hidden| hidden.is_match(c.encode_utf8(&mut bytes)))
}

/// A floating-point number as Python writes it: the shortest digits that give it back.
fn float(value: &Value) -> String {
    let Ok(number) = f64::try_from(value.clone()) else { return value.to_string() };
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    exponent(&format!("{number:?}"))
}

/// A number as Rust writes it, with an exponent as Python writes it: a sign and two digits.
pub(super) fn exponent(text: &str) -> String {
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text.to_owned(),
    }
}

/// How `json.dumps` is asked to write.
struct Json {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
}

/// transformers' filter `tojson`: `json.dumps` with `ensure_ascii=False` unless told otherwise, and no HTML escapes.
pub(super) fn tojson(value: &Value, options: &Kwargs, budget: &Budget) -> Made<String> {
    let indent = match options.get::<Option<Value>>("indent")? {
        Some(indent) if indent.is_none() || indent.is_undefined() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent).unwrap_or(0).min(64)),
        }),
        None => None,
    };
    let flag =
        |name: &str| -> Made<bool> { Ok(options.get::<Option<Value>>(name)?.is_some_and(|value| value.is_true())) };
    let separators = match options.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() && !pair.is_undefined() => {
            let pair: Vec<String> = pair.try_iter()?.map(|one| one.to_string()).collect();
            let [item, key] = <[String; 2]>::try_from(pair).map_err(|_| wrong("separators are two texts"))?;
            (item, key)
        }
        _ => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let json = Json {
        ascii: flag("ensure_ascii")?,
        indent,
        item: separators.0,
        key: separators.1,
        sorted: flag("sort_keys")?,
    };
    options.assert_all_used()?;
    let mut out = String::new();
    json.write(value, &mut out, 0, budget)?;
    budget.charge(out.len())?;
    Ok(out)
}

impl Json {
    fn write(&self, value: &Value, out: &mut String, depth: usize, budget: &Budget) -> Made<()> {
        if depth == DEPTH {
            return Err(wrong("values stand too deep within each other for JSON"));
        }
        if out.len() > budget.left() {
            return Err(budget.spent());
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&match float(value).as_str() {
                "nan" => "NaN".to_owned(),
                "inf" => "Infinity".to_owned(),
                "-inf" => "-Infinity".to_owned(),
                other => other.to_owned(),
            }),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.items(out, ['{', '}'], keys.len(), depth, &mut |at, out| {
                    match keys[at].as_str() {
                        Some(key) => self.string(key, out),
                        None => {
                            let mut key = String::new();
                            self.write(&keys[at], &mut key, depth + 1, budget)?;
                            self.string(&key, out);
                        }
                    }
                    out.push_str(&self.key);
                    self.write(&value.get_item(&keys[at])?, out, depth + 1, budget)
                })?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.items(out, ['[', ']'], items.len(), depth, &mut |at, out| {
                    self.write(&items[at], out, depth + 1, budget)
                })?;
            }
            other => return Err(wrong(format!("{other} cannot be written as JSON"))),
        }
        Ok(())
    }

    fn items(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        count: usize,
        depth: usize,
        item: &mut dyn FnMut(usize, &mut String) -> Made<()>,
    ) -> Made<()> {
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        out.push(open);
        for at in 0..count {
            if at > 0 {
                out.push_str(&self.item);
            }
            line(out, depth + 1);
            item(at, out)?;
        }
        if count > 0 {
            line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || self.ascii && (c as u32) > 0x7e => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// `text.replace(old, new, count)`, with the length known before.
pub(super) fn replace(text: &str, old: &str, new: &str, count: Option<usize>, budget: &Budget) -> Made<String> {
    let found = text.matches(old).count().min(count.unwrap_or(usize::MAX));
    let length = (text.len() as u128 + found as u128 * new.len() as u128).saturating_sub((found * old.len()) as u128);
    budget.charge(usize::try_from(length).unwrap_or(usize::MAX))?;
    Ok(match count {
        Some(count) => text.replacen(old, new, count),
        None => text.replace(old, new),
    })
}

/// Texts with another between them, with the length known before.
pub(super) fn join(items: Vec<String>, between: &str, budget: &Budget) -> Made<String> {
    let length = items.len().saturating_sub(1) as u128 * between.len() as u128;
    budget.charge(usize::try_from(length).unwrap_or(usize::MAX))?;
    let made = items.join(between);
    budget.charge(made.len())?;
    Ok(made)
}

/// The first letter large, the others small.
pub(super) fn capitalized(s: &str) -> String {
    let mut chars = s.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut large = first.to_uppercase();
    let first = large.next().into_iter().chain(large.flat_map(char::to_lowercase));
    first.chain(chars.flat_map(char::to_lowercase)).collect()
}

/// White space, as Python's `str.isspace` and `str.strip` see it.
pub(super) fn spaced(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Whether all letters that have a case have this one, and one has.
pub(super) fn of_case(text: &str, upper: bool) -> bool {
    let (mut of_it, mut of_other) = (false, false);
    for c in text.chars() {
        of_it |= if upper { c.is_uppercase() } else { c.is_lowercase() };
        of_other |= if upper { c.is_lowercase() } else { c.is_uppercase() };
    }
    of_it && !of_other
}

/// Python's `str.splitlines`, with the ends of the lines or without.
pub(super) fn lines(text: &str, ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let (mut begin, mut chars) = (0, text.char_indices().peekable());
    while let Some((at, c)) = chars.next() {
        if !matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}') {
            continue;
        }
        let mut next = at + c.len_utf8();
        if c == '\r' && chars.next_if(|(_, c)| *c == '\n').is_some() {
            next += 1;
        }
        lines.push(&text[begin..if ends { next } else { at }]);
        begin = next;
    }
    if begin < text.len() {
        lines.push(&text[begin..]);
    }
    lines
}
