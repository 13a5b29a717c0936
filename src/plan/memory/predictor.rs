//! [`Predictor`]: predictions of runs that differ in batch, sequence or rank alone.

use super::outline::Outline;
use super::step::Step;
use super::{HELD_BACK, Load, Memory, Method, Pairs, Place, SCRATCH, SCRATCH_OF_THREAD, Weight, frozen, sizes};
use crate::error::Result;
use crate::model::OnGpuBytes;
use crate::model::gpu::Element;
use crate::model::ops::pool;
use crate::plan::layout::Layout;

/// A run of which everything is known that depends on neither batch nor sequence.
pub struct Predictor<'a> {
    layout: &'a Layout,
    load: Load,
    outline: Outline<'a>,
    step: Step,
    weights: u64,
    constants: u64,
    /// What the allocator rounds up the blocks of matrices by, where all are trained.
    rounded: u64,
    /// `Σ (d_in + d_out)` and `Σ d_out` over the pairs.
    per_rank: u64,
    rows: u64,
    trainable: u64,
}

impl<'a> Predictor<'a> {
    /// Of a layout whose `pairs` are trained (under [`Method::Full`] everything, whatever they are).
    ///
    /// # Errors
    /// As [`predict`](super::predict).
    pub fn new(layout: &'a Layout, pairs: &Pairs, load: &Load) -> Result<Self> {
        let outline = Outline::new(sizes(layout, load)?, layout, pairs, load);
        let step = Step::of(&outline, None)?;
        let full = load.method == Method::Full;
        let (weights, constants) = if full { (0, 0) } else { frozen(layout, load) };
        let rounded = |weight: &Weight| pool::rounded(load.precision.bytes() * weight.parameters);
        let adapted = || pairs.0.iter().filter_map(|(place, _)| layout.weights.get(*place));
        let rows = if load.dora { adapted().map(|weight| weight.d_out as u64).sum() } else { 0 };
        Ok(Self {
            rounded: if full { layout.weights.iter().map(rounded).sum() } else { 0 },
            per_rank: adapted().map(Weight::cost).sum(),
            trainable: if full { layout.parameters } else { pairs.trainable(layout) + rows },
            layout,
            load: *load,
            outline,
            step,
            weights,
            constants,
            rows,
        })
    }

    /// Memory with this batch and this sequence.
    ///
    /// # Errors
    /// As [`predict`](super::predict).
    pub fn memory(&self, batch: usize, seq: usize) -> Result<Memory> {
        self.of(&self.step, self.trainable, &Load { batch, seq, ..self.load })
    }

    /// Memory where every pair has rank `r`.
    ///
    /// # Errors
    /// As [`predict`](super::predict).
    pub fn at_rank(&self, r: usize) -> Result<Memory> {
        if self.load.method == Method::Full {
            return self.memory(self.load.batch, self.load.seq);
        }
        let step = Step::of(&self.outline, Some(r))?;
        self.of(&step, self.per_rank.saturating_mul(r as u64) + self.rows, &self.load)
    }

    fn of(&self, step: &Step, trainable: u64, load: &Load) -> Result<Memory> {
        sizes(self.layout, load)?;
        let known = Memory {
            weights: self.weights,
            constants: self.constants,
            optimizer: load.optimizer.bytes(trainable),
            process: load.process,
            ..Memory::default()
        };
        if let Place::Gpu(formats) = load.place {
            // What is trained in `f32`, with a copy as it is multiplied.
            let computed = Element::from(formats.compute).bytes() as u64;
            let OnGpuBytes { peak, logits, weight: workspace } = step.on_gpu(load, formats)?;
            return Ok(Memory {
                adapters: trainable * if computed == 4 { 4 } else { 4 + computed },
                gradients: 4 * trainable,
                activations: peak.saturating_sub(logits + workspace),
                logits,
                workspace,
                ..known
            });
        }
        let precision = load.precision.bytes();
        let buffers = step.buffers(load)?;
        let mut memory = Memory {
            adapters: precision * trainable,
            gradients: precision * trainable,
            activations: buffers.activations,
            logits: buffers.logits,
            workspace: buffers.workspace,
            process: 0,
            ..known
        };
        let held = (HELD_BACK * memory.total() as f64) as u64;
        // Values, gradients and two moments.
        let rounded = buffers.rounded + 4 * self.rounded;
        memory.process = SCRATCH + SCRATCH_OF_THREAD * load.threads as u64 + rounded + held + load.process;
        Ok(memory)
    }
}
