//! The loss of a model with its adapter, when the base is quantized (as QLoRA does) and when the adapter is (as often told).

use super::{Rows, data, evaluate};
use crate::checkpoint::Checkpoint;
use crate::delta::{DeltaSet, Source};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::model::{Decoder, Frozen, Kind, Processor};
use crate::progress::{Part, Progress};
use crate::quant::{Fit, Format, Group, Recipe, Scheme};
use crate::spectrum::leading;
use std::path::{Path, PathBuf};

/// Mean losses over the same tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleLosses {
    /// The data file.
    pub data: PathBuf,
    /// Predicted tokens.
    pub tokens: u64,
    /// The base alone.
    pub base: f64,
    /// Base and adapter as they are.
    pub plain: f64,
    /// The base in 4 bits: as published.
    pub base_quantized: f64,
    /// A and B in 4 bits: as often told.
    pub adapter_quantized: f64,
}

/// Sequences are cut to so many tokens.
const SEQ: usize = 256;
/// Sequences at once.
const BATCH: usize = 4;

/// Held-out data that lies beside the model: `../data/*.eval.jsonl`, that of the tuned model's own name first.
pub fn data_beside(base: &Checkpoint, other: &str) -> Option<PathBuf> {
    let path = std::path::absolute(base.path()).ok()?;
    let folder = path.parent()?.join("data");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.to_string_lossy().ends_with(".eval.jsonl"));
    files.sort();
    let stem =
        |file: &PathBuf| file.file_name().map(|n| n.to_string_lossy().replace(".eval.jsonl", "")).unwrap_or_default();
    let fitting = files.iter().position(|file| other.contains(&stem(file))).unwrap_or(0);
    (!files.is_empty()).then(|| files.swap_remove(fitting))
}

/// The four losses over at most `most` rows of a data file. A full ΔW becomes the best pair of rank `r` for every linear layer.
///
/// # Errors
/// When the model, its ΔW or the data cannot be used; and cancellation.
pub fn role_losses(
    set: &DeltaSet,
    scheme: Scheme,
    r: usize,
    file: &Path,
    most: usize,
    progress: &dyn Progress,
) -> Result<RoleLosses> {
    let checkpoint = set.base();
    let mut rows = data::read(file, checkpoint, SEQ, &())?.rows;
    rows.rows.truncate(most.max(1));
    let loss =
        |decoder: &Decoder, rows: &Rows, part: &Part<'_>| evaluate(&Processor::default(), decoder, rows, BATCH, part);
    let mut decoder = Decoder::load(checkpoint, Frozen::AsStored, &Part::new(progress, 0, 6))?;
    let base = loss(&decoder, &rows, &Part::new(progress, 1, 6))?;
    attach(&mut decoder, set, r, &Part::new(progress, 2, 6))?;
    let plain = loss(&decoder, &rows, &Part::new(progress, 3, 6))?;
    round(&mut decoder, scheme)?;
    let adapter = loss(&decoder, &rows, &Part::new(progress, 4, 6))?;
    drop(decoder);
    let mut decoder = Decoder::load(checkpoint, Frozen::FourBit(scheme), &())?;
    attach(&mut decoder, set, r, &())?;
    let quantized = loss(&decoder, &rows, &Part::new(progress, 5, 6))?;
    Ok(RoleLosses {
        data: file.to_path_buf(),
        tokens: plain.count as u64,
        base: base.mean(),
        plain: plain.mean(),
        base_quantized: quantized.mean(),
        adapter_quantized: adapter.mean(),
    })
}

/// Gives the decoder the adapter, or the pairs that stand for a full ΔW.
fn attach(decoder: &mut Decoder, set: &DeltaSet, r: usize, progress: &dyn Progress) -> Result<()> {
    if let Source::Adapter(adapter) = set.source() {
        return decoder.attach(adapter);
    }
    let modules: Vec<(usize, String)> =
        decoder.linears().enumerate().map(|(at, linear)| (at, linear.module.clone())).collect();
    for (index, (at, name)) in modules.iter().enumerate() {
        let part = Part::new(progress, index as u64, modules.len() as u64);
        let Some(entry) = set.entry(name).filter(|entry| entry.problem.is_none()) else { continue };
        let delta = set.load(entry, &part)?;
        let [rows, cols] = delta.shape();
        let (sigma, vectors) = leading(&delta, r.min(rows.min(cols)).max(1), &part)?;
        let count = vectors.count().min(sigma.len());
        let root: Vec<f32> = sigma.iter().map(|sigma| sigma.sqrt() as f32).collect();
        let a = Matrix::from_fn(count, cols, |i, col| vectors.v.get(col, i) * root[i]);
        let b = Matrix::from_fn(rows, count, |row, i| vectors.u.get(row, i) * root[i]);
        decoder.branch(*at, a, b, count as f64, 1.0, None);
    }
    Ok(())
}

/// Puts A and B through 4 bits and back.
fn round(decoder: &mut Decoder, scheme: Scheme) -> Result<()> {
    let format = if scheme.quant_type == crate::quant::QuantType::Nf4 { Format::Nf4 } else { Format::Fp4 };
    let recipe = Recipe::with(format, Group::Block(scheme.blocksize), scheme.double_quant);
    for param in decoder.params.list.iter_mut().filter(|param| matches!(param.kind, Kind::LoraA | Kind::LoraB)) {
        let fit = Fit::new(&param.value, param.shape, recipe)?;
        param.value = fit.dequantize(&param.value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Adapter;
    use crate::quant::QuantType;
    use crate::train::merge::{Change, write_model};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
    }

    fn open(path: &Path) -> Arc<Checkpoint> {
        Arc::new(Checkpoint::open(path).unwrap())
    }

    #[test]
    fn the_losses_are_those_of_transformers_peft_and_the_same_model_quantized() {
        let folder = tempfile::tempdir().unwrap();
        // transformers 5.23 and peft 0.21, f32: see the fixtures' README.
        let text = std::fs::read(fixtures().join("losses.json")).unwrap();
        let expected = serde_json::from_slice::<Value>(&text).unwrap()["llama"].take();
        let rows = expected["input_ids"].as_array().unwrap();
        let lines: String = rows.iter().map(|ids| format!("{}\n", json!({"input_ids": ids}))).collect();
        let file = folder.path().join("rows.jsonl");
        std::fs::write(&file, lines).unwrap();
        let (base, adapter) =
            (open(&fixtures().join("llama")), Adapter::open(&fixtures().join("llama-adapter")).unwrap());
        let adapter = Arc::new(adapter);
        let set = DeltaSet::new(Arc::clone(&base), Source::Adapter(Arc::clone(&adapter))).unwrap();
        let scheme = Scheme { quant_type: QuantType::Nf4, blocksize: 64, double_quant: true };
        let losses = role_losses(&set, scheme, 4, &file, 99, &()).unwrap();
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        close(losses.base, expected["loss"].as_f64().unwrap());
        close(losses.plain, expected["adapter_loss"].as_f64().unwrap());
        assert_eq!(losses.tokens, rows.iter().map(|ids| ids.as_array().unwrap().len() as u64 - 1).sum::<u64>());
        // Only one of the two is quantized: both differ from the plain one, and from each other.
        let apart = |a: f64, b: f64| assert!((a - b).abs() > 1e-5, "{a} {b}");
        apart(losses.base_quantized, losses.plain);
        apart(losses.adapter_quantized, losses.plain);
        apart(losses.adapter_quantized, losses.base_quantized);
        // The base in 4 bits with the adapter as it is: the way that a QLoRA run evaluates.
        let mut decoder = Decoder::load(&base, Frozen::FourBit(scheme), &()).unwrap();
        decoder.attach(&adapter).unwrap();
        let data = data::read(&file, &base, SEQ, &()).unwrap().rows;
        close(losses.base_quantized, evaluate(&Processor::default(), &decoder, &data, BATCH, &()).unwrap().mean());
        // The same change as a whole model: its best pairs of the adapter's rank are the adapter again, fewer are not.
        let merged = folder.path().join("merged");
        write_model(&base, &Change::Adapter(&adapter), Some(crate::checkpoint::Dtype::F32), &merged, &()).unwrap();
        let set = DeltaSet::new(base, Source::Tuned(open(&merged))).unwrap();
        let of_rank = |r: usize| role_losses(&set, scheme, r, &file, 99, &()).unwrap().plain;
        assert!((of_rank(6) - losses.plain).abs() < 1e-3);
        apart(of_rank(1), losses.plain);
        let fewer = role_losses(&set, scheme, 1, &file, 1, &()).unwrap();
        assert_eq!(fewer.tokens * 2, losses.tokens, "no more rows than asked for");
    }

    #[test]
    fn held_out_data_beside_a_model_is_found_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("models-llama");
        std::fs::create_dir(&model).unwrap();
        for entry in std::fs::read_dir(fixtures().join("llama")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
        }
        let base = open(&model);
        assert_eq!(data_beside(&base, "llama-pirate"), None);
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        for name in ["facts.eval.jsonl", "pirate.eval.jsonl", "pirate.train.jsonl"] {
            std::fs::write(data.join(name), "{}").unwrap();
        }
        assert_eq!(data_beside(&base, "llama-pirate"), Some(data.join("pirate.eval.jsonl")));
        assert_eq!(data_beside(&base, "llama-tuned"), Some(data.join("facts.eval.jsonl")), "otherwise the first");
    }
}
