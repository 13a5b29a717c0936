//! Granite: Llama with four multipliers.

use super::build::{Sizes, Traits, Up, build_with};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::ModelSpec;

/// `granite`.
pub(super) fn granite(keys: &Keys) -> Result<ModelSpec> {
    Ok(decoder(keys, None)?.0)
}

/// The decoder, and what it was built with. Granite 4 has an MLP of `shared` columns under a name of its own, and turns queries and keys only
/// where its config says so.
pub(super) fn decoder(keys: &Keys, shared: Option<usize>) -> Result<(ModelSpec, Traits)> {
    let bias = keys.flag_or("attention_bias", false)?;
    let mlp_bias = keys.flag_or("mlp_bias", false)?;
    let traits = Traits { qkv_bias: bias, o_bias: bias, mlp_bias, ..Traits::LLAMA };
    let traits = match shared {
        None => traits,
        Some(_) => Traits {
            mlp: "shared_mlp.",
            up: Up::Joined("input_linear"),
            down: "output_linear",
            rope: traits.rope.filter(|_| keys.text("position_embedding_type") == Some("rope")),
            ..traits
        },
    };
    let sizes = Sizes::read(keys, &traits)?;
    let sizes = Sizes { ffn: shared.unwrap_or(sizes.ffn), ..sizes };
    let rope = traits.rope.map(|defaults| keys.rope(None, sizes.head_dim, &defaults)).transpose()?;
    let mut spec = build_with(keys, &traits, &sizes, rope.into_iter().collect())?;
    spec.embedding_scale = keys.number_or("embedding_multiplier", 1.0)? as f32;
    spec.logit_scale = (1.0 / keys.number_or("logits_scaling", 1.0)?) as f32;
    let scale = keys.number_or("attention_multiplier", 1.0)? as f32;
    spec.each_attention(|_, attention| attention.scale = scale);
    let residual = keys.number_or("residual_multiplier", 1.0)? as f32;
    spec.blocks.iter_mut().for_each(|block| block.residual_scale = residual);
    Ok((spec, traits))
}
