//! Phi-3 and Phi-4: one projection for queries, keys and values, one for gate and up.

use super::build::{Qkv, Traits, Up, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `phi3`.
pub(super) fn phi3(keys: &Keys) -> Result<ModelSpec> {
    let rope = RopeDefaults {
        positions: 4096,
        original: Some(4096),
        partial_key: Some("partial_rotary_factor"),
        longrope: true,
        ..RopeDefaults::LLAMA
    };
    let (qkv, up) = (Qkv::Joined("qkv_proj"), Up::Joined("gate_up_proj"));
    let mut spec = build(keys, Traits { qkv, up, eps: 1e-5, rope: Some(rope), ..Traits::LLAMA })?;
    let window = keys.size_maybe(&["sliding_window"])?;
    spec.set_windows(&vec![window; spec.blocks.len()]);
    Ok(spec)
}
