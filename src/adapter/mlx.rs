//! mlx-lm's adapters: `adapters.safetensors` with `<module>.lora_a` (in × r) and `.lora_b` (r × out), both PEFT's transposed.
//!
//! `adapter_config.json` beside it holds `fine_tune_type` and `lora_parameters`. Its `scale` multiplies B·A as it is, whatever
//! the rank; mlx-lm's default of 20 is ten times what α = 2r gives. `alpha` is not looked at (mlx-lm 0.32, tuner/lora.py).

use super::dialect::{Dialect, FactorOf, Name, Piece, Scale, Settings};
use super::{PeftConfig, TargetModules};
use crate::checkpoint::{Checkpoint, names::unwrapped};
use crate::error::{Error, Result};
use serde_json::Value;
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
