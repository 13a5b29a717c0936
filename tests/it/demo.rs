//! `demo build` in small: the whole way, the same bytes each time, and files that everything else opens; and what is
//! bundled, as it was measured when it was made.

use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::demo::make::{Scale, build};
use rankscope::demo::{self, binding, bundle, pretrain, tune, world};
use rankscope::error::{Error, Result};
use rankscope::model::{Decoder, Frozen, Processor};
use rankscope::progress::Progress;
use rankscope::train::{Text, data, evaluate};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Stops at the n-th question.
struct StopAt(AtomicU64);

impl Progress for StopAt {
    fn step(&self, _: u64, _: u64) -> Result<()> {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 0 { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn the_same_bytes_however_many_threads_and_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str, threads: usize, stops: &[u64]| {
        let out = folder.path().join(name);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            for &at in stops {
                let stop = StopAt(AtomicU64::new(at));
                // Before the rate falls, a longer run is the same.
                let mut longer = Scale::tiny();
                longer.recipe.steps *= 2;
                assert!(build(&out, &longer, &mut |_| (), &stop).unwrap_err().is_cancelled());
            }
            build(&out, &Scale::tiny(), &mut |_| (), &()).unwrap()
        });
        files(&out)
    };
    let one = made("one", 1, &[]);
    let three = made("three", 3, &[3, 17]);
    let names: Vec<&String> = one.keys().collect();
    assert_eq!(names, three.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(bytes == &three[name], "{name} differs");
    }
    let out = folder.path().join("one");
    let base = Checkpoint::open(&out.join("tales-2m")).unwrap();
    let tuned = Checkpoint::open(&out.join("tales-2m-pirate")).unwrap();
    let adapter = Adapter::open(&out.join("tales-2m-pirate-lora")).unwrap();
    assert_eq!(base.parameters(), 512 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32);
    assert_eq!(tuned.parameters(), base.parameters());
    assert_eq!((adapter.layers.len(), adapter.config.r), (2 * 7, 4));
    let mut decoder = Decoder::load(&base, Frozen::AsStored, &()).unwrap();
    decoder.attach(&adapter).unwrap();
    let text = Text::open(base.path()).unwrap();
    assert_eq!(text.eos, Some(0));
    for set in ["pirate", "extract", "facts"] {
        for (part, count) in [("train", 16), ("eval", 4)] {
            let read = data::read(&out.join(format!("data/{set}.{part}.jsonl")), &base, 256, &()).unwrap();
            assert_eq!((read.rows.rows.len(), read.left_out, read.cut), (count, 0, 0), "{set} {part}");
        }
    }
}

#[test]
fn what_is_bundled_is_what_lies_in_assets_and_opens() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let mut found = Vec::new();
    for folder in ["", "tales-2m", "tales-2m-pirate", "tales-2m-pirate-lora", "data"] {
        for entry in std::fs::read_dir(assets.join(folder)).unwrap().map(|entry| entry.unwrap()) {
            if entry.path().is_file() {
                let name = entry.file_name().into_string().unwrap();
                found.push(if folder.is_empty() { name } else { format!("{folder}/{name}") });
            }
        }
    }
    found.sort();
    let mut bundled: Vec<String> = bundle::FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    bundled.sort();
    assert_eq!(bundled, found);
    let bytes: usize = bundle::FILES.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes < 16_000_000, "{bytes} bytes");

    let dir = tempfile::tempdir().unwrap();
    let sample = demo::sample(dir.path(), &()).unwrap();
    assert_eq!(demo::sample(dir.path(), &()).unwrap(), sample);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half-made is left");
    let scale = Scale::full();
    let base = Checkpoint::open(&sample.base).unwrap();
    let shape = scale.shape;
    let block = 4 * shape.hidden * shape.hidden + 3 * shape.hidden * shape.ffn + 2 * shape.hidden;
    let parameters = shape.vocab * shape.hidden + shape.layers * block + shape.hidden;
    assert_eq!(base.parameters(), parameters as u64);
    assert_eq!(Checkpoint::open(&sample.tuned).unwrap().parameters(), parameters as u64);
    let adapter = Adapter::open(&sample.adapter).unwrap();
    assert_eq!((adapter.layers.len(), adapter.config.r), (7 * shape.layers, scale.adapter.rank));
    for (set, (_, rows)) in sample.sets.iter().zip(scale.rows) {
        for (path, count) in [(&set.train, rows.train), (&set.eval, rows.eval)] {
            let read = data::read(path, &base, tune::SEQ, &()).unwrap();
            assert_eq!((read.rows.rows.len() as u64, read.left_out), (count, 0), "{}", path.display());
        }
    }
}

#[test]
fn the_base_knows_its_world_as_well_as_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let sample = demo::sample(dir.path(), &()).unwrap();
    let report: serde_json::Value =
        serde_json::from_slice(bundle::FILES.iter().find(|(name, _)| *name == "demo.json").unwrap().1).unwrap();
    let measured = report["base"]["loss"].as_f64().unwrap();
    let base = Checkpoint::open(&sample.base).unwrap();
    let decoder = Decoder::load(&base, Frozen::AsStored, &()).unwrap();
    let tokenizer = tokenizers::Tokenizer::from_file(sample.base.join("tokenizer.json")).unwrap();
    // The first of the held-out sequences that were measured; as many others would do.
    let loss = |seed: u64| {
        let (rows, _) = pretrain::packed(&tokenizer, world::document, seed, 32, tune::SEQ, &()).unwrap();
        evaluate(&Processor::default(), &decoder, &rows, 8, &()).unwrap().mean()
    };
    for seed in [0, 700_000] {
        assert!((loss(seed) - measured).abs() < 0.1, "{} {measured}", loss(seed));
    }
    let text = Text::open(&sample.base).unwrap();
    let told = binding::answer(&decoder, &text, demo::PROMPTS[0], 60).unwrap();
    assert!(told.contains('.') && told.split(' ').count() > 8, "sentences: {told}");
}
