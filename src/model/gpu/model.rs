//! [`Model`]: a machine as an [`Engine`]. Nothing waits for it but [`Engine::update`], which reads two numbers.

use super::machine::Element;
use super::memory::Tensor;
use super::ops::Gpu;
use super::resident::Resident;
use super::weights::ParamStore;
use crate::error::Result;
use crate::matrix::Matrix;
use crate::model::adamw::{AdamW, Rates};
use crate::model::backend::{GpuGrads, OnGpu};
use crate::model::engine::{Engine, Growing, Sequence};
use crate::model::params::{Grads, Params};
use crate::model::{Backward, Batch, Decoder, Dropout, Loss};
use crate::progress::Progress;

/// A decoder's weights in a machine's memory.
#[derive(Debug)]
pub struct Model {
    /// Where they are.
    pub gpu: Gpu,
    pub(super) params: ParamStore,
    weights: Resident,
    /// The sum of the losses, and of the squares of the gradient: two `f64`.
    pub(super) totals: Tensor,
}

impl Model {
    /// Copies a decoder, tensor by tensor.
    ///
    /// # Errors
    /// When the machine's memory does not suffice, and for what is not computed on a GPU here.
    pub fn new(gpu: Gpu, decoder: &Decoder) -> Result<Self> {
        Ok(Self {
            params: ParamStore::upload(&gpu, &decoder.params)?,
            weights: Resident::upload(&gpu, decoder)?,
            totals: gpu.arena.zeros(Element::F64, 2)?,
            gpu,
        })
    }

    /// For a pass.
    pub fn on(&self) -> OnGpu<'_> {
        let Self { gpu, params, weights, .. } = self;
        OnGpu { gpu, params, weights, totals: None, dropout: None, tally: None }
    }

    /// The sum of the losses and of the squares of the gradient: what everything else waits for.
    pub(super) fn read_totals(&self) -> Result<[f64; 2]> {
        let mut bytes = [0; 16];
        self.totals.all().read(&mut bytes)?;
        let pair = bytes.as_chunks::<8>().0;
        Ok([pair[0], pair[1]].map(|bytes| self.gpu.machine().double(bytes)))
    }
}

impl Engine for Model {
    fn loss(&self, decoder: &Decoder, batch: Batch, progress: &dyn Progress) -> Result<Loss> {
        progress.check()?;
        decoder.loss(&self.on(), batch)
    }

    fn choices(&self, decoder: &Decoder, batch: Batch) -> Result<(Loss, Vec<u32>)> {
        decoder.choices(&self.on(), batch)
    }

    fn sequence<'a>(&'a self, decoder: &'a Decoder, positions: usize) -> Result<Box<dyn Sequence + 'a>> {
        Ok(Box::new(Growing::new(self.on(), decoder, positions)?))
    }

    fn weight_gradients(
        &self,
        decoder: &Decoder,
        batches: &[Batch],
        scale: f32,
        progress: &dyn Progress,
        found: &mut dyn FnMut(&str, Matrix) -> Result<()>,
    ) -> Result<Loss> {
        decoder.weight_gradients(&self.on(), batches, scale, progress, found)
    }

    fn clear(&mut self, _params: &Params) -> Result<()> {
        match &self.params.g {
            Some(g) => g.all().clear()?,
            None => self.params.g = Some(self.gpu.arena.zeros(Element::F32, self.params.count)?),
        }
        self.totals.all().clear()
    }

    fn gradient(
        &mut self,
        decoder: &Decoder,
        batch: Batch,
        backward: Backward,
        dropout: Option<Dropout>,
        progress: &dyn Progress,
    ) -> Result<()> {
        progress.check()?;
        let on = OnGpu { totals: Some(&self.totals), dropout, ..self.on() };
        decoder.gradient(&on, batch, backward, &mut GpuGrads::Params).map(drop)
    }

    fn update(&mut self, _params: &mut Params, moments: &mut AdamW, rates: &Rates) -> Result<(f64, f64)> {
        let (sum, norm) = self.adamw(&rates.update(moments.t + 1))?;
        if sum.is_finite() && norm.is_finite() {
            moments.t += 1;
        }
        Ok((sum, norm))
    }

    fn read_grads(&self) -> Result<Grads> {
        Ok(Grads(self.params.read_gradients()?))
    }

    fn upload(&mut self, params: &Params, moments: &AdamW) -> Result<()> {
        self.params.upload_values(&self.gpu, params)?;
        self.upload_moments(&moments.m, &moments.v)
    }

    fn download(&self, params: &mut Params, moments: &mut AdamW) -> Result<()> {
        let values = self.params.read(&self.params.p)?;
        params.list.iter_mut().zip(values).for_each(|(param, value)| param.value = value);
        if let Some((m, v)) = self.read_moments()? {
            (moments.m, moments.v) = (m, v);
        }
        Ok(())
    }

    fn reserve(&self, bytes: usize) -> Result<()> {
        self.gpu.reserve(bytes)
    }

    fn held_bytes(&self, _decoder: &Decoder) -> usize {
        self.gpu.peak_bytes()
    }

    fn buffer_bytes(&self) -> usize {
        0
    }

    fn peak_bytes(&self) -> Option<usize> {
        Some(self.gpu.peak_bytes())
    }
}
