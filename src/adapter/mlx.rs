//! mlx-lm's adapters: `adapters.safetensors` with `<module>.lora_a` (in × r) and `.lora_b` (r × out), both PEFT's transposed.
//!
//! `adapter_config.json` beside it holds `fine_tune_type` and `lora_parameters`. Its `scale` multiplies B·A as it is, whatever
//! the rank; mlx-lm's default of 20 is ten times what α = 2r gives. `alpha` is not looked at (mlx-lm 0.32, tuner/lora.py).

use super::dialect::{Dialect, FactorOf, Name, Piece, Scale, Settings};
use super::export::{Exported, Job};
use super::{LoraLayer, PeftConfig, TargetModules, usual};
use crate::checkpoint::write::{Planned, Tensor, can_store, write_lazily, write_whole};
use crate::checkpoint::{Checkpoint, Dtype, names::unwrapped};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use serde_json::{Value, json};
use std::path::Path;

pub(super) static DIALECT: Dialect = Dialect { name: "mlx-lm", transposed: true, is, settings, parse };

/// mlx-lm's own defaults.
const SCALE: f64 = 20.0;

fn is(checkpoint: &Checkpoint) -> bool {
    let peft = checkpoint.adapter_config().is_some_and(|json| json.get("peft_type").is_some());
    !peft && checkpoint.tensors().iter().any(|tensor| tensor.name.ends_with(".lora_a"))
}

fn settings(checkpoint: &Checkpoint, folder: &Path) -> Result<Settings> {
    let path = folder.join("adapter_config.json");
    let json = checkpoint.adapter_config();
    let json = json.ok_or_else(|| Error::file(folder, "found no adapter_config.json, expected the scale in one"))?;
    let kind = json.get("fine_tune_type").and_then(Value::as_str).unwrap_or("lora");
    if !matches!(kind, "lora" | "dora") {
        return Err(Error::file(&path, format!("found fine_tune_type {kind:?}, expected lora or dora")));
    }
    let lora = json.get("lora_parameters").unwrap_or(json);
    let scale = match lora.get("scale") {
        None | Some(Value::Null) => SCALE,
        Some(found) => found
            .as_f64()
            .filter(|x| x.is_finite())
            .ok_or_else(|| Error::file(&path, "found a scale that is no number, expected one such as 20.0"))?,
    };
    let keys = lora.get("keys").and_then(Value::as_array);
    let keys = keys.map(|keys| keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect());
    let config = PeftConfig {
        lora_dropout: lora.get("dropout").and_then(Value::as_f64).unwrap_or(0.0),
        target_modules: keys.map_or(TargetModules::Unsaid, TargetModules::Names),
        use_dora: kind == "dora",
        base_model_name_or_path: json.get("model").and_then(Value::as_str).map(str::to_owned),
        task_type: Some("CAUSAL_LM".to_owned()),
        inference_mode: true,
        ..PeftConfig::default()
    };
    Ok(Settings { config, scale: Scale::Fixed(scale) })
}

fn parse(name: &str) -> Option<Name<'_>> {
    let (module, part) = name.rsplit_once('.')?;
    let part = match part {
        "lora_a" => Piece::A(FactorOf::Linear),
        "lora_b" => Piece::B(FactorOf::Linear),
        "m" => Piece::Magnitude,
        _ => return None,
    };
    Some(Name { module: unwrapped(module).into_owned(), part, adapter: None })
}

/// Writes `adapters.safetensors` and `adapter_config.json` into a folder. mlx-lm knows one rank and one scale for all modules:
/// smaller pairs get rows of zeros, and where scales differ B carries the difference.
///
/// # Errors
/// For what mlx-lm's adapters cannot hold, by name; and what reading and writing say.
pub(super) fn export(job: &Job) -> Result<Exported> {
    job.plain("mlx-lm", true)?;
    let adapter = job.adapter;
    let mut notes = Vec::new();
    let blocks: Vec<&LoraLayer> = adapter.layers.iter().filter(|layer| layer.layer.is_some()).collect();
    if let Some(outside) = adapter.layers.iter().find(|layer| layer.layer.is_none()) {
        let message = "a module outside of the blocks, which mlx-lm gives no pair";
        return Err(Error::tensor(adapter.path(), &outside.module, message));
    }
    let r = blocks.iter().map(|layer| layer.r).max().unwrap_or(1);
    if blocks.iter().any(|layer| layer.r != r) {
        notes.push(format!("ranks differ and mlx-lm knows one: every pair has rank {r} now, smaller ones with zeros"));
    }
    let scale = usual(blocks.iter().map(|layer| layer.scaling.to_bits())).map_or(1.0, f64::from_bits);
    if blocks.iter().any(|layer| layer.scaling != scale) {
        notes.push(format!("scales differ and mlx-lm knows one, {scale} here: B carries the difference"));
    }
    let mut planned: Vec<Planned> = Vec::new();
    for layer in &blocks {
        let [out, inner] = layer.shape;
        let dtype = if can_store(layer.dtype) { layer.dtype } else { Dtype::F32 };
        planned.push((format!("{}.lora_a", layer.module), vec![inner, r], dtype));
        planned.push((format!("{}.lora_b", layer.module), vec![r, out], dtype));
        if layer.dora {
            planned.push((format!("{}.m", layer.module), vec![out], dtype));
        }
    }
    let path = job.out.join("adapters.safetensors");
    write_lazily(&path, &planned, job.progress, &|at, _| {
        let (name, shape, dtype) = &planned[at];
        let (module, part) = name.rsplit_once('.').unwrap_or((name, ""));
        let layer = adapter.layer(module).ok_or_else(|| Error::failure(format!("{module} was lost")))?;
        let values = if part == "m" {
            adapter.magnitude(layer)?.unwrap_or_default()
        } else {
            let factor = if layer.scaling == scale { 1.0 } else { layer.scaling / scale };
            let (b, a) = job.scaled(layer, factor)?;
            let zero = |matrix: &Matrix, i: usize, j: usize| {
                if i < matrix.rows() && j < matrix.cols() { matrix.get(i, j) } else { 0.0 }
            };
            match part {
                "lora_a" => Matrix::from_fn(shape[0], shape[1], |j, k| zero(&a, k, j)).into_data(),
                _ => Matrix::from_fn(shape[0], shape[1], |k, i| zero(&b, i, k)).into_data(),
            }
        };
        Ok(Tensor::new(name.clone(), shape.clone(), &values, *dtype))
    })?;
    // Names of modules as a block has them: `self_attn.q_proj`.
    let mut keys: Vec<&str> = Vec::new();
    for layer in &blocks {
        let number = layer.layer.unwrap_or_default().to_string();
        let key = layer.module.split_once(&format!(".{number}.")).map_or(layer.module.as_str(), |(_, key)| key);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let config = json!({
        "fine_tune_type": if blocks.iter().any(|layer| layer.dora) { "dora" } else { "lora" },
        // All blocks.
        "num_layers": -1,
        "model": adapter.config.base_model_name_or_path,
        "lora_parameters": {"rank": r, "scale": scale, "dropout": adapter.config.lora_dropout, "keys": keys},
    });
    let text = serde_json::to_string_pretty(&config).map_err(|error| Error::failure(error.to_string()))?;
    write_whole(&job.out.join("adapter_config.json"), text.as_bytes())?;
    let bytes = std::fs::metadata(&path).map_or(0, |about| about.len());
    Ok(Exported { path: job.out.to_path_buf(), tensors: planned.len(), bytes, notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let name = parse("model.layers.3.self_attn.q_proj.lora_b").unwrap();
        assert_eq!((name.module.as_str(), name.part), ("model.layers.3.self_attn.q_proj", Piece::B(FactorOf::Linear)));
        assert_eq!(parse("model.layers.3.mlp.up_proj.m").unwrap().part, Piece::Magnitude);
        assert!(parse("model.norm.weight").is_none());
    }
}
