//! What must come of a command: exit status, JSON, text, files, ΔW of a written adapter.

use super::Place;
use super::tensors::{self, Tensor};
use regex::RegexBuilder;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What came of a command.
pub struct Ran {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
    pub json: Option<Value>,
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    text.chars().take(120).collect()
}

fn matches(pattern: &str, text: &str) -> bool {
    RegexBuilder::new(pattern).case_insensitive(true).dot_matches_new_line(true).build().unwrap().is_match(text)
}

fn texts<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    value[key].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or(0.0)
}

/// Everything that is not as expected.
pub fn expectation(expected: &Value, ran: &Ran, documents: &[Option<Value>], place: &Place) -> Vec<String> {
    let mut wrong = Vec::new();
    let allowed: Vec<i64> = match &expected["status"] {
        Value::Null => vec![0],
        Value::Array(list) => list.iter().filter_map(Value::as_i64).collect(),
        one => one.as_i64().into_iter().collect(),
    };
    let all = format!("{}\n{}", ran.out, ran.err);
    if !ran.status.is_some_and(|status| allowed.contains(&i64::from(status))) {
        wrong.push(format!("exit status {:?}, expected {allowed:?}: {}", ran.status, ran.err.trim()));
        return wrong;
    }
    if all.contains("panicked") {
        wrong.push(format!("the program broke down: {}", ran.err.trim()));
    }
    for pattern in texts(&expected["text"], "has").filter(|pattern| !matches(pattern, &all)) {
        wrong.push(format!("nothing like {pattern:?} is said, but {:?}", all.trim()));
    }
    for pattern in texts(&expected["text"], "hasnt").filter(|pattern| matches(pattern, &all)) {
        wrong.push(format!("{pattern:?} is said: {:?}", all.trim()));
    }
    if let Some(checks) = expected["json"].as_array() {
        match &ran.json {
            None => wrong.push(format!("no JSON on stdout: {:?}", ran.out)),
            Some(json) => wrong.extend(checks.iter().filter_map(|check| json_check(json, check, documents))),
        }
    }
    for file in expected["files"].as_array().into_iter().flatten() {
        wrong.extend(file_check(file, documents, place));
    }
    for delta in expected["deltas"].as_array().into_iter().flatten() {
        wrong.extend(delta_check(delta, place));
    }
    if let Some(either) = expected["either"].as_array() {
        let tries: Vec<Vec<String>> = either.iter().map(|one| expectation(one, ran, documents, place)).collect();
        if tries.iter().all(|wrong| !wrong.is_empty()) {
            let first: Vec<String> = tries.iter().map(|wrong| wrong[0].clone()).collect();
            wrong.push(format!("none of what may come: {}", first.join(" / or ")));
        }
    }
    wrong
}

/// A value by its path: fields, `[3]`, `[name=a|b]`, `len`.
fn look(document: &Value, path: &str) -> Result<Value, String> {
    let mut found = document.clone();
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(inner) = rest.strip_prefix('[') {
            let (key, after) = inner.split_once(']').ok_or("a bracket is open")?;
            rest = after;
            let list = found.as_array().ok_or(format!("no list where [{key}] is looked for"))?;
            found = match key.split_once('=') {
                Some((field, wanted)) => {
                    let is = |one: &&Value| {
                        let name = one[field].as_str().map_or_else(|| one[field].to_string(), str::to_owned);
                        wanted.split('|').any(|wanted| wanted == name)
                    };
                    list.iter().find(is).cloned().ok_or(format!("nothing with {key}"))?
                }
                None => list.get(key.parse::<usize>().unwrap()).cloned().ok_or(format!("no element {key}"))?,
            };
            continue;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        rest = after;
        found = match &found {
            Value::Array(list) if key == "len" => Value::from(list.len()),
            Value::String(text) if key == "len" => Value::from(text.chars().count()),
            value => value.get(key).cloned().ok_or(format!("no field {key}"))?,
        };
    }
    Ok(found)
}

fn close(found: f64, expected: f64, rel: f64, abs: f64) -> bool {
    if expected.is_nan() || expected.is_infinite() {
        return found == expected || (found.is_nan() && expected.is_nan());
    }
    (found - expected).abs() <= abs + rel * expected.abs()
}

fn same(found: &Value, expected: &Value, rel: f64, abs: f64) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => close(found, expected, rel, abs),
        _ => found == expected,
    }
}

fn json_check(document: &Value, check: &Value, documents: &[Option<Value>]) -> Option<String> {
    let path = check["path"].as_str().unwrap();
    let absent = check["absent"].as_bool() == Some(true);
    let found = match look(document, path) {
        Err(_) if absent => return None,
        Err(error) => return Some(format!("{path}: {error}")),
        Ok(found) if absent => return Some(format!("{path}: found {}, expected none", short(&found))),
        Ok(found) => found,
    };
    let wrong = value_check(&found, check, documents)?;
    Some(format!("{path}: {wrong}"))
}

fn value_check(found: &Value, check: &Value, documents: &[Option<Value>]) -> Option<String> {
    let (rel, abs, top) = (number(check, "rel"), number(check, "abs"), number(check, "top"));
    let object = check.as_object().unwrap();
    for key in ["same_as", "differs_from"] {
        let Some(other) = object.get(key) else { continue };
        let document = documents[other[0].as_u64().unwrap() as usize].as_ref();
        let Some(document) = document else { return Some("the other command gave no JSON".to_owned()) };
        let expected = match look(document, other[1].as_str().unwrap()) {
            Ok(expected) => expected,
            Err(error) => return Some(error),
        };
        let equal = same(found, &expected, rel, abs);
        return (equal != (key == "same_as")).then(|| format!("{} beside {}", short(found), short(&expected)));
    }
    if let Some(expected) = object.get("near") {
        let Some(expected) = expected.as_array() else {
            let equal = found.as_f64().zip(expected.as_f64()).is_some_and(|(f, e)| close(f, e, rel, abs));
            return (!equal).then(|| format!("{}, expected {expected}", short(found)));
        };
        let Some(found) = found.as_array() else { return Some(format!("{}, expected a list", short(found))) };
        let more = check["more"].as_bool() == Some(true);
        if found.len() < expected.len() || (found.len() > expected.len() && !more) {
            return Some(format!("{} numbers, expected {}", found.len(), expected.len()));
        }
        let largest = expected.iter().filter_map(Value::as_f64).fold(0.0, |max: f64, x| max.max(x.abs()));
        for (at, found) in found.iter().enumerate() {
            let (wanted, rel) = expected.get(at).map_or((0.0, 0.0), |x| (x.as_f64().unwrap(), rel));
            if !found.as_f64().is_some_and(|x| close(x, wanted, rel, abs + top * largest)) {
                return Some(format!("number {} is {found}, expected {wanted}", at + 1));
            }
        }
        return None;
    }
    if let Some(one) = object.get("one_of").and_then(Value::as_array).filter(|_| !object.contains_key("largest")) {
        let any = one.iter().any(|expected| same(found, expected, rel, abs));
        return (!any).then(|| format!("{}, expected one of {one:?}", short(found)));
    }
    if let Some(largest) = object.get("largest") {
        let (name, field) = (largest[0].as_str().unwrap(), largest[1].as_str().unwrap());
        let rows = found.as_array().into_iter().flatten();
        let named = rows.filter(|row| matches(name, row["name"].as_str().or(row["module"].as_str()).unwrap_or("")));
        let values = named.flat_map(|row| match &row[field] {
            Value::Array(list) => list.iter().filter_map(Value::as_f64).collect(),
            one => one.as_f64().into_iter().collect::<Vec<_>>(),
        });
        let max = values.fold(f64::NEG_INFINITY, f64::max);
        let any = check["one_of"].as_array().unwrap().iter().any(|x| close(max, x.as_f64().unwrap(), rel, abs));
        return (!any).then(|| format!("the largest {field} of {name} is {max}"));
    }
    let text = || found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    let strings =
        |value: &Value| -> BTreeSet<String> { value.as_array().into_iter().flatten().map(Value::to_string).collect() };
    let fine = |key: &str, expected: &Value| match key {
        "equals" => found == expected || same(found, expected, 0.0, 0.0),
        "set" => strings(found) == strings(expected),
        "at_least" => found.as_f64() >= expected.as_f64() && found.is_number(),
        "at_most" => found.as_f64() <= expected.as_f64() && found.is_number(),
        "key" => found.as_object().is_some_and(|o| o.keys().any(|key| matches(expected.as_str().unwrap(), key))),
        "has" => found
            .as_array()
            .map_or_else(|| text().contains(expected.as_str().unwrap_or_default()), |list| list.contains(expected)),
        "lacks" => found
            .as_array()
            .map_or_else(|| !text().contains(expected.as_str().unwrap_or_default()), |list| !list.contains(expected)),
        "match" => matches(expected.as_str().unwrap(), &text()),
        other => panic!("an unknown check {other}"),
    };
    let known = |key: &str| !["path", "rel", "abs", "top", "more", "absent"].contains(&key);
    let (key, expected) = object.iter().find(|(key, _)| known(key))?;
    (!fine(key, expected)).then(|| format!("{}, expected {key} {}", short(found), short(expected)))
}

fn near(name: &str, found: &[f64], expected: &[f64], check: &Value) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{name}: {} numbers, expected {}", found.len(), expected.len()));
    }
    let (rel, abs, top) = (number(check, "rel"), number(check, "abs"), number(check, "top"));
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0, |max: f64, x| max.max(x.abs()));
    let at = (0..found.len()).find(|&at| !close(found[at], expected[at], rel, abs + top * largest))?;
    Some(format!("{name}: element {at} is {}, expected {} (largest {largest:.4})", found[at], expected[at]))
}

fn file_check(check: &Value, documents: &[Option<Value>], place: &Place) -> Vec<String> {
    let path = place.fill(check["file"].as_str().unwrap());
    let name = check["file"].as_str().unwrap();
    if check["gone"].as_bool() == Some(true) {
        let there = Path::new(&path).exists();
        return if there { vec![format!("{name} should not be there")] } else { Vec::new() };
    }
    if let Some(checks) = check["json"].as_array() {
        let document = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let Some(document) = document else { return vec![format!("{name}: no JSON was written")] };
        return checks.iter().filter_map(|check| json_check(&document, check, documents)).collect();
    }
    let found = match tensors::read(&path) {
        Ok(found) => found,
        Err(error) => return vec![format!("{name}: {error}")],
    };
    let mut wrong = Vec::new();
    if let Some(expected) = check["expected"].as_str() {
        let expected = tensors::read(&place.fill(expected)).unwrap();
        for (key, tensor) in &expected {
            let other = check["also"][key].as_array().into_iter().flatten().filter_map(Value::as_str);
            match std::iter::once(key.as_str()).chain(other).find_map(|name| found.get(name)) {
                None => wrong.push(format!("{name}: no tensor {key}")),
                Some(got) if got.shape != tensor.shape => {
                    wrong.push(format!("{key}: shape {:?}, expected {:?}", got.shape, tensor.shape));
                }
                Some(got) => wrong.extend(near(key, &got.values, &tensor.values, check)),
            }
        }
        if let Some(rest) = check["rest"].as_str() {
            let but: Vec<&str> = texts(check, "but").collect();
            for (key, tensor) in tensors::read(&place.fill(rest)).unwrap() {
                if expected.contains_key(&key) || but.iter().any(|pattern| matches(pattern, &key)) {
                    continue;
                }
                match found.get(&key) {
                    None => wrong.push(format!("{name}: no tensor {key}, which the base has")),
                    Some(got) => wrong.extend(near(&key, &got.values, &tensor.values, check)),
                }
            }
        }
        if check["only"].as_bool() == Some(true) {
            let more: Vec<&String> = found.keys().filter(|key| !expected.contains_key(*key)).collect();
            if !more.is_empty() {
                wrong.push(format!("{name}: {more:?} should not be there"));
            }
        }
    }
    for pattern in texts(check, "absent") {
        wrong.extend(found.keys().find(|key| matches(pattern, key)).map(|key| format!("{key} should not be there")));
    }
    for pattern in texts(check, "present") {
        if !found.keys().any(|key| matches(pattern, key)) {
            wrong.push(format!("{name}: no tensor like {pattern}"));
        }
    }
    for (key, dtype) in check["dtypes"].as_object().into_iter().flatten() {
        if found.get(key).is_some_and(|tensor| Some(tensor.dtype.as_str()) != dtype.as_str()) {
            wrong.push(format!("{key}: written as {}, expected {dtype}", found[key].dtype));
        }
    }
    if check["finite"].as_bool() == Some(true) {
        let lost = found.iter().filter(|(_, tensor)| tensor.values.iter().any(|x| !x.is_finite()));
        wrong.extend(lost.map(|(key, _)| format!("{key}: holds inf or NaN")));
    }
    wrong
}

/// A value of `rank_pattern` or `alpha_pattern` by PEFT's rule.
fn by_pattern(patterns: &Value, module: &str, usual: f64) -> f64 {
    let matches = |key: &str| {
        let pattern = fancy_regex::Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).unwrap();
        pattern.is_match(module).unwrap()
    };
    let found = patterns.as_object().into_iter().flatten().find(|(key, _)| matches(key));
    found.and_then(|(_, value)| value.as_f64()).unwrap_or(usual)
}

/// ΔW of an adapter that was written, from its own config and factors, beside what it should be.
fn delta_check(check: &Value, place: &Place) -> Vec<String> {
    let folder = place.fill(check["adapter"].as_str().unwrap());
    let config = std::fs::read_to_string(Path::new(&folder).join("adapter_config.json"));
    let (Ok(config), Ok(found)) = (config, tensors::read(&format!("{folder}/adapter_model.safetensors"))) else {
        return vec![format!("no adapter in {folder}")];
    };
    let config: Value = serde_json::from_str(&config).unwrap();
    let scaling = |module: &str| {
        let rank = by_pattern(&config["rank_pattern"], module, number(&config, "r"));
        let alpha = by_pattern(&config["alpha_pattern"], module, number(&config, "lora_alpha"));
        (rank, alpha / if config["use_rslora"].as_bool() == Some(true) { rank.sqrt() } else { rank })
    };
    let expected = tensors::read(&place.fill(check["expected"].as_str().unwrap())).unwrap();
    let mut wrong = Vec::new();
    let mut seen = BTreeMap::new();
    for (key, tensor) in &found {
        let name = key.strip_prefix("base_model.model.").unwrap_or(key);
        if let Some(module) = name.strip_suffix(".lora_B.bias") {
            let (_, s) = scaling(module);
            seen.insert(format!("{module}.bias"), tensor.values.iter().map(|x| s * x).collect::<Vec<_>>());
            continue;
        }
        let ends = [(".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B")];
        let Some((module, other)) = ends.iter().find_map(|(end, other)| Some((name.strip_suffix(end)?, other))) else {
            continue;
        };
        let partner = format!("{}{other}", &key[..key.len() - (name.len() - module.len())]);
        let Some(b) = found.get(&partner) else {
            wrong.push(format!("{key} has no partner"));
            continue;
        };
        let module = module.replace(".base_layer", "");
        let (rank, s) = scaling(&module);
        let (r, inner, out) = (tensor.shape[0], tensor.shape[1], b.shape[0]);
        if rank != r as f64 {
            wrong.push(format!("{module}: factors of rank {r}, the config says {rank}"));
        }
        let at =
            |i: usize, j: usize| s * (0..r).map(|k| b.values[i * r + k] * tensor.values[k * inner + j]).sum::<f64>();
        let turned = expected.get(&module).is_some_and(|e| e.shape == [inner, out] && e.shape != [out, inner]);
        let values = match turned {
            true => (0..inner).flat_map(|j| (0..out).map(move |i| (i, j))).map(|(i, j)| at(i, j)).collect(),
            false => (0..out).flat_map(|i| (0..inner).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect(),
        };
        seen.insert(module, values);
    }
    for (key, Tensor { values, .. }) in &expected {
        match seen.get(key) {
            None => wrong.push(format!("no factors for {key}")),
            Some(found) => wrong.extend(near(&format!("ΔW of {key}"), found, values, check)),
        }
    }
    wrong
}
