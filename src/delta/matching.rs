//! Which module of a source belongs to which of the base, and what does not fit.

use super::{Entry, Misfit};
use crate::adapter::{Adapter, LoraLayer, Part};
use crate::checkpoint::{Checkpoint, Module, NameMap, Role};
use std::collections::HashSet;

/// Every matrix of a model.
pub(super) fn weights(base: &Checkpoint) -> Vec<Entry> {
    matrices(base).map(|module| entry(module, module.problem.clone())).collect()
}

/// The matrices of two models, by name; first the base's, then those that only the tuned model has.
pub(super) fn tuned(base: &Checkpoint, tuned: &Checkpoint) -> Vec<Entry> {
    let names = NameMap::new(tuned.modules().iter().map(|module| module.name.as_str()));
    let mut entries = Vec::new();
    let mut matched = HashSet::new();
    for before in matrices(base) {
        let Some(at) = names.find(&before.name) else {
            // A stored copy of a tied embedding may be left out by whoever wrote the other file.
            if !before.tied {
                entries.push(missing(
                    entry(before, None),
                    format!("{} has no such weight, expected one of {:?}", tuned.name(), before.shape),
                ));
            }
            continue;
        };
        matched.insert(at);
        entries.push(difference(entry(before, None), before, &tuned.modules()[at]));
    }
    for (at, after) in tuned.modules().iter().enumerate() {
        if !after.is_matrix() || after.tied || matched.contains(&at) {
            continue;
        }
        // A head of its own, where the base's is its embedding.
        match base.tied_head().filter(|_| after.role == Role::Head) {
            Some(embedding) => {
                let mut found = entry(after, None);
                found.of = Some(embedding.name.clone());
                entries.push(difference(found, embedding, after));
            }
            None => entries.push(missing(entry(after, None), format!("the base {} has no such weight", base.name()))),
        }
    }
    entries
}

/// An entry for the difference of two weights.
fn difference(mut found: Entry, before: &Module, after: &Module) -> Entry {
    found.other = Some(after.name.clone());
    if before.shape != after.shape {
        found.shape = after.matrix_shape();
        return misfit(found, before, &after.shape);
    }
    found.problem =
        after.problem.clone().or_else(|| before.problem.as_ref().map(|problem| format!("in the base: {problem}")));
    found
}

/// The layers of an adapter, in the base's order; what the base does not have comes last.
pub(super) fn adapter(base: &Checkpoint, adapter: &Adapter) -> Vec<Entry> {
    let names = NameMap::new(base.modules().iter().map(|module| module.name.as_str()));
    let mut entries: Vec<(usize, Entry)> = Vec::with_capacity(adapter.layers.len());
    for layer in &adapter.layers {
        if let Some(experts) = layer.experts {
            entries.extend(stack(base, &names, layer, experts));
            continue;
        }
        let mut found = Entry { linear: !layer.embedding, ..of_layer(layer, layer.module.clone()) };
        found.part = layer.in_order(Some(base));
        let replicated = adapter.config.replicated(&layer.module).filter(|name| *name != layer.module);
        let (at, module) = match names.find(replicated.as_ref().unwrap_or(&layer.module)) {
            Some(at) => {
                let module = &base.modules()[at];
                found.of = replicated.map(|_| module.name.clone());
                (at, module)
            }
            // The head of a model whose head is its embedding.
            None => match base.tied_head().filter(|_| layer.role == Role::Head) {
                Some(embedding) => {
                    found.of = Some(embedding.name.clone());
                    found.linear = false;
                    (base.modules().len(), embedding)
                }
                None => {
                    entries.push((usize::MAX, missing(found, format!("the base {} has no such module", base.name()))));
                    continue;
                }
            },
        };
        if found.of.is_none() {
            found.name = module.name.clone();
        }
        if found.of.is_none() || at < base.modules().len() {
            found.linear = module.linear || layer.is_flat();
        }
        let shape = if layer.is_flat() { module.matrix_shape().to_vec() } else { module.shape.clone() };
        if shape != layer.shape {
            found = misfit(found, module, &layer.shape);
        }
        entries.push((at, found));
    }
    entries.sort_by_key(|(at, _)| *at);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

/// The entries of a stack of experts: one for each matrix of the base, where it stores them apart; one for each expert where it
/// stores the stack.
fn stack(base: &Checkpoint, names: &NameMap, layer: &LoraLayer, experts: usize) -> Vec<(usize, Entry)> {
    let [out, _] = layer.shape;
    let mut entries = Vec::new();
    for (expert, halves) in split(layer, experts) {
        if let Some(at) = together(names, layer, expert) {
            let module = &base.modules()[at];
            let turned = is_turned(base, module, layer);
            let [out, inner] = layer.shape;
            let shape = if turned { [inner, out] } else { [out, inner] };
            let mut one = Entry { shape, ..of_layer(layer, module.name.clone()) };
            (one.role, one.part) = (module.role, Part { expert: Some(expert), turned, ..Part::default() });
            if module.shape != shape {
                one = misfit(one, module, &layer.shape);
            }
            entries.push((at, one));
            continue;
        }
        let found: Vec<(usize, &str, Part)> = halves
            .into_iter()
            .filter_map(|(spellings, rows)| {
                let at = spellings.iter().find_map(|name| names.find(name))?;
                let part = Part { expert: Some(expert), rows: Some(rows), ..Part::default() };
                Some((at, base.modules()[at].name.as_str(), part))
            })
            .collect();
        if found.iter().map(|(.., part)| part.rows.as_ref().map_or(0, |rows| rows.len())).sum::<usize>() == out {
            for (at, name, part) in found {
                let module = &base.modules()[at];
                let rows = part.rows.as_ref().map_or(out, |rows| rows.len());
                let mut one = Entry { shape: [rows, layer.shape[1]], ..of_layer(layer, name.to_owned()) };
                (one.role, one.part) = (module.role, part);
                if module.shape != one.shape {
                    let shape = one.shape;
                    one = misfit(one, module, &shape);
                }
                entries.push((at, one));
            }
        }
    }
    if !entries.is_empty() {
        return entries;
    }
    let stored = names.find(&layer.module);
    let fits = stored.map(|at| &base.modules()[at]).is_some_and(|module| fits_stack(&module.shape, layer, experts));
    for expert in 0..experts {
        let mut one = of_layer(layer, format!("{}[{expert}]", layer.module));
        one.part.expert = Some(expert);
        entries.push(match stored {
            Some(at) if fits => (at, one),
            Some(at) => (at, misfit(one, &base.modules()[at], &[experts, layer.shape[0], layer.shape[1]])),
            None => (usize::MAX, missing(one, format!("the base {} has no such experts", base.name()))),
        });
    }
    entries
}

/// An expert's matrix in the base, by the name of the parameter that all have together.
fn together(names: &NameMap, layer: &LoraLayer, expert: usize) -> Option<usize> {
    let (module, parameter) = layer.module.rsplit_once('.')?;
    names.find(&format!("{module}.{expert}.{parameter}"))
}

/// Whether a pair's two sides change places for the base's matrix. Where both are equal only the family says it.
fn is_turned(base: &Checkpoint, module: &Module, layer: &LoraLayer) -> bool {
    let [out, inner] = layer.shape;
    let swapped = base.spec().is_ok_and(|spec| spec.experts().any(|experts| experts.peft.swapped));
    if out == inner { swapped } else { module.shape == [inner, out] }
}

/// Whether a stack that is stored as one tensor has room for the pairs of all experts, whichever way its matrices lie.
fn fits_stack(shape: &[usize], layer: &LoraLayer, experts: usize) -> bool {
    let [out, inner] = layer.shape;
    *shape == [experts, out, inner] || *shape == [experts, inner, out]
}

/// For each expert of a stack the names that its matrices have where they are stored apart, and their rows in the stack.
#[expect(clippy::type_complexity, reason = "the sentence above says what it is; nobody else has one")]
fn split(layer: &LoraLayer, experts: usize) -> Vec<(usize, Vec<(Vec<String>, std::ops::Range<usize>)>)> {
    let Some((module, parameter)) = layer.module.rsplit_once('.') else { return Vec::new() };
    let out = layer.shape[0];
    let parts: Vec<(&[&str], std::ops::Range<usize>)> = match parameter {
        "gate_up_proj" => vec![(&["gate_proj", "w1"], 0..out / 2), (&["up_proj", "w3"], out / 2..out)],
        "down_proj" => vec![(&["down_proj", "w2"], 0..out)],
        "up_proj" => vec![(&["up_proj"], 0..out)],
        _ => Vec::new(),
    };
    let names =
        |expert: usize, leaves: &[&str]| leaves.iter().map(|leaf| format!("{module}.{expert}.{leaf}")).collect();
    (0..experts)
        .map(|expert| (expert, parts.iter().map(|(leaves, rows)| (names(expert, leaves), rows.clone())).collect()))
        .collect()
}

fn matrices(checkpoint: &Checkpoint) -> impl Iterator<Item = &Module> {
    checkpoint.modules().iter().filter(|module| module.is_matrix())
}

fn entry(module: &Module, problem: Option<String>) -> Entry {
    Entry {
        name: module.name.clone(),
        shape: module.matrix_shape(),
        layer: module.layer,
        role: module.role,
        linear: module.linear,
        problem,
        misfit: false,
        other: None,
        of: None,
        part: Part::default(),
        why: None,
    }
}

fn of_layer(layer: &LoraLayer, name: String) -> Entry {
    Entry {
        name,
        shape: layer.shape,
        layer: layer.layer,
        role: layer.role,
        linear: true,
        problem: None,
        misfit: false,
        other: Some(layer.module.clone()),
        of: None,
        part: Part::default(),
        why: None,
    }
}

fn missing(entry: Entry, problem: String) -> Entry {
    Entry { problem: Some(problem), misfit: true, why: Some(Misfit::Missing), ..entry }
}

/// A weight of another shape than the base's.
fn misfit(entry: Entry, base: &Module, found: &[usize]) -> Entry {
    let vocabulary = match (base.role, &base.shape[..], found) {
        (Role::Embedding | Role::Head, [expected, width], [rows, cols]) if width == cols => Some((rows, expected)),
        _ => None,
    };
    let (why, problem) = match vocabulary {
        Some((found, expected)) => (Misfit::Vocabulary, format!("found vocabulary {found}, expected {expected}")),
        None => (Misfit::Shape, format!("found shape {found:?}, expected {:?}", base.shape)),
    };
    Entry { problem: Some(problem), misfit: true, why: Some(why), ..entry }
}

/// The modules of two sets that mean the same, by the names of the first: adapters without their bases may have wrappers in
/// their names.
pub fn common(first: &[String], second: &[String]) -> Vec<(String, String)> {
    let names = NameMap::new(second.iter().map(String::as_str));
    let mut taken = HashSet::new();
    first
        .iter()
        .filter_map(|name| {
            let at = names.find(name)?;
            taken.insert(at).then(|| (name.clone(), second[at].clone()))
        })
        .collect()
}
