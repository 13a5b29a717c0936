//! Models and adapters that do not fit, together or in themselves.

use super::says;
use crate::support::{Stored, adapter, change_header, copy, f32s, fixture, model, raw, tensors, zeros};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::delta::{DeltaSet, DeltaWeight, Source};
use rankscope::error::Result;
use serde_json::{Value, json};
use std::sync::Arc;

#[test]
fn shapes_and_vocabularies_that_differ_are_said_per_module() {
    let folder = copy("llama");
    let path = folder.path().join("model-00003-of-00003.safetensors");
    std::fs::write(&path, tensors(&[zeros("lm_head.weight", &[322, 64])])).unwrap();
    let path = folder.path().join("model-00001-of-00003.safetensors");
    change_header(&path, |header| header["model.layers.0.self_attn.k_proj.weight"]["shape"] = json!([64, 32]));
    let base = Arc::new(Checkpoint::open(folder.path()).unwrap());
    let tuned = Arc::new(Checkpoint::open(&fixture("llama-tuned")).unwrap());
    let set = DeltaSet::new(base, Source::Tuned(tuned)).unwrap();
    let problem = |name: &str| set.entry(name).unwrap().problem.clone();
    assert_eq!(problem("lm_head").as_deref(), Some("found vocabulary 320, expected 322"));
    assert_eq!(problem("model.layers.0.self_attn.k_proj").as_deref(), Some("found shape [32, 64], expected [64, 32]"));
    assert_eq!(set.misfits().count(), 2);
    says(set.load(set.entry("lm_head").unwrap(), &()), &["lm_head: found vocabulary 320, expected 322"]);
    let rest: Vec<_> = set.entries().iter().filter(|entry| entry.problem.is_none()).collect();
    assert_eq!(rest.len(), 14);
    assert!(rest.iter().all(|entry| set.load(entry, &()).is_ok()));
    assert!(set.check_adapter().is_ok(), "a tuned model may fit in part");
}

#[test]
fn models_that_do_not_belong_together() {
    let open = |name: &str| Arc::new(Checkpoint::open(&fixture(name)).unwrap());
    says(DeltaSet::new(open("llama"), Source::Tuned(open("gpt2"))), &["gpt2", "belongs to another base than llama"]);
    says(
        DeltaSet::new(open("llama-adapter"), Source::Weight),
        &["llama-adapter", "found an adapter, expected a model as the base"],
    );
    says(
        DeltaSet::new(open("llama"), Source::Tuned(open("llama-adapter"))),
        &["found an adapter, expected a tuned model"],
    );
    says(Adapter::open(&fixture("llama")), &["llama", "found a model, expected an adapter"]);
}

#[test]
fn an_adapter_for_another_base() {
    let base = |name: &str| Arc::new(Checkpoint::open(&fixture(name)).unwrap());
    let adapter = |name: &str| Source::Adapter(Arc::new(Adapter::open(&fixture(name)).unwrap()));
    says(
        DeltaSet::new(base("gpt2"), adapter("llama-adapter")),
        &[
            "llama-adapter: this adapter belongs to another base than gpt2: 14 of its 14 modules do not fit",
            "no such module",
            "../llama",
        ],
    );
    // The same names, and most shapes: q, k, v and o are wider in gemma3.
    let set = DeltaSet::new(base("gemma3"), adapter("llama-adapter")).unwrap();
    says(
        set.check_adapter(),
        &[
            "llama-adapter",
            "another base than gemma3",
            "8 of its 14 modules",
            "q_proj: found shape [64, 64], expected [128, 64]",
        ],
    );
    assert!(set.load(set.entry("model.layers.0.mlp.up_proj").unwrap(), &()).is_ok(), "the rest still works");
    says(set.load(set.entry("model.layers.0.self_attn.q_proj").unwrap(), &()), &["q_proj", "found shape [64, 64]"]);
    assert!(DeltaSet::new(base("llama"), adapter("llama-adapter")).unwrap().check_adapter().is_ok());
}

const A: &str = "base_model.model.layers.0.q_proj.lora_A.weight";

const B: &str = "base_model.model.layers.0.q_proj.lora_B.weight";

#[test]
fn adapters_whose_factors_do_not_fit() {
    let config = || json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]});
    #[track_caller]
    fn open(config: &Value, list: &[Stored], parts: &[&str]) {
        let folder = adapter(config, list);
        says(Adapter::open(folder.path()), parts);
    }
    open(&config(), &[zeros(A, &[2, 8]), zeros(B, &[8, 3])], &[A, B, "found rank 2 (its rows), expected rank 3"]);
    open(&config(), &[zeros(A, &[3, 8]), zeros(B, &[8, 3])], &[A, "found rank 3", "expected 2", "rank_pattern"]);
    open(&config(), &[zeros(A, &[2, 8])], &[A, "found A without B"]);
    open(&config(), &[zeros(B, &[8, 2])], &[B, "found B without A"]);
    open(&config(), &[zeros(A, &[0, 8]), zeros(B, &[8, 0])], &[A, "empty", "[0, 8]"]);
    open(&config(), &[zeros(A, &[2, 2, 2]), zeros(B, &[8, 2])], &[A, "found shape [2, 2, 2], expected two sizes"]);
    open(&config(), &[raw(A, "I8", &[2, 8], &[0; 16]), zeros(B, &[8, 2])], &[A, "I8"]);
    let twice = "layers.0.q_proj.lora_A.weight";
    open(&config(), &[zeros(A, &[2, 8]), zeros(twice, &[2, 8]), zeros(B, &[8, 2])], &["same factor"]);
    let other = "base_model.model.layers.0.q_proj.lora_B.second.weight";
    open(&config(), &[zeros(A, &[2, 8]), zeros(other, &[8, 2])], &["more than one adapter"]);
    let embedding = "base_model.model.layers.0.q_proj.lora_embedding_B";
    open(&config(), &[zeros(A, &[2, 8]), zeros(embedding, &[8, 2])], &[A, "one factor of an embedding"]);
    open(&config(), &[zeros("lora_unet_x.lora_down.weight", &[2, 8])], &["found no lora_A and lora_B"]);
    open(&config(), &[zeros("base_model.model.x.lora_magnitude_vector", &[2])], &["neither A nor B"]);
    let whole = || [zeros(A, &[2, 8]), zeros(B, &[8, 2])];
    open(&Value::Null, &whole(), &["no adapter_config.json"]);
    open(&json!([]), &whole(), &["adapter_config.json", "found a list"]);
    for (key, value, part) in [
        ("r", json!(0), "found r 0"),
        ("r", json!(-1), "found r -1"),
        ("r", json!("2"), "found r \"2\""),
        ("r", json!(3), "found rank 2 (its rows), expected 3"),
        ("lora_alpha", json!([]), "found lora_alpha a list"),
        ("peft_type", json!("IA3"), "peft_type IA3"),
        ("rank_pattern", json!({"q_proj": 0}), "rank_pattern"),
        ("rank_pattern", json!({"q_proj": 5}), "expected 5"),
        ("rank_pattern", json!({"*": 5}), "\"*\""),
        ("alpha_pattern", json!([1]), "alpha_pattern"),
        ("target_modules", json!(3), "target_modules"),
        ("use_qalora", json!(true), "QALoRA"),
    ] {
        let mut config = config();
        config[key] = value;
        open(&config, &whole(), &[part]);
    }
    let folder = adapter(&config(), &whole());
    std::fs::remove_file(folder.path().join("adapter_model.safetensors")).unwrap();
    says(Adapter::open(folder.path()), &["found adapter_config.json but no weights"]);
}

#[test]
fn adapters_whose_values_cannot_be_used() {
    let base = model(&Value::Null, &[zeros("layers.0.q_proj.weight", &[8, 8])]);
    let base = Arc::new(Checkpoint::open(base.path()).unwrap());
    let load = |config: &Value, list: &[Stored]| -> Result<DeltaWeight> {
        let folder = adapter(config, list);
        let adapter = Arc::new(Adapter::open(folder.path())?);
        let set = DeltaSet::new(Arc::clone(&base), Source::Adapter(adapter))?;
        set.check_adapter()?;
        set.load(&set.entries()[0], &())
    };
    let config = json!({"peft_type": "LORA", "r": 2});
    let good = || vec![zeros(A, &[2, 8]), zeros(B, &[8, 2])];
    assert!(load(&config, &good()).is_ok());
    let mut values = [0.0; 16];
    values[9] = f32::NAN;
    says(
        load(&config, &[f32s(A, &[2, 8], &values), zeros(B, &[8, 2])]),
        &[A, "found 1 NaN among 16 values, first at row 1, column 1"],
    );
    says(load(&json!({"r": 2, "use_dora": true}), &good()), &["layers.0.q_proj", "DoRA", "magnitude"]);
    let mut dora = good();
    dora.push(zeros("base_model.model.layers.0.q_proj.lora_magnitude_vector", &[8]));
    assert!(matches!(load(&config, &dora), Ok(DeltaWeight::Dense(_))), "DoRA's has full rank");
    // A rank over min(out, in) is no use but PEFT trains it: it loads.
    let wide = load(&json!({"r": 20}), &[zeros(A, &[20, 8]), zeros(B, &[8, 20])]);
    assert_eq!(wide.unwrap().shape(), [8, 8]);
}
