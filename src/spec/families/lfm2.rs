//! LFM2: short convolutions, and attention in some blocks.

use super::build::{QkNorm, Sizes, Traits, Up, build_with};
use super::keys::{Keys, RopeDefaults};
use super::recurrent::parts;
use crate::error::Result;
use crate::spec::{ConvSpec, Mixer, ModelSpec, RecurrenceKind, RecurrenceSpec, Role};

/// `lfm2`.
pub(super) fn lfm2(keys: &Keys) -> Result<ModelSpec> {
    let given = keys.size_or(&["block_ff_dim", "intermediate_size"], 12288)?;
    let width = if keys.flag_or("block_auto_adjust_ff_dim", true)? {
        let share = 2 * given / 3;
        match keys.number_or_null("block_ffn_dim_multiplier", 1.0)? {
            0.0 => share,
            times => {
                let multiple = keys.size_or(&["block_multiple_of"], 256)?;
                ((f64::from(times) * share as f64) as usize).div_ceil(multiple).saturating_mul(multiple)
            }
        }
    } else {
        given
    };
    if width == 0 || width > 1 << 24 {
        return Err(keys.wrong(format!("found an MLP of {width} columns, expected 1 to {}", 1 << 24)));
    }
    decoder(keys, width).map(|(spec, _)| spec)
}

/// With MLPs of `width` columns, and what it was built with.
pub(super) fn decoder(keys: &Keys, width: usize) -> Result<(ModelSpec, Traits)> {
    let rope = RopeDefaults { theta: 1e6, positions: 128_000, ..RopeDefaults::LLAMA };
    let traits = Traits {
        norm: Some("embedding_norm"),
        norms: [Some("operator_norm"), None, Some("ffn_norm"), None],
        eps_key: "norm_eps",
        eps: 1e-5,
        qk_norm: Some((QkNorm::Head, ["q_layernorm", "k_layernorm"])),
        o: "out_proj",
        mlp: "feed_forward.",
        up: Up::Gated(["w1", "w3"]),
        down: "w2",
        activation: ("", "silu"),
        tied: keys.flag_or("tie_embedding", true)?,
        rope: Some(rope),
        ..Traits::LLAMA
    };
    let sizes = Sizes { ffn: width, ..Sizes::read(keys, &traits)? };
    let rope = keys.rope(None, sizes.head_dim, &rope)?;
    let mut spec = build_with(keys, &traits, &sizes, vec![rope])?;
    let listed = keys.get("full_attn_idxs").and_then(serde_json::Value::as_array).cloned();
    let full =
        |layer: usize| listed.as_ref().is_none_or(|list| list.iter().any(|at| at.as_u64() == Some(layer as u64)));
    let rule = |layer: usize| if full(layer) { "full_attention" } else { "conv" };
    let kinds = keys.kinds("layer_types", sizes.layers, &["full_attention", "conv"], rule)?;
    let kernel = keys.size_or(&["conv_L_cache"], 3)?;
    let bias = keys.flag_or("conv_bias", false)?;
    let hidden = sizes.hidden;
    spec.put_mixers(
        &traits,
        |layer| kinds[layer] == "conv",
        |m| {
            Ok(Mixer::Recurrence(RecurrenceSpec {
                kind: RecurrenceKind::Short,
                key_heads: 1,
                value_heads: 1,
                key_dim: 0,
                value_dim: hidden,
                projections: parts([m.linear("conv.in_proj", Role::In, [3 * hidden, hidden], bias)]),
                grouped: false,
                scales: Vec::new(),
                conv: ConvSpec { names: vec![m.name("conv.conv")], kernel, bias },
                vectors: Vec::new(),
                norm: None,
                o: m.linear("conv.out_proj", Role::O, [hidden, hidden], bias),
            }))
        },
    )?;
    Ok((spec, traits))
}
