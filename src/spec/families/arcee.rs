//! Arcee's AFM: Llama with a squared ReLU in place of the gate.

use super::build::{Traits, Up, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `arcee`.
pub(super) fn arcee(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    build(
        keys,
        Traits {
            qkv_bias: bias,
            o_bias: bias,
            mlp_bias: keys.flag_or("mlp_bias", false)?,
            eps: 1e-5,
            up: Up::Plain("up_proj"),
            activation: ("hidden_act", "relu2"),
            rope: Some(RopeDefaults { positions: 4096, ..RopeDefaults::LLAMA }),
            ..Traits::LLAMA
        },
    )
}
