//! GPT-NeoX and Pythia: two norms of the block's input, attention and MLP side by side.

use super::build::{Qkv, Traits, Up, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `gpt_neox`.
pub(super) fn gpt_neox(keys: &Keys) -> Result<ModelSpec> {
    let rope = RopeDefaults {
        theta_key: "rotary_emb_base",
        partial: 0.25,
        partial_key: Some("rotary_pct"),
        ..RopeDefaults::LLAMA
    };
    let bias = keys.flag_or("attention_bias", true)?;
    let traits = Traits {
        stem: "gpt_neox.",
        embedding: "embed_in",
        norm: Some("final_layer_norm"),
        head: "embed_out",
        attention: "attention",
        qkv: Qkv::Grouped("query_key_value"),
        o: "dense",
        up: Up::Plain("dense_h_to_4h"),
        down: "dense_4h_to_h",
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: true,
        activation: ("hidden_act", "gelu"),
        kv_keys: &[],
        parallel: keys.flag_or("use_parallel_residual", true)?,
        rope: Some(rope),
        ..Traits::LLAMA.layer_norm("layer_norm_eps")
    };
    build(keys, traits)
}
