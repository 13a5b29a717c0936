//! [`Linear`]: `y = x Wᵀ + b`, or `y = x W'ᵀ + b` where a [`Branch`] stands beside the frozen weight.
//!
//! A weight that is not kept as it is multiplied becomes so in a buffer that lives for one product.

use super::backend::{Backend, Cols, Factor};
use super::branch::{Backward, Beside, Branch, Forward, Lora};
use super::params::Params;
use super::weight::{Vector, Weight};
use crate::delta::DeltaWeight;
use crate::error::Result;
use std::ops::Range;

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
    /// Multiplies `x Wᵀ`, but not b.
    pub scale: f32,
    /// What is trained beside W.
    pub branch: Option<Beside>,
    /// Number among the gradients of its block, where the frozen weight's own is wanted.
    pub watched: Option<usize>,
    /// The checkpoint's names of its parts and their rows, where a file has them apart (an expert's gate above its up).
    pub parts: Vec<(String, Range<usize>)>,
}

impl Linear {
    /// Without a branch.
    pub fn new(module: String, shape: [usize; 2], weight: Weight, bias: Option<Vector>) -> Self {
        Self { module, shape, weight, bias, scale: 1.0, branch: None, watched: None, parts: Vec::new() }
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
        self.forward_rows(on, x, 0..on.len(x) / self.shape[1], y, at, keep)
    }

    /// The same for some rows of `x`; `at` says where the first of them goes.
    ///
    /// # Errors
    /// What the backend's operations say.
    pub fn forward_rows<B: Backend>(
        &self,
        on: &B,
        x: &B::Buf,
        rows: Range<usize>,
        y: &mut B::Buf,
        at: Cols,
        keep: bool,
    ) -> Result<()> {
        let x_at = Cols { first: rows.start * self.shape[1], stride: self.shape[1] };
        let pass = Forward { on, linear: self, x, x_at, rows: rows.len(), at, scale: self.scale, keep };
        if self.watched.is_some() {
            on.see_input(self, x, pass.rows, x_at);
        }
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
        let Forward { on, x, x_at, rows, at, scale, keep, .. } = *pass;
        let [out, width] = self.shape;
        let mut spare = None;
        let weight = on.weight(self, rows, &mut spare)?;
        let x = on.view(x, rows, width, x_at);
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
        self.backward_rows(on, x, 0..on.len(x) / self.shape[1], (dy, at), dx, grads)
    }

    /// The same for some rows of `x`, and of `dx` where there is one; `at` says where the first of them is in `dy`.
    ///
    /// # Errors
    /// What the backend's operations say.
    pub fn backward_rows<B: Backend>(
        &self,
        on: &B,
        x: &B::Buf,
        rows: Range<usize>,
        (dy, at): (&B::Buf, Cols),
        dx: Option<(&mut B::Buf, bool)>,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let [out, width] = self.shape;
        let x_at = Cols { first: rows.start * width, stride: width };
        let rows = rows.len();
        let wanted = self.weight.trained_rows(self.shape);
        for (number, part) in wanted.into_iter().chain(self.watched.map(|number| (number, 0..out))) {
            let d = on.view(dy, rows, part.len(), Cols { first: at.first + part.start, ..at });
            let to = on.grad(grads, number, [part.len(), width])?;
            on.product(to, true, self.scale, d.t(), on.view(x, rows, width, x_at))?;
        }
        if let Some(number) = self.bias.as_ref().and_then(Vector::trained) {
            on.add_column_sums(grads, number, out, dy, rows, at)?;
        }
        let pass = Backward { on, linear: self, x, x_at, rows, dy, at, scale: self.scale };
        match (&self.branch, dx) {
            (Some(branch), dx) => branch.backward(&pass, dx, grads),
            (None, Some((dx, keep))) => self.product_backward(&pass, dx, keep),
            (None, None) => Ok(()),
        }
    }

    /// `dx = keep·dx + scale · dy W`.
    pub(super) fn product_backward<B: Backend>(&self, pass: &Backward<B>, dx: &mut B::Buf, keep: bool) -> Result<()> {
        let Backward { on, x_at, rows, dy, at, scale, .. } = *pass;
        let [out, width] = self.shape;
        let mut spare = None;
        let weight = on.weight(self, rows, &mut spare)?;
        let dx = on.out(dx, rows, width, x_at);
        on.product(dx, keep, scale, on.view(dy, rows, out, at), weight)
    }
}
