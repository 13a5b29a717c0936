//! Filters and tests where Jinja2 says otherwise than minijinja, and those that could make much out of little.

use super::budget::Budget;
use super::format;
use super::python::{self, Made, spaced, wrong};
use minijinja::Environment;
use minijinja::value::{Kwargs, Rest, Value, ValueKind, from_args};

/// Filters that take their first argument as a text, whatever it is.
const OF_TEXTS: [&str; 9] = ["trim", "upper", "lower", "title", "capitalize", "escape", "e", "safe", "forceescape"];

/// The arguments of a filter as Jinja2 gives them.
pub(super) fn arguments(filter: &str, mut args: Vec<Value>, budget: &Budget) -> Made<Vec<Value>> {
    if let Some(first) = args.first_mut() {
        if OF_TEXTS.contains(&filter) && first.as_str().is_none() {
            *first = Value::from(python::text(first, budget)?);
        }
        // What is not there has no items; a dictionary is its keys.
        if first.is_undefined() && ["length", "count", "first", "last", "items"].contains(&filter) {
            *first = if filter == "items" {
                Value::from_serialize(std::collections::BTreeMap::<(), ()>::new())
            } else {
                Value::from("")
            };
        }
        if first.kind() == ValueKind::Map && ["reverse", "last"].contains(&filter) {
            *first = Value::from(first.try_iter()?.collect::<Vec<_>>());
        }
    }
    Ok(args)
}

/// An argument that is given by its place or by its name, and is not `none`.
fn given(by_place: Option<Value>, name: &str, options: &Kwargs) -> Made<Option<Value>> {
    let found = match by_place {
        Some(value) => Some(value),
        None => options.get::<Option<Value>>(name)?,
    };
    Ok(found.filter(|value| !value.is_none() && !value.is_undefined()))
}

/// Adds them all.
pub(super) fn add(env: &mut Environment<'_>, budget: &Budget) {
    env.remove_filter("pprint");
    texts(env, budget);
    let charged = budget.clone();
    env.add_filter("tojson", move |value: Value, args: Rest<Value>| -> Made<String> {
        const NAMES: [&str; 4] = ["ensure_ascii", "indent", "separators", "sort_keys"];
        let (places, named): (&[Value], Kwargs) = from_args(&args)?;
        if places.len() > NAMES.len() {
            return Err(wrong("tojson has four arguments"));
        }
        let mut options: Vec<(&str, Value)> = NAMES.into_iter().zip(places.iter().cloned()).collect();
        for name in named.args() {
            options.push((name, named.get(name)?));
        }
        python::tojson(&value, &Kwargs::from_iter(options), &charged)
    });
    let charged = budget.clone();
    env.add_filter("join", move |list: Value, between: Option<Value>, options: Kwargs| -> Made<String> {
        let between = given(between, "d", &options)?;
        let attribute: Option<String> = options.get("attribute")?;
        options.assert_all_used()?;
        let items = list.try_iter()?.map(|item| match &attribute {
            Some(name) => python::text(&item.get_attr(name)?, &charged),
            None => python::text(&item, &charged),
        });
        let between = between.map_or(Ok(String::new()), |between| python::text(&between, &charged))?;
        python::join(items.collect::<Made<Vec<_>>>()?, &between, &charged)
    });
    env.add_filter(
        "int",
        |value: Value, default: Option<Value>, base: Option<Value>, options: Kwargs| -> Made<Value> {
            let whole = |found: Option<Value>| found.map(i64::try_from).transpose();
            let default = whole(given(default, "default", &options)?)?;
            let base = whole(given(base, "base", &options)?)?.and_then(|base| u32::try_from(base).ok()).unwrap_or(10);
            options.assert_all_used()?;
            let parsed = value.as_str().and_then(|text| {
                let text = text.trim_matches(spaced);
                based(text, base).or_else(|| text.parse::<f64>().ok().map(|number| number as i64))
            });
            let number = || f64::try_from(value.clone()).ok().map(|number| number as i64);
            let truth = || (value.kind() == ValueKind::Bool).then(|| i64::from(value.is_true()));
            Ok(if value.is_integer() {
                value
            } else {
                Value::from(parsed.or_else(truth).or_else(number).or(default).unwrap_or(0))
            })
        },
    );
    env.add_filter("float", |value: Value, default: Option<f64>| -> f64 {
        let parsed = value.as_str().and_then(|text| text.trim_matches(spaced).parse().ok());
        let truth = (value.kind() == ValueKind::Bool).then(|| f64::from(u8::from(value.is_true())));
        parsed.or(truth).or_else(|| f64::try_from(value).ok()).or(default).unwrap_or(0.0)
    });
    env.add_filter("round", |value: Value, digits: Option<Value>, method: Option<Value>, options: Kwargs| {
        let digits = given(digits, "precision", &options)?.map_or(Ok(0), i32::try_from)?;
        let method = given(method, "method", &options)?;
        options.assert_all_used()?;
        rounded(&value, digits, method.as_ref().map_or(Some("common"), Value::as_str).unwrap_or_default())
    });
    tests(env, budget);
}

/// Python's `int(text, base)`, its prefixes and low lines included.
fn based(text: &str, base: u32) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (prefix, own) = match base {
        2 => ("0b", 2),
        8 => ("0o", 8),
        16 => ("0x", 16),
        base => ("", base),
    };
    let digits = digits.strip_prefix(prefix).unwrap_or(digits).replace('_', "");
    (2..=36).contains(&own).then(|| i64::from_str_radix(&format!("{sign}{digits}"), own).ok()).flatten()
}

/// Jinja2's filter `format`: places, or names.
fn format_with(format: &str, values: &[Value], budget: &Budget) -> Made<String> {
    let (places, names): (&[Value], Kwargs) = from_args(values)?;
    let names: Vec<(Value, Value)> =
        names.args().map(|name| Ok((Value::from(name), names.get(name)?))).collect::<Made<_>>()?;
    match names.is_empty() {
        true => format::percent(format, places, budget),
        false => format::percent(format, &[names.into_iter().collect()], budget),
    }
}

/// Python's `round`, to even where two are as near; or up, or down.
fn rounded(value: &Value, digits: i32, method: &str) -> Made<Value> {
    let number = f64::try_from(value.clone()).map_err(|_| wrong(format!("{} cannot be rounded", value.kind())))?;
    let times = 10f64.powi(digits.clamp(-300, 300));
    Ok(match method {
        "common" if value.is_integer() && digits >= 0 => value.clone(),
        // The decimals that Rust writes are those of the number itself, halves to even.
        "common" if (0..=60).contains(&digits) => {
            let written = format!("{number:.*}", digits as usize);
            Value::from(written.parse::<f64>().unwrap_or(number))
        }
        "common" => Value::from((number * times).round_ties_even() / times),
        "ceil" => Value::from((number * times).ceil() / times),
        "floor" => Value::from((number * times).floor() / times),
        _ => return Err(wrong("a number is rounded common, ceil or floor")),
    })
}

/// Those that make a text out of a text.
fn texts(env: &mut Environment<'_>, budget: &Budget) {
    let charged = budget.clone();
    env.add_filter("string", move |value: Value| python::text(&value, &charged));
    env.add_filter("trim", |text: String, chars: Option<String>| match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).to_owned(),
        None => text.trim_matches(spaced).to_owned(),
    });
    env.add_filter("capitalize", |text: String| python::capitalized(&text));
    env.add_filter("wordcount", |text: String| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
    });
    let charged = budget.clone();
    env.add_filter("center", move |text: String, width: Option<Value>, options: Kwargs| -> Made<String> {
        let width: usize = given(width, "width", &options)?.map_or(Ok(80), usize::try_from)?;
        options.assert_all_used()?;
        let room = width.saturating_sub(text.chars().count());
        charged.charge(room.saturating_add(text.len()))?;
        let before = room / 2 + (room & width & 1);
        Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(room - before)))
    });
    env.add_filter("truncate", |text: String, args: Rest<Value>| -> Made<String> {
        let (places, options): (&[Value], Kwargs) = from_args(&args)?;
        let found = |at: usize, name: &str| given(places.get(at).cloned(), name, &options);
        let length: usize = found(0, "length")?.map_or(Ok(255), usize::try_from)?;
        let within_words = found(1, "killwords")?.is_some_and(|value| value.is_true());
        let end = found(2, "end")?.map_or_else(|| "...".to_owned(), |end| end.to_string());
        let leeway: usize = found(3, "leeway")?.map_or(Ok(5), usize::try_from)?;
        options.assert_all_used()?;
        if text.chars().count() <= length.saturating_add(leeway) {
            return Ok(text);
        }
        let cut: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
        let kept = if within_words { &cut[..] } else { cut.rsplit_once(' ').map_or(&cut[..], |(kept, _)| kept) };
        Ok(format!("{kept}{end}"))
    });
    // Words are what stands between spaces and opening signs.
    env.add_filter("title", |text: String| -> String {
        let mut out = String::with_capacity(text.len());
        for word in text.split_inclusive(|c| spaced(c) || "-({[<".contains(c)) {
            out.push_str(&python::capitalized(word));
        }
        out
    });
    for name in ["escape", "e", "forceescape"] {
        let charged = budget.clone();
        env.add_filter(name, move |text: String| -> Made<String> {
            charged.charge(text.len().saturating_mul(5))?;
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            Ok(text.replace('\'', "&#39;").replace('"', "&#34;"))
        });
    }
    let charged = budget.clone();
    env.add_filter("replace", move |text: Value, old: String, new: String, count: Option<usize>| -> Made<String> {
        python::replace(&python::text(&text, &charged)?, &old, &new, count, &charged)
    });
    let charged = budget.clone();
    env.add_filter("format", move |format: String, values: Rest<Value>| format_with(&format, &values, &charged));
    let charged = budget.clone();
    let indent =
        move |text: String, width: Option<Value>, first: Option<Value>, blank: Option<Value>, options: Kwargs| {
            let width = given(width, "width", &options)?;
            let flag = |value, name| {
                Ok::<bool, minijinja::Error>(given(value, name, &options)?.is_some_and(|value| value.is_true()))
            };
            let (first, blank) = (flag(first, "first")?, flag(blank, "blank")?);
            options.assert_all_used()?;
            let by = match width {
                Some(width) => match width.as_str() {
                    Some(text) => text.to_owned(),
                    None => " ".repeat(usize::try_from(width)?.min(1000)),
                },
                None => " ".repeat(4),
            };
            let lines = python::lines(&text, false);
            charged.charge(lines.len().saturating_add(1).saturating_mul(by.len().saturating_add(16)))?;
            // One more line where the text ends a line.
            let ends = text.is_empty()
                || python::lines(&text, true).last().is_some_and(|line| python::lines(line, false) != [*line]);
            let indented = lines.into_iter().chain(ends.then_some("")).enumerate().map(|(at, line)| {
                let bare = if at == 0 { !first } else { line.is_empty() && !blank };
                if bare { line.to_owned() } else { format!("{by}{line}") }
            });
            Ok::<String, minijinja::Error>(indented.collect::<Vec<_>>().join("\n"))
        };
    env.add_filter("indent", indent);
}

/// Tests where Python's types say otherwise than minijinja's: a text is a sequence, a truth value a number.
fn tests(env: &mut Environment<'_>, budget: &Budget) {
    let iterable = |value: &Value| !value.is_none() && value.try_iter().is_ok();
    env.add_test("iterable", move |value: Value| iterable(&value));
    env.add_test("sequence", |value: Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
    });
    env.add_test("number", |value: Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_test("callable", |value: Value| value.kind() == ValueKind::Plain);
    let charged = budget.clone();
    env.add_test("lower", move |value: Value| {
        Ok::<bool, minijinja::Error>(python::of_case(&python::text(&value, &charged)?, false))
    });
    let charged = budget.clone();
    env.add_test("upper", move |value: Value| {
        Ok::<bool, minijinja::Error>(python::of_case(&python::text(&value, &charged)?, true))
    });
}
