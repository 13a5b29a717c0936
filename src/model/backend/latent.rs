//! What attention from latents asks of a backend: rows joined of parts, and taken apart.

use super::{Buffers, Cols};
use crate::error::Result;
use crate::model::ops::latent::Row as LatentRow;

/// Columns of rows, and heads made of latents.
pub trait LatentOps: Buffers {
    /// Some columns of rows, by themselves.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc); so do the three that follow, and all four where a backend has no kernel for them.
    fn columns(&self, x: &Self::Buf, rows: usize, at: Cols, width: usize) -> Result<Self::Buf>;

    /// The way back: they are written.
    ///
    /// # Errors
    /// As [`columns`](Self::columns).
    fn put_columns(&self, from: &Self::Buf, width: usize, to: &mut Self::Buf, at: Cols) -> Result<()>;

    /// Rows of queries, keys and values from queries, what a latent gave, and `[latent | shared key]`.
    ///
    /// # Errors
    /// As [`columns`](Self::columns).
    fn join_latent(&self, row: LatentRow, q: &Self::Buf, given: &Self::Buf, kv: &Self::Buf) -> Result<Self::Buf>;

    /// The way back: gradients by these three, the last without the latent's.
    ///
    /// # Errors
    /// As [`columns`](Self::columns).
    fn split_latent(&self, row: LatentRow, d: &Self::Buf) -> Result<(Self::Buf, Self::Buf, Self::Buf)>;
}
