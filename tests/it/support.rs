//! What tests share: where the fixtures are, safetensors files right and wrong, the reference run, the command line.
#![allow(dead_code, reason = "each test program uses a part of it")]

use rankscope::train::{Method, Row, Rows, Settings};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository: where these tests were built, or where `RANKSCOPE_ROOT` says that a copy of it is.
pub fn root() -> PathBuf {
    std::env::var_os("RANKSCOPE_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// `tests/fixtures`.
pub fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}

/// A folder of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    fixtures().join(name)
}

/// A JSON file of `tests/fixtures`.
pub fn fixture_json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

/// Copies a folder with the folders in it.
pub fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() { copied(&path, &to) } else { std::fs::copy(&path, &to).map(|_| ()).unwrap() }
    }
}

/// A copy of a fixture that may be changed.
pub fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copied(&fixture(name), folder.path());
    folder
}

/// The bytes of a file: length, header, data.
pub fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// One tensor to write.
pub struct Stored {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// An F32 tensor.
pub fn f32s(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Stored { name: name.into(), dtype: "F32", shape: shape.into(), bytes }
}

/// A tensor of any type.
pub fn raw(name: &str, dtype: &'static str, shape: &[usize], bytes: &[u8]) -> Stored {
    Stored { name: name.into(), dtype, shape: shape.into(), bytes: bytes.into() }
}

/// A tensor of F32 zeros.
pub fn zeros(name: &str, shape: &[usize]) -> Stored {
    f32s(name, shape, &vec![0.0; shape.iter().product()])
}

/// A correct file with these tensors.
pub fn tensors(list: &[Stored]) -> Vec<u8> {
    let mut header = json!({"__metadata__": {"format": "pt"}});
    let mut data = Vec::new();
    for tensor in list {
        let begin = data.len();
        data.extend(&tensor.bytes);
        header[&tensor.name] =
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()]});
    }
    file(&header.to_string(), &data)
}

/// A folder with `model.safetensors` and, unless null, `config.json`.
pub fn model(config: &Value, list: &[Stored]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), tensors(list)).unwrap();
    if !config.is_null() {
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    }
    folder
}

/// A folder with an adapter.
pub fn adapter(config: &Value, list: &[Stored]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adapter_model.safetensors"), tensors(list)).unwrap();
    if !config.is_null() {
        std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    }
    folder
}

/// Reads a JSON file, lets `change` change it, writes it back.
pub fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

/// Reads the header of a file, lets `change` change it, writes it back before the same data.
pub fn change_header(path: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(&mut header);
    std::fs::write(path, file(&header.to_string(), &bytes[8 + length..])).unwrap();
}

/// Position in a file of a tensor's first byte.
pub fn position(path: &Path, tensor: &str) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    8 + length + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize
}

/// Thirty QLoRA steps of torch, peft and bitsandbytes (`qlora/run.json`), and the settings and rows that make them here.
pub struct Reference {
    pub run: Value,
    pub settings: Settings,
    pub rows: Rows,
}

pub fn reference() -> Reference {
    let run = fixture_json("qlora/run.json");
    let data: Vec<Vec<u32>> = serde_json::from_value(run["data"].clone()).unwrap();
    let settings = Settings {
        method: Method::Qlora,
        init_adapter: Some(fixture("qlora/initial")),
        lr: 2e-3,
        warmup: 5,
        batch: 4,
        steps: Some(30),
        shuffle: false,
        ..Settings::default()
    };
    Reference { run, settings, rows: Rows { rows: data.into_iter().map(Row::all).collect() } }
}

/// What a command printed, and how it ended.
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program.
pub fn rankscope(arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_rankscope")).args(arguments).env_remove("RUST_LOG").output().unwrap();
    Ran {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
