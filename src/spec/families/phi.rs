//! Phi 1, 1.5 and 2: one LayerNorm for both halves, biases everywhere, half of each head turns.

use super::build::{QkNorm, Traits, Up, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `phi`.
pub(super) fn phi(keys: &Keys) -> Result<ModelSpec> {
    let rope = RopeDefaults { partial: 0.5, partial_key: Some("partial_rotary_factor"), ..RopeDefaults::LLAMA };
    let normed = keys.flag_or("qk_layernorm", false)?;
    build(
        keys,
        Traits {
            norm: Some("final_layernorm"),
            norms: Traits::ONE,
            parallel: true,
            o: "dense",
            up: Up::Plain("fc1"),
            down: "fc2",
            qk_norm: normed.then_some((QkNorm::Head, ["q_layernorm", "k_layernorm"])),
            head_bias: true,
            activation: ("hidden_act", "gelu_new"),
            rope: Some(rope),
            ..Traits::LLAMA.layer_norm("layer_norm_eps").biased(true)
        },
    )
}
