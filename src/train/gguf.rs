//! [`write()`]: a model, with an adapter merged in or without, as the GGUF file that llama.cpp reads.
//!
//! Which tensor is of which type under a word such as `q4_k_m` follows llama.cpp's quantizer for dense models: heads and values in
//! more bits, vectors in F32, and a coarser block type where rows are no whole super-blocks.

use super::merge::{Change, Changed};
use crate::checkpoint::gguf::names::{self, Architecture};
use crate::checkpoint::gguf::vocabulary;
use crate::checkpoint::gguf::write::{Planned, Value, write as write_file};
use crate::checkpoint::write::Tensor;
use crate::checkpoint::{BlockType, Checkpoint, Dtype, View};
use crate::error::{Error, Result};
use crate::guard;
use crate::progress::Progress;
use crate::quant::gguf::encode;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A word for the types of a file's tensors.
struct Kind {
    word: &'static str,
    /// Of most weights: a block type, or one of F32, F16, BF16.
    main: &'static str,
    /// llama.cpp's number (`general.file_type`).
    file_type: u32,
}

#[rustfmt::skip]
static KINDS: [Kind; 18] = [
    Kind { word: "f32", main: "F32", file_type: 0 },
    Kind { word: "f16", main: "F16", file_type: 1 },
    Kind { word: "bf16", main: "BF16", file_type: 32 },
    Kind { word: "q8_0", main: "Q8_0", file_type: 7 },
    Kind { word: "q4_0", main: "Q4_0", file_type: 2 },
    Kind { word: "q4_1", main: "Q4_1", file_type: 3 },
    Kind { word: "q5_0", main: "Q5_0", file_type: 8 },
    Kind { word: "q5_1", main: "Q5_1", file_type: 9 },
    Kind { word: "q2_k", main: "Q2_K", file_type: 10 },
    Kind { word: "q3_k_m", main: "Q3_K", file_type: 12 },
    Kind { word: "q4_k_s", main: "Q4_K", file_type: 14 },
    Kind { word: "q4_k_m", main: "Q4_K", file_type: 15 },
    Kind { word: "q5_k_s", main: "Q5_K", file_type: 16 },
    Kind { word: "q5_k_m", main: "Q5_K", file_type: 17 },
    Kind { word: "q6_k", main: "Q6_K", file_type: 18 },
    Kind { word: "iq4_nl", main: "IQ4_NL", file_type: 25 },
    Kind { word: "iq4_xs", main: "IQ4_XS", file_type: 30 },
    Kind { word: "mxfp4", main: "MXFP4", file_type: 38 },
];

/// The words for types that a file can be written in.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.word)
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Number of tensors.
    pub tensors: usize,
    /// Size of the file.
    pub bytes: u64,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Writes the GGUF file `out`, or `model.gguf` in it; most weights are of the type that `kind` stands for.
///
/// # Errors
/// A family that llama.cpp's names are not known of here, or settings that it has no word for; what reading, merging and writing say.
pub fn write(base: &Checkpoint, change: &Change, kind: &str, out: &Path, progress: &dyn Progress) -> Result<Written> {
    let kind = KINDS.iter().find(|one| one.word == kind).ok_or_else(|| {
        let known: Vec<&str> = kinds().collect();
        Error::usage(format!("type {kind:?}; expected one of {}", known.join(", ")))
    })?;
    let changed = Changed::new(base, change)?;
    let config = changed.config();
    let model_type = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
    let known = names::of_model(model_type).filter(|known| known.models).ok_or_else(|| {
        let known = names::known(true);
        Error::file(
            base.path(),
            format!("found a model of type {model_type:?}, expected one of {known} for a GGUF model"),
        )
    })?;
    let mut notes = changed.notes();
    let blocks = base.spec()?.blocks.len();
    let tied = !changed.tensors.iter().any(|(name, ..)| name == "lm_head.weight");
    let mut planned: Vec<Planned> = Vec::new();
    let mut sources: Vec<Option<usize>> = Vec::new();
    for (at, (name, shape, _)) in changed.tensors.iter().enumerate() {
        if name.ends_with(".rotary_emb.inv_freq") || name == "rope_freqs.weight" {
            continue;
        }
        let theirs = names::theirs(name, known).ok_or_else(|| {
            Error::tensor(
                base.path(),
                name,
                format!("llama.cpp has no name for it in {} that is known here", known.gguf),
            )
        })?;
        let dtype = dtype(kind, &theirs, shape, blocks, tied)?;
        planned.push(Planned { name: theirs, shape: shape.clone(), dtype });
        sources.push(Some(at));
    }
    let object = config.as_object().cloned().unwrap_or_default();
    let (mut pairs, factors) = pairs(&object, base, known, kind)?;
    if let Some(factors) = &factors {
        planned.push(Planned { name: "rope_freqs.weight".to_owned(), shape: vec![factors.len()], dtype: Dtype::F32 });
        sources.push(None);
    }
    let rows = planned.iter().find(|tensor| tensor.name == "token_embd.weight").and_then(|tensor| tensor.shape.first());
    match tokenizer(base) {
        Some((tokenizer, config)) => {
            let found = vocabulary::pairs(&tokenizer, &config, rows.copied().unwrap_or(0));
            let (more, said) = found.map_err(|message| Error::file(base.path(), message))?;
            pairs.extend(more);
            notes.extend(said);
        }
        None => notes.push(
            "no tokenizer.json lies beside the model: the file has no vocabulary, and llama.cpp will not run it"
                .to_owned(),
        ),
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    planned.iter().for_each(|tensor| *counts.entry(tensor.dtype.to_string()).or_default() += 1);
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} × {name}")).collect();
    notes.push(format!("tensors: {}", counts.join(", ")));
    let folder = out.extension().is_none_or(|end| end != "gguf");
    let path = if folder { out.join("model.gguf") } else { out.to_path_buf() };
    if path.canonicalize().ok().is_some_and(|path| base.path().canonicalize().ok() == Some(path)) {
        return Err(Error::file(&path, "this is what is read; expected another place to write to"));
    }
    let [heads, kv_heads] = base.heads().unwrap_or([1, 1]);
    let bytes = write_file(&path, &pairs, &planned, progress, &mut |number, still| {
        let tensor = &planned[number];
        let Some(at) = sources[number] else {
            return Ok(factors.iter().flatten().flat_map(|x| x.to_le_bytes()).collect());
        };
        let mut values = changed.values(at, still)?;
        let stem = tensor.name.rsplit_once('.').map_or(tensor.name.as_str(), |(stem, _)| stem);
        let part = stem.rsplit('.').next().unwrap_or_default();
        if known.turned && matches!(part, "attn_q" | "attn_k") {
            values = turned(&values, tensor.shape[0], if part == "attn_q" { heads } else { kv_heads });
        }
        if known.plus_one && stem.ends_with("norm") {
            values.iter_mut().for_each(|x| *x += 1.0);
        }
        stored(&values, tensor, still).map_err(|error| error.in_tensor(base.path(), &changed.tensors[at].0))
    })?;
    Ok(Written { path, tensors: planned.len(), bytes, notes })
}

/// Rows of heads in llama.cpp's order: the way back of [`View::Heads`].
fn turned(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    if heads == 0 || !rows.is_multiple_of(2 * heads) {
        return values.to_vec();
    }
    let cols = values.len() / rows;
    let mut out = vec![0.0; values.len()];
    for (row, values) in values.chunks(cols.max(1)).enumerate() {
        let to = View::Heads(heads).stored_row(row, rows);
        out[to * cols..(to + 1) * cols].copy_from_slice(values);
    }
    out
}

/// Values as bytes of the tensor's type, rows by rows: a block lies within a row.
fn stored(values: &[f32], tensor: &Planned, progress: &dyn Progress) -> Result<Vec<u8>> {
    const SOME: usize = 1 << 18;
    let Dtype::Block(block) = tensor.dtype else {
        let planned = (String::new(), Vec::new(), tensor.dtype);
        return Ok(Tensor::of_many(planned, values, progress)?.bytes.into_owned());
    };
    let cols = values.len() / tensor.shape.first().copied().unwrap_or(1).max(1);
    let mut bytes = Vec::with_capacity(tensor.bytes());
    for some in values.chunks((SOME / cols.max(1)).max(1) * cols.max(1)) {
        progress.step(0, 1)?;
        bytes.extend(encode(block, some, [some.len() / cols.max(1), cols])?);
    }
    Ok(bytes)
}

/// The type of one tensor.
fn dtype(kind: &Kind, name: &str, shape: &[usize], blocks: usize, tied: bool) -> Result<Dtype> {
    if shape.len() < 2 {
        return Ok(Dtype::F32);
    }
    let layer =
        || name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok()).unwrap_or(0);
    let more = |layer: usize| {
        let eighth = blocks / 8;
        layer < eighth || layer >= 7 * blocks / 8 || (layer - eighth) % 3 == 2
    };
    let head = name == "output.weight" || (tied && name == "token_embd.weight");
    let plain = matches!(kind.main, "F32" | "F16" | "BF16" | "Q8_0");
    let part = name.split('.').nth(2).unwrap_or_default();
    let wanted = match (kind.word, part) {
        _ if plain => kind.main,
        _ if head => "Q6_K",
        ("q4_k_m" | "q5_k_m", "attn_v" | "ffn_down") if more(layer()) => "Q6_K",
        ("q4_k_s", "attn_v") if layer() < 4 => "Q5_K",
        ("q4_k_s", "ffn_down") if layer() < blocks / 8 => "Q5_K",
        ("q3_k_m", "attn_v") => {
            if layer() < 2 {
                "Q5_K"
            } else {
                "Q4_K"
            }
        }
        ("q3_k_m", "ffn_down") => {
            if layer() < blocks / 16 {
                "Q5_K"
            } else {
                "Q4_K"
            }
        }
        ("q3_k_m", "attn_output") => "Q4_K",
        ("q2_k", "attn_v" | "ffn_down" | "attn_output") => "Q3_K",
        _ => kind.main,
    };
    let fits = |name: &str| {
        let block = BlockType::named(name).filter(|block| shape[shape.len() - 1].is_multiple_of(block.values()));
        block.map(Dtype::Block)
    };
    // Where rows are no whole super-blocks: what llama.cpp falls back to.
    let smaller = match wanted {
        "Q2_K" | "Q3_K" | "IQ4_XS" => "IQ4_NL",
        "Q4_K" => "Q5_0",
        "Q5_K" => "Q5_1",
        "Q6_K" => "Q8_0",
        other => other,
    };
    Ok(match wanted {
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        _ => fits(wanted).or_else(|| fits(smaller)).unwrap_or(Dtype::F16),
    })
}

type Pairs = (Vec<(String, Value)>, Option<Vec<f32>>);

/// Keys and values that say what the model computes, and the divisors of its rotary frequencies where they are a tensor.
fn pairs(config: &Map<String, Json>, base: &Checkpoint, known: &Architecture, kind: &Kind) -> Result<Pairs> {
    let architecture = known.gguf;
    let mut pairs: Vec<(String, Value)> = vec![
        ("general.architecture".to_owned(), architecture.into()),
        ("general.type".to_owned(), "model".into()),
        ("general.name".to_owned(), base.name().as_str().into()),
        ("general.file_type".to_owned(), Value::U32(kind.file_type)),
        ("general.quantization_version".to_owned(), Value::U32(2)),
    ];
    let slides = config.get("use_sliding_window").and_then(Json::as_bool).unwrap_or(true);
    for (key, value, real) in names::settings(config, architecture) {
        if key.ends_with("sliding_window") && !slides {
            continue;
        }
        pairs.push((key, if real { Value::F32(value as f32) } else { Value::U32(value as u32) }));
    }
    let mut number = |key: &str, value: usize| {
        let key = format!("{architecture}.{key}");
        if !pairs.iter().any(|(known, _)| *known == key) {
            pairs.push((key, Value::U32(value as u32)));
        }
    };
    let spec = base.spec()?;
    let attention = spec.blocks.iter().find_map(|block| block.attention());
    let head_dim = attention.map_or(0, |attention| attention.head_dim);
    if let Some(attention) = attention {
        number("attention.head_count", attention.heads);
        number("attention.head_count_kv", attention.kv_heads);
        number("attention.key_length", head_dim);
        number("attention.value_length", head_dim);
        number("rope.dimension_count", head_dim);
    }
    number("vocab_size", spec.vocab);
    let parameters = config.get("rope_parameters").filter(|value| value.get("rope_type").is_some());
    let Some(scaling) = config.get("rope_scaling").or(parameters).filter(|value| value.is_object()) else {
        return Ok((pairs, None));
    };
    let word = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Json::as_str).unwrap_or("default");
    let real = |key: &str| scaling.get(key).and_then(Json::as_f64);
    let key = |key: &str| format!("{architecture}.rope.scaling.{key}");
    match word {
        "default" => Ok((pairs, None)),
        "linear" | "yarn" => {
            pairs.push((key("type"), word.into()));
            pairs.push((key("factor"), Value::F32(real("factor").unwrap_or(1.0) as f32)));
            if let Some(original) = real("original_max_position_embeddings") {
                pairs.push((key("original_context_length"), Value::U32(original as u32)));
            }
            Ok((pairs, None))
        }
        "llama3" => {
            let theta = config.get("rope_theta").or_else(|| scaling.get("rope_theta")).and_then(Json::as_f64);
            let numbers = [
                real("factor").unwrap_or(8.0),
                real("low_freq_factor").unwrap_or(1.0),
                real("high_freq_factor").unwrap_or(4.0),
                real("original_max_position_embeddings").unwrap_or(8192.0),
            ];
            Ok((pairs, Some(names::llama3_factors(theta.unwrap_or(10_000.0), head_dim, numbers))))
        }
        other => {
            let message =
                format!("found rotary scaling {other:?}, expected none, linear, yarn or llama3 for a GGUF model");
            Err(Error::file(base.path(), message))
        }
    }
}

/// `tokenizer.json` and `tokenizer_config.json`, from beside the weights or in their file; the template in a file of its own too.
fn tokenizer(base: &Checkpoint) -> Option<(Json, Json)> {
    if let Some(embedded) = base.tokenizer() {
        return embedded.ok().map(|embedded| (embedded.tokenizer, embedded.config));
    }
    let folder = if base.path().is_dir() { base.path() } else { base.path().parent()? };
    let read = |name: &str, most: u64| guard::bytes(&folder.join(name), most).ok();
    let json = |name: &str| serde_json::from_slice::<Json>(&read(name, 1 << 28)?).ok();
    let tokenizer = json("tokenizer.json")?;
    let mut config = json("tokenizer_config.json").unwrap_or_else(|| Json::Object(Map::new()));
    if let (Some(template), Some(config)) = (read("chat_template.jinja", 1 << 22), config.as_object_mut()) {
        config.insert("chat_template".to_owned(), String::from_utf8_lossy(&template).into_owned().into());
    }
    Some((tokenizer, config))
}
