//! What a half of a block, its mixer or its feed-forward, reads and gives its gradient by.

use super::backend::Backend;
use super::decoder::NormWeights;
use crate::error::Result;
use std::ops::Deref;

/// A buffer of its own, or another's.
pub(super) enum Held<'a, T> {
    Own(T),
    Borrowed(&'a T),
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Own(own) => own,
            Self::Borrowed(other) => other,
        }
    }
}

/// What a half reads: the stream `x` through a norm, or `x` itself where there is none. It is computed again wherever it is
/// needed, so that nobody holds it meanwhile.
pub(super) struct Reads<'a, B: Backend> {
    pub(super) norm: Option<&'a NormWeights>,
    pub(super) x: &'a B::Buf,
}

/// Gradients by what a half reads.
pub(super) struct Gradient<B: Backend> {
    /// By the values of its [`Reads`].
    pub(super) by_values: B::Buf,
    /// By the stream, from what reads it by itself.
    pub(super) by_stream: Option<B::Buf>,
}

impl<'a, B: Backend> Reads<'a, B> {
    /// Its values.
    pub(super) fn values(&self, on: &B) -> Result<Held<'a, B::Buf>> {
        match self.norm {
            Some(norm) => Ok(Held::Own(on.norm(norm, self.x)?)),
            None => Ok(Held::Borrowed(self.x)),
        }
    }

    /// `d += …`, from the gradient `dh` by its values.
    pub(super) fn backward(&self, on: &B, dh: &B::Buf, d: &mut B::Buf, grads: &mut B::Grads) -> Result<()> {
        match self.norm {
            Some(norm) => on.norm_backward(norm, self.x, dh, d, true, grads),
            None => on.add(d, dh, 1.0),
        }
    }

    /// What the stream goes on from, of its own: the values where it is `normed`, else `x`.
    pub(super) fn carried(&self, on: &B, normed: bool) -> Result<B::Buf> {
        match self.norm.filter(|_| normed) {
            Some(norm) => on.norm(norm, self.x),
            None => on.copy(self.x),
        }
    }

    /// The gradient `d` by what [`carried`](Self::carried) gave, and `dh` by the values, become the one by `x`.
    pub(super) fn carried_backward(
        &self,
        on: &B,
        normed: bool,
        dh: &B::Buf,
        d: &mut B::Buf,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let Some(norm) = self.norm.filter(|_| normed) else { return self.backward(on, dh, d, grads) };
        on.add(d, dh, 1.0)?;
        let mut dx = on.alloc(on.len(d))?;
        on.norm_backward(norm, self.x, d, &mut dx, false, grads)?;
        *d = dx;
        Ok(())
    }

    /// Its norm is trained, so that the gradient by its values is wanted whatever comes before it.
    pub(super) fn is_trained(&self) -> bool {
        self.norm.is_some_and(NormWeights::is_trained)
    }
}
