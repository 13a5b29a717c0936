//! Adapters that PEFT wrote, and settings that it takes.

use super::open;
use crate::support::{adapter, f32s, fixture, fixture_json, raw, tensors, zeros};
use rankscope::adapter::{Adapter, TargetModules};
use rankscope::checkpoint::{Checkpoint, Dtype, Role};
use rankscope::train::merge::{Change, write_model};
use serde_json::{Value, json};

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

/// What is cut into several files with an index is one adapter.
#[test]
fn an_adapter_in_shards_is_the_same() {
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q", "v"]});
    let names = ["q.lora_A", "q.lora_B", "v.lora_A", "v.lora_B"].map(|name| format!("base_model.model.{name}.weight"));
    let shapes = [[1, 3], [2, 1], [1, 3], [2, 1]];
    let stored = |at: usize| f32s(&names[at], &shapes[at], &vec![at as f32 + 1.0; shapes[at][0] * shapes[at][1]]);
    let whole = adapter(&config, &[stored(0), stored(1), stored(2), stored(3)]);
    let cut = adapter(&config, &[]);
    std::fs::remove_file(cut.path().join("adapter_model.safetensors")).unwrap();
    let part = |number: usize| format!("adapter_model-0000{number}-of-00002.safetensors");
    std::fs::write(cut.path().join(part(1)), tensors(&[stored(0), stored(3)])).unwrap();
    std::fs::write(cut.path().join(part(2)), tensors(&[stored(1), stored(2)])).unwrap();
    let map: serde_json::Map<String, Value> =
        names.iter().zip([1, 2, 2, 1]).map(|(name, number)| (name.clone(), json!(part(number)))).collect();
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    std::fs::write(cut.path().join("adapter_model.safetensors.index.json"), index).unwrap();
    let [whole, cut] = [&whole, &cut].map(|folder| Adapter::open(folder.path()).unwrap());
    assert_eq!((cut.layers.len(), cut.trainable()), (2, 10));
    for (a, b) in whole.layers.iter().zip(&cut.layers) {
        assert_eq!(a.module, b.module);
        assert_eq!(whole.factors(a).unwrap(), cut.factors(b).unwrap());
    }
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
    assert_eq!(adapter.trainable(), 9 * 8 + 3 * 8 + 4 * 8 + 4 + 5 * 4);
    let saved: Vec<_> = adapter.saved.iter().map(|saved| (saved.name.as_str(), saved.trained)).collect();
    assert_eq!(saved, [("lm_head.weight", true)]);
    assert_eq!(adapter.notes().len(), 2);
    assert_eq!(adapter.config.target_modules, TargetModules::Pattern("all-linear".into()));
}

/// `kinds.json` is by `adapters.py`: what peft 0.21.2 writes for each of its kinds, and how many parameters it says it trains.
#[test]
fn every_kind_of_peft_s_is_named_with_what_it_trains_and_how_much() {
    let kinds: Value = serde_json::from_str(&std::fs::read_to_string(fixture("kinds.json")).unwrap()).unwrap();
    let kinds = kinds.as_object().unwrap();
    assert!(kinds.len() >= 45, "only {} kinds", kinds.len());
    for (kind, row) in kinds {
        let folder = tempfile::tempdir().unwrap();
        let stored = row["tensors"].as_object().unwrap().iter().map(|(name, about)| {
            let shape: Vec<usize> =
                about[1].as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect();
            let (dtype, width) = match about[0].as_str().unwrap() {
                "float32" => ("F32", 4),
                "int32" => ("I32", 4),
                "int64" => ("I64", 8),
                other => panic!("{other}"),
            };
            // Equal tensors hold equal bytes, as they did where layers share them.
            let bytes = vec![about[2].as_u64().unwrap() as u8; shape.iter().product::<usize>() * width];
            raw(name, dtype, &shape, &bytes)
        });
        std::fs::write(folder.path().join("adapter_model.safetensors"), tensors(&stored.collect::<Vec<_>>())).unwrap();
        std::fs::write(folder.path().join("adapter_config.json"), row["config"].to_string()).unwrap();
        let trained = row["trained"].as_u64().unwrap();
        match Adapter::open(folder.path()) {
            Ok(adapter) => {
                assert!(["LORA", "LOHA", "LOKR"].contains(&kind.as_str()), "{kind} is read");
                assert_eq!(adapter.trainable(), trained, "{kind}");
            }
            Err(error) => {
                let said = error.to_string();
                // The network that P-tuning trains is not in its file.
                let size = if kind == "P_TUNING" { "64 values".to_owned() } else { format!("{trained} parameters") };
                assert!(said.contains(&format!("{size} ")), "{kind}: {said}");
                assert!(said.contains(&format!("peft_type {kind} (")), "{kind}: {said}");
            }
        }
    }
}

/// With a targeted head PEFT saves its weight too, as the initialisation has left it.
#[test]
fn what_is_saved_with_a_pair_is_what_the_initialisation_left() {
    let model = open("llama");
    let [rows, width] = model.module("lm_head").unwrap().shape[..] else { panic!("no head") };
    let config = json!({
        "peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["lm_head"], "init_lora_weights": "olora",
    });
    let ones = |name: &str, shape: &[usize], x: f32| f32s(name, shape, &vec![x; shape.iter().product()]);
    let head = "base_model.model.lm_head";
    let list = [
        ones(&format!("{head}.base_layer.weight"), &[rows, width], 2.0),
        ones(&format!("{head}.lora_A.weight"), &[1, width], 1.0),
        ones(&format!("{head}.lora_B.weight"), &[rows, 1], 1.0),
    ];
    let folder = adapter(&config, &list);
    let adapter = Adapter::open(folder.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    write_model(&model, &Change::Adapter(&adapter), Some(Dtype::F32), out.path(), &()).unwrap();
    let merged = Checkpoint::open(out.path()).unwrap();
    let head = merged.matrix(merged.module("lm_head").unwrap(), &()).unwrap();
    assert!(head.data().iter().all(|&x| x == 3.0), "{:?}", &head.data()[..4]);
}

/// With `bias: all` PEFT 0.21 writes the biases of a saved module three times, twice without the adapter's name.
#[test]
fn biases_of_saved_modules_stand_there_once() {
    let names = ["h.0.ln_1.weight", "h.0.ln_1.bias", "h.0.ln_1.modules_to_save.bias", "h.0.ln_1.original_module.bias"];
    let mut list: Vec<_> = names.iter().map(|name| zeros(&format!("base_model.model.{name}"), &[4])).collect();
    list.push(zeros("base_model.model.h.0.fc.lora_A.weight", &[1, 4]));
    list.push(zeros("base_model.model.h.0.fc.lora_B.weight", &[4, 1]));
    let config = json!({
        "peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["fc"], "modules_to_save": ["ln_1"], "bias": "all",
    });
    let folder = adapter(&config, &list);
    let adapter = Adapter::open(folder.path()).unwrap();
    let mut saved: Vec<_> = adapter.saved.iter().map(|saved| (saved.name.as_str(), saved.trained)).collect();
    saved.sort_unstable();
    assert_eq!(saved, [("h.0.ln_1.bias", true), ("h.0.ln_1.weight", true)]);
    assert_eq!(adapter.trainable(), 8 + 8);
}
