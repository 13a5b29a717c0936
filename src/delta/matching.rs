//! Which module of a source belongs to which of the base, and what does not fit.

use super::Entry;
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, Module, Role};
use std::collections::{HashMap, HashSet};

/// Every matrix of a model.
pub(super) fn weights(base: &Checkpoint) -> Vec<Entry> {
    matrices(base).map(|module| entry(module, module.problem.clone())).collect()
}

/// The matrices of two models, by name; first the base's, then those that only the tuned model has.
pub(super) fn tuned(base: &Checkpoint, tuned: &Checkpoint) -> Vec<Entry> {
    let names = Names::new(tuned);
    let mut entries = Vec::new();
    let mut matched = HashSet::new();
    for before in matrices(base) {
        let Some(after) = names.find(&before.name) else {
            // A stored copy of a tied embedding may be left out by whoever wrote the other file.
            if !before.tied {
                entries.push(misfit(
                    entry(before, None),
                    format!("{} has no such weight, expected one of {:?}", tuned.name(), before.shape),
                ));
            }
            continue;
        };
        matched.insert(after.name.as_str());
        let mut found = entry(before, None);
        found.other = Some(after.name.clone());
        if before.shape != after.shape {
            found.shape = after.matrix_shape();
            found = misfit(found, mismatch(before, &after.shape));
        } else {
            found.problem = after
                .problem
                .clone()
                .or_else(|| before.problem.as_ref().map(|problem| format!("in the base: {problem}")));
        }
        entries.push(found);
    }
    for after in matrices(tuned).filter(|after| !after.tied && !matched.contains(after.name.as_str())) {
        entries.push(misfit(entry(after, None), format!("the base {} has no such weight", base.name())));
    }
    entries
}

/// The layers of an adapter, in the base's order; what the base does not have comes last.
pub(super) fn adapter(base: &Checkpoint, adapter: &Adapter) -> Vec<Entry> {
    let names = Names::new(base);
    let order: HashMap<&str, usize> =
        base.modules().iter().enumerate().map(|(at, module)| (module.name.as_str(), at)).collect();
    let mut entries: Vec<(usize, Entry)> = Vec::with_capacity(adapter.layers.len());
    for layer in &adapter.layers {
        let mut found = Entry {
            name: layer.module.clone(),
            shape: layer.shape,
            layer: layer.layer,
            role: layer.role,
            linear: !layer.embedding,
            problem: adapter.problem(layer),
            misfit: false,
            other: Some(layer.module.clone()),
        };
        let Some(module) = names.find(&layer.module) else {
            entries.push((usize::MAX, misfit(found, format!("the base {} has no such module", base.name()))));
            continue;
        };
        found.name = module.name.clone();
        found.linear = module.linear;
        if module.shape != layer.shape {
            found = misfit(found, mismatch(module, &layer.shape));
        }
        entries.push((order.get(module.name.as_str()).copied().unwrap_or(usize::MAX), found));
    }
    entries.sort_by_key(|(at, _)| *at);
    entries.into_iter().map(|(_, entry)| entry).collect()
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
    }
}

fn misfit(entry: Entry, problem: String) -> Entry {
    Entry { problem: Some(problem), misfit: true, ..entry }
}

/// What to say of a shape that is not the base's.
fn mismatch(base: &Module, found: &[usize]) -> String {
    match (base.role, &base.shape[..], found) {
        (Role::Embedding | Role::Head, [expected, width], [rows, cols]) if width == cols => {
            format!("found vocabulary {rows}, expected {expected}")
        }
        _ => format!("found shape {found:?}, expected {:?}", base.shape),
    }
}

/// The modules of a checkpoint by name, and by name without what stands in front of the blocks: some tools save
/// `model.layers.0…`, others `layers.0…`.
struct Names<'a> {
    checkpoint: &'a Checkpoint,
    /// `None` where two modules would have the same short name.
    short: HashMap<&'a str, Option<&'a Module>>,
}

impl<'a> Names<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Self {
        let mut short = HashMap::new();
        for module in checkpoint.modules() {
            short.entry(shortened(&module.name)).and_modify(|found| *found = None).or_insert(Some(module));
        }
        Self { checkpoint, short }
    }

    fn find(&self, name: &str) -> Option<&'a Module> {
        self.checkpoint.module(name).or_else(|| self.short.get(shortened(name)).copied().flatten())
    }
}

/// A name without the wrappers in front of it.
fn shortened(name: &str) -> &str {
    const WRAPPERS: [&str; 6] = ["base_model.", "model.", "transformer.", "language_model.", "gpt_neox.", "module."];
    let mut short = name;
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| short.strip_prefix(wrapper)) {
        short = rest;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_come_off() {
        assert_eq!(shortened("model.language_model.layers.0.mlp.up_proj"), "layers.0.mlp.up_proj");
        assert_eq!(shortened("language_model.model.layers.0.mlp.up_proj"), "layers.0.mlp.up_proj");
        assert_eq!(shortened("transformer.h.0.attn.c_attn"), "h.0.attn.c_attn");
        assert_eq!(shortened("lm_head"), "lm_head");
    }
}
