//! [`LoraConfig`]: what `adapter_config.json` says.

use super::pattern::Patterns;
use crate::checkpoint::json::kind;
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Which modules a PEFT adapter was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetModules {
    /// Nothing said: PEFT then takes its default for the architecture.
    Unsaid,
    /// Names or ends of names.
    Names(Vec<String>),
    /// `all-linear`, or a regular expression for whole names.
    Pattern(String),
}

/// A LoRA adapter's settings, by PEFT's names.
#[derive(Clone, Debug)]
pub struct LoraConfig {
    /// Rank, where `rank_pattern` says nothing else; 8 when missing, as in PEFT.
    pub r: usize,
    /// α, where `alpha_pattern` says nothing else; 8 when missing.
    pub lora_alpha: f64,
    /// Adapted modules.
    pub target_modules: TargetModules,
    /// Scaling α/√r instead of α/r.
    pub use_rslora: bool,
    /// A magnitude vector beside A and B (DoRA).
    pub use_dora: bool,
    /// Ranks of some modules; see [`rank_of`](Self::rank_of).
    pub rank_pattern: Patterns<usize>,
    /// α of some modules; see [`alpha_of`](Self::alpha_of).
    pub alpha_pattern: Patterns<f64>,
    /// The base stores its weights as `[in, out]` (GPT-2). Shapes here read `[out, in]` all the same.
    pub fan_in_fan_out: bool,
    /// `none`, `all` or `lora_only`: which biases of the base are saved with the adapter.
    pub bias: String,
    /// B has a bias of its own.
    pub lora_bias: bool,
    /// Modules that are saved whole.
    pub modules_to_save: Vec<String>,
    /// What the adapter was made for.
    pub base_model_name_or_path: Option<String>,
    /// `CAUSAL_LM`, ….
    pub task_type: Option<String>,
    /// How A and B were initialised, when it was not the default.
    pub init_lora_weights: Option<String>,
}

/// PEFT's default for a missing rank and a missing α.
const DEFAULT: usize = 8;

impl LoraConfig {
    /// Reads `adapter_config.json`, which is at `path`.
    ///
    /// # Errors
    /// When a value has the wrong type, r is 0, or the adapter is of another kind than LoRA.
    pub fn parse(json: &Value, path: &Path) -> Result<Self> {
        let fields = Fields { json, path };
        if let Some(found) = fields.text("peft_type")?.filter(|kind| kind != "LORA") {
            return Err(Error::file(path, format!("found an adapter with peft_type {found}, expected LORA")));
        }
        if fields.flag("use_qalora")? {
            return Err(Error::file(
                path,
                "found a QALoRA adapter, whose A is not of the weight's width, expected LoRA",
            ));
        }
        let rank_pattern = Patterns::parse(fields.get("rank_pattern"), rank, "a whole number of 1 or more");
        let alpha_pattern = Patterns::parse(fields.get("alpha_pattern"), alpha, "a number");
        let wrong = |key: &str, message: String| Error::file(path, format!("{key}: {message}"));
        Ok(Self {
            r: fields.value("r", DEFAULT, rank, "a whole number of 1 or more")?,
            lora_alpha: fields.value("lora_alpha", DEFAULT as f64, alpha, "a number")?,
            target_modules: fields.targets()?,
            use_rslora: fields.flag("use_rslora")?,
            use_dora: fields.flag("use_dora")?,
            rank_pattern: rank_pattern.map_err(|e| wrong("rank_pattern", e))?,
            alpha_pattern: alpha_pattern.map_err(|e| wrong("alpha_pattern", e))?,
            fan_in_fan_out: fields.flag("fan_in_fan_out")?,
            bias: fields.text("bias")?.unwrap_or_else(|| "none".to_owned()),
            lora_bias: fields.flag("lora_bias")?,
            modules_to_save: fields.get("modules_to_save").map_or(Some(Vec::new()), texts).unwrap_or_default(),
            base_model_name_or_path: fields.text("base_model_name_or_path")?,
            task_type: fields.text("task_type")?,
            init_lora_weights: fields.get("init_lora_weights").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// Rank of a module (the base's own name): the first key of `rank_pattern` that matches it, else `r`.
    pub fn rank_of(&self, module: &str) -> usize {
        self.rank_pattern.get(module).copied().unwrap_or(self.r)
    }

    /// α of a module, likewise.
    pub fn alpha_of(&self, module: &str) -> f64 {
        self.alpha_pattern.get(module).copied().unwrap_or(self.lora_alpha)
    }

    /// Scaling of B·A: `α / r`, with rsLoRA (arXiv 2312.03732) `α / √r`.
    pub fn scaling(&self, lora_alpha: f64, r: usize) -> f64 {
        let r = r as f64;
        lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }
}

fn rank(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok().filter(|&r| r > 0)
}

fn alpha(value: &Value) -> Option<f64> {
    value.as_f64().filter(|x| x.is_finite())
}

/// A list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

struct Fields<'a> {
    json: &'a Value,
    path: &'a Path,
}

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn value<T>(&self, key: &str, default: T, read: impl Fn(&Value) -> Option<T>, expected: &str) -> Result<T> {
        let Some(found) = self.get(key) else { return Ok(default) };
        read(found).ok_or_else(|| Error::file(self.path, format!("found {key} {}, expected {expected}", shown(found))))
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        self.value(key, None, |value| value.as_str().map(|text| Some(text.to_owned())), "a text")
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.value(key, false, Value::as_bool, "true or false")
    }

    fn targets(&self) -> Result<TargetModules> {
        let read = |value: &Value| match value {
            Value::String(pattern) => Some(TargetModules::Pattern(pattern.clone())),
            other => texts(other).map(TargetModules::Names),
        };
        self.value("target_modules", TargetModules::Unsaid, read, "a list of names or a text")
    }
}

/// A value for a message: numbers and words as they are, anything longer by its kind.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Number(_) | Value::Bool(_) | Value::Null => value.to_string(),
        Value::String(text) if text.len() <= 40 => format!("{text:?}"),
        other => kind(other).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(json: Value) -> Result<LoraConfig> {
        LoraConfig::parse(&json, Path::new("adapter_config.json"))
    }

    #[test]
    fn missing_means_eight() {
        let config = parse(json!({"lora_alpha": null})).unwrap();
        assert_eq!((config.r, config.lora_alpha), (8, 8.0));
        assert_eq!(config.scaling(16.0, 4), 4.0);
        assert_eq!(config.target_modules, TargetModules::Unsaid);
        let rs = parse(json!({"use_rslora": true, "r": 4, "lora_alpha": 16})).unwrap();
        assert_eq!(rs.scaling(rs.alpha_of("x"), rs.rank_of("x")), 8.0);
    }

    #[test]
    fn patterns_override_by_module() {
        let config = parse(json!({
            "r": 4, "lora_alpha": 16, "rank_pattern": {"q_proj": 6, "model.layers.1.self_attn.v_proj": 2}, "alpha_pattern": {"layers\\.[01]\\..*": 3.5}
        }));
        let config = config.unwrap();
        assert_eq!(config.rank_of("model.layers.0.self_attn.q_proj"), 6);
        assert_eq!(config.rank_of("model.layers.1.self_attn.v_proj"), 2);
        assert_eq!(config.rank_of("model.layers.0.self_attn.v_proj"), 4);
        assert_eq!(config.alpha_of("model.layers.0.self_attn.v_proj"), 3.5);
        assert_eq!(config.alpha_of("model.layers.2.self_attn.v_proj"), 16.0);
    }

    #[test]
    fn wrong_values_are_named() {
        let sentence = |json| parse(json).unwrap_err().to_string();
        assert_eq!(sentence(json!({"r": 0})), "adapter_config.json: found r 0, expected a whole number of 1 or more");
        assert_eq!(
            sentence(json!({"peft_type": "IA3"})),
            "adapter_config.json: found an adapter with peft_type IA3, expected LORA"
        );
        assert_eq!(
            sentence(json!({"lora_alpha": "16"})),
            "adapter_config.json: found lora_alpha \"16\", expected a number"
        );
        assert!(sentence(json!({"rank_pattern": {"q_proj": 0}})).contains("q_proj"));
        assert!(sentence(json!({"rank_pattern": {"(q_proj": 1}})).contains("(q_proj"));
        assert!(sentence(json!({"use_rslora": 1})).contains("use_rslora"));
    }
}
