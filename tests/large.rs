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

/// Headers only; the data are holes.
fn build(folder: &Path) -> std::io::Result<()> {
    let mut map = json!({});
    let list = shapes();
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
    let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": false});
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
    if let Err(e) = build(folder.path()) {
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
