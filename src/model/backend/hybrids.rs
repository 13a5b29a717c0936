//! [`Buffers`], what a backend keeps things in, and [`Hybrids`], its operations for what mixes tokens by more than attention of its own
//! keys.

use super::{Cols, Place};
use crate::error::Result;
use crate::model::decoder::{Attention, Recurrence};

/// What a backend keeps things in.
pub trait Buffers: Sized {
    /// Activations.
    type Buf;
    /// Whole numbers: token ids, targets, begins of rows.
    type Ids;
    /// Gradients of what is trained.
    type Grads;
    /// Cosines and sines of one rotary embedding.
    type Angles;
    /// What attention keeps for the way back, beside its output.
    type Heads;
    /// Keys and values of one block and one sequence, growing.
    type Cache;
    /// Which experts the tokens go through.
    type Routes;
    /// What a recurrence keeps for the way back.
    type Recurred;
    /// Rows of logits, and their gradient.
    type Logits;
    /// Losses, token by token.
    type Losses;
    /// The sum of losses, perhaps not yet known.
    type Sum;
}

/// Operations of mixers with a state, and of attention with gated queries, keys of other blocks and inputs beside the stream.
pub trait Hybrids: Buffers {
    /// Keys and values as attention reads them, `[rows, keys | values]`.
    ///
    /// # Errors
    /// As [`Backend::alloc`](super::Backend::alloc).
    fn keys_values(&self, attention: &Attention, heads: &Self::Heads) -> Result<Self::Buf>;

    /// Copies `width` columns into others, or adds them.
    ///
    /// # Errors
    /// As [`Backend::product`](super::Backend::product).
    fn copy_columns(&self, from: (&Self::Buf, Cols), to: (&mut Self::Buf, Cols), width: usize, add: bool)
    -> Result<()>;

    /// Takes what gates the output apart from the queries that it comes with.
    ///
    /// # Errors
    /// As [`Backend::alloc`](super::Backend::alloc).
    fn split_gate(&self, attention: &Attention, rows: Self::Buf) -> Result<(Self::Buf, Self::Buf)>;

    /// The way back.
    ///
    /// # Errors
    /// As [`Backend::alloc`](super::Backend::alloc).
    fn join_gate(&self, attention: &Attention, qkv: Self::Buf, gate: Self::Buf) -> Result<Self::Buf>;

    /// Convolution and recurrence over what a mixer's projections gave.
    ///
    /// # Errors
    /// As [`Backend::alloc`](super::Backend::alloc).
    fn recur(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        rows: Self::Buf,
        cache: Option<&mut Self::Cache>,
    ) -> Result<Self::Recurred>;

    /// What its output projection reads: through gate and norm.
    ///
    /// # Errors
    /// As [`Backend::alloc`](super::Backend::alloc).
    fn recurred(&self, of: &Recurrence, kept: &Self::Recurred) -> Result<Self::Buf>;

    /// The gradient by what its projections gave, from the one by what its output projection reads.
    ///
    /// # Errors
    /// As [`Backend::alloc`](super::Backend::alloc).
    fn recur_backward(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        kept: Self::Recurred,
        d: Self::Buf,
        grads: &mut Self::Grads,
    ) -> Result<Self::Buf>;

    /// Room for the state of a sequence that grows.
    ///
    /// # Errors
    /// As [`Backend::alloc`](super::Backend::alloc).
    fn state(&self, of: &Recurrence) -> Result<Self::Cache>;
}
