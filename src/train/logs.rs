//! [`Logs`]: the files of lines that a run adds to, and [`Record`], a line of the first of them.

use super::film::Frame;
use super::run_folder::{FILM, METRICS, RunFolder, SAMPLES};
use super::samples::Sample;
use super::store::write_whole;
use super::tfevents::Writer;
use super::trainer::Step;
use super::{ReportTo, Settings};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// A line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// The step.
    pub step: Step,
    /// Speed of it.
    pub tokens_per_s: f64,
    /// Mean loss over the held-out rows, where it was taken after this step.
    pub eval_loss: Option<f64>,
    /// Share of the held-out predictions that got more than half of the probability, likewise.
    pub eval_sure: Option<f64>,
    /// Mean loss over text of the base's own kind.
    pub forget_loss: Option<f64>,
    /// Bytes that weights, everything trained and the buffers at their most take; 0 where it is not known.
    pub held: u64,
    /// Seconds of training up to this step, where a log of another program says so.
    pub seconds: Option<f64>,
}

impl Record {
    /// As an object.
    pub(super) fn json(&self) -> Value {
        let Self { step, tokens_per_s, eval_loss, eval_sure, forget_loss, held, seconds: _ } = *self;
        let Step { step, loss, lr, grad_norm, tokens } = step;
        let mut line = json!({"step": step, "loss": loss, "lr": lr, "grad_norm": grad_norm, "tokens": tokens, "tokens_per_s": tokens_per_s});
        for (name, value) in [("eval_loss", eval_loss), ("eval_sure", eval_sure), ("forget_loss", forget_loss)] {
            if let Some(value) = value {
                line[name] = json!(value);
            }
        }
        line["held_bytes"] = json!(held);
        line
    }

    /// Of a line; `None` where it is none, as when it was being written.
    pub fn parse(line: &str) -> Option<Self> {
        Self::of(&serde_json::from_str(line).ok()?)
    }

    /// Of an object; `None` where it is none.
    pub(super) fn of(line: &Value) -> Option<Self> {
        let number = |key: &str| line[key].as_f64();
        let whole = |key: &str| line[key].as_u64().map(|x| x as usize);
        let step = Step {
            step: whole("step")?,
            loss: number("loss")?,
            lr: number("lr")?,
            grad_norm: number("grad_norm").unwrap_or(f64::NAN),
            tokens: whole("tokens")?,
        };
        let (tokens_per_s, eval_loss) = (number("tokens_per_s").unwrap_or(0.0), number("eval_loss"));
        let (held, forget_loss) = (line["held_bytes"].as_u64().unwrap_or(0), number("forget_loss"));
        let eval_sure = number("eval_sure");
        Some(Self { step, tokens_per_s, eval_loss, eval_sure, forget_loss, held, seconds: None })
    }
}

/// The files of lines of a run that goes on.
pub(super) struct Logs {
    metrics: Lines,
    film: Lines,
    samples: Lines,
    events: Option<Writer>,
}

impl Logs {
    /// Keeps the lines of the first `done` steps, and those before the first; without a number, none. What came after the
    /// checkpoint will be done again.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(super) fn open(folder: &RunFolder, settings: &Settings, done: Option<usize>) -> Result<Self> {
        let open = |name| Lines::open(folder, name, done);
        let events = settings.report_to == ReportTo::Tensorboard;
        let events = events.then(|| Writer::create(folder.path(), done.unwrap_or(0))).transpose()?;
        Ok(Self { metrics: open(METRICS)?, film: open(FILM)?, samples: open(SAMPLES)?, events })
    }

    /// Adds a step.
    ///
    /// # Errors
    /// When it cannot be written; the same of the other two.
    pub(super) fn step(&mut self, record: &Record) -> Result<()> {
        if let Some(events) = &mut self.events {
            let Step { step, loss, lr, grad_norm, .. } = record.step;
            // Trainer's names, so that the curves of both lie in one plot.
            let mut values = vec![
                ("train/loss", loss),
                ("train/learning_rate", lr),
                ("train/grad_norm", grad_norm),
                ("train/tokens_per_second", record.tokens_per_s),
            ];
            values.extend(record.eval_loss.map(|loss| ("eval/loss", loss)));
            events.scalars(step, &values)?;
        }
        self.metrics.add(&record.json())
    }

    /// Adds singular values.
    pub(super) fn frame(&mut self, frame: &Frame) -> Result<()> {
        self.film.add(&json!(frame))
    }

    /// Adds a sample.
    pub(super) fn sample(&mut self, sample: &Sample) -> Result<()> {
        self.samples.add(&json!(sample))
    }
}

/// A file of JSON lines that each name a step, to which lines are added.
struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    fn open(folder: &RunFolder, name: &str, done: Option<usize>) -> Result<Self> {
        let path = folder.file(name);
        if path.exists() {
            let kept = done.map(|done| folder.lines_until(name, done)).transpose()?;
            write_whole(&path, &kept.unwrap_or_default())?;
        }
        let file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(|error| Error::write(&path, &error))?;
        Ok(Self { path, file })
    }

    fn add(&mut self, line: &Value) -> Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|error| Error::write(&self.path, &error))
    }
}
