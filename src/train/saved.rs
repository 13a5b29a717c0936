//! Checkpoints of a run: parameters and moments written, read back, and made a model.

use super::logs::Record;
use super::merge::{Change, write_model};
use super::run_folder::{RunFolder, STATE, STATE_TENSORS};
use super::store::{Tensor, write_lazily, write_whole};
use super::trainer::Trainer;
use super::{Method, Settings};
use crate::checkpoint::{Checkpoint, Dtype, json};
use crate::error::{Error, Result};
use crate::model::{Decoder, Frozen, Param};
use crate::progress::Progress;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Writes `checkpoints/step-N`: into a folder of another name first, which is then renamed.
/// `owed` is a last step whose evaluation, logs and samples are still to come.
/// What a GPU has trained is to be [`gather`](Trainer::gather)ed before.
///
/// # Errors
/// When a file cannot be written.
pub fn save(trainer: &Trainer, out: &Path, owed: Option<Record>) -> Result<PathBuf> {
    let folder = RunFolder::new(out);
    let (to, begun) = (folder.checkpoint(trainer.done), folder.unfinished_checkpoint(trainer.done));
    let saved = save_to(trainer, &begun, &to, owed);
    if saved.is_err() {
        // Half a checkpoint is of no use and only fills the disk; what goes wrong here changes nothing.
        std::fs::remove_dir_all(&begun).ok();
    }
    saved.map(|()| to)
}

fn save_to(trainer: &Trainer, begun: &Path, to: &Path, owed: Option<Record>) -> Result<()> {
    if begun.exists() {
        std::fs::remove_dir_all(begun).map_err(|error| Error::write(begun, &error))?;
    }
    let optimizer = &trainer.optimizer;
    let params = &trainer.decoder.params.list;
    // One tensor at a time: all of them at once would be as much again as everything that is trained.
    let values = |at: usize| {
        let (what, at) = (at % 3, at / 3);
        [("p", &params[at].value), ("m", &optimizer.m[at]), ("v", &optimizer.v[at])][what]
    };
    let planned: Vec<_> = (0..3 * params.len())
        .map(|at| {
            let param = &params[at / 3];
            let name = format!("{}.{}.{}.{:?}", values(at).0, at / 3, param.name, param.kind);
            (name, param.shape.to_vec(), Dtype::F32)
        })
        .collect();
    write_lazily(&begun.join(STATE_TENSORS), &planned, &(), &|at, _| {
        let (name, shape, dtype) = planned[at].clone();
        Ok(Tensor::new(name, shape, values(at).1, dtype))
    })?;
    if trainer.settings.method != Method::Full {
        trainer.write_adapter(begun)?;
    }
    let mut state = json!({"step": trainer.done, "steps": trainer.steps, "t": optimizer.t});
    if let Some(record) = owed {
        state["owed"] = record.json();
    }
    write_whole(&begun.join(STATE), state.to_string().as_bytes())?;
    if to.exists() {
        std::fs::remove_dir_all(to).map_err(|error| Error::write(to, &error))?;
    }
    std::fs::rename(begun, to).map_err(|error| Error::write(to, &error))
}

/// Writes what a full run was at a checkpoint as a model, into a folder within the checkpoint, once.
///
/// # Errors
/// When there is no such checkpoint, it does not fit the model, or a file cannot be written; and cancellation.
pub fn model_at(settings: &Settings, step: usize, progress: &dyn Progress) -> Result<PathBuf> {
    let from = RunFolder::new(&settings.out).checkpoint(step);
    let to = from.join("model");
    if to.join("config.json").is_file() {
        return Ok(to);
    }
    let checkpoint = Checkpoint::open(&settings.model)?;
    let mut decoder = Decoder::load(&checkpoint, Frozen::Nothing, progress)?;
    let stored = Checkpoint::open(&from.join(STATE_TENSORS))?;
    for (at, param) in decoder.params.list.iter_mut().enumerate() {
        param.value = part(&stored, "p", at, param)?;
    }
    write_model(&checkpoint, &Change::Params(&decoder.params), None, &to, progress)?;
    Ok(to)
}

/// A parameter, or one of its moments, from a checkpoint.
fn part(stored: &Checkpoint, what: &str, at: usize, param: &Param) -> Result<Vec<f32>> {
    let name = format!("{what}.{at}.{}.{:?}", param.name, param.kind);
    let tensor = stored.tensor(&name).filter(|tensor| tensor.shape == param.shape);
    let tensor =
        tensor.ok_or_else(|| Error::tensor(stored.path(), &name, "found no such tensor of the run's shape"))?;
    Ok(stored.tensor_matrix(tensor, &())?.into_data())
}

/// Where a checkpoint was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Updates of the optimizer.
    pub t: u64,
    /// The last step, where the run was stopped in what comes after it: evaluation, logs, samples.
    pub owed: Option<Record>,
}

impl At {
    /// Of a checkpoint's folder.
    ///
    /// # Errors
    /// When it cannot be read or lacks a number.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        let path = checkpoint.join(STATE);
        let state = json::object(&path)?;
        let number = |key: &str| {
            state[key].as_u64().ok_or_else(|| Error::file(&path, format!("found no {key}, expected a number")))
        };
        Ok(Self {
            step: number("step")? as usize,
            steps: number("steps")? as usize,
            t: number("t")?,
            owed: Record::of(&state["owed"]),
        })
    }
}

/// Brings a trainer to where a checkpoint was written.
///
/// # Errors
/// A checkpoint that is not whole, or is of another run.
pub fn restore(trainer: &mut Trainer, from: &Path) -> Result<()> {
    let At { step, steps, t, .. } = At::read(from)?;
    if steps != trainer.steps {
        let message = format!("the run had {steps} steps, now it has {}: the data is another", trainer.steps);
        return Err(Error::file(&from.join(STATE), message));
    }
    let stored = Checkpoint::open(&from.join(STATE_TENSORS))?;
    let Trainer { decoder, optimizer, .. } = trainer;
    for (at, param) in decoder.params.list.iter_mut().enumerate() {
        optimizer.m[at] = part(&stored, "m", at, param)?;
        optimizer.v[at] = part(&stored, "v", at, param)?;
        param.value = part(&stored, "p", at, param)?;
    }
    (trainer.done, optimizer.t) = (step, t);
    Ok(())
}
