//! The linear layer: `y = x Wᵀ + b + s · (x Aᵀ) Bᵀ`.
//!
//! A 4-bit weight is dequantized into memory that lives for one product. The branch is never added to the weight, as it is on
//! the processor: in bf16 a small `s · B A` would be lost in the rounding of W.

use super::memory::{Span, Tensor};
use super::ops::{Gpu, Mat};
use super::weights::{Matrix, ParamStore, Vector};
use crate::error::Result;
use crate::model::linear;
use crate::model::params::Params;
use crate::model::{Dropout, Lora};

#[derive(Debug)]
pub(super) struct Linear {
    pub(super) shape: [usize; 2],
    pub(super) weight: Matrix,
    bias: Option<Vector>,
    lora: Option<Lora>,
}

/// What a pass needs everywhere.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub gpu: &'a Gpu,
    pub params: &'a ParamStore,
    pub dropout: Option<Dropout>,
}

impl Linear {
    pub(super) fn put(gpu: &Gpu, linear: &linear::Linear, params: &Params) -> Result<Self> {
        Ok(Self {
            shape: linear.shape,
            weight: Matrix::upload(gpu, &linear.weight, params, linear.shape)?,
            bias: linear.bias.as_ref().map(|bias| Vector::upload(gpu, bias)).transpose()?,
            lora: linear.lora.clone(),
        })
    }

    /// `y = keep·y + …`, where `y` has rows `stride` apart.
    pub(super) fn forward(&self, run: Run, x: &Tensor, y: Span, stride: usize, keep: bool) -> Result<()> {
        let Run { gpu, params, dropout } = run;
        let [out, inner] = self.shape;
        let rows = x.len() / inner;
        let y_rows = Mat::new(y, rows, out, stride);
        {
            let mut spare = None;
            let weight = Mat::dense(self.weight.values(gpu, params, &mut spare)?, out, inner);
            gpu.product(y_rows, keep, 1.0, Mat::dense(x.all(), rows, inner), weight.t(), 1)?;
        }
        if let Some(bias) = &self.bias {
            gpu.add_bias(y, rows, stride, bias.values(params).0)?;
        }
        if let Some(lora) = &self.lora {
            let dropped = dropped(gpu, dropout, x, lora.a)?;
            let xa = down(run, lora, dropped.as_ref().unwrap_or(x), rows, inner)?;
            let b = Mat::dense(params.working(lora.b), out, lora.r);
            gpu.product(y_rows, true, lora.scaling, Mat::dense(xa.all(), rows, lora.r), b.t(), 1)?;
        }
        Ok(())
    }

    /// Adds to the gradients of what is trained here; `dx = keep·dx + …` where there is one. `dy` as `y` in
    /// [`forward`](Self::forward).
    pub(super) fn backward(
        &self,
        run: Run,
        x: &Tensor,
        dy: Span,
        stride: usize,
        dx: Option<(&Tensor, bool)>,
    ) -> Result<()> {
        let Run { gpu, params, dropout } = run;
        let [out, inner] = self.shape;
        let rows = x.len() / inner;
        let d = Mat::new(dy, rows, out, stride);
        if let Some(gradient) = self.weight.trained().and_then(|number| params.gradient(number)) {
            gpu.product(Mat::dense(gradient, out, inner), true, 1.0, d.t(), Mat::dense(x.all(), rows, inner), 1)?;
        }
        if let Some(gradient) = self.bias.as_ref().and_then(Vector::trained).and_then(|number| params.gradient(number))
        {
            gpu.add_column_sums(gradient, dy, rows, stride)?;
        }
        if let Some((dx, keep)) = dx {
            let mut spare = None;
            let weight = Mat::dense(self.weight.values(gpu, params, &mut spare)?, out, inner);
            gpu.product(Mat::dense(dx.all(), rows, inner), keep, 1.0, d, weight, 1)?;
        }
        let Some(lora) = &self.lora else { return Ok(()) };
        let (Some(da), Some(db)) = (params.gradient(lora.a), params.gradient(lora.b)) else { return Ok(()) };
        let r = lora.r;
        let (a, b) = (Mat::dense(params.working(lora.a), r, inner), Mat::dense(params.working(lora.b), out, r));
        let dyb = gpu.alloc(rows * r)?;
        let dyb = Mat::dense(dyb.all(), rows, r);
        gpu.product(dyb, false, lora.scaling, d, b, 1)?;
        let dropped = dropped(gpu, dropout, x, lora.a)?;
        let x = dropped.as_ref().unwrap_or(x);
        let xa = down(run, lora, x, rows, inner)?;
        gpu.product(Mat::dense(da, r, inner), true, 1.0, dyb.t(), Mat::dense(x.all(), rows, inner), 1)?;
        gpu.product(Mat::dense(db, out, r), true, lora.scaling, d.t(), Mat::dense(xa.all(), rows, r), 1)?;
        let Some((dx, _)) = dx else { return Ok(()) };
        match dropout {
            None => gpu.product(Mat::dense(dx.all(), rows, inner), true, 1.0, dyb, a, 1),
            Some(dropout) => {
                let branch = gpu.alloc(rows * inner)?;
                gpu.product(Mat::dense(branch.all(), rows, inner), false, 1.0, dyb, a, 1)?;
                gpu.dropout(dropout, lora.a, branch.all(), dx, true)
            }
        }
    }
}

fn dropped(gpu: &Gpu, dropout: Option<Dropout>, x: &Tensor, place: usize) -> Result<Option<Tensor>> {
    let Some(dropout) = dropout else { return Ok(None) };
    let to = gpu.alloc(x.len())?;
    gpu.dropout(dropout, place, x.all(), &to, false)?;
    Ok(Some(to))
}

/// `x Aᵀ`.
fn down(run: Run, lora: &Lora, x: &Tensor, rows: usize, inner: usize) -> Result<Tensor> {
    let xa = run.gpu.alloc(rows * lora.r)?;
    let a = Mat::dense(run.params.working(lora.a), lora.r, inner);
    run.gpu.product(Mat::dense(xa.all(), rows, lora.r), false, 1.0, Mat::dense(x.all(), rows, inner), a.t(), 1)?;
    Ok(xa)
}
