//! From llama.cpp's names to transformers': tensors, and the settings of `config.json`.
//!
//! A new architecture is one line in [`ARCHITECTURES`], and names in [`BLOCK`] where it has others. What is not in the table keeps
//! llama.cpp's names: it can be looked at, not run.

use crate::checkpoint::header::Entry;
use crate::checkpoint::tensor::View;
use serde_json::{Map, Value, json};

/// What llama.cpp's converter did to an architecture beside renaming.
struct Architecture {
    /// `general.architecture`.
    gguf: &'static str,
    /// transformers' `model_type`.
    model_type: &'static str,
    /// And its class.
    class: &'static str,
    /// Rows of q and k stand in pairs that turn together: (0, d/2), (1, d/2 + 1), … within each head.
    turned: bool,
    /// Norms are stored with the 1 added that transformers adds when it uses them.
    plus_one: bool,
    /// The norm before the feed-forward is a third one, after that of the attention's output.
    four_norms: bool,
}

const PLAIN: Architecture =
    Architecture { gguf: "", model_type: "", class: "", turned: false, plus_one: false, four_norms: false };

#[rustfmt::skip]
const ARCHITECTURES: [Architecture; 6] = [
    Architecture { gguf: "llama", model_type: "llama", class: "LlamaForCausalLM", turned: true, ..PLAIN },
    Architecture { gguf: "qwen2", model_type: "qwen2", class: "Qwen2ForCausalLM", ..PLAIN },
    Architecture { gguf: "qwen3", model_type: "qwen3", class: "Qwen3ForCausalLM", ..PLAIN },
    Architecture { gguf: "gemma", model_type: "gemma", class: "GemmaForCausalLM", plus_one: true, ..PLAIN },
    Architecture { gguf: "gemma2", model_type: "gemma2", class: "Gemma2ForCausalLM", plus_one: true, four_norms: true, ..PLAIN },
    Architecture { gguf: "gemma3", model_type: "gemma3_text", class: "Gemma3ForCausalLM", plus_one: true, four_norms: true, ..PLAIN },
];

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

/// Renames the tensors, says how their values are to be read, and makes a `config.json`.
pub(super) fn translate(entries: &mut [Entry], metadata: &Map<String, Value>) -> Value {
    let architecture = metadata.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
    let Some(known) = ARCHITECTURES.iter().find(|one| one.gguf == architecture) else {
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
    let heads = |key: &str| get(key).and_then(Value::as_u64).and_then(|heads| usize::try_from(heads).ok()).unwrap_or(1);
    let queries = heads("attention.head_count");
    let keys = get("attention.head_count_kv").map_or(queries, |_| heads("attention.head_count_kv"));
    for entry in entries {
        let (stem, end) = entry.name.rsplit_once('.').unwrap_or((&entry.name, ""));
        let turned = match stem.rsplit('.').next() {
            Some("attn_q") if known.turned => queries,
            Some("attn_k") if known.turned => keys,
            _ => 0,
        };
        let even = turned > 0 && entry.shape.first().is_some_and(|rows| rows.is_multiple_of(2 * turned));
        entry.view = if even {
            View::Heads(turned)
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
