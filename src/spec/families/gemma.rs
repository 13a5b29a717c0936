//! Gemma 1, 2 and 3: scaled embeddings, norms with 1 + w, a head that is the embedding.

use super::build::{HeadDim, QkNorm, Sizes, Traits, build, build_with};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

const ROPE: RopeDefaults = RopeDefaults { positions: 8192, ..RopeDefaults::LLAMA };

const GEMMA: Traits = Traits {
    plus_one: true,
    head_dim: HeadDim::Is(256),
    activation: ("hidden_activation", "gelu_pytorch_tanh"),
    tied: true,
    rope: Some(ROPE),
    ..Traits::LLAMA
};

/// `gemma`.
pub(super) fn gemma(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    // `gelu` is what the first configs say; transformers takes it for the approximation that the model was trained with.
    let key = if keys.text("hidden_act") == Some("gelu") { "hidden_activation" } else { "hidden_act" };
    let activation = (key, "gelu_pytorch_tanh");
    let mut spec = build(keys, Traits { qkv_bias: bias, o_bias: bias, activation, ..GEMMA })?;
    spec.embedding_scale = (spec.hidden as f32).sqrt();
    Ok(spec)
}

/// `gemma2`: norms after both halves too, caps, a window in every second block.
pub(super) fn gemma2(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let mut spec = build(keys, Traits { qkv_bias: bias, o_bias: bias, norms: Traits::SANDWICH, ..GEMMA })?;
    let cap = keys.number_or_null("attn_logit_softcapping", 50.0)?;
    spec.each_attention(|_, attention| attention.softcap = cap);
    finish(keys, spec, 2, 30.0)
}

/// `gemma3_text`: two rotary embeddings, norms of queries and keys.
pub(super) fn gemma3(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let full = RopeDefaults { theta: 1e6, positions: 131_072, ..RopeDefaults::LLAMA };
    let traits = Traits {
        qkv_bias: bias,
        o_bias: bias,
        norms: Traits::SANDWICH,
        qk_norm: Some((QkNorm::Head, ["q_norm", "k_norm"])),
        rope: Some(full),
        ..GEMMA
    };
    let sizes = Sizes::read(keys, &traits)?;
    let local = RopeDefaults { theta: 1e4, theta_key: "rope_local_base_freq", shared: false, ..full };
    let ropes = vec![
        keys.rope(Some("full_attention"), sizes.head_dim, &full)?,
        keys.rope(Some("sliding_attention"), sizes.head_dim, &local)?,
    ];
    let spec = build_with(keys, &traits, &sizes, ropes)?;
    let pattern = keys.size_or(&["sliding_window_pattern", "_sliding_window_pattern"], 6)?;
    let mut spec = finish(keys, spec, pattern, 0.0)?;
    spec.each_attention(|_, attention| attention.rope = Some(usize::from(attention.window.is_some())));
    Ok(spec)
}

/// Windows but for every block number `pattern`, the scale of scores and the cap of logits.
fn finish(keys: &Keys, mut spec: ModelSpec, pattern: usize, cap: f64) -> Result<ModelSpec> {
    let window = Some(keys.size_or(&["sliding_window"], 4096)?);
    spec.set_windows(&keys.windows(spec.blocks.len(), window, |layer| !(layer + 1).is_multiple_of(pattern))?);
    let scale = keys.number_or("query_pre_attn_scalar", 256.0)?.powf(-0.5) as f32;
    spec.each_attention(|_, attention| attention.scale = scale);
    spec.embedding_scale = (spec.hidden as f32).sqrt();
    spec.logit_cap = keys.number_or_null("final_logit_softcapping", cap)?;
    Ok(spec)
}
