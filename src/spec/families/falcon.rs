//! Falcon: rotary embeddings, or the older linear biases; queries in groups with their key and value; two norms of the block's input, or one.

use super::build::{Qkv, Traits, Up, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `falcon`.
pub(super) fn falcon(keys: &Keys) -> Result<ModelSpec> {
    let newer = keys.flag_or("new_decoder_architecture", false)?;
    let one_key = keys.flag_or("multi_query", true)?;
    let parallel = keys.flag_or("parallel_attn", true)? || newer;
    let alibi = keys.flag_or("alibi", false)?;
    let two = newer && keys.size_or(&["num_ln_in_parallel_attn"], 2)? == 2;
    let norms = match (parallel, two) {
        (true, true) => [Some("ln_attn"), None, Some("ln_mlp"), None],
        (true, false) => Traits::ONE,
        (false, _) => Traits::LLAMA.norms,
    };
    let mut spec = build(
        keys,
        Traits {
            stem: "transformer.",
            embedding: "word_embeddings",
            layers: "h",
            norm: Some("ln_f"),
            norms,
            attention: "self_attention",
            qkv: Qkv::Grouped("query_key_value"),
            o: "dense",
            up: Up::Plain("dense_h_to_4h"),
            down: "dense_4h_to_h",
            activation: ("activation", "gelu"),
            parallel,
            kv_keys: &["num_kv_heads"],
            one_key: one_key && !newer,
            widen: 4,
            tied: true,
            rope: (!alibi).then_some(RopeDefaults::LLAMA),
            ..Traits::LLAMA.layer_norm("layer_norm_epsilon").biased(keys.flag_or("bias", false)?)
        },
    )?;
    if alibi {
        // They are added before scores are scaled.
        spec.each_attention(|_, attention| (attention.alibi, attention.alibi_rounded) = (attention.scale, true));
    }
    Ok(spec)
}
