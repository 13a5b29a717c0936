//! Methods of Python's strings, lists and dictionaries.

use super::budget::Budget;
use super::format::braces;
use super::lists;
use super::python::{Made, capitalized, join, lines, of_case, printable, replace, spaced, text, wrong};
use super::tuple::tuple;
use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use std::ops::Range;
use std::sync::LazyLock;

/// A method of a text, a list or a dictionary; `None` where there is none of this name.
pub(super) fn method(value: &Value, name: &str, args: &[Value], budget: &Budget) -> Made<Option<Value>> {
    match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), name, args, budget),
        ValueKind::Map => map_method(value, name, args, budget),
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
    // `find`, `count`, `startswith` and the like look at a part of the text: from a character up to another.
    let part = || -> Made<Option<Range<usize>>> {
        let bound = |at: usize| given::<i64>(args, at, "", &named);
        let (start, end) = (bound(1)?, bound(2)?);
        if start.is_none() && end.is_none() {
            return Ok(Some(0..s.len()));
        }
        let count = s.chars().count() as i64;
        let clamp = |at: i64| if at < 0 { (at + count).max(0) } else { at };
        let (start, end) = (clamp(start.unwrap_or(0)), clamp(end.unwrap_or(count)).min(count));
        let byte = |at: i64| s.char_indices().nth(at as usize).map_or(s.len(), |(byte, _)| byte);
        Ok((start <= end).then(|| byte(start)..byte(end)))
    };
    // Where a found byte stands, counted in characters, as Python counts.
    let place = |find: fn(&str, &str) -> Option<usize>| -> Made<i64> {
        let Some(part) = part()? else { return Ok(-1) };
        let found = find(&s[part.clone()], &word(0)?);
        Ok(found.map_or(-1, |at| s[..part.start + at].chars().count() as i64))
    };
    let found = |at: i64| if at < 0 { Err(wrong("substring not found")) } else { Ok(Value::from(at)) };
    let ends = |test: &dyn Fn(&str, &str) -> bool| -> Made<Value> {
        let tested = args.first().ok_or_else(|| wrong("a text is missing"))?;
        let Some(part) = part()?.map(|part| &s[part]) else { return Ok(Value::from(false)) };
        match tested.as_str() {
            Some(text) => Ok(Value::from(test(part, text))),
            None => Ok(Value::from(tested.try_iter()?.any(|one| one.as_str().is_some_and(|text| test(part, text))))),
        }
    };
    let pad = |left: bool, right: bool| -> Made<Value> {
        let width: usize = given(args, 0, "width", &named)?.unwrap_or(0);
        let with: String = given(args, 1, "fillchar", &named)?.unwrap_or_else(|| " ".to_owned());
        let room = width.saturating_sub(s.chars().count());
        budget.charge(room.saturating_mul(with.len()).saturating_add(s.len()))?;
        let before = if left && right {
            room / 2 + (room & width & 1)
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
    let within = |c: char| set.as_ref().map_or(spaced(c), |set| set.contains(c));
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
        "startswith" => ends(&|s, text| s.starts_with(text))?,
        "endswith" => ends(&|s, text| s.ends_with(text))?,
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
            let keep = given::<Value>(args, 0, "keepends", &named)?.is_some_and(|keep| keep.is_true());
            budget.charge(s.len().saturating_mul(16))?;
            list(lines(s, keep).into_iter())
        }
        "partition" | "rpartition" => {
            let by = word(0)?;
            let found = if name == "partition" { s.split_once(&by) } else { s.rsplit_once(&by) };
            let parts = match found {
                Some((before, after)) => [before, &by, after],
                None if name == "partition" => [s, "", ""],
                None => ["", "", s],
            };
            tuple(parts.into_iter().map(Value::from).collect())
        }
        "count" => {
            let (what, part) = (word(0)?, part()?.map(|part| &s[part]));
            Value::from(
                part.map_or(0, |s| if what.is_empty() { s.chars().count() + 1 } else { s.matches(&what).count() }),
            )
        }
        "find" => Value::from(place(|s, what| s.find(what))?),
        "rfind" => Value::from(place(|s, what| s.rfind(what))?),
        "index" => found(place(|s, what| s.find(what))?)?,
        "rindex" => found(place(|s, what| s.rfind(what))?)?,
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
        "expandtabs" => {
            let width = given(args, 0, "tabsize", &named)?.unwrap_or(8usize);
            budget.charge(s.matches('\t').count().saturating_mul(width))?;
            Value::from(untabbed(s, width))
        }
        "isidentifier" => {
            let first = s.chars().next().is_some_and(|c| c == '_' || c.is_alphabetic());
            Value::from(first && s.chars().all(|c| c == '_' || c.is_alphanumeric()))
        }
        "islower" => Value::from(of_case(s, false)),
        "isupper" => Value::from(of_case(s, true)),
        "istitle" => Value::from(s == titled(s) && s.chars().any(char::is_alphabetic)),
        "isspace" => all(spaced),
        "isprintable" => Value::from(s.chars().all(|c| c == ' ' || printable(c))),
        // Digits of Unicode are decimal, or raised or lowered, or in a circle; fractions and the like are numeric only.
        "isdecimal" => all(decimal),
        "isdigit" => all(|c| decimal(c) || matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨')),
        "isnumeric" => all(char::is_numeric),
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => Value::from(s.is_ascii()),
        "format" => Value::from(braces(s, args, &named, budget)?),
        _ => return Ok(None),
    }))
}

/// A digit of one of Unicode's rows of ten.
fn decimal(c: char) -> bool {
    static ROWS: LazyLock<Option<regex::Regex>> = LazyLock::new(|| regex::Regex::new(r"\p{Nd}").ok());
    c.is_ascii_digit() || !c.is_ascii() && ROWS.as_ref().is_some_and(|rows| rows.is_match(c.encode_utf8(&mut [0; 4])))
}

/// Tabs as spaces up to the next multiple of `width`.
fn untabbed(s: &str, width: usize) -> String {
    let (mut out, mut column) = (String::with_capacity(s.len()), 0);
    for c in s.chars() {
        match c {
            '\t' if width > 0 => {
                let room = width - column % width;
                out.extend(std::iter::repeat_n(' ', room));
                column += room;
            }
            '\t' => {}
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
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
            let (mut parts, mut rest) = (Vec::new(), s.trim_start_matches(spaced));
            while !rest.is_empty() {
                let end = if parts.len() + 1 == most { None } else { rest.find(spaced) };
                let Some(end) = end else { break };
                parts.push(&rest[..end]);
                rest = rest[end..].trim_start_matches(spaced);
            }
            if !rest.is_empty() {
                parts.push(if parts.len() + 1 == most { rest } else { rest.trim_end_matches(spaced) });
            }
            parts
        }
        (None, true) => {
            let (mut parts, mut rest) = (Vec::new(), s.trim_end_matches(spaced));
            while !rest.is_empty() {
                let begin = if parts.len() + 1 == most { None } else { rest.rfind(spaced) };
                let Some(begin) = begin else { break };
                let width = rest[begin..].chars().next().map_or(1, char::len_utf8);
                parts.push(&rest[begin + width..]);
                rest = rest[..begin].trim_end_matches(spaced);
            }
            if !rest.is_empty() {
                parts.push(if parts.len() + 1 == most { rest } else { rest.trim_start_matches(spaced) });
            }
            parts
        }
    };
    if right {
        parts.reverse();
    }
    Ok(list(parts.into_iter()))
}

fn map_method(value: &Value, name: &str, args: &[Value], budget: &Budget) -> Made<Option<Value>> {
    let keys = || value.try_iter();
    Ok(Some(match name {
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(&key)?;
            if found.is_undefined() { default.unwrap_or_else(|| Value::from(())) } else { found }
        }
        "items" => lists::pairs(value, budget)?,
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
