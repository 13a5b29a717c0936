//! [`Lora`]: `y = x Wᵀ + s · (x Aᵀ) Bᵀ` (arXiv 2106.09685).
//!
//! Where the tokens outnumber `out · in / (out + in)`, adding `s · B A` to the weight costs less than two thin products
//! over the tokens, forward and again for `dx`; then the branch is in the one large product. Otherwise, under dropout, where the
//! backend does not merge, and where the weight is read as it is kept, the branch is computed by itself.
//!
//! ```text
//! dx = dy (W + s·B A)      dB += s · dyᵀ (x Aᵀ)      dA += s · (dy B)ᵀ x
//! ```

use super::{Backward, Branch, Forward};
use crate::delta::{DeltaWeight, LowRank};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::model::backend::{Backend, Cols, Factor};
use crate::model::linear::Linear;
use crate::model::ops::bf16::reads_halves;
use crate::model::ops::gemm::{Out, View, product};
use crate::model::params::Params;

/// A pair of factors beside a weight.
#[derive(Clone, Debug)]
pub struct Lora {
    /// Number of A, `[r, in]`, among the [`Params`].
    pub a: usize,
    /// Number of B, `[out, r]`.
    pub b: usize,
    /// Rank.
    pub r: usize,
    /// α.
    pub alpha: f64,
    /// `α / r` or `α / √r`.
    pub scaling: f32,
}

impl Lora {
    /// Whether the branch goes into the weight for a product over `rows` tokens: not where the weight is multiplied in bf16 as it is kept,
    /// which is faster than what it would become.
    fn merges<B: Backend>(&self, on: &B, linear: &Linear, rows: usize) -> bool {
        let [out, width] = linear.shape;
        let kept = linear.weight.as_bf16().is_some() && reads_halves(rows, linear.shape);
        on.merges() && !kept && on.dropout().is_none() && rows * (out + width) > out * width
    }

    /// `s · B A`.
    ///
    /// # Errors
    /// When the parameters are not those of the layer.
    pub fn low_rank(&self, params: &Params, [out, width]: [usize; 2]) -> Result<LowRank> {
        let b = Matrix::new(out, self.r, params.value(self.b).to_vec())?;
        let a = Matrix::new(self.r, width, params.value(self.a).to_vec())?;
        let (scaling, epsilon) = (f64::from(self.scaling), f64::from(f32::EPSILON));
        Ok(LowRank { b, a, scaling, epsilon })
    }

    /// Adds `s · B A` to `rows` rows of the weight, from number `first` on.
    pub fn merge_rows(&self, params: &Params, first: usize, rows: usize, values: &mut [f32]) {
        let width = values.len() / rows.max(1);
        let b = View::dense(&params.value(self.b)[first * self.r..], rows, self.r);
        let a = View::dense(params.value(self.a), self.r, width);
        product(Out::dense(values, rows, width), true, self.scaling, b, a);
    }

    /// `x Aᵀ`.
    pub(super) fn down<B: Backend>(&self, on: &B, x: &B::Buf, at: Cols, rows: usize, width: usize) -> Result<B::Buf> {
        let mut xa = on.alloc(rows * self.r)?;
        let a = on.param(self.a, [self.r, width]);
        let out = on.out(&mut xa, rows, self.r, Cols::all(self.r));
        on.product(out, false, 1.0, on.view(x, rows, width, at), a.t())?;
        Ok(xa)
    }

    /// The gradients of A and B, from rows of the gradient by `x W'ᵀ` in `dy` and `scale` times them; gives
    /// `scale · s · dy B`.
    pub(super) fn factors_backward<B: Backend>(
        &self,
        pass: &Backward<B>,
        x: &B::Buf,
        (dy, at): (&B::Buf, Cols),
        scale: f32,
        grads: &mut B::Grads,
    ) -> Result<B::Buf> {
        let (on, rows, [out, width]) = (pass.on, pass.rows, pass.linear.shape);
        let (r, dense, scale) = (self.r, Cols::all(self.r), scale * self.scaling);
        let d = on.view(dy, rows, out, at);
        let mut dyb = on.alloc(rows * r)?;
        on.product(on.out(&mut dyb, rows, r, dense), false, scale, d, on.param(self.b, [out, r]))?;
        let dropped = on.dropout().map(|dropout| on.dropped(dropout, x, self.a)).transpose()?;
        let x = dropped.as_ref().unwrap_or(x);
        let xa = self.down(on, x, pass.x_at, rows, width)?;
        let x = on.view(x, rows, width, pass.x_at);
        on.product(on.grad(grads, self.a, [r, width])?, true, 1.0, on.view(&dyb, rows, r, dense).t(), x)?;
        on.product(on.grad(grads, self.b, [out, r])?, true, scale, d.t(), on.view(&xa, rows, r, dense))?;
        Ok(dyb)
    }
}

impl Branch for Lora {
    fn params(&self) -> Vec<usize> {
        vec![self.a, self.b]
    }

    fn pair(&self) -> &Lora {
        self
    }

    fn forward<B: Backend>(&self, pass: &Forward<B>, y: &mut B::Buf) -> Result<()> {
        let Forward { on, linear, x, x_at, rows, at, scale, .. } = *pass;
        let [out, width] = linear.shape;
        if self.merges(on, linear, rows) {
            let merged = on.merged(linear, self)?;
            let weight = on.view(&merged, out, width, Cols::all(width));
            let x = on.view(x, rows, width, x_at);
            on.product(on.out(y, rows, out, at), pass.keep, scale, x, weight.t())?;
            return linear.add_bias(pass, y);
        }
        linear.product(pass, y)?;
        linear.add_bias(pass, y)?;
        let dropped = on.dropout().map(|dropout| on.dropped(dropout, x, self.a)).transpose()?;
        let xa = self.down(on, dropped.as_ref().unwrap_or(x), x_at, rows, width)?;
        let (xa, b) = (on.view(&xa, rows, self.r, Cols::all(self.r)), on.param(self.b, [out, self.r]));
        on.product(on.out(y, rows, out, at), true, scale * self.scaling, xa, b.t())
    }

    fn backward<B: Backend>(
        &self,
        pass: &Backward<B>,
        mut dx: Option<(&mut B::Buf, bool)>,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let Backward { on, linear, x, x_at, rows, dy, at, scale } = *pass;
        let [out, width] = linear.shape;
        let (whole, r) = (Cols::all(width), self.r);
        let merges = self.merges(on, linear, rows);
        if let Some((dx, keep)) = &mut dx {
            if merges {
                let merged = on.merged(linear, self)?;
                let weight = on.view(&merged, out, width, whole);
                on.product(on.out(dx, rows, width, x_at), *keep, scale, on.view(dy, rows, out, at), weight)?;
            } else {
                linear.product_backward(pass, dx, *keep)?;
            }
        }
        let dyb = self.factors_backward(pass, x, (dy, at), scale, grads)?;
        let Some((dx, _)) = dx.filter(|_| !merges) else { return Ok(()) };
        let (dyb, a) = (on.view(&dyb, rows, r, Cols::all(r)), on.param(self.a, [r, width]));
        match on.dropout() {
            None => on.product(on.out(dx, rows, width, x_at), true, 1.0, dyb, a),
            Some(dropout) => {
                let mut branch = on.alloc(rows * width)?;
                on.product(on.out(&mut branch, rows, width, whole), false, 1.0, dyb, a)?;
                on.add_dropped(dropout, dx, branch, self.a)
            }
        }
    }

    fn delta(&self, params: &Params, linear: &Linear) -> Result<DeltaWeight> {
        self.low_rank(params, linear.shape).map(DeltaWeight::LowRank)
    }
}
