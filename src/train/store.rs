//! Files of a run: the adapter as PEFT reads it.

use super::Settings;
use crate::checkpoint::Dtype;
pub use crate::checkpoint::write::{Planned, Tensor, write_lazily, write_tensors, write_whole};
use crate::error::{Error, Result};
use crate::model::{Decoder, Family, Kind};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Writes `adapter_model.safetensors` and `adapter_config.json` of a decoder's pairs, in `f32`.
///
/// # Errors
/// When there are no pairs, or a file cannot be written.
pub fn write_adapter(folder: &Path, decoder: &Decoder, settings: &Settings) -> Result<()> {
    let mut tensors = Vec::new();
    for param in &decoder.params.list {
        let part = match param.kind {
            Kind::LoraA => "lora_A",
            Kind::LoraB => "lora_B",
            Kind::Weight | Kind::Vector => continue,
        };
        let name = format!("base_model.model.{}.{part}.weight", param.name);
        tensors.push(Tensor::new(name, param.shape.to_vec(), &param.value, Dtype::F32));
    }
    if tensors.is_empty() {
        return Err(Error::failure("there are no pairs to write an adapter of"));
    }
    write_tensors(&folder.join("adapter_model.safetensors"), &tensors)?;
    let config = serde_json::to_string_pretty(&adapter_config(decoder, settings));
    let config = config.map_err(|error| Error::failure(error.to_string()))?;
    write_whole(&folder.join("adapter_config.json"), config.as_bytes())
}

/// `adapter_config.json` by PEFT's names; a module whose r or α is not the common one stands in the patterns.
fn adapter_config(decoder: &Decoder, settings: &Settings) -> Value {
    let pairs: Vec<_> = decoder.linears().filter_map(|linear| Some((&linear.module, linear.lora.as_ref()?))).collect();
    let common = |of: &dyn Fn(usize) -> u64| {
        let count = |at: usize| (0..pairs.len()).filter(|&other| of(other) == of(at)).count();
        (0..pairs.len()).rev().max_by_key(|&at| count(at)).unwrap_or(0)
    };
    let usual_r = pairs.get(common(&|at| pairs[at].1.r as u64)).map_or(settings.rank, |(_, lora)| lora.r);
    let usual_alpha =
        pairs.get(common(&|at| pairs[at].1.alpha.to_bits())).map_or(settings.alpha(), |(_, lora)| lora.alpha);
    let (mut ranks, mut alphas, mut leaves) = (Map::new(), Map::new(), Vec::new());
    let all: Vec<&str> = decoder.linears().map(|linear| leaf(&linear.module)).collect();
    for (module, lora) in &pairs {
        if lora.r != usual_r {
            ranks.insert((*module).clone(), json!(lora.r));
        }
        if lora.alpha != usual_alpha {
            alphas.insert((*module).clone(), json!(lora.alpha));
        }
        // A leaf stands for every module of that name; where only some of them have pairs, they are named whole.
        let leaf = leaf(module);
        let everywhere = all.iter().filter(|name| **name == leaf).count()
            == pairs.iter().filter(|(name, _)| self::leaf(name) == leaf).count();
        let name = if everywhere { leaf.to_owned() } else { (*module).clone() };
        if !leaves.contains(&name) {
            leaves.push(name);
        }
    }
    leaves.sort();
    let number = |x: f64| if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) };
    let rslora = pairs.first().is_some_and(|(_, lora)| {
        let plain = (lora.alpha / lora.r as f64) as f32;
        lora.scaling != plain && lora.scaling == (lora.alpha / (lora.r as f64).sqrt()) as f32
    });
    let base = std::path::absolute(&settings.model).unwrap_or_else(|_| settings.model.clone());
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": usual_r,
        "lora_alpha": number(usual_alpha),
        "lora_dropout": settings.dropout,
        "target_modules": leaves,
        "use_rslora": rslora,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "fan_in_fan_out": decoder.config.family == Family::Gpt2,
        "bias": "none",
        "init_lora_weights": true,
        "inference_mode": true,
        "modules_to_save": null,
        "use_dora": false,
    })
}

fn leaf(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}
