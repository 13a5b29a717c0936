//! Filters of lists and dictionaries with the arguments and results that Jinja2 gives them.

use super::budget::Budget;
use super::operators::{ITEM, add_two};
use super::python::{Made, wrong};
use super::tuple::{Tuple, tuple};
use minijinja::Environment;
use minijinja::value::{Kwargs, Rest, Value, ValueKind, from_args};
use std::cmp::Ordering;

/// Most rows that `batch` and `slice` make.
const ROWS: usize = 100_000;

/// Arguments of a filter, by their places or their names.
struct Given {
    places: Vec<Value>,
    named: Kwargs,
}

impl Given {
    fn new(args: &[Value]) -> Made<Self> {
        let (places, named): (&[Value], Kwargs) = from_args(args)?;
        Ok(Self { places: places.to_vec(), named })
    }

    fn value(&self, at: usize, name: &str) -> Made<Option<Value>> {
        let found = match self.places.get(at) {
            Some(value) => Some(value.clone()),
            None => self.named.get::<Option<Value>>(name)?,
        };
        Ok(found.filter(|value| !value.is_none() && !value.is_undefined()))
    }

    fn flag(&self, at: usize, name: &str) -> Made<bool> {
        Ok(self.value(at, name)?.is_some_and(|value| value.is_true()))
    }

    /// No argument is left that the filter does not have.
    fn done(&self, count: usize) -> Made<()> {
        if self.places.len() > count {
            return Err(wrong(format!("{} arguments, expected at most {count}", self.places.len())));
        }
        self.named.assert_all_used()
    }
}

/// What a list is sorted, grouped or told apart by: attributes (`a.b,c`, numbers among them), letters of both cases alike.
struct Key {
    paths: Vec<Vec<Value>>,
    default: Option<Value>,
    case: bool,
}

impl Key {
    fn new(attribute: Option<Value>, default: Option<Value>, case: bool) -> Self {
        let part = |text: &str| match text.trim().parse::<i64>() {
            Ok(at) => Value::from(at),
            Err(_) => Value::from(text.trim()),
        };
        let paths = match attribute {
            None => Vec::new(),
            Some(name) => match name.as_str() {
                Some(text) => text.split(',').map(|path| path.split('.').map(part).collect()).collect(),
                None => vec![vec![name]],
            },
        };
        Self { paths, default, case }
    }

    /// The value of an item, as it is.
    fn plain(&self, item: &Value) -> Made<Value> {
        let one = |path: &[Value]| -> Made<Value> {
            let mut found = item.clone();
            for part in path {
                found = found.get_item(part)?;
                if found.is_undefined()
                    && let Some(default) = &self.default
                {
                    found = default.clone();
                }
            }
            Ok(found)
        };
        match &self.paths[..] {
            [] => Ok(item.clone()),
            [path] => one(path),
            paths => Ok(Value::from(paths.iter().map(|path| one(path)).collect::<Made<Vec<_>>>()?)),
        }
    }

    fn of(&self, item: &Value) -> Made<Value> {
        let value = self.plain(item)?;
        let lower = |value: &Value| match value.as_str() {
            Some(text) if !self.case => Value::from(text.to_lowercase()),
            _ => value.clone(),
        };
        match self.paths.len() {
            0 | 1 => Ok(lower(&value)),
            _ => Ok(Value::from(value.try_iter()?.map(|part| lower(&part)).collect::<Vec<_>>())),
        }
    }
}

fn items(list: &Value, budget: &Budget) -> Made<Vec<Value>> {
    let items: Vec<Value> = list.try_iter()?.collect();
    budget.charge(items.len().saturating_mul(2 * ITEM))?;
    Ok(items)
}

/// Sorted by a key, in the order of before where two are alike.
fn sorted(mut items: Vec<(Value, Value)>, reverse: bool) -> Vec<(Value, Value)> {
    let order = |a: &Value, b: &Value| {
        let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
        if reverse { order.reverse() } else { order }
    };
    items.sort_by(|(a, _), (b, _)| order(a, b));
    items
}

fn keyed(list: &Value, key: &Key, budget: &Budget) -> Made<Vec<(Value, Value)>> {
    items(list, budget)?.into_iter().map(|item| Ok((key.of(&item)?, item))).collect()
}

fn second(pairs: Vec<(Value, Value)>) -> Value {
    Value::from(pairs.into_iter().map(|(_, item)| item).collect::<Vec<_>>())
}

/// `sort(reverse=false, case_sensitive=false, attribute=none)`.
fn sort(list: &Value, given: &Given, budget: &Budget) -> Made<Value> {
    let key = Key::new(given.value(2, "attribute")?, None, given.flag(1, "case_sensitive")?);
    Ok(second(sorted(keyed(list, &key, budget)?, given.flag(0, "reverse")?)))
}

/// `dictsort(case_sensitive=false, by='key', reverse=false)`.
fn dictsort(map: &Value, given: &Given, budget: &Budget) -> Made<Value> {
    let by = given.value(1, "by")?;
    let at = match by.as_ref().map_or(Some("key"), Value::as_str) {
        Some("key") => 0,
        Some("value") => 1,
        _ => return Err(wrong("a dictionary is sorted by key or value")),
    };
    let key = Key::new(Some(Value::from(at)), None, given.flag(0, "case_sensitive")?);
    Ok(second(sorted(keyed(&pairs(map, budget)?, &key, budget)?, given.flag(2, "reverse")?)))
}

/// The pairs of a dictionary.
pub(super) fn pairs(map: &Value, budget: &Budget) -> Made<Value> {
    if map.is_undefined() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    if map.kind() != ValueKind::Map {
        return Err(wrong(format!("{} has no pairs of keys and values", map.kind())));
    }
    let pair = |key: Value| Ok(tuple(vec![key.clone(), map.get_item(&key)?]));
    Ok(Value::from(items(map, budget)?.into_iter().map(pair).collect::<Made<Vec<_>>>()?))
}

/// `unique(case_sensitive=false, attribute=none)`.
fn unique(list: &Value, given: &Given, budget: &Budget) -> Made<Value> {
    let key = Key::new(given.value(1, "attribute")?, None, given.flag(0, "case_sensitive")?);
    let mut seen: std::collections::HashSet<Value> = std::collections::HashSet::new();
    let mut kept = keyed(list, &key, budget)?;
    kept.retain(|(key, _)| seen.insert(key.clone()));
    Ok(second(kept))
}

/// `min` and `max(case_sensitive=false, attribute=none)`: the first of the smallest or largest.
fn extreme(list: &Value, given: &Given, budget: &Budget, wanted: Ordering) -> Made<Value> {
    let key = Key::new(given.value(1, "attribute")?, None, given.flag(0, "case_sensitive")?);
    let best = keyed(list, &key, budget)?
        .into_iter()
        .reduce(|best, one| if one.0.partial_cmp(&best.0) == Some(wanted) { one } else { best });
    Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
}

/// `sum(attribute=none, start=0)`.
fn sum(list: &Value, given: &Given, budget: &Budget) -> Made<Value> {
    let key = Key::new(given.value(0, "attribute")?, None, true);
    let start = given.value(1, "start")?.unwrap_or_else(|| Value::from(0));
    items(list, budget)?.iter().try_fold(start, |sum, item| add_two(&sum, &key.plain(item)?, budget))
}

/// `groupby(attribute, default=none, case_sensitive=false)`: tuples of what they have in common, and the items.
fn groupby(list: &Value, given: &Given, budget: &Budget) -> Made<Value> {
    const FIELDS: [&str; 2] = ["grouper", "list"];
    let attribute = given.value(0, "attribute")?.ok_or_else(|| wrong("groupby needs an attribute"))?;
    let key = Key::new(Some(attribute), given.value(1, "default")?, given.flag(2, "case_sensitive")?);
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in sorted(keyed(list, &key, budget)?, false) {
        match groups.last_mut().filter(|(last, _)| *last == key) {
            Some((_, group)) => group.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    let named = |(_, group): (Value, Vec<Value>)| {
        let first = group.first().map_or(Ok(Value::UNDEFINED), |first| key.plain(first))?;
        Ok(Value::from_object(Tuple(vec![first, Value::from(group)], &FIELDS)))
    };
    Ok(Value::from(groups.into_iter().map(named).collect::<Made<Vec<_>>>()?))
}

/// `batch(linecount, fill_with=none)`: rows of so many items, and `slice(slices, fill_with=none)`: so many rows.
fn rows(list: &Value, given: &Given, budget: &Budget, name: &'static str) -> Made<Value> {
    let named = if name == "batch" { "linecount" } else { "slices" };
    let count = given.value(0, named)?.and_then(|count| count.as_usize()).filter(|&count| (1..=ROWS).contains(&count));
    let count = count.ok_or_else(|| wrong(format!("{name} needs a number from 1 to {ROWS}")))?;
    let fill = given.value(1, "fill_with")?;
    let items = items(list, budget)?;
    budget.charge(count.saturating_mul(ITEM))?;
    let mut rows: Vec<Vec<Value>> = Vec::new();
    if name == "batch" {
        rows.extend(items.chunks(count).map(<[Value]>::to_vec));
        if let (Some(last), Some(fill)) = (rows.last_mut(), fill) {
            last.resize(count, fill);
        }
    } else {
        let (each, longer) = (items.len() / count, items.len() % count);
        let mut rest = &items[..];
        for row in 0..count {
            let (here, after) = rest.split_at(each + usize::from(row < longer));
            rest = after;
            let filled = fill.clone().filter(|_| row >= longer);
            rows.push(here.iter().cloned().chain(filled).collect());
        }
    }
    Ok(Value::from(rows.into_iter().map(Value::from).collect::<Vec<_>>()))
}

/// `dict(mapping or pairs, name=value, …)`.
fn dict(args: &[Value], budget: &Budget) -> Made<Value> {
    let (from, named): (Option<Value>, Kwargs) = from_args(args)?;
    let mut made: Vec<(Value, Value)> = Vec::new();
    match from {
        Some(map) if map.kind() == ValueKind::Map => {
            for key in items(&map, budget)? {
                let value = map.get_item(&key)?;
                made.push((key, value));
            }
        }
        Some(list) if !list.is_undefined() => {
            for pair in items(&list, budget)? {
                let pair: Vec<Value> = pair.try_iter()?.collect();
                let [key, value] = <[Value; 2]>::try_from(pair).map_err(|_| wrong("a dictionary is made of pairs"))?;
                made.push((key, value));
            }
        }
        _ => {}
    }
    for name in named.args() {
        made.push((Value::from(name), named.get(name)?));
    }
    Ok(made.into_iter().collect())
}

type Filter = fn(&Value, &Given, &Budget) -> Made<Value>;

/// Adds them all.
pub(super) fn add(env: &mut Environment<'_>, budget: &Budget) {
    let filters: [(&'static str, usize, Filter); 10] = [
        ("sort", 3, sort),
        ("dictsort", 3, dictsort),
        ("items", 0, |map, _, budget| pairs(map, budget)),
        ("unique", 2, unique),
        ("min", 2, |list, given, budget| extreme(list, given, budget, Ordering::Less)),
        ("max", 2, |list, given, budget| extreme(list, given, budget, Ordering::Greater)),
        ("sum", 2, sum),
        ("groupby", 3, groupby),
        ("batch", 2, |list, given, budget| rows(list, given, budget, "batch")),
        ("slice", 2, |list, given, budget| rows(list, given, budget, "slice")),
    ];
    for (name, count, filter) in filters {
        let charged = budget.clone();
        env.add_filter(name, move |list: Value, args: Rest<Value>| -> Made<Value> {
            let given = Given::new(&args)?;
            let made = filter(&list, &given, &charged)?;
            given.done(count)?;
            Ok(made)
        });
    }
    let charged = budget.clone();
    env.add_function("dict", move |args: Rest<Value>| dict(&args, &charged));
}
