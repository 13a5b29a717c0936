//! A checkpoint of the shape of Llama-3-70B in 30 shards: 141 GB that are not there (sparse files).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails says where by panicking")]

#[path = "it/support.rs"]
mod support;

use rankscope::checkpoint::Checkpoint;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

const SHARDS: usize = 30;

/// Both tests look at the memory of the process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Name and shape of every tensor.
fn shapes() -> Vec<(String, Vec<u64>)> {
    let mut list = vec![("model.embed_tokens.weight".to_owned(), vec![128_256, 8192])];
    for block in 0..80 {
        let mut add =
            |part: &str, shape: &[u64]| list.push((format!("model.layers.{block}.{part}.weight"), shape.to_vec()));
        for part in ["self_attn.q_proj", "self_attn.o_proj"] {
            add(part, &[8192, 8192]);
        }
        for part in ["self_attn.k_proj", "self_attn.v_proj"] {
            add(part, &[1024, 8192]);
        }
        for part in ["mlp.gate_proj", "mlp.up_proj"] {
            add(part, &[28_672, 8192]);
        }
        add("mlp.down_proj", &[8192, 28_672]);
        add("input_layernorm", &[8192]);
        add("post_attention_layernorm", &[8192]);
    }
    list.push(("model.norm.weight".to_owned(), vec![8192]));
    list.push(("lm_head.weight".to_owned(), vec![128_256, 8192]));
    list
}

/// Name and shape of every tensor of Qwen3-30B-A3B, whose experts are stored one by one.
fn shapes_of_experts() -> Vec<(String, Vec<u64>)> {
    let mut list = vec![("model.embed_tokens.weight".to_owned(), vec![151_936, 2048])];
    for block in 0..48 {
        let mut add =
            |part: &str, shape: &[u64]| list.push((format!("model.layers.{block}.{part}.weight"), shape.to_vec()));
        add("self_attn.q_proj", &[4096, 2048]);
        add("self_attn.k_proj", &[512, 2048]);
        add("self_attn.v_proj", &[512, 2048]);
        add("self_attn.o_proj", &[2048, 4096]);
        add("mlp.gate", &[128, 2048]);
        for (part, width) in [("self_attn.q_norm", 128), ("self_attn.k_norm", 128)] {
            add(part, &[width]);
        }
        for part in ["input_layernorm", "post_attention_layernorm"] {
            add(part, &[2048]);
        }
        for expert in 0..128 {
            add(&format!("mlp.experts.{expert}.gate_proj"), &[768, 2048]);
            add(&format!("mlp.experts.{expert}.up_proj"), &[768, 2048]);
            add(&format!("mlp.experts.{expert}.down_proj"), &[2048, 768]);
        }
    }
    list.push(("model.norm.weight".to_owned(), vec![2048]));
    list.push(("lm_head.weight".to_owned(), vec![151_936, 2048]));
    list
}

/// Headers only; the data are holes.
fn build(folder: &Path, list: &[(String, Vec<u64>)], config: &serde_json::Value) -> std::io::Result<()> {
    let mut map = json!({});
    for index in 0..SHARDS {
        let part = &list[index * list.len() / SHARDS..(index + 1) * list.len() / SHARDS];
        let name = format!("model-{:05}-of-{SHARDS:05}.safetensors", index + 1);
        let (mut header, mut end) = (json!({"__metadata__": {"format": "pt"}}), 0);
        for (tensor, shape) in part {
            let begin = end;
            end += 2 * shape.iter().product::<u64>();
            header[tensor] = json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]});
            map[tensor] = json!(name);
        }
        let beginning = support::file(&header.to_string(), &[]);
        let mut file = std::fs::File::create(folder.join(name))?;
        file.write_all(&beginning)?;
        file.set_len(beginning.len() as u64 + end)?;
    }
    std::fs::write(folder.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string())?;
    std::fs::write(folder.join("config.json"), config.to_string())
}

/// Resident bytes of this process, where the system says.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

#[test]
fn seventy_billion_parameters_open_at_once() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": false});
    if let Err(e) = build(folder.path(), &shapes(), &config) {
        eprintln!("skipped: no sparse files of this size here: {e}");
        return;
    }
    let before = resident();
    let start = Instant::now();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let time = start.elapsed();
    assert_eq!(checkpoint.parameters(), 70_553_706_496);
    assert_eq!((checkpoint.tensors().len(), checkpoint.format()), (723, "safetensors, 30 shards"));
    let down = checkpoint.module("model.layers.79.mlp.down_proj").unwrap();
    let rows = checkpoint.rows(down, 8190..8192).unwrap();
    assert_eq!((rows.shape(), rows.frobenius()), ([2, 28_672], 0.0));
    let more = resident().zip(before).map(|(after, before)| after.saturating_sub(before));
    eprintln!("opened in {time:?}, {:?} KiB more resident", more.map(|bytes| bytes / 1024));
    // Milliseconds on any machine; the limit is for one under load.
    assert!(time.as_secs_f64() < 1.0, "{time:?}");
    assert!(more.is_none_or(|bytes| bytes < 64 << 20), "{more:?}");
}

/// 18,867 tensors: counted and predicted without reading one of them. In a release binary both take at most half a second of
/// processor time and 52 MB.
#[test]
fn thirty_billion_parameters_of_experts_are_counted_at_once() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144,
        "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true, "vocab_size": 151_936, "max_position_embeddings": 40_960,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16"});
    if let Err(e) = build(folder.path(), &shapes_of_experts(), &config) {
        eprintln!("skipped: no sparse files of this size here: {e}");
        return;
    }
    let model = folder.path().to_string_lossy().into_owned();
    let targets = ["--targets", "all-linear"];
    let ran = |words: &[&str]| {
        let start = Instant::now();
        let ran = support::rankscope(&[words, &targets[..]].concat());
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let time = start.elapsed();
        eprintln!("{} took {time:?}", words[0]);
        assert!(time.as_secs_f64() < 60.0, "{words:?}: {time:?}");
        ran.stdout
    };
    let found = ran(&["params", &model, "--rank", "16"]);
    // 128 experts of three matrices and their router are parameters to PEFT, the attention's four projections modules.
    assert!(found.contains("30,532,122,624 parameters") && found.contains("996,507,648"), "{found}");
    ran(&["memory", &model, "--method", "qlora", "--seq", "2048"]);
}

/// Reading a weight leaves none of the file's pages behind.
#[test]
fn a_matrix_that_was_read_is_given_back() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let bytes: Vec<u8> = vec![0; 64 << 20];
    std::fs::write(&path, support::tensors(&[support::raw("w.weight", "BF16", &[4096, 8192], &bytes)])).unwrap();
    drop(bytes);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let file_pages = || {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("RssFile:"))?
            .trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let Some(before) = file_pages() else { return };
    let matrix = checkpoint.matrix(&checkpoint.modules()[0], &()).unwrap();
    assert_eq!(matrix.shape(), [4096, 8192]);
    let after = file_pages().unwrap();
    assert!(after.saturating_sub(before) < 16 << 10, "{before} KiB before, {after} KiB after");
}
