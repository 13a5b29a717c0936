//! What a path may stand for.

use super::names;
use crate::support::{copy, fixture, raw, tensors, zeros};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use std::path::Path;

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
