//! Opening what real tools write: models, adapters, 4-bit folders, hub caches. Numbers are those of
//! `tests/fixtures/README.md` unless a test names another program.

mod adapters;
mod export;
mod folders;
mod four_bit;
use crate::support::{fixture, fixture_json, model, raw, zeros};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::{Checkpoint, Dtype, Group, Kind, Role};
use rankscope::error::{Error, Result};
use rankscope::progress::Progress;
use serde_json::{Value, json};
use std::path::PathBuf;

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(name)).unwrap()
}

fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    checkpoint.modules().iter().map(|m| m.name.as_str()).collect()
}

#[test]
fn models_have_the_parameters_that_torch_counts() {
    for (name, expected) in fixture_json("expected.json").as_object().unwrap() {
        let checkpoint = open(name);
        assert_eq!(json!(checkpoint.parameters()), expected["parameters"], "{name}");
        assert_eq!(checkpoint.spec().unwrap().parameters(), checkpoint.parameters(), "{name}");
        assert_eq!(checkpoint.kind(), Kind::Model);
        assert_eq!(checkpoint.format(), "safetensors, 3 shards");
        assert_eq!(checkpoint.name(), *name);
        assert_eq!(checkpoint.bytes(), 2 * checkpoint.parameters(), "bf16");
        assert_eq!(checkpoint.dtypes().keys().collect::<Vec<_>>(), [&Dtype::BF16]);
        assert_eq!(checkpoint.dtypes()[&Dtype::BF16], checkpoint.tensors().len());
    }
}

#[test]
fn llama_reads_as_a_person_would_list_it() {
    let llama = open("llama");
    assert_eq!(llama.architecture(), Some("LlamaForCausalLM"));
    let spec = llama.spec().unwrap();
    assert_eq!((spec.hidden, spec.blocks.len(), spec.vocab), (64, 2, 320));
    let attention = spec.blocks[0].attention().unwrap();
    assert_eq!((attention.heads, attention.kv_heads, attention.head_dim), (4, 2, 16));
    // θ 10000 over 16 dimensions: the second pair turns by 10000^(−2/16).
    assert!((spec.ropes[0].frequencies[1] - 10000f32.powf(-0.125)).abs() < 1e-7);
    let block = |n: usize| {
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj"]
            .into_iter()
            .chain(["mlp.down_proj", "input_layernorm", "post_attention_layernorm"])
            .map(move |part| format!("model.layers.{n}.{part}"))
    };
    let all: Vec<String> = std::iter::once("model.embed_tokens".to_owned())
        .chain(block(0))
        .chain(block(1))
        .chain(["model.norm".to_owned(), "lm_head".to_owned()])
        .collect();
    assert_eq!(names(&llama), all);
    let k = llama.module("model.layers.1.self_attn.k_proj").unwrap();
    assert_eq!(
        (k.shape.as_slice(), k.dtype, k.layer, k.role, k.linear),
        ([32, 64].as_slice(), Dtype::BF16, Some(1), Role::K, true)
    );
    assert_eq!((k.role.group(), k.parameters, k.bytes), (Group::Attention, 2048, 4096));
    let head = llama.module("lm_head").unwrap();
    assert_eq!((head.role, head.linear, head.layer), (Role::Head, false, None));
    assert!(llama.module("model.layers.2.self_attn.k_proj").is_none());
}

#[test]
fn gemma3_has_no_head_of_its_own() {
    let gemma = open("gemma3");
    assert!(gemma.module("lm_head").is_none());
    let spec = gemma.spec().unwrap();
    assert!(spec.head.is_none());
    let second = |at: usize| f64::from(spec.ropes[at].frequencies[1]).powf(-(spec.ropes[at].frequencies.len() as f64));
    assert!((second(0) / 1e6 - 1.0).abs() < 1e-4 && (second(1) / 1e4 - 1.0).abs() < 1e-4, "full, sliding");
    assert_eq!(gemma.module("model.layers.0.self_attn.q_norm").unwrap().role, Role::Norm);
}

#[test]
fn gpt2_reads_out_by_in() {
    let gpt2 = open("gpt2");
    let qkv = gpt2.module("transformer.h.0.attn.c_attn").unwrap();
    assert_eq!((qkv.shape.as_slice(), qkv.role), ([192, 64].as_slice(), Role::Qkv));
    assert_eq!(gpt2.tensor("transformer.h.0.attn.c_attn.weight").unwrap().shape, [64, 192], "as stored");
    assert_eq!(gpt2.module("transformer.h.1.mlp.c_proj").unwrap().shape, [64, 256]);
    assert_eq!(gpt2.module("transformer.h.1.mlp.c_proj").unwrap().role, Role::Down);
    assert_eq!(names(&gpt2)[..2], ["transformer.wte", "transformer.wpe"]);
    // Python's struct on the stored bytes: [3][150], [0][191] and [63][0].
    let matrix = gpt2.matrix(qkv, &()).unwrap();
    assert_eq!(matrix.shape(), [192, 64]);
    let found = [matrix.get(150, 3), matrix.get(191, 0), matrix.get(0, 63)].map(f64::from);
    assert_eq!(found, [-0.140625, -0.0281982421875, -0.08447265625]);
    let rows = gpt2.rows(qkv, 149..152).unwrap();
    assert_eq!(rows.row(1), matrix.row(150));
    assert_eq!(rows.shape(), [3, 64]);
}

#[test]
fn values_come_as_they_are_stored() {
    let llama = open("llama");
    let k = llama.module("model.layers.0.self_attn.k_proj").unwrap();
    let matrix = llama.matrix(k, &()).unwrap();
    // Python's struct on the stored bytes.
    assert_eq!([matrix.get(3, 50), matrix.get(31, 63)].map(f64::from), [-0.10693359375, -0.0179443359375]);
    assert_eq!(llama.rows(k, 31..32).unwrap().data(), matrix.row(31));
    assert!(llama.rows(k, 31..33).is_err());
    assert!(llama.rows(k, 0..usize::MAX).is_err());
    let norm = llama.module("model.norm").unwrap();
    assert_eq!(llama.matrix(norm, &()).unwrap().shape(), [1, 64]);
    let tensor = llama.tensor("model.layers.0.self_attn.k_proj.weight").unwrap();
    assert_eq!(llama.bytes_of(tensor).unwrap().len(), 4096);
}

#[test]
fn conv1d_is_known_without_a_config() {
    // GPT-2 as it was first published: no prefix. Bigcode has the same names on weights that are not transposed.
    let shape = |config: Value, stored: &[usize]| {
        let folder = model(&config, &[zeros("h.0.attn.c_attn.weight", stored), zeros("h.0.ln_1.weight", &[4])]);
        Checkpoint::open(folder.path()).unwrap().module("h.0.attn.c_attn").unwrap().shape.clone()
    };
    assert_eq!(shape(Value::Null, &[4, 12]), [12, 4]);
    assert_eq!(shape(Value::Null, &[12, 4]), [12, 4]);
    assert_eq!(shape(json!({"model_type": "gpt2"}), &[4, 12]), [12, 4]);
    assert_eq!(shape(json!({"architectures": ["GPT2LMHeadModel"]}), &[4, 12]), [12, 4]);
    assert_eq!(shape(json!({"model_type": "gpt_bigcode"}), &[12, 4]), [12, 4]);
}

#[test]
fn a_model_with_adapters_inside_is_a_model() {
    let list = || {
        [
            zeros("model.layers.0.q_proj.base_layer.weight", &[2, 2]),
            zeros("model.layers.0.q_proj.lora_A.speech.weight", &[1, 2]),
        ]
    };
    let kind = |config: Value| Checkpoint::open(model(&config, &list()).path()).unwrap().kind();
    assert_eq!(kind(json!({"model_type": "phi4mm"})), Kind::Model);
    assert_eq!(kind(Value::Null), Kind::Adapter);
}

struct StopAt(u64);

impl Progress for StopAt {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        if done * 100 >= total * self.0 { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn reading_can_be_cancelled() {
    let llama = open("llama");
    let k = llama.module("model.layers.0.self_attn.k_proj").unwrap();
    assert!(llama.matrix(k, &StopAt(0)).unwrap_err().is_cancelled());
    assert!(llama.matrix(k, &StopAt(100)).unwrap_err().is_cancelled());
    assert!(llama.matrix(k, &StopAt(101)).is_ok());
}

#[test]
fn a_large_matrix_is_read_in_parts() {
    // More than one step of progress, more than one block a step, odd sizes, nothing aligned.
    let (rows, cols) = (2049, 2311);
    let value = |i: usize| (i % 4093) as f32;
    let bytes: Vec<u8> = (0..rows * cols).flat_map(|i| value(i).to_le_bytes()).collect();
    let list = [raw("odd", "U8", &[3], &[1, 2, 3]), raw("h.0.attn.c_fc.weight", "F32", &[rows, cols], &bytes)];
    let plain = model(&json!({"model_type": "llama"}), &list);
    let plain = Checkpoint::open(plain.path()).unwrap();
    let matrix = plain.matrix(&plain.modules()[0], &()).unwrap();
    assert_eq!(matrix.shape(), [rows, cols]);
    assert!(matrix.data().iter().enumerate().all(|(i, &x)| x == value(i)));
    let conv1d = model(&json!({"model_type": "gpt2"}), &list);
    let conv1d = Checkpoint::open(conv1d.path()).unwrap();
    assert_eq!(conv1d.matrix(&conv1d.modules()[0], &()).unwrap(), matrix.transposed());
}

#[test]
fn a_tied_head_counts_once() {
    let list = || {
        [zeros("model.embed_tokens.weight", &[10, 4]), zeros("lm_head.weight", &[10, 4]), zeros("lm_head.bias", &[10])]
    };
    let count = |config: Value| Checkpoint::open(model(&config, &list()).path()).unwrap().parameters();
    assert_eq!(count(json!({"model_type": "llama", "tie_word_embeddings": true})), 50);
    assert_eq!(count(json!({"model_type": "llama", "tie_word_embeddings": false})), 90);
    assert_eq!(count(json!({"model_type": "llama"})), 90, "transformers' default");
    assert_eq!(count(json!({"model_type": "gemma2"})), 50, "transformers' default");
    assert_eq!(count(json!({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}})), 50);
    assert_eq!(count(Value::Null), 90, "nothing says that they are one");
    let folder = model(&json!({"tie_word_embeddings": true}), &list());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let head = checkpoint.module("lm_head").unwrap();
    assert!(head.tied && head.parameters == 0);
    let t5 =
        ["shared", "encoder.embed_tokens", "decoder.embed_tokens"].map(|n| zeros(&format!("{n}.weight"), &[10, 4]));
    let t5 = model(&json!({"model_type": "t5"}), &t5);
    assert_eq!(Checkpoint::open(t5.path()).unwrap().parameters(), 40);
}

#[test]
fn buffers_are_not_parameters() {
    let folder = model(
        &Value::Null,
        &[
            zeros("model.layers.0.self_attn.rotary_emb.inv_freq", &[8]),
            zeros("h.0.attn.bias", &[1, 1, 4, 4]),
            zeros("h.0.attn.masked_bias", &[]),
            raw("h.0.attention.bias", "BOOL", &[1, 1, 2, 2], &[1; 4]),
            raw("embeddings.position_ids", "I64", &[1, 1], &[0; 8]),
            zeros("h.0.attn.c_proj.bias", &[3]),
            zeros("h.0.ln_1.weight", &[3]),
        ],
    );
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.parameters(), 6);
    assert_eq!(names(&checkpoint), ["h.0.ln_1"]);
    assert_eq!(checkpoint.tensors().len(), 7);
}

/// With `RANKSCOPE_REFERENCE` naming a folder of many architectures, as the fixtures are made: all of them.
#[test]
fn every_architecture_of_the_reference() {
    let Some(folder) = std::env::var_os("RANKSCOPE_REFERENCE").map(PathBuf::from) else {
        eprintln!("skipped: RANKSCOPE_REFERENCE is not set");
        return;
    };
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(expected) = std::fs::read_to_string(path.join("expected.json")) else { continue };
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        for module in checkpoint.modules() {
            checkpoint.matrix(module, &()).unwrap();
        }
        let name = checkpoint.name();
        if let Some(plain) = name.strip_suffix("-bnb4") {
            assert_eq!(checkpoint.parameters(), Checkpoint::open(&folder.join(plain)).unwrap().parameters());
            continue;
        }
        assert_eq!(json!(checkpoint.parameters()), expected["parameters"], "{name}");
        assert_eq!(checkpoint.spec().unwrap().parameters(), checkpoint.parameters(), "{name}");
        let adapter = Adapter::open(&folder.join(format!("{name}-adapter"))).unwrap();
        assert_eq!(json!(adapter.trainable()), expected["adapter_trainable"], "{name}");
        let tuned = Checkpoint::open(&folder.join(format!("{name}-tuned"))).unwrap();
        assert_eq!(tuned.parameters(), checkpoint.parameters(), "{name}");
        assert_eq!(names(&tuned), names(&checkpoint), "{name}");
        checked += 1;
    }
    assert!(checked >= 10, "found {checked} architectures");
}
