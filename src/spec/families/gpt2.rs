//! GPT-2, and GPT-3 as the LoRA paper counts it.

use super::build::{Qkv, Traits, Up, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::ModelSpec;

/// GPT-2's own.
pub(super) const GPT2: Traits = Traits {
    stem: "transformer.",
    embedding: "wte",
    positions: Some(("wpe", 0)),
    layers: "h",
    norm: Some("ln_f"),
    norms: [Some("ln_1"), None, Some("ln_2"), None],
    attention: "attn",
    qkv: Qkv::Joined("c_attn"),
    o: "c_proj",
    up: Up::Plain("c_fc"),
    down: "c_proj",
    transposed: true,
    activation: ("activation_function", "gelu_new"),
    kv_keys: &[],
    widen: 4,
    tied: true,
    rope: None,
    longest: 1024,
    ..Traits::LLAMA.layer_norm("layer_norm_epsilon").biased(true)
};

/// `gpt2`.
pub(super) fn gpt2(keys: &Keys) -> Result<ModelSpec> {
    scaled(keys, GPT2)
}

/// `gpt3`: no model of transformers. Queries, keys and values are three matrices, with which the paper's counts agree.
pub(super) fn gpt3(keys: &Keys) -> Result<ModelSpec> {
    let llama = Traits::LLAMA;
    let mut spec = scaled(
        keys,
        Traits {
            positions: Some(("embed_positions", 0)),
            embedding: llama.embedding,
            stem: llama.stem,
            layers: llama.layers,
            norm: llama.norm,
            norms: llama.norms,
            attention: llama.attention,
            qkv: llama.qkv,
            o: llama.o,
            up: Up::Plain("up_proj"),
            down: llama.down,
            transposed: false,
            ..GPT2
        },
    )?;
    spec.not_run = Some("GPT-3 is known by its sizes alone: there are no weights of it".to_owned());
    Ok(spec)
}

fn scaled(keys: &Keys, traits: Traits) -> Result<ModelSpec> {
    let mut spec = build(keys, traits)?;
    let plain = !keys.flag_or("scale_attn_weights", true)?;
    let by_layer = keys.flag_or("scale_attn_by_inverse_layer_idx", false)?;
    spec.each_attention(|layer, attention| {
        let scale = if plain { 1.0 } else { (attention.head_dim as f64).powf(-0.5) };
        attention.scale = (if by_layer { scale / (layer + 1) as f64 } else { scale }) as f32;
    });
    Ok(spec)
}
