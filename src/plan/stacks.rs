//! Experts in what is extracted: PEFT knows those of a block as one parameter, and loads one pair for all of them, of one rank
//! (`target_parameters`).

use super::budget::Offer;
use crate::adapter::{Adapter, LoraLayer};
use crate::checkpoint::Role;
use crate::delta::{DeltaWeight, Dense, LowRank};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::spec::{ExpertsSpec, ModelSpec};
use crate::units::exact;
use std::sync::Arc;

/// The modules of a parameter that has all experts of a block.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stack {
    /// The base's names of each expert's matrices, one below the other.
    pub each: Vec<Vec<String>>,
    /// A pair's two sides change places: see [`PeftExperts::swapped`](crate::spec::PeftExperts::swapped).
    pub swapped: bool,
}

/// The parameters of a model's experts: PEFT's name, `[out, in]` of each expert, and the modules.
pub(super) fn of(spec: &ModelSpec) -> Vec<(String, [usize; 2], Stack)> {
    let parameter = |experts: &ExpertsSpec, role: Role| {
        let mut parts: Vec<_> = experts.mlp.up.iter().map(|part| (part.offset, &part.module)).collect();
        parts.sort_by_key(|(offset, _)| *offset);
        if role == Role::Down {
            parts = vec![(0, &experts.mlp.down)];
        }
        let rows = parts.iter().map(|(_, module)| module.shape[0]).sum();
        let width = parts.first().map_or(0, |(_, module)| module.shape[1]);
        let names = |number: usize| parts.iter().map(|(_, module)| module.expert(number)).collect();
        let stack = Stack { each: (0..experts.count).map(names).collect(), swapped: experts.peft.swapped };
        (experts.peft.parameter(role), [rows, width], stack)
    };
    let both = |experts: &ExpertsSpec| {
        let first = if experts.mlp.gated { Role::GateUp } else { Role::Up };
        [first, Role::Down].map(|role| parameter(experts, role))
    };
    spec.experts().flat_map(both).collect()
}

/// What the pairs of a stack of experts have in all; `None` of another layer.
pub(super) fn parameters(layer: &LoraLayer) -> Option<u64> {
    let [out, inner] = layer.shape.map(|side| side as u64);
    layer.experts.map(|experts| experts as u64 * layer.r as u64 * (out + inner))
}

/// What a budget leaves beside the stacks of experts of an adapter, which are kept as they are.
///
/// # Errors
/// Bad input where it leaves nothing.
pub(super) fn left_of(adapter: &Adapter, budget: u64) -> Result<u64> {
    let kept: u64 = adapter.layers.iter().filter_map(parameters).sum();
    budget.checked_sub(kept).filter(|left| *left > 0).ok_or_else(|| {
        Error::usage(format!(
            "a budget of {} parameters; the pairs of experts, which are kept as they are, have {} of them already",
            exact(budget),
            exact(kept)
        ))
    })
}

/// Parts of one expert's ΔW, one below the other.
///
/// # Errors
/// Cancellation; parts of different widths.
pub(super) fn joined(mut parts: Vec<DeltaWeight>, progress: &dyn Progress) -> Result<DeltaWeight> {
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    let (rows, width) =
        (parts.iter().map(|part| part.shape()[0]).sum(), parts.first().map_or(0, |part| part.shape()[1]));
    let epsilon = parts.iter().map(DeltaWeight::epsilon).fold(0.0, f64::max);
    let factors: Vec<&LowRank> = parts
        .iter()
        .filter_map(|part| match part {
            DeltaWeight::LowRank(factors) => Some(factors),
            DeltaWeight::Dense(_) => None,
        })
        .collect();
    if let Some(first) = factors.first().filter(|first| {
        factors.len() == parts.len() && factors.iter().all(|part| part.a == first.a && part.scaling == first.scaling)
    }) {
        let b = factors.iter().flat_map(|part| part.b.data().iter().copied()).collect();
        let b = Matrix::new(rows, first.a.rows(), b)?;
        return Ok(DeltaWeight::LowRank(LowRank { b, a: first.a.clone(), scaling: first.scaling, epsilon }));
    }
    let mut values = Vec::with_capacity(rows * width);
    for part in &parts {
        values.extend_from_slice(part.dense(progress)?.data());
    }
    let matrix = Arc::new(Matrix::new(rows, width, values)?);
    Ok(DeltaWeight::Dense(Dense { matrix, epsilon, rounding_std: None }))
}

/// What the experts of a parameter offer together: direction k of each of them, as far as all are known.
pub(super) fn together(name: &str, each: &[Offer]) -> Offer {
    let shape = each.first().map_or([0, 0], |offer| offer.shape);
    // What has no direction left has nothing to add.
    let whole = |offer: &Offer| offer.kept(usize::MAX) >= offer.energy * (1.0 - 1e-12);
    let known = each.iter().filter(|offer| !whole(offer)).map(|offer| offer.sigma.len()).min();
    let most = each.iter().map(|offer| offer.sigma.len()).max().unwrap_or(0);
    let sigma = |k: usize| each.iter().filter_map(|offer| offer.sigma.get(k)).map(|s| s * s).sum::<f64>().sqrt();
    Offer {
        name: name.to_owned(),
        shape,
        copies: each.len(),
        sigma: (0..known.unwrap_or(most).min(most)).map(sigma).collect(),
        energy: each.iter().map(|offer| offer.energy).sum(),
    }
}

/// A module's ΔW, or the experts' of a parameter.
pub(super) struct Spectra {
    /// What all of them offer together.
    pub offer: Offer,
    /// What each of them offers.
    pub each: Vec<Offer>,
}

impl Spectra {
    pub(super) fn new(name: &str, each: Vec<Offer>, is_stack: bool) -> Self {
        match each.first().filter(|_| !is_stack) {
            Some(one) => Self { offer: one.clone(), each },
            None => Self { offer: together(name, &each), each },
        }
    }
}
