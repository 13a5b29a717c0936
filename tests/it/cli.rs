//! The command line as its users see it: JSON on stdout, sentences on stderr, exit status.
//!
//! tests/fixtures holds small models and adapters that transformers 5.23 and peft 0.21 wrote, with their parameter counts
//! (`expected.json`) and the singular values that numpy finds in f64 (`spectra.json`). `RANKSCOPE_REFERENCE` may name a
//! folder with more of them.

use crate::support::{self, rankscope};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Exactly one document on stdout and not a word on stderr.
#[track_caller]
fn document(arguments: &[&str]) -> Value {
    let ran = rankscope(arguments);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", ran.stdout))
}

/// A sentence on stderr that begins with `error:` and says all of this, status 2, nothing on stdout.
#[track_caller]
fn refused(arguments: &[&str], says: &[&str]) {
    let ran = rankscope(arguments);
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
    assert!(ran.stderr.starts_with("error: "), "{arguments:?}: {}", ran.stderr);
    for part in says {
        assert!(ran.stderr.contains(part), "{arguments:?}: no {part:?} in {}", ran.stderr);
    }
}

fn fixture(name: &str) -> String {
    path(&support::fixture(name))
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every model with an expected parameter count: its folder, and that count, and PEFT's of its adapter.
fn models() -> Vec<(PathBuf, Value)> {
    let fixtures = PathBuf::from(fixture(""));
    let mut models: Vec<_> = read(&fixtures.join("expected.json"))
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, expected)| (fixtures.join(name), expected.clone()))
        .collect();
    if let Some(reference) = std::env::var_os("RANKSCOPE_REFERENCE") {
        for entry in std::fs::read_dir(reference).unwrap() {
            let folder = entry.unwrap().path();
            let expected = folder.join("expected.json");
            if expected.exists() && read(&expected)["parameters"].is_u64() {
                models.push((folder, read(&expected)));
            }
        }
    }
    models
}

/// A `.safetensors` file of F32 tensors.
fn write_tensors(file: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let (mut header, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let begin = bytes.len();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, bytes.len()] });
        header.insert((*name).to_owned(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file_bytes = (header.len() as u64).to_le_bytes().to_vec();
    file_bytes.extend(header.into_bytes());
    file_bytes.extend(bytes);
    std::fs::write(file, file_bytes).unwrap();
}

#[test]
fn inspect_counts_what_transformers_counts() {
    for (folder, expected) in models() {
        let model = document(&["inspect", &path(&folder), "--json"]);
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert_eq!(model["kind"], "model", "{name}");
        assert_eq!(model["parameters"], expected["parameters"], "{name}");
        assert!(!model["architecture"].as_str().unwrap().is_empty(), "{name}");
        assert!(model["format"].as_str().unwrap().starts_with("safetensors"), "{name}");
        let tensors: u64 = model["dtypes"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert!(model["bytes"].as_u64().unwrap() >= tensors, "{name}");
        assert!(model.get("adapter").is_none(), "{name}");
        let modules = model["modules"].as_array().unwrap();
        let linear = modules.iter().filter(|module| module["linear"] == true).count();
        assert!(linear >= 8, "{name}: {linear}");
        for module in modules {
            let module_name = module["name"].as_str().unwrap();
            assert!(!module_name.ends_with(".weight"), "{module_name}");
            assert!(module["shape"].as_array().unwrap().iter().all(Value::is_u64), "{module_name}");
            assert!(module["dtype"].is_string() && module["role"].is_string(), "{module_name}");
            assert_eq!(module["layer"].is_u64(), module_name.contains(".0.") || module_name.contains(".1."));
            assert!(module["linear"].is_boolean(), "{module_name}");
        }
    }
}

#[test]
fn inspect_reads_shapes_as_out_in() {
    let model = document(&["inspect", &fixture("gpt2"), "--json"]);
    let modules = model["modules"].as_array().unwrap();
    let module = |name: &str| modules.iter().find(|module| module["name"] == name).unwrap();
    let fused = module("transformer.h.1.attn.c_attn");
    assert_eq!(fused["shape"], json!([192, 64]));
    assert_eq!((&fused["role"], &fused["layer"], &fused["linear"]), (&json!("qkv"), &json!(1), &json!(true)));
    assert_eq!(module("transformer.h.0.mlp.c_proj")["shape"], json!([64, 256]));
    assert_eq!(module("transformer.wte")["role"], "embedding");
}

#[test]
fn inspect_counts_what_peft_trains() {
    for (folder, expected) in models() {
        let name = format!("{}-adapter", folder.file_name().unwrap().to_str().unwrap());
        let folder = folder.with_file_name(&name);
        if !folder.exists() {
            continue;
        }
        let document = document(&["inspect", &path(&folder), "--json"]);
        assert_eq!(document["kind"], "adapter", "{name}");
        let adapter = &document["adapter"];
        assert_eq!((&adapter["r"], adapter["lora_alpha"].as_f64()), (&json!(4), Some(16.0)), "{name}");
        assert_eq!(adapter["trainable"], expected["adapter_trainable"], "{name}");
        let modules = document["modules"].as_array().unwrap();
        let counted: u64 = modules
            .iter()
            .map(|module| {
                let sides: u64 = module["shape"].as_array().unwrap().iter().map(|side| side.as_u64().unwrap()).sum();
                module["r"].as_u64().unwrap() * sides
            })
            .sum();
        assert_eq!(json!(counted), expected["adapter_trainable"], "{name}");
        assert!(modules.iter().any(|module| module["r"] == 6), "{name}: rank_pattern");
    }
}

#[test]
fn sizes_that_are_none_are_refused() {
    let llama = fixture("llama");
    for (arguments, expected) in [
        (vec!["memory", &llama, "--gpus", "2", "--gpu-memory", "0"], "gpu-memory 0; expected 1 to 1048576 GiB"),
        (vec!["memory", &llama, "--gpus", "2", "--gpu-memory", "18446744073709551615"], "expected 1 to 1048576 GiB"),
        (vec!["memory", &llama, "--gpu-memory", "24"], "--gpus"),
        (
            vec!["convert", &llama, "--to", "safetensors", "--out", "none", "--shard-size", "0"],
            "shard-size 0; expected",
        ),
        (vec!["convert", &llama, "--to", "safetensors", "--out", "none", "--shard-size=-1"], "shard-size -1; expected"),
        (vec!["convert", &llama, "--to", "safetensors", "--out", "none", "--shard-size", "nan"], "shard-size NaN"),
    ] {
        let ran = rankscope(&arguments);
        assert_ne!(ran.status, 0, "{arguments:?}");
        assert!(ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
    }
    assert!(!std::path::Path::new("none").exists());
}

#[test]
fn inspect_shows_a_table() {
    let ran = rankscope(&["inspect", &fixture("llama")]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains("LlamaForCausalLM") && ran.stdout.contains("127,296 parameters"), "{}", ran.stdout);
    let line = ran.stdout.lines().find(|line| line.starts_with("model.layers.1.self_attn.k_proj")).unwrap();
    assert!(line.contains("32 × 64") && line.contains("BF16") && line.contains("2,048"), "{line}");
    let ran = rankscope(&["inspect", &fixture("llama-adapter")]);
    assert!(ran.stdout.contains("r 4, lora_alpha 16"), "{}", ran.stdout);
}

#[test]
fn inspect_reads_a_quantized_model() {
    let model = document(&["inspect", &fixture("llama-bnb4"), "--json"]);
    // Block 0 alone: 43,008 in linear layers, two norms.
    assert_eq!(model["parameters"], 43_008 + 2 * 64);
    let modules = model["modules"].as_array().unwrap();
    let query = modules.iter().find(|module| module["name"] == "model.layers.0.self_attn.q_proj").unwrap();
    assert_eq!((&query["shape"], &query["dtype"]), (&json!([64, 64]), &json!("NF4")));
}

#[test]
fn params_of_a_model() {
    let llama = fixture("llama");
    let document = document(&["params", &llama, "--rank", "1,2,4,8", "--targets", "q_proj,v_proj", "--json"]);
    assert_eq!((&document["model"], &document["parameters"]), (&json!("llama"), &json!(127_296)));
    let rows = document["rows"].as_array().unwrap();
    for (row, r) in rows.iter().zip([1u64, 2, 4, 8]) {
        // Two blocks, q 64 × 64 and v 32 × 64.
        let trainable = 2 * r * (128 + 96);
        assert_eq!((&row["method"], &row["r"]), (&json!("lora"), &json!(r)));
        assert_eq!((&row["targets"], &row["trainable"]), (&json!("q_proj,v_proj"), &json!(trainable)));
        assert_eq!(row["adapter_bytes_f16"], 2 * trainable);
        let percent = 100.0 * trainable as f64 / 127_296.0;
        assert!((row["percent"].as_f64().unwrap() - percent).abs() < 1e-9);
    }
    assert_eq!(rows.len(), 4);
}

/// PEFT's count at rank 4 on all linear layers, without the `rank_pattern` that gives one of them rank 6.
#[test]
fn params_agree_with_the_adapters_of_peft() {
    for (folder, expected) in models() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let adapter = folder.with_file_name(format!("{name}-adapter"));
        if !adapter.exists() {
            continue;
        }
        let config = read(&adapter.join("adapter_config.json"));
        let names: Vec<&str> =
            config["target_modules"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let first = config["rank_pattern"].as_object().unwrap().keys().next().unwrap().clone();
        let count = |targets: &str, r: &str| {
            let document = document(&["params", &path(&folder), "--rank", r, "--targets", targets, "--json"]);
            document["rows"][0]["trainable"].as_u64().unwrap()
        };
        assert_eq!(json!(count(&names.join(","), "4") + count(&first, "2")), expected["adapter_trainable"], "{name}");
    }
}

#[test]
fn params_of_a_preset() {
    let document =
        document(&["params", "--preset", "gpt3-175b", "--rank", "1,2", "--targets", "q_proj,v_proj", "--json"]);
    assert_eq!(document["rows"][0]["trainable"], 4_718_592);
    assert_eq!(document["rows"][1]["trainable"], 9_437_184);
    let percent = document["rows"][0]["percent"].as_f64().unwrap();
    assert!((0.0026..0.0028).contains(&percent), "{percent}");
    let ran = rankscope(&["params", "--preset", "Llama-3.1-8B"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("Llama 3.1 8B: 8,030,261,248 parameters"), "{}", ran.stdout);
    assert!(ran.stdout.contains("41,943,040"), "all linear layers at rank 16: {}", ran.stdout);
}

#[test]
fn params_of_a_config_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    std::fs::copy(PathBuf::from(fixture("llama")).join("config.json"), &config).unwrap();
    assert_eq!(document(&["params", &path(&config), "--json"])["parameters"], 127_296);
    std::fs::write(&config, "{").unwrap();
    refused(&["params", &path(&config)], &["config.json"]);
}

#[test]
fn the_papers_table() {
    let document = document(&["params", "--paper", "--json"]);
    let rows = document["rows"].as_array().unwrap();
    let row = |method: &str, setting: &str| {
        rows.iter().find(|row| row["method"] == method && row["setting"] == setting).unwrap()
    };
    let best = row("LoRA", "r_q=r_v=1");
    assert_eq!((&best["formula"], &best["printed"]), (&json!(4_718_592), &json!("4.7M")));
    assert_eq!((&best["wikisql"], &best["mnli"]), (&json!(73.4), &json!(91.3)));
    let prefix = row("PrefixLayer", "l_p=8, l_i=8");
    assert_eq!((&prefix["formula"], &prefix["printed"]), (&json!(18_874_368), &json!("20.2M")));
    assert_eq!((&prefix["printed_parameters"], &prefix["difference"]), (&json!(20_200_000), &json!(-1_325_632)));
    assert!(prefix["note"].as_str().unwrap().contains("does not follow"));
    let ran = rankscope(&["params", "--paper"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.lines().any(|line| line.contains("r_q=r_v=64") && line.contains("301,989,888")));
}

#[test]
fn the_list_of_presets() {
    let document = document(&["params", "--presets", "--json"]);
    let presets = document["presets"].as_array().unwrap();
    for family in ["GPT-3", "Llama", "Mistral", "Qwen", "Gemma", "Phi"] {
        assert!(presets.iter().any(|preset| preset["family"] == family), "{family}");
    }
    let ran = rankscope(&["params", "--presets"]);
    assert_eq!(ran.stdout.lines().count(), presets.len() + 1);
}

#[test]
fn params_refuses_what_makes_no_sense() {
    let llama = fixture("llama");
    refused(&["params", &llama, "--rank", "0"], &["rank 0"]);
    refused(&["params", &llama, "--rank", "18446744073709551615"], &["rank 18446744073709551615", "can be counted"]);
    // What modules are too small for is counted as PEFT trains it, and said.
    let rows = document(&["params", &llama, "--rank", "65", "--json"]);
    assert!(rows["notes"][0].as_str().unwrap().contains("above the smaller side of 4 modules"), "{}", rows["notes"]);
    let rows = document(&["params", &llama, "--rank", "33", "--json"]);
    assert!(rows["notes"][0].as_str().unwrap().contains("above the smaller side of 2 modules"), "{}", rows["notes"]);
    refused(&["params", &llama, "--rank", "two"], &["two"]);
    refused(&["params", &llama, "--rank", "99999999999999999999999"], &["--rank"]);
    refused(&["params", &llama, "--targets", "c_attn"], &["\"c_attn\"", "it has q_proj, k_proj"]);
    refused(&["params", &llama, "--targets", "/(/"], &["regular expression"]);
    refused(&["params", "--preset", "bert"], &["\"bert\"", "gpt3-175b"]);
    refused(&["params", &fixture("llama-adapter")], &["is an adapter"]);
    refused(&["params"], &["--preset"]);
    refused(&["params", &llama, "--preset", "gpt3-175b"], &["--preset"]);
}

/// `spectra.json`, by folder: the singular values of each module that numpy finds, without zeros for an adapter.
fn spectra() -> Vec<(PathBuf, HashMap<String, Vec<f64>>)> {
    let mut folders = vec![PathBuf::from(fixture(""))];
    folders.extend(std::env::var_os("RANKSCOPE_REFERENCE").map(PathBuf::from));
    let mut spectra = Vec::new();
    for folder in folders {
        for (name, modules) in read(&folder.join("spectra.json")).as_object().unwrap() {
            spectra.push((folder.join(name), serde_json::from_value(modules.clone()).unwrap()));
        }
    }
    spectra
}

#[test]
fn spectra_agree_with_numpy() {
    for (folder, expected) in spectra() {
        let name = path(&folder);
        let (base, option) = match name.strip_suffix("-tuned") {
            Some(base) => (base, "--tuned"),
            None => (name.strip_suffix("-adapter").unwrap(), "--adapter"),
        };
        let document = document(&["spectrum", "--base", base, option, &name, "--json"]);
        assert_eq!(document["skipped"], json!([]), "{name}");
        let modules = document["modules"].as_array().unwrap();
        let mut compared = 0;
        for module in modules {
            let module_name = module["name"].as_str().unwrap();
            let Some(expected) = expected.get(&format!("{module_name}.weight")) else { continue };
            let sigma: Vec<f64> = serde_json::from_value(module["singular_values"].clone()).unwrap();
            assert!(module["exact"] == true && !sigma.is_empty(), "{module_name}");
            for i in 0..expected.len().max(sigma.len()) {
                let (ours, theirs) = (sigma.get(i).unwrap_or(&0.0), expected.get(i).unwrap_or(&0.0));
                assert!((ours - theirs).abs() <= 1e-4 * expected[0], "{name} {module_name} σ{i}: {ours} {theirs}");
            }
            let squares: f64 = expected.iter().map(|sigma| sigma * sigma).sum();
            let frobenius = module["frobenius"].as_f64().unwrap();
            assert!((frobenius - squares.sqrt()).abs() <= 1e-4 * squares.sqrt(), "{name} {module_name}");
            let ranks = &module["ranks"];
            assert!(
                (ranks["stable"].as_f64().unwrap() - squares / expected[0].powi(2)).abs()
                    < 1e-3 * expected.len() as f64
            );
            let mut energy = 0.0;
            let rank = 1 + expected
                .iter()
                .take_while(|s| {
                    energy += *s * *s;
                    energy < 0.9 * squares
                })
                .count();
            assert_eq!(ranks["energy_90"], rank, "{name} {module_name}");
            for key in
                ["energy_95", "energy_99", "effective", "participation", "numerical", "gavish_donoho", "rounding"]
            {
                assert!(ranks.get(key).is_some(), "{key}");
            }
            // B·A has no noise floor, and so no rule about noise.
            assert_eq!(ranks["gavish_donoho"].is_null(), option == "--adapter", "{name} {module_name}");
            compared += 1;
        }
        assert_eq!(compared, expected.len(), "{name}");
    }
}

#[test]
fn spectrum_of_some_modules() {
    let (base, tuned) = (fixture("llama"), fixture("llama-tuned"));
    let pair = ["spectrum", "--base", &base, "--tuned", &tuned];
    let q = [&pair[..], &["--modules", r"layers\.1\..*[qv]_proj", "--top", "3", "--json"]].concat();
    let q = document(&q);
    let modules = q["modules"].as_array().unwrap();
    assert_eq!(modules.len(), 2);
    assert!(modules.iter().all(|module| module["singular_values"].as_array().unwrap().len() == 3));
    // The whole spectrum was computed; listing three of it must not make the measures guess.
    let all = document(&[&pair[..], &["--modules", r"layers\.1\..*[qv]_proj", "--method", "exact", "--json"]].concat());
    assert_eq!(all["modules"][0]["ranks"]["energy_99"], modules[0]["ranks"]["energy_99"]);
    let weight = document(&["spectrum", "--base", &base, "--modules", "lm_head", "--json"]);
    assert_eq!(weight["modules"][0]["shape"], json!([320, 64]));
    assert!(weight["modules"][0]["ranks"]["rounding"].is_null());

    refused(&[&pair[..], &["--modules", "c_attn"]].concat(), &["--modules c_attn", "model.layers.0.self_attn.q_proj"]);
    refused(&[&pair[..], &["--modules", "("]].concat(), &["--modules"]);
    refused(&[&pair[..], &["--top", "0"]].concat(), &["--top"]);
    refused(&[&pair[..], &["--method", "magic"]].concat(), &["auto", "exact", "randomized"]);
    refused(&[&pair[..], &["--adapter", &base]].concat(), &["--adapter"]);
    refused(&["spectrum", "--tuned", &tuned], &["--base"]);
}

#[test]
fn spectrum_shows_a_table() {
    let ran = rankscope(&["spectrum", "--base", &fixture("llama"), "--adapter", &fixture("llama-adapter")]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("module") && lines[0].contains("σ₁"), "{}", lines[0]);
    assert_eq!(lines.len(), 15);
    assert!(lines[1].contains("model.layers.0.self_attn.q_proj") && lines[1].contains("factored"), "{}", lines[1]);
    let width = lines[0].chars().count();
    assert!(lines.iter().all(|line| line.chars().count() == width), "{}", ran.stdout);
}

#[test]
fn an_adapter_for_another_base_is_refused() {
    let arguments = ["spectrum", "--base", &fixture("llama"), "--adapter", &fixture("gpt2-adapter")];
    refused(&arguments, &["gpt2-adapter", "another base"]);
    // Names fit, some shapes do not.
    let arguments = ["spectrum", "--base", &fixture("llama"), "--adapter", &fixture("gemma3-adapter"), "--json"];
    refused(&arguments, &["gemma3-adapter", "another base", "self_attn.q_proj"]);
    refused(&["spectrum", "--base", &fixture("llama-adapter")], &["adapter", "expected a model"]);
}

#[test]
fn a_nan_is_named_and_the_rest_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (base, tuned) = (folder.path().join("base.safetensors"), folder.path().join("tuned.safetensors"));
    let good: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let bad: Vec<f32> = good.iter().map(|&x| if x == 5.0 { f32::NAN } else { x * 2.0 }).collect();
    let twice: Vec<f32> = good.iter().map(|x| x * 2.0).collect();
    let name = |i: usize| ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"][i];
    write_tensors(
        &base,
        &[(name(0), &[4, 3], &good), (name(1), &[4, 3], &good), ("lm_head.weight", &[2, 3], &good[..6])],
    );
    write_tensors(
        &tuned,
        &[(name(0), &[4, 3], &bad), (name(1), &[4, 3], &twice), ("lm_head.weight", &[3, 2], &good[..6])],
    );
    let (base, tuned) = (path(&base), path(&tuned));

    let ran = rankscope(&["spectrum", "--base", &base, "--tuned", &tuned, "--modules", ".", "--json"]);
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let modules = document["modules"].as_array().unwrap();
    assert_eq!((modules.len(), &modules[0]["name"]), (1, &json!("model.layers.1.mlp.up_proj")));
    let squares: f64 = good.iter().map(|x| f64::from(x * x)).sum();
    assert!((modules[0]["frobenius"].as_f64().unwrap() - squares.sqrt()).abs() < 1e-5);
    let skipped = document["skipped"].as_array().unwrap();
    let reason = |name: &str| {
        let entry = skipped.iter().find(|entry| entry["name"] == name);
        entry.unwrap_or_else(|| panic!("{name}: {skipped:?}"))["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason("model.layers.0.mlp.up_proj").contains("NaN"), "{skipped:?}");
    assert!(reason("lm_head").contains('2') && reason("lm_head").contains('3'), "{skipped:?}");
    for part in ["tuned.safetensors", name(0), "1 NaN", "lm_head"] {
        assert!(ran.stderr.contains(part), "no {part} in {}", ran.stderr);
    }

    // A shape that does not fit is no mistake of the files: said, and the rest is done.
    let ran = rankscope(&["spectrum", "--base", &base, "--tuned", &tuned, "--modules", "layers.1|lm_head", "--json"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("skipped: lm_head"), "{}", ran.stderr);
    // Nothing left to do is one.
    refused(&["spectrum", "--base", &base, "--tuned", &tuned, "--modules", "lm_head"], &["lm_head", "[3, 2]"]);
}

#[test]
fn files_that_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| path(&folder.path().join(name));
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        at(name)
    };
    refused(&["inspect", &at("nowhere")], &["nowhere", "there is no such file or folder"]);
    refused(&["inspect", &at("")], &[&at("")[..at("").len() - 1]]);
    let length = |n: u64, rest: &str| [&n.to_le_bytes()[..], rest.as_bytes()].concat();
    let header = |text: &str| length(text.len() as u64, text);
    for (name, bytes) in [
        ("empty.safetensors", Vec::new()),
        ("short.safetensors", vec![1, 2, 3]),
        ("text.safetensors", b"this is not a checkpoint at all".to_vec()),
        ("truncated.safetensors", length(1000, "{\"a\":")),
        ("not-json.safetensors", header("{\"a\": oh}")),
        ("huge.safetensors", length(u64::MAX, "{}")),
        ("beyond.safetensors", header(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#)),
        (
            "overflow.safetensors",
            header(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}"#),
        ),
        ("dtype.safetensors", header(r#"{"a":{"dtype":"F99","shape":[0],"data_offsets":[0,0]}}"#)),
        ("none.safetensors", header("{}")),
    ] {
        refused(&["inspect", &file(name, &bytes), "--json"], &[name]);
    }
    let ran = rankscope(&["inspect", &at("truncated.safetensors")]);
    assert_eq!(ran.stderr.lines().count(), 1, "one sentence: {}", ran.stderr);

    // A shard that the index names is not there.
    let sharded = folder.path().join("sharded");
    std::fs::create_dir(&sharded).unwrap();
    let index = json!({ "metadata": {}, "weight_map": { "a.weight": "model-00001-of-00001.safetensors" } });
    std::fs::write(sharded.join("model.safetensors.index.json"), index.to_string()).unwrap();
    refused(&["inspect", &path(&sharded)], &["model-00001-of-00001.safetensors"]);
}

#[test]
fn an_adapter_whose_factors_disagree() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        PathBuf::from(fixture("llama-adapter")).join("adapter_config.json"),
        folder.path().join("adapter_config.json"),
    )
    .unwrap();
    let stem = "base_model.model.model.layers.0.mlp.up_proj";
    let (a, b) = (format!("{stem}.lora_A.weight"), format!("{stem}.lora_B.weight"));
    let tensors: [(&str, &[usize], &[f32]); 2] = [(&a, &[4, 64], &[0.5; 256]), (&b, &[160, 3], &[0.5; 480])];
    write_tensors(&folder.path().join("adapter_model.safetensors"), &tensors);
    refused(&["inspect", &path(folder.path())], &["mlp.up_proj", "4", "3"]);
    refused(&["spectrum", "--base", &fixture("llama"), "--adapter", &path(folder.path())], &["mlp.up_proj"]);
}

#[test]
fn arguments_that_make_no_sense() {
    refused(&["inspect"], &["<PATH>"]);
    refused(&["inspct"], &["inspct", "--help lists the commands"]);
    refused(&["some/where.safetensors"], &["some/where.safetensors", "there is no such file or folder"]);
    refused(&["--json"], &["--json goes with a command"]);
    refused(&["--base", "x", "inspect", "y"], &["before a command"]);
    let llama = fixture("llama");
    refused(&["inspect", &llama, "--threads", "0"], &["--threads"]);
    refused(&["inspect", &llama, "--device", "gpu"], &["gpu", "expected auto, cpu, cuda, cuda:N, vulkan[:N]"]);
    refused(&["inspect", &llama, "--frobnicate"], &["--frobnicate"]);
    #[cfg(not(feature = "cuda"))]
    refused(&["inspect", &llama, "--device", "cuda:1"], &["cuda:1", "no CUDA support"]);
    #[cfg(not(target_os = "macos"))]
    refused(&["inspect", &llama, "--device", "metal"], &["metal", "not of this system"]);
    for arguments in [["--help"], ["--version"]] {
        let ran = rankscope(&arguments);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("rankscope"));
    }
}

#[test]
fn options_go_before_and_behind_a_command() {
    let llama = fixture("llama");
    let behind = document(&["inspect", &llama, "--json", "--threads", "1", "--device", "cpu"]);
    let before = document(&["--json", "--threads", "1", "--device", "auto", "inspect", &llama]);
    assert_eq!(behind, before);
}

#[test]
fn nobody_reading_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rankscope"))
        .args(["params", "--presets"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_sweep_has_a_row_for_each_rank() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    let row = |row: u32| json!({"input_ids": (0..16).map(|at| (row * 31 + at * 7) % 300 + 3).collect::<Vec<u32>>()});
    std::fs::write(&data, (0..6).map(|at| format!("{}\n", row(at))).collect::<String>()).unwrap();
    let (model, data, out) = (fixture("llama"), path(&data), path(&folder.path().join("sweep")));
    let sweep = |ranks: &'static str| -> Vec<String> {
        let words =
            ["sweep", &model, "--data", &data, "--out", &out, "--targets", "q_proj", "--steps", "3", "--ranks", ranks];
        words.map(str::to_owned).to_vec()
    };
    let arguments = sweep("2,1");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--json"]).collect();
    let ran = rankscope(&arguments);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let rows = document["rows"].as_array().unwrap();
    // q_proj of two blocks, 64 × 64: r (64 + 64) each.
    assert_eq!((&rows[0]["r"], &rows[0]["trainable"]), (&json!(1), &json!(256)));
    assert_eq!((&rows[1]["r"], &rows[1]["trainable"]), (&json!(2), &json!(512)));
    for key in ["last_loss", "eval_loss", "energy_95", "truncated_eval_loss"] {
        assert!(rows[0][key].is_number(), "{key}: {document}");
    }
    assert!(Path::new(rows[1]["adapter"].as_str().unwrap()).join("adapter_model.safetensors").is_file());
    let none = sweep("two");
    refused(&none.iter().map(String::as_str).collect::<Vec<_>>(), &["rank \"two\"", "expected whole numbers above 0"]);
}

/// formulas.md's bits per weight; relative errors as bitsandbytes 0.50 has them on tests/fixtures/quant.
#[test]
fn quantize_compares_formats() {
    let weight = fixture("quant/bitsandbytes.safetensors");
    let formats = "nf4,fp4,int4-symmetric,int4-affine,q4_0,q4_1,int8,q8_0,f16,fp8-e4m3,q4_k";
    let found = document(&["quantize", &weight, "--modules", "^weight$", "--formats", formats, "--json"]);
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 11);
    let meta = read(Path::new(&fixture("quant/bitsandbytes.json")));
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        let format = row["format"].as_str().unwrap();
        let bits = match format {
            "int4-affine" => 4.5625,
            "q4_1" => 5.0,
            "int8" | "q8_0" => 8.5,
            "f16" => 16.0,
            "fp8-e4m3" => 8.0,
            _ => 4.5,
        };
        assert_eq!(number("bits_per_weight"), bits, "{format}");
        assert_eq!(
            row["block"].as_u64(),
            match format {
                "f16" | "fp8-e4m3" => None,
                "q4_k" => Some(256),
                _ if format.starts_with('q') => Some(32),
                _ => Some(64),
            }
        );
        if let Some(mse) = meta[format]["mse"].as_f64() {
            assert!((number("rmse").powi(2) / mse - 1.0).abs() < 1e-4, "{format}: {}", number("rmse"));
        }
        let ratio = 20.0 * (1.0 / number("relative_rmse")).log10();
        assert!((ratio - number("sqnr_db")).abs() < 1e-6, "{format}");
        assert!(number("p95") <= number("max_abs") && number("median") <= number("p95") && number("cosine") > 0.98);
    }
    let double =
        document(&["quantize", &weight, "--modules", "^weight$", "--formats", "nf4", "--double-quant", "--json"]);
    assert!((double["rows"][0]["bits_per_weight"].as_f64().unwrap() - 4.127).abs() < 0.01);
    let rows = document(&["quantize", &fixture("llama"), "--formats", "int8", "--block", "row", "--json"]);
    assert_eq!(rows["rows"].as_array().unwrap().len(), 14, "the linear layers, without embedding and head");
    assert_eq!((&rows["rows"][0]["block"], &rows["rows"][0]["group"]), (&json!(64), &json!("row")));
    let text = rankscope(&["quantize", &fixture("llama"), "--modules", "q_proj", "--formats", "nf4"]);
    assert!(text.stdout.starts_with("module") && text.stdout.lines().count() == 3, "{}", text.stdout);
}

#[test]
fn quantize_refuses_what_it_cannot_do() {
    let model = fixture("llama");
    refused(&["quantize", &model, "--modules", "nothing-like-this"], &["finds none of the"]);
    refused(&["quantize", &model, "--modules", "norm"], &["model.layers.0", "[64]", "a matrix with two sizes"]);
    let ran = rankscope(&["quantize", &model, "--formats", "nf5"]);
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("expected one of nf4, fp4"), "{}", ran.stderr);
    let ran = rankscope(&["quantize", &model, "--block", "0"]);
    assert_eq!((ran.status, ran.stderr.contains("above 0, row or tensor")), (2, true), "{}", ran.stderr);
    let folder = tempfile::tempdir().unwrap();
    let out = path(&folder.path().join("out"));
    refused(&["quantize", &model, "--save", &out, "--format", "q4_0"], &["nf4 or fp4, found q4_0"]);
    refused(&["quantize", &model, "--save", &model, "--format", "nf4"], &["this is the base itself"]);
    let file = folder.path().join("bad.safetensors");
    write_tensors(&file, &[("a.weight", &[2, 2], &[1.0, f32::NAN, 2.0, 3.0]), ("b.weight", &[2, 48], &[0.5; 96])]);
    let ran = rankscope(&["quantize", &path(&file), "--formats", "nf4,q4_0", "--json"]);
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("a.weight: found 1 NaN among 4 values"), "{}", ran.stderr);
    assert!(ran.stderr.contains("found 48 columns, expected a multiple of 32"), "{}", ran.stderr);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(found["rows"].as_array().unwrap().len(), 1, "what can be done is done");
    assert_eq!(found["skipped"].as_array().unwrap().len(), 2);
}

/// The loss of a saved folder: transformers 5.23 and bitsandbytes 0.50 get 6.6852784 from theirs, whose bytes are the same.
#[test]
fn a_model_saved_in_four_bits_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(&folder.path().join("nf4"));
    let args = ["quantize", &fixture("llama"), "--save", &out, "--format", "nf4", "--double-quant", "--json"];
    let written = document(&args);
    assert_eq!((&written["modules"], &written["block"]), (&json!(14), &json!(64)));
    assert!((written["bits_per_weight"].as_f64().unwrap() - 4.13).abs() < 0.01);
    let losses = read(Path::new(&fixture("losses.json")));
    let rows: Vec<String> = losses["llama"]["input_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ids| json!({ "input_ids": ids }).to_string())
        .collect();
    let data = folder.path().join("data.jsonl");
    std::fs::write(&data, rows.join("\n")).unwrap();
    let found = document(&["eval", &out, "--data", &path(&data), "--json"]);
    let loss = found["loss"].as_f64().unwrap();
    assert!((loss - 6.6852784).abs() < 1e-5, "{loss}");
}

/// The long help of the program and of every command, as it stands in tests/help.txt. `RANKSCOPE_UPDATE_HELP=1` writes that file
/// anew; its changes are then read before they are committed.
#[test]
fn help_is_as_it_was_read() {
    let (mut found, mut open) = (String::new(), vec![Vec::new()]);
    while let Some(command) = open.pop() {
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let ran = rankscope(&arguments);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        found += &format!("$ rankscope {}\n\n{}\n\n", arguments.join(" "), ran.stdout.trim_end());
        let commands =
            ran.stdout.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let names = commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        let below: Vec<Vec<String>> = names.map(|name| [&command[..], &[name.to_owned()]].concat()).collect();
        open.extend(below.into_iter().rev());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("RANKSCOPE_UPDATE_HELP").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "help differs from tests/help.txt, first at {differs:?}; RANKSCOPE_UPDATE_HELP=1 writes the file anew"
    );
}

/// Every setting of a run is a flag of `train`, with its help.
#[test]
fn every_setting_is_a_flag() {
    use rankscope::train::SETTINGS;
    let help = rankscope(&["train", "--help"]).stdout;
    for setting in SETTINGS.iter().filter(|setting| !setting.about.positional) {
        assert!(help.contains(&format!("--{}", setting.flag())), "{}", setting.name);
    }
}

#[test]
fn what_has_no_effect_is_said_and_a_switch_can_be_turned_off() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        path(&folder.path().join(name))
    };
    let rows: String = (0..4).map(|row| format!("{{\"input_ids\": [3, 4, 5, {row}]}}\n")).collect();
    let (data, patterns) = (file("data.jsonl", &rows), file("patterns.json", "{\"v_proj\": 1}"));
    let config = file("run.toml", "rslora = true\nmethod = \"lora\"\nsteps = 1\n");
    let (model, out) = (fixture("llama"), path(&folder.path().join("run")));
    let ran = rankscope(&[
        "train",
        &model,
        "--data",
        &data,
        "--out",
        &out,
        "--config",
        &config,
        "--rslora=off",
        "--block",
        "128",
        "--rank-pattern",
        &patterns,
        "--no-shuffle",
        "--epochs",
        "1",
        "--json",
    ]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("note: --block has no effect with method lora"), "{}", ran.stderr);
    let written = std::fs::read_to_string(folder.path().join("run/run.toml")).unwrap();
    for line in ["rslora = false", "shuffle = false", "block = 128", "v_proj = 1", "epochs = 1.0"] {
        assert!(written.contains(line), "no {line} in {written}");
    }
    assert!(!written.contains("steps = "), "--epochs replaces the steps of the file");
    refused(&["train", &model, "--init", "fancy"], &["fancy", "pissa", "loftq"]);
    refused(&["train", &model, "--batch", "many"], &["--batch", "expected a whole number"]);
    refused(
        &["train", &model, "--data", &data, "--out", &out, "--batch", "18446744073709551615"],
        &["expected 65536 or less"],
    );
    refused(&["memory", &model, "--batch", "18446744073709551615"], &["expected 65536 or less"]);
    refused(&["memory", &model, "--dtype", "f8"], &["f8", "bf16"]);
    refused(&["train", "--config", "/dev/null"], &["a pipe or device"]);
}

/// The same rows in five kinds of file: what a table is separated by, and whether objects stand on one line, changes nothing.
#[test]
fn one_table_in_many_files_is_one_table() {
    let model = crate::support::fixtures().join("cases/array-pair/model");
    let folder = tempfile::tempdir().unwrap();
    let rows = [("what is it", "a rank"), ("and then", "another one, with a comma")];
    let table = |by: char| {
        let line = |(prompt, completion): &(&str, &str)| format!("\"{prompt}\"{by}\"{completion}\"\n");
        format!("prompt{by}completion\n{}", rows.iter().map(line).collect::<String>())
    };
    let object = |(prompt, completion): &(&str, &str)| serde_json::json!({"prompt": prompt, "completion": completion});
    let lines: String = rows.iter().map(|row| format!("{}\n", object(row))).collect();
    let pretty: String =
        rows.iter().map(|row| format!("{}\n", serde_json::to_string_pretty(&object(row)).unwrap())).collect();
    let mut found = Vec::new();
    for (name, text) in [
        ("lines.jsonl", lines),
        ("pretty.jsonl", pretty),
        ("commas.csv", table(',')),
        ("tabs.tsv", table('\t')),
        ("bars.csv", table('|')),
    ] {
        let data = folder.path().join(name);
        std::fs::write(&data, text).unwrap();
        let ran =
            rankscope(&["eval", model.to_str().unwrap(), "--data", data.to_str().unwrap(), "--seq", "64", "--json"]);
        let value: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{name}: {}", ran.stderr));
        found.push((name, value["loss"].clone(), value["tokens"].clone()));
    }
    for (name, loss, tokens) in &found {
        assert!((loss, tokens) == (&found[0].1, &found[0].2), "{name}: {found:?}");
    }
}
