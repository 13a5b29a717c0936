//! A whole model written as transformers loads it: a base with an adapter merged in, or what a full run has made of it.

use super::store::{Tensor, write_lazily, write_whole};
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, Dtype, Module};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::model::Params;
use crate::model::ops::gemm::{self, Out, View};
use crate::progress::Progress;
use serde_json::Value;
use std::path::Path;

/// Where the changed values come from.
pub enum Change<'a> {
    /// `W + s · B A`.
    Adapter(&'a Adapter),
    /// Every parameter, by its name.
    Params(&'a Params),
}

/// Files beside the weights that a model needs.
const BESIDE: [&str; 11] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
];

/// Writes the model with its change to `out`, tensor by tensor. `dtype` is that of all floating-point tensors; `None`
/// keeps each one's own.
///
/// # Errors
/// When the adapter does not fit the base, a tensor cannot be read, or a file cannot be written; and cancellation.
pub fn write_model(
    base: &Checkpoint,
    change: &Change,
    dtype: Option<Dtype>,
    out: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    if let Change::Adapter(adapter) = change {
        fits(base, adapter)?;
    }
    refuse_itself(base, out)?;
    let constants = [".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"];
    let constant = |name: &str| name.contains(".quant_state.") || constants.iter().any(|end| name.ends_with(end));
    let tensors: Vec<_> = base.tensors().iter().filter(|tensor| !constant(&tensor.name)).collect();
    let module = |name: &str| base.module(name.strip_suffix(".weight").unwrap_or(name));
    let target = |tensor: &crate::checkpoint::Tensor| {
        let own = match tensor.dtype {
            Dtype::F16 | Dtype::BF16 => tensor.dtype,
            _ => Dtype::F32,
        };
        dtype.unwrap_or(own)
    };
    let shapes = tensors.iter().map(|tensor| {
        let four_bit = module(&tensor.name).filter(|module| matches!(module.dtype, Dtype::NF4 | Dtype::FP4));
        let shape = four_bit.map_or_else(|| tensor.shape.clone(), |module| module.shape.clone());
        (tensor.name.clone(), shape, target(tensor))
    });
    let shapes: Vec<_> = shapes.collect();
    let total = tensors.len() as u64;
    write_lazily(&out.join("model.safetensors"), &shapes, &|at| {
        progress.step(at as u64, total)?;
        let (tensor, (name, shape, dtype)) = (tensors[at], &shapes[at]);
        let values = match module(name).filter(|module| module.is_matrix()) {
            Some(module) => changed(base, module, change)?,
            None => match change {
                Change::Params(params) => match params.list.iter().find(|param| is_of(name, &param.name)) {
                    Some(param) => param.value.clone(),
                    None => base.tensor_matrix(tensor, &())?.into_data(),
                },
                Change::Adapter(_) => base.tensor_matrix(tensor, &())?.into_data(),
            },
        };
        Ok(Tensor::new(name.clone(), shape.clone(), &values, *dtype))
    })?;
    copy_beside(base, out)?;
    let mut config = base.config().cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    if let Some(object) = config.as_object_mut() {
        object.remove("quantization_config");
        if let Some(dtype) = dtype {
            let key = if object.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
            let name = match dtype {
                Dtype::F16 => "float16",
                Dtype::BF16 => "bfloat16",
                _ => "float32",
            };
            object.insert(key.to_owned(), Value::from(name));
        }
    }
    let text = serde_json::to_string_pretty(&config).map_err(|error| Error::failure(error.to_string()))?;
    write_whole(&out.join("config.json"), text.as_bytes())
}

/// The folder that a model lies in.
fn folder(base: &Checkpoint) -> &Path {
    let path = base.path();
    if path.is_dir() { path } else { path.parent().unwrap_or(path) }
}

/// A model is not written over itself: it is still being read.
pub(super) fn refuse_itself(base: &Checkpoint, out: &Path) -> Result<()> {
    match folder(base).canonicalize().ok().zip(out.canonicalize().ok()) {
        Some((a, b)) if a == b => Err(Error::file(out, "this is the base itself; expected another folder to write to")),
        _ => Ok(()),
    }
}

/// Copies the tokenizer and what else belongs to a model.
pub(super) fn copy_beside(base: &Checkpoint, out: &Path) -> Result<()> {
    for name in BESIDE {
        if let Ok(bytes) = std::fs::read(folder(base).join(name)) {
            write_whole(&out.join(name), &bytes)?;
        }
    }
    Ok(())
}

fn is_of(tensor: &str, param: &str) -> bool {
    tensor == param || tensor.strip_suffix(".weight") == Some(param)
}

/// A matrix with its change, as the base stores it.
fn changed(base: &Checkpoint, module: &Module, change: &Change) -> Result<Vec<f32>> {
    let matrix = match change {
        Change::Params(params) => match params.list.iter().find(|param| param.name == module.name) {
            Some(param) => Matrix::new(param.shape[0], param.shape[1], param.value.clone())?,
            None => base.matrix(module, &())?,
        },
        Change::Adapter(adapter) => {
            let mut matrix = base.matrix(module, &())?;
            if let Some(layer) = adapter.layers.iter().find(|layer| same(&module.name, &layer.module)) {
                let (b, a) = adapter.factors(layer)?;
                let [out, inner] = matrix.shape();
                let (b, a) = (View::dense(b.data(), out, layer.r), View::dense(a.data(), layer.r, inner));
                gemm::parallel(Out::dense(matrix.data_mut(), out, inner), true, layer.scaling as f32, b, a);
            }
            matrix
        }
    };
    // Stored as [in, out] (GPT-2).
    Ok(if module.is_transposed() { matrix.transposed() } else { matrix }.into_data())
}

fn same(ours: &str, theirs: &str) -> bool {
    ours == theirs || theirs.strip_suffix(ours).is_some_and(|outer| outer.ends_with('.'))
}

fn fits(base: &Checkpoint, adapter: &Adapter) -> Result<()> {
    if let Some(name) = adapter.saved.first() {
        return Err(Error::tensor(
            adapter.path(),
            name,
            "a tensor that is saved whole beside the factors is not merged here",
        ));
    }
    for layer in &adapter.layers {
        let wrong = |message: String| Error::tensor(adapter.path(), &layer.module, message);
        if let Some(problem) = adapter.problem(layer) {
            return Err(wrong(problem));
        }
        let module = base.modules().iter().find(|module| same(&module.name, &layer.module));
        match module {
            None => return Err(wrong("the model has no such layer: the adapter was made for another base".to_owned())),
            Some(module) if module.shape != layer.shape => {
                let message = format!(
                    "found a layer of {:?}, the model's is {:?}: the adapter was made for another base",
                    layer.shape, module.shape
                );
                return Err(wrong(message));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
