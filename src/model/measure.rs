//! What a step takes, found by going through it on backends that compute nothing.

use super::backend::{Dry, Meter, Metered, OnGpu, Tally};
use super::decoder::Decoder;
use super::dropout::Dropout;
use super::engine::Engine;
use super::gpu::{Formats, Gpu, GpuGrads, Model};
use super::pass::Backward;
use crate::error::Result;
use std::sync::Arc;

/// A step whose memory or operations are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub seq: usize,
    /// Keep only the blocks' inputs, and go forward again block by block.
    pub checkpointing: bool,
    /// The branches' input is dropped in part.
    pub dropout: bool,
}

/// Bytes of a GPU's memory that a step needs beside weights and what is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnGpuBytes {
    /// All of them, at the most.
    pub peak: u64,
    /// Logits and their gradient among them.
    pub logits: u64,
    /// The largest weight that is made for a product.
    pub weight: u64,
}

impl Steps {
    fn dropout(&self) -> Option<Dropout> {
        self.dropout.then_some(Dropout { p: 0.5, seed: 0 })
    }

    fn backward(&self) -> Backward {
        Backward { scale: 1.0, checkpointing: self.checkpointing }
    }

    /// On the processor, with so many threads.
    ///
    /// # Errors
    /// What the passes say.
    pub fn on_processor(&self, decoder: &Decoder, threads: usize) -> Result<Metered> {
        let meter = Meter::new(threads, self.dropout());
        decoder.measure(&meter, [self.batch, self.seq], self.backward(), &mut ())?;
        Ok(meter.found())
    }

    /// On a GPU that keeps numbers so.
    ///
    /// # Errors
    /// What the passes say, and what is not computed on a GPU here.
    pub fn on_gpu(&self, decoder: &Decoder, formats: Formats) -> Result<OnGpuBytes> {
        let gpu = Gpu::new(Arc::new(Dry(formats)), formats.compute);
        // One piece of memory that everything is cut from.
        gpu.reserve(1 << 60)?;
        let mut model = Model::new(gpu, decoder)?;
        model.clear(&decoder.params)?;
        let (before, tally) = (model.gpu.used_bytes(), Tally::default());
        let on = OnGpu { dropout: self.dropout(), tally: Some(&tally), ..model.on() };
        decoder.measure(&on, [self.batch, self.seq], self.backward(), &mut GpuGrads::Params)?;
        let peak = (model.gpu.peak_bytes() - before) as u64;
        Ok(OnGpuBytes { peak, logits: tally.logits.get(), weight: tally.weight.get() })
    }
}
