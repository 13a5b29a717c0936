//! Opening what real tools write: models, adapters, 4-bit folders, hub caches. Numbers are those of
//! `tests/fixtures/README.md` unless a test names another program.

mod safetensors;

use rankscope::adapter::{Adapter, TargetModules};
use rankscope::checkpoint::{Checkpoint, Dtype, Group, Kind, Role};
use rankscope::error::{Error, Result};
use rankscope::progress::Progress;
use safetensors::{adapter, copy, f32s, fixture, fixture_json, model, raw, tensors, zeros};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

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
    let config = llama.config_summary().unwrap();
    assert_eq!((config.hidden_size, config.num_hidden_layers, config.vocab_size), (Some(64), Some(2), Some(320)));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (Some(4), Some(2), Some(16)));
    assert_eq!((config.dtype.as_deref(), config.rope_theta), (Some("bfloat16"), Some(10000.0)));
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
    assert_eq!(gemma.config_summary().unwrap().tie_word_embeddings, Some(true));
    assert_eq!(gemma.config_summary().unwrap().rope_theta, Some(1e6), "of the full attention");
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
    assert_eq!(
        (matrix.get(150, 3), matrix.get(191, 0), matrix.get(0, 63)),
        (-0.140625, -0.0281982421875, -0.08447265625)
    );
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
    assert_eq!((matrix.get(3, 50), matrix.get(31, 63)), (-0.10693359375, -0.0179443359375));
    assert_eq!(llama.rows(k, 31..32).unwrap().data(), matrix.row(31));
    assert!(llama.rows(k, 31..33).is_err());
    assert!(llama.rows(k, 0..usize::MAX).is_err());
    let norm = llama.module("model.norm").unwrap();
    assert_eq!(llama.matrix(norm, &()).unwrap().shape(), [1, 64]);
    let tensor = llama.tensor("model.layers.0.self_attn.k_proj.weight").unwrap();
    assert_eq!(llama.bytes_of(tensor).unwrap().len(), 4096);
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
fn four_bit_weights_come_back() {
    let (quantized, base) = (open("llama-bnb4"), open("llama"));
    let mut checked = 0;
    for module in quantized.modules().iter().filter(|m| m.linear) {
        let whole = base.module(&module.name).unwrap();
        assert_eq!((module.dtype, &module.shape, module.parameters), (Dtype::NF4, &whole.shape, whole.parameters));
        let (found, expected) = (quantized.matrix(module, &()).unwrap(), base.matrix(whole, &()).unwrap());
        let error: f64 = found.data().iter().zip(expected.data()).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let relative = error.sqrt() / expected.frobenius();
        // 0.0918 for N(0, 1) in blocks of 64, and a little for the doubly quantized scales.
        assert!((0.08..0.105).contains(&relative), "{}: {relative}", module.name);
        checked += 1;
    }
    assert_eq!(checked, 7);
    // Python's struct on the stored bytes, by bitsandbytes' formula: elements 0, 1, 327 and 4095 of the flattened weight.
    let q = quantized.module("model.layers.0.self_attn.q_proj").unwrap();
    let matrix = quantized.matrix(q, &()).unwrap();
    let expected = [-0.09445122667779329, 0.11220768547621614, 0.16452000438746558, 0.0];
    for (at, expected) in [0, 1, 327, 4095].into_iter().zip(expected) {
        assert!((f64::from(matrix.data()[at]) - expected).abs() < 1e-7, "{at}");
    }
    assert_eq!(quantized.rows(q, 5..7).unwrap().row(1), matrix.row(6));
    assert!(quantized.modules().iter().all(|m| !m.name.contains("absmax") && !m.name.contains("quant")));
}

/// FP4 without double quantization, by hand: blocks of 4, codes by bitsandbytes' table.
#[test]
fn fp4_by_hand() {
    let table = [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0].map(|x: f32| x / 12.0);
    let code: Vec<f32> = table.iter().copied().chain(table.iter().map(|x| -x)).collect();
    let state = json!({"quant_type": "fp4", "blocksize": 4, "dtype": "bfloat16", "shape": [2, 3]}).to_string();
    let folder = model(
        &json!({"model_type": "llama"}),
        &[
            raw("a.q_proj.weight", "U8", &[3, 1], &[0x3a, 0x01, 0xb5]),
            f32s("a.q_proj.weight.absmax", &[2], &[12.0, 24.0]),
            f32s("a.q_proj.weight.quant_map", &[16], &code),
            raw("a.q_proj.weight.quant_state.bitsandbytes__fp4", "U8", &[state.len()], state.as_bytes()),
        ],
    );
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let [module] = checkpoint.modules() else { panic!("one weight, three tensors beside it") };
    assert_eq!((module.dtype, module.shape.as_slice(), module.parameters), (Dtype::FP4, [2, 3].as_slice(), 6));
    assert_eq!(checkpoint.parameters(), 6);
    assert_eq!(module.epsilon(), 0.0078125, "of the bfloat16 that it was made from");
    let matrix = checkpoint.matrix(module, &()).unwrap();
    assert_eq!(matrix.data(), [12.0, -8.0, 0.0, 0.0625, -24.0, 12.0]);
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

#[test]
fn any_safetensors_file_can_be_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anything.safetensors");
    let list = [
        zeros("block.10.w", &[2, 3]),
        zeros("block.9.w", &[2, 3]),
        raw("ids", "I64", &[2], &[0; 16]),
        raw("table.weight", "I32", &[2, 2], &[0; 16]),
        raw("experts.weight", "F16", &[2, 3, 4], &[0; 48]),
        raw("eight.weight", "F8_E4M3", &[2, 2], &[0x38; 4]),
    ];
    std::fs::write(&path, tensors(&list)).unwrap();
    for path in [path.as_path(), folder.path()] {
        let checkpoint = Checkpoint::open(path).unwrap();
        assert_eq!(checkpoint.architecture(), None);
        assert_eq!(checkpoint.format(), "safetensors");
        assert_eq!(names(&checkpoint), ["block.9.w", "block.10.w", "eight", "experts", "table"]);
        assert_eq!(checkpoint.parameters(), 6 + 6 + 24 + 4);
        let experts = checkpoint.module("experts").unwrap();
        assert_eq!((experts.linear, experts.matrix_shape()), (false, [2, 12]));
        assert_eq!(checkpoint.matrix(checkpoint.module("eight").unwrap(), &()).unwrap().data(), [1.0; 4]);
        let table = checkpoint.module("table").unwrap();
        assert!(
            checkpoint.matrix(table, &()).unwrap_err().to_string().contains("table.weight: found values of type I32")
        );
    }
    assert_eq!(Checkpoint::open(&path).unwrap().name(), "anything");
}

#[test]
fn every_way_to_name_a_folder() {
    let folder = copy("llama");
    for name in ["", "config.json", "model.safetensors.index.json"] {
        let checkpoint = Checkpoint::open(&folder.path().join(name)).unwrap();
        assert_eq!(checkpoint.tensors().len(), 21, "{name}");
        assert_eq!(checkpoint.architecture(), Some("LlamaForCausalLM"), "{name}");
    }
    let shard = Checkpoint::open(&folder.path().join("model-00003-of-00003.safetensors")).unwrap();
    assert_eq!(names(&shard), ["lm_head"]);
    let adapter = copy("llama-adapter");
    for name in ["", "adapter_config.json", "adapter_model.safetensors"] {
        let adapter = Adapter::open(&adapter.path().join(name)).unwrap();
        assert_eq!(adapter.trainable(), 9472, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn the_hubs_cache_folder_stands_for_its_snapshot() {
    use std::os::unix::fs::symlink;
    let top = tempfile::tempdir().unwrap();
    let top = top.path().join("models--meta-llama--Llama-3.2-1B");
    let blobs = top.join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    for (revision, fixture_name) in [("aaa", "gpt2"), ("bbb", "llama")] {
        let snapshot = top.join("snapshots").join(revision);
        std::fs::create_dir_all(&snapshot).unwrap();
        for entry in std::fs::read_dir(fixture(fixture_name)).unwrap() {
            let entry = entry.unwrap();
            let blob = format!("{revision}-{}", entry.file_name().to_string_lossy());
            std::fs::copy(entry.path(), blobs.join(&blob)).unwrap();
            symlink(Path::new("../../blobs").join(&blob), snapshot.join(entry.file_name())).unwrap();
        }
    }
    std::fs::create_dir(top.join("refs")).unwrap();
    std::fs::write(top.join("refs/main"), "bbb\n").unwrap();
    let checkpoint = Checkpoint::open(&top).unwrap();
    assert_eq!((checkpoint.architecture(), checkpoint.parameters()), (Some("LlamaForCausalLM"), 127_296));
    assert_eq!(checkpoint.name(), "meta-llama/Llama-3.2-1B");
    std::fs::write(top.join("refs/main"), "aaa").unwrap();
    assert_eq!(Checkpoint::open(&top).unwrap().architecture(), Some("GPT2LMHeadModel"));
    std::fs::write(top.join("refs/main"), "../../..").unwrap();
    assert!(Checkpoint::open(&top).is_ok(), "what leads out of the folder is not followed: the newest is taken");
}

#[test]
fn adapters_have_the_layers_that_peft_trained() {
    let expected = fixture_json("expected.json");
    for base in ["llama", "gpt2", "gemma3"] {
        let adapter = Adapter::open(&fixture(&format!("{base}-adapter"))).unwrap();
        assert_eq!(json!(adapter.trainable()), expected[base]["adapter_trainable"], "{base}");
        assert_eq!(adapter.layers.iter().map(|l| l.parameters).sum::<u64>(), adapter.trainable());
        assert_eq!(adapter.config.base_model_name_or_path.as_deref(), Some(format!("../{base}").as_str()));
        let model = open(base);
        for layer in &adapter.layers {
            assert_eq!(model.module(&layer.module).unwrap().shape, layer.shape, "{}", layer.module);
        }
    }
    let llama = Adapter::open(&fixture("llama-adapter")).unwrap();
    let q = llama.layer("model.layers.1.self_attn.q_proj").unwrap();
    assert_eq!((q.r, q.lora_alpha, q.layer, q.role, q.dtype), (6, 16.0, Some(1), Role::Q, Dtype::F32));
    assert!((q.scaling - 16.0 / 6.0).abs() < 1e-15);
    let k = llama.layer("model.layers.1.self_attn.k_proj").unwrap();
    assert_eq!((k.r, k.scaling, k.shape), (4, 4.0, [32, 64]));
    assert!(matches!(&llama.config.target_modules, TargetModules::Names(names) if names.len() == 7));
    assert_eq!(llama.layers[0].module, "model.layers.0.self_attn.q_proj");
    assert!(llama.notes().is_empty());
    let gpt2 = Adapter::open(&fixture("gpt2-adapter")).unwrap();
    assert!(gpt2.config.fan_in_fan_out);
    let (b, a) = gpt2.factors(gpt2.layer("transformer.h.0.mlp.c_fc").unwrap()).unwrap();
    assert_eq!((b.shape(), a.shape()), ([256, 4], [4, 64]));
}

/// PEFT's `Embedding.get_delta_weight` is `transpose(B @ A, True) * scaling`: [vocabulary, width].
#[test]
fn an_embeddings_factors_are_turned() {
    let folder = adapter(
        &json!({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["embed_tokens"]}),
        &[
            f32s("base_model.model.model.embed_tokens.lora_embedding_A", &[1, 3], &[1.0, 2.0, 3.0]),
            f32s("base_model.model.model.embed_tokens.lora_embedding_B", &[2, 1], &[10.0, -1.0]),
        ],
    );
    let adapter = Adapter::open(folder.path()).unwrap();
    let layer = &adapter.layers[0];
    assert_eq!((layer.shape, layer.embedding, layer.role, layer.scaling), ([3, 2], true, Role::Embedding, 2.0));
    let (b, a) = adapter.factors(layer).unwrap();
    assert_eq!((b.shape(), b.data()), ([3, 1], [1.0, 2.0, 3.0].as_slice()));
    assert_eq!((a.shape(), a.data()), ([1, 2], [10.0, -1.0].as_slice()));
}

#[test]
fn settings_of_adapters_are_peft_s() {
    let pair = |module: &str, r: usize| {
        [
            zeros(&format!("base_model.model.{module}.lora_A.default.weight"), &[r, 4]),
            zeros(&format!("base_model.model.{module}.lora_B.default.weight"), &[4, r]),
        ]
    };
    let list: Vec<_> = pair("layers.0.q_proj", 9)
        .into_iter()
        .chain(pair("layers.1.q_proj", 3))
        .chain(pair("layers.0.v_proj", 4))
        .chain([
            zeros("base_model.model.lm_head.weight", &[5, 4]),
            zeros("base_model.model.layers.0.q_proj.lora_B.default.bias", &[4]),
        ])
        .collect();
    let config = json!({
        "peft_type": "LORA", "r": 4, "lora_alpha": null, "use_rslora": true, "target_modules": "all-linear", "lora_bias": true,
        "rank_pattern": {"layers\\.1\\..*": 3, "q_proj": 9}, "alpha_pattern": {"q_proj": 12}, "modules_to_save": ["lm_head"],
        "init_lora_weights": "pissa_niter_4"
    });
    let folder = adapter(&config, &list);
    let adapter = Adapter::open(folder.path()).unwrap();
    let layer = |name: &str| adapter.layer(name).unwrap();
    assert_eq!((layer("layers.0.q_proj").r, layer("layers.0.q_proj").scaling), (9, 4.0));
    assert_eq!((layer("layers.1.q_proj").r, layer("layers.1.q_proj").lora_alpha), (3, 12.0));
    assert_eq!((layer("layers.0.v_proj").r, layer("layers.0.v_proj").scaling), (4, 4.0), "a missing α is 8");
    assert_eq!(adapter.trainable(), 9 * 8 + 3 * 8 + 4 * 8 + 4);
    assert_eq!(adapter.saved, ["lm_head.weight"]);
    assert_eq!(adapter.notes().len(), 2);
    assert_eq!(adapter.config.target_modules, TargetModules::Pattern("all-linear".into()));
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
        let adapter = Adapter::open(&folder.join(format!("{name}-adapter"))).unwrap();
        assert_eq!(json!(adapter.trainable()), expected["adapter_trainable"], "{name}");
        let tuned = Checkpoint::open(&folder.join(format!("{name}-tuned"))).unwrap();
        assert_eq!(tuned.parameters(), checkpoint.parameters(), "{name}");
        assert_eq!(names(&tuned), names(&checkpoint), "{name}");
        checked += 1;
    }
    assert!(checked >= 10, "found {checked} architectures");
}
