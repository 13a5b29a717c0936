//! Ministral and Ministral 3.

use super::build::{HeadDim, Traits, build};
use super::keys::{Keys, RopeDefaults};
use super::mistral::{MISTRAL, windowed};
use crate::error::Result;
use crate::spec::{ModelSpec, QueryScaling};
use serde_json::json;

/// `ministral`: a list says which blocks have the window.
pub(super) fn ministral(keys: &Keys) -> Result<ModelSpec> {
    let mut spec = build(keys, MISTRAL)?;
    let window = keys.size_maybe(&["sliding_window"])?;
    spec.set_windows(&keys.windows(spec.blocks.len(), window, |_| true)?);
    Ok(spec)
}

/// `ministral3`: queries grow with their position.
pub(super) fn ministral3(keys: &Keys) -> Result<ModelSpec> {
    let rope = RopeDefaults { theta: 1e6, positions: 262_144, ..RopeDefaults::LLAMA };
    let mut spec = windowed(keys, Traits { eps: 1e-5, head_dim: HeadDim::Is(128), rope: Some(rope), ..Traits::LLAMA })?;
    let usual = json!({"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16384});
    let parameters = keys.get("rope_parameters").or_else(|| keys.get("rope_scaling")).unwrap_or(&usual);
    let number = |key: &str| parameters.get(key).and_then(serde_json::Value::as_f64);
    let (beta, original) = (number("llama_4_scaling_beta"), number("original_max_position_embeddings"));
    match (beta, original) {
        (None | Some(0.0), _) => {}
        (Some(beta), Some(original)) if original >= 1.0 => {
            let scaling = QueryScaling { beta: beta as f32, original: original as usize, shift: 0 };
            spec.each_attention(|_, attention| attention.query_scaling = Some(scaling));
        }
        _ => keys.refuse("llama_4_scaling_beta without original_max_position_embeddings is not supported"),
    }
    if keys.get("rope_parameters").or_else(|| keys.get("rope_scaling")).is_none() {
        keys.refuse("a Ministral 3 without rope_parameters is not supported");
    }
    Ok(spec)
}
