//! One decoder, as a [`ModelSpec`] describes it.
//!
//! ```text
//! config.json ─ ModelSpec ───┐
//! Checkpoint ─── tensor by tensor ─ Decoder ─┬─ loss, gradient   (Batch → Loss, Grads)
//! Adapter ─────────────────── attach ────────┘─ next             (Cache → logits)
//! ```
//!
//! # Why there is no autograd here
//!
//! A block has one shape, so its gradient is written out by hand over plain buffers ([`ops`]), each operation beside its
//! own gradient. What that gives, against a graph of tensors:
//!
//! - the frozen weight's gradient is never computed, its `f32` values live for one product, and the LoRA branch goes
//!   into that product;
//! - everything that is kept for the way back is named in one struct, and gradient checkpointing is a second call of the
//!   same forward;
//! - buffers are used again from step to step, sums have one order: the same run gives the same bytes;
//! - threads meet once an operation, not once a tensor.
//!
//! The price is that a second kind of device needs these operations again, each as a kernel; they are few, and coarse:
//! [`gpu`] has them.

mod applied;
mod attach;
mod block;
mod decoder;
mod dropout;
mod dtype;
pub mod gpu;
mod linear;
pub mod ops;
mod params;
mod pass;
mod probe;
mod watch;
mod weight;

pub use crate::spec::{self, ModelSpec};
pub use applied::{Applied, Branch};
pub use decoder::Decoder;
pub use dropout::Dropout;
pub use dtype::ComputeDtype;
pub use linear::{Linear, Lora, Run};
pub use ops::Pool;
pub use params::{Grads, Kind, Param, Params};
pub use pass::{Backward, Batch, Cache, Loss};
pub use watch::Watch;
pub use weight::{Frozen, Vector, Weight};
