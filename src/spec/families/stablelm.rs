//! StableLM: LayerNorms, a quarter of each head turns.

use super::build::{Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{ModelSpec, NormSpec};

/// `stablelm`.
pub(super) fn stablelm(keys: &Keys) -> Result<ModelSpec> {
    let parallel = keys.flag_or("use_parallel_residual", false)?;
    let rope = RopeDefaults {
        partial: 0.25,
        partial_key: Some("partial_rotary_factor"),
        positions: 4096,
        ..RopeDefaults::LLAMA
    };
    let mut spec = build(
        keys,
        Traits {
            qkv_bias: keys.flag_or("use_qkv_bias", false)?,
            norms: if parallel { Traits::ONE } else { Traits::LLAMA.norms },
            parallel,
            rope: Some(rope),
            ..Traits::LLAMA.layer_norm("layer_norm_eps")
        },
    )?;
    let norms = keys.flag_or("qk_layernorm", false)?;
    if let Some(norm) = spec.norm.clone().filter(|_| norms) {
        spec.put_head_norms(&NormSpec { bias: false, ..norm }, ["q_layernorm.norms.{}", "k_layernorm.norms.{}"]);
    }
    Ok(spec)
}
