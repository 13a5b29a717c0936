//! Mistral, and Mixtral with its experts.

use super::build::{Modules, Traits, Up, build, mlp};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{ExpertsSpec, FeedForward, ModelSpec, Role};

const ROPE: RopeDefaults = RopeDefaults { positions: 4096 * 32, ..RopeDefaults::LLAMA };

/// Mistral's own.
pub(super) const MISTRAL: Traits = Traits { rope: Some(ROPE), ..Traits::LLAMA };

/// `mistral`: the same window in every block.
pub(super) fn mistral(keys: &Keys) -> Result<ModelSpec> {
    windowed(keys, MISTRAL)
}

/// `mixtral`: every MLP is a choice of experts.
pub(super) fn mixtral(keys: &Keys) -> Result<ModelSpec> {
    let traits = Traits { eps: 1e-5, rope: Some(RopeDefaults { theta: 1e6, ..ROPE }), ..MISTRAL };
    let mut spec = windowed(keys, traits)?;
    let count = keys.size_or(&["num_local_experts"], 8)?;
    let chosen = keys.size_or(&["num_experts_per_tok"], 2)?;
    keys.blocks(spec.blocks.len(), count)?;
    let hidden = spec.hidden;
    let up = Up::Gated(["w1", "w3"]);
    let parts = Traits { mlp: "block_sparse_moe.experts.{}.", up, down: "w2", ..traits };
    for (layer, block) in spec.blocks.iter_mut().enumerate() {
        let Some(dense) = block.mlp() else { continue };
        let m = Modules::of(&spec.embedding, &traits, layer);
        let expert = mlp(&m, &parts, dense.activation, hidden, dense.width).copies(count);
        let router = m.linear("block_sparse_moe.gate", Role::Router, [count, hidden], false);
        block.ffn = Some(FeedForward::Experts(ExpertsSpec { router, count, chosen, mlp: expert, shared: None }));
    }
    spec.not_run = Some("experts are not computed in this version: they are counted, and can be looked at".to_owned());
    Ok(spec)
}

/// A decoder with the same window in every block.
pub(super) fn windowed(keys: &Keys, traits: Traits) -> Result<ModelSpec> {
    let mut spec = build(keys, traits)?;
    let window = keys.size_maybe(&["sliding_window"])?;
    spec.set_windows(&vec![window; spec.blocks.len()]);
    Ok(spec)
}
