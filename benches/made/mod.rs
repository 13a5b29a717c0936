//! Models of random weights, and the same work on two sides: what the benchmarks of training share.

use rankscope::model::ComputeDtype;
use rankscope::spec::{ModelSpec, ModuleSpec};
use rankscope::train::{Method, Row, Rows};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A Llama by its sizes.
pub struct Shape {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub ffn: usize,
    pub vocab: usize,
    pub seq: usize,
    pub batch: usize,
}

pub const SMALL: Shape =
    Shape { hidden: 512, layers: 8, heads: 8, kv_heads: 8, ffn: 1376, vocab: 4096, seq: 256, batch: 4 };
pub const LARGE: Shape =
    Shape { hidden: 2048, layers: 22, heads: 32, kv_heads: 4, ffn: 5632, vocab: 32000, seq: 256, batch: 1 };

/// The interpreter that `RANKSCOPE_PYTHON` names (python3), if it has these packages; says so where it has not.
pub fn interpreter(packages: &str) -> Option<String> {
    let python = std::env::var("RANKSCOPE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&python).args(["-c", &format!("import {packages}")]).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    println!("{packages} are not all installed for {python}: this side only");
    None
}

/// The JSON document in the last line of what a program prints; null where there is none.
pub fn last_line(mut child: Command) -> Value {
    let output = child.stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_default()
}

/// The same tokens as the Python side's.
pub fn rows(count: usize, seq: usize, vocab: usize) -> Rows {
    let id = |row: usize, at: usize| ((row * 7919 + at * 104_729 + at * at * 31) % (vocab - 3) + 3) as u32;
    Rows { rows: (0..count).map(|row| Row::all((0..seq).map(|at| id(row, at)).collect())).collect() }
}

/// A folder of random bf16 weights, written tensor by tensor.
pub fn write(folder: &Path, shape: &Shape) {
    let Shape { hidden, layers, heads, kv_heads, ffn, vocab, seq, .. } = *shape;
    let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": ffn,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
        "max_position_embeddings": seq, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false, "torch_dtype": "bfloat16"});
    write_model(folder, &config);
}

/// The model that a config describes.
pub fn write_model(folder: &Path, config: &Value) {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let spec = ModelSpec::of_config(config, &folder.join("config.json"), None).unwrap();
    let weight = |name: &str| format!("{name}.weight");
    let of_module =
        |module: &ModuleSpec| module.names().map(|name| (weight(&name), module.shape.to_vec())).collect::<Vec<_>>();
    let matrices = spec.modules().flat_map(of_module);
    let norms = spec.norms().map(|norm| (weight(&norm.name), vec![norm.width]));
    let states = spec.blocks.iter().filter_map(|block| block.recurrence()).flat_map(|of| {
        let conv = (weight(&of.conv.names[0]), vec![of.channels().0, 1, of.conv.kernel]);
        let norm = of.norm.iter().map(|norm| (weight(&norm.name), vec![norm.width]));
        let vectors = of.vectors.iter().map(|name| (name.clone(), vec![of.value_heads]));
        [conv].into_iter().chain(norm).chain(vectors)
    });
    let tensors: Vec<(String, Vec<usize>)> = matrices.chain(norms).chain(states).collect();
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, sizes) in &tensors {
        let bytes = 2 * sizes.iter().product::<usize>();
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": sizes, "data_offsets": [at, at + bytes]}));
        at += bytes;
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let mut state = 7u64;
    for (_, sizes) in &tensors {
        let scale = 1.7 / (*sizes.last().unwrap() as f32).sqrt();
        for _ in 0..sizes.iter().product::<usize>() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 40) as f32 / (1u32 << 24) as f32 * 2.0 - 1.0;
            let value = if sizes.len() == 1 { 1.0 } else { uniform * scale };
            file.write_all(&((value.to_bits() >> 16) as u16).to_le_bytes()).unwrap();
        }
    }
    file.flush().unwrap();
}

/// How a side of a comparison trains.
pub fn method(name: &str) -> Method {
    if name == "lora" { Method::Lora } else { Method::Qlora }
}

/// In which number type it computes.
pub fn dtype(name: &str) -> ComputeDtype {
    if name == "bf16" { ComputeDtype::Bf16 } else { ComputeDtype::F32 }
}
