//! Nemotron 3 and Nemotron-H: blocks of one half each, which is Mamba-2, attention, an MLP or experts.

use super::build::{HeadDim, Sizes, Traits, Up, build_with};
use super::experts::{CHOSEN, COUNT, Experts};
use super::keys::Keys;
use super::recurrent::Mamba;
use crate::error::Result;
use crate::spec::{Mixer, ModelSpec};
use serde_json::Value;

const KINDS: [&str; 4] = ["linear_attention", "moe", "full_attention", "mlp"];

/// What each block is, by a list of names or by a pattern of letters.
fn kinds(keys: &Keys) -> Result<Vec<&'static str>> {
    let pattern: Option<Vec<char>> = keys.text("hybrid_override_pattern").map(|pattern| pattern.chars().collect());
    let listed = keys.get("layers_block_type").and_then(Value::as_array).map(Vec::len);
    let layers = listed.or(pattern.as_ref().map(Vec::len)).unwrap_or(KINDS.len());
    let rule = |layer: usize| match pattern.as_ref().and_then(|pattern| pattern.get(layer)) {
        Some('M') => "linear_attention",
        Some('E') => "moe",
        Some('*') => "full_attention",
        Some('-') => "mlp",
        Some(other) => {
            keys.refuse(format!("block {other:?} in hybrid_override_pattern; supported are M, E, *, -"));
            "mlp"
        }
        None => KINDS[layer % KINDS.len()],
    };
    if layers == 0 {
        return Err(keys.wrong("found no blocks, expected one at least"));
    }
    keys.blocks(layers, 1)?;
    keys.kinds("layers_block_type", layers, &KINDS, rule)
}

/// `nemotron_h`.
pub(super) fn nemotron_h(keys: &Keys) -> Result<ModelSpec> {
    let kinds = kinds(keys)?;
    let traits = Traits {
        stem: "backbone.",
        embedding: "embeddings",
        norm: Some("norm_f"),
        norms: [Some("norm"), None, None, None],
        eps_key: "layer_norm_epsilon",
        eps: 1e-5,
        attention: "mixer",
        mlp: "mixer.",
        up: Up::Plain("up_proj"),
        mlp_bias: keys.flag_or("mlp_bias", false)?,
        activation: ("mlp_hidden_act", "relu2"),
        head_dim: HeadDim::Is(128),
        rope: None,
        longest: 4096,
        ..Traits::LLAMA
    };
    let sizes = Sizes::of_layers(keys, &traits, kinds.len())?;
    let mut spec = build_with(keys, &traits, &sizes, Vec::new())?;
    let hidden = sizes.hidden;
    let mut mamba =
        Mamba::read(keys, [128, 64, 8, 128, 4], 2 * hidden, keys.number_or("layer_norm_epsilon", 1e-5)? as f32)?;
    // Here alone the smallest step is a setting of its own.
    mamba.limit = [keys.number_or("time_step_min", 1e-3)? as f32, f32::INFINITY];
    spec.put_mixers(
        &traits,
        |layer| kinds[layer] == "linear_attention",
        |m| Ok(Mixer::Recurrence(mamba.spec(m, "mixer.", hidden))),
    )?;
    if kinds.contains(&"moe") {
        experts(keys, &mut spec, &traits, &kinds)?;
    }
    for (block, kind) in spec.blocks.iter_mut().zip(&kinds) {
        match *kind {
            "mlp" | "moe" => (block.mixer, block.norm_ffn) = (None, block.norm_in.take()),
            _ => block.ffn = None,
        }
    }
    Ok(spec)
}

fn experts(keys: &Keys, spec: &mut ModelSpec, traits: &Traits, kinds: &[&str]) -> Result<()> {
    if traits.mlp_bias {
        keys.refuse("mlp_bias true beside experts is not supported for nemotron_h");
    }
    if keys.get("moe_latent_size").is_some() {
        keys.refuse("experts behind a latent projection (moe_latent_size) are not supported for nemotron_h");
    }
    let width = keys.size_or(&["moe_intermediate_size"], 7688)?;
    let shared = keys.size_or(&["moe_shared_expert_intermediate_size"], 7688)?;
    let experts = Experts::new(keys.size_or(&COUNT, 8)?, keys.size_or(&CHOSEN, 2)?, width);
    let experts = Experts {
        router: "mixer.gate",
        module: "mixer.experts",
        expert: "mixer.experts.{}.",
        up: traits.up,
        shared: Some(("mixer.shared_experts.", shared, None)),
        shared_names: (traits.up, traits.down),
        bias: Some("mixer.gate.e_score_correction_bias"),
        converted: false,
        ..experts.sigmoid(keys, true, [1, 1], 1.0)?
    };
    experts.put(keys, spec, traits, |layer| kinds[layer] == "moe")
}
