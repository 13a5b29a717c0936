//! Files of a run: the adapter as PEFT reads it.

use super::Settings;
use crate::adapter::{NewAdapter, NewLayer, Pair, PeftConfig, Scaling};
use crate::checkpoint::Dtype;
pub use crate::checkpoint::write::{Planned, Tensor, can_store, write_lazily, write_tensors, write_whole};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::model::branch::{Beside, Lora};
use crate::model::{Decoder, Linear};
use std::path::Path;

/// Writes `adapter_model.safetensors` and `adapter_config.json` of a decoder's pairs, in `f32`.
///
/// With the `first` values of the parameters, what is written is the difference from them, as PEFT converts a PiSSA adapter:
/// `B A − B₀ A₀ = [B | −B₀] [A ; A₀]`, of rank 2r and the same scaling. It belongs to the base as it was before the pairs were
/// taken out of it.
///
/// # Errors
/// When there are no pairs, or a file cannot be written.
pub fn write_adapter(folder: &Path, decoder: &Decoder, settings: &Settings, first: Option<&[Vec<f32>]>) -> Result<()> {
    let pairs: Vec<(&Linear, &Lora)> = decoder.linears().filter_map(|linear| Some((linear, linear.pair()?))).collect();
    if pairs.is_empty() {
        return Err(Error::failure("there are no pairs to write an adapter of"));
    }
    let scaling = Scaling::new(settings.rslora);
    let layer = |(linear, lora): &(&Linear, &Lora)| {
        let (r, lora_alpha) = match first {
            None => (lora.r, lora.alpha),
            Some(_) => (2 * lora.r, scaling.alpha(scaling.factor(lora.alpha, lora.r), 2 * lora.r)),
        };
        let (module, magnitude) = (linear.module.clone(), magnitude(linear).is_some());
        NewLayer { module, shape: linear.shape, r, lora_alpha, magnitude, ..NewLayer::default() }
    };
    let base = std::path::absolute(&settings.model).unwrap_or_else(|_| settings.model.clone());
    let config = PeftConfig {
        scaling,
        lora_dropout: settings.dropout,
        base_model_name_or_path: Some(base.to_string_lossy().into_owned()),
        task_type: Some("CAUSAL_LM".to_owned()),
        fan_in_fan_out: decoder.spec.modules().any(|module| module.transposed),
        inference_mode: true,
        ..PeftConfig::default()
    };
    let adapter = NewAdapter {
        layers: pairs.iter().map(layer).collect(),
        modules: decoder.linears().map(|linear| linear.module.clone()).collect(),
        config,
        ..NewAdapter::default()
    };
    adapter.write(folder, Dtype::F32, &|at| {
        let (linear, lora) = pairs[at];
        let [out, inner] = linear.shape;
        let (b, a) = (decoder.params.value(lora.b), decoder.params.value(lora.a));
        let Some(first) = first else {
            let pair = (Matrix::new(out, lora.r, b.to_vec())?, Matrix::new(lora.r, inner, a.to_vec())?);
            let magnitude = magnitude(linear).map(|number| decoder.params.value(number).to_vec());
            return Ok(Pair { magnitude, ..pair.into() });
        };
        let rows = b.chunks(lora.r).zip(first[lora.b].chunks(lora.r));
        let joined = rows.flat_map(|(now, first)| now.iter().copied().chain(first.iter().map(|x| -x)));
        let b = Matrix::new(out, 2 * lora.r, joined.collect())?;
        Ok((b, Matrix::new(2 * lora.r, inner, [a, &first[lora.a]].concat())?).into())
    })
}

/// The number of DoRA's magnitudes beside a layer.
fn magnitude(linear: &Linear) -> Option<usize> {
    match &linear.branch {
        Some(Beside::Dora(dora)) => Some(dora.magnitude),
        _ => None,
    }
}
