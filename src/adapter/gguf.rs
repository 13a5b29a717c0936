//! Adapters as llama.cpp reads them: one GGUF file with `blk.<n>.attn_q.weight.lora_a` and `.lora_b` for each pair and one α for
//! all, whose factor is `α / r` of each pair. Where that is not the pair's own, B carries the difference.
//!
//! The sizes and names are those of llama.cpp's `convert_lora_to_gguf.py`; for Llama and Mistral the rows of query and key are
//! in the order of its rotary embedding, as the model's own are there. How many heads they are is in the base, not in such a file:
//! what is written here says it all the same, and where it is not said [`LoraLayer::turned`] waits for the base.

use super::dialect::{Dialect, FactorOf, Name, Piece, Scale, Settings};
use super::export::{Exported, Job};
use super::{LoraLayer, Part, PeftConfig, usual};
use crate::checkpoint::gguf::names;
use crate::checkpoint::gguf::write::{Planned, Value, write};
use crate::checkpoint::{Checkpoint, Dtype, Role, expert_of};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use std::path::Path;

pub(super) static DIALECT: Dialect = Dialect { name: "GGUF", transposed: false, is, settings, parse };

fn is(checkpoint: &Checkpoint) -> bool {
    checkpoint.format().starts_with("gguf")
}

/// The words of the file, as [`Checkpoint::adapter_config`] has them.
fn said<'a>(checkpoint: &'a Checkpoint, key: &str) -> Option<&'a serde_json::Value> {
    checkpoint.adapter_config()?.get(key)
}

/// Whether rows of query and key stand in llama.cpp's order, and nothing says how many heads they are.
pub(super) fn is_turned(checkpoint: &Checkpoint) -> bool {
    is(checkpoint) && said(checkpoint, "turned").and_then(serde_json::Value::as_bool).unwrap_or(false)
}

fn settings(checkpoint: &Checkpoint, _folder: &Path) -> Result<Settings> {
    let kind = said(checkpoint, "adapter.type").and_then(serde_json::Value::as_str).unwrap_or_default();
    if kind != "lora" {
        return Err(Error::file(checkpoint.path(), format!("found a GGUF adapter of type {kind:?}, expected lora")));
    }
    let alpha = said(checkpoint, "adapter.lora.alpha").and_then(serde_json::Value::as_f64);
    let alpha =
        alpha.ok_or_else(|| Error::file(checkpoint.path(), "found no adapter.lora.alpha, expected a number"))?;
    let base = said(checkpoint, "base").and_then(serde_json::Value::as_str);
    let config = PeftConfig {
        base_model_name_or_path: base.map(|url| url.trim_start_matches("https://huggingface.co/").to_owned()),
        inference_mode: true,
        ..PeftConfig::default()
    };
    Ok(Settings { config, scale: Scale::Shared(alpha) })
}

fn parse(name: &str) -> Option<Name<'_>> {
    let (module, part) = name.rsplit_once('.')?;
    let part = match part {
        // An embedding's A lies the other way round there.
        "lora_a" | "lora_b" if Role::of(module) == Role::Embedding || module == "token_embd" => Piece::Foreign,
        "lora_a" => Piece::A(FactorOf::Linear),
        "lora_b" => Piece::B(FactorOf::Linear),
        _ => return None,
    };
    Some(Name { module: module.to_owned(), part, adapter: None })
}

impl LoraLayer {
    /// The whole layer, its rows in transformers' order where they are [`turned`](Self::turned) and the base says how many heads it has.
    pub fn in_order(&self, base: Option<&Checkpoint>) -> Part {
        let heads = base.and_then(Checkpoint::heads).filter(|_| self.turned);
        Part {
            heads: heads.map(|[queries, keys]| if self.role == Role::Q { queries } else { keys }),
            ..Part::default()
        }
    }
}

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
        let kind = config.get("model_type").and_then(serde_json::Value::as_str).unwrap_or_default();
        let known = names::of_model(kind).ok_or_else(|| {
            let known = names::known(false);
            let message = format!("found a model of type {kind:?}, expected one of {known} for a GGUF adapter");
            Error::file(base.path(), message)
        })?;
        let [heads, kv_heads] = base.heads().unwrap_or([1, 1]);
        Ok(Self { architecture: known.gguf, turned: known.turned, heads, kv_heads })
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
    let factor = |layer: &LoraLayer| {
        let own = layer.scaling * layer.r as f64;
        if own == alpha { 1.0 } else { own / alpha }
    };
    let mut planned = Vec::with_capacity(2 * adapter.layers.len());
    for layer in &adapter.layers {
        let name = name_of(layer).ok_or_else(|| {
            let message = "a module that llama.cpp has no name for, expected a linear layer";
            Error::tensor(adapter.path(), &layer.module, message)
        })?;
        let [out, inner] = layer.shape;
        let plan = |part: &str, shape| Planned { name: format!("{name}.{part}"), shape, dtype: Dtype::F32 };
        planned.push(plan("lora_a", vec![layer.r, inner]));
        planned.push(plan("lora_b", vec![out, layer.r]));
    }
    let baked = adapter.layers.iter().filter(|layer| factor(layer) != 1.0).count();
    let mut notes = Vec::new();
    if baked > 0 {
        notes.push(format!(
            "{baked} pairs have another α than {alpha}, and llama.cpp knows one: their B carries the difference"
        ));
    }
    let key = |key: &str| format!("{}.attention.{key}", sizes.architecture);
    let mut pairs: Vec<(String, Value)> = vec![
        ("general.architecture".to_owned(), sizes.architecture.into()),
        ("general.type".to_owned(), "adapter".into()),
        ("adapter.type".to_owned(), "lora".into()),
        ("adapter.lora.alpha".to_owned(), Value::F32(alpha as f32)),
    ];
    // aLoRA: llama.cpp puts the pairs to work behind these tokens.
    let tokens = adapter.config.json.get("alora_invocation_tokens").and_then(|tokens| tokens.as_array());
    if let Some(tokens) = tokens.filter(|tokens| !tokens.is_empty()) {
        let number = |token: &serde_json::Value| token.as_u64().and_then(|token| u32::try_from(token).ok());
        let tokens: Option<Vec<u32>> = tokens.iter().map(number).collect();
        let message = "found alora_invocation_tokens that are no numbers of tokens";
        let tokens = tokens.ok_or_else(|| Error::file(adapter.path(), message))?;
        pairs.push(("adapter.alora.invocation_tokens".to_owned(), Value::U32s(tokens)));
    }
    if sizes.turned {
        pairs.push((key("head_count"), Value::U32(sizes.heads as u32)));
        pairs.push((key("head_count_kv"), Value::U32(sizes.kv_heads as u32)));
    }
    let folder = job.out.extension().is_none_or(|end| end != "gguf");
    let path = if folder { job.out.join("adapter.gguf") } else { job.out.to_path_buf() };
    let little = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let bytes = write(&path, &pairs, &planned, job.progress, &mut |at, _| {
        let layer = &adapter.layers[at / 2];
        let (b, a) = job.scaled(layer, factor(layer))?;
        if at % 2 == 0 {
            return Ok(little(a.data()));
        }
        let out = b.rows();
        let turned = Matrix::from_fn(out, b.cols(), |row, k| b.get(sizes.source(layer.role, row, out), k));
        Ok(little(turned.data()))
    })?;
    Ok(Exported { path, tensors: planned.len(), bytes, notes })
}
