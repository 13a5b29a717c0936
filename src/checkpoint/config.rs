//! [`Config`]: what a hub `config.json` says about sizes, in either of its spellings.

use serde_json::Value;

/// The sizes of a model. Everything may be missing: a field is `None` when the file does not say it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `LlamaForCausalLM`, the first of `architectures`.
    pub architecture: Option<String>,
    /// `llama`, `gpt2`, …; of the language part, in a model of several parts.
    pub model_type: Option<String>,
    /// Width of the residual stream (`hidden_size`, `n_embd`, `d_model`).
    pub hidden_size: Option<usize>,
    /// Inner width of the MLP (`intermediate_size`, `n_inner`, `ffn_dim`, `d_ff`; GPT-2's default is 4 · hidden).
    pub intermediate_size: Option<usize>,
    /// Blocks (`num_hidden_layers`, `n_layer`, `num_layers`).
    pub num_hidden_layers: Option<usize>,
    /// Query heads (`num_attention_heads`, `n_head`, `num_heads`).
    pub num_attention_heads: Option<usize>,
    /// Key and value heads; as many as query heads when the file does not say it.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head: said, or hidden / heads.
    pub head_dim: Option<usize>,
    /// Rows of the embedding.
    pub vocab_size: Option<usize>,
    /// Longest sequence (`max_position_embeddings`, `n_positions`, `n_ctx`).
    pub max_position_embeddings: Option<usize>,
    /// Experts of a mixture (`num_local_experts`, `num_experts`, `n_routed_experts`).
    pub num_experts: Option<usize>,
    /// Whether the head is the embedding: as the file says, else the model type's default in transformers.
    pub tie_word_embeddings: Option<bool>,
    /// `bfloat16`, … (`dtype`, or the older `torch_dtype`).
    pub dtype: Option<String>,
    /// Base of the rotary embedding (`rope_theta`, or in `rope_parameters`; the full-attention one where there are two).
    pub rope_theta: Option<f64>,
}

/// Where models of several parts keep the language part's config.
const NESTED: [&str; 4] = ["text_config", "llm_config", "language_config", "thinker_config"];

/// Model types whose head is the embedding unless the config says otherwise, in transformers.
const TIED: [&str; 22] = [
    "gpt2",
    "gpt_bigcode",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gemma3n",
    "gemma3n_text",
    "opt",
    "bloom",
    "falcon",
    "mpt",
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "albert",
    "t5",
    "cohere",
    "cohere2",
    "smollm3",
    "starcoder2",
];

/// Model types with a head of its own unless the config says otherwise, in transformers.
const UNTIED: [&str; 22] = [
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "phi",
    "phi3",
    "phimoe",
    "gpt_neox",
    "gptj",
    "codegen",
    "stablelm",
    "olmo",
    "olmo2",
    "olmoe",
    "granite",
    "deepseek_v2",
    "deepseek_v3",
    "internlm2",
    "nemotron",
];

impl Config {
    /// Reads what is there; a value of the wrong type counts as missing.
    pub fn new(raw: &Value) -> Self {
        let look = Look { nested: NESTED.iter().find_map(|key| raw.get(key).filter(|v| v.is_object())), raw };
        let architecture =
            raw.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str).map(str::to_owned);
        let model_type = look.get("model_type").and_then(Value::as_str).map(str::to_owned);
        let hidden_size = look.size(&["hidden_size", "n_embd", "d_model", "hidden_dim"]);
        let intermediate_size = look
            .size(&["intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size"])
            .or_else(|| hidden_size.filter(|_| model_type.as_deref() == Some("gpt2")).and_then(|d| d.checked_mul(4)));
        let num_attention_heads = look.size(&["num_attention_heads", "n_head", "num_heads", "n_heads"]);
        let head_dim = look.size(&["head_dim", "d_kv"]).or_else(|| hidden_size?.checked_div(num_attention_heads?));
        let tied = model_type.as_deref().and_then(tied_by_default);
        Self {
            architecture,
            hidden_size,
            intermediate_size,
            num_hidden_layers: look.size(&["num_hidden_layers", "n_layer", "num_layers", "n_layers"]),
            num_attention_heads,
            num_key_value_heads: look
                .size(&["num_key_value_heads", "num_kv_heads", "n_head_kv"])
                .or(num_attention_heads),
            head_dim,
            vocab_size: look.size(&["vocab_size"]),
            max_position_embeddings: look.size(&[
                "max_position_embeddings",
                "n_positions",
                "n_ctx",
                "max_seq_len",
                "seq_length",
            ]),
            num_experts: look.size(&["num_local_experts", "num_experts", "n_routed_experts"]),
            tie_word_embeddings: look.get("tie_word_embeddings").and_then(Value::as_bool).or(tied),
            dtype: look.get("dtype").or_else(|| look.get("torch_dtype")).and_then(Value::as_str).map(str::to_owned),
            rope_theta: look.rope_theta(),
            model_type,
        }
    }
}

/// What transformers takes when the config does not say it.
fn tied_by_default(model_type: &str) -> Option<bool> {
    if TIED.contains(&model_type) {
        Some(true)
    } else if UNTIED.contains(&model_type) {
        Some(false)
    } else {
        None
    }
}

/// The language part first, then the whole.
struct Look<'a> {
    nested: Option<&'a Value>,
    raw: &'a Value,
}

impl<'a> Look<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        let found = |value: &'a Value| value.get(key).filter(|v| !v.is_null());
        self.nested.and_then(found).or_else(|| found(self.raw))
    }

    fn size(&self, keys: &[&str]) -> Option<usize> {
        keys.iter().find_map(|key| self.get(key)?.as_u64()).and_then(|size| usize::try_from(size).ok())
    }

    fn rope_theta(&self) -> Option<f64> {
        let older = || self.get("rope_theta").and_then(Value::as_f64);
        let Some(newer) = self.get("rope_parameters") else { return older() };
        let newer = newer.get("full_attention").unwrap_or(newer);
        newer.get("rope_theta").and_then(Value::as_f64).or_else(older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_say_the_same() {
        let older = json!({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3"}, "torch_dtype": "bfloat16"});
        let newer = json!({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3"}, "dtype": "bfloat16"});
        assert_eq!(Config::new(&older), Config::new(&newer));
        assert_eq!(Config::new(&older).rope_theta, Some(500000.0));
        let gemma = json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}});
        assert_eq!(Config::new(&gemma).rope_theta, Some(1e6));
    }

    #[test]
    fn gpt2_has_its_own_words() {
        let config =
            json!({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": null, "n_positions": 256});
        let config = Config::new(&config);
        assert_eq!(config.hidden_size, Some(64));
        assert_eq!(config.intermediate_size, Some(256));
        assert_eq!(config.num_hidden_layers, Some(2));
        assert_eq!(config.head_dim, Some(16));
        assert_eq!(config.num_key_value_heads, Some(4));
        assert_eq!(config.tie_word_embeddings, Some(true));
    }

    #[test]
    fn the_language_part_comes_first() {
        let config = json!({
            "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
            "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34},
            "vision_config": {"hidden_size": 1152}
        });
        let config = Config::new(&config);
        assert_eq!(config.hidden_size, Some(2560));
        assert_eq!(config.architecture.as_deref(), Some("Gemma3ForConditionalGeneration"));
        assert_eq!(config.tie_word_embeddings, Some(true));
        assert_eq!(config.dtype.as_deref(), Some("bfloat16"));
    }

    #[test]
    fn nonsense_counts_as_missing() {
        let config =
            json!({"hidden_size": -3, "num_attention_heads": "many", "vocab_size": 1.5, "tie_word_embeddings": 1});
        assert_eq!(Config::new(&config), Config::default());
        let none = json!({"hidden_size": 8, "num_attention_heads": 0});
        assert_eq!(Config::new(&none).head_dim, None);
    }
}
