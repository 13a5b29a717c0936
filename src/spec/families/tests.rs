//! What a config means, spelled in either way, and what is refused.

use super::*;
use serde_json::json;

fn parse(change: &[(&str, Value)]) -> Result<ModelSpec> {
    let mut raw = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 320, "max_position_embeddings": 256});
    for (key, value) in change {
        raw[*key] = value.clone();
    }
    ModelSpec::of_config(&raw, Path::new("config.json"), None)
}

fn windows(spec: &ModelSpec) -> Vec<Option<usize>> {
    spec.blocks.iter().map(|block| block.attention().unwrap().window).collect()
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
    assert_eq!(windows(&parse(&qwen).unwrap()), [None; 4]);
    let used = parse(&[&qwen[..], &[("use_sliding_window", json!(true))]].concat()).unwrap();
    assert_eq!(windows(&used), [None, None, Some(16), Some(16)]);
    let gemma = [
        ("architectures", json!(["Gemma2ForCausalLM"])),
        ("model_type", json!("gemma2")),
        ("sliding_window", json!(8)),
    ];
    let gemma = parse(&gemma).unwrap();
    assert_eq!(windows(&gemma), [Some(8), None, Some(8), None]);
    let cap = gemma.blocks[0].attention().unwrap().softcap;
    assert_eq!((cap, gemma.logit_cap, gemma.embedding_scale), (50.0, 30.0, 8.0));
}

#[test]
fn what_makes_no_sense_is_named() {
    let sentence = |key: &str, value: Value| parse(&[(key, value)]).unwrap_err().to_string();
    assert!(sentence("num_key_value_heads", json!(3)).contains('3'));
    assert!(sentence("hidden_size", json!(0)).contains("hidden_size"));
    assert!(sentence("num_hidden_layers", json!(1_000_000)).contains("1000000 blocks"));
}

/// What is not computed can still be counted.
#[test]
fn what_is_not_supported_is_named() {
    let sentence = |key: &str, value: Value| {
        let spec = parse(&[(key, value)]).unwrap();
        assert_eq!(spec.parameters(), parse(&[]).unwrap().parameters());
        spec.not_run.unwrap()
    };
    assert_eq!(parse(&[]).unwrap().not_run, None);
    let other = json!(["LlamaForSequenceClassification"]);
    assert!(sentence("architectures", other).contains("LlamaForSequenceClassification"));
    assert!(sentence("rope_scaling", json!({"type": "dual", "factor": 4.0})).contains("dual"));
    assert!(sentence("rope_scaling", json!({"type": "longrope"})).contains("short_factor"));
    assert!(sentence("hidden_act", json!("quick_gelu")).contains("quick_gelu"));
    assert!(sentence("partial_rotary_factor", json!(0.5)).contains("partial_rotary_factor"));
    assert!(sentence("quantization_config", json!({"quant_method": "hqq"})).contains("hqq"));
    assert!(sentence("clip_qkv", json!(8.0)).contains("clip_qkv 8.0"));
    assert!(sentence("layer_types", json!(["full_attention", "linear_attention"])).contains("layer_types"));
}

#[test]
fn an_unknown_family_gets_its_nearest() {
    let sentence = parse(&[("model_type", json!("llama9")), ("architectures", json!(["Llama9ForCausalLM"]))]);
    let sentence = sentence.unwrap_err().to_string();
    assert!(sentence.contains("llama9 (Llama9ForCausalLM)") && sentence.contains("nearest"), "{sentence}");
    assert!(sentence.contains("llama") && sentence.ends_with(nearest::STILL), "{sentence}");
    // More blocks than any model has: each family is tried on a few of them.
    let deep = parse(&[("model_type", json!("llama9")), ("num_hidden_layers", json!(1_000_000))]);
    assert!(deep.unwrap_err().to_string().contains("the nearest that is is llama"));
    // A key that no family near it has, and modules of another name.
    let other = parse(&[("model_type", json!("novel")), ("clip_qkv", json!(4.0))]).unwrap_err().to_string();
    assert!(other.contains("nearest"), "{other}");
    let raw = json!({"model_type": "novel", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 160, "vocab_size": 320});
    // Llama's modules but for two.
    let there = [
        "q_proj",
        "k_proj",
        "self_attn.v_proj",
        "mlp.gate_proj",
        "down_proj",
        "layernorm",
        "embed_tokens",
        "model.norm",
        "lm_head",
    ];
    let has = |name: &str| there.iter().any(|part| name.contains(part));
    let error = ModelSpec::of_config(&raw, Path::new("config.json"), Some(&has)).unwrap_err().to_string();
    assert!(error.contains("but it has no model.layers.0."), "{error}");
}
