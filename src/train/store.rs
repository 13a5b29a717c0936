//! Files of a run: the adapter as PEFT reads it.

use super::Settings;
use crate::adapter::{NewAdapter, NewLayer, Pair, PeftConfig, Scaling, stacked};
pub use crate::checkpoint::write::{
    Planned, Tensor, can_store, write_lazily, write_sharded, write_tensors, write_whole,
};
use crate::checkpoint::{Dtype, Role};
use crate::delta::LowRank;
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::model::branch::{Beside, Lora};
use crate::model::{Decoder, Linear};
use std::collections::HashSet;
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
    let stacks = stacks(decoder)?;
    let inside = |linear: &Linear| stacks.iter().any(|stack| stack.names.contains(linear.module.as_str()));
    let pairs: Vec<(&Linear, &Lora)> = decoder
        .linears()
        .filter_map(|linear| Some((linear, linear.pair()?)))
        .filter(|(linear, _)| !inside(linear))
        .collect();
    if pairs.is_empty() && stacks.is_empty() {
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
        layers: pairs.iter().map(layer).chain(stacks.iter().map(|stack| stack.layer.clone())).collect(),
        modules: decoder.linears().map(|linear| linear.module.clone()).collect(),
        names: decoder.spec.peft_names(),
        config,
        ..NewAdapter::default()
    };
    adapter.write(folder, Dtype::F32, &|at| {
        let Some(&(linear, lora)) = pairs.get(at) else {
            return Ok(stacks[at - pairs.len()].values(decoder)?.into());
        };
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

/// A parameter that has the experts of a block, whose pairs are written together.
struct Stack<'a> {
    layer: NewLayer,
    pairs: Vec<(&'a Linear, &'a Lora)>,
    names: HashSet<&'a str>,
    /// PEFT exchanges the two sides.
    swapped: bool,
}

impl Stack<'_> {
    fn values(&self, decoder: &Decoder) -> Result<(Matrix, Matrix)> {
        let of = |(linear, lora): &(&Linear, &Lora)| {
            let LowRank { b, a, .. } = lora.low_rank(&decoder.params, linear.shape)?;
            Ok(if self.swapped { (a.transposed(), b.transposed()) } else { (b, a) })
        };
        Ok(stacked(&self.pairs.iter().map(of).collect::<Result<Vec<_>>>()?))
    }
}

/// The experts with pairs, block by block.
fn stacks(decoder: &Decoder) -> Result<Vec<Stack<'_>>> {
    let mut stacks = Vec::new();
    for experts in decoder.experts() {
        let peft = &experts.spec.peft;
        let up: Vec<&Linear> = experts.each.iter().map(|expert| &expert.up).collect();
        let down: Vec<&Linear> = experts.each.iter().map(|expert| &expert.down).collect();
        let first = if experts.spec.mlp.gated { Role::GateUp } else { Role::Up };
        for (linears, role) in [(up, first), (down, Role::Down)] {
            let pairs: Vec<(&Linear, &Lora)> =
                linears.iter().filter_map(|linear| Some((*linear, linear.pair()?))).collect();
            let Some(&(first, lora)) = pairs.first() else { continue };
            let alike = pairs.iter().all(|(_, other)| other.r == lora.r && other.alpha == lora.alpha);
            if pairs.len() != linears.len() || !alike {
                return Err(Error::usage(format!(
                    "{} of {} experts of {} have pairs, or of different ranks: PEFT has one pair for all of them; target all, with one rank",
                    pairs.len(),
                    linears.len(),
                    peft.module
                )));
            }
            let [out, inner] = first.shape;
            let shape = if peft.swapped { [inner, out] } else { [out, inner] };
            let module = peft.parameter(role);
            let layer = NewLayer {
                module,
                shape,
                r: lora.r,
                lora_alpha: lora.alpha,
                experts: Some(linears.len()),
                ..NewLayer::default()
            };
            let names = linears.iter().map(|linear| linear.module.as_str()).collect();
            stacks.push(Stack { layer, pairs, names, swapped: peft.swapped });
        }
    }
    Ok(stacks)
}

/// The number of DoRA's magnitudes beside a layer.
fn magnitude(linear: &Linear) -> Option<usize> {
    match &linear.branch {
        Some(Beside::Dora(dora)) => Some(dora.magnitude),
        _ => None,
    }
}
