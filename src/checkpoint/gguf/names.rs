//! From llama.cpp's names to transformers': tensors, and the settings of `config.json`.
//!
//! A new architecture is one line in [`ARCHITECTURES`], and names in [`BLOCK`] where it has others. What is not in the table keeps
//! llama.cpp's names: it can be looked at, not run.

use crate::checkpoint::header::Entry;
use crate::checkpoint::tensor::View;
use serde_json::{Map, Value, json};

/// What llama.cpp's converter does to an architecture beside renaming.
pub(crate) struct Architecture {
    /// `general.architecture`.
    pub(crate) gguf: &'static str,
    /// transformers' `model_type`.
    pub(crate) model_type: &'static str,
    /// And its class.
    class: &'static str,
    /// Rows of q and k stand in pairs that turn together: (0, d/2), (1, d/2 + 1), … within each head.
    pub(crate) turned: bool,
    /// Norms are stored with the 1 added that transformers adds when it uses them.
    pub(crate) plus_one: bool,
    /// The norm before the feed-forward is a third one, after that of the attention's output.
    four_norms: bool,
    /// Whole models are read and written, not adapters alone.
    pub(crate) models: bool,
    /// The modules of a block have Llama's names.
    names: bool,
}

const PLAIN: Architecture = Architecture {
    gguf: "",
    model_type: "",
    class: "",
    turned: false,
    plus_one: false,
    four_norms: false,
    models: true,
    names: true,
};
const ADAPTERS: Architecture = Architecture { models: false, ..PLAIN };

#[rustfmt::skip]
static ARCHITECTURES: [Architecture; 15] = [
    Architecture { gguf: "llama", model_type: "llama", class: "LlamaForCausalLM", turned: true, ..PLAIN },
    Architecture { gguf: "llama", model_type: "mistral", class: "MistralForCausalLM", turned: true, ..PLAIN },
    Architecture { gguf: "qwen2", model_type: "qwen2", class: "Qwen2ForCausalLM", ..PLAIN },
    Architecture { gguf: "qwen3", model_type: "qwen3", class: "Qwen3ForCausalLM", ..PLAIN },
    Architecture { gguf: "gemma", model_type: "gemma", class: "GemmaForCausalLM", plus_one: true, ..PLAIN },
    Architecture { gguf: "gemma2", model_type: "gemma2", class: "Gemma2ForCausalLM", plus_one: true, four_norms: true, ..PLAIN },
    Architecture { gguf: "gemma3", model_type: "gemma3_text", class: "Gemma3ForCausalLM", plus_one: true, four_norms: true, ..PLAIN },
    Architecture { gguf: "gemma3", model_type: "gemma3", plus_one: true, four_norms: true, ..ADAPTERS },
    Architecture { gguf: "granite", model_type: "granite", turned: true, ..ADAPTERS },
    Architecture { gguf: "smollm3", model_type: "smollm3", turned: true, ..ADAPTERS },
    Architecture { gguf: "olmo2", model_type: "olmo2", ..ADAPTERS },
    Architecture { gguf: "olmo2", model_type: "olmo3", ..ADAPTERS },
    Architecture { gguf: "phi3", model_type: "phi3", names: false, ..ADAPTERS },
    Architecture { gguf: "gpt2", model_type: "gpt2", names: false, ..ADAPTERS },
    Architecture { gguf: "starcoder2", model_type: "starcoder2", names: false, ..ADAPTERS },
];

/// The architectures that are known, by transformers' `model_type`.
pub(crate) fn of_model(model_type: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|one| one.model_type == model_type)
}

/// The `model_type`s for which models are written, or else adapters.
pub(crate) fn known(models: bool) -> String {
    let all = ARCHITECTURES.iter().filter(|one| one.models || !models).map(|one| one.model_type);
    all.collect::<Vec<_>>().join(", ")
}

/// Names outside the blocks.
const TOP: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Names within a block.
const BLOCK: [(&str, &str); 13] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
];

/// Settings that are a number in both, by what follows the architecture's name.
const NUMBERS: [(&str, &str); 13] = [
    ("block_count", "num_hidden_layers"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("attention.layer_norm_epsilon", "layer_norm_eps"),
    ("attention.sliding_window", "sliding_window"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("context_length", "max_position_embeddings"),
    ("rope.freq_base", "rope_theta"),
];

/// Renames the factors of an adapter, says how their values are to be read, and makes what stands for an `adapter_config.json`.
pub(super) fn translate_adapter(entries: &mut [Entry], metadata: &Map<String, Value>) -> Value {
    let architecture = metadata.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
    let known = ARCHITECTURES.iter().find(|one| one.gguf == architecture && one.names);
    let turned = ARCHITECTURES.iter().any(|one| one.gguf == architecture && one.turned);
    let heads =
        |key: &str| metadata.get(&format!("{architecture}.attention.{key}")).and_then(Value::as_u64).unwrap_or(0);
    let queries = heads("head_count");
    let keys = if heads("head_count_kv") > 0 { heads("head_count_kv") } else { queries };
    let known_heads = queries > 0;
    for entry in entries {
        let Some((weight, factor)) = entry.name.rsplit_once('.').filter(|(_, end)| end.starts_with("lora_")) else {
            continue;
        };
        let stem = weight.strip_suffix(".weight").unwrap_or(weight);
        let of = match stem.rsplit('.').next() {
            Some("attn_q") if turned && factor == "lora_b" => queries,
            Some("attn_k") if turned && factor == "lora_b" => keys,
            _ => 0,
        };
        entry.view = turned_rows(entry, of);
        let name = known.and_then(|known| renamed(stem, known)).unwrap_or_else(|| stem.to_owned());
        entry.name = format!("{name}.{factor}");
    }
    let get = |key: &str| metadata.get(key).cloned().unwrap_or(Value::Null);
    json!({
        "general.architecture": architecture,
        "adapter.type": get("adapter.type"),
        "adapter.lora.alpha": get("adapter.lora.alpha"),
        "base": get("general.base_model.0.repo_url"),
        // Rows that stand in the order of llama.cpp's rotary embedding, and nothing says how many heads they are.
        "turned": turned && !known_heads,
    })
}

/// How the rows of so many heads are stored.
fn turned_rows(entry: &Entry, heads: u64) -> View {
    let heads = usize::try_from(heads).unwrap_or(0);
    let even = heads > 0 && entry.shape.first().is_some_and(|rows| rows.is_multiple_of(2 * heads));
    if even { View::Heads(heads) } else { View::Plain }
}

/// Renames the tensors, says how their values are to be read, and makes a `config.json`.
pub(super) fn translate(entries: &mut [Entry], metadata: &Map<String, Value>) -> Value {
    let architecture = metadata.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
    let Some(known) = ARCHITECTURES.iter().find(|one| one.gguf == architecture && one.models) else {
        return json!({ "model_type": architecture, "architectures": [architecture] });
    };
    let mut config = Map::new();
    config.insert("model_type".to_owned(), known.model_type.into());
    config.insert("architectures".to_owned(), json!([known.class]));
    let get = |key: &str| metadata.get(&format!("{architecture}.{key}"));
    for (theirs, ours) in NUMBERS {
        if let Some(value) = get(theirs).filter(|value| value.is_number()) {
            config.insert(ours.to_owned(), value.clone());
        }
    }
    let rows = |name: &str| entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.shape.first());
    if let Some(&rows) = rows("token_embd.weight") {
        config.insert("vocab_size".to_owned(), rows.into());
    }
    config.insert("tie_word_embeddings".to_owned(), rows("output.weight").is_none().into());
    config.insert("attention_bias".to_owned(), rows("blk.0.attn_q.bias").is_some().into());
    if let Some(scaling) = scaling(metadata, architecture) {
        config.insert("rope_scaling".to_owned(), scaling);
    }
    let heads = |key: &str| get(key).and_then(Value::as_u64).unwrap_or(1);
    let queries = heads("attention.head_count");
    let keys = get("attention.head_count_kv").map_or(queries, |_| heads("attention.head_count_kv"));
    for entry in entries {
        let (stem, end) = entry.name.rsplit_once('.').unwrap_or((&entry.name, ""));
        let turned = match stem.rsplit('.').next() {
            Some("attn_q") if known.turned => queries,
            Some("attn_k") if known.turned => keys,
            _ => 0,
        };
        let rows = turned_rows(entry, turned);
        entry.view = if rows != View::Plain {
            rows
        } else if known.plus_one && end == "weight" && stem.ends_with("norm") {
            View::LessOne
        } else {
            View::Plain
        };
        if let Some(name) = renamed(stem, known) {
            entry.name = format!("{name}.{end}");
        }
    }
    Value::Object(config)
}

/// What llama 3 divides its rotary frequencies by, as llama.cpp's `rope_freqs.weight` holds it; `numbers` are factor, low and high
/// frequency factor, and the original context.
pub(crate) fn llama3_factors(theta: f64, head_dim: usize, numbers: [f64; 4]) -> Vec<f32> {
    let [factor, low, high, context] = numbers;
    let one = |pair: usize| {
        let wave = 2.0 * std::f64::consts::PI * theta.powf(2.0 * pair as f64 / head_dim.max(1) as f64);
        if wave < context / high {
            1.0
        } else if wave > context / low {
            factor
        } else {
            let smooth = (context / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..head_dim / 2).map(|pair| one(pair) as f32).collect()
}

/// The `rope_scaling` whose divisors these are, where it is one of llama 3.
pub(crate) fn llama3(factors: &[f32], theta: f64) -> Value {
    let factor = factors.iter().fold(1f32, |most, &x| most.max(x));
    let found = [8192.0, 4096.0, 2048.0, 16384.0, 32768.0, 65536.0, 131_072.0].into_iter().find(|&context| {
        let expected = llama3_factors(theta, 2 * factors.len(), [f64::from(factor), 1.0, 4.0, context]);
        expected.iter().zip(factors).all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs())
    });
    match found {
        Some(context) => json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": context as u64,
        }),
        None => json!({ "rope_type": "frequencies of the file (rope_freqs.weight)" }),
    }
}

/// llama.cpp's name of a tensor of transformers' model, the way back of [`renamed`].
pub(crate) fn theirs(name: &str, known: &Architecture) -> Option<String> {
    let (stem, end) = name.rsplit_once('.')?;
    if let Some((theirs, _)) = TOP.iter().find(|(_, ours)| *ours == stem) {
        return Some(format!("{theirs}.{end}"));
    }
    let (number, part) = stem.strip_prefix("model.layers.")?.split_once('.')?;
    let block = number.parse::<usize>().ok()?;
    let part = match part {
        "pre_feedforward_layernorm" if known.four_norms => "ffn_norm",
        "post_attention_layernorm" if known.four_norms => "post_attention_norm",
        "post_attention_layernorm" => "ffn_norm",
        part => BLOCK.iter().find(|(_, ours)| *ours == part).map(|(theirs, _)| *theirs)?,
    };
    Some(format!("blk.{block}.{part}.{end}"))
}

/// The settings of a `config.json` under llama.cpp's names, without those that are no numbers.
pub(crate) fn settings(config: &Map<String, Value>, architecture: &str) -> Vec<(String, f64, bool)> {
    let get = |key: &str| config.get(key).or_else(|| config.get("rope_parameters")?.get(key)).and_then(Value::as_f64);
    let numbers = NUMBERS.iter().filter_map(|(theirs, ours)| {
        let real = theirs.ends_with("epsilon") || theirs.ends_with("softcapping") || theirs.ends_with("freq_base");
        Some((format!("{architecture}.{theirs}"), get(ours)?, real))
    });
    numbers.collect()
}

fn renamed(stem: &str, known: &Architecture) -> Option<String> {
    let of = |table: &[(&str, &str)], name: &str| {
        table.iter().find(|(theirs, _)| *theirs == name).map(|&(_, ours)| ours.to_owned())
    };
    let Some((block, name)) = stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
        return of(&TOP, stem);
    };
    let name = if known.four_norms && name == "ffn_norm" {
        Some("pre_feedforward_layernorm".to_owned())
    } else {
        of(&BLOCK, name)
    };
    Some(format!("model.layers.{}.{}", block.parse::<usize>().ok()?, name?))
}

/// The scaling of rotary positions in `config.json`'s words.
fn scaling(metadata: &Map<String, Value>, architecture: &str) -> Option<Value> {
    let get = |key: &str| metadata.get(&format!("{architecture}.rope.scaling.{key}"));
    let factor = get("factor").and_then(Value::as_f64)?;
    let kind = get("type").and_then(Value::as_str).unwrap_or("linear");
    let original = get("original_context_length").and_then(Value::as_u64);
    match kind {
        "none" => None,
        _ => Some(json!({ "rope_type": kind, "factor": factor, "original_max_position_embeddings": original })),
    }
}
