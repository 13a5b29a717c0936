//! `demo build` in small: the whole way, the same bytes each time, and files that everything else opens.

use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::demo::make::{Scale, build};
use rankscope::error::{Error, Result};
use rankscope::model::{Decoder, Frozen};
use rankscope::progress::Progress;
use rankscope::train::{Text, data};
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
    let three = made("three", 3, &[3, 20]);
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
