//! Muse Glimmer: Gemma's norms, gated attention, queries and keys normalized without weights.

use super::build::{Modules, QkNorm, Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{ModelSpec, NormSpec, Role};

/// `muse_glimmer_text`.
pub(super) fn text(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let traits = Traits {
        qkv_bias: bias,
        o_bias: bias,
        norms: Traits::SANDWICH,
        eps: 1e-5,
        plus_one: true,
        activation: ("hidden_activation", "silu"),
        qk_norm: Some((QkNorm::Head, ["q_norm", "k_norm"])),
        rope: Some(RopeDefaults { positions: 131_072, ..RopeDefaults::LLAMA }),
        ..Traits::LLAMA
    };
    let mut spec = build(keys, traits)?;
    let layers = spec.blocks.len();
    let after = keys.number_or("post_norm_eps", 1e-8)? as f32;
    for norm in spec.blocks.iter_mut().flat_map(|block| [&mut block.norm_mixed, &mut block.norm_out]).flatten() {
        norm.eps = after;
    }
    // Every fourth block, counted from the last, sees everything and has no rotary embedding.
    let whole = |layer: usize| (layers - 1 - layer).is_multiple_of(4);
    let window = Some(keys.size_or(&["sliding_window"], 2048)?);
    spec.set_windows(&keys.windows(layers, window, |layer| !whole(layer))?);
    let thetas = keys.list("layer_rope_theta", layers)?;
    let turns = |layer: usize| thetas.as_ref().map_or(!whole(layer), |thetas| thetas[layer] != 0.0);
    let factor = keys.number_or("qk_scale_factor", 3.87)? as f32;
    let (embedding, hidden) = (spec.embedding.clone(), spec.hidden);
    spec.each_attention(|layer, attention| {
        attention.rope = turns(layer).then_some(0);
        attention.scale *= factor;
        for norm in [&mut attention.q_norm, &mut attention.k_norm].into_iter().flatten() {
            (norm.weight, norm.plus_one) = (false, false);
        }
        let m = Modules::of(&embedding, &traits, layer);
        let shape = [attention.width(), hidden];
        attention.gate = Some(m.linear("self_attn.gate_proj", Role::Other, shape, false));
    });
    if let Some(norm) = &mut spec.norm {
        norm.plus_one = false;
        let name = format!("{}.embed_norm", embedding.name);
        spec.embedding_norm = Some(NormSpec { name, weight: false, ..norm.clone() });
    }
    spec.logit_scale = keys.number_or("output_multiplier", 0.196_116_135_138_184_04)? as f32;
    spec.logit_cap = keys.number_or("final_logit_softcapping", 20.0)? as f32;
    Ok(spec)
}
