//! [`NameMap`]: which module of a model a name from another file means.
//!
//! One module has many names. Training programs put wrappers in front of it or into it, transformers has moved the language
//! model of a model that sees, and a model without its head lacks the first part. The map knows them all, so that every command
//! takes the same adapters:
//!
//! | where it comes from | what the name has |
//! |---|---|
//! | PEFT | `base_model.model.` in front, `base_layer` in it, the adapter's own name behind `lora_A` |
//! | `torch.compile` | `_orig_mod` anywhere |
//! | DDP, DeepSpeed, accelerate | `module.` in front |
//! | FSDP, activation checkpointing | `_fsdp_wrapped_module`, `_checkpoint_wrapped_module` anywhere |
//! | Lightning, DeepSpeed's engine | `_forward_module.` in front |
//! | models that see, transformers 4 and 5 | `language_model.model.layers`, `model.language_model.layers`, `model.layers` |
//! | mixtures of transformers 4 and 5 | `block_sparse_moe`, `mlp`; their routers `gate`, `router`, `router.layer` |
//! | image models (kohya) | `lora_unet_down_blocks_0_…`: the dots are underscores |

use std::borrow::Cow;
use std::collections::HashMap;

/// Parts that wrappers put anywhere into a name.
const WRAPPED: [&str; 4] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];

/// What stands in front of every name that PEFT writes.
pub(crate) const PEFT: &str = "base_model.model.";

/// Names of the outer levels of transformers' models, which some files have and others leave out.
const LEVELS: [&str; 9] = [
    "base_model.",
    "model.",
    "transformer.",
    "language_model.",
    "text_model.",
    "gpt_neox.",
    "backbone.",
    "llm.",
    "module.",
];

/// What kohya's names begin with: the part of the image model that they belong to.
const PARTS: [&str; 6] =
    ["lora_unet_", "lora_te1_text_model_", "lora_te2_text_model_", "lora_te_text_model_", "lora_te_", "lycoris_"];

/// Whether a tensor's name is that of a factor, in the words of PEFT, mlx-lm, kohya, LyCORIS or diffusers.
pub(crate) fn is_factor(name: &str) -> bool {
    let parts = [".lora_", ".lora.down.", ".lora.up.", "_lora.down.", "_lora.up.", ".hada_", ".lokr_"];
    parts.iter().any(|part| name.contains(part))
}

/// A name without what training programs and PEFT put around it.
pub(crate) fn unwrapped(name: &str) -> Cow<'_, str> {
    let mut name = Cow::Borrowed(name);
    if WRAPPED.iter().any(|wrapper| name.contains(wrapper)) {
        let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPED.contains(part)).collect();
        name = Cow::Owned(parts.join("."));
    }
    let begin = front(&name);
    if begin == 0 { name } else { Cow::Owned(name[begin..].to_owned()) }
}

/// How much of a name is PEFT's prefix and `module.` before and behind it.
fn front(name: &str) -> usize {
    let mut rest = name;
    while let Some(inner) = rest.strip_prefix("module.") {
        rest = inner;
    }
    // Whoever keeps the wrapped model in a field of its own has one more level in front.
    if let Some((before, inner)) = rest.split_once(PEFT)
        && (before.is_empty() || before.ends_with('.'))
    {
        rest = inner;
        while let Some(inner) = rest.strip_prefix("module.") {
            rest = inner;
        }
    }
    name.len() - rest.len()
}

/// A name without wrappers and without the outer levels that files of one model may have or lack.
fn core(name: &str) -> String {
    let name = unwrapped(name);
    let mut short: &str = &name;
    while let Some(rest) = LEVELS.iter().find_map(|level| short.strip_prefix(level)) {
        short = rest;
    }
    let mut parts: Vec<&str> = Vec::new();
    let mut before = "";
    for part in short.split('.').filter(|&part| part != "base_layer") {
        match part {
            "block_sparse_moe" => parts.push("mlp"),
            "router" => parts.push("gate"),
            "layer" if before == "router" => {}
            _ => parts.push(part),
        }
        before = part;
    }
    parts.join(".")
}

/// A name without its first part.
fn tail(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, tail)| tail).filter(|tail| tail.contains('.'))
}

/// Names of modules and what else they may be called.
#[derive(Clone, Debug, Default)]
pub struct NameMap {
    exact: HashMap<String, usize>,
    /// By [`core`]; `None` where two modules would have the same.
    core: HashMap<String, Option<usize>>,
    /// By the core without its first part.
    tails: HashMap<String, Option<usize>>,
    /// By the name with underscores for dots.
    flat: HashMap<String, Option<usize>>,
}

impl NameMap {
    /// Of names in their order: what is found is a place in it.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut map = Self::default();
        let once = |map: &mut HashMap<String, Option<usize>>, key: String, at: usize| {
            map.entry(key).and_modify(|found| *found = None).or_insert(Some(at));
        };
        for (at, name) in names.into_iter().enumerate() {
            map.exact.entry(name.to_owned()).or_insert(at);
            let core = core(name);
            once(&mut map.flat, core.replace('.', "_"), at);
            if let Some(tail) = tail(&core) {
                once(&mut map.tails, tail.to_owned(), at);
            }
            once(&mut map.core, core, at);
        }
        map
    }

    /// The place of the module that `name` means: the name itself, else the one module that differs from it in wrappers and
    /// outer levels only.
    pub fn find(&self, name: &str) -> Option<usize> {
        if let Some(&at) = self.exact.get(name) {
            return Some(at);
        }
        if let Some(&at) = self.exact.get(&*unwrapped(name)) {
            return Some(at);
        }
        let core = core(name);
        let by_core = |core: &str| self.core.get(core).copied().flatten();
        let flat = || {
            let part = PARTS.iter().find_map(|part| name.strip_prefix(part))?;
            self.flat.get(part).copied().flatten()
        };
        by_core(&core)
            .or_else(flat)
            // A level that only one of the two has: `bert.encoder.layer…` beside `encoder.layer…`.
            .or_else(|| tail(&core).and_then(by_core))
            .or_else(|| self.tails.get(&core).copied().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_come_off() {
        for (name, expected) in [
            ("base_model.model.model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
            ("_orig_mod.base_model.model.h.0.attn", "h.0.attn"),
            ("base_model.model._orig_mod.model.layers.0.x", "model.layers.0.x"),
            ("module.base_model.model.module.layers.1.x", "layers.1.x"),
            (
                "base_model.model.model.layers.0._fsdp_wrapped_module.self_attn.q_proj",
                "model.layers.0.self_attn.q_proj",
            ),
            ("pretrained_model.base_model.model.model.layers.0.x", "model.layers.0.x"),
            ("model.layers.0.x", "model.layers.0.x"),
        ] {
            assert_eq!(unwrapped(name), expected);
        }
    }

    #[test]
    fn one_module_has_many_names() {
        let map = NameMap::new([
            "model.embed_tokens",
            "model.layers.0.self_attn.q_proj",
            "model.layers.0.block_sparse_moe.gate",
            "visual.blocks.0.attn.qkv",
            "lm_head",
        ]);
        for name in [
            "model.layers.0.self_attn.q_proj",
            "layers.0.self_attn.q_proj",
            "model.language_model.layers.0.self_attn.q_proj",
            "language_model.model.layers.0.self_attn.q_proj",
            "_orig_mod.model.layers.0.self_attn.q_proj",
            "module.model.layers.0.self_attn.q_proj.base_layer",
        ] {
            assert_eq!(map.find(name), Some(1), "{name}");
        }
        for name in ["mlp.gate", "mlp.router", "block_sparse_moe.router", "block_sparse_moe.router.layer"] {
            assert_eq!(map.find(&format!("model.layers.0.{name}")), Some(2), "{name}");
        }
        assert_eq!(map.find("model.visual.blocks.0.attn.qkv"), Some(3));
        assert_eq!(map.find("language_model.lm_head"), Some(4));
        assert_eq!(map.find("model.layers.1.self_attn.q_proj"), None);
        assert_eq!(map.find("q_proj"), None);
    }

    #[test]
    fn a_level_may_be_missing_but_not_guessed() {
        let bert = NameMap::new(["bert.encoder.layer.0.attention.self.query", "classifier"]);
        assert_eq!(bert.find("encoder.layer.0.attention.self.query"), Some(0));
        let bare = NameMap::new(["encoder.layer.0.attention.self.query"]);
        assert_eq!(bare.find("bert.encoder.layer.0.attention.self.query"), Some(0));
        let two = NameMap::new(["encoder.layer.0.q", "decoder.layer.0.q"]);
        assert_eq!(two.find("layer.0.q"), None, "either could be meant");
    }

    #[test]
    fn underscores_stand_for_dots() {
        let unet =
            NameMap::new(["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.resnets.0.conv1"]);
        assert_eq!(unet.find("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"), Some(0));
        assert_eq!(unet.find("unet.mid_block.resnets.0.conv1"), Some(1));
        assert_eq!(unet.find("lora_unet_mid_block_resnets_0_conv2"), None);
    }
}
