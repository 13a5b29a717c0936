//! SmolLM 3: some blocks without rotary embedding.

use super::build::{Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `smollm3`.
pub(super) fn smollm3(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let mut spec = build(
        keys,
        Traits {
            qkv_bias: bias,
            o_bias: bias,
            mlp_bias: keys.flag_or("mlp_bias", false)?,
            tied: true,
            rope: Some(RopeDefaults { theta: 2e6, positions: 32768, ..RopeDefaults::LLAMA }),
            ..Traits::LLAMA
        },
    )?;
    let layers = spec.blocks.len();
    let interval = keys.size_or(&["no_rope_layer_interval"], 4)?;
    let listed = keys.list("no_rope_layers", layers)?;
    let turns = |layer: usize| match &listed {
        Some(list) => list[layer] != 0.0,
        None => !(layer + 1).is_multiple_of(interval),
    };
    let used = keys.flag_or("use_sliding_window", false)?;
    let window = if used { keys.size_maybe(&["sliding_window"])? } else { None };
    spec.set_windows(&keys.windows(layers, window, |layer| !turns(layer))?);
    spec.each_attention(|layer, attention| attention.rope = turns(layer).then_some(0));
    Ok(spec)
}
