//! [`PeftConfig`]: what `adapter_config.json` says, read and written.

use super::kinds;
use super::pattern::{Budget, Pattern, Patterns};
use super::scaling::Scaling;
use super::write::WEIGHT;
use crate::checkpoint::{json::kind, layer_of};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Which modules a PEFT adapter was made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TargetModules {
    /// Nothing said: PEFT then takes its default for the architecture.
    #[default]
    Unsaid,
    /// Names or ends of names.
    Names(Vec<String>),
    /// `all-linear`, or a regular expression for whole names.
    Pattern(String),
}

/// Rows of an embedding that are trained (`trainable_token_indices`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenIndices {
    /// None.
    #[default]
    None,
    /// Of the model's input embedding.
    Input(Vec<usize>),
    /// By the (end of the) name of an embedding.
    ByModule(BTreeMap<String, Vec<usize>>),
}

impl TokenIndices {
    /// The rows of module `name`.
    pub fn of(&self, name: &str) -> Option<&[usize]> {
        match self {
            Self::None => None,
            Self::Input(rows) => Some(rows),
            Self::ByModule(modules) => {
                let meant =
                    |key: &str| name.strip_suffix(key).is_some_and(|before| before.is_empty() || before.ends_with('.'));
                modules.iter().find(|(key, _)| meant(key)).map(|(_, rows)| rows.as_slice())
            }
        }
    }
}

/// Factors that are block-diagonal (`use_bdlora`): the file holds their blocks one below the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDiagonal {
    /// Modules whose A is (a part of their name).
    pub a: Vec<String>,
    /// Modules whose B is.
    pub b: Vec<String>,
    /// Number of blocks.
    pub blocks: usize,
}

/// A LoRA adapter's settings, by PEFT's names.
#[derive(Clone, Debug)]
pub struct PeftConfig {
    /// Rank, where `rank_pattern` says nothing else; 8 when missing, as in PEFT.
    pub r: usize,
    /// α, where `alpha_pattern` says nothing else; 8 when missing.
    pub lora_alpha: f64,
    /// Dropout of the branches' input, for whoever trains on.
    pub lora_dropout: f64,
    /// Adapted modules.
    pub target_modules: TargetModules,
    /// Adapted parameters of modules: the experts of a mixture.
    pub target_parameters: Vec<String>,
    /// α/r, or with `use_rslora` α/√r.
    pub scaling: Scaling,
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
    /// Rows of embeddings that are saved.
    pub trainable_token_indices: TokenIndices,
    /// Embedding and head stay one weight, also where one of them was trained.
    pub ensure_weight_tying: bool,
    /// What the adapter was made for.
    pub base_model_name_or_path: Option<String>,
    /// `CAUSAL_LM`, ….
    pub task_type: Option<String>,
    /// How A and B were initialised, when it was not the default.
    pub init_lora_weights: Option<String>,
    /// For a trained adapter; false for a plan that somebody is to train.
    pub inference_mode: bool,
    /// Block-diagonal factors.
    pub block_diagonal: Option<BlockDiagonal>,
    /// Everything that the file says, for those keys that mean nothing here and are written again.
    pub json: Map<String, Value>,
}

/// PEFT's default for a missing rank and a missing α.
const DEFAULT: usize = 8;

impl Default for PeftConfig {
    fn default() -> Self {
        Self {
            r: DEFAULT,
            lora_alpha: DEFAULT as f64,
            lora_dropout: 0.0,
            target_modules: TargetModules::Unsaid,
            target_parameters: Vec::new(),
            scaling: Scaling::Rank,
            use_dora: false,
            rank_pattern: Patterns::default(),
            alpha_pattern: Patterns::default(),
            fan_in_fan_out: false,
            bias: "none".to_owned(),
            lora_bias: false,
            modules_to_save: Vec::new(),
            trainable_token_indices: TokenIndices::None,
            ensure_weight_tying: false,
            base_model_name_or_path: None,
            task_type: None,
            init_lora_weights: None,
            inference_mode: false,
            block_diagonal: None,
            json: Map::new(),
        }
    }
}

impl PeftConfig {
    /// Reads `adapter_config.json`, which is at `path`. LoHa's and LoKr's say α as `alpha`. `another` is the sentence about an
    /// adapter of another kind.
    ///
    /// # Errors
    /// When a value has the wrong type, r is 0, or the adapter is of another kind than LoRA.
    pub fn parse(json: &Value, path: &Path, another: &dyn Fn(&str) -> String) -> Result<Self> {
        let fields = Fields { json, path };
        let found = fields.text("peft_type")?.unwrap_or_else(|| "LORA".to_owned());
        let alpha_key = match found.as_str() {
            "LORA" => "lora_alpha",
            "LOHA" | "LOKR" => "alpha",
            _ => return Err(Error::file(path, another(&found))),
        };
        if fields.flag("use_qalora")? {
            return Err(Error::file(
                path,
                "found a QALoRA adapter, whose A is not of the weight's width, expected LoRA",
            ));
        }
        let mut budget = Budget::default();
        let wrong = |key: &str, message: String| Error::file(path, format!("{key}: {message}"));
        let ranks = fields.get("rank_pattern");
        let rank_pattern = Patterns::parse(ranks, rank, "a whole number of 1 or more", &mut budget);
        let alpha_pattern = Patterns::parse(fields.get("alpha_pattern"), alpha, "a number", &mut budget);
        Ok(Self {
            r: fields.value("r", DEFAULT, rank, "a whole number of 1 or more")?,
            lora_alpha: fields.value(alpha_key, DEFAULT as f64, alpha, "a number")?,
            lora_dropout: fields.get("lora_dropout").and_then(alpha).unwrap_or(0.0),
            target_modules: fields.targets()?,
            target_parameters: fields.texts("target_parameters"),
            scaling: Scaling::new(fields.flag("use_rslora")?),
            use_dora: fields.flag("use_dora")?,
            rank_pattern: rank_pattern.map_err(|e| wrong("rank_pattern", e))?,
            alpha_pattern: alpha_pattern.map_err(|e| wrong("alpha_pattern", e))?,
            fan_in_fan_out: fields.flag("fan_in_fan_out")?,
            bias: fields.text("bias")?.unwrap_or_else(|| "none".to_owned()),
            lora_bias: fields.flag("lora_bias")?,
            modules_to_save: fields.texts("modules_to_save"),
            trainable_token_indices: fields.tokens()?,
            ensure_weight_tying: fields.flag("ensure_weight_tying")?,
            base_model_name_or_path: fields.text("base_model_name_or_path")?,
            task_type: fields.text("task_type")?,
            init_lora_weights: fields.get("init_lora_weights").and_then(Value::as_str).map(str::to_owned),
            inference_mode: fields.get("inference_mode").and_then(Value::as_bool).unwrap_or(false),
            block_diagonal: fields.block_diagonal()?,
            json: json.as_object().cloned().unwrap_or_default(),
        })
    }

    /// Rank of a module (the base's own name): the first key of `rank_pattern` that matches it, else `r`. PEFT matches the name of the
    /// parameter `weight` where it adapts that in place of the module.
    pub fn rank_of(&self, module: &str) -> usize {
        self.rank_pattern.get(&self.target(module)).copied().unwrap_or(self.r)
    }

    /// α of a module, likewise.
    pub fn alpha_of(&self, module: &str) -> f64 {
        self.alpha_pattern.get(&self.target(module)).copied().unwrap_or(self.lora_alpha)
    }

    /// Whether `target_parameters` name the `weight` of a module: it, or the end of its name after a dot.
    pub fn is_parameter(&self, module: &str) -> bool {
        let means =
            |target: &str| module.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        self.target_parameters.iter().any(|name| name.strip_suffix(WEIGHT).is_some_and(means))
    }

    /// What PEFT matches keys of patterns with: a module, or the parameter that it adapts in its place.
    pub fn target<'a>(&self, module: &'a str) -> Cow<'a, str> {
        if self.is_parameter(module) { Cow::Owned(format!("{module}{WEIGHT}")) } else { Cow::Borrowed(module) }
    }

    /// The base's name for a module of a base that has some blocks more than once (`layer_replication`, ranges of the base's blocks
    /// one behind the other): PEFT counts the blocks of the longer model.
    pub fn replicated(&self, module: &str) -> Option<String> {
        let layer = layer_of(module)?;
        let mut left = layer as u64;
        for range in self.json.get("layer_replication")?.as_array()? {
            let end = |at: usize| range.get(at).and_then(Value::as_u64);
            let (start, end) = (end(0)?, end(1)?);
            let count = end.checked_sub(start)?;
            if left < count {
                return Some(module.replacen(&format!(".{layer}."), &format!(".{}.", start + left), 1));
            }
            left -= count;
        }
        None
    }

    /// The words for how it was trained, where it is more than plain LoRA and changes what an adapter does: aLoRA, KaSA, ….
    /// PEFT reads each from a key of its own.
    pub fn variants(&self) -> impl Iterator<Item = &'static kinds::Variant> + '_ {
        kinds::VARIANTS.iter().filter(|variant| match self.json.get(variant.key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(items)) => !items.is_empty() || variant.key.ends_with("_config"),
            Some(_) => true,
        })
    }

    /// `adapter_config.json`, by PEFT's names; what a file said beyond them stands there again.
    pub fn to_json(&self) -> Value {
        let patterns = |values: Vec<(&str, Value)>| -> Value {
            Value::Object(values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        let list = |texts: &[String]| if texts.is_empty() { Value::Null } else { json!(texts) };
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        put("peft_type", json!("LORA"));
        put("task_type", json!(self.task_type));
        put("base_model_name_or_path", json!(self.base_model_name_or_path));
        put("r", json!(self.r));
        put("lora_alpha", number(self.lora_alpha));
        put("lora_dropout", number(self.lora_dropout));
        put(
            "target_modules",
            match &self.target_modules {
                TargetModules::Unsaid => Value::Null,
                TargetModules::Names(names) => json!(names),
                TargetModules::Pattern(pattern) => json!(pattern),
            },
        );
        put("use_rslora", json!(self.scaling.is_rslora()));
        put("rank_pattern", patterns(self.rank_pattern.iter().map(|(key, r)| (key.text(), json!(r))).collect()));
        put("alpha_pattern", patterns(self.alpha_pattern.iter().map(|(key, a)| (key.text(), number(*a))).collect()));
        put("fan_in_fan_out", json!(self.fan_in_fan_out));
        put("bias", json!(self.bias));
        put("init_lora_weights", self.init_lora_weights.as_ref().map_or(json!(true), |init| json!(init)));
        put("inference_mode", json!(self.inference_mode));
        put("modules_to_save", list(&self.modules_to_save));
        put("use_dora", json!(self.use_dora));
        if self.lora_bias || self.json.contains_key("lora_bias") {
            put("lora_bias", json!(self.lora_bias));
        }
        if !self.target_parameters.is_empty() || self.json.contains_key("target_parameters") {
            put("target_parameters", list(&self.target_parameters));
        }
        match &self.trainable_token_indices {
            TokenIndices::None => {}
            TokenIndices::Input(rows) => drop(put("trainable_token_indices", json!(rows))),
            TokenIndices::ByModule(modules) => drop(put("trainable_token_indices", json!(modules))),
        }
        for (key, value) in &self.json {
            // Who wrote the file last is not who wrote this one; pairs that were written whole have no blocks any more.
            let told = key == "peft_version" || (key == "use_bdlora" && self.block_diagonal.is_none());
            if !told && !out.contains_key(key) {
                out.insert(key.clone(), value.clone());
            }
        }
        Value::Object(out)
    }
}

impl TargetModules {
    /// Whether a name is meant, as PEFT decides it: names and ends of names, or a pattern for whole names. `None` where
    /// nothing is said, or the pattern cannot be read.
    pub fn matches(&self, module: &str) -> Option<bool> {
        match self {
            Self::Unsaid => None,
            Self::Names(names) => Some(names.iter().any(|name| {
                module.strip_suffix(name.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
            })),
            Self::Pattern(pattern) => {
                Pattern::whole(pattern, &mut Budget::default()).ok().map(|pattern| pattern.matches(module))
            }
        }
    }
}

fn rank(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok().filter(|&r| r > 0)
}

fn alpha(value: &Value) -> Option<f64> {
    value.as_f64().filter(|x| x.is_finite())
}

/// A whole number without a point.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

/// A list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// A list of rows.
fn rows(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(|item| usize::try_from(item.as_u64()?).ok()).collect()
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

    /// A list of names, or one name.
    fn texts(&self, key: &str) -> Vec<String> {
        let one = |value: &Value| value.as_str().map(|text| vec![text.to_owned()]);
        self.get(key).and_then(|value| texts(value).or_else(|| one(value))).unwrap_or_default()
    }

    fn targets(&self) -> Result<TargetModules> {
        let read = |value: &Value| match value {
            Value::String(pattern) => Some(TargetModules::Pattern(pattern.clone())),
            other => texts(other).map(TargetModules::Names),
        };
        self.value("target_modules", TargetModules::Unsaid, read, "a list of names or a text")
    }

    fn tokens(&self) -> Result<TokenIndices> {
        let read = |value: &Value| match value {
            Value::Object(modules) => {
                let each = modules.iter().map(|(name, list)| Some((name.clone(), rows(list)?)));
                each.collect::<Option<_>>().map(TokenIndices::ByModule)
            }
            other => rows(other).map(TokenIndices::Input),
        };
        self.value(
            "trainable_token_indices",
            TokenIndices::None,
            read,
            "a list of token ids, or one for each embedding",
        )
    }

    fn block_diagonal(&self) -> Result<Option<BlockDiagonal>> {
        let Some(found) = self.get("use_bdlora").filter(|value| value.is_object()) else { return Ok(None) };
        let fields = Fields { json: found, path: self.path };
        let blocks = fields.value("nblocks", 1, rank, "a whole number of 1 or more")?;
        Ok(Some(BlockDiagonal {
            a: fields.texts("target_modules_bd_a"),
            b: fields.texts("target_modules_bd_b"),
            blocks,
        }))
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

    fn parse(json: Value) -> Result<PeftConfig> {
        PeftConfig::parse(&json, Path::new("adapter_config.json"), &|kind| kind.to_owned())
    }

    #[test]
    fn missing_means_eight() {
        let config = parse(json!({"lora_alpha": null})).unwrap();
        assert_eq!((config.r, config.lora_alpha), (8, 8.0));
        assert_eq!(config.scaling.factor(16.0, 4), 4.0);
        assert_eq!(config.target_modules, TargetModules::Unsaid);
        let rs = parse(json!({"use_rslora": true, "r": 4, "lora_alpha": 16})).unwrap();
        assert_eq!(rs.scaling.factor(rs.alpha_of("x"), rs.rank_of("x")), 8.0);
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
        // What is said of another kind is the caller's, who has the file.
        assert_eq!(sentence(json!({"peft_type": "IA3"})), "adapter_config.json: IA3");
        assert_eq!(
            sentence(json!({"lora_alpha": "16"})),
            "adapter_config.json: found lora_alpha \"16\", expected a number"
        );
        assert!(sentence(json!({"rank_pattern": {"q_proj": 0}})).contains("q_proj"));
        assert!(sentence(json!({"rank_pattern": {"(q_proj": 1}})).contains("(q_proj"));
        assert!(sentence(json!({"use_rslora": 1})).contains("use_rslora"));
        assert!(sentence(json!({"trainable_token_indices": "all"})).contains("trainable_token_indices"));
    }

    #[test]
    fn what_is_written_says_what_was_read() {
        let json = json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 2.5, "target_modules": ["q_proj"], "use_rslora": true,
            "rank_pattern": {"^model\\.q": 2}, "modules_to_save": ["score"], "task_type": "SEQ_CLS", "bias": "all",
            "trainable_token_indices": {"embed_tokens": [1, 5]}, "alora_invocation_tokens": [7], "run_note": {"a": [1]},
            "peft_version": "0.1"
        });
        let config = parse(json.clone()).unwrap();
        let written = config.to_json();
        for key in json.as_object().unwrap().keys().filter(|key| *key != "peft_version") {
            assert_eq!(written[key], json[key], "{key}");
        }
        assert_eq!(written.get("peft_version"), None);
        // A pair that is written whole has no blocks: PEFT would expect each block alone.
        let blocks = parse(json!({"use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 2}})).unwrap();
        assert!(blocks.to_json().get("use_bdlora").is_some());
        assert_eq!(PeftConfig { block_diagonal: None, ..blocks }.to_json().get("use_bdlora"), None);
        assert_eq!(config.variants().map(|variant| variant.name).collect::<Vec<_>>(), ["aLoRA"]);
        assert_eq!(config.trainable_token_indices.of("model.embed_tokens"), Some([1, 5].as_slice()));
        assert_eq!(config.trainable_token_indices.of("model.pos"), None);
    }

    #[test]
    fn targets_as_peft_matches_them() {
        let names = TargetModules::Names(vec!["q_proj".into(), "mlp.up".into()]);
        assert_eq!(names.matches("a.q_proj"), Some(true));
        assert_eq!(names.matches("a.xq_proj"), Some(false));
        let pattern = TargetModules::Pattern(r".*layers\.(?!0\.).*q_proj".into());
        assert_eq!(
            (pattern.matches("m.layers.0.q_proj"), pattern.matches("m.layers.1.q_proj")),
            (Some(false), Some(true))
        );
        assert_eq!(TargetModules::Unsaid.matches("x"), None);
    }
}
