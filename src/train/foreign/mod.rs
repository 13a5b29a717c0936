//! Runs that other programs have made: recognised by their files, read as they grow, filmed from their checkpoints.
//!
//! ```text
//! folder ─► Listing ─► Kind (KINDS) ─┬─ logs ─► Points ─► Record ─┐
//!                                    └─ checkpoints ─► Frame ─────┴─► Past, Follow: as of a run of this program
//! ```
//!
//! | kind | recognised by | logs | checkpoints |
//! |---|---|---|---|
//! | `trainer`: Trainer, TRL, Unsloth, LLaMA-Factory, axolotl | `trainer_state.json`, `checkpoint-N/` | `trainer_state.json`, `trainer_log.jsonl`, event files | `checkpoint-N` |
//! | `mlx`: mlx-lm | `adapters.safetensors`, `NNNNNNN_adapters.safetensors` | its output in a `.log` or `.txt` | numbered files |
//! | `torchtune` | `epoch_N/`, `step_N/` | `log_*.txt` of its DiskLogger | the same |
//! | `tensorboard` | event files | these | none |
//!
//! Nothing is unpickled: of `training_args.bin` only the name of the class is looked for.

mod film;
mod follow;
mod listing;
mod mlx;
mod points;
mod reading;
mod settings;
mod tensorboard;
mod torchtune;
mod trainer;

pub use follow::Follow;
pub use reading::Reading;

use crate::error::{Error, Result};
use listing::Listing;
use points::Points;
use std::path::{Path, PathBuf};

/// A kind of run folder of other programs.
struct Kind {
    /// Whether a folder is of it.
    is: fn(&Listing) -> bool,
    /// Who wrote it.
    made_by: fn(&Listing) -> &'static str,
    /// Its checkpoints, in order.
    checkpoints: fn(&Listing) -> Vec<Saved>,
    /// Files that hold the result.
    results: &'static [&'static str],
    /// Its logs.
    logs: fn(&Listing, &[Saved]) -> Vec<Log>,
}

/// All of them; the first that recognises a folder reads it.
static KINDS: [&Kind; 4] = [&trainer::KIND, &torchtune::KIND, &mlx::KIND, &tensorboard::KIND];

/// What makes a folder a run, for a message.
pub const EXPECTED: &str =
    "run.toml, trainer_state.json, checkpoint-N folders, adapters.safetensors, epoch_N folders or event files";

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Steps done.
    pub step: usize,
    /// Its folder or file.
    pub path: PathBuf,
}

/// Takes what a log says from a byte on; gives the byte to go on from.
type Reader = fn(&Path, u64, &mut Points) -> Result<u64>;

/// A file that says something about steps.
struct Log {
    path: PathBuf,
    read: Reader,
}

/// What is known of a run of another program, beside what every run has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Its program.
    pub made_by: &'static str,
    /// Whether method, rank and targets are known: there is an adapter, or a whole model.
    pub described: bool,
    /// Its checkpoints, in order.
    pub checkpoints: Vec<Saved>,
    /// The adapter or model that it ended with.
    pub result: Option<PathBuf>,
}

/// Numbers at the end of names that begin like this.
fn numbered<'a>(names: &'a [String], begin: &'a str) -> impl Iterator<Item = (usize, &'a String)> {
    names.iter().filter_map(move |name| Some((name.strip_prefix(begin)?.parse().ok()?, name)))
}

/// Checkpoints in folders whose names begin like this and end with the step.
fn numbered_folders(listing: &Listing, begin: &str) -> Vec<Saved> {
    let all = numbered(&listing.folders, begin);
    let mut all: Vec<Saved> = all.map(|(step, name)| Saved { step, path: listing.path(name) }).collect();
    all.sort_by_key(|saved| saved.step);
    all
}

/// Hands over the whole lines of a text file from a byte on, without colours; gives the byte behind the last one.
fn lines(path: &Path, at: u64, take: &mut dyn FnMut(&str)) -> Result<u64> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = crate::guard::regular(path)?;
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.take(crate::guard::MOST).read_to_end(&mut bytes));
    read.map_err(|error| Error::read(path, "read", &error))?;
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    for line in String::from_utf8_lossy(&bytes[..end]).lines() {
        take(&uncoloured(line));
    }
    Ok(at + end as u64)
}

/// A line without what colours it on a terminal: `ESC [ … letter`.
fn uncoloured(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = behind.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    plain + rest
}
