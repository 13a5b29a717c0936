//! GPT-J: one LayerNorm for both halves, some neighbouring dimensions of each head turn, a head with a bias.

use super::build::{Sizes, Traits, Up, build_with};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `gptj`.
pub(super) fn gptj(keys: &Keys) -> Result<ModelSpec> {
    let rope = RopeDefaults { interleaved: true, ..RopeDefaults::LLAMA };
    let traits = Traits {
        stem: "transformer.",
        embedding: "wte",
        layers: "h",
        norm: Some("ln_f"),
        head_bias: true,
        norms: [Some("ln_1"), None, None, None],
        parallel: true,
        attention: "attn",
        o: "out_proj",
        up: Up::Plain("fc_in"),
        down: "fc_out",
        mlp_bias: true,
        activation: ("activation_function", "gelu_new"),
        kv_keys: &[],
        widen: 4,
        rope: Some(rope),
        ..Traits::LLAMA.layer_norm("layer_norm_epsilon")
    };
    let sizes = Sizes::read(keys, &traits)?;
    let turned = match keys.get("rotary_dim") {
        Some(_) => keys.size(&["rotary_dim"])?,
        None => 64,
    };
    if turned > sizes.head_dim {
        return Err(keys.wrong(format!("found rotary_dim {turned}, expected at most {} of a head", sizes.head_dim)));
    }
    build_with(keys, &traits, &sizes, vec![keys.rope(None, turned, &rope)?])
}
