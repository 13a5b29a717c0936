//! OPT: learned positions from row 2 on, ReLU.

use super::build::{Traits, Up, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::ModelSpec;

/// `opt`.
pub(super) fn opt(keys: &Keys) -> Result<ModelSpec> {
    let affine = keys.flag_or("layer_norm_elementwise_affine", true)?;
    let before = keys.flag_or("do_layer_norm_before", true)?;
    let last = before && !keys.flag_or("_remove_final_layer_norm", false)?;
    if !before {
        keys.refuse("do_layer_norm_before false is not supported");
    }
    let mut spec = build(
        keys,
        Traits {
            stem: "model.decoder.",
            positions: Some(("embed_positions", 2)),
            norm: last.then_some("final_layer_norm"),
            norms: [Some("self_attn_layer_norm"), None, Some("final_layer_norm"), None],
            norm_weight: affine,
            norm_bias: affine,
            // Its ε is no setting.
            eps_key: "",
            o: "out_proj",
            mlp: "",
            up: Up::Plain("fc1"),
            down: "fc2",
            activation: ("activation_function", "relu"),
            kv_keys: &[],
            tied: true,
            rope: None,
            ..Traits::LLAMA.layer_norm("").biased(keys.flag_or("enable_bias", true)?)
        },
    )?;
    let projected = keys.size_or(&["word_embed_proj_dim"], spec.hidden)?;
    if projected != spec.hidden {
        keys.refuse("word_embed_proj_dim other than hidden_size is not supported");
        spec.embedding.shape[1] = projected;
        spec.undescribed = 2 * (projected * spec.hidden) as u64;
    }
    Ok(spec)
}
