//! Qwen 3.5 and Qwen3-Next: three of four blocks are gated DeltaNets, the others have attention whose output is gated.

use super::build::{HeadDim, QkNorm, Traits, build};
use super::experts::{Experts, qwen_blocks};
use super::keys::{Keys, RopeDefaults};
use super::recurrent::{DeltaNames, delta, delta_heads};
use crate::error::Result;
use crate::spec::{ModelSpec, Role};

const QWEN3_5: DeltaNames = DeltaNames {
    around: "linear_attn.",
    projections: &[
        ("in_proj_qkv", Role::Qkv),
        ("in_proj_z", Role::In),
        ("in_proj_b", Role::In),
        ("in_proj_a", Role::In),
    ],
    grouped: false,
    conv: &["conv1d"],
    norm: "norm",
    o: "out_proj",
};

const QWEN3_NEXT: DeltaNames =
    DeltaNames { projections: &[("in_proj_qkvz", Role::Qkv), ("in_proj_ba", Role::In)], grouped: true, ..QWEN3_5 };

/// `qwen3_next`: projections in groups of a key head, experts.
pub(super) fn qwen3_next(keys: &Keys) -> Result<ModelSpec> {
    let (mut spec, traits) = decoder(keys, &QWEN3_NEXT, true)?;
    let blocks = qwen_blocks(keys)?;
    experts(keys, [512, 10])?.put(keys, &mut spec, &traits, blocks)?;
    Ok(spec)
}

/// `qwen3_5_moe_text`: experts in every block.
pub(super) fn qwen3_5_moe(keys: &Keys) -> Result<ModelSpec> {
    let (mut spec, traits) = decoder(keys, &QWEN3_5, true)?;
    Experts { converted: false, ..experts(keys, [256, 8])? }.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// With an expert that every token goes through, behind a gate; so many, and so many of them chosen, where the config is silent.
fn experts(keys: &Keys, [count, chosen]: [usize; 2]) -> Result<Experts> {
    let width = keys.size_or(&["moe_intermediate_size"], 512)?;
    let (count, chosen) = (keys.size_or(&["num_experts"], count)?, keys.size_or(&["num_experts_per_tok"], chosen)?);
    let mut experts = Experts::new(count, chosen, width);
    let shared = keys.size_or(&["shared_expert_intermediate_size"], 512)?;
    experts.shared = Some(("mlp.shared_expert.", shared, Some("mlp.shared_expert_gate")));
    if !keys.flag_or("norm_topk_prob", true)? {
        keys.refuse("norm_topk_prob false is not supported for this model type");
    }
    Ok(experts)
}

/// `qwen3_5_text`.
pub(super) fn qwen3_5(keys: &Keys) -> Result<ModelSpec> {
    decoder(keys, &QWEN3_5, false).map(|(spec, _)| spec)
}

/// Attention, DeltaNets and MLPs, and what they are built with. Where experts take the place of all MLPs (`replaced`) the config need
/// not know their width.
fn decoder(keys: &Keys, names: &DeltaNames, replaced: bool) -> Result<(ModelSpec, Traits)> {
    let bias = keys.flag_or("attention_bias", false)?;
    let rope = RopeDefaults {
        partial: 0.25,
        partial_key: Some("partial_rotary_factor"),
        positions: 32768,
        mrope: true,
        ..RopeDefaults::LLAMA
    };
    let traits = Traits {
        qkv_bias: bias,
        o_bias: bias,
        plus_one: true,
        qk_norm: Some((QkNorm::Head, ["q_norm", "k_norm"])),
        head_dim: HeadDim::Is(256),
        widen: usize::from(replaced),
        rope: Some(rope),
        ..Traits::LLAMA
    };
    let mut spec = build(keys, traits)?;
    spec.each_attention(|_, attention| {
        attention.gated_queries = true;
        let query = attention.width();
        for (at, part) in attention.projections.iter_mut().enumerate() {
            if at == 0 {
                part.module.shape[0] += query;
            } else {
                part.offset += query;
            }
        }
    });
    let every = keys.size_or(&["full_attention_interval"], 4)?;
    let rule = |layer: usize| if (layer + 1).is_multiple_of(every) { "full_attention" } else { "linear_attention" };
    let kinds = keys.kinds("layer_types", spec.blocks.len(), &["full_attention", "linear_attention"], rule)?;
    let heads = delta_heads(keys, [16, 32, 128, 128])?;
    let eps = keys.number_or("rms_norm_eps", 1e-6)? as f32;
    let hidden = spec.hidden;
    spec.put_mixers(
        &traits,
        |layer| kinds[layer] == "linear_attention",
        |m| delta(keys, m, names, &heads, hidden, 1.0, eps),
    )?;
    Ok((spec, traits))
}
