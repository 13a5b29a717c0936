//! Experts and mixers with a state through every command: 4 bits, merge, probe, ranks, generation. `experts.json` is what transformers
//! 5.24.0 and bitsandbytes 0.50.0 get (`tests/fixtures/experts.py`).

use crate::support::{fixture_json, fixtures, rankscope};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::model::{Decoder, Frozen, Processor};
use rankscope::plan::{Layout, Selection, Targets};
use rankscope::train::{Method, Row, Rows, Sampling, Settings, Trainer, generate};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn family(name: &str) -> PathBuf {
    fixtures().join("families").join(name)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The rows that a family's numbers are of, as a data file in `folder`.
fn rows(name: &str, folder: &Path) -> (String, Value) {
    let expected: Value = serde_json::from_slice(&std::fs::read(family(name).join("expected.json")).unwrap()).unwrap();
    let lines =
        expected["input_ids"].as_array().unwrap().iter().map(|row| json!({ "input_ids": row }).to_string() + "\n");
    let path = folder.join("rows.jsonl");
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    (text(&path), expected)
}

fn evaluated(model: &str, data: &str, more: &[&str]) -> f64 {
    let ran = rankscope(&[&["eval", model, "--data", data, "--seq", "64", "--device", "cpu", "--json"], more].concat());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    serde_json::from_str::<Value>(&ran.stdout).unwrap()["loss"].as_f64().unwrap()
}

/// The loss of the rows under QLoRA, before any step.
fn in_four_bits(name: &str, expected: &Value) -> f64 {
    let ids: Vec<Vec<u32>> = serde_json::from_value(expected["input_ids"].clone()).unwrap();
    let rows = || Rows { rows: ids.iter().cloned().map(Row::all).collect() };
    let settings = Settings { method: Method::Qlora, rank: 1, seq: 32, ..Settings::default() };
    let trainer = Trainer::new(&Checkpoint::open(&family(name)).unwrap(), settings, rows(), &()).unwrap();
    trainer.evaluate(&rows(), &()).unwrap().mean()
}

/// bitsandbytes leaves experts that are parameters of three dimensions as they are. Here each is in 4 bits by itself: another loss,
/// that of torch with the same done to it, and a note before training says so.
#[test]
fn experts_are_in_4_bits_where_bitsandbytes_leaves_them() {
    let folder = tempfile::tempdir().unwrap();
    let name = "qwen3_moe_64";
    let (data, expected) = rows(name, folder.path());
    let of = &fixture_json("experts.json")[name];
    let (bitsandbytes, all) = (of["bitsandbytes"].as_f64().unwrap(), of["all"].as_f64().unwrap());
    let whole = expected["loss"].as_f64().unwrap();
    let found = in_four_bits(name, &expected);
    println!(
        "loss {whole:.6}, by bitsandbytes {bitsandbytes:.6}, with its experts in 4 bits {all:.6}, here {found:.6}"
    );
    assert!((found - all).abs() < 3e-4, "{found} against {all}");
    assert!((found - bitsandbytes).abs() > 1e-3, "{found} is bitsandbytes' {bitsandbytes}: the fixture shows nothing");
    let out = text(&folder.path().join("run"));
    let words = ["--method", "qlora", "--rank", "2", "--steps", "1", "--seq", "32", "--device", "cpu"];
    let ran = rankscope(&[&["train", &text(&family(name)), "--data", &data, "--out", &out], &words[..]].concat());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let said = ran.stdout + &ran.stderr;
    assert!(
        said.contains("8 matrices of experts are in 4 bits here") && said.contains("bitsandbytes leaves"),
        "{said}"
    );
}

/// An adapter on parameters of experts, as PEFT writes it, merged into files of both layouts.
#[test]
fn adapters_of_experts_are_merged() {
    for name in ["qwen3_moe", "mixtral", "gpt_oss", "llama4", "deepseek_v3", "nemotron_h"] {
        let folder = tempfile::tempdir().unwrap();
        let (data, expected) = rows(name, folder.path());
        let (base, adapter) = (text(&family(name)), text(&family(&format!("{name}-adapter"))));
        assert!(
            Adapter::open(Path::new(&adapter)).unwrap().layers.iter().any(|layer| layer.experts.is_some()),
            "{name}"
        );
        let out = text(&folder.path().join("merged"));
        let ran = rankscope(&["merge", "--base", &base, "--adapter", &adapter, "--out", &out, "--dtype", "f32"]);
        assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
        let (found, expected) = (evaluated(&out, &data, &[]), expected["adapter_loss"].as_f64().unwrap());
        println!("{name}: merged {found:.6}, PEFT's {expected:.6}");
        assert!((found - expected).abs() < 3e-4, "{name}: {found} against {expected}");
        let names = |folder: &str| -> Vec<String> {
            let checkpoint = Checkpoint::open(Path::new(folder)).unwrap();
            checkpoint.tensors().iter().map(|tensor| tensor.name.clone()).collect()
        };
        assert_eq!(names(&out), names(&base), "{name}");
    }
}

/// Extraction of what an adapter on experts changed gives their pairs back as PEFT's parameters have them, from files that store the
/// experts apart, together, and with both sides exchanged: merged again it has the adapter's loss.
#[test]
fn experts_are_extracted_as_parameters() {
    for (name, split) in [("qwen3_moe", true), ("mixtral", true), ("gpt_oss", false), ("llama4", false)] {
        let folder = tempfile::tempdir().unwrap();
        let (data, expected) = rows(name, folder.path());
        let (base, adapter) = (text(&family(name)), family(&format!("{name}-adapter")));
        let place = |name: &str| text(&folder.path().join(name));
        let (tuned, out, again) = (place("tuned"), place("extracted"), place("again"));
        let merge = |adapter: &str, out: &str| {
            let ran = rankscope(&["merge", "--base", &base, "--adapter", adapter, "--out", out, "--dtype", "f32"]);
            assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
        };
        merge(&text(&adapter), &tuned);
        let stacks = |adapter: &Path| -> Vec<(String, [usize; 2], Option<usize>, usize)> {
            let adapter = Adapter::open(adapter).unwrap();
            let layers = adapter.layers.iter().filter(|layer| layer.experts.is_some());
            let mut list: Vec<_> =
                layers.map(|layer| (layer.module.clone(), layer.shape, layer.experts, layer.r)).collect();
            list.sort();
            list
        };
        let given = stacks(&adapter);
        let most = given.iter().map(|(.., r)| *r).max().unwrap().to_string();
        let cuts = [["--rank", &most], ["--energy", "0.9999999"]];
        for (number, cut) in cuts.iter().enumerate() {
            let (out, again) = (format!("{out}{number}"), format!("{again}{number}"));
            let words = ["extract", "--base", &base, "--tuned", &tuned, "--out", &out, "--targets", "/.*layers.*/"];
            let ran = rankscope(&[&words[..], &cut[..]].concat());
            assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
            let said = ran.stdout + &ran.stderr;
            assert!(!said.contains("left out"), "{name}: {said}");
            // The same parameters of as many experts, with one rank for all of them.
            assert_eq!(stacks(Path::new(&out)), given, "{name} {cut:?}");
            merge(&out, &again);
            let (found, expected) = (evaluated(&again, &data, &[]), expected["adapter_loss"].as_f64().unwrap());
            println!("{name} {cut:?}: {found:.6}, the adapter's {expected:.6}");
            assert!((found - expected).abs() < 3e-4, "{name}: {found} against {expected}");
        }
        let checkpoint = Checkpoint::open(Path::new(&base)).unwrap();
        assert_eq!(checkpoint.modules().iter().all(|module| module.slice().is_none()), split, "{name}");
    }
}

/// Experts of which some only are named have no pair, and a note says so.
#[test]
fn extraction_says_which_experts_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (base, adapter) = (text(&family("qwen3_moe")), text(&family("qwen3_moe-adapter")));
    let (tuned, out) = (text(&folder.path().join("tuned")), folder.path().join("extracted"));
    let ran = rankscope(&["merge", "--base", &base, "--adapter", &adapter, "--out", &tuned, "--dtype", "f32"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let words = ["--rank", "4", "--targets", "/.*(q_proj|experts\\.[01]\\.(gate|up)_proj)/", "--json"];
    let ran = rankscope(&[&["extract", "--base", &base, "--tuned", &tuned, "--out", &text(&out)], &words[..]].concat());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("8 matrices of experts are left out"), "{}", ran.stdout);
    assert_eq!(Adapter::open(&out).unwrap().layers.len(), 2);
    // Where nothing is named, linear layers are taken; a note says how experts are.
    let out = folder.path().join("linear");
    let ran =
        rankscope(&["extract", "--base", &base, "--tuned", &tuned, "--out", &text(&out), "--rank", "4", "--json"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("targets that name them, such as /.*experts.*/, take them"), "{}", ran.stdout);
    assert!(Adapter::open(&out).unwrap().layers.iter().all(|layer| layer.experts.is_none()));
    // Only those that have pairs are spoken of: the adapter did not change the routers.
    assert!(!ran.stdout.contains("router"), "{}", ran.stdout);
}

/// Routers and MLPs beside the experts are parameters to PEFT: `target_modules` that name them are refused, ignored or taken for the
/// experts (peft 0.21.2 with transformers 5.24.0). What is written loads there, to logits that differ from the merged model's by 1.1e-6 at
/// most, of the 12 families with experts of make_bases.py that were compared; and `doctor` says what becomes of a config that names modules.
#[test]
fn routers_and_shared_experts_are_parameters_to_peft() {
    let families = [
        ("deepseek_v3", "1.mlp.gate.weight", "takes gate_proj, up_proj and down_proj for those of the experts"),
        ("gpt_oss", "0.mlp.router.weight", "transformers' class has no linear layer there"),
        ("granitemoehybrid", "0.block_sparse_moe.router.weight", "transformers' class has no linear layer there"),
    ];
    for (name, router, why) in families {
        let folder = tempfile::tempdir().unwrap();
        let (data, _) = rows(name, folder.path());
        let (base, out) = (text(&family(name)), folder.path().join("run"));
        let words =
            ["--method", "lora", "--rank", "24", "--targets", "/.*layers.*(mlp|moe).*/", "--steps", "2", "--seq", "32"];
        let to = ["--device", "cpu", "--film-every", "0", "--out", &text(&out)];
        let ran = rankscope(&[&["train", &base, "--data", &data], &words[..], &to].concat());
        assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
        let path = out.join("adapter_config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let texts = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
        let (parameters, modules) = (texts(&config["target_parameters"]), texts(&config["target_modules"]));
        assert!(parameters.contains(&format!("model.layers.{router}")), "{name}: {parameters:?}");
        let meant = |module: &String| ["gate", "router", "gate_proj"].iter().any(|end| module.ends_with(end));
        assert!(!modules.iter().any(meant), "{name}: {modules:?}");
        // The experts are a router's smaller side: its rank stands under the parameter's name.
        let rank = &config["rank_pattern"][&format!("model.layers.{router}")];
        assert!(rank.as_u64().is_some_and(|r| r <= 8), "{name}: {}", config["rank_pattern"]);
        let says = || {
            let ran = rankscope(&["doctor", &text(&out), "--base", &base, "--for", "peft"]);
            assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
            ran.stdout
        };
        let said = says();
        assert!(said.contains("peft: applies all of it") && !said.contains("matches no module"), "{name}: {said}");
        // Read again by the class's names, on the weights and in them.
        let merged = text(&folder.path().join("merged"));
        let ran = rankscope(&["merge", "--base", &base, "--adapter", &text(&out), "--out", &merged, "--dtype", "f32"]);
        assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
        let (found, beside) = (evaluated(&merged, &data, &[]), evaluated(&base, &data, &["--adapter", &text(&out)]));
        assert!((found - beside).abs() < 1e-4, "{name}: {found} against {beside}");
        // A smaller adapter names them so too, whichever are left.
        let smaller = folder.path().join("smaller");
        let ran = rankscope(&["resize", "--adapter", &text(&out), "--rank", "2", "--out", &text(&smaller)]);
        assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
        let written: Value =
            serde_json::from_slice(&std::fs::read(smaller.join("adapter_config.json")).unwrap()).unwrap();
        assert!(texts(&written["target_parameters"]).contains(&format!("model.layers.{router}")), "{name}: {written}");
        // As modules, with ranks under the names of modules.
        let bare = |name: &String| name.strip_suffix(".weight").map(str::to_owned);
        config["target_modules"] = json!([modules, parameters.iter().filter_map(bare).collect()].concat());
        config["target_parameters"] = json!(parameters.iter().filter(|name| bare(name).is_none()).collect::<Vec<_>>());
        for pattern in ["rank_pattern", "alpha_pattern"] {
            let keys = config[pattern].as_object().unwrap().clone();
            config[pattern] = keys.into_iter().map(|(key, value)| (bare(&key).unwrap_or(key), value)).collect();
        }
        std::fs::write(&path, config.to_string()).unwrap();
        let said = says();
        assert!(said.contains("peft: refuses") && said.contains(why), "{name}: {said}");
        if name == "deepseek_v3" {
            assert!(said.contains("it looks for a router's rank under the name of its parameter"), "{said}");
        }
    }
}

/// Counts and memory of a rank above every module's smaller side, as training has it; and a budget has the experts' pairs in it that
/// are kept.
#[test]
fn ranks_and_budgets_that_do_not_fit_are_counted() {
    let base = text(&family("mixtral"));
    for words in [
        &["params", &base, "--rank", "5000", "--targets", "q_proj,gate"][..],
        &["memory", &base, "--method", "lora", "--rank", "5000", "--targets", "q_proj,gate"],
    ] {
        let ran = rankscope(words);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let said = ran.stdout + &ran.stderr;
        assert!(said.contains("rank 5000 is above the smaller side of 4 modules"), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (adapter, out) = (family("mixtral-adapter"), text(&folder.path().join("smaller")));
    let read = Adapter::open(&adapter).unwrap();
    let of = |kept: bool| -> u64 {
        read.layers.iter().filter(|layer| layer.experts.is_some() == kept).map(|layer| layer.parameters).sum()
    };
    let (kept, plain) = (of(true), of(false));
    assert!(kept > 0 && plain > 0);
    let resize = |budget: u64| {
        rankscope(&["resize", "--adapter", &text(&adapter), "--budget", &budget.to_string(), "--out", &out])
    };
    let ran = resize(kept);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("the pairs of experts, which are kept as they are, have"), "{}", ran.stderr);
    let budget = kept + plain / 2;
    let ran = resize(budget);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let all: u64 = Adapter::open(Path::new(&out)).unwrap().layers.iter().map(|layer| layer.parameters).sum();
    assert!(kept < all && all <= budget, "{all} of {budget}");
}

/// Gradients of every expert by itself, and a rank for each.
#[test]
fn a_probe_sees_every_expert() {
    for (name, experts) in [("qwen3_moe", 2 * 4 * 3), ("gpt_oss", 2 * 4 * 2)] {
        let folder = tempfile::tempdir().unwrap();
        let (data, expected) = rows(name, folder.path());
        let words =
            ["--targets", "/.*experts.*/", "--rank", "2", "--batch", "2", "--seq", "32", "--device", "cpu", "--json"];
        let ran = rankscope(&[&["probe", &text(&family(name)), "--data", &data], &words[..]].concat());
        assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
        let found: Value = serde_json::from_str(&ran.stdout).unwrap();
        let modules = found["modules"].as_array().unwrap();
        assert_eq!(modules.len(), experts, "{name}");
        let share: f64 = modules.iter().map(|module| module["share"].as_f64().unwrap()).sum();
        assert!((share - 1.0).abs() < 1e-6, "{name}: {share}");
        // An expert that no token chose has none.
        let found_some = modules.iter().filter(|module| module["share"].as_f64().unwrap() > 0.0).count();
        assert!(found_some > experts / 2, "{name}: {found_some} of {experts}");
        // Of the model as QLoRA has it.
        let (loss, expected) = (found["loss"].as_f64().unwrap(), in_four_bits(name, &expected));
        assert!((loss - expected).abs() < 3e-4, "{name}: {loss} against {expected}");
    }
}

/// A rank above a module's smaller side, of a router with four experts, is that side there and stays what it is elsewhere.
#[test]
fn ranks_are_clipped_module_by_module() {
    let folder = tempfile::tempdir().unwrap();
    let (data, _) = rows("mixtral", folder.path());
    let out = folder.path().join("run");
    let words = [
        "--method",
        "lora",
        "--rank",
        "16",
        "--targets",
        "q_proj,gate",
        "--steps",
        "2",
        "--seq",
        "32",
        "--device",
        "cpu",
    ];
    let ran =
        rankscope(&[&["train", &text(&family("mixtral")), "--data", &data, "--out", &text(&out)], &words[..]].concat());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let said = ran.stdout + &ran.stderr;
    assert!(said.contains("rank 16 is above the smaller side of 2 modules, such as model.layers.0."), "{said}");
    let adapter = Adapter::open(&out).unwrap();
    let ranks = |part: &str| -> Vec<usize> {
        adapter.layers.iter().filter(|layer| layer.module.ends_with(part)).map(|layer| layer.r).collect()
    };
    assert_eq!((ranks("gate"), ranks("q_proj")), (vec![4, 4], vec![16, 16]));
    // Counts are PEFT's, whose pairs have the whole rank, of a router and of a classifier's head.
    let layout = Layout::of(&Checkpoint::open(&family("mixtral")).unwrap()).unwrap();
    let selection = Selection::new(&layout, &"q_proj,gate".parse::<Targets>().unwrap()).unwrap();
    assert_eq!(selection.count(16).unwrap().trainable, 2 * 16 * ((32 + 4) + (32 + 32)));
    let head = fixtures().join("cases/task-llama-seq/base");
    let layout = Layout::of(&Checkpoint::open(&head).unwrap()).unwrap();
    let selection = Selection::new(&layout, &"q_proj,score".parse::<Targets>().unwrap()).unwrap();
    let found = selection.count(16).unwrap().trainable as usize;
    let sides = |leaf: &str| {
        let of = layout.weights.iter().filter(|weight| weight.leaf() == leaf);
        of.map(|weight| 16 * (weight.d_in + weight.d_out)).sum::<usize>()
    };
    assert!(layout.weights.iter().any(|weight| weight.leaf() == "score" && weight.d_out < 16));
    assert_eq!(found, sides("q_proj") + sides("score"));
}

/// One token after the other, through caches of keys and of states, gives what `model.generate` of transformers gives.
#[test]
fn experts_and_states_go_on_as_in_transformers() {
    for name in ["qwen3_moe_64", "mixtral", "gpt_oss", "granitemoehybrid", "qwen3_5"] {
        let folder = tempfile::tempdir().unwrap();
        let (_, expected) = rows(name, folder.path());
        let ids: Vec<u32> = serde_json::from_value(expected["input_ids"][0].clone()).unwrap();
        let decoder = Decoder::load(&Checkpoint::open(&family(name)).unwrap(), Frozen::AsStored, &()).unwrap();
        let sampling = Sampling { most: 12, temperature: 0.0, seed: 0, eos: None };
        let found = generate(&Processor::new(&decoder, None).unwrap(), &decoder, &ids[..11], sampling, &()).unwrap();
        assert_eq!(json!(found), fixture_json("experts.json")[name]["generated"], "{name}");
    }
}

/// Counts of `all-linear` are those of PEFT for every family of the fixtures. Where PEFT refuses, at the `out_proj` of Mamba, there is
/// nothing to compare. Of Llama 4 (and Phi-3.5-MoE) it takes the router, a linear layer that gives a tuple, and then fails at the first
/// batch: the router is left out here.
#[test]
fn all_linear_is_that_of_peft() {
    let counts = fixture_json("experts.json")["all_linear"].clone();
    for (name, expected) in counts.as_object().unwrap() {
        let layout = Layout::of(&Checkpoint::open(&family(name)).unwrap()).unwrap();
        let selection = Selection::new(&layout, &"all-linear".parse::<Targets>().unwrap()).unwrap();
        let found = selection.count(1).unwrap().trainable;
        let Some(expected) = expected.as_u64() else { continue };
        let expected = match name.as_str() {
            // The router of one mixture of four experts.
            "llama4" => expected - (32 + 4),
            // SigLIP's pooling head: three linear layers, which PEFT leaves alone.
            "gemma3_whole" => expected + 16 + 16 + 2 * (16 + 24),
            _ => expected,
        };
        assert_eq!(found, expected, "{name}");
    }
}
