//! GPT-Neo: scores without a scale, a window in every second block.

use super::build::{Traits, Up, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::ModelSpec;
use serde_json::Value;

/// `gpt_neo`.
pub(super) fn gpt_neo(keys: &Keys) -> Result<ModelSpec> {
    let mut spec = build(
        keys,
        Traits {
            stem: "transformer.",
            embedding: "wte",
            positions: Some(("wpe", 0)),
            layers: "h",
            norm: Some("ln_f"),
            norms: [Some("ln_1"), None, Some("ln_2"), None],
            attention: "attn.attention",
            o: "out_proj",
            o_bias: true,
            up: Up::Plain("c_fc"),
            down: "c_proj",
            mlp_bias: true,
            activation: ("activation_function", "gelu_new"),
            kv_keys: &[],
            widen: 4,
            tied: true,
            rope: None,
            ..Traits::LLAMA.layer_norm("layer_norm_epsilon")
        },
    )?;
    let layers = spec.blocks.len();
    let window = keys.size_or(&["window_size"], 256)?;
    let kinds = kinds(keys, layers).unwrap_or_default();
    if kinds.len() != layers || kinds.iter().any(|kind| !["global", "local"].contains(&kind.as_str())) {
        return Err(keys.wrong(format!(
            "found attention_types for {} blocks, expected global or local for {layers}",
            kinds.len()
        )));
    }
    spec.each_attention(|layer, attention| {
        attention.scale = 1.0;
        attention.window = (kinds[layer] == "local").then_some(window);
    });
    Ok(spec)
}

/// `[[["global", "local"], 12]]`, or the list that it means.
fn kinds(keys: &Keys, layers: usize) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(list) = keys.get("attention_layers") {
        return list.as_array()?.iter().map(text).collect();
    }
    let Some(types) = keys.get("attention_types") else {
        return Some((0..24).map(|layer| if layer % 2 == 0 { "global" } else { "local" }.to_owned()).collect());
    };
    let mut kinds = Vec::new();
    for item in types.as_array()? {
        let (names, times) = (item.get(0)?.as_array()?, item.get(1)?.as_u64()?);
        for _ in 0..times.min(layers as u64) {
            kinds.extend(names.iter().map(text).collect::<Option<Vec<_>>>()?);
        }
    }
    Some(kinds)
}
