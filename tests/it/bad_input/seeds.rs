//! Good files of every kind that is read, for [`fuzz`](super::fuzz) to damage: fixtures, and what is made here.

use crate::support::{Stored, copied, f32s, fixture, raw, tensors};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::device;
use rankscope::train::run::{self, Start};
use rankscope::train::{Settings, data};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A folder, and the file in it that is damaged.
pub(super) type Places = Vec<(PathBuf, String)>;

pub(super) fn fixtures(paths: &[&str]) -> Places {
    let split = |path: &&str| {
        let path = fixture(path);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        path.is_file().then(|| (path.parent().unwrap().to_path_buf(), name))
    };
    paths.iter().filter_map(split).collect()
}

/// A run of two steps, once.
pub(super) fn of_run(out: &Path, names: &[&str]) -> Places {
    let folder = out.join("run");
    if !folder.is_dir() {
        let row = |at: u32| {
            format!("{}\n", json!({"input_ids": (0..8).map(|i| (at * 31 + i * 7) % 300 + 3).collect::<Vec<u32>>()}))
        };
        std::fs::write(out.join("rows.jsonl"), (0..8).map(row).collect::<String>()).unwrap();
        run::run(run_settings(out), Start::default(), &(), &mut |_| Ok(())).unwrap();
        let group = r#"{"kind": "sweep", "rows": [{"rank": 1, "trainable": 10, "loss": 1.5}]}"#;
        std::fs::write(folder.join("group.json"), group).unwrap();
    }
    names.iter().map(|name| (folder.clone(), (*name).to_owned())).collect()
}

pub(super) fn run_settings(out: &Path) -> Settings {
    Settings {
        model: fixture("llama"),
        data: out.join("rows.jsonl"),
        out: out.join("run"),
        rank: 1,
        targets: "q_proj".to_owned(),
        batch: 2,
        steps: Some(2),
        save_every: 1,
        film_every: 1,
        device: device::Choice::Cpu,
        ..Settings::default()
    }
}

/// A model in a format of several tensors a weight.
pub(super) fn packed(out: &Path) -> Places {
    let (ints, halves) = (|count: usize| vec![0x51u8; 4 * count], |count: usize| [0x00u8, 0x3c].repeat(count));
    let part = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| raw(&format!("{Q}{name}"), dtype, shape, &bytes);
    let of = |method: &str| json!({"quant_method": method, "bits": 4, "group_size": 8, "zero_point": true, "version": "gemm"});
    let each = [
        (
            json!({"quantization_config": of("gptq")}),
            vec![
                part("qweight", "I32", &[2, 8], ints(16)),
                part("qzeros", "I32", &[2, 1], ints(2)),
                part("scales", "F16", &[2, 8], halves(16)),
                part("g_idx", "I32", &[16], (0..16i32).flat_map(|at| (at / 8).to_le_bytes()).collect()),
            ],
        ),
        (
            json!({"quantization_config": of("awq")}),
            vec![
                part("qweight", "I32", &[16, 1], ints(16)),
                part("qzeros", "I32", &[2, 1], ints(2)),
                part("scales", "F16", &[2, 8], halves(16)),
            ],
        ),
        (
            json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [8, 8]}}),
            vec![
                part("weight", "F8_E4M3", &[8, 16], vec![0x38; 128]),
                part("weight_scale_inv", "F32", &[1, 2], 1f32.to_le_bytes().repeat(2)),
            ],
        ),
        (
            json!({"quantization_config": {"quant_method": "torchao"}}),
            vec![
                part("_weight_qdata", "U8", &[8, 8], vec![0x5e; 64]),
                part("_weight_scale", "BF16", &[2, 8], [0x80u8, 0x3f].repeat(16)),
                part("_weight_zero_point", "BF16", &[2, 8], [0x80u8, 0x3f].repeat(16)),
            ],
        ),
        (
            json!({"quantization": {"group_size": 32, "bits": 4}}),
            vec![
                part("weight", "U32", &[8, 4], ints(32)),
                part("scales", "F16", &[8, 1], halves(8)),
                part("biases", "F16", &[8, 1], halves(8)),
            ],
        ),
    ];
    let each = each.into_iter().chain(more_packed());
    let write = |(at, (config, stored)): (usize, (Value, Vec<crate::support::Stored>))| {
        let folder = out.join(format!("packed-{at}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        std::fs::write(folder.join("model.safetensors"), tensors(&stored)).unwrap();
        let good = Checkpoint::open(&folder).unwrap();
        let module = good.modules().first().unwrap_or_else(|| panic!("packed-{at} holds no module"));
        good.matrix(module, &()).unwrap();
        ["config.json", "model.safetensors"].map(|name| (folder.clone(), name.to_owned()))
    };
    each.enumerate().flat_map(write).collect()
}

/// The module that [`packed`] holds.
const Q: &str = "model.layers.0.self_attn.q_proj.";

/// compressed-tensors in its formats, bitsandbytes' 8 bits, gpt-oss' experts.
fn more_packed() -> Vec<(Value, Vec<Stored>)> {
    let part = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| raw(&format!("{Q}{name}"), dtype, shape, &bytes);
    let halves = |count: usize| [0x80u8, 0x3f].repeat(count);
    let compressed = |format: &str, bits: u32| {
        let weights = json!({"num_bits": bits, "group_size": 8, "strategy": "group", "symmetric": false});
        let groups = json!({"group_0": {"targets": ["Linear"], "weights": weights}});
        json!({"quantization_config": {"quant_method": "compressed-tensors", "format": format, "config_groups": groups}})
    };
    vec![
        (
            compressed("pack-quantized", 4),
            vec![
                part("weight_packed", "I32", &[8, 2], vec![0x51; 64]),
                part("weight_scale", "BF16", &[8, 2], halves(16)),
                part("weight_zero_point", "I32", &[1, 2], vec![0x88; 8]),
                part("weight_shape", "I64", &[2], [8i64, 16].iter().flat_map(|n| n.to_le_bytes()).collect()),
                part("weight_g_idx", "I32", &[16], (0..16i32).flat_map(|at| (at / 8).to_le_bytes()).collect()),
            ],
        ),
        (
            compressed("int-quantized", 8),
            vec![
                part("weight", "I8", &[8, 16], vec![0x51; 128]),
                part("weight_scale", "BF16", &[8, 1], halves(8)),
                part("weight_zero_point", "I8", &[8, 1], vec![1; 8]),
            ],
        ),
        (
            compressed("nvfp4-pack-quantized", 4),
            vec![
                part("weight_packed", "U8", &[8, 16], vec![0x51; 128]),
                part("weight_scale", "F8_E4M3", &[8, 2], vec![0x38; 16]),
                part("weight_global_scale", "F32", &[1], 2f32.to_le_bytes().to_vec()),
            ],
        ),
        (
            compressed("mxfp4-pack-quantized", 4),
            vec![
                part("weight_packed", "U8", &[8, 16], vec![0x51; 128]),
                part("weight_scale", "U8", &[8, 1], vec![0x7f; 8]),
            ],
        ),
        (
            json!({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}),
            vec![
                part("weight", "U8", &[8, 16], vec![0x51; 128]),
                part("weight_scale", "F8_E4M3", &[8, 2], vec![0x38; 16]),
                part("weight_scale_2", "F32", &[1], 2f32.to_le_bytes().to_vec()),
            ],
        ),
        (
            json!({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": true}}),
            vec![part("weight", "I8", &[8, 16], vec![0x51; 128]), f32s(&format!("{Q}SCB"), &[8], &[2.0; 8])],
        ),
        (
            json!({"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}),
            vec![
                raw("model.layers.0.mlp.experts.gate_up_proj_blocks", "U8", &[2, 4, 1, 16], &[0x51; 128]),
                raw("model.layers.0.mlp.experts.gate_up_proj_scales", "U8", &[2, 4, 1], &[0x7f; 8]),
            ],
        ),
    ]
}

/// Parts of a GGUF file.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A key, the number of its value's type, the value.
fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key), &kind.to_le_bytes()[..], value].concat()
}

fn list(kind: u32, values: &[Vec<u8>]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &values.concat()].concat()
}

/// A file of these pairs and tensors: name, the number of its type, values of a block, bytes of one.
fn gguf_file(pairs: &[Vec<u8>], types: &[(String, u32, u64, u64)]) -> Vec<u8> {
    let (mut infos, mut at) = (Vec::new(), 0u64);
    for (name, kind, block, bytes) in types {
        infos.extend([text(name), 2u32.to_le_bytes().to_vec()].concat());
        infos.extend([256u64.to_le_bytes(), 2u64.to_le_bytes()].concat());
        infos.extend([kind.to_le_bytes().to_vec(), at.to_le_bytes().to_vec()].concat());
        at += (512 / block * bytes).next_multiple_of(32);
    }
    let mut file =
        [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), (types.len() as u64).to_le_bytes().to_vec()].concat();
    file.extend([(pairs.len() as u64).to_le_bytes().to_vec(), pairs.concat(), infos].concat());
    file.resize(file.len().next_multiple_of(32) + at as usize, 0x11);
    file
}

fn llama_pairs() -> Vec<Vec<u8>> {
    let number = |key: &str, number: u32| pair(key, 4, &number.to_le_bytes());
    vec![
        pair("general.architecture", 8, &text("llama")),
        number("llama.block_count", 1),
        number("llama.embedding_length", 256),
        number("llama.attention.head_count", 4),
    ]
}

/// Small GGUF files with a block type of each kind, eight types a file.
pub(super) fn gguf(out: &Path) -> Places {
    // Number of the type, values of a block, bytes of one: ggml's table.
    const TYPES: [(u32, u64, u64); 27] = [
        (0, 1, 4),
        (1, 1, 2),
        (30, 1, 2),
        (2, 32, 18),
        (3, 32, 20),
        (6, 32, 22),
        (7, 32, 24),
        (8, 32, 34),
        (9, 32, 36),
        (10, 256, 84),
        (11, 256, 110),
        (12, 256, 144),
        (13, 256, 176),
        (14, 256, 210),
        (16, 256, 66),
        (17, 256, 74),
        (18, 256, 98),
        (19, 256, 50),
        (20, 32, 18),
        (21, 256, 110),
        (22, 256, 82),
        (23, 256, 136),
        (29, 256, 56),
        (34, 256, 54),
        (35, 256, 66),
        (39, 32, 17),
        (40, 64, 36),
    ];
    const NAMES: [&str; 9] =
        ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_gate", "ffn_down", "attn_norm", "ffn_norm"];
    let write = |(at, types): (usize, &[(u32, u64, u64)])| {
        let named = NAMES.iter().zip(types);
        let named = named.map(|(name, &(kind, block, bytes))| (format!("blk.0.{name}.weight"), kind, block, bytes));
        let folder = out.join(format!("gguf-{at}"));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model.gguf");
        std::fs::write(&path, gguf_file(&llama_pairs(), &named.collect::<Vec<_>>())).unwrap();
        let good = Checkpoint::open(&path).unwrap();
        assert!(good.modules().len() >= 7 && good.modules().iter().all(|module| good.matrix(module, &()).is_ok()));
        (folder, "model.gguf".to_owned())
    };
    TYPES.chunks(9).enumerate().map(write).collect()
}

/// GGUF files with a tokenizer of each kind.
pub(super) fn gguf_tokenizers(out: &Path) -> Places {
    let strings = |all: &[&str]| list(8, &all.iter().map(|one| text(one)).collect::<Vec<_>>());
    let number = |key: &str, number: u32| pair(&format!("tokenizer.ggml.{key}"), 4, &number.to_le_bytes());
    let model = |kind: &str| pair("tokenizer.ggml.model", 8, &text(kind));
    let kinds = |of: &[i32]| list(5, &of.iter().map(|kind| kind.to_le_bytes().to_vec()).collect::<Vec<_>>());
    let template = pair("tokenizer.chat_template", 8, &text("{% for m in messages %}{{ m.content }}</s>{% endfor %}"));
    let bytes = [
        model("gpt2"),
        pair("tokenizer.ggml.pre", 8, &text("llama-bpe")),
        pair("tokenizer.ggml.tokens", 9, &strings(&["t", "h", "e", "th", "the", "Ġ", "r", "<eos>"])),
        pair("tokenizer.ggml.merges", 9, &strings(&["t h", "th e"])),
        pair("tokenizer.ggml.token_type", 9, &kinds(&[1, 1, 1, 1, 1, 1, 1, 3])),
        number("eos_token_id", 7),
        template.clone(),
    ];
    let pieces = ["<unk>", "<s>", "</s>", "<0x20>", "▁", "t", "h", "e", "th", "the", "▁the"];
    let scores: Vec<Vec<u8>> = (0..pieces.len()).map(|at| (-(at as f32)).to_le_bytes().to_vec()).collect();
    let sentence = [
        model("llama"),
        pair("tokenizer.ggml.tokens", 9, &strings(&pieces)),
        pair("tokenizer.ggml.scores", 9, &list(6, &scores)),
        pair("tokenizer.ggml.token_type", 9, &kinds(&[2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1])),
        number("bos_token_id", 1),
        number("eos_token_id", 2),
        number("unknown_token_id", 0),
        template,
    ];
    let write = |(at, pairs): (usize, &[Vec<u8>])| {
        let folder = out.join(format!("gguf-tokenizer-{at}"));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model.gguf");
        let pairs = [llama_pairs(), pairs.to_vec()].concat();
        std::fs::write(&path, gguf_file(&pairs, &[("token_embd.weight".to_owned(), 0, 1, 4)])).unwrap();
        Checkpoint::open(&path).unwrap().tokenizer().unwrap().unwrap();
        (folder, "model.gguf".to_owned())
    };
    [&bytes[..], &sentence[..]].into_iter().enumerate().map(write).collect()
}

/// Folders of runs of other programs, without most of their weights.
pub(super) fn foreign(out: &Path) -> Places {
    let (trl, mlx, tune) = (out.join("trl"), out.join("mlx"), out.join("torchtune"));
    if !trl.is_dir() {
        copied(&fixture("foreign/trl"), &trl);
        copied(&fixture("foreign/mlx"), &mlx);
        let weights = ["adapter_model.safetensors", "checkpoint-4/adapter_model.safetensors"];
        for path in weights.into_iter().chain(["checkpoint-8/adapter_model.safetensors"]) {
            std::fs::remove_file(trl.join(path)).unwrap();
        }
        for number in ["0000004", "0000008"] {
            std::fs::remove_file(mlx.join(format!("{number}_adapters.safetensors"))).unwrap();
        }
        copied(&fixture("foreign/trl/checkpoint-12"), &tune.join("epoch_0"));
        let line = |step: usize| {
            format!("Step {step} | loss:{}.5 lr:0.0003 tokens_per_second_per_gpu:512.1 grad_norm:1.2\n", 9 - step)
        };
        std::fs::write(tune.join("log_1700000000.txt"), (1..6).map(line).collect::<String>()).unwrap();
    }
    [
        (&trl, "checkpoint-12/trainer_state.json"),
        (&trl, "runs/log/events.out.tfevents.1.host.0"),
        (&trl, "training_args.bin"),
        (&trl, "checkpoint-12/adapter_config.json"),
        (&mlx, "train.log"),
        (&mlx, "adapter_config.json"),
        (&tune, "log_1700000000.txt"),
    ]
    .map(|(folder, file)| (folder.clone(), file.to_owned()))
    .to_vec()
}

/// What a hub answers about a repository.
pub(super) fn hub(out: &Path) -> Places {
    let hash = "9e26dfeeb6e641a33dae4961196235bdb965b21b";
    let file = |name: &str| json!({"rfilename": name, "size": 9, "blobId": hash});
    let large = |name: &str| json!({"rfilename": name, "size": 9, "blobId": hash, "lfs": {"sha256": "ab".repeat(32), "size": 1u64 << 40, "pointerSize": 1}});
    let answers = [
        json!({"id": "org/tiny", "sha": "0123456789abcdef0123456789abcdef01234567", "gated": false,
            "siblings": [file("config.json"), large("model-00001-of-00002.safetensors"), large("model-00002-of-00002.safetensors"),
                file("model.safetensors.index.json"), file("tokenizer.json"), large("pytorch_model.bin"), file("../outside.json")]}),
        json!({"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [large("a-Q4_K_M.gguf"), large("b/a-Q8_0-00001-of-00002.gguf")]}),
    ];
    let write = |(at, answer): (usize, &Value)| {
        let folder = out.join(format!("hub-{at}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("answer.json"), answer.to_string()).unwrap();
        (folder, "answer.json".to_owned())
    };
    answers.iter().enumerate().map(write).collect()
}

pub(super) fn gguf_adapter(out: &Path) -> Places {
    let folder = out.join("gguf-adapter");
    if !folder.is_dir() {
        std::fs::create_dir_all(&folder).unwrap();
        let base = Checkpoint::open(&fixture("llama")).unwrap();
        Adapter::open(&fixture("llama-adapter"))
            .unwrap()
            .export("gguf", Some(&base), &folder.join("a.gguf"), &())
            .unwrap();
    }
    vec![(folder, "a.gguf".to_owned())]
}

pub(super) fn dialects(_: &Path) -> Places {
    fixtures(&[
        "cases/mlx-f16/adapter/adapter_config.json",
        "cases/mlx-f16/adapter/adapters.safetensors",
        "cases/kohya-linear/lora.safetensors",
        "cases/kohya-conv/lora.safetensors",
        "cases/diffusers-peft/lora.safetensors",
        "cases/diffusers-down-up/lora.safetensors",
        "cases/diffusers-metadata/lora.safetensors",
        "cases/lycoris-locon-core/lora.safetensors",
        "cases/lycoris-locon-dora-inputs/lora.safetensors",
        "cases/lycoris-loha-core/lora.safetensors",
        "cases/lycoris-lokr-core/lora.safetensors",
        "cases/lycoris-lokr-whole/lora.safetensors",
        "cases/peft-bd-lora/adapter/adapter_config.json",
        "cases/peft-layer-replication/adapter/adapter_config.json",
        "cases/peft-loha/adapter/adapter_config.json",
        "cases/peft-lokr-both/adapter/adapter_model.safetensors",
    ])
}

pub(super) fn templates(out: &Path) -> Places {
    let mut seeds =
        fixtures(&["cases/bos-once/model/chat_template.jinja", "cases/tools-column/model/chat_template.jinja"]);
    for (name, _, template) in data::TEMPLATES {
        let folder = out.join(format!("template-{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(fixture("cases/bos-once/model").join(file), folder.join(file)).unwrap();
        }
        std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
        seeds.push((folder, "chat_template.jinja".to_owned()));
    }
    seeds
}
