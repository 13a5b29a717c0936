//! Published architectures, as the sizes in their `config.json`. No weights are needed to count.

use super::layout::Layout;
use crate::error::{Error, Result};
use crate::spec::ModelSpec;
use serde_json::Value;
use std::path::Path;

/// A published architecture.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What to type: `llama-3.1-8b`.
    pub id: &'static str,
    /// What to read: `Llama 3.1 8B`.
    pub title: &'static str,
    /// `GPT-3`, `Llama`, `Mistral`, …
    pub family: &'static str,
    /// The hub repository whose `config.json` has these sizes; for GPT-3 the paper.
    pub source: &'static str,
    /// `model_type`.
    model_type: &'static str,
    /// Hidden size, width of the MLP, blocks, heads, key and value heads, rows of the embedding.
    sizes: [usize; 6],
    /// What else its `config.json` says: the inside of a JSON object.
    more: &'static str,
    /// What a reader should know about the count.
    pub note: Option<&'static str>,
}

impl Preset {
    /// Its weights.
    pub fn layout(&self) -> Layout {
        let layout = of_sizes(self.title, self.model_type, self.sizes, self.more);
        Layout { note: self.note.map(str::to_owned).or(layout.note), ..layout }
    }
}

/// The model of a family with these sizes (as in [`Preset`]), and what else its config says. Where the family refuses them
/// there are no weights, and the note says why.
pub fn of_sizes(name: &str, model_type: &str, sizes: [usize; 6], more: &str) -> Layout {
    let spec = serde_json::from_str(&format!("{{{more}}}")).map_err(|error| Error::failure(error.to_string()));
    let spec = spec.and_then(|mut config: Value| {
        let keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];
        let keys = keys.into_iter().chain(["num_key_value_heads", "vocab_size"]);
        keys.zip(sizes).for_each(|(key, size)| config[key] = size.into());
        config["model_type"] = model_type.into();
        let mut spec = ModelSpec::of_config(&config, Path::new("config.json"), None)?;
        // Sizes say nothing of how far a model may look, unless it has a table of positions.
        let stated = ["max_position_embeddings", "n_positions"].iter().any(|key| config.get(key).is_some());
        if !stated && spec.positions.is_none() {
            spec.max_positions = usize::MAX;
        }
        Ok(spec)
    });
    match spec {
        Ok(spec) => Layout::from_spec(name, spec),
        Err(error) => {
            let note = Some(error.to_string());
            Layout { name: name.to_owned(), parameters: 0, weights: Vec::new(), note, spec: None }
        }
    }
}

/// A model type, sizes, and what else there is to say.
type Sizes = (&'static str, [usize; 6], &'static str);

const fn new(
    family: &'static str,
    id: &'static str,
    title: &'static str,
    source: &'static str,
    (model_type, sizes, more): Sizes,
) -> Preset {
    Preset { id, title, family, source, model_type, sizes, more, note: None }
}

const TIED: &str = r#""tie_word_embeddings": true"#;

impl Preset {
    const fn note(self, note: &'static str) -> Self {
        Self { note: Some(note), ..self }
    }
}

const BY_CLASS: &str =
    "The sizes are those of the config class in transformers 5.24; the published file could not be read.";
/// Of MindSpeed-RL, slime and Ollama (its pages of GGUF metadata), and in tests of several programs that serve these models.
const ELSEWHERE: &str = "The sizes were compared with what several other programs hold for this model; its config.json itself was not read.";
const REMEMBERED: &str = "The sizes are those of the published config.json as remembered; the file itself was not read when they were written down.";
const TEXT: &str = "The text model alone; the hub's figure includes the vision tower.";

/// Every preset, by family and size.
pub const fn presets() -> &'static [Preset] {
    PRESETS
}

/// Their families, each once.
fn families() -> Vec<&'static str> {
    let mut found: Vec<&str> = Vec::new();
    for preset in PRESETS {
        if !found.contains(&preset.family) {
            found.push(preset.family);
        }
    }
    found
}

/// What several blocks are, as `layer_types` says it.
macro_rules! sliding {
    () => {
        r#""sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention", "full_attention""#
    };
}
macro_rules! mamba {
    () => {
        r#""mamba", "mamba", "mamba", "mamba", "mamba", "attention", "mamba", "mamba", "mamba", "mamba""#
    };
}

const GEMMA_4_E2B: &str = concat!(
    r#""head_dim": 256, "global_head_dim": 512, "num_kv_shared_layers": 20, "use_double_wide_mlp": true, "hidden_size_per_layer_input": 256, "layer_types": ["#,
    sliding!(),
    ",",
    sliding!(),
    ",",
    sliding!(),
    ",",
    sliding!(),
    ",",
    sliding!(),
    ",",
    sliding!(),
    ",",
    sliding!(),
    "]"
);
const GEMMA_4_E4B: &str =
    r#""head_dim": 256, "global_head_dim": 512, "num_kv_shared_layers": 18, "hidden_size_per_layer_input": 256"#;
const GEMMA_4_12B: &str =
    r#""head_dim": 256, "global_head_dim": 512, "attention_k_eq_v": true, "num_global_key_value_heads": 1"#;
const GEMMA_4_26B: &str = r#""head_dim": 256, "global_head_dim": 512, "attention_k_eq_v": true, "num_global_key_value_heads": 2,
    "hidden_size_per_layer_input": 0, "enable_moe_block": true, "num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704"#;
const GEMMA_4_31B: &str = r#""head_dim": 256, "global_head_dim": 512, "attention_k_eq_v": true, "num_global_key_value_heads": 4,
    "hidden_size_per_layer_input": 0"#;
const GRANITE_H_TINY: &str = concat!(
    r#""shared_intermediate_size": 1024, "num_local_experts": 64, "num_experts_per_tok": 6, "mamba_n_heads": 48, "mamba_d_state": 128, "tie_word_embeddings": true, "layer_types": ["#,
    mamba!(),
    ",",
    mamba!(),
    ",",
    mamba!(),
    ",",
    mamba!(),
    "]"
);
const GRANITE_MICRO: &str = concat!(
    r#""shared_intermediate_size": 8192, "num_local_experts": 0, "position_embedding_type": "rope", "tie_word_embeddings": true, "layer_types": ["#,
    r#""attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "#,
    r#""attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "#,
    r#""attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "#,
    r#""attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention"]"#
);
const NEMOTRON_3_NANO: &str = r#""head_dim": 128, "moe_intermediate_size": 1856, "moe_shared_expert_intermediate_size": 3712, "n_routed_experts": 128,
    "num_experts_per_tok": 6, "mamba_num_heads": 64, "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME""#;
const QWEN3_MOE: &str =
    r#""head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768"#;
const QWEN3_MOE_LARGE: &str =
    r#""head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536"#;
const QWEN3_5_SMALL: &str =
    r#""head_dim": 256, "linear_num_key_heads": 16, "linear_num_value_heads": 16, "tie_word_embeddings": true"#;

const GPT3: Preset = new(
    "GPT-3",
    "gpt3-175b",
    "GPT-3 175B",
    "arXiv 2005.14165",
    ("gpt3", [12288, 4 * 12288, 96, 96, 96, 50257], r#""n_positions": 2048"#),
)
.note("The GPT-3 paper prints 174,600M (table D.1), which this reproduces; the LoRA paper prints 175,255.8M.");

/// GPT-3 175B, the LoRA paper's largest model.
pub(super) const fn gpt3() -> Preset {
    GPT3
}

#[rustfmt::skip]
static PRESETS: &[Preset] = &[
    GPT3,

    // hidden, ffn, layers, heads, kv heads, vocabulary
    new("Llama", "llama-7b", "LLaMA 7B", "huggyllama/llama-7b", ("llama", [4096, 11008, 32, 32, 32, 32000], "")),
    new("Llama", "llama-13b", "LLaMA 13B", "huggyllama/llama-13b", ("llama", [5120, 13824, 40, 40, 40, 32000], "")),
    new("Llama", "llama-30b", "LLaMA 33B", "huggyllama/llama-30b", ("llama", [6656, 17920, 60, 52, 52, 32000], "")),
    new("Llama", "llama-65b", "LLaMA 65B", "huggyllama/llama-65b", ("llama", [8192, 22016, 80, 64, 64, 32000], "")),
    new("Llama", "llama-2-7b", "Llama 2 7B", "meta-llama/Llama-2-7b-hf", ("llama", [4096, 11008, 32, 32, 32, 32000], "")),
    new("Llama", "llama-2-13b", "Llama 2 13B", "meta-llama/Llama-2-13b-hf", ("llama", [5120, 13824, 40, 40, 40, 32000], "")),
    new("Llama", "llama-2-70b", "Llama 2 70B", "meta-llama/Llama-2-70b-hf", ("llama", [8192, 28672, 80, 64, 8, 32000], "")),
    new("Llama", "llama-3-8b", "Llama 3 8B", "meta-llama/Meta-Llama-3-8B", ("llama", [4096, 14336, 32, 32, 8, 128256], "")),
    new("Llama", "llama-3-70b", "Llama 3 70B", "meta-llama/Meta-Llama-3-70B", ("llama", [8192, 28672, 80, 64, 8, 128256], "")),
    new("Llama", "llama-3.1-8b", "Llama 3.1 8B", "meta-llama/Llama-3.1-8B", ("llama", [4096, 14336, 32, 32, 8, 128256], "")),
    new("Llama", "llama-3.1-70b", "Llama 3.1 70B", "meta-llama/Llama-3.1-70B", ("llama", [8192, 28672, 80, 64, 8, 128256], "")),
    new("Llama", "llama-3.1-405b", "Llama 3.1 405B", "meta-llama/Llama-3.1-405B", ("llama", [16384, 53248, 126, 128, 8, 128256], "")),
    new("Llama", "llama-3.2-1b", "Llama 3.2 1B", "meta-llama/Llama-3.2-1B", ("llama", [2048, 8192, 16, 32, 8, 128256], TIED)),
    new("Llama", "llama-3.2-3b", "Llama 3.2 3B", "meta-llama/Llama-3.2-3B", ("llama", [3072, 8192, 28, 24, 8, 128256], TIED)),
    new("Llama", "llama-3.3-70b", "Llama 3.3 70B", "meta-llama/Llama-3.3-70B-Instruct", ("llama", [8192, 28672, 80, 64, 8, 128256], "")),
    new("Llama", "tinyllama-1.1b", "TinyLlama 1.1B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", ("llama", [2048, 5632, 22, 32, 4, 32000], "")),

    new("Mistral", "mistral-7b-v0.1", "Mistral 7B v0.1", "mistralai/Mistral-7B-v0.1", ("mistral", [4096, 14336, 32, 32, 8, 32000], "")),
    new("Mistral", "mistral-7b-v0.3", "Mistral 7B v0.3", "mistralai/Mistral-7B-v0.3", ("mistral", [4096, 14336, 32, 32, 8, 32768], "")),
    new("Mistral", "ministral-8b", "Ministral 8B 2410", "mistralai/Ministral-8B-Instruct-2410", ("mistral", [4096, 12288, 36, 32, 8, 131072], "")),
    new("Mistral", "mistral-nemo-12b", "Mistral Nemo 12B", "mistralai/Mistral-Nemo-Base-2407", ("mistral", [5120, 14336, 40, 32, 8, 131072], r#""head_dim": 128"#)),
    new("Mistral", "mistral-small-24b", "Mistral Small 24B", "mistralai/Mistral-Small-24B-Base-2501", ("mistral", [5120, 32768, 40, 32, 8, 131072], r#""head_dim": 128"#)),
    new("Mistral", "mistral-large-123b", "Mistral Large 2 123B", "mistralai/Mistral-Large-Instruct-2407", ("mistral", [12288, 28672, 88, 96, 8, 32768], "")),
    new("Mistral", "mixtral-8x7b", "Mixtral 8x7B", "mistralai/Mixtral-8x7B-v0.1",
        ("mixtral", [4096, 14336, 32, 32, 8, 32000], ""))
        .note("All linears include the router and every expert, as separate layers; newer transformers store the experts as one tensor, which PEFT leaves alone."),

    new("Qwen", "qwen2.5-0.5b", "Qwen2.5 0.5B", "Qwen/Qwen2.5-0.5B", ("qwen2", [896, 4864, 24, 14, 2, 151936], TIED)),
    new("Qwen", "qwen2.5-1.5b", "Qwen2.5 1.5B", "Qwen/Qwen2.5-1.5B", ("qwen2", [1536, 8960, 28, 12, 2, 151936], TIED)),
    new("Qwen", "qwen2.5-3b", "Qwen2.5 3B", "Qwen/Qwen2.5-3B", ("qwen2", [2048, 11008, 36, 16, 2, 151936], TIED)),
    new("Qwen", "qwen2.5-7b", "Qwen2.5 7B", "Qwen/Qwen2.5-7B", ("qwen2", [3584, 18944, 28, 28, 4, 152064], "")),
    new("Qwen", "qwen2.5-14b", "Qwen2.5 14B", "Qwen/Qwen2.5-14B", ("qwen2", [5120, 13824, 48, 40, 8, 152064], "")),
    new("Qwen", "qwen2.5-32b", "Qwen2.5 32B", "Qwen/Qwen2.5-32B", ("qwen2", [5120, 27648, 64, 40, 8, 152064], "")),
    new("Qwen", "qwen2.5-72b", "Qwen2.5 72B", "Qwen/Qwen2.5-72B", ("qwen2", [8192, 29568, 80, 64, 8, 152064], "")),
    new("Qwen", "qwen3-0.6b", "Qwen3 0.6B", "Qwen/Qwen3-0.6B", ("qwen3", [1024, 3072, 28, 16, 8, 151936], r#""head_dim": 128, "tie_word_embeddings": true"#)),
    new("Qwen", "qwen3-1.7b", "Qwen3 1.7B", "Qwen/Qwen3-1.7B", ("qwen3", [2048, 6144, 28, 16, 8, 151936], TIED)),
    new("Qwen", "qwen3-4b", "Qwen3 4B", "Qwen/Qwen3-4B", ("qwen3", [2560, 9728, 36, 32, 8, 151936], r#""head_dim": 128, "tie_word_embeddings": true"#)),
    new("Qwen", "qwen3-8b", "Qwen3 8B", "Qwen/Qwen3-8B", ("qwen3", [4096, 12288, 36, 32, 8, 151936], "")),
    new("Qwen", "qwen3-14b", "Qwen3 14B", "Qwen/Qwen3-14B", ("qwen3", [5120, 17408, 40, 40, 8, 151936], "")),
    new("Qwen", "qwen3-32b", "Qwen3 32B", "Qwen/Qwen3-32B", ("qwen3", [5120, 25600, 64, 64, 8, 151936], r#""head_dim": 128"#)),

    new("Qwen", "qwen3.5-9b", "Qwen3.5 9B", "Qwen/Qwen3.5-9B", ("qwen3_5_text", [4096, 12288, 32, 16, 4, 248_320], "")).note(BY_CLASS),
    new("Qwen", "qwen3-30b-a3b", "Qwen3 30B-A3B", "Qwen/Qwen3-30B-A3B", ("qwen3_moe", [2048, 6144, 48, 32, 4, 151936], QWEN3_MOE)).note(ELSEWHERE),
    new("Qwen", "qwen3-235b-a22b", "Qwen3 235B-A22B", "Qwen/Qwen3-235B-A22B", ("qwen3_moe", [4096, 12288, 94, 64, 4, 151936], QWEN3_MOE_LARGE)).note(ELSEWHERE),
    new("Qwen", "qwen3.5-0.8b", "Qwen3.5 0.8B", "Qwen/Qwen3.5-0.8B", ("qwen3_5_text", [1024, 3584, 24, 8, 2, 248_320], QWEN3_5_SMALL)).note(REMEMBERED),
    new("Qwen", "qwen3.5-2b", "Qwen3.5 2B", "Qwen/Qwen3.5-2B", ("qwen3_5_text", [2048, 6144, 24, 8, 2, 248_320], QWEN3_5_SMALL)).note(REMEMBERED),
    new("Qwen", "qwen3.5-4b", "Qwen3.5 4B", "Qwen/Qwen3.5-4B", ("qwen3_5_text", [2560, 9216, 32, 16, 4, 248_320], r#""head_dim": 256, "tie_word_embeddings": true"#)).note(REMEMBERED),
    new("Qwen", "qwen3.5-27b", "Qwen3.5 27B", "Qwen/Qwen3.5-27B", ("qwen3_5_text", [5120, 17408, 64, 24, 4, 248_320], r#""head_dim": 256, "linear_num_value_heads": 48"#)).note(ELSEWHERE),
    new("Qwen", "qwen3.5-35b-a3b", "Qwen3.5 35B-A3B", "Qwen/Qwen3.5-35B-A3B", ("qwen3_5_moe_text", [2048, 512, 40, 16, 2, 248_320], r#""head_dim": 256, "num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512"#)).note(BY_CLASS),
    new("OLMo", "olmo-3-7b", "OLMo 3 7B", "allenai/Olmo-3-1025-7B", ("olmo3", [4096, 11008, 32, 32, 32, 100_278], "")).note(REMEMBERED),
    new("OLMo", "olmo-3-32b", "OLMo 3 32B", "allenai/Olmo-3-1125-32B", ("olmo3", [5120, 27648, 64, 40, 8, 100_278], "")).note(REMEMBERED),
    new("OLMo", "olmo-hybrid-7b", "OLMo hybrid 7B", "allenai/Olmo-Hybrid-7B", ("olmo_hybrid", [3840, 11008, 32, 30, 30, 100_352], "")).note(BY_CLASS),
    new("Bamba", "bamba-9b", "Bamba 9.8B", "ibm-fms/Bamba-9.8b-2.2T-hf", ("bamba", [4096, 14336, 32, 32, 8, 128_000], "")).note(BY_CLASS),

    new("gpt-oss", "gpt-oss-20b", "gpt-oss 20B", "openai/gpt-oss-20b", ("gpt_oss", [2880, 2880, 24, 64, 8, 201_088], r#""head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4"#)).note(ELSEWHERE),
    new("gpt-oss", "gpt-oss-120b", "gpt-oss 120B", "openai/gpt-oss-120b", ("gpt_oss", [2880, 2880, 36, 64, 8, 201_088], r#""head_dim": 64, "num_local_experts": 128, "num_experts_per_tok": 4"#)).note(ELSEWHERE),
    new("Llama", "llama-4-scout", "Llama 4 Scout 17B-16E", "meta-llama/Llama-4-Scout-17B-16E", ("llama4_text", [5120, 8192, 48, 40, 8, 202_048], r#""head_dim": 128, "intermediate_size_mlp": 16384, "num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1"#)).note(ELSEWHERE),
    new("Llama", "llama-4-maverick", "Llama 4 Maverick 17B-128E", "meta-llama/Llama-4-Maverick-17B-128E", ("llama4_text", [5120, 8192, 48, 40, 8, 202_048], r#""head_dim": 128, "intermediate_size_mlp": 16384, "num_local_experts": 128, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2"#)).note(ELSEWHERE),
    new("Mistral", "ministral-3-3b", "Ministral 3 3B", "mistralai/Ministral-3-3B-Base-2512", ("ministral3", [3072, 9216, 26, 32, 8, 131_072], r#""head_dim": 128, "tie_word_embeddings": true"#)).note(REMEMBERED),
    new("Mistral", "ministral-3-8b", "Ministral 3 8B", "mistralai/Ministral-3-8B-Base-2512", ("ministral3", [4096, 14336, 34, 32, 8, 131_072], r#""head_dim": 128"#)).note(BY_CLASS),
    new("Mistral", "ministral-3-14b", "Ministral 3 14B", "mistralai/Ministral-3-14B-Base-2512", ("ministral3", [5120, 16384, 40, 32, 8, 131_072], r#""head_dim": 128"#)).note(REMEMBERED),
    new("SmolLM", "smollm3-3b", "SmolLM3 3B", "HuggingFaceTB/SmolLM3-3B", ("smollm3", [2048, 11008, 36, 16, 4, 128_256], TIED)).note(BY_CLASS),
    new("GLM", "glm-4.7-flash", "GLM-4.7-Flash 30B-A3B", "zai-org/GLM-4.7-Flash", ("glm4_moe_lite", [2048, 10240, 47, 20, 20, 154_880], "")).note(BY_CLASS),
    new("DeepSeek", "deepseek-v3", "DeepSeek-V3 671B", "deepseek-ai/DeepSeek-V3", ("deepseek_v3", [7168, 18432, 61, 128, 128, 129_280], "")).note(BY_CLASS),
    new("LFM2", "lfm2-1.2b", "LFM2 1.2B", "LiquidAI/LFM2-1.2B", ("lfm2", [2048, 12288, 16, 32, 8, 65536], r#""full_attn_idxs": [2, 5, 8, 10, 12, 14]"#)).note(REMEMBERED),
    new("LFM2", "lfm2-8b-a1b", "LFM2 8B-A1B", "LiquidAI/LFM2-8B-A1B", ("lfm2_moe", [2048, 7168, 24, 32, 8, 65536], r#""full_attn_idxs": [2, 6, 10, 14, 18, 21]"#)).note(REMEMBERED),
    new("Granite", "granite-4.0-h-tiny", "Granite 4.0 H Tiny 7B-A1B", "ibm-granite/granite-4.0-h-tiny", ("granitemoehybrid", [1536, 512, 40, 12, 4, 100_352], GRANITE_H_TINY)).note(REMEMBERED),
    new("Granite", "granite-4.0-micro", "Granite 4.0 Micro 3B", "ibm-granite/granite-4.0-micro", ("granitemoehybrid", [2560, 8192, 40, 40, 8, 100_352], GRANITE_MICRO)).note(REMEMBERED),
    new("Nemotron", "nemotron-3-nano-30b-a3b", "Nemotron 3 Nano 30B-A3B", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", ("nemotron_h", [2688, 1856, 52, 32, 2, 131_072], NEMOTRON_3_NANO)).note(ELSEWHERE),

    new("Gemma", "gemma-4-e2b", "Gemma 4 E2B", "google/gemma-4-e2b-it", ("gemma4_text", [1536, 6144, 35, 8, 1, 262_144], GEMMA_4_E2B)).note(ELSEWHERE),
    new("Gemma", "gemma-4-e4b", "Gemma 4 E4B", "google/gemma-4-e4b-it", ("gemma4_text", [2560, 10240, 42, 8, 2, 262_144], GEMMA_4_E4B)).note(ELSEWHERE),
    new("Gemma", "gemma-4-12b", "Gemma 4 12B", "google/gemma-4-12B-it", ("gemma4_unified_text", [3840, 15360, 48, 16, 8, 262_144], GEMMA_4_12B)).note(ELSEWHERE),
    new("Gemma", "gemma-4-26b-a4b", "Gemma 4 26B-A4B", "google/gemma-4-26B-A4B-it", ("gemma4_text", [2816, 2112, 30, 16, 8, 262_144], GEMMA_4_26B)).note(ELSEWHERE),
    new("Gemma", "gemma-4-31b", "Gemma 4 31B", "google/gemma-4-31B-it", ("gemma4_text", [5376, 21504, 60, 32, 16, 262_144], GEMMA_4_31B)).note(ELSEWHERE),
    new("Gemma", "gemma-2-2b", "Gemma 2 2B", "google/gemma-2-2b", ("gemma2", [2304, 9216, 26, 8, 4, 256000], "")),
    new("Gemma", "gemma-2-9b", "Gemma 2 9B", "google/gemma-2-9b", ("gemma2", [3584, 14336, 42, 16, 8, 256000], "")),
    new("Gemma", "gemma-2-27b", "Gemma 2 27B", "google/gemma-2-27b", ("gemma2", [4608, 36864, 46, 32, 16, 256000], r#""head_dim": 128"#)),
    new("Gemma", "gemma-3-270m", "Gemma 3 270M", "google/gemma-3-270m", ("gemma3_text", [640, 2048, 18, 4, 1, 262144], "")),
    new("Gemma", "gemma-3-1b", "Gemma 3 1B", "google/gemma-3-1b-pt", ("gemma3_text", [1152, 6912, 26, 4, 1, 262144], "")),
    new("Gemma", "gemma-3-4b", "Gemma 3 4B", "google/gemma-3-4b-pt", ("gemma3_text", [2560, 10240, 34, 8, 4, 262208], "")).note(TEXT),
    new("Gemma", "gemma-3-12b", "Gemma 3 12B", "google/gemma-3-12b-pt", ("gemma3_text", [3840, 15360, 48, 16, 8, 262208], "")).note(TEXT),
    new("Gemma", "gemma-3-27b", "Gemma 3 27B", "google/gemma-3-27b-pt", ("gemma3_text", [5376, 21504, 62, 32, 16, 262208], r#""head_dim": 128"#)).note(TEXT),

    new("Phi", "phi-3-mini", "Phi-3 mini 3.8B", "microsoft/Phi-3-mini-4k-instruct", ("phi3", [3072, 8192, 32, 32, 32, 32064], "")),
    new("Phi", "phi-3-medium", "Phi-3 medium 14B", "microsoft/Phi-3-medium-4k-instruct", ("phi3", [5120, 17920, 40, 40, 10, 32064], "")),
    new("Phi", "phi-3.5-mini", "Phi-3.5 mini 3.8B", "microsoft/Phi-3.5-mini-instruct", ("phi3", [3072, 8192, 32, 32, 32, 32064], "")),
    new("Phi", "phi-4", "Phi-4 14B", "microsoft/phi-4", ("phi3", [5120, 17920, 40, 40, 10, 100352], "")),
    new("Phi", "phi-4-mini", "Phi-4 mini 3.8B", "microsoft/Phi-4-mini-instruct", ("phi3", [3072, 8192, 32, 24, 8, 200064], TIED)),

    // hidden, layers, heads, vocabulary
    new("GPT-2", "gpt2", "GPT-2 124M", "openai-community/gpt2", gpt("gpt2", 768, 12, 12, 50257)),
    new("GPT-2", "gpt2-medium", "GPT-2 medium 355M", "openai-community/gpt2-medium", gpt("gpt2", 1024, 24, 16, 50257)),
    new("GPT-2", "gpt2-large", "GPT-2 large 774M", "openai-community/gpt2-large", gpt("gpt2", 1280, 36, 20, 50257)),
    new("GPT-2", "gpt2-xl", "GPT-2 XL 1.5B", "openai-community/gpt2-xl", gpt("gpt2", 1600, 48, 25, 50257)),

    // hidden, layers, heads, vocabulary
    new("Pythia", "pythia-70m", "Pythia 70M", "EleutherAI/pythia-70m", gpt("gpt_neox", 512, 6, 8, 50304)),
    new("Pythia", "pythia-160m", "Pythia 160M", "EleutherAI/pythia-160m", gpt("gpt_neox", 768, 12, 12, 50304)),
    new("Pythia", "pythia-410m", "Pythia 410M", "EleutherAI/pythia-410m", gpt("gpt_neox", 1024, 24, 16, 50304)),
    new("Pythia", "pythia-1b", "Pythia 1B", "EleutherAI/pythia-1b", gpt("gpt_neox", 2048, 16, 8, 50304)),
    new("Pythia", "pythia-1.4b", "Pythia 1.4B", "EleutherAI/pythia-1.4b", gpt("gpt_neox", 2048, 24, 16, 50304)),
    new("Pythia", "pythia-2.8b", "Pythia 2.8B", "EleutherAI/pythia-2.8b", gpt("gpt_neox", 2560, 32, 32, 50304)),
    new("Pythia", "pythia-6.9b", "Pythia 6.9B", "EleutherAI/pythia-6.9b", gpt("gpt_neox", 4096, 32, 32, 50432)),
    new("Pythia", "pythia-12b", "Pythia 12B", "EleutherAI/pythia-12b", gpt("gpt_neox", 5120, 36, 40, 50688)),
    new("Pythia", "gpt-neox-20b", "GPT-NeoX 20B", "EleutherAI/gpt-neox-20b", gpt("gpt_neox", 6144, 44, 64, 50432)),
];

/// A GPT-2 or GPT-NeoX: an MLP of four hidden sizes, keys and values for every head.
const fn gpt(model_type: &'static str, hidden: usize, layers: usize, heads: usize, vocab: usize) -> Sizes {
    (model_type, [hidden, 4 * hidden, layers, heads, heads, vocab], "")
}

/// The preset with this identifier, title or hub name; case, spaces and punctuation do not matter.
///
/// # Errors
/// Bad input when there is none; the sentence names those that are close, or the families.
pub fn find(name: &str) -> Result<&'static Preset> {
    let wanted = plain(name);
    let names = |preset: &Preset| {
        let repository = preset.source.rsplit('/').next().unwrap_or(preset.source);
        [preset.id, preset.title, preset.source, repository].map(plain)
    };
    if let Some(preset) = PRESETS.iter().find(|preset| names(preset).contains(&wanted)) {
        return Ok(preset);
    }
    let close: Vec<&Preset> = PRESETS
        .iter()
        .filter(|preset| !wanted.is_empty() && names(preset).iter().any(|name| name.contains(&wanted)))
        .collect();
    match close[..] {
        [only] => Ok(only),
        [] => Err(Error::usage(format!(
            "there is no preset \"{name}\"; there are models of {}, for example gpt3-175b and llama-3.1-8b: \
             `rankscope params --presets` lists them",
            families().join(", ")
        ))),
        _ => {
            let ids: Vec<&str> = close.iter().map(|preset| preset.id).collect();
            Err(Error::usage(format!("\"{name}\" may be any of these presets: {}", ids.join(", "))))
        }
    }
}

/// Lower-case letters and digits alone, so that `GPT-3 175B` and `gpt3-175b` are one name.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
