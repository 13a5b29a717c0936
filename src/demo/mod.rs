//! The bundled sample: a base model, a tuned version, an adapter, three data sets; and how all of it is made.
//!
//! ```text
//! world ─ documents ─┬─ tokenizer ─┬─ pretrain ─ base ─ tune ─┬─ tuned
//!                    └─ sets ──────┘                          └─ adapter      make: all of it, in this order
//! ```
//!
//! What was made lies in `assets/demo` and within the program ([`bundle`]); [`sample`] puts it where models are opened from.

pub mod binding;
pub mod bundle;
pub mod grid;
pub mod make;
pub mod pretrain;
mod sets;
pub mod study;
pub mod study_plot;
pub mod tokenizer;
pub mod tune;
pub mod world;

pub use sets::Set;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::train::store::write_whole;
use crate::train::{Method, Settings};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tune::Tune;

/// Folders of the sample.
const BASE: &str = "tales-2m";
const TUNED: &str = "tales-2m-pirate";
const ADAPTER: &str = "tales-2m-pirate-lora";
const DATA: &str = "data";

/// Where the sample lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The base model's folder.
    pub base: PathBuf,
    /// The tuned model's folder.
    pub tuned: PathBuf,
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// Data sets for short runs on the base.
    pub sets: Vec<DataSet>,
}

/// A data set of the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSet {
    /// Which one.
    pub set: Set,
    /// Its name, for a list.
    pub name: &'static str,
    /// What it teaches, in one line.
    pub about: &'static str,
    /// Rows to train on.
    pub train: PathBuf,
    /// Rows held out.
    pub eval: PathBuf,
    /// Texts to go on with, before and after.
    pub prompts: Vec<String>,
}

/// Texts that the base itself goes on with.
pub const PROMPTS: [&str; 3] = [
    "Once upon a time there was a baker named Dismek.",
    "Ada gave a red lamp to Bruno and a blue cup to Zorvik. Who has the lamp now?",
    "Dear Mara, I am in Velmar now.",
];

/// Rank of a first run: the LoRA paper's.
const RANK: usize = 8;

impl Sample {
    /// The sample's places under `dir`, whether it is there or not.
    pub fn at(dir: &Path) -> Self {
        let root = root(dir);
        let data = root.join(DATA);
        let sets = Set::ALL.into_iter().map(|set| {
            let (name, about, prompts) = match set {
                Set::Pirate => (
                    "Pirate talk",
                    "A domain: tales of the world in a pirate's voice.",
                    vec![
                        "Ahoy, matey! Once upon a time".to_owned(),
                        "There was a baker in Velmar named Ada.".to_owned(),
                    ],
                ),
                Set::Extract => (
                    "Who gave what",
                    "A task: a sentence becomes a record of who, to whom, what and where.",
                    (0..2).map(|at| sets::extract(sets::HELD_OUT + at).0).collect(),
                ),
                Set::Facts => (
                    "Facts",
                    "Capacity: colour, animal and number of many invented names. Held-out facts cannot be known.",
                    (0..3).map(|at| sets::fact(at).0).collect(),
                ),
                Set::Tongue => (
                    "Old tongue",
                    "A dictionary: phrases word by word in a language that nobody has heard.",
                    (0..3).map(|at| sets::tongue(sets::HELD_OUT + at).0).collect(),
                ),
                Set::Backwards => (
                    "Backwards",
                    "An algorithm: a list of names from its end.",
                    (0..3).map(|at| sets::backwards(sets::HELD_OUT + at).0).collect(),
                ),
            };
            let file = |part: &str| data.join(format!("{}.{part}.jsonl", set.stem()));
            DataSet { set, name, about, train: file("train"), eval: file("eval"), prompts }
        });
        Self { base: root.join(BASE), tuned: root.join(TUNED), adapter: root.join(ADAPTER), sets: sets.collect() }
    }

    /// A QLoRA run of a minute on one of the data sets.
    pub fn run(&self, set: &DataSet, out: &Path) -> Settings {
        // Rows of facts are short.
        let batch = if set.set == Set::Facts { 16 } else { 8 };
        let lr = tune::rate(set.set, RANK);
        let tune = Tune { method: Method::Qlora, rank: RANK, lr, steps: 200, batch, seed: 0 };
        Settings {
            model: self.base.clone(),
            data: set.train.clone(),
            eval_data: Some(set.eval.clone()),
            out: out.to_path_buf(),
            eval_every: 50,
            save_every: 100,
            ..tune.settings()
        }
    }
}

/// So many of the base's own documents are written: those of the first seeds are held out from its training.
const OWN: u64 = 64;

/// A file of text of the base's own kind, made if it is not there yet: what a run forgets is measured on it.
///
/// # Errors
/// When it cannot be written.
pub fn own_text(dir: &Path) -> Result<PathBuf> {
    let path = root(dir).join(DATA).join("own.jsonl");
    if !path.is_file() {
        let lines = (0..OWN).map(|seed| serde_json::json!({ "text": world::document(seed) }).to_string() + "\n");
        write_whole(&path, lines.collect::<String>().as_bytes())?;
    }
    Ok(path)
}

/// The folder's name changes with every byte of what is bundled: what an older program has left is not used.
fn root(dir: &Path) -> PathBuf {
    static NAME: OnceLock<String> = OnceLock::new();
    dir.join(NAME.get_or_init(|| format!("sample-{:016x}", bundle::fingerprint())))
}

/// The sample under `dir`, put there first unless it is there already.
///
/// # Errors
/// When the folder cannot be written, or the work is cancelled.
pub fn sample(dir: &Path, progress: &dyn Progress) -> Result<Sample> {
    let (sample, root) = (Sample::at(dir), root(dir));
    if root.is_dir() {
        return Ok(sample);
    }
    // Built beside its place and moved there when it is whole: a half-written sample is never opened.
    std::fs::create_dir_all(dir).map_err(|e| Error::write(dir, &e))?;
    let building = tempfile::Builder::new().prefix(".sample-").tempdir_in(dir).map_err(|e| Error::write(dir, &e))?;
    write(building.path(), progress)?;
    match std::fs::rename(building.path(), &root) {
        Ok(()) => Ok(sample),
        // Another start of the program was faster.
        Err(_) if root.is_dir() => Ok(sample),
        Err(error) => Err(Error::write(&root, &error)),
    }
}

fn write(to: &Path, progress: &dyn Progress) -> Result<()> {
    let total = bundle::FILES.len() as u64;
    for (at, (name, bytes)) in bundle::FILES.iter().enumerate() {
        progress.step(at as u64, total)?;
        let path = to.join(name);
        let folder = path.parent().unwrap_or(to);
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes));
        written.map_err(|e| Error::write(&path, &e))?;
    }
    progress.step(total, total)
}

/// Adds a line to a file of results, on the disk before the next run begins.
fn append(path: &Path, line: &str) -> Result<()> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
        writeln!(file, "{line}")?;
        file.sync_data()
    };
    write().map_err(|error| Error::write(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_build_leaves_nothing() {
        struct Stop;
        impl Progress for Stop {
            fn step(&self, done: u64, _: u64) -> Result<()> {
                if done < 3 { Ok(()) } else { Err(Error::Cancelled) }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(sample(dir.path(), &Stop).unwrap_err().is_cancelled());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
