//! What [`OnGpu`](super::OnGpu) holds beside activations.

use crate::model::gpu::{SplitQkv, Tensor};
use crate::model::ops::experts;
use std::cell::Cell;
use std::ops::Range;

/// The largest buffers of a kind, in bytes.
#[derive(Debug, Default)]
pub struct Tally {
    /// Logits and their gradient.
    pub logits: Cell<u64>,
    /// A weight, made for one product.
    pub weight: Cell<u64>,
}

/// Gradients.
#[derive(Debug)]
pub enum Grads {
    /// Of what is trained: beside the values.
    Params,
    /// Of weights that are only looked at.
    Own(Vec<Tensor>),
}

/// A sum of losses.
#[derive(Debug)]
pub enum Sum {
    /// Added to [`OnGpu::totals`].
    Added,
    /// One `f64`.
    Own(Tensor),
}

/// Rows of logits and their gradient.
#[derive(Debug)]
pub struct Logits {
    pub(super) values: Tensor,
    pub(super) d: Option<Tensor>,
}

/// What one block keeps of one sequence that grows.
#[derive(Debug, Default)]
pub struct Cache {
    /// Keys and values.
    pub(super) keys_values: Option<(Tensor, Tensor)>,
    /// Rows that they have room for.
    pub(super) capacity: usize,
    /// The last rows that the convolution of a recurrence has seen.
    pub(super) window: Option<Tensor>,
    /// Its state.
    pub(super) state: Option<Tensor>,
}

/// Where tokens go.
pub struct Routes {
    /// As the processor chose them; `None` on a machine that computes nothing.
    pub(super) chosen: Option<experts::Routes>,
    /// The weight of each row, in `f32`.
    pub(super) weights: Tensor,
    /// The token of each row, expert after expert.
    pub(super) token: Tensor,
    /// The row of each choice, token after token.
    pub(super) row: Tensor,
    pub(super) ranges: Vec<Range<usize>>,
    pub(super) tokens: usize,
}

/// What attention keeps.
pub struct Kept {
    /// Rows of queries, keys and values as they were before the norms, where the way back needs them.
    pub(super) rows: Option<Tensor>,
    /// The same as attention reads them, where other blocks read their keys and values.
    pub(super) shared: Option<Tensor>,
    pub(super) split: SplitQkv,
}
