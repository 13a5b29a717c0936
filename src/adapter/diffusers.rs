//! diffusers' files: one `.safetensors` without a config, whose modules begin with `unet.`, `transformer.` or `text_encoder.`;
//! factors are `lora.down` and `lora.up` in older files, PEFT's `lora_A` and `lora_B` in newer ones. The factor is 1 unless
//! `<module>.alpha` says otherwise, or the file's own `lora_adapter_metadata` (diffusers 0.34 and newer): PEFT's settings, with the
//! part's name in front of each key.

use super::PeftConfig;
use super::dialect::{Dialect, FactorOf, Name, Piece, Scale, Settings};
use super::peft;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) static DIALECT: Dialect = Dialect { name: "diffusers", transposed: false, is, settings, parse };

/// What such names begin with.
const PARTS: [&str; 4] = ["unet.", "transformer.", "text_encoder.", "text_encoder_2."];

fn is(checkpoint: &Checkpoint) -> bool {
    let named = |name: &str| {
        let pair = [".lora.down.", ".lora.up.", ".lora_A.", ".lora_linear_layer.", "_lora.down."];
        PARTS.iter().any(|part| name.starts_with(part)) && pair.iter().any(|end| name.contains(end))
    };
    checkpoint.adapter_config().is_none() && checkpoint.tensors().iter().any(|tensor| named(&tensor.name))
}

fn settings(checkpoint: &Checkpoint, _folder: &Path) -> Result<Settings> {
    let plain = PeftConfig { inference_mode: true, ..PeftConfig::default() };
    let Some(text) = checkpoint.metadata("lora_adapter_metadata") else {
        return Ok(Settings { config: plain, scale: Scale::Alpha });
    };
    let wrong = |message: String| Error::file(checkpoint.path(), format!("lora_adapter_metadata: {message}"));
    let json: Map<String, Value> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let mut parts: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (key, value) in &json {
        let (part, key) = key.split_once('.').unwrap_or(("", key));
        parts.entry(part).or_default().insert(key.to_owned(), value.clone());
    }
    // One config for all parts: what a part says of its modules stands in the patterns, under its whole names.
    let (mut ranks, mut alphas, mut rslora) = (Map::new(), Map::new(), false);
    for (part, settings) in &parts {
        rslora |= settings.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        for (key, own, patterns) in [("r", "rank_pattern", &mut ranks), ("lora_alpha", "alpha_pattern", &mut alphas)] {
            for (name, value) in settings.get(own).and_then(Value::as_object).into_iter().flatten() {
                let name = name.trim_start_matches('^').trim_end_matches('$');
                patterns.insert(format!(r"^{part}\.(.*\.)?{name}$"), value.clone());
            }
            patterns.extend(settings.get(key).map(|value| (format!(r"^{part}\..*$"), value.clone())));
        }
    }
    // Of a part that it does not speak of, α is each pair's own rank.
    for tensor in checkpoint.tensors() {
        let a = parse(&tensor.name).filter(|name| matches!(name.part, Piece::A(_)));
        let known = |name: &Name| parts.contains_key(name.module.split('.').next().unwrap_or_default());
        if let (Some(name), Some(&rank)) = (a.filter(|name| !known(name)), tensor.shape.first()) {
            ranks.insert(format!("^{}$", name.module), json!(rank));
            alphas.insert(format!("^{}$", name.module), json!(rank));
        }
    }
    let json = json!({"rank_pattern": ranks, "alpha_pattern": alphas, "use_rslora": rslora, "inference_mode": true});
    let config = PeftConfig::parse(&json, checkpoint.path(), &|kind| kind.to_owned())?;
    Ok(Settings { config, scale: Scale::Config })
}

fn parse(name: &str) -> Option<Name<'_>> {
    for (end, part) in [
        (".lora.down.weight", Piece::A(FactorOf::Linear)),
        (".lora.up.weight", Piece::B(FactorOf::Linear)),
        (".lora_linear_layer.down.weight", Piece::A(FactorOf::Linear)),
        (".lora_linear_layer.up.weight", Piece::B(FactorOf::Linear)),
        (".alpha", Piece::Alpha),
    ] {
        if let Some(module) = name.strip_suffix(end) {
            return Some(Name { module: module.to_owned(), part, adapter: None });
        }
    }
    // The oldest: `attn1.processor.to_q_lora.down.weight` is `attn1.to_q`.
    for (end, part) in
        [("_lora.down.weight", Piece::A(FactorOf::Linear)), ("_lora.up.weight", Piece::B(FactorOf::Linear))]
    {
        if let Some(module) = name.strip_suffix(end) {
            let module = module.replace(".processor.", ".");
            return Some(Name { module, part, adapter: None });
        }
    }
    (peft::DIALECT.parse)(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let module = |name: &str| parse(name).map(|name| (name.module, name.part));
        let a = Piece::A(FactorOf::Linear);
        assert_eq!(module("unet.x.to_q.lora.down.weight"), Some(("unet.x.to_q".into(), a)));
        assert_eq!(module("unet.x.to_q.lora_A.weight"), Some(("unet.x.to_q".into(), a)));
        assert_eq!(module("unet.x.attn1.processor.to_q_lora.down.weight"), Some(("unet.x.attn1.to_q".into(), a)));
        assert_eq!(module("unet.x.to_q.alpha"), Some(("unet.x.to_q".into(), Piece::Alpha)));
        assert_eq!(module("unet.x.weight"), None);
    }
}
