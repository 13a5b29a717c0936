//! [`Trainer`]: a model, its optimizer and its data; one step after the other.

use super::adamw::{self, AdamW};
use super::data::{Padded, Rows};
use super::store::write_adapter;
use super::{Method, Settings, lora};
use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{Backward, Batch, Decoder, Dropout, Frozen, Grads, Loss, Pool, Run, gpu};
use crate::progress::Progress;
use std::path::Path;

/// What one step gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Its number, from 1.
    pub step: usize,
    /// Mean over the predicted tokens of the step, before the update.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Tokens, without padding.
    pub tokens: usize,
}

/// A run in progress.
pub struct Trainer {
    /// The model. Of a run on a GPU, what is trained stands here as it was when it was last
    /// [`gather`](Self::gather)ed.
    pub decoder: Decoder,
    /// The optimizer; the same holds for its moments.
    pub optimizer: AdamW,
    /// How.
    pub settings: Settings,
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub steps: usize,
    pub(super) rows: Rows,
    pub(super) grads: Grads,
    pool: Pool,
    /// The model where it computes, if that is not the processor.
    pub(super) gpu: Option<gpu::Model>,
    /// The first values of the pairs, where the base that they belong to is not the one that is on the disk.
    first: Option<Vec<Vec<f32>>>,
}

impl Trainer {
    /// Loads the model and makes it ready; reads no data.
    ///
    /// # Errors
    /// Settings that cannot be, a model or adapter that cannot be used, no rows; and cancellation.
    pub fn new(checkpoint: &Checkpoint, mut settings: Settings, rows: Rows, progress: &dyn Progress) -> Result<Self> {
        settings.check()?;
        if rows.rows.is_empty() {
            return Err(Error::usage("the data holds no row that can be used"));
        }
        let frozen = match (settings.method, settings.scheme()) {
            (Method::Full, _) => Frozen::Nothing,
            (_, Some(scheme)) => Frozen::FourBit(scheme),
            (_, None) => Frozen::AsStored,
        };
        let mut decoder = Decoder::load(checkpoint, frozen, progress)?;
        match (&settings.init_adapter, settings.method) {
            (Some(_), Method::Full) => {
                return Err(Error::usage("init-adapter goes with lora and qlora, not with full"));
            }
            (Some(path), _) => {
                let adapter = Adapter::open(path)?;
                decoder.attach(&adapter)?;
                // What is written again is scaled as what was read.
                settings.rslora = adapter.config.scaling.is_rslora();
            }
            (None, Method::Full) => {}
            (None, _) => lora::add(&mut decoder, checkpoint, &settings, progress)?,
        }
        let each = settings.batch * settings.accumulate;
        let by_epochs = ((rows.rows.len() as f64 * settings.epochs) / each as f64).ceil().max(1.0) as usize;
        let steps = settings.steps.unwrap_or(by_epochs);
        let (optimizer, grads) = (AdamW::new(&decoder.params), decoder.params.zeros());
        let values = || decoder.params.list.iter().map(|param| param.value.clone()).collect();
        let first = settings.mutates_base().then(values);
        Ok(Self { decoder, optimizer, settings, done: 0, steps, rows, grads, pool: Pool::default(), gpu: None, first })
    }

    /// Writes the adapter, for the base as it is on the disk.
    ///
    /// # Errors
    /// As [`write_adapter`].
    pub fn write_adapter(&self, folder: &Path) -> Result<()> {
        write_adapter(folder, &self.decoder, &self.settings, self.first.as_deref())
    }

    /// One step: gradients of its micro-batches, clipping, the update.
    ///
    /// # Errors
    /// A loss or gradient that is NaN or Inf, with the module where it shows first; the parameters are then as before.
    pub fn step(&mut self) -> Result<Step> {
        if self.gpu.is_some() {
            return self.step_on_gpu();
        }
        let settings = &self.settings;
        let lr = settings.lr_at(self.done, self.steps);
        let rows = self.rows.of_step(settings, self.done);
        let predictions: usize = rows.iter().map(|row| row.predictions()).sum();
        let backward = Backward { scale: 1.0 / predictions.max(1) as f32, checkpointing: settings.checkpointing };
        self.grads.clear();
        let (mut loss, mut tokens) = (Loss::default(), 0);
        for (micro, rows) in rows.chunks(settings.batch).enumerate() {
            let batch = Rows::pad(rows);
            self.pool.begin_step();
            let run = Run { dropout: self.dropout(micro), ..Run::new(&self.decoder.params, &self.pool) };
            let part = Batch { ids: &batch.ids, labels: &batch.labels, seq: batch.seq, starts: &batch.starts };
            let part = self.decoder.gradient(&run, part, backward, &mut self.grads)?;
            loss = Loss { sum: loss.sum + part.sum, count: loss.count + part.count };
            tokens += batch.tokens;
        }
        let grad_norm = adamw::norm(&self.grads);
        if !(loss.mean().is_finite() && grad_norm.is_finite()) {
            return Err(self.diverged(loss.mean())?);
        }
        // As torch's clip_grad_norm_.
        let most = settings.max_grad_norm;
        let factor = if most > 0.0 { (most / (grad_norm + 1e-6)).min(1.0) } else { 1.0 };
        self.optimizer.step(&mut self.decoder.params, &self.grads, factor as f32, lr, settings);
        self.done += 1;
        Ok(Step { step: self.done, loss: loss.mean(), lr, grad_norm, tokens })
    }

    /// Of a micro-batch of the step that comes.
    pub(super) fn dropout(&self, micro: usize) -> Option<Dropout> {
        let number = (self.done * self.settings.accumulate + micro) as u64 + 1;
        let seed = self.settings.seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d);
        (self.settings.dropout > 0.0).then_some(Dropout { p: self.settings.dropout as f32, seed })
    }

    /// Goes through the step once more and looks for the first module, in the order of the model, where a number is not
    /// finite: among what modules put out, then among gradients.
    pub(super) fn diverged(&self, loss: f64) -> Result<Error> {
        let settings = &self.settings;
        let rows = self.rows.of_step(settings, self.done);
        let mut place = None;
        for (micro, rows) in rows.chunks(settings.batch).enumerate() {
            let Padded { ids, labels, seq, starts, .. } = &Rows::pad(rows);
            let run = Run { dropout: self.dropout(micro), ..Run::new(&self.decoder.params, &self.pool) };
            let batch = Batch { ids, labels, seq: *seq, starts };
            if let Some(module) = self.decoder.first_not_finite(&run, batch)? {
                place = Some(format!("the output of {module}"));
                break;
            }
        }
        let bad = |&at: &usize| self.grads.0[at].iter().any(|x| !x.is_finite());
        let of_gradients = || {
            let first = self.decoder.forward_order().into_iter().find(bad)?;
            Some(format!("the gradient of {}", self.decoder.params.list[first].name))
        };
        let place = place.or_else(of_gradients).map_or_else(String::new, |place| format!(", first in {place}"));
        let step = self.done + 1;
        Ok(Error::failure(format!("diverged at step {step}: the loss is {loss}{place}; a smaller lr may help")))
    }

    /// The loss over held-out rows.
    ///
    /// # Errors
    /// As [`Decoder::loss`]; and cancellation.
    pub fn evaluate(&self, rows: &Rows, progress: &dyn Progress) -> Result<Loss> {
        match &self.gpu {
            Some(model) => super::gpu::evaluate(model, rows, self.settings.batch, progress),
            None => evaluate(&self.decoder, rows, self.settings.batch, &self.pool, progress),
        }
    }

    /// Bytes of the weights, of everything trained with its gradient and moments, and of the buffers at their most; of a GPU's
    /// memory where one computes.
    pub fn held_bytes(&self) -> u64 {
        if let Some(gpu) = self.gpu() {
            return gpu.peak_bytes() as u64;
        }
        (self.decoder.frozen_bytes() + 16 * self.decoder.params.elements() + self.peak_activations()) as u64
    }

    /// Bytes of the most buffers that were in use at once, without weights, gradients and moments.
    pub fn peak_activations(&self) -> usize {
        self.pool.peak_bytes()
    }
}

/// The loss over all rows.
///
/// # Errors
/// As [`Decoder::loss`]; and cancellation.
pub fn evaluate(decoder: &Decoder, rows: &Rows, batch: usize, pool: &Pool, progress: &dyn Progress) -> Result<Loss> {
    let mut loss = Loss::default();
    let all: Vec<_> = rows.rows.iter().collect();
    for (index, some) in all.chunks(batch.max(1)).enumerate() {
        progress.step((index * batch) as u64, all.len() as u64)?;
        let padded = Rows::pad(some);
        pool.begin_step();
        let Padded { ids, labels, seq, starts, .. } = &padded;
        let part = decoder.loss(pool, Batch { ids, labels, seq: *seq, starts })?;
        loss = Loss { sum: loss.sum + part.sum, count: loss.count + part.count };
    }
    progress.step(1, 1)?;
    Ok(loss)
}
