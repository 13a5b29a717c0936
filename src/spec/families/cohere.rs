//! Command R and Command R 7B: one LayerNorm without shifts for both halves, scaled logits.

use super::build::{Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{ModelSpec, NormKind};

fn traits(keys: &Keys, theta: f64) -> Result<Traits> {
    let bias = keys.flag_or("attention_bias", false)?;
    Ok(Traits {
        qkv_bias: bias,
        o_bias: bias,
        norms: Traits::ONE,
        parallel: true,
        kind: NormKind::Layer,
        eps_key: "layer_norm_eps",
        eps: 1e-5,
        tied: true,
        rope: Some(RopeDefaults { theta, positions: 8192, interleaved: true, ..RopeDefaults::LLAMA }),
        ..Traits::LLAMA
    })
}

/// `cohere`.
pub(super) fn cohere(keys: &Keys) -> Result<ModelSpec> {
    let (mut spec, norms) = (build(keys, traits(keys, 5e5)?)?, keys.flag_or("use_qk_norm", false)?);
    if let Some(norm) = spec.norm.clone().filter(|_| norms) {
        spec.put_head_norms(&norm, ["q_norm", "k_norm"]);
    }
    spec.logit_scale = keys.number_or("logit_scale", 0.0625)? as f32;
    Ok(spec)
}

/// `cohere2`: windows, and in them alone a rotary embedding.
pub(super) fn cohere2(keys: &Keys) -> Result<ModelSpec> {
    let mut spec = build(keys, traits(keys, 1e4)?)?;
    spec.logit_scale = keys.number_or("logit_scale", 0.0625)? as f32;
    let window = Some(keys.size_or(&["sliding_window"], 4096)?);
    let pattern = keys.size_or(&["sliding_window_pattern", "_sliding_window_pattern"], 4)?;
    spec.set_windows(&keys.windows(spec.blocks.len(), window, |layer| !(layer + 1).is_multiple_of(pattern))?);
    spec.each_attention(|_, attention| attention.rope = attention.window.map(|_| 0));
    Ok(spec)
}
