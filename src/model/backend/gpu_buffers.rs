//! What [`OnGpu`](super::OnGpu) holds beside activations.

use crate::model::gpu::{SplitQkv, Tensor};
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

/// Keys and values of one block and one sequence.
#[derive(Debug)]
pub struct Cache {
    pub(super) keys: Tensor,
    pub(super) values: Tensor,
    pub(super) capacity: usize,
}

/// Where tokens go, on a machine that computes nothing: room for scores, weights and the rows' tokens.
pub struct Routes {
    pub(super) scores: Tensor,
    pub(super) weights: Tensor,
    #[expect(dead_code, reason = "held: its memory is counted until the routes are dropped")]
    pub(super) tokens: Tensor,
    pub(super) ranges: Vec<Range<usize>>,
}

/// What attention keeps.
pub struct Kept {
    /// As it was projected.
    pub(super) qkv: Tensor,
    pub(super) split: SplitQkv,
}
