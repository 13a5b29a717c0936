//! One decoder, as a [`ModelSpec`] describes it.
//!
//! ```text
//! config.json ─ ModelSpec ───┐
//! Checkpoint ─── tensor by tensor ─ Decoder ─┬─ loss, gradient   (Batch → Loss, Grads)  ┐  written once,
//! Adapter ─────────────────── attach ────────┘─ next             (Cache → logits)       ┘  over a Backend
//!
//! Engine ─┬─ Processor ─ Cpu       what computes is chosen when the program runs
//!         └─ gpu::Model ─ OnGpu
//! Steps ──┬─ Meter                 what a step takes: the same passes, where nothing is computed
//!         └─ OnGpu over Dry
//! ```
//!
//! # Why there is no autograd here
//!
//! A block's gradient is written out by hand over plain buffers ([`backend`]), each operation beside its own gradient. What
//! that gives, against a graph of tensors:
//!
//! - the frozen weight's gradient is never computed, its `f32` values live for one product, and the LoRA branch goes
//!   into that product;
//! - everything that is kept for the way back is named in one struct, and gradient checkpointing is a second call of the
//!   same forward;
//! - buffers are used again from step to step, sums have one order: the same run gives the same bytes;
//! - threads meet once an operation, not once a tensor;
//! - memory is predicted by going through the same pass on a backend that computes nothing.

mod adamw;
mod applied;
mod attach;
pub mod backend;
mod beside;
mod block;
pub mod branch;
mod decoder;
mod described;
mod dropout;
mod dtype;
mod engine;
mod ffn;
pub mod gpu;
mod half;
mod linear;
mod measure;
mod mixer;
mod narrow;
pub mod ops;
mod params;
mod pass;
mod per_layer;
mod probe;
mod watch;
mod weight;

pub use crate::spec::{self, ModelSpec};
pub use adamw::{AdamW, Rates, Update};
pub use applied::{Applied, Placed};
pub use backend::Cpu;
pub use decoder::Decoder;
pub use described::{Kept, Rank};
pub use dropout::Dropout;
pub use dtype::ComputeDtype;
pub use engine::{Engine, Processor, Sequence};
pub use ffn::{Expert, Experts};
pub use linear::Linear;
pub use measure::{OnGpuBytes, Steps};
pub use ops::Pool;
pub use params::{Grads, Kind, Param, Params};
pub use pass::{Backward, Batch, Cache, Loss};
pub use watch::{InputSquares, Watch};
pub use weight::{Frozen, Vector, Weight};
