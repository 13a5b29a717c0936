//! Llama 4: attention in chunks, blocks without rotary embedding whose queries grow, norms without weights after it, and experts
//! in some blocks whose weights multiply what they read.

use super::build::{HeadDim, QkNorm, Traits, build};
use super::experts::{CHOSEN, COUNT, Experts, SOFTMAX, Stack};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{ModelSpec, QueryScaling, Routing, Scores};
use serde_json::Value;

/// `llama4_text`.
pub(super) fn text(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let rope = RopeDefaults { theta: 5e5, positions: 131_072, interleaved: true, ..RopeDefaults::LLAMA };
    let traits = Traits {
        qkv_bias: bias,
        o_bias: bias,
        eps: 1e-5,
        head_dim: HeadDim::Is(128),
        mlp: "feed_forward.",
        qk_norm: keys.flag_or("use_qk_norm", true)?.then_some((QkNorm::Head, ["qk_norm", "qk_norm"])),
        rope: Some(rope),
        ..Traits::LLAMA
    };
    let mut spec = build(keys, traits)?;
    let layers = spec.blocks.len();
    let turns = turning(keys, layers)?;
    let chunk = if keys.holds_null("attention_chunk_size") {
        None
    } else {
        Some(keys.size_or(&["attention_chunk_size"], 8192)?)
    };
    let chunked = chunked(keys, &turns)?;
    let scaling = QueryScaling {
        beta: keys.number_or("attn_scale", 0.1)? as f32,
        original: keys.size_or(&["floor_scale"], 8192)?,
        shift: 1,
    };
    let tuned = match keys.get("attn_temperature_tuning") {
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        _ => keys.flag_or("attn_temperature_tuning", true)?,
    };
    spec.each_attention(|layer, attention| {
        attention.norm_after_rope = true;
        attention.chunk = chunk.filter(|_| chunked[layer]);
        for norm in attention.q_norm.iter_mut().chain(&mut attention.k_norm) {
            norm.weight = false;
        }
        if !turns[layer] {
            (attention.rope, attention.q_norm, attention.k_norm) = (None, None, None);
            attention.query_scaling = Some(scaling).filter(|_| tuned);
        }
    });
    let (width, dense) =
        (keys.size_or(&["intermediate_size"], 8192)?, keys.size_or(&["intermediate_size_mlp"], 16384)?);
    let has = mixtures(keys, layers)?;
    super::build::dense(&mut spec, &traits, dense, |layer| !has[layer]);
    let experts = Experts {
        router: "feed_forward.router",
        module: "feed_forward.experts",
        stack: Some(Stack { up: "gate_up_proj", down: "down_proj", transposed: true }),
        shared: Some(("feed_forward.shared_expert.", width, None)),
        routing: Routing { scores: Scores::Sigmoid, on_input: true, ..SOFTMAX },
        converted: false,
        swapped: true,
        ..Experts::new(keys.size_or(&COUNT, 16)?, keys.size_or(&CHOSEN, 1)?, width)
    };
    experts.put(keys, &mut spec, &traits, |layer| has[layer])?;
    Ok(spec)
}

/// Which blocks have a rotary embedding.
fn turning(keys: &Keys, layers: usize) -> Result<Vec<bool>> {
    let interval = keys.size_or(&["no_rope_layer_interval"], 4)?;
    let usual = || (0..layers).map(|layer| !(layer + 1).is_multiple_of(interval)).collect();
    match keys.get("no_rope_layers").and_then(Value::as_array).filter(|list| !list.is_empty()) {
        None => Ok(usual()),
        Some(_) => {
            let list = keys.list("no_rope_layers", layers)?.unwrap_or_default();
            Ok(list.iter().take(layers).map(|turns| *turns != 0.0).collect())
        }
    }
}

/// Which blocks see their own chunk alone.
fn chunked(keys: &Keys, turns: &[bool]) -> Result<Vec<bool>> {
    let Some(types) = keys.get("layer_types") else { return Ok(turns.to_vec()) };
    let names: Option<Vec<&str>> = types.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let names = names.filter(|names| names.len() == turns.len());
    let names =
        names.ok_or_else(|| keys.wrong(format!("found layer_types {types}, expected a name for each block")))?;
    if let Some(other) = names.iter().find(|name| !matches!(**name, "chunked_attention" | "full_attention")) {
        keys.refuse(format!("layer type {other:?}; supported are full_attention, chunked_attention"));
    }
    Ok(names.iter().map(|name| *name == "chunked_attention").collect())
}

/// Which blocks have experts.
fn mixtures(keys: &Keys, layers: usize) -> Result<Vec<bool>> {
    let step = keys.size_or(&["interleave_moe_layer_step"], 1)?;
    let usual = (0..layers).map(|layer| (layer + 1).is_multiple_of(step)).collect();
    let Some(list) = keys.get("moe_layers") else { return Ok(usual) };
    let named: Option<Vec<u64>> = list.as_array().and_then(|list| list.iter().map(Value::as_u64).collect());
    let named = named.ok_or_else(|| keys.wrong(format!("found moe_layers {list}, expected numbers of blocks")))?;
    Ok((0..layers).map(|layer| named.contains(&(layer as u64))).collect())
}
