//! Opening what lies on a disk: a 70B-shaped GGUF file, adapters of a 7B model in each program's form, one layer of Q4_K read.
//!
//! ```text
//! cargo bench --bench open
//! ```
//!
//! The files are made in a temporary folder; the GGUF file's 40 GB of data are a hole. Limits: the file within a second and 300 MB, an
//! adapter within 0.2 s, a layer of 4096 × 14336 within 0.3 s.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on says so"
)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use serde_json::json;

/// Values and bytes of a block of Q4_K, and its number in the format.
const Q4_K: (u64, u64, u32) = (256, 144, 12);

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A Llama of these sizes as GGUF, all matrices Q4_K; only the header is written.
fn gguf(path: &Path, blocks: usize, width: u64, inner: u64, vocabulary: u64, kv: u64) {
    let number = |key: &str, value: u64| {
        [text(key), 4u32.to_le_bytes().to_vec(), (value as u32).to_le_bytes().to_vec()].concat()
    };
    let list = |key: &str, count: usize| {
        let head = [text(key), 9u32.to_le_bytes().to_vec(), 8u32.to_le_bytes().to_vec()].concat();
        let items = (0..count).flat_map(|at| text(&format!("token {at}")));
        [head, (count as u64).to_le_bytes().to_vec(), items.collect()].concat()
    };
    let pairs = [
        [text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat(),
        number("llama.block_count", blocks as u64),
        number("llama.embedding_length", width),
        number("llama.feed_forward_length", inner),
        number("llama.attention.head_count", width / 128),
        number("llama.attention.head_count_kv", kv / 128),
        list("tokenizer.ggml.tokens", vocabulary as usize),
        list("tokenizer.ggml.merges", 2 * vocabulary as usize),
    ];
    let mut tensors = vec![("token_embd.weight".to_owned(), [width, vocabulary])];
    for block in 0..blocks {
        let shapes = [
            ("attn_q", [width, width]),
            ("attn_k", [width, kv]),
            ("attn_v", [width, kv]),
            ("attn_output", [width, width]),
            ("ffn_gate", [width, inner]),
            ("ffn_up", [width, inner]),
            ("ffn_down", [inner, width]),
        ];
        tensors.extend(shapes.map(|(name, shape)| (format!("blk.{block}.{name}.weight"), shape)));
    }
    let (mut infos, mut at) = (Vec::new(), 0u64);
    for (name, [inputs, outputs]) in &tensors {
        infos.extend(text(name));
        infos.extend(2u32.to_le_bytes());
        infos.extend([inputs.to_le_bytes(), outputs.to_le_bytes()].concat());
        infos.extend(Q4_K.2.to_le_bytes());
        infos.extend(at.to_le_bytes());
        at += (inputs * outputs / Q4_K.0 * Q4_K.1).next_multiple_of(32);
    }
    let mut head = [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec()].concat();
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((pairs.len() as u64).to_le_bytes());
    head.extend([pairs.concat(), infos].concat());
    head.resize(head.len().next_multiple_of(32), 0);
    let mut file = File::create(path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(head.len() as u64 + at).unwrap();
}

/// Rank 16 on every linear layer of a 7B model, in F16, as safetensors; the data are a hole.
fn adapter(path: &Path, names: &dyn Fn(usize, &str) -> [String; 2], transposed: bool) {
    const R: u64 = 16;
    let layers = [
        ("self_attn.q_proj", [4096, 4096]),
        ("self_attn.k_proj", [1024, 4096]),
        ("self_attn.v_proj", [1024, 4096]),
        ("self_attn.o_proj", [4096, 4096]),
        ("mlp.gate_proj", [14336, 4096]),
        ("mlp.up_proj", [14336, 4096]),
        ("mlp.down_proj", [4096, 14336u64]),
    ];
    let (mut header, mut at) = (serde_json::Map::new(), 0u64);
    for (block, (module, [out, inner])) in (0..32).flat_map(|block| layers.map(|layer| (block, layer))) {
        for (name, mut shape) in names(block, module).into_iter().zip([[R, inner], [out, R]]) {
            if transposed {
                shape.reverse();
            }
            let end = at + 2 * shape[0] * shape[1];
            header.insert(name, json!({"dtype": "F16", "shape": shape, "data_offsets": [at, end]}));
            at = end;
        }
    }
    let json = serde_json::to_vec(&header).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(&[&(json.len() as u64).to_le_bytes(), &json[..]].concat()).unwrap();
    file.set_len(8 + json.len() as u64 + at).unwrap();
}

/// The best of five.
fn best(mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed().as_secs_f64()
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
}

fn row(name: &str, seconds: f64, limit: f64) {
    println!("{name:<44} {:>9.1} ms   (limit {:.0} ms)", 1e3 * seconds, 1e3 * limit);
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    gguf(&at("70b.gguf"), 80, 8192, 28672, 128_256, 1024);
    row("a GGUF file of the shape of 70B is open", best(|| drop(Checkpoint::open(&at("70b.gguf")).unwrap())), 1.0);
    let peft = json!({"peft_type": "LORA", "r": 16, "lora_alpha": 32, "target_modules": ["q_proj"]});
    let mlx = json!({"fine_tune_type": "lora", "lora_parameters": {"rank": 16, "scale": 2.0, "dropout": 0.0}});
    for (name, config) in [("peft", Some(peft)), ("mlx", Some(mlx)), ("kohya", None)] {
        std::fs::create_dir(at(name)).unwrap();
        if let Some(config) = config {
            std::fs::write(at(name).join("adapter_config.json"), config.to_string()).unwrap();
        }
    }
    let names = |block: usize, module: &str| {
        ["lora_A", "lora_B"].map(|part| format!("base_model.model.model.layers.{block}.{module}.{part}.weight"))
    };
    adapter(&at("peft/adapter_model.safetensors"), &names, false);
    let names =
        |block: usize, module: &str| ["lora_a", "lora_b"].map(|part| format!("model.layers.{block}.{module}.{part}"));
    adapter(&at("mlx/adapters.safetensors"), &names, true);
    let names = |block: usize, module: &str| {
        let module = module.replace('.', "_");
        ["down", "up"].map(|part| format!("lora_unet_layers_{block}_{module}.lora_{part}.weight"))
    };
    adapter(&at("kohya/lora.safetensors"), &names, false);
    for name in ["peft", "mlx", "kohya/lora.safetensors"] {
        let open = || assert_eq!(Adapter::open(&at(name)).unwrap().layers.len(), 224);
        row(&format!("an adapter of 7B, {name}"), best(open), 0.2);
    }
    gguf(&at("layer.gguf"), 1, 4096, 14336, 512, 1024);
    let layer = Checkpoint::open(&at("layer.gguf")).unwrap();
    let down = layer.module("model.layers.0.mlp.down_proj").unwrap();
    row("a Q4_K weight of 4096 × 14336 is read", best(|| drop(layer.matrix(down, &()).unwrap())), 0.3);
}
