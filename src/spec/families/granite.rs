//! Granite: Llama with four multipliers.

use super::build::{Traits, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::ModelSpec;

/// `granite`.
pub(super) fn granite(keys: &Keys) -> Result<ModelSpec> {
    Ok(decoder(keys)?.0)
}

/// The decoder, and what it was built with.
pub(super) fn decoder(keys: &Keys) -> Result<(ModelSpec, Traits)> {
    let bias = keys.flag_or("attention_bias", false)?;
    let mlp_bias = keys.flag_or("mlp_bias", false)?;
    let traits = Traits { qkv_bias: bias, o_bias: bias, mlp_bias, ..Traits::LLAMA };
    let mut spec = build(keys, traits)?;
    spec.embedding_scale = keys.number_or("embedding_multiplier", 1.0)? as f32;
    spec.logit_scale = (1.0 / keys.number_or("logits_scaling", 1.0)?) as f32;
    let scale = keys.number_or("attention_multiplier", 1.0)? as f32;
    spec.each_attention(|_, attention| attention.scale = scale);
    let residual = keys.number_or("residual_multiplier", 1.0)? as f32;
    spec.blocks.iter_mut().for_each(|block| block.residual_scale = residual);
    Ok((spec, traits))
}
