//! OLMo hybrid: three of four blocks are gated DeltaNets with norms before both halves, the others have attention with norms after them.

use super::build::{Modules, QkNorm, Traits, build};
use super::keys::{Keys, RopeDefaults};
use super::recurrent::{DeltaNames, delta, delta_heads};
use crate::error::Result;
use crate::spec::{ModelSpec, NormSpec, Role};

const NAMES: DeltaNames = DeltaNames {
    around: "linear_attn.",
    projections: &[
        ("q_proj", Role::Q),
        ("k_proj", Role::K),
        ("v_proj", Role::V),
        ("g_proj", Role::In),
        ("b_proj", Role::In),
        ("a_proj", Role::In),
    ],
    grouped: false,
    conv: &["q_conv1d", "k_conv1d", "v_conv1d"],
    norm: "o_norm",
    o: "o_proj",
};

/// The first of these names that the checkpoint has.
fn named(keys: &Keys, m: &Modules, names: [&str; 2], norm: Option<&NormSpec>) -> Option<NormSpec> {
    let found = names.iter().map(|name| m.name(name)).find(|name| keys.has(name) == Some(true));
    norm.map(|norm| NormSpec { name: found.unwrap_or_else(|| m.name(names[0])), ..norm.clone() })
}

/// `olmo_hybrid`.
pub(super) fn olmo_hybrid(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let turns = keys.get("rope_parameters").is_some_and(|found| found.get("rope_theta").is_some_and(|x| !x.is_null()));
    let traits = Traits {
        qkv_bias: bias,
        o_bias: bias,
        norms: Traits::AFTER,
        qk_norm: Some((QkNorm::Row, ["q_norm", "k_norm"])),
        rope: turns.then_some(RopeDefaults { positions: 65536, ..RopeDefaults::LLAMA }),
        longest: 65536,
        ..Traits::LLAMA
    };
    let mut spec = build(keys, traits)?;
    let rule = |layer: usize| if layer % 4 == 3 { "full_attention" } else { "linear_attention" };
    let kinds = keys.kinds("layer_types", spec.blocks.len(), &["full_attention", "linear_attention"], rule)?;
    let (hidden, all) = (spec.hidden, keys.size(&["num_attention_heads"])?);
    let of_keys = keys.size_or(&["linear_num_key_heads"], all)?;
    let width = (3 * hidden / 4 / of_keys).max(1);
    let width = keys.size_or(&["linear_key_head_dim"], width)?;
    let heads = delta_heads(keys, [all, all, width, 2 * width])?;
    let beta = if keys.flag_or("linear_allow_neg_eigval", true)? { 2.0 } else { 1.0 };
    let linear = |layer: usize| kinds[layer] == "linear_attention";
    spec.put_mixers(&traits, linear, |m| delta(keys, m, &NAMES, &heads, hidden, beta, 1e-5))?;
    for (layer, block) in spec.blocks.iter_mut().enumerate() {
        let m = Modules::of(&spec.embedding, &traits, layer);
        let norm = block.norm_mixed.take();
        // transformers 5 writes the first norms of its attention blocks under a name that its DeltaNets have for another.
        let after = ["post_attention_layernorm", "feedforward_layer_norm"];
        if linear(layer) {
            let names = ["attention_layer_norm", "input_layernorm"];
            block.norm_in = named(keys, &m, names, norm.as_ref());
            block.norm_ffn = named(keys, &m, [after[1], after[0]], norm.as_ref());
            block.norm_out = None;
        } else {
            block.norm_mixed = named(keys, &m, after, norm.as_ref());
        }
    }
    Ok(spec)
}
