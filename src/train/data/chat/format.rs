//! Python's ways to put values into a text: `'%s' % value` and `'{}'.format(value)`.

use super::budget::Budget;
use super::python::{Made, exponent, repr_of, text, wrong};
use minijinja::value::{Kwargs, Value, ValueKind};
use std::iter::Peekable;
use std::str::Chars;

/// Widest field, and most digits.
const WIDTH: usize = 10_000;

/// How a value is written: `[[fill]align][sign][#][0][width][,][.precision][kind]`, or the like with `%`.
#[derive(Clone, Default)]
struct Field {
    fill: Option<char>,
    /// `<`, `>`, `^` or `=`.
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    width: usize,
    group: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

fn bounded(number: Option<usize>) -> Made<Option<usize>> {
    match number {
        Some(number) if number > WIDTH => Err(wrong(format!("a field of more than {WIDTH} characters"))),
        number => Ok(number),
    }
}

fn digits(chars: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut found = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        found = Some(found.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize));
        chars.next();
    }
    found
}

fn real(value: &Value, kind: char) -> Made<f64> {
    match value.kind() {
        ValueKind::Bool => Ok(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()),
        _ => return Err(wrong(format!("{kind} needs a number"))),
    }
    .map_err(|_| wrong(format!("{kind} needs a number")))
}

fn whole(value: &Value, kind: char) -> Made<i128> {
    match value.kind() {
        ValueKind::Number if value.is_integer() => {
            i128::try_from(value.clone()).map_err(|_| wrong("a number of more than 128 bits"))
        }
        _ => Ok(real(value, kind)?.trunc() as i128),
    }
}

/// `%g`: so many digits in all, with an exponent where the number is very large or small.
fn general(x: f64, precision: Option<usize>, alternate: bool) -> String {
    if !x.is_finite() {
        return not_finite(x);
    }
    let count = precision.unwrap_or(6).max(1);
    let scientific = format!("{:.*e}", count - 1, x);
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let short = |text: &str| match text.contains('.') && !alternate {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= count as i64 {
        return exponent(&format!("{}e{power}", short(mantissa)));
    }
    short(&format!("{:.*}", (count as i64 - 1 - power).max(0) as usize, x))
}

fn not_finite(x: f64) -> String {
    let text = if x.is_nan() { "nan" } else { "inf" };
    if x < 0.0 { format!("-{text}") } else { text.to_owned() }
}

impl Field {
    /// A number without its padding.
    fn number(&self, value: &Value, kind: char) -> Made<String> {
        let based = |base: u32, prefix: &str| -> Made<String> {
            let number = whole(value, kind)?;
            let size = number.unsigned_abs();
            let made = match base {
                2 => format!("{size:b}"),
                8 => format!("{size:o}"),
                _ => format!("{size:x}"),
            };
            let prefix = if self.alternate { prefix } else { "" };
            Ok(format!("{}{prefix}{made}", if number < 0 { "-" } else { "" }))
        };
        let finite = |make: &dyn Fn(f64) -> String| -> Made<String> {
            let x = real(value, kind)?;
            Ok(if x.is_finite() { make(x) } else { not_finite(x) })
        };
        let precision = self.precision.unwrap_or(6);
        let made = match kind.to_ascii_lowercase() {
            'd' | 'i' | 'u' => whole(value, kind)?.to_string(),
            'x' => based(16, "0x")?,
            'o' => based(8, "0o")?,
            'b' => based(2, "0b")?,
            'f' => finite(&|x| format!("{x:.precision$}"))?,
            'e' => finite(&|x| exponent(&format!("{x:.precision$e}")))?,
            'g' => general(real(value, kind)?, self.precision, self.alternate),
            '%' => finite(&|x| format!("{:.precision$}%", x * 100.0))?,
            _ => return Err(wrong(format!("an unknown format {kind}"))),
        };
        let made = if kind.is_ascii_uppercase() { made.to_uppercase() } else { made };
        let made = match self.group {
            Some(sign) => grouped(&made, sign),
            None => made,
        };
        Ok(match self.sign {
            Some(sign @ ('+' | ' ')) if !made.starts_with('-') => format!("{sign}{made}"),
            _ => made,
        })
    }

    fn padded(&self, made: String, number: bool, out: &mut String) {
        let room = self.width.saturating_sub(made.chars().count());
        let fill = self.fill.unwrap_or(' ');
        let align = self.align.unwrap_or(if number { '>' } else { '<' });
        let fills = |count: usize| std::iter::repeat_n(fill, count);
        match align {
            '<' => out.extend(made.chars().chain(fills(room))),
            '^' => out.extend(fills(room / 2).chain(made.chars()).chain(fills(room - room / 2))),
            '=' => {
                let sign = usize::from(made.starts_with(['-', '+', ' ']));
                let prefix = made.get(sign..sign + 2).is_some_and(|two| ["0x", "0X", "0o", "0b"].contains(&two));
                let (before, after) = made.split_at(sign + if prefix { 2 } else { 0 });
                out.push_str(before);
                out.extend(fills(room));
                out.push_str(after);
            }
            _ => out.extend(fills(room).chain(made.chars())),
        }
    }
}

/// Threes of digits, told apart.
fn grouped(text: &str, sign: char) -> String {
    let end = text.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(text.len());
    let start = usize::from(text.starts_with('-'));
    let count = end - start.min(end);
    let mut out = text[..start].to_owned();
    for (at, c) in text[start..end].chars().enumerate() {
        if at > 0 && (count - at).is_multiple_of(3) {
            out.push(sign);
        }
        out.push(c);
    }
    out + &text[end..]
}

/// `format % values`: the values are a tuple's, or the one value; a dictionary where the format names its fields.
pub(super) fn percent(format: &str, values: &[Value], budget: &Budget) -> Made<String> {
    let (mut out, mut chars, mut next) = (String::new(), format.chars().peekable(), values.iter());
    let mut named = false;
    let missing = || wrong("not enough arguments for the format");
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut value = None;
        if chars.next_if_eq(&'(').is_some() {
            let name: String = chars.by_ref().take_while(|c| *c != ')').collect();
            let map = values.first().filter(|map| map.kind() == ValueKind::Map);
            value = Some(map.ok_or_else(|| wrong("the format needs a dictionary"))?.get_item(&Value::from(name))?);
            named = true;
        }
        let mut field = Field { align: Some('>'), ..Field::default() };
        while let Some(flag) = chars.next_if(|c| "-0+ #".contains(*c)) {
            match flag {
                '-' => field.align = Some('<'),
                '0' => field.fill = Some('0'),
                '#' => field.alternate = true,
                '+' => field.sign = Some('+'),
                _ => field.sign = field.sign.or(Some(' ')),
            }
        }
        if chars.next_if_eq(&'*').is_some() {
            let width = whole(next.next().ok_or_else(missing)?, '*')?;
            field.align = if width < 0 { Some('<') } else { field.align };
            field.width = bounded(usize::try_from(width.unsigned_abs()).ok())?.unwrap_or(0);
        } else {
            field.width = bounded(digits(&mut chars))?.unwrap_or(0);
        }
        if chars.next_if_eq(&'.').is_some() {
            field.precision = bounded(Some(digits(&mut chars).unwrap_or(0)))?;
        }
        while chars.next_if(|c| "hlL".contains(*c)).is_some() {}
        let kind = chars.next().ok_or_else(|| wrong("an incomplete format"))?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => next.next().ok_or_else(missing)?.clone(),
        };
        let cut = |made: String| made.chars().take(field.precision.unwrap_or(usize::MAX)).collect::<String>();
        let (made, number) = match kind {
            's' => (cut(text(&value, budget)?), false),
            'r' => (cut(repr_of(&value, budget)?), false),
            'a' => (cut(ascii(&repr_of(&value, budget)?)), false),
            'c' if value.kind() == ValueKind::Number => {
                let code = u32::try_from(whole(&value, 'c')?).ok().and_then(char::from_u32);
                (code.ok_or_else(|| wrong("%c needs a character"))?.to_string(), false)
            }
            'c' => (text(&value, budget)?, false),
            kind => (field.number(&value, kind)?, true),
        };
        match (field.align, field.fill) {
            (Some('<'), _) => field.fill = None,
            (_, Some('0')) if number => field.align = Some('='),
            _ => field.fill = None,
        }
        field.padded(made, number, &mut out);
        if out.len() > budget.left() {
            return Err(budget.spent());
        }
    }
    if next.next().is_some()
        && !named
        && values.first().is_none_or(|first| !matches!(first.kind(), ValueKind::Map | ValueKind::Seq))
    {
        return Err(wrong("more arguments than the format has fields"));
    }
    budget.charge(out.len())?;
    Ok(out)
}

/// What is beyond ASCII as escapes.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c as u32 {
            0..0x80 => out.push(c),
            code @ 0x80..0x100 => out.push_str(&format!("\\x{code:02x}")),
            code @ 0x100..0x1_0000 => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out
}

/// `'{} {name.part[0]!r:>8}'.format(…)`.
pub(super) fn braces(s: &str, args: &[Value], named: &Kwargs, budget: &Budget) -> Made<String> {
    let mut next = 0;
    nested(s, args, named, &mut next, 2, budget)
}

fn nested(s: &str, args: &[Value], named: &Kwargs, next: &mut usize, depth: usize, budget: &Budget) -> Made<String> {
    let Some(depth) = depth.checked_sub(1) else { return Err(wrong("formats within formats within formats")) };
    let (mut out, mut rest) = (String::new(), s);
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let (here, after) = rest[at..].split_at(1);
        if after.starts_with(here) {
            out.push_str(here);
            rest = &after[1..];
            continue;
        }
        let mut open = 1usize;
        let end = after.char_indices().filter(|_| here == "{").find(|(_, c)| {
            open = if *c == '{' { open + 1 } else { open - usize::from(*c == '}') };
            open == 0
        });
        let end = end.ok_or_else(|| wrong("a single brace in the format"))?.0;
        let field = &after[..end];
        rest = &after[end + 1..];
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (field, as_what) = field.split_once('!').unwrap_or((field, ""));
        let value = looked_up(field, args, named, next)?;
        let spec = match spec.contains('{') {
            true => nested(spec, args, named, next, depth, budget)?,
            false => spec.to_owned(),
        };
        let value = match as_what {
            "" => value,
            "s" => Value::from(text(&value, budget)?),
            "r" => Value::from(repr_of(&value, budget)?),
            "a" => Value::from(ascii(&repr_of(&value, budget)?)),
            other => return Err(wrong(format!("an unknown conversion !{other}"))),
        };
        specified(&value, &spec, &mut out, budget)?;
        if out.len() > budget.left() {
            return Err(budget.spent());
        }
    }
    out.push_str(rest);
    budget.charge(out.len())?;
    Ok(out)
}

/// The value of `0`, `name`, `name.part`, `name[0]`, or of the next place.
fn looked_up(field: &str, args: &[Value], named: &Kwargs, next: &mut usize) -> Made<Value> {
    let end = field.find(['.', '[']).unwrap_or(field.len());
    let (name, mut path) = field.split_at(end);
    let found = match name.parse::<usize>() {
        Ok(at) => args.get(at).cloned(),
        Err(_) if name.is_empty() => {
            *next += 1;
            args.get(*next - 1).cloned()
        }
        Err(_) => named.get::<Option<Value>>(name)?,
    };
    let mut value = found.ok_or_else(|| wrong(format!("nothing for {{{name}}}")))?;
    while !path.is_empty() {
        let part = match path.strip_prefix('[') {
            Some(inner) => {
                let (key, after) = inner.split_once(']').ok_or_else(|| wrong("a bracket of the format is open"))?;
                path = after;
                key.parse::<i64>().map_or_else(|_| Value::from(key), Value::from)
            }
            None => return Err(wrong(format!("the attribute {path} of a format is not known here"))),
        };
        value = value.get_item(&part)?;
    }
    Ok(value)
}

/// A value by what stands behind the colon.
fn specified(value: &Value, spec: &str, out: &mut String, budget: &Budget) -> Made<()> {
    if spec.is_empty() {
        out.push_str(&text(value, budget)?);
        return Ok(());
    }
    let is_align = |c: char| "<>^=".contains(c);
    let mut field = Field::default();
    let mut chars = spec.chars().peekable();
    let mut ahead = spec.chars();
    match (ahead.next(), ahead.next()) {
        (fill, Some(align)) if is_align(align) => {
            (field.fill, field.align) = (fill, Some(align));
            chars.next();
            chars.next();
        }
        (Some(align), _) if is_align(align) => {
            field.align = Some(align);
            chars.next();
        }
        _ => {}
    }
    field.sign = chars.next_if(|c| "+- ".contains(*c));
    field.alternate = chars.next_if_eq(&'#').is_some();
    let number = matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if chars.next_if_eq(&'0').is_some() && field.fill.is_none() {
        field.fill = Some('0');
        field.align = field.align.or(number.then_some('='));
    }
    field.width = bounded(digits(&mut chars))?.unwrap_or(0);
    field.group = chars.next_if(|c| ",_".contains(*c));
    if chars.next_if_eq(&'.').is_some() {
        field.precision = bounded(Some(digits(&mut chars).unwrap_or(0)))?;
    }
    field.kind = chars.next();
    if chars.next().is_some() {
        return Err(wrong(format!("the format {spec} is not known here")));
    }
    let made = match (field.kind, number) {
        (Some('s') | None, false) => {
            if !matches!(value.kind(), ValueKind::String) {
                return Err(wrong(format!("{} has no format {spec}", value.kind())));
            }
            text(value, budget)?.chars().take(field.precision.unwrap_or(usize::MAX)).collect()
        }
        (Some('c'), true) => {
            let code = u32::try_from(whole(value, 'c')?).ok().and_then(char::from_u32);
            code.ok_or_else(|| wrong("a format c needs a character"))?.to_string()
        }
        (Some(kind), true) if !value.is_integer() && "dxXob".contains(kind) && value.kind() == ValueKind::Number => {
            return Err(wrong(format!("a number with a point has no format {kind}")));
        }
        (Some('n'), true) | (None, true) if value.is_integer() || value.kind() == ValueKind::Bool => {
            field.number(value, 'd')?
        }
        (None, true) if field.precision.is_none() => {
            let made = text(value, budget)?;
            let made = field.group.map_or(made.clone(), |sign| grouped(&made, sign));
            match field.sign {
                Some(sign @ ('+' | ' ')) if !made.starts_with('-') => format!("{sign}{made}"),
                _ => made,
            }
        }
        (Some('n') | None, true) => field.number(value, 'g')?,
        (Some(kind), _) => field.number(value, kind)?,
    };
    field.padded(made, number, out);
    Ok(())
}
