//! A [`ModelConfig`] from a hub `config.json`, in either of its spellings. What changes the result and is not
//! implemented is refused by name; keys that transformers does not read either are not looked at.

use super::config::{BlockConfig, Family, ModelConfig, Qkv};
use super::ops::activation::Activation;
use super::rope::{Positions, Rope};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

impl ModelConfig {
    /// What the checkpoint's `config.json` says.
    ///
    /// # Errors
    /// When there is none, when the architecture or a setting is not supported (named), or a size is missing or absurd.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let folder = checkpoint.path();
        let folder = if folder.is_dir() { folder } else { folder.parent().unwrap_or(folder) };
        let Some(raw) = checkpoint.config() else {
            return Err(Error::file(
                folder,
                "found no config.json, expected one beside the weights: it says what the model computes",
            ));
        };
        Self::parse(raw, &folder.join("config.json"))
    }

    /// Reads `config.json`, which is at `path`.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn parse(raw: &Value, path: &Path) -> Result<Self> {
        let keys = Keys { raw, path: path.to_path_buf() };
        let family = keys.family()?;
        keys.refuse(family)?;
        let gemma = family.is_gemma();
        let (hidden, layers, heads) = if family == Family::Gpt2 {
            (keys.size("n_embd")?, keys.size("n_layer")?, keys.size("n_head")?)
        } else {
            (keys.size("hidden_size")?, keys.size("num_hidden_layers")?, keys.size("num_attention_heads")?)
        };
        let ffn = match family {
            Family::Gpt2 => keys.size_or("n_inner", 4 * hidden)?,
            _ => keys.size("intermediate_size")?,
        };
        let kv_heads = if family.is_gpt() { heads } else { keys.size_or("num_key_value_heads", heads)? };
        let head_dim = match family {
            Family::Gpt2 | Family::GptNeox => hidden / heads,
            Family::Gemma2 | Family::Gemma3 => keys.size_or("head_dim", 256)?,
            Family::Qwen3 => keys.size_or("head_dim", 128)?,
            _ => keys.size_or("head_dim", hidden / heads)?,
        };
        let positions = if family == Family::Gpt2 { "n_positions" } else { "max_position_embeddings" };
        if !heads.is_multiple_of(kv_heads) {
            return Err(keys.wrong(format!("{heads} query heads do not share {kv_heads} key and value heads evenly")));
        }
        if family.is_gpt() && !hidden.is_multiple_of(heads) {
            return Err(keys.wrong(format!("a width of {hidden} does not divide into {heads} heads")));
        }
        let eps = match family {
            Family::Gpt2 => keys.number_or("layer_norm_epsilon", 1e-5)?,
            Family::GptNeox => keys.number_or("layer_norm_eps", 1e-5)?,
            Family::Phi3 => keys.number_or("rms_norm_eps", 1e-5)?,
            _ => keys.number_or("rms_norm_eps", 1e-6)?,
        };
        let (ropes, local) = keys.ropes(family, head_dim)?;
        let windows = keys.windows(family, layers)?;
        let scale = if gemma {
            keys.number_or("query_pre_attn_scalar", 256.0)?.powf(-0.5)
        } else if family == Family::Gpt2 && !keys.flag_or("scale_attn_weights", true)? {
            1.0
        } else {
            (head_dim as f64).powf(-0.5)
        };
        let by_layer = family == Family::Gpt2 && keys.flag_or("scale_attn_by_inverse_layer_idx", false)?;
        let block = |(layer, window): (usize, Option<usize>)| BlockConfig {
            window,
            rope: if local && window.is_some() { 1 } else { 0 },
            scale: (if by_layer { scale / (layer + 1) as f64 } else { scale }) as f32,
        };
        let attention_bias = keys.flag_or("attention_bias", family == Family::GptNeox)?;
        let cap =
            |key: &str, default: f64| keys.number_or_null(key, if family == Family::Gemma2 { default } else { 0.0 });
        Ok(Self {
            family,
            hidden,
            ffn,
            heads,
            kv_heads,
            head_dim,
            vocab: keys.size("vocab_size")?,
            max_positions: keys.size(positions)?,
            blocks: windows.into_iter().enumerate().map(block).collect(),
            eps: eps as f32,
            activation: keys.activation(family)?,
            qkv: match family {
                Family::Phi3 | Family::Gpt2 => Qkv::Joined,
                Family::GptNeox => Qkv::Interleaved,
                _ => Qkv::Apart,
            },
            gate_up_joined: family == Family::Phi3,
            qkv_bias: matches!(family, Family::Gpt2 | Family::Qwen2) || attention_bias,
            o_bias: family == Family::Gpt2 || attention_bias && family != Family::Qwen2,
            mlp_bias: family.is_gpt() || family == Family::Llama && keys.flag_or("mlp_bias", false)?,
            qk_norm: matches!(family, Family::Qwen3 | Family::Gemma3),
            parallel_residual: family == Family::GptNeox && keys.flag_or("use_parallel_residual", true)?,
            embedding_scale: if gemma { (hidden as f32).sqrt() } else { 1.0 },
            score_cap: if family == Family::Gemma2 { cap("attn_logit_softcapping", 50.0)? } else { 0.0 },
            logit_cap: if gemma { cap("final_logit_softcapping", 30.0)? } else { 0.0 },
            ropes,
            tied: keys.flag_or("tie_word_embeddings", gemma || family == Family::Gpt2)?,
        })
    }
}

struct Keys<'a> {
    raw: &'a Value,
    path: PathBuf,
}

/// No size in a config is larger: products of three of them still fit.
const LARGEST: u64 = 1 << 21;

impl<'a> Keys<'a> {
    fn wrong(&self, message: impl Into<String>) -> Error {
        Error::file(&self.path, message)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.raw.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.size_maybe(key)?.ok_or_else(|| self.wrong(format!("found no {key}, expected a whole number above 0")))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.size_maybe(key)?.unwrap_or(default))
    }

    fn size_maybe(&self, key: &str) -> Result<Option<usize>> {
        let Some(found) = self.get(key) else { return Ok(None) };
        let size = found.as_u64().filter(|size| (1..=LARGEST).contains(size)).map(|size| size as usize);
        size.map(Some)
            .ok_or_else(|| self.wrong(format!("found {key} {found}, expected a whole number from 1 to {LARGEST}")))
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        let Some(found) = self.get(key) else { return Ok(default) };
        let number = found.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        number.ok_or_else(|| self.wrong(format!("found {key} {found}, expected a number above 0")))
    }

    /// A key that is there as `null` means none (0); one that is missing means the default.
    fn number_or_null(&self, key: &str, default: f64) -> Result<f32> {
        let missing = if self.raw.get(key).is_some() { 0.0 } else { default };
        Ok(self.number_or(key, missing)? as f32)
    }

    fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        let Some(found) = self.get(key) else { return Ok(default) };
        found.as_bool().ok_or_else(|| self.wrong(format!("found {key} {found}, expected true or false")))
    }

    fn family(&self) -> Result<Family> {
        let kind = self.text("model_type").unwrap_or_default();
        let architecture = self.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        let by_type = Family::ALL.iter().find(|(name, _)| *name == kind).map(|&(_, family)| family);
        let by_name = |(_, family): &&(&str, Family)| Some(family.architecture()) == architecture;
        let found =
            by_type.or_else(|| Family::ALL.iter().find(by_name).map(|&(_, family)| family).filter(|_| kind.is_empty()));
        let supported = || Family::ALL.map(|(name, _)| name).join(", ");
        let Some(family) = found else {
            let named = if kind.is_empty() { architecture.unwrap_or("nothing") } else { kind };
            return Err(self.wrong(format!("found a model of type {named}; supported are {}", supported())));
        };
        match architecture {
            Some(name) if name != family.architecture() && !(family == Family::Gpt2 && name == "GPT2Model") => {
                Err(self.wrong(format!("found architecture {name}, expected {}", family.architecture())))
            }
            _ => Ok(family),
        }
    }

    /// Settings that change the result and are not implemented.
    fn refuse(&self, family: Family) -> Result<()> {
        // Key, and the values that mean nothing special.
        const PLAIN: [(&str, &[&str]); 8] = [
            ("add_cross_attention", &["false"]),
            ("use_bidirectional_attention", &["false"]),
            ("is_decoder", &["true", "false"]),
            ("pruned_heads", &["{}"]),
            ("rope_interleaved", &["false"]),
            ("clip_qkv", &[]),
            ("logit_scale", &["1", "1.0"]),
            ("num_local_experts", &[]),
        ];
        for (key, plain) in PLAIN {
            if let Some(found) = self.get(key).filter(|found| !plain.contains(&found.to_string().as_str())) {
                return Err(self.wrong(format!("{key} {found} is not supported")));
            }
        }
        let one = |found: &Value| found.as_f64() == Some(1.0);
        if matches!(family, Family::Gpt2 | Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3)
            && let Some(found) = self.get("partial_rotary_factor").filter(|found| !one(found))
        {
            return Err(self.wrong(format!("partial_rotary_factor {found} is not supported for this model type")));
        }
        if family == Family::Gemma3
            && let Some(found) = self.get("attn_logit_softcapping")
        {
            return Err(self.wrong(format!("attn_logit_softcapping {found} is not supported for gemma3_text")));
        }
        if let Some(found) = self.get("quantization_config") {
            let method = found.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
            if method != "bitsandbytes" || found.get("load_in_8bit").and_then(Value::as_bool) == Some(true) {
                return Err(self
                    .wrong(format!("weights quantized by {method:?} are not supported, only bitsandbytes in 4 bits")));
            }
        }
        Ok(())
    }

    fn activation(&self, family: Family) -> Result<Activation> {
        let (keys, default): (&[&str], &str) = match family {
            Family::Gpt2 => (&["activation_function"], "gelu_new"),
            Family::Gemma2 | Family::Gemma3 => (&["hidden_activation"], "gelu_pytorch_tanh"),
            Family::GptNeox => (&["hidden_act"], "gelu"),
            _ => (&["hidden_act"], "silu"),
        };
        match keys.iter().find_map(|key| self.text(key)).unwrap_or(default) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" => Ok(Activation::GeluTanh),
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            other => Err(self
                .wrong(format!("activation {other:?}; supported are silu, gelu, gelu_new, gelu_pytorch_tanh, relu"))),
        }
    }

    /// The rotary embeddings, and whether windowed blocks have one of their own, the second.
    fn ropes(&self, family: Family, head_dim: usize) -> Result<(Vec<Rope>, bool)> {
        if family == Family::Gpt2 {
            return Ok((Vec::new(), false));
        }
        let positions = Positions {
            most: self.size("max_position_embeddings")?,
            original: match family {
                Family::Phi3 => Some(self.size_or("original_max_position_embeddings", 4096)?),
                _ => self.size_maybe("original_max_position_embeddings")?,
            },
        };
        let newer = self.get("rope_parameters");
        let older = self.get("rope_scaling");
        let default = if family == Family::Gemma3 { 1e6 } else { 1e4 };
        let older_theta = if family == Family::GptNeox { "rotary_emb_base" } else { "rope_theta" };
        let rope = |parameters: Option<&Value>, theta: f64| {
            let within = |key: &str| parameters.and_then(|p| p.get(key)).and_then(Value::as_f64);
            let theta = within("rope_theta").unwrap_or(theta);
            if !(theta.is_finite() && theta > 1.0) {
                return Err(self.wrong(format!("found rope_theta {theta}, expected a number above 1")));
            }
            let part = match family {
                Family::GptNeox => {
                    within("partial_rotary_factor").map_or_else(|| self.number_or("rotary_pct", 0.25), Ok)?
                }
                Family::Phi3 => {
                    within("partial_rotary_factor").map_or_else(|| self.number_or("partial_rotary_factor", 1.0), Ok)?
                }
                _ => within("partial_rotary_factor").unwrap_or(1.0),
            };
            if !matches!(family, Family::GptNeox | Family::Phi3) && part != 1.0 || !(0.0..=1.0).contains(&part) {
                return Err(self.wrong(format!("partial_rotary_factor {part} is not supported for this model type")));
            }
            let dims = (head_dim as f64 * part) as usize;
            if !dims.is_multiple_of(2) {
                return Err(self.wrong(format!("found {dims} rotary dimensions, expected an even number")));
            }
            // Phi-3's older configs call longrope by other names.
            let renamed = parameters.filter(|_| family == Family::Phi3).and_then(|parameters| {
                let kind = parameters.get("rope_type").or_else(|| parameters.get("type"))?.as_str()?;
                matches!(kind, "su" | "yarn").then(|| {
                    let mut renamed = parameters.clone();
                    renamed["rope_type"] = "longrope".into();
                    renamed
                })
            });
            Rope::new(theta, dims, renamed.as_ref().or(parameters), positions).map_err(|message| self.wrong(message))
        };
        let theta = self
            .get("rope_theta")
            .map_or_else(|| self.number_or(older_theta, default), |_| self.number_or("rope_theta", default))?;
        if family != Family::Gemma3 {
            return Ok((vec![rope(newer.or(older), theta)?], false));
        }
        let full = newer.map_or(older, |both| both.get("full_attention").or(Some(both)));
        let local = newer.and_then(|both| both.get("sliding_attention"));
        let local_theta = self.number_or("rope_local_base_freq", 1e4)?;
        Ok((vec![rope(full, theta)?, rope(local, local_theta)?], true))
    }

    /// The window of every block.
    fn windows(&self, family: Family, layers: usize) -> Result<Vec<Option<usize>>> {
        let window = match family {
            Family::Mistral | Family::Phi3 => self.size_maybe("sliding_window")?,
            Family::Qwen2 | Family::Qwen3 if self.flag_or("use_sliding_window", false)? => {
                Some(self.size_or("sliding_window", 4096)?)
            }
            Family::Gemma2 | Family::Gemma3 => Some(self.size_or("sliding_window", 4096)?),
            _ => None,
        };
        let listed = matches!(family, Family::Qwen2 | Family::Qwen3 | Family::Gemma2 | Family::Gemma3);
        if let Some(types) = self.get("layer_types").filter(|_| listed) {
            let names: Option<Vec<&str>> = types.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
            let names = names.filter(|names| names.len() == layers);
            let names =
                names.ok_or_else(|| self.wrong(format!("found layer_types {types}, expected {layers} names")))?;
            let of = |name: &&str| match *name {
                "full_attention" => Ok(None),
                "sliding_attention" => match window {
                    Some(window) => Ok(Some(window)),
                    None => Err(self.wrong("found sliding_attention in layer_types without a sliding window")),
                },
                other => {
                    Err(self.wrong(format!("layer type {other:?}; supported are full_attention, sliding_attention")))
                }
            };
            return names.iter().map(of).collect();
        }
        let first = match family {
            Family::Qwen2 | Family::Qwen3 => {
                self.get("max_window_layers").and_then(Value::as_u64).unwrap_or(28) as usize
            }
            _ => 0,
        };
        let pattern = match family {
            Family::Gemma2 => 2,
            Family::Gemma3 => match self.size_maybe("sliding_window_pattern")? {
                Some(pattern) => pattern,
                None => self.size_or("_sliding_window_pattern", 6)?,
            },
            _ => usize::MAX,
        };
        Ok((0..layers).map(|layer| window.filter(|_| layer >= first && (layer + 1) % pattern != 0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(change: &[(&str, Value)]) -> Result<ModelConfig> {
        let mut raw = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 320, "max_position_embeddings": 256});
        for (key, value) in change {
            raw[*key] = value.clone();
        }
        ModelConfig::parse(&raw, Path::new("config.json"))
    }

    #[test]
    fn both_spellings_of_rope_mean_the_same() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        let mut newer = scaling.clone();
        newer["rope_theta"] = json!(500000.0);
        let older = parse(&[("rope_theta", json!(500000.0)), ("rope_scaling", scaling)]).unwrap();
        assert_eq!(older, parse(&[("rope_parameters", newer)]).unwrap());
        assert_ne!(older, parse(&[("rope_theta", json!(500000.0))]).unwrap());
    }

    #[test]
    fn windows_by_family() {
        let qwen = [
            ("architectures", json!(["Qwen2ForCausalLM"])),
            ("model_type", json!("qwen2")),
            ("sliding_window", json!(16)),
            ("max_window_layers", json!(2)),
        ];
        assert!(parse(&qwen).unwrap().blocks.iter().all(|block| block.window.is_none()));
        let used = parse(&[&qwen[..], &[("use_sliding_window", json!(true))]].concat()).unwrap();
        assert_eq!(used.blocks.iter().map(|block| block.window).collect::<Vec<_>>(), [None, None, Some(16), Some(16)]);
        let gemma = [
            ("architectures", json!(["Gemma2ForCausalLM"])),
            ("model_type", json!("gemma2")),
            ("sliding_window", json!(8)),
        ];
        let gemma = parse(&gemma).unwrap();
        assert_eq!(gemma.blocks.iter().map(|block| block.window).collect::<Vec<_>>(), [Some(8), None, Some(8), None]);
        assert_eq!((gemma.score_cap, gemma.logit_cap, gemma.embedding_scale), (50.0, 30.0, 8.0));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let sentence = |key: &str, value: Value| parse(&[(key, value)]).unwrap_err().to_string();
        assert!(sentence("model_type", json!("mixtral")).contains("mixtral"));
        assert!(
            sentence("architectures", json!(["LlamaForSequenceClassification"]))
                .contains("LlamaForSequenceClassification")
        );
        assert!(sentence("rope_scaling", json!({"type": "dual", "factor": 4.0})).contains("dual"));
        assert!(sentence("rope_scaling", json!({"type": "longrope"})).contains("short_factor"));
        assert!(sentence("hidden_act", json!("quick_gelu")).contains("quick_gelu"));
        assert!(sentence("partial_rotary_factor", json!(0.5)).contains("partial_rotary_factor"));
        assert!(sentence("num_key_value_heads", json!(3)).contains('3'));
        assert!(sentence("hidden_size", json!(0)).contains("hidden_size"));
        assert!(sentence("quantization_config", json!({"quant_method": "gptq"})).contains("gptq"));
    }
}
