//! [`Linear`]: `y = x Wᵀ + b`, or `y = x W'ᵀ + b` where a [`Branch`] stands beside the frozen weight.
//!
//! A weight that is not kept as it is multiplied becomes so in a buffer that lives for one product.

use super::backend::{Backend, Cols, Factor};
use super::branch::{Backward, Beside, Branch, Forward, Lora};
use super::params::Params;
use super::weight::{Vector, Weight};
use crate::delta::DeltaWeight;
use crate::error::Result;

/// A linear layer.
#[derive(Debug)]
pub struct Linear {
    /// The checkpoint's name for it.
    pub module: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// W.
    pub weight: Weight,
    /// b.
    pub bias: Option<Vector>,
    /// What is trained beside W.
    pub branch: Option<Beside>,
    /// Number among the gradients of its block, where the frozen weight's own is wanted.
    pub watched: Option<usize>,
}

impl Linear {
    /// Without a branch.
    pub fn new(module: String, shape: [usize; 2], weight: Weight, bias: Option<Vector>) -> Self {
        Self { module, shape, weight, bias, branch: None, watched: None }
    }

    /// The pair of factors beside W, of whichever kind the branch is.
    pub fn pair(&self) -> Option<&Lora> {
        self.branch.as_ref().map(Branch::pair)
    }

    /// `W' − W`, where there is a branch.
    ///
    /// # Errors
    /// When the parameters are not those of the layer.
    pub fn delta(&self, params: &Params) -> Result<Option<DeltaWeight>> {
        self.branch.as_ref().map(|branch| branch.delta(params, self)).transpose()
    }

    /// `y = keep·y + x Wᵀ + b`, where `y` lies in rows as `at` says.
    ///
    /// # Errors
    /// What the backend's operations say.
    pub fn forward<B: Backend>(&self, on: &B, x: &B::Buf, y: &mut B::Buf, at: Cols, keep: bool) -> Result<()> {
        let rows = on.len(x) / self.shape[1];
        let pass = Forward { on, linear: self, x, rows, at, scale: 1.0, keep };
        match &self.branch {
            Some(branch) => branch.forward(&pass, y),
            None => {
                self.product(&pass, y)?;
                self.add_bias(&pass, y)
            }
        }
    }

    /// `y += b`, where there is a bias.
    pub(super) fn add_bias<B: Backend>(&self, pass: &Forward<B>, y: &mut B::Buf) -> Result<()> {
        match &self.bias {
            Some(bias) => pass.on.add_bias(y, pass.rows, pass.at, self, bias),
            None => Ok(()),
        }
    }

    /// `y = keep·y + scale · x Wᵀ`.
    pub(super) fn product<B: Backend>(&self, pass: &Forward<B>, y: &mut B::Buf) -> Result<()> {
        let Forward { on, x, rows, at, scale, keep, .. } = *pass;
        let [out, width] = self.shape;
        let mut spare = None;
        let weight = on.weight(self, &mut spare)?;
        let x = on.view(x, rows, width, Cols::all(width));
        on.product(on.out(y, rows, out, at), keep, scale, x, weight.t())
    }

    /// Adds to the gradients of what is trained here; `dx = keep·dx + …` where there is one. `dy` lies in rows as `at` says.
    ///
    /// # Errors
    /// What the backend's operations say.
    pub fn backward<B: Backend>(
        &self,
        on: &B,
        x: &B::Buf,
        (dy, at): (&B::Buf, Cols),
        dx: Option<(&mut B::Buf, bool)>,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let [out, width] = self.shape;
        let rows = on.len(x) / width;
        for number in self.weight.trained().into_iter().chain(self.watched) {
            let (d, x) = (on.view(dy, rows, out, at), on.view(x, rows, width, Cols::all(width)));
            on.product(on.grad(grads, number, self.shape)?, true, 1.0, d.t(), x)?;
        }
        if let Some(number) = self.bias.as_ref().and_then(Vector::trained) {
            on.add_column_sums(grads, number, out, dy, rows, at)?;
        }
        let pass = Backward { on, linear: self, x, rows, dy, at, scale: 1.0 };
        match (&self.branch, dx) {
            (Some(branch), dx) => branch.backward(&pass, dx, grads),
            (None, Some((dx, keep))) => self.product_backward(&pass, dx, keep),
            (None, None) => Ok(()),
        }
    }

    /// `dx = keep·dx + scale · dy W`.
    pub(super) fn product_backward<B: Backend>(&self, pass: &Backward<B>, dx: &mut B::Buf, keep: bool) -> Result<()> {
        let Backward { on, rows, dy, at, scale, .. } = *pass;
        let [out, width] = self.shape;
        let mut spare = None;
        let weight = on.weight(self, &mut spare)?;
        let dx = on.out(dx, rows, width, Cols::all(width));
        on.product(dx, keep, scale, on.view(dy, rows, out, at), weight)
    }
}
