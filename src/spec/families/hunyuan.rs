//! Hunyuan: norms of queries and keys after the rotary embedding.

use super::build::{QkNorm, Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `hunyuan_v1_dense`.
pub(super) fn dense(keys: &Keys) -> Result<ModelSpec> {
    Ok(decoder(keys)?.0)
}

/// The decoder, and what it was built with.
pub(super) fn decoder(keys: &Keys) -> Result<(ModelSpec, Traits)> {
    let bias = keys.flag_or("attention_bias", false)?;
    let traits = Traits {
        qkv_bias: bias,
        o_bias: bias,
        eps: 1e-5,
        qk_norm: Some((QkNorm::Head, ["query_layernorm", "key_layernorm"])),
        rope: Some(RopeDefaults { alpha: true, ..RopeDefaults::LLAMA }),
        ..Traits::LLAMA
    };
    let mut spec = build(keys, traits)?;
    spec.each_attention(|_, attention| attention.norm_after_rope = true);
    Ok((spec, traits))
}
