//! [`Branch`]: what is trained beside a frozen weight. A kind is one file here and one line of [`Beside`].
//!
//! | kind | W' | trained |
//! |---|---|---|
//! | [`Lora`] | `W + s · B A` | A, B |
//! | [`Dora`] | `m ∘ (W + s · B A) / ‖W + s · B A‖`, row by row | A, B, m |

mod dora;
mod lora;

pub use dora::Dora;
pub use lora::Lora;

use super::backend::{Backend, Cols};
use super::linear::Linear;
use super::params::Params;
use crate::delta::DeltaWeight;
use crate::error::Result;

/// Computes with `W'` instead of `W`, and trains what makes the difference.
pub trait Branch {
    /// Numbers of what is trained among the [`Params`], as a pass forward meets them.
    fn params(&self) -> Vec<usize>;

    /// The pair of factors.
    fn pair(&self) -> &Lora;

    /// `y = keep·y + scale · x W'ᵀ + b`.
    ///
    /// # Errors
    /// What the backend's operations say.
    fn forward<B: Backend>(&self, pass: &Forward<B>, y: &mut B::Buf) -> Result<()>;

    /// Adds to the gradients of what is trained; `dx = keep·dx + scale · dy W'` where there is one.
    ///
    /// # Errors
    /// What the backend's operations say.
    fn backward<B: Backend>(
        &self,
        pass: &Backward<B>,
        dx: Option<(&mut B::Buf, bool)>,
        grads: &mut B::Grads,
    ) -> Result<()>;

    /// `W' − W`.
    ///
    /// # Errors
    /// When the parameters are not those of the layer.
    fn delta(&self, params: &Params, linear: &Linear) -> Result<DeltaWeight>;
}

/// One product forward.
pub struct Forward<'a, B: Backend> {
    /// The backend.
    pub on: &'a B,
    /// The layer.
    pub linear: &'a Linear,
    /// `[rows, in]`, and where it lies.
    pub x: &'a B::Buf,
    /// Where the first of these rows is.
    pub x_at: Cols,
    /// How many rows.
    pub rows: usize,
    /// Where the output lies in its rows.
    pub at: Cols,
    /// Multiplies the output.
    pub scale: f32,
    /// What is in `y` stays.
    pub keep: bool,
}

/// One product backward.
pub struct Backward<'a, B: Backend> {
    /// The backend.
    pub on: &'a B,
    /// The layer.
    pub linear: &'a Linear,
    /// `[rows, in]`, and where it lies.
    pub x: &'a B::Buf,
    /// Where the first of these rows is.
    pub x_at: Cols,
    /// How many rows.
    pub rows: usize,
    /// The gradient by the output.
    pub dy: &'a B::Buf,
    /// Where it lies in its rows.
    pub at: Cols,
    /// Multiplied the output.
    pub scale: f32,
}

/// One of the kinds.
#[derive(Clone, Debug)]
pub enum Beside {
    /// [`Lora`].
    Lora(Lora),
    /// [`Dora`].
    Dora(Dora),
}

macro_rules! each {
    ($which:expr, $branch:ident => $then:expr) => {
        match $which {
            Beside::Lora($branch) => $then,
            Beside::Dora($branch) => $then,
        }
    };
}

impl Branch for Beside {
    fn params(&self) -> Vec<usize> {
        each!(self, branch => branch.params())
    }

    fn pair(&self) -> &Lora {
        each!(self, branch => branch.pair())
    }

    fn forward<B: Backend>(&self, pass: &Forward<B>, y: &mut B::Buf) -> Result<()> {
        each!(self, branch => branch.forward(pass, y))
    }

    fn backward<B: Backend>(
        &self,
        pass: &Backward<B>,
        dx: Option<(&mut B::Buf, bool)>,
        grads: &mut B::Grads,
    ) -> Result<()> {
        each!(self, branch => branch.backward(pass, dx, grads))
    }

    fn delta(&self, params: &Params, linear: &Linear) -> Result<DeltaWeight> {
        each!(self, branch => branch.delta(params, linear))
    }
}
