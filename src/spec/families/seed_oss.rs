//! Seed-OSS: Llama with biases on queries, keys and values.

use super::build::{HeadDim, Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `seed_oss`.
pub(super) fn seed_oss(keys: &Keys) -> Result<ModelSpec> {
    build(
        keys,
        Traits {
            qkv_bias: keys.flag_or("attention_bias", true)?,
            o_bias: keys.flag_or("attention_out_bias", false)?,
            mlp_bias: keys.flag_or("mlp_bias", false)?,
            head_dim: HeadDim::Is(128),
            rope: Some(RopeDefaults { positions: 524_288, ..RopeDefaults::LLAMA }),
            ..Traits::LLAMA
        },
    )
}
