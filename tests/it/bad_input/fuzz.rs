//! Every reader of files, fed with damaged ones: an answer to each, no panic, no abort, none that takes long or much memory.
//!
//! A target is a line of [`TARGETS`]. A few inputs of each run with the other tests; as many as one wants by
//!
//! ```text
//! RANKSCOPE_FUZZ=1000000 cargo test --release --config tests/checked.toml --test it fuzz::many -- --ignored --nocapture
//! ```
//!
//! `RANKSCOPE_FUZZ_TARGET` holds a regular expression for the targets that are to run. An input that breaks its reader is kept in
//! the system's temporary folder, and named.

use super::mutations::Random;
use crate::support::{fixture, raw, tensors};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::device;
use rankscope::plan::{Layout, Load, Pairs, Selection, Targets, doctor, memory};
use rankscope::train::run::{self, Start};
use rankscope::train::run_folder::read_settings;
use rankscope::train::{Settings, Text, Trainer, data, history, saved, sweep};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Reads a folder in which one file is damaged.
type Read = fn(&Path);

/// The folders that a file is damaged in: each is copied, then its file is written anew for each input.
type Seeds = fn(&Path) -> Vec<(PathBuf, String)>;

/// Name, where the good files are, what reads them.
const TARGETS: [(&str, Seeds, Read); 20] = [
    (
        "safetensors",
        |_| fixtures(&["llama-bnb4/model.safetensors", "llama-adapter/adapter_model.safetensors"]),
        weights,
    ),
    ("index", |_| fixtures(&["llama/model.safetensors.index.json", "gpt2/model.safetensors.index.json"]), weights),
    ("config", |_| fixtures(&["llama/config.json", "gpt2/config.json", "gemma3/config.json"]), plan),
    ("quantization state", |_| fixtures(&["llama-bnb4/config.json", "llama-bnb4/model.safetensors"]), weights),
    ("packed weights", packed, weights),
    ("gguf", gguf, weights),
    ("gguf adapter", gguf_adapter, adapter),
    (
        "pickle",
        |_| fixtures(&["cases/bin-peft/adapter/adapter_model.bin", "cases/bin-old-config/adapter/adapter_model.bin"]),
        adapter,
    ),
    (
        "adapter config",
        |_| fixtures(&["llama-adapter/adapter_config.json", "cases/dora-all/adapter/adapter_config.json"]),
        adapter,
    ),
    (
        "adapter weights",
        |_| fixtures(&["llama-adapter/adapter_model.safetensors", "gpt2-adapter/adapter_model.safetensors"]),
        adapter,
    ),
    ("adapter dialects", dialects, adapter),
    ("tokenizer", |_| fixtures(&["cases/bos-once/model/tokenizer.json", "llama/tokenizer.json"]), text),
    ("tokenizer config", |_| fixtures(&["cases/bos-once/model/tokenizer_config.json"]), text),
    ("chat template", templates, text),
    (
        "rows",
        |_| fixtures(&["cases/array-pair/rows.json", "cases/array-chat/lines.jsonl", "cases/csv-quoted/t.csv"]),
        rows,
    ),
    ("parquet", |_| fixtures(&["cases/parquet-pair/t.parquet", "cases/parquet-chat/t.parquet"]), rows),
    ("run settings", |out| of_run(out, &["run.toml"]), settings),
    (
        "run logs",
        |out| of_run(out, &["metrics.jsonl", "film.jsonl", "samples.jsonl", "status.json", "memory.json"]),
        past,
    ),
    ("state", |out| of_run(out, &["checkpoints/step-1/state.json"]), state),
    ("state tensors", |out| of_run(out, &["checkpoints/step-1/state.safetensors"]), state),
];

fn fixtures(paths: &[&str]) -> Vec<(PathBuf, String)> {
    let split = |path: &&str| {
        let path = fixture(path);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        path.is_file().then(|| (path.parent().unwrap().to_path_buf(), name))
    };
    paths.iter().filter_map(split).collect()
}

/// A run of two steps, once.
fn of_run(out: &Path, names: &[&str]) -> Vec<(PathBuf, String)> {
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

fn run_settings(out: &Path) -> Settings {
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
fn packed(out: &Path) -> Vec<(PathBuf, String)> {
    let q = "model.layers.0.self_attn.q_proj.";
    let (ints, halves) = (|count: usize| vec![0x51u8; 4 * count], |count: usize| [0x00u8, 0x3c].repeat(count));
    let part = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| raw(&format!("{q}{name}"), dtype, shape, &bytes);
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
    each.into_iter().enumerate().flat_map(write).collect()
}

/// A small GGUF file with a block type of each kind.
fn gguf(out: &Path) -> Vec<(PathBuf, String)> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    // The kind of a value, then the value: 8 is a text, 4 a u32.
    let pairs = [
        [text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat(),
        [text("llama.block_count"), 4u32.to_le_bytes().to_vec(), 1u32.to_le_bytes().to_vec()].concat(),
        [text("llama.embedding_length"), 4u32.to_le_bytes().to_vec(), 256u32.to_le_bytes().to_vec()].concat(),
    ];
    // Type, values of a block, bytes of one.
    let types: [(&str, u32, u64, u64); 5] = [
        ("attn_q", 0, 1, 4),
        ("attn_k", 2, 32, 18),
        ("attn_v", 8, 32, 34),
        ("ffn_up", 12, 256, 144),
        ("ffn_down", 14, 256, 210),
    ];
    let (mut infos, mut at) = (Vec::new(), 0u64);
    for (name, kind, block, bytes) in types {
        infos.extend([text(&format!("blk.0.{name}.weight")), 2u32.to_le_bytes().to_vec()].concat());
        infos.extend([256u64.to_le_bytes(), 2u64.to_le_bytes()].concat());
        infos.extend([kind.to_le_bytes().to_vec(), at.to_le_bytes().to_vec()].concat());
        at += (512 / block * bytes).next_multiple_of(32);
    }
    let mut file =
        [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), (types.len() as u64).to_le_bytes().to_vec()].concat();
    file.extend([(pairs.len() as u64).to_le_bytes().to_vec(), pairs.concat(), infos].concat());
    file.resize(file.len().next_multiple_of(32) + at as usize, 0x11);
    let folder = out.join("gguf");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("model.gguf"), file).unwrap();
    let good = Checkpoint::open(&folder.join("model.gguf")).unwrap();
    assert_eq!(good.modules().iter().filter(|module| good.matrix(module, &()).is_ok()).count(), types.len());
    vec![(folder, "model.gguf".to_owned())]
}

fn gguf_adapter(out: &Path) -> Vec<(PathBuf, String)> {
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

fn dialects(_: &Path) -> Vec<(PathBuf, String)> {
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

fn templates(out: &Path) -> Vec<(PathBuf, String)> {
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

/// The model of a folder, or the one file in it that is a model by itself.
fn opened(folder: &Path) -> Option<Checkpoint> {
    let alone =
        ["model.gguf", "lora.safetensors"].map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
    Checkpoint::open(alone.as_deref().unwrap_or(folder)).ok()
}

fn weights(folder: &Path) {
    let Some(checkpoint) = opened(folder) else { return };
    for module in checkpoint.modules() {
        let _ = checkpoint.matrix(module, &());
    }
    let _ = checkpoint.tokenizer();
}

fn plan(folder: &Path) {
    let Some(checkpoint) = opened(folder) else { return };
    let Ok(layout) = Layout::of(&checkpoint) else { return };
    let Ok(selection) = Selection::new(&layout, &Targets::AllLinear) else { return };
    let _ = selection.count(8);
    let _ = memory::predict(&layout, &Pairs::uniform(&selection, 8), &Load::default());
}

fn adapter(folder: &Path) {
    let alone = ["a.gguf", "lora.safetensors"].map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
    let Ok(adapter) = Adapter::open(alone.as_deref().unwrap_or(folder)) else { return };
    for layer in &adapter.layers {
        let _ = adapter.factors(layer);
    }
    let _ = (adapter.notes(), adapter.trainable(), adapter.config.to_json());
    let _ = doctor::examine(&adapter, None, &());
}

fn text(folder: &Path) {
    let Ok(text) = Text::open(folder) else { return };
    let turns =
        [json!({"role": "user", "content": "the rank"}), json!({"role": "assistant", "content": " of a matrix"})];
    if let Ok(rendered) = text.render(&turns, true) {
        let _ = text.rendered_ids(&rendered);
    }
    if let Ok(ids) = text.ids("the rank of a matrix") {
        let _ = text.text(&ids);
    }
}

fn rows(folder: &Path) {
    thread_local! {
        static MODEL: Checkpoint = Checkpoint::open(&fixture("cases/array-pair/model")).unwrap();
    }
    let file = ["t.parquet", "t.csv", "rows.json", "lines.jsonl"].map(|name| folder.join(name));
    let Some(file) = file.into_iter().find(|path| path.is_file()) else { return };
    let _ = data::keys(&file);
    MODEL.with(|model| drop(data::read(&file, model, 32, &())));
}

fn settings(folder: &Path) {
    if let Ok(settings) = read_settings(&folder.join("run.toml")) {
        let _ = settings.check();
    }
}

fn past(folder: &Path) {
    let _ = history::Past::read(folder);
    let _ = history::Follow::new(folder).events();
    let _ = sweep::Group::read(folder);
}

fn state(folder: &Path) {
    thread_local! {
        static TRAINER: std::cell::RefCell<Option<Trainer>> = const { std::cell::RefCell::new(None) };
    }
    TRAINER.with_borrow_mut(|trainer| {
        let trainer = trainer.get_or_insert_with(|| {
            let settings = Settings { data: folder.join("rows.jsonl"), ..run_settings(Path::new("")) };
            let row = rankscope::train::Row { ids: vec![3, 4, 5], ..rankscope::train::Row::default() };
            let rows = rankscope::train::Rows { rows: vec![row; 8] };
            Trainer::new(&Checkpoint::open(&settings.model).unwrap(), settings, rows, &()).unwrap()
        });
        let _ = saved::restore(trainer, &folder.join("checkpoints/step-1"));
    });
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let at = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &at)
        } else {
            std::fs::copy(entry.path(), at).map(drop).unwrap()
        }
    }
}

/// Damages so many files for one target; what broke.
fn fuzz((name, seeds, read): (&str, Seeds, Read), inputs: usize, out: &Path) -> Vec<String> {
    let seeds = seeds(out);
    assert!(!seeds.is_empty(), "{name} has nothing to begin with");
    let places: Vec<(PathBuf, PathBuf, Vec<u8>)> = seeds
        .iter()
        .enumerate()
        .map(|(at, (folder, file))| {
            let place = out.join(format!("{name}-{at}"));
            copy_all(folder, &place);
            let path = place.join(file);
            let whole = std::fs::read(&path).unwrap();
            read(&place);
            (place, path, whole)
        })
        .collect();
    let seed = std::env::var("RANKSCOPE_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_u64);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut broken, mut slowest) = (Vec::new(), Duration::ZERO);
    device::forget_peak();
    let before = device::resident().unwrap_or(0);
    for input in 0..inputs {
        let (place, path, whole) = &places[input % places.len()];
        let mut bytes = whole.clone();
        random.mutate(&mut bytes);
        std::fs::write(path, &bytes).unwrap();
        let begin = Instant::now();
        let survived = catch_unwind(AssertUnwindSafe(|| read(place))).is_ok();
        let took = begin.elapsed();
        slowest = slowest.max(took);
        if !survived || took > Duration::from_secs(10) {
            let kept = std::env::temp_dir().join(format!("rankscope-fuzz-{}-{input}", name.replace(' ', "-")));
            std::fs::write(&kept, &bytes).unwrap();
            let what = if survived { format!("took {took:.1?}") } else { "panicked".to_owned() };
            broken.push(format!(
                "{name}: input {input} of {} {what}: {}",
                path.file_name().unwrap().display(),
                kept.display()
            ));
        }
    }
    let grown = device::peak().unwrap_or(0).saturating_sub(before) >> 20;
    if grown > 1024 {
        broken.push(format!("{name}: {grown} MiB of memory"));
    }
    println!("{name:<20} {inputs:>9} inputs, {} broken, slowest {slowest:.2?}, {grown} MiB more memory", broken.len());
    broken
}

fn all(inputs: usize) {
    let shared = Path::new("/dev/shm");
    let out = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    let wanted = std::env::var("RANKSCOPE_FUZZ_TARGET").unwrap_or_default();
    let wanted = regex::Regex::new(&wanted).unwrap();
    let targets = TARGETS.into_iter().filter(|(name, ..)| wanted.is_match(name));
    let broken: Vec<String> = targets.flat_map(|target| fuzz(target, inputs, out.path())).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_reader_survives_a_few() {
    all(60);
}

#[test]
#[ignore = "as long as one wants"]
fn many() {
    let inputs = std::env::var("RANKSCOPE_FUZZ").ok().and_then(|inputs| inputs.parse().ok());
    all(inputs.unwrap_or(10_000));
}
