//! [`Step`]: decoders without values, and what a step on them takes.

use super::outline::Outline;
use super::{Buffers, Load, Pairs, sizes};
use crate::error::Result;
use crate::model::backend::Metered;
use crate::model::gpu::Formats;
use crate::model::{Decoder, OnGpuBytes, Steps};
use crate::plan::layout::Layout;

/// The decoder of a run, described as an outline.
pub struct Step {
    decoders: Vec<Decoder>,
    left_out: f64,
}

impl Step {
    /// Of a layout whose `pairs` are trained (under [`Method::Full`](super::Method::Full) everything, whatever they are).
    ///
    /// # Errors
    /// Bad input when the sizes of the model are not known, what is not computed here, and an empty batch or sequence.
    pub fn new(layout: &Layout, pairs: &Pairs, load: &Load) -> Result<Self> {
        Self::of(&Outline::new(sizes(layout, load)?, layout, pairs, load), None)
    }

    /// Of an outline; `r` in place of every rank where it is there.
    pub(super) fn of(outline: &Outline, r: Option<usize>) -> Result<Self> {
        Ok(Self { decoders: outline.decoders(r)?, left_out: outline.left_out() })
    }

    /// Of a decoder that nothing is left out of.
    #[cfg(test)]
    pub(super) fn exact(decoder: Decoder) -> Self {
        Self { decoders: vec![decoder], left_out: 0.0 }
    }

    /// The whole from what was found with blocks left out, and with fewer.
    fn whole(&self, found: impl Iterator<Item = u64>) -> u64 {
        let found: Vec<u64> = found.collect();
        let first = found.first().copied().unwrap_or(0);
        let more = found.get(1).map_or(0, |second| second.saturating_sub(first));
        first + (self.left_out * more as f64) as u64
    }

    fn steps(load: &Load) -> Steps {
        let Load { batch, seq, checkpointing, dropout, .. } = *load;
        Steps { batch, seq, checkpointing, dropout }
    }

    fn metered(&self, load: &Load) -> Result<Vec<Metered>> {
        self.decoders.iter().map(|decoder| Self::steps(load).on_processor(decoder, load.threads)).collect()
    }

    /// Buffers on the processor.
    ///
    /// # Errors
    /// What the passes say.
    pub(super) fn buffers(&self, load: &Load) -> Result<Buffers> {
        let all = self.metered(load)?;
        let first = all.first().copied().unwrap_or_default();
        let workspace = first.weight + first.head;
        let most = self.whole(all.iter().map(|found| found.most as u64));
        // A weight is widened to `f32` whatever the activations are.
        let width = load.precision.bytes();
        Ok(Buffers {
            activations: width * most.saturating_sub((first.logits + workspace) as u64),
            logits: width * first.logits as u64,
            workspace: 4 * workspace as u64,
            rounded: self.whole(all.iter().map(|found| found.rounded)),
        })
    }

    /// Floating-point operations of a step's products on the processor.
    ///
    /// # Errors
    /// What the passes say.
    pub fn operations(&self, load: &Load) -> Result<f64> {
        let all = self.metered(load)?;
        let first = all.first().map_or(0.0, |found| found.flops);
        let more = all.get(1).map_or(0.0, |found| found.flops - first);
        Ok(first + self.left_out * more)
    }

    /// Buffers on a GPU.
    ///
    /// # Errors
    /// What the passes say.
    pub(super) fn on_gpu(&self, load: &Load, formats: Formats) -> Result<OnGpuBytes> {
        let all = self.decoders.iter().map(|decoder| Self::steps(load).on_gpu(decoder, formats));
        let all: Vec<OnGpuBytes> = all.collect::<Result<_>>()?;
        let first = all.first().copied().unwrap_or_default();
        Ok(OnGpuBytes { peak: self.whole(all.iter().map(|found| found.peak)), ..first })
    }
}
