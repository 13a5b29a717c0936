//! kohya's and LyCORIS' files for image models: `lora_unet_<module with underscores>.lora_down.weight`, `.lora_up.weight` and
//! `.alpha`, the factor being `α / r`. DoRA's magnitudes are `.dora_scale`.

use super::PeftConfig;
use super::dialect::{Dialect, FactorOf, Name, Piece, Scale, Settings};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use std::path::Path;

pub(super) static DIALECT: Dialect = Dialect { name: "kohya", transposed: false, is, settings, parse };

fn is(checkpoint: &Checkpoint) -> bool {
    checkpoint.adapter_config().is_none()
        && checkpoint.tensors().iter().any(|tensor| {
            tensor.name.contains(".lora_down.") || tensor.name.contains(".hada_") || tensor.name.contains(".lokr_")
        })
}

fn settings(checkpoint: &Checkpoint, _folder: &Path) -> Result<Settings> {
    let use_dora = checkpoint.tensors().iter().any(|tensor| tensor.name.ends_with(".dora_scale"));
    Ok(Settings { config: PeftConfig { use_dora, inference_mode: true, ..PeftConfig::default() }, scale: Scale::Alpha })
}

fn parse(name: &str) -> Option<Name<'_>> {
    let (module, rest) = name.split_once('.')?;
    // diffusers' modules have dots and the same endings.
    let at = [".lora_down", ".lora_up", ".lora_mid", ".alpha", ".dora_scale", ".hada_", ".lokr_"];
    let (module, rest) = match at.iter().find_map(|end| name.find(end)) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (module, rest),
    };
    let part = match rest {
        "lora_down.weight" => Piece::A(FactorOf::Linear),
        "lora_up.weight" => Piece::B(FactorOf::Linear),
        "alpha" => Piece::Alpha,
        "dora_scale" => Piece::Magnitude,
        // CP-decomposed convolutions, LoHa and LoKr: other formulas for ΔW.
        rest if ["lora_mid", "hada_", "lokr_"].iter().any(|begin| rest.starts_with(begin)) => Piece::Foreign,
        _ => return None,
    };
    Some(Name { module: module.to_owned(), part, adapter: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let name = parse("lora_unet_mid_block_attn1_to_q.lora_down.weight").unwrap();
        assert_eq!((name.module.as_str(), name.part), ("lora_unet_mid_block_attn1_to_q", Piece::A(FactorOf::Linear)));
        assert_eq!(parse("lora_te_x.alpha").unwrap().part, Piece::Alpha);
        assert_eq!(parse("lora_unet_x.hada_w1_a").unwrap().part, Piece::Foreign);
        assert_eq!(parse("unet.a.b.lora_up.weight").unwrap().module, "unet.a.b");
        assert!(parse("first_stage_model.x.weight").is_none());
    }
}
