//! Helium: Llama whose neighbouring dimensions turn together.

use super::build::{HeadDim, Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `helium`.
pub(super) fn helium(keys: &Keys) -> Result<ModelSpec> {
    build(
        keys,
        Traits {
            qkv_bias: keys.flag_or("attention_bias", false)?,
            mlp_bias: keys.flag_or("mlp_bias", false)?,
            eps: 1e-8,
            head_dim: HeadDim::Is(128),
            rope: Some(RopeDefaults { theta: 1e5, positions: 4096, interleaved: true, ..RopeDefaults::LLAMA }),
            ..Traits::LLAMA
        },
    )
}
