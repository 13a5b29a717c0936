//! The data of a job: rows as the run sees them, in the order in which it sees them first.

use super::Difference;
use super::plan::Plan;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::train::data::Text;
use crate::train::{Row, Rows, Settings, Trainer, run, store::write_whole};
use serde_json::json;
use std::path::Path;

/// Rows to train on, within the folder.
pub(super) const TRAIN: &str = "data/train.jsonl";
/// Rows held out.
pub(super) const EVAL: &str = "data/eval.jsonl";
/// The first A and B.
pub(super) const ADAPTER: &str = "initial-adapter";

/// What was written.
pub(super) struct Data {
    pub files: Vec<String>,
    pub differs: Vec<Difference>,
    pub notes: Vec<String>,
}

/// Writes rows, and the initial adapter where it is asked for.
pub(super) fn write(plan: &Plan, checkpoint: &Checkpoint, out: &Path, progress: &dyn Progress) -> Result<Data> {
    let settings = plan.settings;
    // Packed rows need attention that ends at their borders, which each engine does in its own way.
    let unpacked = Settings { packing: false, ..settings.clone() };
    let (data, held_out) = run::read(&unpacked, checkpoint, progress)?;
    let mut differs = Vec::new();
    if settings.packing {
        let why = "rows stand alone there: a step sees fewer tokens, and its loss is the mean over these";
        differs.push(Difference::new("packing", "on", "off", why));
    }
    let Rows { rows } = &data.rows;
    let all = Rows { rows: rows.clone() };
    let order = all.at(0, rows.len(), settings.shuffle.then_some(settings.seed));
    let passes = settings
        .steps
        .map_or(settings.epochs, |steps| (steps * settings.batch * settings.accumulate) as f64 / rows.len() as f64);
    if settings.shuffle && passes > 1.0 {
        let why = "the file holds the order of the first pass; a generator that is only here shuffles the later ones";
        differs.push(Difference::new("shuffle", "anew in every pass", "the order of the first pass again", why));
    }
    let text = if plan.job.texts { Some(Text::of(checkpoint, None)?) } else { None };
    if plan.job.texts {
        let why = "special tokens are left to the engine, which tokenizes again: beginnings, ends and the border of prompt and answer may fall otherwise. Without --texts ids and labels go along";
        differs.push(Difference::new("data", "ids and labels", "prompt and completion as texts", why));
    }
    std::fs::create_dir_all(out.join("data")).map_err(|error| Error::write(out, &error))?;
    let mut files = Vec::new();
    let held_out = held_out.filter(|held_out| !held_out.rows.is_empty());
    let sets =
        [(TRAIN, Some(order)), (EVAL, held_out.as_ref().map(|held_out| held_out.rows.iter().collect::<Vec<_>>()))];
    for (name, rows) in sets {
        let Some(rows) = rows else { continue };
        let mut lines = String::new();
        for row in rows {
            let line = match &text {
                Some(text) => texts(row, text)?,
                None => json!({"input_ids": row.ids, "labels": row.labels(), "attention_mask": vec![1; row.ids.len()]}),
            };
            lines += &format!("{line}\n");
        }
        write_whole(&out.join(name), lines.as_bytes())?;
        files.push(name.to_owned());
    }
    if plan.job.initial_adapter {
        let trainer = Trainer::new(checkpoint, settings.clone(), data.rows, progress)?;
        trainer.write_adapter(&out.join(ADAPTER))?;
        files.extend(["adapter_config.json", "adapter_model.safetensors"].map(|name| format!("{ADAPTER}/{name}")));
    }
    Ok(Data { files, differs, notes: data.notes })
}

/// What is given and what is to be predicted, as texts; the answer begins where the last predicted part does.
fn texts(row: &Row, text: &Text) -> Result<serde_json::Value> {
    let labels = row.labels();
    let begin = labels.iter().rposition(|label| *label < 0).map_or(0, |at| at + 1);
    Ok(json!({"prompt": text.text(&row.ids[..begin])?, "completion": text.text(&row.ids[begin..])?}))
}
