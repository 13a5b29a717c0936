//! kohya's and LyCORIS' files for image models: `lora_unet_<module with underscores>.lora_down.weight`, `.lora_up.weight` and
//! `.alpha`, the factor being `α / r`. DoRA's magnitudes are `.dora_scale`.

use super::dialect::{Dialect, FactorOf, Name, Piece, Scale, Settings};
use super::export::{Exported, Job};
use super::{LoraLayer, PeftConfig, lycoris};
use crate::checkpoint::write::{Planned, Tensor, can_store, write_lazily};
use crate::checkpoint::{Checkpoint, Dtype};
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
        "lora_mid.weight" => Piece::Core,
        "alpha" => Piece::Alpha,
        "dora_scale" => Piece::Magnitude,
        rest if let Some(factor) = lycoris::NAMES.iter().find(|name| **name == rest) => Piece::Factor(factor),
        rest if ["hada_", "lokr_"].iter().any(|begin| rest.starts_with(begin)) => Piece::Foreign,
        _ => return None,
    };
    Some(Name { module: module.to_owned(), part, adapter: None })
}

/// Writes one `.safetensors` file with `lora_down`, `lora_up` and `alpha` of every module; `out` is the file, or a folder for it.
///
/// # Errors
/// For what kohya's files cannot hold, by name; and what reading and writing say.
pub(super) fn export(job: &Job) -> Result<Exported> {
    job.plain("kohya's format", true)?;
    let adapter = job.adapter;
    let name_of = |layer: &LoraLayer| {
        let module = layer.module.as_str();
        let (part, rest) = match module.split_once('.') {
            Some(("text_encoder", rest)) => ("lora_te_", rest),
            Some(("text_encoder_2", rest)) => ("lora_te2_", rest),
            Some(("unet" | "transformer", rest)) => ("lora_unet_", rest),
            _ if module.starts_with("lora_") => ("", module),
            _ => ("lora_unet_", module),
        };
        format!("{part}{}", rest.replace('.', "_"))
    };
    let mut planned: Vec<(usize, Planned)> = Vec::new();
    for (at, layer) in adapter.layers.iter().enumerate() {
        let [out, inner] = layer.shape;
        let name = name_of(layer);
        let dtype = if can_store(layer.dtype) { layer.dtype } else { Dtype::F32 };
        let kernel: usize = layer.kernel.iter().product::<usize>().max(1);
        let down = [&[layer.r, inner / kernel], &layer.kernel[..]].concat();
        let up = [&[out, layer.r], &vec![1; layer.kernel.len()][..]].concat();
        planned.push((at, (format!("{name}.alpha"), Vec::new(), Dtype::F32)));
        planned.push((at, (format!("{name}.lora_down.weight"), down, dtype)));
        planned.push((at, (format!("{name}.lora_up.weight"), up, dtype)));
        if layer.dora {
            planned.push((at, (format!("{name}.dora_scale"), vec![out, 1], dtype)));
        }
    }
    let folder = job.out.extension().is_none_or(|end| end != "safetensors");
    let path = if folder { job.out.join("lora.safetensors") } else { job.out.to_path_buf() };
    let list: Vec<Planned> = planned.iter().map(|(_, planned)| planned.clone()).collect();
    write_lazily(&path, &list, job.progress, &|at, _| {
        let (layer, (name, shape, dtype)) = (&adapter.layers[planned[at].0], &list[at]);
        let values = match name.rsplit_once('.').map(|(_, end)| end) {
            Some("alpha") => vec![(layer.scaling * layer.r as f64) as f32],
            Some("dora_scale") => adapter.magnitude(layer)?.unwrap_or_default(),
            _ if name.ends_with("lora_down.weight") => adapter.factors(layer)?.1.into_data(),
            _ => adapter.factors(layer)?.0.into_data(),
        };
        Ok(Tensor::new(name.clone(), shape.clone(), &values, *dtype))
    })?;
    let bytes = std::fs::metadata(&path).map_or(0, |about| about.len());
    Ok(Exported { path, tensors: list.len(), bytes, notes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let name = parse("lora_unet_mid_block_attn1_to_q.lora_down.weight").unwrap();
        assert_eq!((name.module.as_str(), name.part), ("lora_unet_mid_block_attn1_to_q", Piece::A(FactorOf::Linear)));
        assert_eq!(parse("lora_te_x.alpha").unwrap().part, Piece::Alpha);
        assert_eq!(parse("lora_unet_x.hada_w1_a").unwrap().part, Piece::Factor("hada_w1_a"));
        assert_eq!(parse("lora_unet_x.lora_mid.weight").unwrap().part, Piece::Core);
        assert_eq!(parse("unet.a.b.lora_up.weight").unwrap().module, "unet.a.b");
        assert!(parse("first_stage_model.x.weight").is_none());
    }
}
