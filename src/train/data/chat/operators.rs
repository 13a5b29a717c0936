//! Operators of templates as Python has them, charged before they make anything.

use super::budget::Budget;
use super::format;
use super::python::{self, Made, wrong};
use super::tuple::{is_tuple, tuple};
use minijinja::Environment;
use minijinja::value::{Rest, Value, ValueKind};

/// Items of a list that a template may make at once.
const ITEMS: usize = 1_000_000;
/// Bytes of an item.
pub(super) const ITEM: usize = 24;

/// A number as Python sees it: a truth value is one.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Self> {
        match value.kind() {
            ValueKind::Bool => Some(Self::Whole(i128::from(value.is_true()))),
            ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok().map(Self::Whole),
            ValueKind::Number => f64::try_from(value.clone()).ok().map(Self::Real),
            _ => None,
        }
    }

    fn real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }
}

fn arithmetic(
    sign: &str,
    a: &Value,
    b: &Value,
    whole: fn(i128, i128) -> Option<i128>,
    real: fn(f64, f64) -> f64,
) -> Made<Value> {
    match (Number::of(a), Number::of(b)) {
        (Some(Number::Whole(a)), Some(Number::Whole(b))) => {
            whole(a, b).map(Value::from).ok_or_else(|| wrong(format!("{a} {sign} {b} cannot be computed")))
        }
        (Some(a), Some(b)) => Ok(Value::from(real(a.real(), b.real()))),
        _ => Err(wrong(format!("{} {sign} {} cannot be computed", a.kind(), b.kind()))),
    }
}

/// A list of items, or a tuple where `value` is one.
fn like(value: &Value, items: Vec<Value>) -> Value {
    if is_tuple(value) { tuple(items) } else { Value::from(items) }
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

pub(super) fn add_two(a: &Value, b: &Value, budget: &Budget) -> Made<Value> {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        budget.charge(a.len() + b.len())?;
        return Ok(Value::from(format!("{a}{b}")));
    }
    if is_list(a) && is_list(b) && is_tuple(a) == is_tuple(b) {
        let count = a.len().unwrap_or(0) + b.len().unwrap_or(0);
        budget.charge(count.saturating_mul(ITEM))?;
        return Ok(like(a, a.try_iter()?.chain(b.try_iter()?).take(ITEMS).collect()));
    }
    arithmetic("+", a, b, i128::checked_add, |a, b| a + b)
}

fn times(a: &Value, b: &Value, budget: &Budget) -> Made<Value> {
    let (repeated, count) = if a.as_str().is_some() || is_list(a) { (a, b) } else { (b, a) };
    if repeated.as_str().is_none() && !is_list(repeated) {
        return arithmetic("*", a, b, i128::checked_mul, |a, b| a * b);
    }
    let Some(Number::Whole(count)) = Number::of(count) else {
        return Err(wrong(format!("{} * {} cannot be computed", a.kind(), b.kind())));
    };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    match repeated.as_str() {
        Some(text) => {
            budget.charge(text.len().saturating_mul(count))?;
            Ok(Value::from(text.repeat(count)))
        }
        None => {
            let items: Vec<Value> = repeated.try_iter()?.collect();
            budget.charge(items.len().saturating_mul(count).saturating_mul(ITEM))?;
            let items = items.iter().cycle().take(items.len().saturating_mul(count));
            Ok(like(repeated, items.cloned().collect()))
        }
    }
}

fn remainder(a: &Value, b: &Value, budget: &Budget) -> Made<Value> {
    match a.as_str() {
        Some(format) => {
            // A tuple holds the values, a list is one.
            let values = if is_tuple(b) { b.try_iter()?.collect() } else { vec![b.clone()] };
            Ok(Value::from(format::percent(format, &values, budget)?))
        }
        // Python's has the sign of the divisor.
        None => arithmetic(
            "%",
            a,
            b,
            |a, b| a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
            |a, b| {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            },
        ),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    a == b && (!is_list(a) || is_tuple(a) == is_tuple(b))
}

/// `a / b`, never a whole number.
fn quotient(a: &Value, b: &Value) -> Made<Value> {
    match (Number::of(a), Number::of(b)) {
        (Some(_), Some(b)) if b.real() == 0.0 => Err(wrong("division by zero")),
        (Some(a), Some(b)) => Ok(Value::from(a.real() / b.real())),
        _ => Err(wrong(format!("{} / {} cannot be computed", a.kind(), b.kind()))),
    }
}

/// `a ** b`; a whole number only of whole numbers that are not negative.
fn power(a: &Value, b: &Value) -> Made<Value> {
    let whole = |a: i128, b: i128| u32::try_from(b).ok().and_then(|b| a.checked_pow(b));
    match (Number::of(a), Number::of(b)) {
        (Some(base), Some(Number::Whole(negative))) if negative < 0 => {
            Ok(Value::from(base.real().powf(negative as f64)))
        }
        _ => arithmetic("**", a, b, whole, f64::powf),
    }
}

fn floor(a: &Value, b: &Value) -> Made<Value> {
    let whole = |a: i128, b: i128| {
        let quotient = a.checked_div(b)?;
        Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
    };
    arithmetic("//", a, b, whole, |a, b| (a / b).floor())
}

/// `value[start:stop:step]`.
fn slice(value: &Value, bounds: [&Value; 3], budget: &Budget) -> Made<Value> {
    let bound = |value: &Value| -> Made<Option<i64>> {
        if value.is_none() || value.is_undefined() {
            return Ok(None);
        }
        i64::try_from(value.clone()).map(Some).map_err(|_| wrong("a slice needs whole numbers"))
    };
    let [start, stop, step] = [bound(bounds[0])?, bound(bounds[1])?, bound(bounds[2])?.or(Some(1))];
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(wrong("a slice of step 0"));
    }
    let places = |length: usize| -> Vec<usize> {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let clamp = |at: i64| (if at < 0 { at.saturating_add(length) } else { at }).clamp(low, high);
        let from = start.map_or(if step > 0 { low } else { high }, clamp);
        let to = stop.map_or(if step > 0 { high } else { low }, clamp);
        let mut places = Vec::new();
        let mut at = from;
        while if step > 0 { at < to } else { at > to } {
            places.push(at as usize);
            at = at.saturating_add(step);
        }
        places
    };
    if let Some(text) = value.as_str() {
        let chars: Vec<char> = text.chars().collect();
        budget.charge(text.len().saturating_mul(4))?;
        return Ok(Value::from(places(chars.len()).into_iter().map(|at| chars[at]).collect::<String>()));
    }
    if !is_list(value) {
        return Err(wrong(format!("{} cannot be sliced", value.kind())));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    budget.charge(items.len().saturating_mul(ITEM))?;
    Ok(like(value, places(items.len()).into_iter().map(|at| items[at].clone()).collect()))
}

/// The functions by which instructions are replaced. No template can call them: their names hold a space.
pub(super) fn add(env: &mut Environment<'_>, budget: &Budget) {
    let charged = budget.clone();
    env.add_function("operator +", move |a: Value, b: Value| add_two(&a, &b, &charged));
    let charged = budget.clone();
    env.add_function("operator *", move |a: Value, b: Value| times(&a, &b, &charged));
    let charged = budget.clone();
    env.add_function("operator %", move |a: Value, b: Value| remainder(&a, &b, &charged));
    env.add_function("operator /", |a: Value, b: Value| quotient(&a, &b));
    env.add_function("operator **", |a: Value, b: Value| power(&a, &b));
    // Python has tuples and lists apart.
    env.add_function("operator ==", |a: Value, b: Value| equal(&a, &b));
    env.add_function("operator !=", |a: Value, b: Value| !equal(&a, &b));
    env.add_function("operator //", |a: Value, b: Value| floor(&a, &b));
    let charged = budget.clone();
    env.add_function("operator ~", move |a: Value, b: Value| -> Made<String> {
        Ok(python::text(&a, &charged)? + &python::text(&b, &charged)?)
    });
    let charged = budget.clone();
    env.add_function("operator [:]", move |value: Value, start: Value, stop: Value, step: Value| {
        slice(&value, [&start, &stop, &step], &charged)
    });
    env.add_function("operator *list", |_: Rest<Value>| -> Made<Value> {
        Err(wrong("a call with *list is not known here"))
    });
    let charged = budget.clone();
    env.add_function("range", move |a: i64, b: Option<i64>, step: Option<i64>| -> Made<Value> {
        let (from, to) = b.map_or((0, a), |b| (a, b));
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(wrong("a range of step 0"));
        }
        let span = if step > 0 { to.saturating_sub(from) } else { from.saturating_sub(to) };
        let count = usize::try_from(span.max(0).unsigned_abs().div_ceil(step.unsigned_abs())).unwrap_or(usize::MAX);
        if count > ITEMS {
            return Err(wrong(format!("a range of {count} numbers")));
        }
        budget_for(&charged, count)?;
        Ok(Value::from((0..count as i64).map(|at| Value::from(from + at * step)).collect::<Vec<_>>()))
    });
}

fn budget_for(budget: &Budget, items: usize) -> Made<()> {
    budget.charge(items.saturating_mul(ITEM))
}
