//! Hybrids of attention and Mamba-2: Bamba, Falcon-H1.

use super::build::{Traits, build};
use super::keys::{Keys, RopeDefaults};
use super::recurrent::Mamba;
use crate::error::Result;
use crate::spec::{FeedForward, Mixer, ModelSpec};

/// Names that Bamba and Falcon-H1 have in common.
fn traits(keys: &Keys, rope: RopeDefaults) -> Result<Traits> {
    let bias = keys.flag_or("attention_bias", false)?;
    Ok(Traits {
        norm: Some("final_layernorm"),
        norms: [Some("input_layernorm"), None, Some("pre_ff_layernorm"), None],
        eps: 1e-5,
        qkv_bias: bias,
        o_bias: bias,
        mlp: "feed_forward.",
        mlp_bias: keys.flag_or("mlp_bias", false)?,
        rope: Some(rope),
        ..Traits::LLAMA
    })
}

/// `bamba`: attention in the blocks that are listed.
pub(super) fn bamba(keys: &Keys) -> Result<ModelSpec> {
    let rope = RopeDefaults {
        partial: 0.5,
        partial_key: Some("partial_rotary_factor"),
        positions: 262_144,
        ..RopeDefaults::LLAMA
    };
    let traits = traits(keys, rope)?;
    let mut spec = build(keys, traits)?;
    let listed = keys.get("attn_layer_indices").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    let rule = |layer: usize| match listed.iter().any(|at| at.as_u64() == Some(layer as u64)) {
        true => "full_attention",
        false => "linear_attention",
    };
    let kinds = keys.kinds("layer_types", spec.blocks.len(), &["full_attention", "linear_attention"], rule)?;
    let inner = keys.size_or(&["mamba_expand"], 2)?.saturating_mul(spec.hidden);
    let mamba = Mamba::read(keys, [128, 0, 1, 256, 4], inner, keys.number_or("rms_norm_eps", 1e-5)? as f32)?;
    let hidden = spec.hidden;
    spec.put_mixers(
        &traits,
        |layer| kinds[layer] == "linear_attention",
        |m| Ok(Mixer::Recurrence(mamba.spec(m, "mamba.", hidden))),
    )?;
    Ok(spec)
}

/// `falcon_h1`: both in every block, and a dozen multipliers.
pub(super) fn falcon_h1(keys: &Keys) -> Result<ModelSpec> {
    let traits = traits(keys, RopeDefaults { positions: 8192, ..RopeDefaults::LLAMA })?;
    let mut spec = build(keys, traits)?;
    let number = |key: &str| keys.number_or(key, 1.0).map(|x| x as f32);
    let (attention_in, key) = (number("attention_in_multiplier")?, number("key_multiplier")?);
    let (attention_out, ssm_in) = (number("attention_out_multiplier")?, number("ssm_in_multiplier")?);
    let ssm_out = number("ssm_out_multiplier")?;
    let of_mlp = keys.list("mlp_multipliers", 2)?.unwrap_or_else(|| vec![1.0; 2]);
    let of_parts = keys.list("ssm_multipliers", 5)?.unwrap_or_else(|| vec![1.0; 5]);
    spec.embedding_scale = number("embedding_multiplier")?;
    spec.logit_scale = number("lm_head_multiplier")?;
    let inner = match keys.holds_null("mamba_d_ssm") {
        true => keys.size_or(&["mamba_expand"], 2)?.saturating_mul(spec.hidden),
        false => keys.size_or(&["mamba_d_ssm"], 1024)?,
    };
    let mut mamba = Mamba::read(keys, [128, 0, 1, 256, 4], inner, keys.number_or("rms_norm_eps", 1e-5)? as f32)?;
    mamba.o_bias = keys.flag_or("projectors_bias", false)?;
    let first = keys.flag_or("mamba_norm_before_gate", true)?;
    mamba.norm = if keys.flag_or("mamba_rms_norm", false)? { mamba.norm.map(|(eps, _)| (eps, first)) } else { None };
    mamba.scales = of_parts.iter().map(|x| *x as f32).collect();
    let hidden = spec.hidden;
    for layer in 0..spec.blocks.len() {
        let m = super::build::Modules::of(&spec.embedding, &traits, layer);
        let block = &mut spec.blocks[layer];
        let Some(Mixer::Attention(mut attention)) = block.mixer.take() else { continue };
        for (part, scale) in attention.projections.iter_mut().zip([1.0, key, 1.0]) {
            part.module.scale = attention_in * scale;
        }
        attention.o.scale = attention_out;
        let mut recurrence = mamba.spec(&m, "mamba.", hidden);
        recurrence.projections[0].module.scale = ssm_in;
        recurrence.o.scale = ssm_out;
        block.mixer = Some(Mixer::Both(attention, recurrence));
        if let Some(FeedForward::Dense(mlp)) = &mut block.ffn {
            mlp.up[0].module.scale = of_mlp[0] as f32;
            mlp.down.scale = of_mlp[1] as f32;
        }
        if let Some(module) = block.modules().find(|module| module.bias && module.scale != 1.0) {
            keys.refuse(format!("{} with a bias and a multiplier is not supported", module.name));
        }
    }
    Ok(spec)
}
