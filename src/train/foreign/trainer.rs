//! Folders of transformers' Trainer and of those that build on it: TRL, Unsloth, LLaMA-Factory, axolotl.
//!
//! `trainer_state.json` lies in every checkpoint and, at the end, beside them: its `log_history` holds all that was logged. Until the
//! first checkpoint there are only LLaMA-Factory's `trainer_log.jsonl` and TensorBoard's event files.

use super::listing::Listing;
use super::points::{Field, Points};
use super::{Kind, Log, Saved, lines, numbered_folders, tensorboard};
use crate::checkpoint::json;
use crate::error::{Error, Result};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

pub(super) static KIND: Kind = Kind {
    is,
    made_by,
    checkpoints: |listing| numbered_folders(listing, CHECKPOINT),
    results: &["adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "model.safetensors.index.json"],
    logs,
};

const CHECKPOINT: &str = "checkpoint-";
const STATE: &str = "trainer_state.json";
const LINES: &str = "trainer_log.jsonl";
const ARGUMENTS: &str = "training_args.bin";

fn is(listing: &Listing) -> bool {
    listing.has(STATE)
        || listing.has(LINES)
        || listing.has(ARGUMENTS)
        || numbered_folders(listing, CHECKPOINT).iter().rev().any(|saved| saved.path.join(STATE).is_file())
}

/// Programs by a word in the name of their class of arguments, or in the name of one of these.
const MAKERS: [(&str, &str); 5] = [
    ("Unsloth", "Unsloth"),
    // Since 2026 its arguments are pickled under TRL's name.
    ("unsloth_num_chunks", "Unsloth"),
    ("llamafactory", "LLaMA-Factory"),
    ("axolotl", "axolotl"),
    ("trl.", "TRL"),
];
/// Bytes at the beginning of `training_args.bin` in which the class is named.
const BEGINNING: u64 = 1 << 16;

fn made_by(listing: &Listing) -> &'static str {
    let newest = numbered_folders(listing, CHECKPOINT).pop().map(|saved| saved.path.join(ARGUMENTS));
    let beginning = |path: &Path| -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        crate::guard::regular(path).ok()?.take(BEGINNING).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let arguments = beginning(&listing.path(ARGUMENTS)).or_else(|| beginning(&newest?)).unwrap_or_default();
    let names = |word: &str| arguments.windows(word.len()).any(|bytes| bytes == word.as_bytes());
    let found = MAKERS.iter().find(|(word, _)| names(word)).map(|(_, maker)| *maker);
    found.unwrap_or(if listing.has(LINES) { "LLaMA-Factory" } else { "Trainer" })
}

fn logs(listing: &Listing, checkpoints: &[Saved]) -> Vec<Log> {
    let mut logs = Vec::new();
    // The one beside the checkpoints is the last; of the checkpoints the newest says all.
    let newest = checkpoints.iter().rev().map(|saved| saved.path.join(STATE)).find(|path| path.is_file());
    if let Some(path) = Some(listing.path(STATE)).filter(|_| listing.has(STATE)).or(newest) {
        logs.push(Log { path, read: state });
    }
    if listing.has(LINES) {
        logs.push(Log { path: listing.path(LINES), read: jsonl });
    }
    logs.extend(tensorboard::logs(listing, checkpoints));
    logs
}

/// Reads the whole of it: it is written anew each time.
fn state(path: &Path, _: u64, points: &mut Points) -> Result<u64> {
    let state = json::object(path)?;
    let history = state["log_history"].as_array().ok_or_else(|| {
        let message =
            "found no list log_history, expected what transformers 3 to 5 write: a later version may keep it elsewhere";
        Error::file(path, message)
    })?;
    let whole = |key: &str| state[key].as_u64().map(|value| value as usize).filter(|&value| value > 0);
    points.done = whole("global_step").or(points.done);
    (points.total, points.batch) = (whole("max_steps").or(points.total), whole("train_batch_size").or(points.batch));
    for entry in history.iter().filter_map(Value::as_object) {
        let Some(step) = entry.get("step").and_then(Value::as_u64) else { continue };
        for (name, value) in entry {
            // `train_loss` of the last entry is the mean over the whole run.
            if let (Some(field), Some(value), false) = (Field::of(name), value.as_f64(), name == "train_loss") {
                points.set(step as usize, field, value);
            }
        }
    }
    Ok(0)
}

/// A line for each logged step: `{"current_steps": 5, "total_steps": 12, "loss": 9.1, "lr": 1e-4, "elapsed_time": "0:00:07"}`.
fn jsonl(path: &Path, at: u64, points: &mut Points) -> Result<u64> {
    lines(path, at, &mut |line| {
        let line: Value = match serde_json::from_str(line) {
            Ok(line) => line,
            Err(_) => return,
        };
        let (Some(step), Some(entry)) = (line["current_steps"].as_u64(), line.as_object()) else { return };
        points.total = line["total_steps"].as_u64().map(|total| total as usize).or(points.total);
        for (name, value) in entry {
            if let (Some(field), Some(value)) = (Field::of(name), value.as_f64()) {
                points.set(step as usize, field, value);
            }
        }
        if let Some(seconds) = line["elapsed_time"].as_str().and_then(seconds) {
            points.set(step as usize, Field::Seconds, seconds);
        }
    })
}

/// `1 day, 2:03:04` in seconds.
fn seconds(text: &str) -> Option<f64> {
    let (days, clock) = match text.split_once(" day") {
        Some((days, clock)) => (days.trim().parse().ok()?, clock.trim_start_matches(['s', ',', ' '])),
        None => (0.0, text),
    };
    clock
        .split(':')
        .try_fold(0.0, |sum, part| Some(60.0 * sum + part.parse::<f64>().ok()?))
        .map(|sum| 86_400.0 * days + sum)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_pythons() {
        assert_eq!(super::seconds("0:01:07"), Some(67.0));
        assert_eq!(super::seconds("2 days, 1:00:01"), Some(2.0 * 86_400.0 + 3601.0));
        assert_eq!(super::seconds("soon"), None);
    }
}
