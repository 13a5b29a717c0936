//! torchtune's folder: `epoch_N` or `step_N` with PEFT's adapter, and the text of its DiskLogger.

use super::listing::Listing;
use super::points::{Field, Points};
use super::{Kind, Log, Saved, lines, numbered, numbered_folders, tensorboard};
use crate::error::Result;
use std::path::Path;

pub(super) static KIND: Kind =
    Kind { is, made_by: |_| "torchtune", checkpoints, results: &["adapter_model.safetensors"], logs };

/// Folders that its DiskLogger writes `log_<time>.txt` to, by its recipes.
const LOGS: &str = "logs";

fn is(listing: &Listing) -> bool {
    let saved = numbered(&listing.folders, "epoch_").chain(numbered(&listing.folders, "step_")).next().is_some();
    saved && (listing.has("torchtune_config.yaml") || !texts(listing).is_empty() || has_adapter(listing))
}

fn has_adapter(listing: &Listing) -> bool {
    ["epoch_", "step_"]
        .iter()
        .flat_map(|begin| numbered(&listing.folders, begin))
        .any(|(_, name)| listing.path(name).join("adapter_config.json").is_file())
}

/// By step; of epochs the last step is known only from the log, so that they are spread over its steps evenly.
fn checkpoints(listing: &Listing) -> Vec<Saved> {
    let steps = numbered_folders(listing, "step_");
    if !steps.is_empty() {
        return steps;
    }
    let epochs = numbered_folders(listing, "epoch_");
    let mut points = Points::default();
    for path in texts(listing) {
        if let Err(error) = read(&path, 0, &mut points) {
            log::debug!("{error}");
        }
    }
    let (count, last) = (epochs.len(), points.last());
    let step = |epoch: usize| if last >= count { last * (epoch + 1) / count } else { epoch + 1 };
    epochs.into_iter().enumerate().map(|(at, saved)| Saved { step: step(at), ..saved }).collect()
}

fn texts(listing: &Listing) -> Vec<std::path::PathBuf> {
    let is_log = |name: &String| name.starts_with("log_") && name.ends_with(".txt");
    let mut all: Vec<_> = listing.files.iter().filter(|name| is_log(name)).map(|name| listing.path(name)).collect();
    if listing.folders.iter().any(|name| name == LOGS)
        && let Ok(within) = Listing::of(&listing.path(LOGS))
    {
        all.extend(within.files.iter().filter(|name| is_log(name)).map(|name| within.path(name)));
    }
    all.sort();
    all
}

fn logs(listing: &Listing, checkpoints: &[Saved]) -> Vec<Log> {
    let mut logs: Vec<Log> = texts(listing).into_iter().map(|path| Log { path, read }).collect();
    logs.extend(tensorboard::logs(listing, checkpoints));
    logs
}

/// Lines `Step 12 | loss:1.83 lr:0.0003 tokens_per_second_per_gpu:512.1 grad_norm:1.2`.
fn read(path: &Path, at: u64, points: &mut Points) -> Result<u64> {
    lines(path, at, &mut |line| {
        let Some((step, told)) = line.strip_prefix("Step ").and_then(|line| line.split_once('|')) else { return };
        let Ok(step) = step.trim().parse() else { return };
        for (name, value) in told.split_whitespace().filter_map(|word| word.split_once(':')) {
            if let (Some(field), Ok(value)) = (Field::of(name), value.parse()) {
                points.set(step, field, value);
            }
        }
    })
}
