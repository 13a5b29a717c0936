//! What mixes the tokens of a block. A kind is one file here and one line of each `match`.

mod attention;
mod latent;
mod recurrence;

pub use attention::Attention;
pub use latent::Latent;
pub use recurrence::Recurrence;

use super::backend::{Backend, Place};
use super::decoder::NormWeights;
use super::half::{Held, Reads};
use super::linear::Linear;
use crate::error::{Error, Result};

/// What mixes tokens.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one of them a block: what a box would save is nothing beside its weights"
)]
pub enum Mixer {
    /// Causal attention.
    Attention(Attention),
    /// Through a state of fixed size.
    Recurrence(Recurrence),
    /// Both of them, added up.
    Both(Attention, Recurrence),
}

/// What a mixer keeps for the way back.
pub(super) enum Tape<B: Backend> {
    Attention(attention::Tape<B>),
    Recurrence(recurrence::Tape<B>),
    Both(attention::Tape<B>, recurrence::Tape<B>),
}

impl Mixer {
    /// Its linear layers, in the order of a pass forward.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Attention(attention) => attention.linears(),
            Self::Recurrence(recurrence) => recurrence.linears(),
            Self::Both(attention, recurrence) => [attention.linears(), recurrence.linears()].concat(),
        }
    }

    /// Mutable variant of [`linears`](Self::linears).
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match self {
            Self::Attention(attention) => attention.linears_mut(),
            Self::Recurrence(recurrence) => recurrence.linears_mut(),
            Self::Both(attention, recurrence) => {
                attention.linears_mut().into_iter().chain(recurrence.linears_mut()).collect()
            }
        }
    }

    /// Its attention, where it has one.
    pub(super) fn attention(&self) -> Option<&Attention> {
        match self {
            Self::Attention(attention) | Self::Both(attention, _) => Some(attention),
            Self::Recurrence(_) => None,
        }
    }

    /// Its recurrence, where it has one.
    pub(super) fn recurrence(&self) -> Option<&Recurrence> {
        match self {
            Self::Recurrence(recurrence) | Self::Both(_, recurrence) => Some(recurrence),
            Self::Attention(_) => None,
        }
    }

    /// Its norms.
    pub(super) fn norms(&self) -> Vec<&NormWeights> {
        match self {
            Self::Attention(attention) | Self::Both(attention, _) => attention.norms().collect(),
            Self::Recurrence(_) => Vec::new(),
        }
    }

    /// The module that gives its output.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Attention(attention) => attention.o.module.clone(),
            Self::Recurrence(recurrence) | Self::Both(_, recurrence) => recurrence.o.module.clone(),
        }
    }

    /// Room for what it keeps of a sequence that grows.
    pub(super) fn cache<B: Backend>(&self, on: &B, positions: usize) -> Result<Option<B::Cache>> {
        match self {
            // What both keep lies in one.
            Self::Attention(attention) | Self::Both(attention, _) => on.cache(attention, positions).map(Some),
            Self::Recurrence(recurrence) => on.state(recurrence).map(Some),
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
            Self::Recurrence(recurrence) => recurrence.forward(on, place, reads, cache).map(Tape::Recurrence),
            Self::Both(attention, recurrence) => {
                let mut cache = cache;
                let first = attention.forward(on, place, reads, cache.as_deref_mut())?;
                Ok(Tape::Both(first, recurrence.forward(on, place, reads, cache)?))
            }
        }
    }

    /// Its output: added to `y` where `keep` says so.
    pub(super) fn output<B: Backend>(&self, on: &B, tape: &Tape<B>, y: &mut B::Buf, keep: bool) -> Result<()> {
        match (self, tape) {
            (Self::Attention(attention), Tape::Attention(tape)) => attention.output(on, tape, y, keep),
            (Self::Recurrence(recurrence), Tape::Recurrence(tape)) => recurrence.output(on, tape, y, keep),
            (Self::Both(attention, recurrence), Tape::Both(first, second)) => {
                attention.output(on, first, y, keep)?;
                recurrence.output(on, second, y, true)
            }
            _ => Err(not_its_own()),
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
            (Self::Recurrence(recurrence), Tape::Recurrence(tape)) => {
                recurrence.backward(on, place, reads, tape, dy, wanted, grads)
            }
            (Self::Both(attention, recurrence), Tape::Both(first, second)) => {
                let own = Held::Borrowed(&*dy);
                let one = attention.backward(on, place, reads, first, own, wanted, grads)?;
                let other = recurrence.backward(on, place, reads, second, dy, wanted, grads)?;
                let (Some(mut dh), Some(other)) = (one, other) else { return Ok(None) };
                on.add(&mut dh, &other, 1.0)?;
                Ok(Some(dh))
            }
            _ => Err(not_its_own()),
        }
    }
}

fn not_its_own() -> Error {
    Error::failure("a mixer goes back over what another kept")
}
