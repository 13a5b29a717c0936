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

use super::mutator::{Random, Seed};
use super::seeds::{self, Places, fixtures, of_run, run_settings};
use crate::support::{copied, fixture};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::checkpoint::hub::{self, Ask};
use rankscope::device;
use rankscope::plan::{Layout, Load, Pairs, Selection, Targets, doctor, memory};
use rankscope::train::run_folder::read_settings;
use rankscope::train::{Settings, Text, Trainer, data, history, saved, sweep};
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Reads a folder in which one file is damaged; whether it could still be opened.
type Read = fn(&Path) -> bool;

/// The folders that a file is damaged in: each is copied, then its file is written anew for each input.
type Seeds = fn(&Path) -> Places;

/// No file may take longer, unless `RANKSCOPE_FUZZ_SLOW` says another number of seconds.
const SLOW: f64 = 10.0;

/// Name, where the good files are, what reads them.
const TARGETS: [(&str, Seeds, Read); 23] = [
    (
        "safetensors",
        |_| fixtures(&["llama-bnb4/model.safetensors", "llama-adapter/adapter_model.safetensors"]),
        weights,
    ),
    ("index", |_| fixtures(&["llama/model.safetensors.index.json", "gpt2/model.safetensors.index.json"]), weights),
    ("config", |_| fixtures(&["llama/config.json", "gpt2/config.json", "gemma3/config.json"]), plan),
    ("quantization state", |_| fixtures(&["llama-bnb4/config.json", "llama-bnb4/model.safetensors"]), weights),
    ("packed weights", seeds::packed, weights),
    ("gguf", seeds::gguf, weights),
    ("gguf tokenizer", seeds::gguf_tokenizers, embedded),
    ("gguf adapter", seeds::gguf_adapter, adapter),
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
    ("adapter dialects", seeds::dialects, adapter),
    ("tokenizer", |_| fixtures(&["cases/bos-once/model/tokenizer.json", "llama/tokenizer.json"]), text),
    ("tokenizer config", |_| fixtures(&["cases/bos-once/model/tokenizer_config.json"]), text),
    ("chat template", seeds::templates, text),
    (
        "rows",
        |_| {
            fixtures(&[
                "cases/array-pair/rows.json",
                "cases/array-chat/lines.jsonl",
                "cases/csv-quoted/t.csv",
                "cases/tools-column/lines.jsonl",
                "cases/sharegpt-lines/lines.jsonl",
                "cases/utf16/lines.jsonl",
                "cases/plain-text/t.txt",
            ])
        },
        rows,
    ),
    ("parquet", |_| fixtures(&["cases/parquet-pair/t.parquet", "cases/parquet-chat/t.parquet"]), rows),
    ("run settings", |out| of_run(out, &["run.toml"]), settings),
    (
        "run logs",
        |out| {
            of_run(out, &["metrics.jsonl", "film.jsonl", "samples.jsonl", "status.json", "memory.json", "group.json"])
        },
        past,
    ),
    ("foreign runs", seeds::foreign, past),
    ("hub answers", seeds::hub, answers),
    ("state", |out| of_run(out, &["checkpoints/step-1/state.json"]), state),
    ("state tensors", |out| of_run(out, &["checkpoints/step-1/state.safetensors"]), state),
];

/// The model of a folder, or the one file in it that is a model by itself.
fn opened(folder: &Path) -> Option<Checkpoint> {
    let alone =
        ["model.gguf", "lora.safetensors"].map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
    Checkpoint::open(alone.as_deref().unwrap_or(folder)).ok()
}

fn weights(folder: &Path) -> bool {
    let Some(checkpoint) = opened(folder) else { return false };
    for module in checkpoint.modules() {
        let _ = checkpoint.matrix(module, &());
    }
    let _ = checkpoint.tokenizer();
    true
}

fn embedded(folder: &Path) -> bool {
    let Some(checkpoint) = opened(folder) else { return false };
    let Ok(text) = Text::of(&checkpoint, None) else { return false };
    converse(&text)
}

fn plan(folder: &Path) -> bool {
    let Some(checkpoint) = opened(folder) else { return false };
    let Ok(layout) = Layout::of(&checkpoint) else { return false };
    let Ok(selection) = Selection::new(&layout, &Targets::AllLinear) else { return false };
    let _ = selection.count(8);
    let _ = memory::predict(&layout, &Pairs::uniform(&layout, &selection, 8), &Load::default());
    true
}

fn adapter(folder: &Path) -> bool {
    let alone = ["a.gguf", "lora.safetensors"].map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
    let Ok(adapter) = Adapter::open(alone.as_deref().unwrap_or(folder)) else { return false };
    for layer in &adapter.layers {
        let _ = adapter.factors(layer);
    }
    let _ = (adapter.notes(), adapter.trainable(), adapter.config.to_json());
    let _ = doctor::examine(&adapter, None, &());
    true
}

fn text(folder: &Path) -> bool {
    let Ok(text) = Text::open(folder) else { return false };
    converse(&text)
}

fn converse(text: &Text) -> bool {
    let turns =
        [json!({"role": "user", "content": "the rank"}), json!({"role": "assistant", "content": " of a matrix"})];
    let rendered = text.render(&turns, true).and_then(|rendered| text.rendered_ids(&rendered)).is_ok();
    let said = text.ids("the rank of a matrix").and_then(|ids| text.text(&ids)).is_ok();
    said && (rendered || !text.has_template())
}

fn rows(folder: &Path) -> bool {
    thread_local! {
        static MODEL: Checkpoint = Checkpoint::open(&fixture("cases/array-pair/model")).unwrap();
    }
    let file = ["t.parquet", "t.csv", "rows.json", "lines.jsonl", "t.txt"].map(|name| folder.join(name));
    let Some(file) = file.into_iter().find(|path| path.is_file()) else { return false };
    let _ = data::keys(&file);
    MODEL.with(|model| data::read(&file, model, 512, &()).is_ok())
}

fn settings(folder: &Path) -> bool {
    read_settings(&folder.join("run.toml")).is_ok_and(|settings| settings.check().is_ok())
}

fn past(folder: &Path) -> bool {
    let _ = sweep::Group::read(folder);
    let events = history::Follow::new(folder).events();
    history::Past::read(folder).is_ok() && !events.is_empty()
}

fn answers(folder: &Path) -> bool {
    let answer = std::fs::read(folder.join("answer.json")).unwrap();
    let mut any = false;
    for file in [None, Some("q4".to_owned())] {
        let ask = Ask { repository: "org/tiny".to_owned(), file, ..Ask::default() };
        if let Ok((commit, files)) = hub::offered(&answer, &ask) {
            let inside = |name: &str| !name.starts_with('/') && !name.split('/').any(|part| part == "..");
            let _: u64 = files.iter().map(|(_, size)| size).sum();
            assert!(commit.len() >= 32 && files.iter().all(|(name, _)| inside(name)), "{commit} {files:?}");
            any = true;
        }
    }
    any
}

fn state(folder: &Path) -> bool {
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
        saved::restore(trainer, &folder.join("checkpoints/step-1")).is_ok()
    })
}

/// Damages so many files for one target; what broke.
fn fuzz((name, seeds, read): (&str, Seeds, Read), inputs: usize, out: &Path) -> Vec<String> {
    let seeds = seeds(out);
    assert!(!seeds.is_empty(), "{name} has nothing to begin with");
    let places: Vec<(PathBuf, PathBuf, Seed)> = seeds
        .iter()
        .enumerate()
        .map(|(at, (folder, file))| {
            let place = out.join("damaged").join(format!("{name}-{at}"));
            copied(folder, &place);
            let path = place.join(file);
            let whole = std::fs::read(&path).unwrap();
            assert!(read(&place), "{name}: {file} cannot be read as it is");
            (place, path, Seed::new(file, whole))
        })
        .collect();
    let seed = std::env::var("RANKSCOPE_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_u64);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut broken, mut slowest, mut opened, all) = (Vec::new(), Duration::ZERO, 0usize, Instant::now());
    let slow = std::env::var("RANKSCOPE_FUZZ_SLOW").ok().and_then(|slow| slow.parse().ok()).unwrap_or(SLOW);
    let slow = Duration::from_secs_f64(slow);
    device::forget_peak();
    let before = device::resident().unwrap_or(0);
    for input in 0..inputs {
        let (place, path, seed) = &places[input % places.len()];
        let bytes = seed.damaged(&places[random.below(places.len())].2, &mut random);
        std::fs::write(path, &bytes).unwrap();
        let begin = Instant::now();
        let survived = catch_unwind(AssertUnwindSafe(|| read(place)));
        opened += usize::from(survived.as_ref().is_ok_and(|opened| *opened));
        let survived = survived.is_ok();
        let took = begin.elapsed();
        slowest = slowest.max(took);
        if !survived || took > slow {
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
    let each = all.elapsed() / inputs.max(1) as u32;
    println!(
        "{name:<20} {inputs:>9} inputs, {} % opened, {} broken, {each:.0?} each, slowest {slowest:.2?}, {grown} MiB more memory",
        100 * opened / inputs.max(1),
        broken.len()
    );
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
