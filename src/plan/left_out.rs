//! What an extracted adapter does not hold, and what of it PEFT does not load.

use super::extract::Kept;
use crate::checkpoint::Checkpoint;
use crate::delta::{DeltaSet, DeltaWeight, Source};
use crate::error::Result;
use crate::units::percent;

/// Sentences about what changed and is not in the adapter: embeddings, the head, norms, biases.
pub(super) fn left_out(set: &DeltaSet, taken: &[Kept]) -> Result<Vec<String>> {
    let Source::Tuned(tuned) = set.source() else { return Ok(Vec::new()) };
    let mut notes = Vec::new();
    let mut changed = Vec::new();
    let inside: f64 = taken.iter().map(|kept| kept.total).sum();
    let mut outside = 0.0;
    let rest = set.entries().iter().filter(|entry| entry.problem.is_none() && !entry.linear);
    for entry in rest.filter(|entry| !taken.iter().any(|kept| kept.name == entry.name)) {
        if !set.is_unchanged(entry, &())? {
            let DeltaWeight::Dense(dense) = set.load(entry, &())? else { continue };
            outside += dense.matrix.frobenius().powi(2);
            changed.push(entry.name.as_str());
        }
    }
    if !changed.is_empty() {
        notes.push(format!(
            "{} changed too and {} not in the adapter, with {} of the energy of all changes",
            changed.join(", "),
            if changed.len() == 1 { "is" } else { "are" },
            percent(outside / (inside + outside))
        ));
    }
    let vectors = vectors_that_differ(set.base(), tuned)?;
    if vectors > 0 {
        notes.push(format!("{vectors} norms or biases changed too: no adapter of this kind can hold them"));
    }
    Ok(notes)
}

/// A sentence about pairs with which PEFT refuses the adapter.
pub(super) fn refused(set: &DeltaSet, taken: &[Kept]) -> Option<String> {
    let spec = set.base().spec().ok()?;
    let leaf = |name: &str| name.rsplit('.').next().is_some_and(|leaf| spec.refused_by_peft(leaf));
    let names: Vec<&str> = taken.iter().map(|kept| kept.name.as_str()).filter(|name| leaf(name)).collect();
    let first = names.first()?;
    Some(format!(
        "{} pairs on out_proj, such as {first}: PEFT refuses an adapter with these, as a fused kernel of Mamba reads their weight past it; \
         targets without out_proj leave them out",
        names.len()
    ))
}

/// How many tensors of one size differ.
fn vectors_that_differ(base: &Checkpoint, tuned: &Checkpoint) -> Result<usize> {
    let mut count = 0;
    for tensor in base.tensors().iter().filter(|tensor| tensor.shape.len() == 1 && tensor.dtype.is_float()) {
        let Some(other) =
            tuned.tensor(&tensor.name).filter(|other| other.shape == tensor.shape && other.dtype.is_float())
        else {
            continue;
        };
        if base.tensor_matrix(tensor, &())?.data() != tuned.tensor_matrix(other, &())?.data() {
            count += 1;
        }
    }
    Ok(count)
}
