//! StarCoder 2: LayerNorms and biases, an MLP without gate.

use super::build::{Traits, Up};
use super::keys::{Keys, RopeDefaults};
use super::mistral::windowed;
use crate::error::Result;
use crate::spec::ModelSpec;

/// `starcoder2`.
pub(super) fn starcoder2(keys: &Keys) -> Result<ModelSpec> {
    let traits = Traits {
        up: Up::Plain("c_fc"),
        down: "c_proj",
        activation: ("hidden_act", "gelu_pytorch_tanh"),
        tied: true,
        rope: Some(RopeDefaults { positions: 4096, ..RopeDefaults::LLAMA }),
        ..Traits::LLAMA.layer_norm("norm_epsilon").biased(keys.flag_or("use_bias", true)?)
    };
    windowed(keys, traits)
}
