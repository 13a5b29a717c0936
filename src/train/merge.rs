//! A whole model written as transformers loads it: a base with an adapter merged in, or what a full run has made of it.

use super::store::{Planned, Tensor, write_sharded, write_whole};
use crate::adapter::Adapter;
use crate::checkpoint::{BESIDE, Checkpoint, Content, Dtype};
use crate::error::{Error, Result};
use crate::guard;
use crate::matrix::Matrix;
use crate::model::{Applied, Params};
use crate::progress::Progress;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Where the changed values come from.
pub enum Change<'a> {
    /// See [`Applied`].
    Adapter(&'a Adapter),
    /// Every parameter, by its name.
    Params(&'a Params),
    /// The base as it is.
    Nothing,
}

/// Bytes of the tensors of one file: transformers' own limit (`max_shard_size`).
const SHARD: u64 = 5_000_000_000;

/// A base with a change in it, tensor by tensor as a plain file has them.
pub(super) struct Changed<'a> {
    base: &'a Checkpoint,
    change: &'a Change<'a>,
    applied: Option<Applied<'a>>,
    contents: Vec<Content<'a>>,
    /// Name, sizes and own type of each tensor; those that the base lacks come last.
    pub(super) tensors: Vec<Planned>,
}

impl<'a> Changed<'a> {
    /// Reads no weights.
    ///
    /// # Errors
    /// When the adapter does not fit the base or cannot be merged.
    pub(super) fn new(base: &'a Checkpoint, change: &'a Change<'a>) -> Result<Self> {
        let applied = match change {
            Change::Adapter(adapter) => Some(Applied::new(base, adapter)?),
            Change::Params(_) | Change::Nothing => None,
        };
        let contents: Vec<_> = base.contents().collect();
        let edits: HashMap<&str, &[usize]> =
            applied.iter().flat_map(Applied::changed).map(|(name, shape, _)| (name, shape)).collect();
        let shape = |one: &Content| edits.get(one.name.as_str()).map_or(one.shape.as_slice(), |shape| shape).to_vec();
        let mut tensors: Vec<Planned> = contents.iter().map(|one| (one.name.clone(), shape(one), one.dtype)).collect();
        // What the base does not have is of the type that its embedding, or whatever is largest, has.
        let largest = contents.iter().max_by_key(|one| one.tensor.bytes).map_or(Dtype::F32, |one| one.dtype);
        for (name, shape, _) in applied.iter().flat_map(Applied::changed).filter(|(.., added)| *added) {
            tensors.push((name.to_owned(), shape.to_vec(), largest));
        }
        Ok(Self { base, change, applied, contents, tensors })
    }

    /// The values of tensor `at`, in the order in which a file stores them.
    ///
    /// # Errors
    /// A tensor that cannot be read; cancellation.
    pub(super) fn values(&self, at: usize, progress: &dyn Progress) -> Result<Vec<f32>> {
        let name = &self.tensors[at].0;
        match self.applied.as_ref().map(|applied| applied.values(name, progress)).transpose()?.flatten() {
            Some(values) => Ok(values),
            None => unchanged(self.base, self.contents.get(at), name, self.change, progress),
        }
    }

    /// `config.json` of the result, without a word about quantization.
    pub(super) fn config(&self) -> Value {
        let config = self.applied.as_ref().and_then(Applied::config).or(self.base.config());
        let mut config = config.cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if let Some(object) = config.as_object_mut() {
            for key in ["quantization_config", "compression_config", "quantization"] {
                object.remove(key);
            }
        }
        config
    }

    /// What a person should know about the result.
    pub(super) fn notes(&self) -> Vec<String> {
        self.applied.as_ref().map(|applied| applied.notes().to_vec()).unwrap_or_default()
    }
}

/// Writes the model with its change to `out`, tensor by tensor. `dtype` is that of all floating-point tensors; `None`
/// keeps each one's own. What is larger than 5 GB is written in several files with an index. Gives what a person should know about
/// the result.
///
/// # Errors
/// When the adapter does not fit the base or cannot be merged, a tensor cannot be read, a number is too large for the type that
/// it is written as, or a file cannot be written; and cancellation. Nothing is left behind then.
pub fn write_model(
    base: &Checkpoint,
    change: &Change,
    dtype: Option<Dtype>,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    write_model_in(base, change, dtype, out, SHARD, progress)
}

/// As [`write_model`], in files of up to `limit` bytes.
///
/// # Errors
/// As [`write_model`].
pub fn write_model_in(
    base: &Checkpoint,
    change: &Change,
    dtype: Option<Dtype>,
    out: &Path,
    limit: u64,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    let changed = Changed::new(base, change)?;
    refuse_itself(base, out)?;
    let target = |own: Dtype| {
        let own = if matches!(own, Dtype::F16 | Dtype::BF16) { own } else { Dtype::F32 };
        dtype.unwrap_or(own)
    };
    let planned: Vec<Planned> =
        changed.tensors.iter().map(|(name, shape, own)| (name.clone(), shape.clone(), target(*own))).collect();
    write_sharded(out, &planned, limit, progress, &|at, still| {
        let values = changed.values(at, still)?;
        finite(&values, &planned[at], base, still)?;
        Tensor::of_many(planned[at].clone(), &values, still)
    })?;
    copy_beside(base, out)?;
    let mut config = changed.config();
    if let (Some(object), Some(dtype)) = (config.as_object_mut(), dtype) {
        let key = if object.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        let name = match dtype {
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            _ => "float32",
        };
        object.insert(key.to_owned(), Value::from(name));
    }
    let text = serde_json::to_string_pretty(&config).map_err(|error| Error::failure(error.to_string()))?;
    write_whole(&out.join("config.json"), text.as_bytes())?;
    Ok(changed.notes())
}

/// A tensor that no adapter changes: the base's, or the parameter of a full run.
fn unchanged(
    base: &Checkpoint,
    content: Option<&Content>,
    name: &str,
    change: &Change,
    progress: &dyn Progress,
) -> Result<Vec<f32>> {
    let param = match change {
        Change::Params(params) => params.list.iter().find(|param| is_of(name, &param.name)),
        Change::Adapter(_) | Change::Nothing => None,
    };
    let missing = || Error::tensor(base.path(), name, "there is no such tensor");
    let content = content.ok_or_else(missing)?;
    let named = |name: &str| match change {
        Change::Params(params) => params.list.iter().find(|param| param.name == name),
        Change::Adapter(_) | Change::Nothing => None,
    };
    if let Some(module) = content.module.filter(|module| module.slice().is_some()) {
        return base.stacked(module, &|slice| match named(&slice.name) {
            Some(param) => Matrix::new(param.shape[0], param.shape[1], param.value.clone()),
            None => base.matrix(slice, progress),
        });
    }
    // The biases of all experts in one tensor.
    if named(&format!("{name}[0]")).is_some() {
        return Ok((0..)
            .map_while(|number| named(&format!("{name}[{number}]")))
            .flat_map(|param| param.value.clone())
            .collect());
    }
    match content.module.filter(|module| module.is_matrix()) {
        Some(module) => {
            let matrix = match param {
                Some(param) => Matrix::new(param.shape[0], param.shape[1], param.value.clone())?,
                None => base.matrix(module, progress)?,
            };
            // Stored as [in, out] (GPT-2).
            Ok(if module.is_transposed() { matrix.transposed() } else { matrix }.into_data())
        }
        None => Ok(match param {
            Some(param) => param.value.clone(),
            None => base.values(content, progress)?,
        }),
    }
}

/// A number that the type does not have would be written as Inf: it is refused, with what would help.
fn finite(values: &[f32], planned: &Planned, base: &Checkpoint, progress: &dyn Progress) -> Result<()> {
    const SOME: usize = 1 << 20;
    let (name, _, dtype) = planned;
    let kept = |x: f32| match dtype {
        Dtype::F16 => half::f16::from_f32(x).is_finite(),
        Dtype::BF16 => half::bf16::from_f32(x).is_finite(),
        _ => x.is_finite(),
    };
    let mut lost = 0;
    for some in values.chunks(SOME) {
        progress.step(0, 1)?;
        lost += some.iter().filter(|&&x| !kept(x)).count();
    }
    if lost == 0 {
        return Ok(());
    }
    let largest = values.iter().fold(0f32, |max, x| max.max(x.abs()));
    let help = match dtype {
        Dtype::F16 => "the largest of f16 is 65504: write it with --dtype bf16 or f32",
        _ => "look at lora_alpha, whose scaling multiplies B·A",
    };
    let message = format!(
        "{lost} of {} numbers would be written as Inf in {}, the largest is {largest:e}; {help}",
        values.len(),
        dtype.name()
    );
    Err(Error::tensor(base.path(), name, message))
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

/// Longest file that is copied beside weights: the largest tokenizers have an eighth of it.
const LARGEST: u64 = 256 << 20;

/// Copies the tokenizer and what else belongs to a model; of a GGUF file what it holds of that.
///
/// # Errors
/// A file that is a pipe, a device, too long, or a link to somewhere else; and one that cannot be written.
pub(super) fn copy_beside(base: &Checkpoint, out: &Path) -> Result<()> {
    if let Some(embedded) = base.tokenizer() {
        match embedded {
            Ok(embedded) => {
                write_whole(&out.join("tokenizer.json"), embedded.tokenizer.to_string().as_bytes())?;
                write_whole(&out.join("tokenizer_config.json"), embedded.config.to_string().as_bytes())?;
            }
            Err(error) => log::info!("no tokenizer is written: {error}"),
        }
        return Ok(());
    }
    for name in BESIDE {
        let path = folder(base).join(name);
        if path.symlink_metadata().is_err() {
            continue;
        }
        if leaves(&path) {
            let message =
                "a link to a file outside of the model's folder, which is not copied into a result; put the file there";
            return Err(Error::file(&path, message));
        }
        write_whole(&out.join(name), &guard::bytes(&path, LARGEST)?)?;
    }
    Ok(())
}

/// Whether a file is a link that leaves its folder; the hub's cache links to its own `blobs` beside `snapshots`.
fn leaves(path: &Path) -> bool {
    let Some((folder, target)) =
        path.parent().and_then(|folder| Some((folder.canonicalize().ok()?, path.canonicalize().ok()?)))
    else {
        return false;
    };
    let snapshots = folder.ancestors().find(|above| above.file_name().is_some_and(|name| name == "snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|cache| cache.join("blobs"));
    !target.starts_with(&folder) && !blobs.is_some_and(|blobs| target.starts_with(blobs))
}

fn is_of(tensor: &str, param: &str) -> bool {
    tensor == param || tensor.strip_suffix(".weight") == Some(param)
}
