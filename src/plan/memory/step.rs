//! [`Step`]: a decoder without values, and what a step on it takes.

use super::{Buffers, Load, Method, Pairs, sizes};
use crate::checkpoint::Dtype;
use crate::error::Result;
use crate::model::gpu::Formats;
use crate::model::{Decoder, Kept, Linear, OnGpuBytes, Rank, Steps};
use crate::plan::layout::Layout;
use crate::spec::ModuleSpec;
use std::collections::HashMap;

/// The decoder of a run, described.
pub struct Step(Decoder);

impl Step {
    /// Of a layout whose `pairs` are trained (under [`Method::Full`] everything, whatever they are).
    ///
    /// # Errors
    /// Bad input when the sizes of the model are not known, what is not computed here, and an empty batch or sequence.
    pub fn new(layout: &Layout, pairs: &Pairs, load: &Load) -> Result<Self> {
        let spec = sizes(layout, load)?;
        let full = load.method == Method::Full;
        let dtypes: HashMap<&str, Dtype> = layout.weights.iter().map(|w| (w.name.as_str(), w.dtype)).collect();
        let kept = |module: &ModuleSpec| {
            let dtype = dtypes.get(module.name.as_str()).copied().unwrap_or(Dtype::BF16);
            let four_bit = matches!(dtype, Dtype::NF4 | Dtype::FP4) || load.method == Method::Qlora;
            match (full, module.goes_to_four_bits() && four_bit) {
                (true, _) => Kept::Trained,
                (false, true) => Kept::FourBit(load.scheme),
                (false, false) => Kept::Stored(dtype),
            }
        };
        let places = pairs.0.iter().filter_map(|&(place, r)| Some((layout.weights.get(place)?.name.as_str(), r)));
        let ranks: HashMap<&str, usize> = if full { HashMap::new() } else { places.collect() };
        // Gate and up of an expert have one pair of both ranks.
        let rank = |linear: &Linear| {
            let own = ranks.get(linear.module.as_str()).copied();
            let parts = linear.parts.iter().map(|(name, _)| ranks.get(name.as_str()).copied());
            let r = if linear.parts.is_empty() { own } else { own.or_else(|| parts.sum()) };
            r.map(|r| Rank { r, dora: load.dora })
        };
        Ok(Self(Decoder::described(spec, &kept, &rank)?))
    }

    fn steps(load: &Load) -> Steps {
        let Load { batch, seq, checkpointing, dropout, .. } = *load;
        Steps { batch, seq, checkpointing, dropout }
    }

    /// Buffers on the processor.
    ///
    /// # Errors
    /// What the passes say.
    pub(super) fn buffers(&self, load: &Load) -> Result<Buffers> {
        let found = Self::steps(load).on_processor(&self.0, load.threads)?;
        let workspace = found.weight + found.head;
        // A weight is widened to `f32` whatever the activations are.
        let width = load.precision.bytes();
        Ok(Buffers {
            activations: width * found.most.saturating_sub(found.logits + workspace) as u64,
            logits: width * found.logits as u64,
            workspace: 4 * workspace as u64,
            count: found.made,
        })
    }

    /// Floating-point operations of a step's products on the processor.
    ///
    /// # Errors
    /// What the passes say.
    pub fn operations(&self, load: &Load) -> Result<f64> {
        Ok(Self::steps(load).on_processor(&self.0, load.threads)?.flops)
    }

    /// Buffers on a GPU.
    ///
    /// # Errors
    /// What the passes say.
    pub(super) fn on_gpu(&self, load: &Load, formats: Formats) -> Result<OnGpuBytes> {
        Self::steps(load).on_gpu(&self.0, formats)
    }
}
