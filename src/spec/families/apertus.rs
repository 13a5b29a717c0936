//! Apertus: norms of queries and keys, an MLP without gate whose nonlinearity has learned two numbers.

use super::build::{QkNorm, Traits, Up, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{Activation, FeedForward, ModelSpec};

/// `apertus`.
pub(super) fn apertus(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let mut spec = build(
        keys,
        Traits {
            qkv_bias: bias,
            o_bias: bias,
            norms: [Some("attention_layernorm"), None, Some("feedforward_layernorm"), None],
            eps: 1e-5,
            qk_norm: Some((QkNorm::Head, ["q_norm", "k_norm"])),
            up: Up::Plain("up_proj"),
            activation: ("hidden_act", "xielu"),
            rope: Some(RopeDefaults { theta: 12e6, positions: 65536, ..RopeDefaults::LLAMA }),
            ..Traits::LLAMA
        },
    )?;
    if keys.get("rope_parameters").or_else(|| keys.get("rope_scaling")).is_none() {
        keys.refuse("an Apertus without rope_parameters is not supported");
    }
    for block in &mut spec.blocks {
        if let Some(FeedForward::Dense(mlp)) = &mut block.ffn
            && mlp.activation == Activation::Xielu
        {
            let mlp_name = mlp.down.name.strip_suffix("down_proj").unwrap_or_default();
            mlp.scalars = Some(["alpha_p", "alpha_n"].map(|name| format!("{mlp_name}act_fn.{name}")));
        }
    }
    Ok(spec)
}
