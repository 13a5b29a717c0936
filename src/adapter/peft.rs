//! PEFT's own adapters: `base_model.model.<module>.lora_A.weight` and `.lora_B.weight`, settings in `adapter_config.json`.

use super::dialect::{Dialect, FactorOf, Name, Piece, Scale, Settings};
use super::{PeftConfig, kinds, lycoris};
use crate::checkpoint::{Checkpoint, names::unwrapped};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::path::Path;

pub(super) static DIALECT: Dialect = Dialect { name: "PEFT", transposed: false, is: |_| true, settings, parse };

/// What training alone needs: VeLoRA's projections.
const UNUSED: [&str; 1] = ["velora_embed"];

fn settings(checkpoint: &Checkpoint, folder: &Path) -> Result<Settings> {
    let Some(json) = checkpoint.adapter_config() else {
        let message =
            "found no adapter_config.json that can be read, expected one beside the weights: r and α stand in it";
        return Err(Error::file(folder, message));
    };
    let path = folder.join("adapter_config.json");
    let another = |peft_type: &str| kinds::another(peft_type, json, checkpoint);
    let config = PeftConfig::parse(json, &path, &another)?;
    Ok(Settings { config, scale: Scale::Config })
}

fn parse(name: &str) -> Option<Name<'_>> {
    if let Some((module, last, adapter)) = lycoris_name(name) {
        let part = Piece::Factor(last);
        return Some(Name { module: unwrapped(module).into_owned(), part, adapter });
    }
    let (module, rest) = name.rsplit_once(".lora_")?;
    let (kind, rest) = rest.split_once('.').unwrap_or((rest, ""));
    let (rest, bias) = match rest.strip_suffix("bias") {
        Some(rest) if kind == "B" => (rest, true),
        _ => (rest.strip_suffix("weight").unwrap_or(rest), false),
    };
    let adapter = Some(rest.trim_end_matches('.')).filter(|adapter| !adapter.is_empty());
    let part = match kind {
        "A" => Piece::A(FactorOf::Linear),
        "B" if bias => Piece::Bias,
        "B" => Piece::B(FactorOf::Linear),
        "embedding_A" => Piece::A(FactorOf::Embedding),
        "embedding_B" => Piece::B(FactorOf::Embedding),
        "magnitude_vector" => Piece::Magnitude,
        "diag" => Piece::Diagonal,
        kind if UNUSED.contains(&kind) => Piece::Unused,
        // Names of other programs, which have dialects of their own.
        "down" | "up" | "mid" => return None,
        _ => Piece::Foreign,
    };
    let adapter = adapter.filter(|_| part != Piece::Foreign);
    Some(Name { module: unwrapped(module).into_owned(), part, adapter })
}

/// A factor of PEFT's LoHa or LoKr: module, factor and the adapter's own name, where the file has it.
fn lycoris_name(name: &str) -> Option<(&str, &'static str, Option<&str>)> {
    let at = [".hada_", ".lokr_"].iter().find_map(|begin| name.rfind(begin))?;
    let (factor, adapter) = name[at + 1..].split_once('.').map_or((&name[at + 1..], None), |(f, a)| (f, Some(a)));
    let factor = lycoris::NAMES.iter().find(|known| **known == factor)?;
    Some((&name[..at], factor, adapter))
}

/// What a tensor that is no part of a pair stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// A weight or bias, by the base's name; `base_layer` when it lay inside a wrapped layer.
    Tensor { name: String, base_layer: bool },
    /// Rows of an embedding.
    Rows { module: String },
    /// A copy that nobody needs.
    Unused,
}

/// Takes apart the name of a tensor that is saved beside the pairs. State dicts that were saved without PEFT's help have the
/// adapter's name and the untouched originals in them.
pub(super) fn whole(name: &str) -> Whole {
    let name: Cow<'_, str> = unwrapped(name);
    if let Some((module, rest)) = name.split_once(".token_adapter.") {
        return match rest.starts_with("trainable_tokens_delta") {
            true => Whole::Rows { module: module.to_owned() },
            false => Whole::Unused,
        };
    }
    if name.split('.').any(|part| part == "original_module") {
        return Whole::Unused;
    }
    let mut parts: Vec<&str> = name.split('.').collect();
    if let Some(at) = parts.iter().position(|&part| part == "modules_to_save") {
        // The adapter's name follows, unless PEFT has taken it out (biases of a saved module with `bias: all`).
        let named = parts.len() > at + 2;
        parts.drain(at..=at + usize::from(named));
    }
    let base_layer = parts.contains(&"base_layer");
    parts.retain(|&part| part != "base_layer");
    Whole::Tensor { name: parts.join("."), base_layer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let linear = |module: &str, part, adapter| Some(Name { module: module.to_owned(), part, adapter });
        let a = Piece::A(FactorOf::Linear);
        assert_eq!(
            parse("base_model.model.model.layers.0.q_proj.lora_A.weight"),
            linear("model.layers.0.q_proj", a, None)
        );
        assert_eq!(
            parse("base_model.model.h.0.c_attn.lora_A.default.weight"),
            linear("h.0.c_attn", a, Some("default"))
        );
        assert_eq!(parse("h.0.lora_B.a.b.weight"), linear("h.0", Piece::B(FactorOf::Linear), Some("a.b")));
        assert_eq!(parse("h.0.lora_B.bias"), linear("h.0", Piece::Bias, None));
        let embedding = Piece::A(FactorOf::Embedding);
        assert_eq!(parse("base_model.model.wte.lora_embedding_A"), linear("wte", embedding, None));
        assert_eq!(parse("base_model.model.wte.lora_embedding_A.default"), linear("wte", embedding, Some("default")));
        assert_eq!(parse("h.0.lora_magnitude_vector"), linear("h.0", Piece::Magnitude, None));
        assert_eq!(parse("h.0.lora_magnitude_vector.default.weight"), linear("h.0", Piece::Magnitude, Some("default")));
        assert_eq!(parse("h.0.lora_diag"), linear("h.0", Piece::Diagonal, None));
        assert_eq!(parse("h.0.lora_velora_embed"), linear("h.0", Piece::Unused, None));
        assert_eq!(parse("h.0.lora_monteclora_sampler.std"), linear("h.0", Piece::Foreign, None));
        assert_eq!(parse("base_model.model.lm_head.weight"), None);
        assert_eq!(parse("lora_unet_x.lora_down.weight"), None);
    }

    #[test]
    fn what_is_saved_whole() {
        let tensor = |name: &str, base_layer| Whole::Tensor { name: name.to_owned(), base_layer };
        assert_eq!(whole("base_model.model.lm_head.weight"), tensor("lm_head.weight", false));
        assert_eq!(whole("base_model.model.h.q.base_layer.bias"), tensor("h.q.bias", true));
        assert_eq!(whole("base_model.model.score.modules_to_save.default.weight"), tensor("score.weight", false));
        assert_eq!(whole("base_model.model.h.0.norm.modules_to_save.bias"), tensor("h.0.norm.bias", false));
        assert_eq!(whole("base_model.model.score.original_module.weight"), Whole::Unused);
        let rows = Whole::Rows { module: "model.embed_tokens".into() };
        assert_eq!(whole("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"), rows);
        assert_eq!(whole("base_model.model.model.embed_tokens.token_adapter.token_indices.default"), Whole::Unused);
    }
}
