//! EXAONE 4: norms after both halves alone; blocks without window have no rotary embedding.

use super::build::{QkNorm, Traits, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::ModelSpec;

/// `exaone4`.
pub(super) fn exaone4(keys: &Keys) -> Result<ModelSpec> {
    let norm = Some((QkNorm::Head, ["q_norm", "k_norm"]));
    let mut spec = build(keys, Traits { norms: Traits::AFTER, eps: 1e-5, qk_norm: norm, ..Traits::LLAMA })?;
    // `null` means that there is none.
    let window = keys.number_or_null("sliding_window", 4096.0)? as usize;
    let window = (window > 0).then_some(window);
    let pattern = keys.get("sliding_window_pattern");
    let letters = pattern.and_then(serde_json::Value::as_str).map(str::as_bytes).filter(|letters| !letters.is_empty());
    let every = pattern.and_then(serde_json::Value::as_u64).map_or(4, |every| every.max(1) as usize);
    let layers = spec.blocks.len();
    let rule = |layer: usize| match letters {
        Some(letters) => letters[layer % letters.len()] == b'L' && layer + 1 < layers,
        None => !(layer + 1).is_multiple_of(every),
    };
    spec.set_windows(&keys.windows(layers, window, rule)?);
    spec.each_attention(|_, attention| attention.rope = (window.is_none() || attention.window.is_some()).then_some(0));
    Ok(spec)
}
