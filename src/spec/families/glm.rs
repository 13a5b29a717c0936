//! GLM-4: neighbouring dimensions turn together, half of each head.

use super::build::{HeadDim, Traits, Up, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

fn traits(keys: &Keys) -> Result<Traits> {
    let rope = RopeDefaults {
        partial: 0.5,
        partial_key: Some("partial_rotary_factor"),
        positions: 131_072,
        interleaved: true,
        ..RopeDefaults::LLAMA
    };
    Ok(Traits {
        qkv_bias: keys.flag_or("attention_bias", true)?,
        eps: 1.5625e-7,
        head_dim: HeadDim::Is(128),
        up: Up::Joined("gate_up_proj"),
        rope: Some(rope),
        ..Traits::LLAMA
    })
}

/// `glm`.
pub(super) fn glm(keys: &Keys) -> Result<ModelSpec> {
    build(keys, traits(keys)?)
}

/// `glm4`: norms after both halves too.
pub(super) fn glm4(keys: &Keys) -> Result<ModelSpec> {
    let norms = ["input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"];
    build(keys, Traits { norms: norms.map(Some), ..traits(keys)? })
}
