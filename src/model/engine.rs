//! [`Engine`]: where a decoder computes, chosen when the program runs. Everything that asks for passes asks an engine; which
//! [`Backend`] they go through is known here alone.

use super::adamw::{self, AdamW, Rates};
use super::backend::{Backend, Cpu};
use super::branch::Beside;
use super::decoder::Decoder;
use super::dropout::Dropout;
use super::gpu::Opened;
use super::linear::Linear;
use super::ops::Pool;
use super::ops::bf16::Unit;
use super::params::{Grads, Params};
use super::pass::{Backward, Batch, Cache, Loss};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use std::fmt::Debug;

/// What computes a decoder: the processor, or a GPU that has its weights.
pub trait Engine: Debug + Send + Sync {
    /// The summed loss of a batch.
    ///
    /// # Errors
    /// As [`Decoder::loss`]; and cancellation.
    fn loss(&self, decoder: &Decoder, batch: Batch, progress: &dyn Progress) -> Result<Loss>;

    /// The summed loss of a batch, and the most likely token at each place where something is predicted.
    ///
    /// # Errors
    /// As [`Decoder::loss`].
    fn choices(&self, decoder: &Decoder, batch: Batch) -> Result<(Loss, Vec<u32>)>;

    /// Begins a sequence of up to `positions` tokens.
    ///
    /// # Errors
    /// When memory does not suffice.
    fn sequence<'a>(&'a self, decoder: &'a Decoder, positions: usize) -> Result<Box<dyn Sequence + 'a>>;

    /// Gradients by watched weights: as [`Decoder::weight_gradients`].
    ///
    /// # Errors
    /// As there.
    fn weight_gradients(
        &self,
        decoder: &Decoder,
        batches: &[Batch],
        scale: f32,
        progress: &dyn Progress,
        found: &mut dyn FnMut(&str, Matrix) -> Result<()>,
    ) -> Result<Loss>;

    /// A step begins: gradients and the sum of losses are zero.
    ///
    /// # Errors
    /// When memory does not suffice.
    fn clear(&mut self, params: &Params) -> Result<()>;

    /// Adds a batch's loss to the sum, and its gradient to those of what is trained.
    ///
    /// # Errors
    /// As [`Decoder::gradient`]; and cancellation, after which the gradients are a part of what was asked for.
    fn gradient(
        &mut self,
        decoder: &Decoder,
        batch: Batch,
        backward: Backward,
        dropout: Option<Dropout>,
        progress: &dyn Progress,
    ) -> Result<()>;

    /// Clips and updates; gives the sum of the losses and the norm of the gradient before clipping. Where one of them is NaN
    /// or infinite, nothing has changed.
    ///
    /// # Errors
    /// When the engine does not answer.
    fn update(&mut self, params: &mut Params, moments: &mut AdamW, rates: &Rates) -> Result<(f64, f64)>;

    /// The gradients since they were last cleared.
    ///
    /// # Errors
    /// When the engine does not answer.
    fn read_grads(&self) -> Result<Grads>;

    /// Takes the values of everything trained and the moments anew, where it keeps them itself.
    ///
    /// # Errors
    /// When memory does not suffice.
    fn upload(&mut self, params: &Params, moments: &AdamW) -> Result<()>;

    /// Gives them back.
    ///
    /// # Errors
    /// When the engine does not answer.
    fn download(&self, params: &mut Params, moments: &mut AdamW) -> Result<()>;

    /// Allocates at once what a run will need beside what is in use, where that helps.
    ///
    /// # Errors
    /// When the engine does not answer.
    fn reserve(&self, bytes: usize) -> Result<()>;

    /// Bytes of weights, of everything trained with its gradient and moments, and of the buffers at their most.
    fn held_bytes(&self, decoder: &Decoder) -> usize;

    /// Bytes of the most buffers that were in use at once, where they are the processor's.
    fn buffer_bytes(&self) -> usize;

    /// The most bytes of a memory of its own that were in use at once.
    fn peak_bytes(&self) -> Option<usize>;
}

/// A sequence that grows.
pub trait Sequence {
    /// The logits of what comes after `all`, of which the last `new` tokens have not been read yet.
    ///
    /// # Errors
    /// As [`Decoder::next`].
    fn next(&mut self, all: &[u32], new: usize) -> Result<Vec<f32>>;
}

/// On a backend.
pub(super) struct Growing<'a, B: Backend> {
    on: B,
    decoder: &'a Decoder,
    cache: Cache<B>,
    positions: usize,
}

impl<'a, B: Backend> Growing<'a, B> {
    pub(super) fn new(on: B, decoder: &'a Decoder, positions: usize) -> Result<Self> {
        let cache = Cache::new(&on, decoder, positions)?;
        Ok(Self { on, decoder, cache, positions })
    }
}

impl<B: Backend> Sequence for Growing<'_, B> {
    fn next(&mut self, all: &[u32], new: usize) -> Result<Vec<f32>> {
        if self.cache.goes_on(self.decoder, new) {
            return self.decoder.next(&self.on, &all[all.len() - new..], &mut self.cache);
        }
        // Other frequencies from here on: all of it is read again.
        self.cache = Cache::new(&self.on, self.decoder, self.positions)?;
        self.decoder.next(&self.on, all, &mut self.cache)
    }
}

/// The processor.
#[derive(Debug, Default)]
pub struct Processor {
    pool: Pool,
    grads: Grads,
    sum: f64,
    unit: Option<Unit>,
}

impl Processor {
    /// With products in bf16 by `unit`, where there is one.
    ///
    /// # Errors
    /// Bad input for a branch whose weight would be rounded with what it adds.
    pub fn new(decoder: &Decoder, unit: Option<Unit>) -> Result<Self> {
        let dora = |linear: &&Linear| matches!(linear.branch, Some(Beside::Dora(_)));
        if unit.is_some() && decoder.linears().any(|linear| dora(&linear)) {
            return Err(Error::usage("DoRA is computed in f32 on the processor; expected --dtype f32"));
        }
        Ok(Self { unit, ..Self::default() })
    }

    fn on<'a>(&'a self, decoder: &'a Decoder) -> Cpu<'a> {
        self.pool.begin_step();
        Cpu { unit: self.unit, ..Cpu::new(&decoder.params, &self.pool) }
    }
}

impl Engine for Processor {
    fn loss(&self, decoder: &Decoder, batch: Batch, progress: &dyn Progress) -> Result<Loss> {
        decoder.loss(&Cpu { progress, ..self.on(decoder) }, batch)
    }

    fn choices(&self, decoder: &Decoder, batch: Batch) -> Result<(Loss, Vec<u32>)> {
        decoder.choices(&self.on(decoder), batch)
    }

    fn sequence<'a>(&'a self, decoder: &'a Decoder, positions: usize) -> Result<Box<dyn Sequence + 'a>> {
        Ok(Box::new(Growing::new(self.on(decoder), decoder, positions)?))
    }

    fn weight_gradients(
        &self,
        decoder: &Decoder,
        batches: &[Batch],
        scale: f32,
        progress: &dyn Progress,
        found: &mut dyn FnMut(&str, Matrix) -> Result<()>,
    ) -> Result<Loss> {
        decoder.weight_gradients(&self.on(decoder), batches, scale, progress, found)
    }

    fn clear(&mut self, params: &Params) -> Result<()> {
        self.sum = 0.0;
        if self.grads.0.len() == params.list.len() {
            self.grads.clear();
        } else {
            self.grads = params.zeros();
        }
        Ok(())
    }

    fn gradient(
        &mut self,
        decoder: &Decoder,
        batch: Batch,
        backward: Backward,
        dropout: Option<Dropout>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (unit, pool) = (self.unit, &self.pool);
        pool.begin_step();
        let on = Cpu { dropout, unit, progress, ..Cpu::new(&decoder.params, pool) };
        self.sum += decoder.gradient(&on, batch, backward, &mut self.grads)?;
        Ok(())
    }

    fn update(&mut self, params: &mut Params, moments: &mut AdamW, rates: &Rates) -> Result<(f64, f64)> {
        let norm = adamw::norm(&self.grads);
        if self.sum.is_finite() && norm.is_finite() {
            moments.step(params, &self.grads, norm, &rates.update(moments.t + 1));
        }
        Ok((self.sum, norm))
    }

    fn read_grads(&self) -> Result<Grads> {
        Ok(self.grads.clone())
    }

    fn upload(&mut self, _params: &Params, _moments: &AdamW) -> Result<()> {
        Ok(())
    }

    fn download(&self, _params: &mut Params, _moments: &mut AdamW) -> Result<()> {
        Ok(())
    }

    fn reserve(&self, _bytes: usize) -> Result<()> {
        Ok(())
    }

    fn held_bytes(&self, decoder: &Decoder) -> usize {
        decoder.frozen_bytes() + 16 * decoder.params.elements() + self.pool.peak_bytes()
    }

    fn buffer_bytes(&self) -> usize {
        self.pool.peak_bytes()
    }

    fn peak_bytes(&self) -> Option<usize> {
        None
    }
}

impl Opened {
    /// What computes `decoder`: its weights are where they are needed.
    ///
    /// # Errors
    /// When a GPU's memory does not suffice.
    pub fn engine(&self, decoder: &Decoder) -> Result<Box<dyn Engine>> {
        match self.gpu() {
            Some(gpu) => Ok(Box::new(super::gpu::Model::new(gpu, decoder)?)),
            None => Ok(Box::new(Processor::new(decoder, self.unit)?)),
        }
    }
}
