//! InternLM 3: Llama under other names of its biases.

use super::build::{HeadDim, Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `internlm3`.
pub(super) fn internlm3(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("qkv_bias", keys.flag_or("attention_bias", false)?)?;
    let mlp_bias = keys.flag_or("bias", keys.flag_or("mlp_bias", false)?)?;
    if bias != mlp_bias {
        keys.refuse("qkv_bias different from bias is not supported");
    }
    build(
        keys,
        Traits {
            qkv_bias: bias,
            o_bias: bias,
            mlp_bias,
            eps: 1e-5,
            head_dim: HeadDim::Is(128),
            rope: Some(RopeDefaults { positions: 32768, ..RopeDefaults::LLAMA }),
            ..Traits::LLAMA
        },
    )
}
