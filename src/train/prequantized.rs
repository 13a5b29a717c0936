//! A model folder with its linear weights in 4 bits, as transformers and bitsandbytes load it.
//!
//! `<w>` holds two codes a byte, `[⌈n/2⌉, 1]`; beside it stand `.absmax`, `.quant_map`, with double quantization `.nested_absmax` and
//! `.nested_quant_map`, and `.quant_state.bitsandbytes__nf4`: JSON as bytes. Everything else is written in the type that the model is
//! to compute with: transformers keeps the types of a pre-quantized file, whatever `dtype` it is loaded with.

use super::merge::{copy_beside, refuse_itself};
use super::store::{Planned, Tensor, can_store, write_lazily, write_whole};
use crate::checkpoint::{Checkpoint, Dtype, Module};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::quant::{Absmax, Nested, Quantized, Scheme};
use crate::spec::goes_to_four_bits;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Weights in 4 bits.
    pub modules: usize,
    /// Their elements.
    pub elements: u64,
    /// Their bytes, constants included, maps and JSON not.
    pub quantized_bytes: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
}

impl Written {
    /// Bits of a quantized weight.
    pub fn bits(&self) -> f64 {
        8.0 * self.quantized_bytes as f64 / self.elements.max(1) as f64
    }
}

/// One tensor of the file.
enum Part<'a> {
    /// As it is in the model.
    Copied(&'a crate::checkpoint::Tensor),
    /// One of the tensors of a quantized weight.
    Of(&'a Module, &'static str),
}

/// The JSON's length must be known before its numbers are: it is filled up with spaces.
const STATE: usize = 256;

/// Writes the model to `out`, its linear weights that `chosen` says yes to in 4 bits, its other floating-point values as `dtype`.
///
/// # Errors
/// When there is no such weight, one cannot be read, or a file cannot be written; and cancellation.
pub fn write(
    base: &Checkpoint,
    scheme: Scheme,
    dtype: Dtype,
    chosen: &dyn Fn(&Module) -> bool,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Written> {
    refuse_itself(base, out)?;
    let plain =
        |module: &Module| module.slice().is_none() && goes_to_four_bits(module.linear, module.role, module.shape[0]);
    let is_chosen = |module: &&Module| module.linear && plain(module) && chosen(module);
    let modules: Vec<&Module> = base.modules().iter().filter(is_chosen).collect();
    if modules.is_empty() {
        return Err(Error::file(base.path(), "found no linear weight to write in 4 bits"));
    }
    if let Some(module) = base.modules().iter().find(|module| module.dtype.is_packed() || module.about.is_some()) {
        return Err(Error::tensor(
            base.path(),
            &module.name,
            "is quantized already; expected the model as it was before",
        ));
    }
    let mut written = Written { modules: modules.len(), ..Written::default() };
    let mut parts: Vec<(Part, Planned)> = Vec::new();
    let weight_of = |name: &str| {
        let bare = name.strip_suffix(".weight").unwrap_or(name);
        modules.iter().copied().find(|module| module.name == bare)
    };
    for tensor in base.tensors() {
        let Some(module) = weight_of(&tensor.name) else {
            if !can_store(tensor.dtype) {
                let message = format!("values of type {} cannot be written here", tensor.dtype);
                return Err(Error::tensor(base.path(), &tensor.name, message));
            }
            let written = if tensor.dtype.is_float() && tensor.dtype.is_readable() { dtype } else { tensor.dtype };
            parts.push((Part::Copied(tensor), (tensor.name.clone(), tensor.shape.clone(), written)));
            continue;
        };
        let elements: usize = module.shape.iter().product();
        let blocks = elements.div_ceil(scheme.blocksize.max(1));
        written.elements += elements as u64;
        let mut add = |end: &'static str, shape: Vec<usize>, dtype: Dtype| {
            if !matches!(end, ".quant_map" | ".nested_quant_map" | STATE_END) {
                written.quantized_bytes += (shape.iter().product::<usize>() * dtype.size()) as u64;
            }
            let name = match end {
                STATE_END => format!("{}{end}{}", tensor.name, scheme.quant_type),
                _ => format!("{}{end}", tensor.name),
            };
            parts.push((Part::Of(module, end), (name, shape, dtype)));
        };
        add("", vec![elements.div_ceil(2), 1], Dtype::U8);
        add(".absmax", vec![blocks], if scheme.double_quant { Dtype::U8 } else { Dtype::F32 });
        add(".quant_map", vec![16], Dtype::F32);
        if scheme.double_quant {
            add(".nested_absmax", vec![blocks.div_ceil(Nested::BLOCK)], Dtype::F32);
            add(".nested_quant_map", vec![256], Dtype::F32);
        }
        add(STATE_END, vec![STATE], Dtype::U8);
    }
    let planned: Vec<Planned> = parts.iter().map(|(_, planned)| planned.clone()).collect();
    let size = |(_, shape, dtype): &Planned| (shape.iter().product::<usize>() * dtype.size()) as u64;
    written.bytes = planned.iter().map(size).sum();
    let last = Last { base, scheme, kept: Mutex::new(None) };
    let dtype_of_state = dtype_name(dtype);
    write_lazily(&out.join("model.safetensors"), &planned, progress, &|at, still| {
        let (part, (name, shape, dtype)) = &parts[at];
        let bytes = match part {
            Part::Copied(tensor) if tensor.dtype == *dtype => base.copy_of(tensor)?,
            Part::Copied(tensor) => {
                let values = base.tensor_matrix(tensor, still)?.into_data();
                return Tensor::of_many(planned[at].clone(), &values, still);
            }
            Part::Of(module, end) => bytes_of(&*last.get(module, still)?, dtype_of_state, end)?,
        };
        Ok(Tensor { name: name.clone(), shape: shape.clone(), dtype: *dtype, bytes: Cow::Owned(bytes) })
    })?;
    progress.step(1, 1)?;
    copy_beside(base, out)?;
    let text = serde_json::to_string_pretty(&config(base, scheme, dtype, &modules));
    write_whole(&out.join("config.json"), text.map_err(|error| Error::failure(error.to_string()))?.as_bytes())?;
    Ok(written)
}

/// The beginning of the last tensor's name; the quant type follows.
const STATE_END: &str = ".quant_state.bitsandbytes__";

/// The weight that was quantized last: its tensors are asked for one after the other.
struct Last<'a> {
    base: &'a Checkpoint,
    scheme: Scheme,
    kept: Mutex<Option<(String, Arc<Quantized>)>>,
}

impl Last<'_> {
    fn get(&self, module: &Module, progress: &dyn Progress) -> Result<Arc<Quantized>> {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, weight)) = kept.as_ref().filter(|(name, _)| *name == module.name) {
            return Ok(Arc::clone(weight));
        }
        let matrix = self.base.matrix(module, progress)?;
        let weight = Arc::new(Quantized::new(matrix.data(), matrix.shape(), self.scheme)?);
        *kept = Some((module.name.clone(), Arc::clone(&weight)));
        Ok(weight)
    }
}

fn bytes_of(weight: &Quantized, dtype: &str, end: &str) -> Result<Vec<u8>> {
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Ok(match (end, weight.absmax()) {
        ("", _) => weight.codes().to_vec(),
        (".quant_map", _) => floats(weight.scheme().quant_type.levels()),
        (".absmax", Absmax::Plain(values)) => floats(values),
        (".absmax", Absmax::Nested(nested)) => nested.codes.clone(),
        (".nested_absmax", Absmax::Nested(nested)) => floats(&nested.absmax),
        (".nested_quant_map", _) => floats(Nested::map()),
        (_, absmax) => {
            let scheme = weight.scheme();
            let mut state = json!({
                "quant_type": scheme.quant_type.as_str(),
                "blocksize": scheme.blocksize,
                "dtype": dtype,
                "shape": weight.shape(),
            });
            if let (Absmax::Nested(nested), Some(state)) = (absmax, state.as_object_mut()) {
                state.insert("nested_blocksize".into(), json!(Nested::BLOCK));
                state.insert("nested_dtype".into(), json!("float32"));
                state.insert("nested_offset".into(), json!(f64::from(nested.offset)));
            }
            let mut text = state.to_string().into_bytes();
            text.resize(STATE.max(text.len()), b' ');
            text
        }
    })
}

/// torch's name of a type.
fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        _ => "float32",
    }
}

/// `config.json` with transformers' `quantization_config`.
fn config(base: &Checkpoint, scheme: Scheme, dtype: Dtype, modules: &[&Module]) -> Value {
    let mut config = base.config().cloned().unwrap_or_else(|| json!({}));
    let left: Vec<&Module> = base
        .modules()
        .iter()
        .filter(|module| module.linear && !modules.iter().any(|m| m.name == module.name))
        .collect();
    // transformers leaves the head alone by itself; once names are given, it is one of them.
    let skipped = (!left.is_empty()).then(|| {
        let heads = base.modules().iter().filter(|module| module.role == crate::checkpoint::Role::Head);
        let mut names: Vec<&str> = left.into_iter().chain(heads).map(|module| module.name.as_str()).collect();
        if !names.contains(&"lm_head") {
            names.push("lm_head");
        }
        names
    });
    if let Some(object) = config.as_object_mut() {
        let key = if object.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        object.insert(key.into(), json!(dtype_name(dtype)));
        object.insert(
            "quantization_config".into(),
            json!({
                "_load_in_4bit": true,
                "_load_in_8bit": false,
                "bnb_4bit_compute_dtype": dtype_name(dtype),
                "bnb_4bit_quant_storage": "uint8",
                "bnb_4bit_quant_type": scheme.quant_type.as_str(),
                "bnb_4bit_use_double_quant": scheme.double_quant,
                "llm_int8_enable_fp32_cpu_offload": false,
                "llm_int8_has_fp16_weight": false,
                "llm_int8_skip_modules": skipped,
                "llm_int8_threshold": 6.0,
                "load_in_4bit": true,
                "load_in_8bit": false,
                "quant_method": "bitsandbytes",
            }),
        );
    }
    config
}
