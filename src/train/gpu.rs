//! Steps and evaluation on a GPU: as [`Trainer`] does them on the processor, but that nobody waits within a step.

use super::data::{Padded, Rows};
use super::trainer::{Step, Trainer};
use crate::error::Result;
use crate::model::gpu::{Gpu, Kind, Machine, Model, Update};
use crate::model::{Backward, Batch, Loss};
use crate::progress::Progress;
use std::sync::Arc;

impl Trainer {
    /// Goes on computing on a machine, with weights and activations kept as `real`.
    ///
    /// # Errors
    /// When its memory does not suffice.
    pub fn onto(&mut self, machine: Arc<dyn Machine>, real: Kind) -> Result<()> {
        self.gpu = Some(Model::put(Gpu::new(machine, real), &self.decoder)?);
        self.send()
    }

    /// What computes, if that is not the processor.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_ref().map(|model| &model.gpu)
    }

    /// Makes `decoder` and `optimizer` hold what a GPU has trained; on the processor they always do.
    ///
    /// # Errors
    /// When the GPU does not answer.
    pub fn gather(&mut self) -> Result<&Self> {
        let Some(model) = &self.gpu else { return Ok(self) };
        model.read_params(&mut self.decoder.params)?;
        if let Some((m, v)) = model.read_moments()? {
            (self.optimizer.m, self.optimizer.v) = (m, v);
        }
        Ok(self)
    }

    /// The way back: after `decoder` or `optimizer` have been changed.
    ///
    /// # Errors
    /// When the GPU does not answer.
    pub fn send(&mut self) -> Result<()> {
        let Some(model) = &mut self.gpu else { return Ok(()) };
        model.put_params(&self.decoder.params)?;
        model.put_moments(&self.optimizer.m, &self.optimizer.v)
    }

    pub(super) fn step_on_gpu(&mut self) -> Result<Step> {
        let settings = &self.settings;
        let lr = settings.lr_at(self.done, self.steps);
        let rows = self.rows.of_step(settings, self.done);
        let predictions: usize = rows.iter().map(|row| row.predictions()).sum();
        let backward = Backward { scale: 1.0 / predictions.max(1) as f32, checkpointing: settings.checkpointing };
        let t = self.optimizer.t + 1;
        let corrected = |beta: f64| 1.0 - beta.powf(t as f64);
        let update = Update {
            step: (lr / corrected(settings.beta1)) as f32,
            decay: (1.0 - lr * settings.weight_decay) as f32,
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            root2: corrected(settings.beta2).sqrt() as f32,
            eps: settings.eps as f32,
            max_norm: settings.max_grad_norm as f32,
        };
        let micros: Vec<_> = rows
            .chunks(settings.batch)
            .enumerate()
            .map(|(micro, rows)| (Rows::pad(rows), self.dropout(micro)))
            .collect();
        let Some(model) = &mut self.gpu else { return self.step() };
        model.clear()?;
        let mut tokens = 0;
        for (batch, dropout) in &micros {
            model.gradient(part(batch), backward, *dropout)?;
            tokens += batch.tokens;
        }
        let (sum, grad_norm) = model.update(update)?;
        let loss = Loss { sum, count: predictions }.mean();
        if !(loss.is_finite() && grad_norm.is_finite()) {
            // Looking for the place is the processor's work.
            self.grads = model.read_grads()?;
            self.gather()?;
            return Err(self.diverged(loss)?);
        }
        self.optimizer.t = t;
        self.done += 1;
        Ok(Step { step: self.done, loss, lr, grad_norm, tokens })
    }
}

fn part(batch: &Padded) -> Batch<'_> {
    let Padded { ids, labels, seq, starts, .. } = batch;
    Batch { ids, labels, seq: *seq, starts }
}

/// The loss over all rows.
///
/// # Errors
/// As [`Model::loss`]; and cancellation.
pub fn evaluate(model: &Model, rows: &Rows, batch: usize, progress: &dyn Progress) -> Result<Loss> {
    let mut loss = Loss::default();
    let all: Vec<_> = rows.rows.iter().collect();
    for (index, some) in all.chunks(batch.max(1)).enumerate() {
        progress.step((index * batch) as u64, all.len() as u64)?;
        let padded = Rows::pad(some);
        let part = part(&padded);
        loss = Loss { sum: loss.sum + model.loss(part)?, count: loss.count + part.predictions() };
    }
    progress.step(1, 1)?;
    Ok(loss)
}
