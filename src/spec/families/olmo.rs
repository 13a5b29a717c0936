//! OLMo 1, 2 and 3.

use super::build::{QkNorm, Sizes, Traits, build, build_with};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{ModelSpec, NormKind};

/// `olmo`: LayerNorms without weights, clipped projections.
pub(super) fn olmo(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    // Its ε is no setting.
    let mut spec = build(
        keys,
        Traits {
            qkv_bias: bias,
            o_bias: bias,
            kind: NormKind::Layer,
            norm_weight: false,
            eps_key: "",
            eps: 1e-5,
            ..Traits::LLAMA
        },
    )?;
    let clip = keys.number_or_null("clip_qkv", 0.0)?;
    spec.each_attention(|_, attention| attention.clip = clip);
    Ok(spec)
}

/// Norms after both halves alone, and of whole rows of queries and keys.
fn olmo2_traits(keys: &Keys, rope: RopeDefaults) -> Result<Traits> {
    let bias = keys.flag_or("attention_bias", false)?;
    Ok(Traits {
        qkv_bias: bias,
        o_bias: bias,
        norms: Traits::AFTER,
        eps: 1e-5,
        qk_norm: Some((QkNorm::Row, ["q_norm", "k_norm"])),
        rope: Some(rope),
        ..Traits::LLAMA
    })
}

/// `olmo2`.
pub(super) fn olmo2(keys: &Keys) -> Result<ModelSpec> {
    build(keys, olmo2_traits(keys, RopeDefaults::LLAMA)?)
}

/// `olmo3`: windows but in every fourth block, with a rotary embedding of their own.
pub(super) fn olmo3(keys: &Keys) -> Result<ModelSpec> {
    let full = RopeDefaults { theta: 5e5, ..RopeDefaults::LLAMA };
    let traits = olmo2_traits(keys, full)?;
    let sizes = Sizes::read(keys, &traits)?;
    let local = RopeDefaults { shared: false, ..full };
    let ropes = vec![
        keys.rope(Some("full_attention"), sizes.head_dim, &full)?,
        keys.rope(Some("sliding_attention"), sizes.head_dim, &local)?,
    ];
    let mut spec = build_with(keys, &traits, &sizes, ropes)?;
    let window = Some(keys.size_or(&["sliding_window"], 4096)?);
    spec.set_windows(&keys.windows(sizes.layers, window, |layer| !(layer + 1).is_multiple_of(4))?);
    spec.each_attention(|_, attention| attention.rope = Some(usize::from(attention.window.is_some())));
    Ok(spec)
}
