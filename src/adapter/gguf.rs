//! Adapters as llama.cpp reads them: one GGUF file with `blk.<n>.attn_q.weight.lora_a` and `.lora_b` for each pair and one α for
//! all, whose factor is `α / r` of each pair. Where that is not the pair's own, B carries the difference.
//!
//! The sizes and names are those of llama.cpp's `convert_lora_to_gguf.py`; for Llama and Mistral the rows of query and key are
//! in the order of its rotary embedding, as the model's own are there.

use super::export::{Exported, Job};
use super::{LoraLayer, usual};
use crate::checkpoint::{Role, expert_of, write::write_whole};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use serde_json::Value;

/// The version of the format, and the boundary that tensors begin at.
const VERSION: u32 = 3;
const ALIGNMENT: usize = 32;

/// Families whose adapters llama.cpp takes: transformers' `model_type`, llama.cpp's architecture, whether query and key are
/// turned.
const ARCHITECTURES: [(&str, &str, bool); 14] = [
    ("llama", "llama", true),
    ("mistral", "llama", true),
    ("qwen2", "qwen2", false),
    ("qwen3", "qwen3", false),
    ("gemma", "gemma", false),
    ("gemma2", "gemma2", false),
    ("gemma3_text", "gemma3", false),
    ("gemma3", "gemma3", false),
    ("phi3", "phi3", false),
    ("gpt2", "gpt2", false),
    ("starcoder2", "starcoder2", false),
    ("granite", "granite", true),
    ("smollm3", "smollm3", true),
    ("olmo2", "olmo2", false),
];

/// The sizes that turning query and key needs.
struct Sizes {
    architecture: &'static str,
    turned: bool,
    heads: usize,
    kv_heads: usize,
}

impl Sizes {
    fn of(job: &Job) -> Result<Self> {
        let expected = "expected --base: llama.cpp needs its kind, and for some kinds its heads";
        let base = job.base.ok_or_else(|| Error::usage(format!("the adapter's base is not given; {expected}")))?;
        let config = base.config().ok_or_else(|| Error::file(base.path(), "found no config.json, expected one"))?;
        let kind = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let known = ARCHITECTURES.iter().find(|(name, ..)| *name == kind);
        let &(_, architecture, turned) = known.ok_or_else(|| {
            let known: Vec<&str> = ARCHITECTURES.iter().map(|(name, ..)| *name).collect();
            let message =
                format!("found a model of type {kind:?}, expected one of {} for a GGUF adapter", known.join(", "));
            Error::file(base.path(), message)
        })?;
        let size = |key: &str| config.get(key).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        let heads = size("num_attention_heads").filter(|&heads| heads > 0).unwrap_or(1);
        let kv_heads = size("num_key_value_heads").filter(|&heads| heads > 0).unwrap_or(heads);
        Ok(Self { architecture, turned, heads, kv_heads })
    }

    /// The row of the checkpoint that stands in row `row` of what llama.cpp reads: halves of a head, one value of either after
    /// the other.
    fn source(&self, role: Role, row: usize, rows: usize) -> usize {
        let heads = match role {
            Role::Q if self.turned => self.heads,
            Role::K if self.turned => self.kv_heads,
            _ => return row,
        };
        let size = rows / heads;
        if size < 2 || !rows.is_multiple_of(heads) {
            return row;
        }
        let (head, at) = (row / size, row % size);
        head * size + at % 2 * (size / 2) + at / 2
    }
}

/// llama.cpp's name for a module.
fn name_of(layer: &LoraLayer) -> Option<String> {
    if expert_of(&layer.module).is_some() {
        return None;
    }
    let part = match layer.role {
        Role::Q => "attn_q",
        Role::K => "attn_k",
        Role::V => "attn_v",
        Role::Qkv => "attn_qkv",
        Role::O => "attn_output",
        Role::Gate => "ffn_gate",
        Role::Up | Role::GateUp => "ffn_up",
        Role::Down => "ffn_down",
        Role::Head => return Some("output.weight".to_owned()),
        _ => return None,
    };
    Some(format!("blk.{}.{part}.weight", layer.layer?))
}

/// One tensor of the file.
struct Tensor {
    name: String,
    /// Innermost first.
    sizes: [usize; 2],
    values: Vec<f32>,
}

/// Writes the GGUF file `out`, or `adapter.gguf` in it.
///
/// # Errors
/// Without the base; for a base or modules that llama.cpp knows no adapter for, by name; and what reading and writing say.
pub(super) fn export(job: &Job) -> Result<Exported> {
    job.plain("llama.cpp's format", false)?;
    let sizes = Sizes::of(job)?;
    let adapter = job.adapter;
    let alpha = usual(adapter.layers.iter().map(|layer| (layer.scaling * layer.r as f64).to_bits()));
    let alpha = alpha.map_or(1.0, f64::from_bits);
    let mut notes = Vec::new();
    let mut tensors = Vec::with_capacity(2 * adapter.layers.len());
    let mut baked = 0usize;
    for (at, layer) in adapter.layers.iter().enumerate() {
        job.progress.step(at as u64, adapter.layers.len() as u64)?;
        let name = name_of(layer).ok_or_else(|| {
            Error::tensor(
                adapter.path(),
                &layer.module,
                "a module that llama.cpp has no name for, expected a linear layer",
            )
        })?;
        let own = layer.scaling * layer.r as f64;
        let factor = if own == alpha { 1.0 } else { own / alpha };
        baked += usize::from(factor != 1.0);
        let (b, a) = job.scaled(layer, factor)?;
        let (out, inner, r) = (b.rows(), a.cols(), a.rows());
        let b = Matrix::from_fn(out, r, |row, k| b.get(sizes.source(layer.role, row, out), k));
        tensors.push(Tensor { name: format!("{name}.lora_a"), sizes: [inner, r], values: a.into_data() });
        tensors.push(Tensor { name: format!("{name}.lora_b"), sizes: [r, out], values: b.into_data() });
    }
    if baked > 0 {
        notes.push(format!(
            "{baked} pairs have another α than {alpha}, and llama.cpp knows one: their B carries the difference"
        ));
    }
    let bytes = file(sizes.architecture, alpha as f32, &tensors);
    let folder = job.out.extension().is_none_or(|end| end != "gguf");
    let path = if folder { job.out.join("adapter.gguf") } else { job.out.to_path_buf() };
    write_whole(&path, &bytes)?;
    Ok(Exported { path, tensors: tensors.len(), bytes: bytes.len() as u64, notes })
}

/// The bytes of the file.
fn file(architecture: &str, alpha: f32, tensors: &[Tensor]) -> Vec<u8> {
    const STRING: u32 = 8;
    const FLOAT: u32 = 6;
    let mut out = b"GGUF".to_vec();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    let words = [("general.architecture", architecture), ("general.type", "adapter"), ("adapter.type", "lora")];
    out.extend((words.len() as u64 + 1).to_le_bytes());
    for (key, value) in words {
        text(&mut out, key);
        out.extend(STRING.to_le_bytes());
        text(&mut out, value);
    }
    text(&mut out, "adapter.lora.alpha");
    out.extend(FLOAT.to_le_bytes());
    out.extend(alpha.to_le_bytes());
    let padded = |bytes: usize| bytes.next_multiple_of(ALIGNMENT);
    let mut offset = 0usize;
    for tensor in tensors {
        text(&mut out, &tensor.name);
        out.extend(2u32.to_le_bytes());
        tensor.sizes.iter().for_each(|&size| out.extend((size as u64).to_le_bytes()));
        // F32.
        out.extend(0u32.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += padded(4 * tensor.values.len());
    }
    for tensor in tensors {
        out.resize(padded(out.len()), 0);
        out.extend(tensor.values.iter().flat_map(|x| x.to_le_bytes()));
    }
    out
}
