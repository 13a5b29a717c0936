//! StarCoder: GPT-2 with one key and value for all heads.

use super::build::{Qkv, Traits, build};
use super::gpt2::GPT2;
use super::keys::Keys;
use crate::error::Result;
use crate::spec::ModelSpec;

/// `gpt_bigcode`.
pub(super) fn gpt_bigcode(keys: &Keys) -> Result<ModelSpec> {
    let one_key = keys.flag_or("multi_query", true)?;
    let qkv = if one_key { Qkv::Joined("c_attn") } else { Qkv::Grouped("c_attn") };
    let activation = ("activation_function", "gelu_pytorch_tanh");
    let mut spec = build(keys, Traits { qkv, one_key, transposed: false, activation, ..GPT2 })?;
    if !keys.flag_or("scale_attn_weights", true)? {
        spec.each_attention(|_, attention| attention.scale = 1.0);
    }
    Ok(spec)
}
