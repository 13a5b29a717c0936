//! Paths, indices and configs.

use super::says;
use crate::support::{change_json, copy, tensors, zeros};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use serde_json::{Value, json};

#[test]
fn paths_that_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    says(Checkpoint::open(&folder.path().join("none")), &["none: cannot open: there is no such file or folder"]);
    says(Checkpoint::open(folder.path()), &["holds no weights", "expected model.safetensors"]);
    says(Adapter::open(folder.path()), &["holds no weights"]);
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    says(Checkpoint::open(folder.path()), &["holds no weights"]);
    says(Checkpoint::open(&folder.path().join("config.json")), &["holds no weights"]);
    std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    says(
        Checkpoint::open(folder.path()),
        &["pytorch_model.bin", "found no zip, expected a file that torch.save wrote"],
    );
    says(Checkpoint::open(&folder.path().join("pytorch_model.bin")), &["pytorch_model.bin", "found no zip"]);
    for name in ["a.safetensors", "b.safetensors"] {
        std::fs::write(folder.path().join(name), tensors(&[zeros("w", &[1])])).unwrap();
    }
    says(Checkpoint::open(folder.path()), &["found 2 .safetensors files and no index"]);
    std::fs::create_dir_all(folder.path().join("hub/snapshots")).unwrap();
    says(Checkpoint::open(&folder.path().join("hub")), &["no snapshot"]);
}

#[cfg(unix)]
#[test]
fn files_that_cannot_be_read() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("device.safetensors");
    symlink("/dev/zero", &device).unwrap();
    says(Checkpoint::open(&device), &["device.safetensors: found a pipe or device, expected a file"]);
    let dangling = folder.path().join("dangling.safetensors");
    symlink("nowhere", &dangling).unwrap();
    says(Checkpoint::open(&dangling), &["dangling.safetensors: cannot open"]);
    let path = folder.path().join("locked.safetensors");
    std::fs::write(&path, tensors(&[zeros("w", &[1])])).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        eprintln!("skipped in part: this user may read every file");
        return;
    }
    says(Checkpoint::open(&path), &["locked.safetensors: cannot open: permission denied"]);
}

/// A pipe waits for somebody who writes: nothing in a folder of runs is read or locked that is no file.
#[cfg(unix)]
#[test]
fn pipes_in_a_run_s_folder_are_not_waited_for() {
    use rankscope::train::{history, status};
    let pipe = |path: &std::path::Path| {
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a path that ends with a zero, which the call does not keep.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    };
    let files = ["metrics.jsonl", "film.jsonl", "samples.jsonl", "status.json", "memory.json", "note.txt", ".lock"];
    for name in files {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("run.toml"), "").unwrap();
        pipe(&folder.path().join(name));
        assert!(!status::is_running(folder.path()));
        let _ = history::Past::read(folder.path());
        let _ = history::Follow::new(folder.path()).events();
    }
}

#[test]
fn an_index_that_does_not_fit_its_shards() {
    const INDEX: &str = "model.safetensors.index.json";
    let change = |change: fn(&mut Value), parts: &[&str]| {
        let folder = copy("llama");
        change_json(&folder.path().join(INDEX), change);
        says(Checkpoint::open(folder.path()), parts);
    };
    let folder = copy("llama");
    std::fs::remove_file(folder.path().join("model-00002-of-00003.safetensors")).unwrap();
    says(Checkpoint::open(folder.path()), &["model-00002-of-00003.safetensors", "named in the index", "not there"]);
    change(
        |index| {
            index["weight_map"].as_object_mut().unwrap().retain(|_, shard| shard != "model-00002-of-00003.safetensors")
        },
        &[INDEX, "model-00002-of-00003.safetensors is missing from the index"],
    );
    change(
        |index| index["weight_map"]["lm_head.weight"] = json!("../../secret.safetensors"),
        &[INDEX, "lm_head.weight", "\"../../secret.safetensors\"", "own folder"],
    );
    change(
        |index| index["weight_map"]["lm_head.weight"] = json!("/etc/passwd"),
        &[INDEX, "lm_head.weight", "/etc/passwd"],
    );
    change(|index| index["weight_map"]["lm_head.weight"] = json!(3), &[INDEX, "cannot be read"]);
    change(
        |index| index["weight_map"]["model.extra.weight"] = json!("model-00001-of-00003.safetensors"),
        &["model-00001-of-00003.safetensors: model.extra.weight", "not in this shard"],
    );
    change(
        |index| index["weight_map"]["lm_head.weight"] = json!("model-00001-of-00003.safetensors"),
        &["is missing from the index"],
    );
    change(
        |index| index["weight_map"]["model.norm.weight"] = json!("model-00003-of-00003.safetensors"),
        &["model-00003-of-00003.safetensors: model.norm.weight", "not in this shard"],
    );
    change(|index| index["weight_map"] = json!({}), &[INDEX, "empty weight_map"]);
    change(|index| *index = json!({"metadata": {}}), &[INDEX, "no weight_map"]);
    change(|index| *index = json!([1]), &[INDEX, "expected a JSON object"]);
    let folder = copy("llama");
    let index = folder.path().join(INDEX);
    std::fs::write(&index, r#"{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}"#).unwrap();
    says(Checkpoint::open(folder.path()), &[INDEX, "twice"]);
    std::fs::write(&index, "{").unwrap();
    says(Checkpoint::open(folder.path()), &[INDEX, "cannot be read"]);
    std::fs::write(&index, [b'"', 0xff]).unwrap();
    says(Checkpoint::open(folder.path()), &[INDEX, "not UTF-8"]);
}

#[test]
fn a_tensor_in_two_shards() {
    let folder = tempfile::tempdir().unwrap();
    for (name, other) in
        [("model-00001-of-00002.safetensors", "x.weight"), ("model-00002-of-00002.safetensors", "y.weight")]
    {
        std::fs::write(folder.path().join(name), tensors(&[zeros("both.weight", &[2]), zeros(other, &[2])])).unwrap();
    }
    let map = json!({"x.weight": "model-00001-of-00002.safetensors", "y.weight": "model-00002-of-00002.safetensors"});
    std::fs::write(folder.path().join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
    says(
        Checkpoint::open(folder.path()),
        &["model-00002-of-00002.safetensors: both.weight", "also in", "model-00001-of-00002.safetensors"],
    );
}

#[test]
fn configs_that_cannot_be_read() {
    let folder = copy("llama");
    for (text, part) in [
        ("{", "not valid JSON"),
        ("[]", "found a list, expected a JSON object"),
        ("", "found an empty file, expected a JSON object"),
    ] {
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        says(Checkpoint::open(folder.path()), &["config.json", part]);
    }
    std::fs::write(
        folder.path().join("config.json"),
        r#"{"hidden_size": "wide", "architectures": 3, "model_type": []}"#,
    )
    .unwrap();
    let odd = Checkpoint::open(folder.path()).unwrap();
    assert_eq!((odd.architecture(), odd.parameters()), (None, 127_296), "odd values count as missing");
    let shard = folder.path().join("model-00003-of-00003.safetensors");
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(Checkpoint::open(&shard).is_ok(), "a file of its own does not need the config");
}
