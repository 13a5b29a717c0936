//! Short fine-tunes of the bundled base, in memory: for the tuned sibling, the adapter and the study.

use super::Set;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::progress::Progress;
use crate::train::{Method, Rows, Schedule, Settings, Trainer};

/// One fine-tune.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tune {
    /// What is trained.
    pub method: Method,
    /// r; of no meaning under `full`.
    pub rank: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps.
    pub steps: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// Of A and of the order of rows.
    pub seed: u64,
}

impl Tune {
    /// The same by the names of the training engine. α is 2 r, so that ΔW = 2 B A at every rank.
    pub fn settings(&self) -> Settings {
        Settings {
            method: self.method,
            rank: self.rank,
            lr: self.lr,
            schedule: Schedule::Cosine,
            warmup: (self.steps / 20).max(1),
            // There is little to forget in so few steps, and decay would blur what rank does.
            weight_decay: 0.0,
            batch: self.batch,
            seq: SEQ,
            steps: Some(self.steps),
            seed: self.seed,
            save_every: 0,
            ..Settings::default()
        }
    }
}

/// The peak rate that suits a rank in a short run on a set, of the ladder that the [`study`](super::study) goes through: a
/// higher rank wants a lower one, as ΔW = 2 B A moves by all its directions at once.
pub fn rate(set: Set, rank: usize) -> f64 {
    match (set, rank) {
        (Set::Pirate, ..=2) => 3e-2,
        (Set::Pirate, ..=16) | (_, ..=2) => 1e-2,
        (Set::Pirate, _) | (_, ..=16) => 3e-3,
        _ => 1e-3,
    }
}

/// Longest row: documents are cut there, as they were in pre-training.
pub const SEQ: usize = 128;

/// Trains to the end.
///
/// # Errors
/// What [`Trainer`] says; and cancellation.
pub fn tune(
    base: &Checkpoint,
    rows: Rows,
    tune: &Tune,
    each: &mut dyn FnMut(&Trainer, f64) -> Result<()>,
    progress: &dyn Progress,
) -> Result<Trainer> {
    train(base, rows, tune.settings(), each, progress)
}

/// The same for any settings.
///
/// # Errors
/// As [`tune`].
pub fn train(
    base: &Checkpoint,
    rows: Rows,
    settings: Settings,
    each: &mut dyn FnMut(&Trainer, f64) -> Result<()>,
    progress: &dyn Progress,
) -> Result<Trainer> {
    let settings = Settings { model: base.path().to_path_buf(), ..settings };
    let mut trainer = Trainer::new(base, settings, rows, &())?;
    while trainer.done < trainer.steps {
        progress.step(trainer.done as u64, trainer.steps as u64)?;
        let step = trainer.step()?;
        each(&trainer, step.loss)?;
    }
    Ok(trainer)
}
