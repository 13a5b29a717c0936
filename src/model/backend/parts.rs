//! What the operations of a [`Backend`](super::Backend) take: where columns and rows lie, and a nonlinearity.

use super::Buffers;
use crate::model::beside::Beside;
use crate::spec::Activation;

/// Which columns of a row a matrix fills: `stride` values from row to row, the first at `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cols {
    /// First column.
    pub first: usize,
    /// Values of a row.
    pub stride: usize,
}

impl Cols {
    /// Rows of `width` values, all of them.
    pub fn all(width: usize) -> Self {
        Self { first: 0, stride: width }
    }
}

/// A factor of a product.
pub trait Factor: Copy {
    /// Rows and columns exchanged.
    fn t(self) -> Self;
}

/// Where the rows of a buffer are in their sequences.
pub struct Place<'a, B: Buffers> {
    /// Rows of all sequences.
    pub rows: usize,
    /// Rows of a sequence.
    pub seq: usize,
    /// Position of a sequence's first row: as many rows of keys and values are there already.
    pub first: usize,
    /// No row's position in its own row of data is as high.
    pub positions: usize,
    /// For every row where in its sequence its own row of data begins; `None` where that is always 0.
    pub starts: Option<&'a B::Ids>,
    /// Cosines and sines, by [`AttentionSpec::rope`](crate::spec::AttentionSpec::rope).
    pub angles: &'a [B::Angles],
    /// What blocks read beside the stream.
    pub(in crate::model) beside: &'a Beside<B>,
}

impl<B: Buffers> Clone for Place<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Buffers> Copy for Place<'_, B> {}

/// What embeddings are looked up with.
#[derive(Debug)]
pub struct Lookup<'a, B: Buffers> {
    /// Token ids.
    pub ids: &'a B::Ids,
    /// As [`Place::starts`].
    pub starts: Option<&'a B::Ids>,
    /// Tokens of a sequence.
    pub seq: usize,
    /// Position of a sequence's first token.
    pub first: usize,
}

/// The nonlinearity of an MLP over rows of `[gate | up]`, or of `up` alone.
#[derive(Clone, Copy, Debug)]
pub struct Nonlinear {
    /// The function.
    pub activation: Activation,
    /// `f(gate) ∘ up`.
    pub gated: bool,
    /// Columns of what comes out.
    pub width: usize,
    /// α₊ and α₋ of an xIELU.
    pub alphas: [f32; 2],
}

impl Nonlinear {
    /// Columns of what goes in.
    pub fn stride(&self) -> usize {
        if self.gated { 2 * self.width } else { self.width }
    }
}
