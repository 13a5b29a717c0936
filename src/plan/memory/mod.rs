//! What a run will need, part by part, predicted from the buffers that the training engine really keeps.
//!
//! | part | bytes | depends on the engine |
//! |---|---|---|
//! | weights | everything frozen, as it is kept: 4-bit codes, or the stored type | |
//! | constants | scales of the 4-bit weights, `N (32/B)/8`, with double quantization `N (8/B + 32/(256 B))/8` | |
//! | adapters | what is trained: A and B, or under `full` every parameter | |
//! | gradients | one for each trained value | |
//! | optimizer | its moments: two `f32` for AdamW | |
//! | activations | what the blocks keep for the way back, and what one of them needs meanwhile | yes |
//! | logits | a piece of `batch · seq · vocab`, which becomes its own gradient | yes |
//! | workspace | the largest weight as `f32` while it multiplies, and the head where it is not kept so | yes |
//! | process | the program itself, scratch of its products, what the allocator rounds up; on a GPU the driver's context | yes |
//!
//! The parts that depend on the engine are this project's: a step is gone through on a backend that computes nothing
//! (`step`).

pub mod cluster;
mod gpus;
mod largest;
mod outline;
mod predictor;
mod step;

pub use cluster::Strategy;
pub use gpus::{ADAPTER, CONTEXT, GPUS, Gpu, Verdict, context};
pub use largest::{Largest, Search, largest};
pub use predictor::Predictor;
pub use step::Step;

use super::count::Selection;
use super::layout::{Layout, Weight};
use crate::checkpoint::Dtype;
use crate::error::{Error, Result};
use crate::model::gpu::{Element, Formats};
use crate::quant::Scheme;
use crate::spec::ModelSpec;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Every parameter.
    Full,
    /// A and B beside weights as stored.
    Lora,
    /// A and B beside weights in 4 bits.
    #[default]
    Qlora,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Lora, Self::Qlora];

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Lora => "lora",
            Self::Qlora => "qlora",
        }
    }
}

/// What the optimizer keeps of every trained value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimizer {
    /// Two moments in `f32`: this engine's.
    #[default]
    AdamW,
    /// Two moments in 8 bits and a scale for every 256 (bitsandbytes).
    AdamW8bit,
    /// Nothing.
    Sgd,
}

impl Optimizer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AdamW, Self::AdamW8bit, Self::Sgd];

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdamW => "adamw",
            Self::AdamW8bit => "adamw-8bit",
            Self::Sgd => "sgd",
        }
    }

    /// Bytes for so many trained values.
    pub fn bytes(self, values: u64) -> u64 {
        match self {
            Self::AdamW => 8 * values,
            // Two codes, and two scales of 4 bytes for 256 values.
            Self::AdamW8bit => 2 * values + 8 * values.div_ceil(256),
            Self::Sgd => 0,
        }
    }

    /// True for what the training engine here has.
    pub fn is_here(self) -> bool {
        self == Self::AdamW
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Optimizer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = text.to_ascii_lowercase().replace('_', "-");
        let found = Self::ALL
            .into_iter()
            .find(|optimizer| optimizer.as_str() == plain || plain == "adamw8bit" && *optimizer == Self::AdamW8bit);
        found.ok_or_else(|| Error::usage(format!("optimizer \"{text}\"; expected adamw, adamw-8bit or sgd")))
    }
}

/// The type of trained values, gradients and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `f32`: this engine on the processor.
    #[default]
    F32,
    /// `bf16`, the optimizer's moments in `f32` all the same.
    Bf16,
}

impl Precision {
    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Where a run is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On the processor: products have scratch for each thread, and the allocator rounds up.
    #[default]
    Processor,
    /// On a GPU that keeps numbers so; everything that is trained in `f32`.
    Gpu(Formats),
}

/// What a run loads the memory with, beside the model and what is trained of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// What is trained.
    pub method: Method,
    /// Sequences of a micro-batch.
    pub batch: usize,
    /// Tokens of the longest sequence.
    pub seq: usize,
    /// Keep only the blocks' inputs and compute the rest again.
    pub checkpointing: bool,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// How frozen weights are quantized under `qlora`.
    pub scheme: Scheme,
    /// Of what is trained and of activations.
    pub precision: Precision,
    /// Whether the branches' input is dropped in part: they are then computed apart.
    pub dropout: bool,
    /// Threads that compute attention at once, each with buffers of its own.
    pub threads: usize,
    /// Bytes of the program itself; on a GPU of the driver's context.
    pub process: u64,
    /// Where it is computed.
    pub place: Place,
    /// Pairs have magnitudes (DoRA).
    pub dora: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            method: Method::Qlora,
            batch: 4,
            seq: 512,
            checkpointing: false,
            optimizer: Optimizer::AdamW,
            scheme: Scheme::default(),
            precision: Precision::F32,
            dropout: false,
            threads: 2,
            process: PROCESS,
            place: Place::Processor,
            dora: false,
        }
    }
}

/// Bytes of the program before a model is open, where nobody has measured them: the binary's pages, its threads, the
/// allocator's first blocks.
pub const PROCESS: u64 = 20_000_000;

/// Scratch of matrix products, of the program's code that training touches, and for each thread: measured with one and
/// two threads on small models.
const SCRATCH: u64 = 6_000_000;
const SCRATCH_OF_THREAD: u64 = 13_500_000;
/// The share of all memory that the allocator holds back; measured with mimalloc on Linux, giving back after 10 ms as `main`
/// sets it. `cargo bench --bench train_step -- --memory` compares ten whole runs.
const HELD_BACK: f64 = 0.03;

/// Bytes of a step's buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    /// What the blocks keep, and what one of them needs meanwhile.
    pub activations: u64,
    /// A piece of logits.
    pub logits: u64,
    /// The largest weight as `f32`, and the head's where it is not kept so.
    pub workspace: u64,
    /// What the allocator rounds them up by.
    pub rounded: u64,
}

/// Which places of a layout get pairs, and their ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(usize, usize)>);

impl Pairs {
    /// The same rank everywhere, but where a module's smaller side is less.
    pub fn uniform(layout: &Layout, selection: &Selection, r: usize) -> Self {
        let rank = |place: usize| layout.weights.get(place).map_or(r, |weight| weight.clipped_rank(r));
        Self(selection.places.iter().map(|&place| (place, rank(place))).collect())
    }

    /// `Σ r (d_in + d_out)`.
    pub fn trainable(&self, layout: &Layout) -> u64 {
        let cost =
            |&(place, r): &(usize, usize)| layout.weights.get(place).map_or(0, |weight| weight.cost() * r as u64);
        self.0.iter().map(cost).sum()
    }
}

/// Predicted bytes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Frozen weights as they are kept.
    pub weights: u64,
    /// Scales of 4-bit weights.
    pub constants: u64,
    /// Everything trained.
    pub adapters: u64,
    /// Its gradient.
    pub gradients: u64,
    /// The optimizer's moments.
    pub optimizer: u64,
    /// What the blocks keep for the way back, and what one of them needs meanwhile.
    pub activations: u64,
    /// A piece of logits.
    pub logits: u64,
    /// The largest weight as `f32`, and the head's where it is not kept so.
    pub workspace: u64,
    /// The program itself.
    pub process: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|part| part.bytes).sum()
    }

    /// All of it but the program: weights, what is trained, buffers.
    pub fn held(&self) -> u64 {
        self.total() - self.process
    }

    /// What is trained, its gradient and the optimizer's moments.
    pub fn trained(&self) -> u64 {
        self.adapters + self.gradients + self.optimizer
    }

    /// Part by part, in the order of a bar.
    pub fn parts(&self) -> [Part; 9] {
        let part = |name, bytes, engine| Part { name, bytes, engine };
        [
            part("weights", self.weights, false),
            part("constants", self.constants, false),
            part("adapters", self.adapters, false),
            part("gradients", self.gradients, false),
            part("optimizer", self.optimizer, false),
            part("activations", self.activations, true),
            part("logits", self.logits, true),
            part("workspace", self.workspace, true),
            part("process", self.process, true),
        ]
    }
}

/// One part of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Another training engine would need another amount.
    pub engine: bool,
}

/// Tokens of a micro-batch up to which memory is predicted: everything is counted in 64 bits.
const MOST_TOKENS: u64 = 1 << 36;

/// The memory of a run on `layout` that trains `pairs` (under [`Method::Full`] everything, whatever they are).
///
/// # Errors
/// Bad input when the sizes of the model are not known, or the batch or the sequence is empty.
pub fn predict(layout: &Layout, pairs: &Pairs, load: &Load) -> Result<Memory> {
    Predictor::new(layout, pairs, load)?.memory(load.batch, load.seq)
}

/// The sizes of a model and of a load that make sense.
fn sizes<'a>(layout: &'a Layout, load: &Load) -> Result<&'a Arc<ModelSpec>> {
    let spec = layout.spec.as_ref().ok_or_else(|| {
        Error::usage(format!(
            "{}: no config.json of a family that is known here gives the sizes of its blocks; memory cannot be predicted without them",
            layout.name
        ))
    })?;
    for (name, value) in [("batch", load.batch), ("seq", load.seq)] {
        if value == 0 {
            return Err(Error::usage(format!("{name} 0; expected 1 or more")));
        }
    }
    if spec.positions.is_some() && load.seq > spec.max_positions {
        return Err(Error::usage(format!("seq {}; {} has {} positions", load.seq, layout.name, spec.max_positions)));
    }
    if (load.batch as u64).checked_mul(load.seq as u64).is_none_or(|tokens| tokens > MOST_TOKENS) {
        return Err(Error::usage(format!(
            "batch {} of sequences of {}: more than {MOST_TOKENS} tokens at once, which no machine holds",
            load.batch, load.seq
        )));
    }
    Ok(spec)
}

/// Bytes of weights and of their scales, as they are kept.
fn frozen(layout: &Layout, load: &Load) -> (u64, u64) {
    let (mut weights, mut constants, mut counted) = (0, 0, 0);
    for weight in &layout.weights {
        let (codes, scales) = kept(weight, load);
        (weights, constants, counted) = (weights + codes, constants + scales, counted + weight.parameters);
    }
    // Biases stand beside the weights, in `f32`.
    (weights + 4 * layout.parameters.saturating_sub(counted), constants)
}

/// Bytes of one frozen weight and of its scales.
fn kept(weight: &Weight, load: &Load) -> (u64, u64) {
    let elements = weight.d_out as u64 * weight.d_in as u64;
    let stored_4bit = matches!(weight.dtype, Dtype::NF4 | Dtype::FP4);
    if weight.parameters == 0 {
        // A tied copy is not kept twice.
        (0, 0)
    } else if weight.goes_to_four_bits() && (load.method == Method::Qlora || stored_4bit) {
        (elements.div_ceil(2), scales(elements, load.scheme))
    } else if weight.d_in == 1 || weight.is_kernel() {
        // As vectors are.
        (4 * weight.parameters, 0)
    } else {
        (width(weight.dtype, load) * elements + 4 * weight.parameters.saturating_sub(elements), 0)
    }
}

/// Bytes of the scales of a weight in 4 bits.
pub fn scales(elements: u64, scheme: Scheme) -> u64 {
    let blocks = elements.div_ceil(scheme.blocksize.max(1) as u64);
    if scheme.double_quant { blocks + 4 * blocks.div_ceil(256) + 4 } else { 4 * blocks }
}

/// Bytes of a value of a frozen matrix: on a GPU what it keeps them in; else the half types stay, everything else is `f32`.
fn width(dtype: Dtype, load: &Load) -> u64 {
    match load.place {
        Place::Gpu(formats) => Element::from(formats.weight).bytes() as u64,
        Place::Processor if matches!(dtype, Dtype::F16 | Dtype::BF16) => 2,
        Place::Processor => 4,
    }
}

#[cfg(test)]
mod tests;
