//! StableLM: LayerNorms, a quarter of each head turns.

use super::build::{Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `stablelm`. With `qk_layernorm` every head has a norm of its own, which is not computed here.
pub(super) fn stablelm(keys: &Keys) -> Result<ModelSpec> {
    let parallel = keys.flag_or("use_parallel_residual", false)?;
    let rope = RopeDefaults {
        partial: 0.25,
        partial_key: Some("partial_rotary_factor"),
        positions: 4096,
        ..RopeDefaults::LLAMA
    };
    build(
        keys,
        Traits {
            qkv_bias: keys.flag_or("use_qkv_bias", false)?,
            norms: if parallel { Traits::ONE } else { Traits::LLAMA.norms },
            parallel,
            rope: Some(rope),
            ..Traits::LLAMA.layer_norm("layer_norm_eps")
        },
    )
}
