//! [`Trainer`]: a model, its optimizer and its data; one step after the other.

use super::data::Rows;
use super::store::write_adapter;
use super::{Method, Settings, lora};
use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{AdamW, Backward, Cpu, Decoder, Dropout, Engine, Frozen, Loss, Pool, Processor, Rates};
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
    /// The model. Where the engine keeps what is trained itself, it stands here as it was when it was last
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
    engine: Box<dyn Engine>,
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
        let steps = settings.steps_for(rows.rows.len());
        let (optimizer, engine) = (AdamW::new(&decoder.params), Box::new(Processor::default()));
        let values = || decoder.params.list.iter().map(|param| param.value.clone()).collect();
        let first = settings.mutates_base().then(values);
        Ok(Self { decoder, optimizer, settings, done: 0, steps, rows, engine, first })
    }

    /// Goes on computing with another engine, which has the decoder's weights.
    ///
    /// # Errors
    /// When its memory does not suffice.
    pub fn onto(&mut self, engine: Box<dyn Engine>) -> Result<()> {
        self.engine = engine;
        self.send()
    }

    /// What computes.
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// Makes `decoder` and `optimizer` hold what the engine has trained.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn gather(&mut self) -> Result<&Self> {
        self.engine.download(&mut self.decoder.params, &mut self.optimizer)?;
        Ok(self)
    }

    /// The way back: after `decoder` or `optimizer` have been changed.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn send(&mut self) -> Result<()> {
        self.engine.upload(&self.decoder.params, &self.optimizer)
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
        self.step_unless(&())
    }

    /// The same, unless it is stopped on its way: then nothing has changed.
    ///
    /// # Errors
    /// As [`step`](Self::step); and cancellation.
    pub fn step_unless(&mut self, progress: &dyn Progress) -> Result<Step> {
        let settings = &self.settings;
        let lr = settings.lr_at(self.done, self.steps);
        let rows = self.rows.of_step(settings, self.done);
        let predictions: usize = rows.iter().map(|row| row.predictions()).sum();
        let backward = Backward { scale: 1.0 / predictions.max(1) as f32, checkpointing: settings.checkpointing };
        let rates = rates(settings, lr);
        let micros = rows.chunks(settings.batch).enumerate();
        let micros: Vec<_> = micros.map(|(micro, rows)| (Rows::pad(rows), self.dropout(micro))).collect();
        self.engine.clear(&self.decoder.params)?;
        let mut tokens = 0;
        for (padded, dropout) in &micros {
            self.engine.gradient(&self.decoder, padded.batch(), backward, *dropout, progress)?;
            tokens += padded.tokens;
        }
        let (sum, grad_norm) = self.engine.update(&mut self.decoder.params, &mut self.optimizer, &rates)?;
        let loss = sum / predictions as f64;
        if !(loss.is_finite() && grad_norm.is_finite()) {
            self.gather()?;
            return Err(self.diverged(loss)?);
        }
        self.done += 1;
        Ok(Step { step: self.done, loss, lr, grad_norm, tokens })
    }

    /// Of a micro-batch of the step that comes.
    fn dropout(&self, micro: usize) -> Option<Dropout> {
        let number = (self.done * self.settings.accumulate + micro) as u64 + 1;
        let seed = self.settings.seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d);
        (self.settings.dropout > 0.0).then_some(Dropout { p: self.settings.dropout as f32, seed })
    }

    /// Goes through the step once more, on the processor, and looks for the first module, in the order of the model, where a
    /// number is not finite: among what modules put out, then among gradients.
    fn diverged(&self, loss: f64) -> Result<Error> {
        let settings = &self.settings;
        let rows = self.rows.of_step(settings, self.done);
        let pool = Pool::default();
        let mut place = None;
        for (micro, rows) in rows.chunks(settings.batch).enumerate() {
            let on = Cpu { dropout: self.dropout(micro), ..Cpu::new(&self.decoder.params, &pool) };
            if let Some(module) = self.decoder.first_not_finite(&on, Rows::pad(rows).batch())? {
                place = Some(format!("the output of {module}"));
                break;
            }
        }
        let grads = self.engine.read_grads()?;
        let bad = |&at: &usize| grads.0.get(at).is_some_and(|gradient| gradient.iter().any(|x| !x.is_finite()));
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
        evaluate(&*self.engine, &self.decoder, rows, self.settings.batch, progress)
    }

    /// Bytes of the weights, of everything trained with its gradient and moments, and of the buffers at their most; of a GPU's
    /// memory where one computes.
    pub fn held_bytes(&self) -> u64 {
        self.engine.held_bytes(&self.decoder) as u64
    }

    /// Bytes of the most buffers that were in use at once, without weights, gradients and moments; 0 where they are not the
    /// processor's.
    pub fn peak_activations(&self) -> usize {
        self.engine.buffer_bytes()
    }
}

fn rates(settings: &Settings, lr: f64) -> Rates {
    let Settings { weight_decay, beta1, beta2, eps, max_grad_norm: max_norm, .. } = *settings;
    Rates { lr, weight_decay, beta1, beta2, eps, max_norm }
}

/// The loss over all rows.
///
/// # Errors
/// As [`Decoder::loss`]; and cancellation.
pub fn evaluate(
    engine: &dyn Engine,
    decoder: &Decoder,
    rows: &Rows,
    batch: usize,
    progress: &dyn Progress,
) -> Result<Loss> {
    let mut loss = Loss::default();
    let all: Vec<_> = rows.rows.iter().collect();
    for (index, some) in all.chunks(batch.max(1)).enumerate() {
        progress.step((index * batch) as u64, all.len() as u64)?;
        loss = loss + engine.loss(decoder, Rows::pad(some).batch(), progress)?;
    }
    progress.step(1, 1)?;
    Ok(loss)
}
