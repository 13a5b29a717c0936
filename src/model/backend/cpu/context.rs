//! [`Cpu`] itself, and what it keeps of attention.

use crate::model::backend::Lookup;
use crate::model::dropout::Dropout;
use crate::model::ops::bf16::Unit;
use crate::model::ops::{Buf, Pool, loss};
use crate::model::params::Params;
use crate::model::watch::{InputSquares, Watch};
use crate::progress::Progress;

/// The processor, with what a pass needs everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Cpu<'m> {
    /// Everything trained.
    pub params: &'m Params,
    /// Where buffers come from.
    pub pool: &'m Pool,
    /// Dropout of the branches' input, in training.
    pub dropout: Option<Dropout>,
    /// Looks at every module's output, where something is to be found.
    pub watch: Option<&'m Watch>,
    /// Adds up the squares of every watched module's input, where they are wanted.
    pub inputs: Option<&'m InputSquares>,
    /// What multiplies bf16, where products are computed in it.
    pub unit: Option<Unit>,
    /// Asked before every block whether to go on.
    pub progress: &'m dyn Progress,
}

impl<'m> Cpu<'m> {
    /// Without dropout.
    pub fn new(params: &'m Params, pool: &'m Pool) -> Self {
        Self { params, pool, dropout: None, watch: None, inputs: None, unit: None, progress: &() }
    }
}

/// Losses of a batch so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// Σ −log p.
    pub(super) sum: f64,
    /// Those below [`SURE`](crate::model::ops::loss::SURE).
    pub(super) sure: usize,
}

impl Losses {
    /// Adds those of some rows.
    pub(super) fn add(&mut self, losses: &[f32]) {
        self.sure += loss::sure(losses);
        self.sum += losses.iter().copied().map(f64::from).sum::<f64>();
    }
}

/// What one block keeps of one sequence that grows.
#[derive(Debug, Default)]
pub struct Cache {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
    /// Of a recurrence.
    pub(super) state: Vec<f32>,
    /// The last rows that its convolution has seen.
    pub(super) window: Vec<f32>,
}

/// Rows of queries, keys and values.
#[derive(Debug)]
pub struct Kept {
    /// As attention reads them.
    pub(super) qkv: Buf,
    /// As they were projected, where they are changed in ways that need it for the way back.
    pub(super) raw: Option<Buf>,
}

impl Lookup<'_, Cpu<'_>> {
    /// Position of a token in its own row of data.
    pub(super) fn position(&self, number: usize) -> usize {
        let start = self.starts.and_then(|starts| starts.get(number)).map_or(0, |&start| start as usize);
        self.first + number % self.seq - start
    }
}
