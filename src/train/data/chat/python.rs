//! What templates were written for: Python's `str`, `repr`, `json.dumps`, `%` and the methods of its strings, lists and
//! dictionaries, over minijinja's values.
//!
//! Everything that makes a text says before how long it may become, so that a template cannot take memory without end.

use super::budget::Budget;
use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind};
use std::fmt::Write;

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
        None => {
            let mut out = String::new();
            repr(value, &mut out, DEPTH, budget)?;
            out
        }
    };
    budget.charge(made.len())?;
    Ok(made)
}

/// Python's `repr(value)`.
fn repr(value: &Value, out: &mut String, depth: usize, budget: &Budget) -> Made<()> {
    if depth == 0 {
        return Err(wrong("values stand too deep within each other to be written"));
    }
    if out.len() > budget.left() {
        return Err(budget.spent());
    }
    match value.kind() {
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
            out.push('[');
            for (at, item) in value.try_iter()?.enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                repr(&item, out, depth - 1, budget)?;
            }
            out.push(']');
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
            c if (c as u32) < 0x20 || (0x7f..0xa0).contains(&(c as u32)) => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
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
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
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

/// Python's `format % values`: `%s %r %d %i %f %e %g %x %c %%` with flags, width and precision.
pub(super) fn percent(format: &str, values: &[Value], budget: &Budget) -> Made<String> {
    const WIDTH: usize = 10_000;
    let (mut out, mut chars, mut values) = (String::new(), format.chars().peekable(), values.iter());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut left, mut zero, mut plus) = (false, false, false);
        while let Some(&flag) = chars.peek().filter(|c| "-0+ #".contains(**c)) {
            (left, zero, plus) = (left || flag == '-', zero || flag == '0', plus || flag == '+');
            chars.next();
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut found = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                found = Some(found.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize));
                chars.next();
            }
            found
        };
        let width = number(&mut chars).unwrap_or(0);
        let precision = chars.next_if_eq(&'.').map(|_| number(&mut chars).unwrap_or(0));
        if width > WIDTH || precision.is_some_and(|precision| precision > WIDTH) {
            return Err(wrong(format!("a field of more than {WIDTH} characters")));
        }
        let kind = chars.next().ok_or_else(|| wrong("an incomplete format"))?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| wrong("not enough arguments for the format"))?;
        let real = || f64::try_from(value.clone()).map_err(|_| wrong(format!("%{kind} needs a number")));
        let made = match kind {
            's' => text(value, budget)?.chars().take(precision.unwrap_or(usize::MAX)).collect(),
            'r' => {
                let mut made = String::new();
                repr(value, &mut made, DEPTH, budget)?;
                made
            }
            'd' | 'i' | 'u' => format!("{}", real()?.trunc() as i128),
            'x' => format!("{:x}", real()?.trunc() as i128),
            'f' | 'F' => format!("{:.*}", precision.unwrap_or(6), real()?),
            'e' => format!("{:.*e}", precision.unwrap_or(6), real()?),
            'g' => float(&Value::from(real()?)).trim_end_matches(".0").to_owned(),
            'c' => text(value, budget)?,
            other => return Err(wrong(format!("an unknown format %{other}"))),
        };
        let made = if plus && !made.starts_with('-') && kind != 's' && kind != 'r' { format!("+{made}") } else { made };
        let room = width.saturating_sub(made.chars().count());
        match (left, zero && kind != 's') {
            (true, _) => out.extend(made.chars().chain(std::iter::repeat_n(' ', room))),
            (false, true) => {
                let (sign, digits) = made.split_at(usize::from(made.starts_with(['-', '+'])));
                out.push_str(sign);
                out.extend(std::iter::repeat_n('0', room));
                out.push_str(digits);
            }
            (false, false) => out.extend(std::iter::repeat_n(' ', room).chain(made.chars())),
        }
        if out.len() > budget.left() {
            return Err(budget.spent());
        }
    }
    budget.charge(out.len())?;
    Ok(out)
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

/// A method of a text, a list or a dictionary; `None` where there is none of this name.
pub(super) fn method(value: &Value, name: &str, args: &[Value], budget: &Budget) -> Made<Option<Value>> {
    match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), name, args, budget),
        ValueKind::Map => map_method(value, name, args),
        ValueKind::Seq | ValueKind::Iterable => list_method(value, name, args),
        _ => Ok(None),
    }
}

fn list(parts: impl Iterator<Item = impl Into<Value>>) -> Value {
    Value::from(parts.map(Into::into).collect::<Vec<Value>>())
}

/// An argument that is there and not `none`.
fn given<T: TryFrom<Value>>(args: &[Value], at: usize, name: &str, named: &Kwargs) -> Made<Option<T>> {
    let found = match args.get(at) {
        Some(value) => Some(value.clone()),
        None => named.get::<Option<Value>>(name)?,
    };
    let found = found.filter(|value| !value.is_none() && !value.is_undefined());
    found.map(|value| T::try_from(value).map_err(|_| wrong("an argument of another type was expected"))).transpose()
}

fn string_method(s: &str, name: &str, args: &[Value], budget: &Budget) -> Made<Option<Value>> {
    let (args, named): (&[Value], Kwargs) = from_args(args)?;
    let all = |test: fn(char) -> bool| Value::from(!s.is_empty() && s.chars().all(test));
    let word = |at: usize| -> Made<String> { given(args, at, "", &named)?.ok_or_else(|| wrong("a text is missing")) };
    // Where a found byte stands, counted in characters, as Python counts.
    let place = |at: Option<usize>| at.map_or(-1, |at| s[..at].chars().count() as i64);
    let ends = |test: &dyn Fn(&str) -> bool| -> Made<Value> {
        let tested = args.first().ok_or_else(|| wrong("a text is missing"))?;
        match tested.as_str() {
            Some(text) => Ok(Value::from(test(text))),
            None => Ok(Value::from(tested.try_iter()?.any(|one| one.as_str().is_some_and(test)))),
        }
    };
    let pad = |left: bool, right: bool| -> Made<Value> {
        let width: usize = given(args, 0, "width", &named)?.unwrap_or(0);
        let with: String = given(args, 1, "fillchar", &named)?.unwrap_or_else(|| " ".to_owned());
        let room = width.saturating_sub(s.chars().count());
        budget.charge(room.saturating_mul(with.len()).saturating_add(s.len()))?;
        let before = if left && right {
            room / 2
        } else if left {
            room
        } else {
            0
        };
        let after = if right { room - before } else { 0 };
        Ok(Value::from(format!("{}{s}{}", with.repeat(before), with.repeat(after))))
    };
    let set: Option<String> = match name {
        "strip" | "lstrip" | "rstrip" => given(args, 0, "chars", &named)?,
        _ => None,
    };
    let within = |c: char| set.as_ref().map_or(c.is_whitespace(), |set| set.contains(c));
    budget.charge(s.len())?;
    Ok(Some(match name {
        "strip" => Value::from(s.trim_matches(within)),
        "lstrip" => Value::from(s.trim_start_matches(within)),
        "rstrip" => Value::from(s.trim_end_matches(within)),
        "upper" => Value::from(s.to_uppercase()),
        "lower" | "casefold" => Value::from(s.to_lowercase()),
        "swapcase" => Value::from(
            s.chars()
                .flat_map(|c| {
                    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect::<Vec<_>>() }
                })
                .collect::<String>(),
        ),
        "capitalize" => Value::from(capitalized(s)),
        "title" => Value::from(titled(s)),
        "startswith" => ends(&|text| s.starts_with(text))?,
        "endswith" => ends(&|text| s.ends_with(text))?,
        "removeprefix" => Value::from(s.strip_prefix(&word(0)?).unwrap_or(s)),
        "removesuffix" => Value::from(s.strip_suffix(&word(0)?).unwrap_or(s)),
        "replace" => {
            let count: Option<i64> = given(args, 2, "count", &named)?;
            let count = count.and_then(|count| usize::try_from(count).ok());
            Value::from(replace(s, &word(0)?, &word(1)?, count, budget)?)
        }
        "split" | "rsplit" => {
            let by: Option<String> = given(args, 0, "sep", &named)?;
            let most: Option<i64> = given(args, 1, "maxsplit", &named)?;
            let most =
                most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
            budget.charge(s.len().saturating_mul(16))?;
            split(s, by.as_deref(), most, name == "rsplit")?
        }
        "splitlines" => {
            let keep = args.first().is_some_and(Value::is_true);
            budget.charge(s.len().saturating_mul(16))?;
            list(s.split_inclusive('\n').map(|line| {
                let bare = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
                if keep { line } else { bare }
            }))
        }
        "partition" | "rpartition" => {
            let by = word(0)?;
            let found = if name == "partition" { s.split_once(&by) } else { s.rsplit_once(&by) };
            list(
                match found {
                    Some((before, after)) => [before, &by, after].into_iter().map(str::to_owned).collect::<Vec<_>>(),
                    None if name == "partition" => vec![s.to_owned(), String::new(), String::new()],
                    None => vec![String::new(), String::new(), s.to_owned()],
                }
                .into_iter(),
            )
        }
        "count" => {
            let what = word(0)?;
            Value::from(if what.is_empty() { s.chars().count() + 1 } else { s.matches(&what).count() })
        }
        "find" => Value::from(place(s.find(&word(0)?))),
        "rfind" => Value::from(place(s.rfind(&word(0)?))),
        "index" => match place(s.find(&word(0)?)) {
            -1 => return Err(wrong("substring not found")),
            at => Value::from(at),
        },
        "join" => {
            let items = args.first().ok_or_else(|| wrong("join needs a list"))?;
            let items = items.try_iter()?.map(|item| text(&item, budget)).collect::<Made<Vec<_>>>()?;
            Value::from(join(items, s, budget)?)
        }
        "center" => pad(true, true)?,
        "rjust" => pad(true, false)?,
        "ljust" => pad(false, true)?,
        "zfill" => {
            let width: usize = given(args, 0, "width", &named)?.unwrap_or(0);
            let room = width.saturating_sub(s.chars().count());
            budget.charge(room)?;
            let (sign, digits) = s.split_at(usize::from(s.starts_with(['-', '+'])));
            Value::from(format!("{sign}{}{digits}", "0".repeat(room)))
        }
        "islower" => Value::from(s.chars().any(char::is_lowercase) && !s.chars().any(char::is_uppercase)),
        "isupper" => Value::from(s.chars().any(char::is_uppercase) && !s.chars().any(char::is_lowercase)),
        "isspace" => all(char::is_whitespace),
        "isdigit" | "isnumeric" | "isdecimal" => all(char::is_numeric),
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => Value::from(s.is_ascii()),
        "format" => Value::from(braces(s, args, &named, budget)?),
        _ => return Ok(None),
    }))
}

/// The first letter large, the others small.
pub(super) fn capitalized(s: &str) -> String {
    let mut chars = s.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect()).unwrap_or_default()
}

/// Every word's first letter large, the others small.
fn titled(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut inside = false;
    for c in s.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

/// `s.split(by, most - 1)` or `rsplit`: at most `most` parts.
fn split(s: &str, by: Option<&str>, most: usize, right: bool) -> Made<Value> {
    let mut parts: Vec<&str> = match (by, right) {
        (Some(""), _) => return Err(wrong("empty separator")),
        (Some(by), false) => s.splitn(most, by).collect(),
        (Some(by), true) => s.rsplitn(most, by).collect(),
        (None, false) => {
            let (mut parts, mut rest) = (Vec::new(), s.trim_start());
            while !rest.is_empty() {
                let end = if parts.len() + 1 == most { None } else { rest.find(char::is_whitespace) };
                let Some(end) = end else { break };
                parts.push(&rest[..end]);
                rest = rest[end..].trim_start();
            }
            if !rest.is_empty() {
                parts.push(if parts.len() + 1 == most { rest } else { rest.trim_end() });
            }
            parts
        }
        (None, true) => {
            let (mut parts, mut rest) = (Vec::new(), s.trim_end());
            while !rest.is_empty() {
                let begin = if parts.len() + 1 == most { None } else { rest.rfind(char::is_whitespace) };
                let Some(begin) = begin else { break };
                let width = rest[begin..].chars().next().map_or(1, char::len_utf8);
                parts.push(&rest[begin + width..]);
                rest = rest[..begin].trim_end();
            }
            if !rest.is_empty() {
                parts.push(if parts.len() + 1 == most { rest } else { rest.trim_start() });
            }
            parts
        }
    };
    if right {
        parts.reverse();
    }
    Ok(list(parts.into_iter()))
}

/// `'{} {name} {0}'.format(…)`, without format specifications.
fn braces(s: &str, args: &[Value], named: &Kwargs, budget: &Budget) -> Made<String> {
    let (mut out, mut rest, mut next) = (String::new(), s, 0);
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let (here, after) = rest[at..].split_at(1);
        if after.starts_with(here) {
            out.push_str(here);
            rest = &after[1..];
            continue;
        }
        let end = after.find('}').filter(|_| here == "{").ok_or_else(|| wrong("a single brace in the format"))?;
        let field = &after[..end];
        let value = if field.is_empty() {
            next += 1;
            args.get(next - 1).cloned()
        } else if let Ok(at) = field.parse::<usize>() {
            args.get(at).cloned()
        } else if field.contains([':', '!', '.', '[']) {
            return Err(wrong(format!("the format {{{field}}} is not known here")));
        } else {
            named.get::<Option<Value>>(field)?
        };
        out.push_str(&text(&value.ok_or_else(|| wrong(format!("nothing for {{{field}}}")))?, budget)?);
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    budget.charge(out.len())?;
    Ok(out)
}

fn map_method(value: &Value, name: &str, args: &[Value]) -> Made<Option<Value>> {
    let keys = || value.try_iter();
    Ok(Some(match name {
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(&key)?;
            if found.is_undefined() { default.unwrap_or_else(|| Value::from(())) } else { found }
        }
        "items" => {
            let pairs = keys()?.map(|key| Ok(Value::from(vec![key.clone(), value.get_item(&key)?])));
            Value::from(pairs.collect::<Made<Vec<_>>>()?)
        }
        "keys" => list(keys()?),
        "values" => Value::from(keys()?.map(|key| value.get_item(&key)).collect::<Made<Vec<_>>>()?),
        "copy" => value.clone(),
        _ => return Ok(None),
    }))
}

fn list_method(value: &Value, name: &str, args: &[Value]) -> Made<Option<Value>> {
    let what = || args.first().ok_or_else(|| wrong(format!("{name} needs a value")));
    Ok(Some(match name {
        "count" => {
            let what = what()?;
            Value::from(value.try_iter()?.filter(|item| item == what).count())
        }
        "index" => {
            let what = what()?;
            let at = value.try_iter()?.position(|item| item == *what);
            Value::from(at.ok_or_else(|| wrong("the value is not in the list"))?)
        }
        "copy" => value.clone(),
        "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse" => {
            return Err(wrong(format!("a template may not change a list: .{name}()")));
        }
        _ => return Ok(None),
    }))
}
