//! Files of a run: the adapter as PEFT reads it.

use super::Settings;
use crate::checkpoint::Dtype;
pub use crate::checkpoint::write::{Planned, Tensor, can_store, write_lazily, write_tensors, write_whole};
use crate::error::{Error, Result};
use crate::model::{Decoder, Kind, Lora};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::path::Path;

/// Writes `adapter_model.safetensors` and `adapter_config.json` of a decoder's pairs, in `f32`.
///
/// With the `first` values of the parameters, what is written is the difference from them, as PEFT converts a PiSSA adapter:
/// `B A − B₀ A₀ = [B | −B₀] [A ; A₀]`, of rank 2r and the same scaling. It belongs to the base as it was before the pairs were
/// taken out of it.
///
/// # Errors
/// When there are no pairs, or a file cannot be written.
pub fn write_adapter(folder: &Path, decoder: &Decoder, settings: &Settings, first: Option<&[Vec<f32>]>) -> Result<()> {
    let mut tensors = Vec::new();
    for (at, param) in decoder.params.list.iter().enumerate() {
        let [rows, cols] = param.shape;
        let first = first.map(|first| &first[at]);
        let (part, shape, values) = match (param.kind, first) {
            (Kind::LoraA, None) => ("lora_A", [rows, cols], Cow::Borrowed(&param.value)),
            (Kind::LoraB, None) => ("lora_B", [rows, cols], Cow::Borrowed(&param.value)),
            (Kind::LoraA, Some(a)) => ("lora_A", [2 * rows, cols], Cow::Owned([&param.value[..], a].concat())),
            (Kind::LoraB, Some(b)) => {
                let rows_of = param.value.chunks(cols).zip(b.chunks(cols));
                let joined = rows_of.flat_map(|(now, first)| now.iter().copied().chain(first.iter().map(|x| -x)));
                ("lora_B", [rows, 2 * cols], Cow::Owned(joined.collect()))
            }
            (Kind::Weight | Kind::Vector, _) => continue,
        };
        let name = format!("base_model.model.{}.{part}.weight", param.name);
        tensors.push(Tensor::new(name, shape.to_vec(), &values, Dtype::F32));
    }
    if tensors.is_empty() {
        return Err(Error::failure("there are no pairs to write an adapter of"));
    }
    write_tensors(&folder.join("adapter_model.safetensors"), &tensors)?;
    let config = serde_json::to_string_pretty(&adapter_config(decoder, settings, first.is_some()));
    let config = config.map_err(|error| Error::failure(error.to_string()))?;
    write_whole(&folder.join("adapter_config.json"), config.as_bytes())
}

/// `adapter_config.json` by PEFT's names; a module whose r or α is not the common one stands in the patterns. Pairs that are
/// written `doubled` keep their scaling.
fn adapter_config(decoder: &Decoder, settings: &Settings, doubled: bool) -> Value {
    let rslora = |lora: &Lora| {
        let plain = (lora.alpha / lora.r as f64) as f32;
        lora.scaling != plain && lora.scaling == (lora.alpha / (lora.r as f64).sqrt()) as f32
    };
    let written = |lora: &Lora| match (doubled, rslora(lora)) {
        (false, _) => (lora.r, lora.alpha),
        (true, false) => (2 * lora.r, 2.0 * lora.alpha),
        (true, true) => (2 * lora.r, lora.alpha * std::f64::consts::SQRT_2),
    };
    let pairs: Vec<_> =
        decoder.linears().filter_map(|linear| Some((&linear.module, written(linear.lora.as_ref()?)))).collect();
    let common = |of: &dyn Fn(usize) -> u64| {
        let count = |at: usize| (0..pairs.len()).filter(|&other| of(other) == of(at)).count();
        (0..pairs.len()).rev().max_by_key(|&at| count(at)).unwrap_or(0)
    };
    let usual_r = pairs.get(common(&|at| pairs[at].1.0 as u64)).map_or(settings.rank, |pair| pair.1.0);
    let usual_alpha = pairs.get(common(&|at| pairs[at].1.1.to_bits())).map_or(settings.alpha(), |pair| pair.1.1);
    let (mut ranks, mut alphas, mut leaves) = (Map::new(), Map::new(), Vec::new());
    let all: Vec<&str> = decoder.linears().map(|linear| leaf(&linear.module)).collect();
    for (module, (r, alpha)) in &pairs {
        if *r != usual_r {
            ranks.insert((*module).clone(), json!(r));
        }
        if *alpha != usual_alpha {
            alphas.insert((*module).clone(), json!(alpha));
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
    let rslora = decoder.linears().find_map(|linear| linear.lora.as_ref()).is_some_and(rslora);
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
        "fan_in_fan_out": decoder.spec.modules().any(|module| module.transposed),
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
