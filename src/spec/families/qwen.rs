//! Qwen 2, 2.5 and 3.

use super::build::{HeadDim, QkNorm, Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

const ROPE: RopeDefaults = RopeDefaults { positions: 32768, ..RopeDefaults::LLAMA };

/// `qwen2`: biases on queries, keys and values.
pub(super) fn qwen2(keys: &Keys) -> Result<ModelSpec> {
    // It has biases whatever this key says.
    keys.get("attention_bias");
    windowed(keys, Traits { qkv_bias: true, rope: Some(ROPE), ..Traits::LLAMA }, 28)
}

/// `qwen3`: norms of each head's query and key.
pub(super) fn qwen3(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    windowed(keys, Traits { qkv_bias: bias, o_bias: bias, head_dim: HeadDim::Is(128), ..QWEN3 }, 28)
}

/// `qwen2_5_vl_text`, `qwen2_vl_text`: positions in three directions, which are one for text.
pub(super) fn qwen2_vl(keys: &Keys) -> Result<ModelSpec> {
    let rope = RopeDefaults { theta: 1e6, mrope: true, ..ROPE };
    windowed(keys, Traits { qkv_bias: true, eps: 1e-5, rope: Some(rope), ..Traits::LLAMA }, 80)
}

/// `qwen3_vl_text`.
pub(super) fn qwen3_vl(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let rope = RopeDefaults { theta: 5e5, positions: 128_000, mrope: true, ..ROPE };
    build(keys, Traits { qkv_bias: bias, o_bias: bias, head_dim: HeadDim::Is(128), rope: Some(rope), ..QWEN3 })
}

/// Qwen 3's own.
pub(super) const QWEN3: Traits =
    Traits { qk_norm: Some((QkNorm::Head, ["q_norm", "k_norm"])), rope: Some(ROPE), ..Traits::LLAMA };

/// Windows from block `max_window_layers` on, where they are used.
fn windowed(keys: &Keys, traits: Traits, first: u64) -> Result<ModelSpec> {
    let mut spec = build(keys, traits)?;
    let used = keys.flag_or("use_sliding_window", false)?;
    let window = if used { Some(keys.size_or(&["sliding_window"], 4096)?) } else { None };
    let first = keys.get("max_window_layers").and_then(serde_json::Value::as_u64).unwrap_or(first) as usize;
    spec.set_windows(&keys.windows(spec.blocks.len(), window, |layer| layer >= first)?);
    Ok(spec)
}
