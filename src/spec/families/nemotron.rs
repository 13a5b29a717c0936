//! Nemotron 3 and Minitron: LayerNorms with 1 + w, squared ReLU, half of each head turns.

use super::build::{Traits, Up, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `nemotron`.
pub(super) fn nemotron(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let rope = RopeDefaults {
        partial: 0.5,
        partial_key: Some("partial_rotary_factor"),
        positions: 4096,
        ..RopeDefaults::LLAMA
    };
    build(
        keys,
        Traits {
            qkv_bias: bias,
            o_bias: bias,
            mlp_bias: keys.flag_or("mlp_bias", false)?,
            plus_one: true,
            up: Up::Plain("up_proj"),
            activation: ("hidden_act", "relu2"),
            rope: Some(rope),
            ..Traits::LLAMA.layer_norm("norm_eps")
        },
    )
}
