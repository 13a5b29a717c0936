//! What mixes the tokens of a block. A kind is one file here and one line of each `match`.

mod attention;
mod latent;

pub use attention::Attention;
pub use latent::Latent;

use super::backend::{Backend, Place};
use super::decoder::NormWeights;
use super::half::{Held, Reads};
use super::linear::Linear;
use crate::error::Result;

/// What mixes tokens.
#[derive(Debug)]
pub enum Mixer {
    /// Causal attention.
    Attention(Attention),
}

/// What a mixer keeps for the way back.
pub(super) enum Tape<B: Backend> {
    Attention(attention::Tape<B>),
}

impl Mixer {
    /// Its linear layers, in the order of a pass forward.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Attention(attention) => attention.linears(),
        }
    }

    /// Mutable variant of [`linears`](Self::linears).
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match self {
            Self::Attention(attention) => attention.linears_mut(),
        }
    }

    /// Its norms.
    pub(super) fn norms(&self) -> Vec<&NormWeights> {
        match self {
            Self::Attention(attention) => attention.norms(),
        }
    }

    /// The module that gives its output.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Attention(attention) => attention.o.module.clone(),
        }
    }

    /// Room for what it keeps of a sequence that grows.
    pub(super) fn cache<B: Backend>(&self, on: &B, positions: usize) -> Result<Option<B::Cache>> {
        match self {
            Self::Attention(attention) => on.cache(attention, positions).map(Some),
        }
    }

    /// Everything before its output.
    pub(super) fn forward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        reads: &Reads<B>,
        cache: Option<&mut B::Cache>,
    ) -> Result<Tape<B>> {
        match self {
            Self::Attention(attention) => attention.forward(on, place, reads, cache).map(Tape::Attention),
        }
    }

    /// Its output: added to `y` where `keep` says so.
    pub(super) fn output<B: Backend>(&self, on: &B, tape: &Tape<B>, y: &mut B::Buf, keep: bool) -> Result<()> {
        match (self, tape) {
            (Self::Attention(attention), Tape::Attention(tape)) => attention.output(on, tape, y, keep),
        }
    }

    /// Gradients of what is trained in it, from the one by its output; where it is `wanted`, the gradient by what it reads.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        reads: &Reads<B>,
        tape: Tape<B>,
        dy: Held<B::Buf>,
        wanted: bool,
        grads: &mut B::Grads,
    ) -> Result<Option<B::Buf>> {
        match (self, tape) {
            (Self::Attention(attention), Tape::Attention(tape)) => {
                attention.backward(on, place, reads, tape, dy, wanted, grads)
            }
        }
    }
}
