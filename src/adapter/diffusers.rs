//! diffusers' files: one `.safetensors` without a config, whose modules begin with `unet.`, `transformer.` or `text_encoder.`;
//! factors are `lora.down` and `lora.up` in older files, PEFT's `lora_A` and `lora_B` in newer ones. The factor is 1 unless
//! `<module>.alpha` says otherwise.

use super::PeftConfig;
use super::dialect::{Dialect, FactorOf, Name, Piece, Scale, Settings};
use super::peft;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
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

fn settings(_checkpoint: &Checkpoint, _folder: &Path) -> Result<Settings> {
    Ok(Settings { config: PeftConfig { inference_mode: true, ..PeftConfig::default() }, scale: Scale::Alpha })
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
