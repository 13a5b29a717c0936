//! BLOOM: attention with linear biases, a norm of the embeddings.

use super::build::{Qkv, Traits, Up, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::{ModelSpec, NormSpec};

/// `bloom`.
pub(super) fn bloom(keys: &Keys) -> Result<ModelSpec> {
    let normed = keys.flag_or("apply_residual_connection_post_layernorm", false)?;
    let mut spec = build(
        keys,
        Traits {
            stem: "transformer.",
            embedding: "word_embeddings",
            layers: "h",
            norm: Some("ln_f"),
            attention: "self_attention",
            qkv: Qkv::Grouped("query_key_value"),
            o: "dense",
            up: Up::Plain("dense_h_to_4h"),
            down: "dense_4h_to_h",
            // Its function is no setting.
            activation: ("", "gelu_new"),
            kv_keys: &[],
            widen: 4,
            tied: true,
            rope: None,
            longest: keys.size_or(&["seq_length"], 2048)?,
            ..Traits::LLAMA.layer_norm("layer_norm_epsilon").biased(true)
        },
    )?;
    spec.each_attention(|_, attention| attention.alibi = 1.0);
    spec.blocks.iter_mut().for_each(|block| block.normed = normed);
    let name = format!("{}_layernorm", spec.embedding.name);
    spec.embedding_norm = spec.norm.clone().map(|norm| NormSpec { name, ..norm });
    Ok(spec)
}
