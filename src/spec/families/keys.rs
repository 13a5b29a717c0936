//! [`Keys`]: a `config.json`, read key by key, in either of its spellings.
//!
//! What a family reads is remembered. A key that changes the result in some family and that this one has not read is
//! never passed over: it makes the spec one that can be counted, but not run.

use crate::error::{Error, Result};
use crate::spec::Activation;
use crate::spec::rope::{Positions, Rope};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

/// No size is larger: products of two of them are far inside `u64`.
pub(super) const LARGEST: u64 = 1 << 24;

/// More blocks, or experts in all of them, than any model has.
const MOST_BLOCKS: usize = 16_384;

/// Keys that change the result, and the values that mean nothing special. `null` never does.
const CHANGES: [(&str, &[&str]); 32] = [
    ("add_cross_attention", &["false"]),
    ("alibi", &["false"]),
    ("attn_logit_softcapping", &[]),
    ("attention_bias", &["false"]),
    ("attention_multiplier", &[]),
    ("attention_sink_size", &["0"]),
    ("clip_qkv", &[]),
    ("cross_attention_layers", &["[]"]),
    ("embedding_multiplier", &["1", "1.0"]),
    ("final_logit_softcapping", &[]),
    ("kv_lora_rank", &[]),
    ("logit_scale", &["1", "1.0"]),
    ("logits_scaling", &["1", "1.0"]),
    ("mlp_bias", &["false"]),
    ("moe_intermediate_size", &[]),
    ("n_routed_experts", &["0"]),
    ("no_rope_layers", &["[]"]),
    ("num_experts", &["0", "1"]),
    ("num_kv_shared_layers", &["0"]),
    ("num_local_experts", &["0", "1"]),
    ("partial_rotary_factor", &["1", "1.0"]),
    ("position_embedding_type", &["\"rope\"", "\"absolute\"", "\"rotary\""]),
    ("pruned_heads", &["{}"]),
    ("qk_layernorm", &["false"]),
    ("query_pre_attn_scalar", &[]),
    ("residual_multiplier", &["1", "1.0"]),
    ("rope_interleaved", &["false"]),
    ("rotary_pct", &["1", "1.0"]),
    ("scale_attn_by_inverse_layer_idx", &["false"]),
    ("use_bidirectional_attention", &["false"]),
    ("use_mrope", &["false"]),
    ("use_qk_norm", &["false"]),
];

/// The keys of a decoder's config.
pub(crate) struct Keys<'a> {
    /// The decoder's part.
    raw: &'a Value,
    /// The whole file, where the decoder's is a part of it.
    whole: &'a Value,
    path: &'a Path,
    read: RefCell<HashSet<String>>,
    refused: RefCell<Option<String>>,
    /// Whether the checkpoint has a module by this name; `None` where there is no checkpoint.
    has: Option<&'a dyn Fn(&str) -> bool>,
}

/// What `quant_method` may say: the formats that `checkpoint` reads.
const READ: [&str; 8] = ["bitsandbytes", "gptq", "awq", "compressed-tensors", "fp8", "fbgemm_fp8", "modelopt", "mxfp4"];

impl<'a> Keys<'a> {
    /// Of the file at `path`; `raw` is the decoder's part of `whole`.
    pub(super) fn new(raw: &'a Value, whole: &'a Value, path: &'a Path, has: Option<&'a dyn Fn(&str) -> bool>) -> Self {
        Self { raw, whole, path, read: RefCell::default(), refused: RefCell::default(), has }
    }

    /// An error about this file.
    pub(super) fn wrong(&self, message: impl Into<String>) -> Error {
        Error::file(self.path, message)
    }

    /// Remembers that the model cannot be run as it is configured; the first reason is kept.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        self.refused.borrow_mut().get_or_insert_with(|| message.into());
    }

    /// The decoder is a part of a larger model.
    pub(super) fn wrapped(&self) -> bool {
        !std::ptr::eq(self.raw, self.whole)
    }

    /// Whether the checkpoint has a module by this name; `None` where there is no checkpoint.
    pub(super) fn has(&self, module: &str) -> Option<bool> {
        self.has.map(|has| has(module))
    }

    /// A value that is there and not `null`.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.raw.get(key).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The first of several spellings that is there.
    fn first(&self, keys: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        let found: Vec<_> = keys.iter().filter_map(|&key| Some((key, self.get(key)?))).collect();
        found.first().copied()
    }

    /// A key that is there as `null`, which means that there is none.
    pub(super) fn holds_null(&self, key: &str) -> bool {
        self.raw.get(key).is_some_and(Value::is_null)
    }

    /// A size, by any of its names.
    pub(super) fn size(&self, keys: &[&'static str]) -> Result<usize> {
        self.size_maybe(keys)?
            .ok_or_else(|| self.wrong(format!("found no {}, expected a whole number above 0", keys[0])))
    }

    /// A size, or what transformers takes without it.
    pub(super) fn size_or(&self, keys: &[&'static str], default: usize) -> Result<usize> {
        Ok(self.size_maybe(keys)?.unwrap_or(default))
    }

    /// A size that may be missing.
    pub(super) fn size_maybe(&self, keys: &[&'static str]) -> Result<Option<usize>> {
        let Some((key, found)) = self.first(keys) else { return Ok(None) };
        let size = found.as_u64().filter(|size| (1..=LARGEST).contains(size)).map(|size| size as usize);
        size.map(Some)
            .ok_or_else(|| self.wrong(format!("found {key} {found}, expected a whole number from 1 to {LARGEST}")))
    }

    /// A number above 0.
    pub(super) fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        let Some(found) = self.get(key) else { return Ok(default) };
        let number = found.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        number.ok_or_else(|| self.wrong(format!("found {key} {found}, expected a number above 0")))
    }

    /// A key that is there as `null` means none (0); one that is missing means the default.
    pub(super) fn number_or_null(&self, key: &str, default: f64) -> Result<f32> {
        let missing = if self.raw.get(key).is_some() { 0.0 } else { default };
        Ok(self.number_or(key, missing)? as f32)
    }

    /// True or false.
    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        let Some(found) = self.get(key) else { return Ok(default) };
        found.as_bool().ok_or_else(|| self.wrong(format!("found {key} {found}, expected true or false")))
    }

    /// Whether the head is the embedding: the whole model's word counts before its decoder's.
    pub(super) fn tied(&self, default: bool) -> Result<bool> {
        match self.whole.get("tie_word_embeddings").and_then(Value::as_bool).filter(|_| self.wrapped()) {
            Some(tied) => Ok(tied),
            None => self.flag_or("tie_word_embeddings", default),
        }
    }

    /// Numbers of a list that has one for each of `layers` blocks.
    pub(super) fn list(&self, key: &str, layers: usize) -> Result<Option<Vec<f64>>> {
        let Some(found) = self.get(key) else { return Ok(None) };
        let numbers: Option<Vec<f64>> = found.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        let numbers = numbers.filter(|numbers| numbers.len() >= layers);
        numbers.map(Some).ok_or_else(|| self.wrong(format!("found {key} {found}, expected {layers} numbers")))
    }

    /// The nonlinearity, under a name of its own.
    pub(super) fn activation(&self, key: &str, default: &str) -> Activation {
        let name = self.text(key).unwrap_or(default);
        Activation::named(name).unwrap_or_else(|| {
            let supported = "silu, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2, xielu";
            self.refuse(format!("activation {name:?}; supported are {supported}"));
            Activation::Silu
        })
    }

    /// Blocks, and experts in all of them, that make sense.
    pub(super) fn blocks(&self, layers: usize, experts: usize) -> Result<()> {
        match layers.saturating_mul(experts.max(1)) {
            0..=MOST_BLOCKS => Ok(()),
            blocks => Err(self.wrong(format!("{blocks} blocks or experts are more than any model has"))),
        }
    }

    /// Which blocks have a window, by `layer_types`; without that list by `rule`, which says it for a block's number.
    pub(super) fn windows(
        &self,
        layers: usize,
        window: Option<usize>,
        rule: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<usize>>> {
        let Some(types) = self.get("layer_types") else {
            return Ok((0..layers).map(|layer| window.filter(|_| rule(layer))).collect());
        };
        let names: Option<Vec<&str>> = types.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        let names = names.filter(|names| names.len() == layers);
        let names = names.ok_or_else(|| self.wrong(format!("found layer_types {types}, expected {layers} names")))?;
        let of = |name: &&str| match *name {
            "full_attention" => Ok(None),
            "sliding_attention" if window.is_none() => {
                Err(self.wrong("found sliding_attention in layer_types without a sliding window"))
            }
            "sliding_attention" => Ok(window),
            other => {
                let supported = "full_attention, sliding_attention";
                self.refuse(format!("layer type {other:?}; supported are {supported}"));
                Ok(None)
            }
        };
        names.iter().map(of).collect()
    }

    /// The rotary embedding, whose parameters are `usual` where the config has none.
    pub(super) fn rope_or(&self, usual: &Value, head_dim: usize, of: &RopeDefaults) -> Result<Rope> {
        let known = ["rope_parameters", "rope_scaling"].iter().any(|key| self.get(key).is_some());
        if known {
            // A share that is said is that of a whole head; what turns here is a part by itself.
            return self.rope(None, head_dim, &RopeDefaults { whole: true, ..*of });
        }
        let positions =
            Positions { most: self.size_or(&["max_position_embeddings"], of.positions)?, original: of.original };
        let theta = self.number_or("rope_theta", of.theta)?;
        let rope = Rope::new(theta, head_dim, Some(usual), positions).map_err(|message| self.wrong(message))?;
        Ok(Rope { interleaved: of.interleaved, ..rope })
    }

    /// What kind each block is of: one of `known`, by a list of names or without it by `rule`.
    pub(super) fn kinds(
        &self,
        key: &str,
        layers: usize,
        known: &[&'static str],
        rule: impl Fn(usize) -> &'static str,
    ) -> Result<Vec<&'static str>> {
        let Some(found) = self.get(key) else { return Ok((0..layers).map(rule).collect()) };
        let names: Option<Vec<&str>> = found.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        let names = names.filter(|names| names.len() == layers);
        let names = names.ok_or_else(|| self.wrong(format!("found {key} {found}, expected {layers} names")))?;
        let of = |name: &str| {
            // Older names of the same.
            let name = match name {
                "attention" => "full_attention",
                "mamba" | "mamba2" => "linear_attention",
                other => other,
            };
            known.iter().copied().find(|known| *known == name).unwrap_or_else(|| {
                self.refuse(format!("layer type {name:?}; supported are {}", known.join(", ")));
                known[0]
            })
        };
        Ok(names.into_iter().map(of).collect())
    }

    /// Two numbers, the second of which may be infinite in any of the spellings that there are.
    pub(super) fn limits(&self, key: &str) -> Result<[f32; 2]> {
        let Some(found) = self.get(key) else { return Ok([0.0, f32::INFINITY]) };
        let number = |x: &Value| match x {
            Value::Number(x) => x.as_f64().map(|x| x as f32),
            Value::Object(map) => map.get("__float__").and_then(Value::as_str).map(|_| f32::INFINITY),
            Value::String(_) => Some(f32::INFINITY),
            _ => None,
        };
        let pair = found.as_array().filter(|list| list.len() == 2);
        let pair =
            pair.and_then(|list| Some([number(&list[0])?, number(&list[1])?])).filter(|[a, b]| *a >= 0.0 && a <= b);
        pair.ok_or_else(|| self.wrong(format!("found {key} {found}, expected two numbers, the smaller first")))
    }

    /// A rotary embedding over heads of `head_dim`. `part` names which parameters of `rope_parameters` where there are
    /// several (`full_attention`); `of` says what holds where the config is silent.
    pub(super) fn rope(&self, part: Option<&str>, head_dim: usize, of: &RopeDefaults) -> Result<Rope> {
        let positions = Positions {
            most: self.size_or(&["max_position_embeddings", "n_positions"], of.positions)?,
            original: self.size_maybe(&["original_max_position_embeddings"])?.or(of.original),
        };
        let (newer, older) = (self.get("rope_parameters"), self.get("rope_scaling"));
        let within =
            |both: &'a Value| part.map_or(Some(both), |part| both.get(part).or(Some(both).filter(|_| of.shared)));
        let parameters = match newer {
            Some(newer) => within(newer),
            None => older.filter(|_| of.shared),
        };
        let number = |key: &str| parameters.and_then(|p| p.get(key)).and_then(Value::as_f64);
        let theta = match (number("rope_theta"), self.get(of.theta_key)) {
            (Some(theta), _) => theta,
            (None, Some(_)) => self.number_or(of.theta_key, of.theta)?,
            (None, None) => self.number_or("rope_theta", of.theta)?,
        };
        if !(theta.is_finite() && theta > 1.0) {
            return Err(self.wrong(format!("found rope_theta {theta}, expected a number above 1")));
        }
        let share = match (number("partial_rotary_factor").filter(|_| !of.whole), of.partial_key) {
            (Some(share), _) => share,
            (None, Some(key)) => self.number_or(key, of.partial)?,
            (None, None) => of.partial,
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(self.wrong(format!("found partial_rotary_factor {share}, expected a number from 0 to 1")));
        }
        if of.partial_key.is_none() && share != of.partial {
            self.refuse(format!("partial_rotary_factor {share} is not supported for this model type"));
        }
        let dims = (head_dim as f64 * share) as usize;
        if !dims.is_multiple_of(2) {
            return Err(self.wrong(format!("found {dims} rotary dimensions, expected an even number")));
        }
        let kind = parameters.and_then(|p| p.get("rope_type").or_else(|| p.get("type"))?.as_str()).unwrap_or("default");
        let mut scaling = parameters.cloned();
        let mut rename = |name: &str| {
            if let Some(Value::Object(map)) = &mut scaling {
                map.insert("rope_type".to_owned(), name.into());
            }
        };
        let mut theta = theta;
        match (kind, number("alpha").filter(|alpha| *alpha > 0.0)) {
            // Phi-3's older configs call longrope by other names.
            ("su" | "yarn", _) if of.longrope => rename("longrope"),
            ("mrope", _) if of.mrope => rename("default"),
            ("dynamic", Some(alpha)) if of.alpha && dims > 2 => {
                theta *= alpha.powf(dims as f64 / (dims as f64 - 2.0));
                rename("default");
            }
            _ => {}
        }
        if kind == "proportional" {
            let factor = number("factor").unwrap_or(1.0);
            return Ok(Rope::proportional(theta, head_dim, share, factor));
        }
        let rope = Rope::new(theta, dims, scaling.as_ref(), positions);
        let rope = rope.or_else(|message| {
            self.refuse(message);
            Rope::new(theta, dims, None, positions).map_err(|message| self.wrong(message))
        })?;
        Ok(Rope { interleaved: of.interleaved, ..rope })
    }

    /// Why the model cannot be run: what the family has refused, or a key that it has not read.
    pub(super) fn not_run(&self) -> Option<String> {
        if let Some(refused) = self.refused.borrow().clone() {
            return Some(refused);
        }
        if let Some(found) = self.raw.get("quantization_config").or_else(|| self.whole.get("quantization_config"))
            && found.is_object()
        {
            let method = found.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
            if !READ.contains(&method) {
                return Some(format!(
                    "weights quantized by {method:?} are not read here; read are {}",
                    READ.join(", ")
                ));
            }
        }
        self.unread().map(|(key, found)| format!("{key} {found} is not supported"))
    }

    /// The first key that changes the result and was not read.
    pub(super) fn unread(&self) -> Option<(&'static str, &'a Value)> {
        let read = self.read.borrow();
        let types = self.raw.get("layer_types").filter(|_| !read.contains("layer_types"));
        let special =
            |types: &&Value| types.as_array().is_none_or(|list| list.iter().any(|kind| kind != "full_attention"));
        if let Some(types) = types.filter(|types| !types.is_null()).filter(special) {
            return Some(("layer_types", types));
        }
        CHANGES.iter().filter(|(key, _)| !read.contains(*key)).find_map(|&(key, plain)| {
            let found = self.raw.get(key).filter(|found| !found.is_null())?;
            (!plain.contains(&found.to_string().as_str())).then_some((key, found))
        })
    }
}

/// What holds for a rotary embedding where the config is silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RopeDefaults {
    /// Base.
    pub theta: f64,
    /// An older name for it.
    pub theta_key: &'static str,
    /// Share of a head's dimensions that turn.
    pub partial: f64,
    /// An older name for that; `None` where the family has no such setting.
    pub partial_key: Option<&'static str>,
    /// `max_position_embeddings`.
    pub positions: usize,
    /// `original_max_position_embeddings`.
    pub original: Option<usize>,
    /// Neighbours turn together.
    pub interleaved: bool,
    /// Parameters that name no part hold for this one.
    pub shared: bool,
    /// `su` and `yarn` mean longrope.
    pub longrope: bool,
    /// `mrope` means nothing special: its three directions are one for text.
    pub mrope: bool,
    /// All of what it is over turns, whatever share of a head the config says that to be.
    pub whole: bool,
    /// `dynamic` with an `alpha` is a base of `theta · alpha^(n / (n − 2))` over `n` dimensions (Hunyuan).
    pub alpha: bool,
}

impl RopeDefaults {
    /// Llama's.
    pub const LLAMA: Self = Self {
        theta: 1e4,
        theta_key: "rope_theta",
        partial: 1.0,
        partial_key: None,
        positions: 2048,
        original: None,
        interleaved: false,
        shared: true,
        longrope: false,
        mrope: false,
        alpha: false,
        whole: false,
    };
}
