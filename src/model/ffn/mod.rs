//! What follows the mixer of a block, token by token. A kind is one file here and one line of each `match`.

mod dense;
mod experts;

pub use dense::Mlp;
pub use experts::{Expert, ExpertNorms, Experts, Shared};

use super::backend::Backend;
use super::decoder::NormWeights;
use super::half::{Gradient, Held, Reads};
use super::linear::Linear;
use crate::error::{Error, Result};

/// What follows, token by token.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one of them a block: what a box would save is nothing beside its weights"
)]
pub enum FeedForward {
    /// An MLP.
    Dense(Mlp),
    /// A mixture of experts.
    Experts(Experts),
}

/// What a feed-forward keeps for the way back.
pub(super) enum Tape<B: Backend> {
    /// What its first projections gave.
    Dense(B::Buf),
    Experts(experts::Tape<B>),
}

impl FeedForward {
    /// Its linear layers, in the order of a pass forward.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Dense(mlp) => mlp.linears(),
            Self::Experts(experts) => experts.linears(),
        }
    }

    /// Mutable variant of [`linears`](Self::linears).
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match self {
            Self::Dense(mlp) => mlp.linears_mut(),
            Self::Experts(experts) => experts.linears_mut(),
        }
    }

    /// Its norms.
    pub(super) fn norms(&self) -> impl Iterator<Item = &NormWeights> {
        let experts = match self {
            Self::Dense(_) => None,
            Self::Experts(experts) => experts.norms.as_ref(),
        };
        experts.into_iter().flat_map(ExpertNorms::all)
    }

    /// The module that gives its output.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Dense(mlp) => mlp.down.module.clone(),
            Self::Experts(experts) => experts.spec.peft.module.clone(),
        }
    }

    /// Everything that is kept for the way back.
    pub(super) fn forward<B: Backend>(&self, on: &B, rows: usize, reads: &Reads<B>) -> Result<Tape<B>> {
        match self {
            Self::Dense(mlp) => mlp.forward(on, rows, &*reads.values(on)?).map(Tape::Dense),
            Self::Experts(experts) => experts.forward(on, rows, reads).map(Tape::Experts),
        }
    }

    /// Its output: added to `y` where `keep` says so.
    pub(super) fn output<B: Backend>(&self, on: &B, tape: &Tape<B>, y: &mut B::Buf, keep: bool) -> Result<()> {
        match (self, tape) {
            (Self::Dense(mlp), Tape::Dense(up)) => mlp.output(on, up, y, keep),
            (Self::Experts(experts), Tape::Experts(tape)) => experts.output(on, tape, y, keep),
            _ => Err(Error::failure("a feed-forward got the tape of another kind")),
        }
    }

    /// Gradients of what is trained in it, and those by what it reads, from the one by its output.
    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        rows: usize,
        reads: &Reads<B>,
        tape: Tape<B>,
        dy: Held<B::Buf>,
        grads: &mut B::Grads,
    ) -> Result<Gradient<B>> {
        match (self, tape) {
            (Self::Dense(mlp), Tape::Dense(mut up)) => {
                mlp.inside_backward(on, rows, &mut up, &dy, grads)?;
                drop(dy);
                let h = reads.values(on)?;
                let mut dh = on.alloc(on.len(reads.x))?;
                mlp.up_backward(on, &h, &up, &mut dh, false, grads)?;
                Ok(Gradient { by_values: dh, by_stream: None })
            }
            (Self::Experts(experts), Tape::Experts(tape)) => experts.backward(on, rows, reads, tape, dy, grads),
            _ => Err(Error::failure("a feed-forward got the tape of another kind")),
        }
    }
}
