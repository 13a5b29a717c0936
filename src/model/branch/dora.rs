//! [`Dora`]: `y = x (g ∘ V)ᵀ`, `V = W + s · B A`, `g = m / ‖V‖` row by row (arXiv 2402.09353), as PEFT computes it: the norm
//! counts as a constant on the way back, and under dropout only what the branch adds reads the dropped input `x̃`:
//! `y = x Wᵀ + x̃ (g ∘ V − W)ᵀ`.
//!
//! ```text
//! dx = (g ∘ dy) V      dm = Σ dy ∘ (x Vᵀ) / ‖V‖      A and B: as LoRA's, from g ∘ dy
//! ```

use super::{Backward, Branch, Forward, Lora};
use crate::delta::{DeltaWeight, Dense};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::model::backend::{Backend, Cols, Factor};
use crate::model::linear::Linear;
use crate::model::ops::magnitude;
use crate::model::params::Params;
use std::sync::Arc;

/// A pair of factors and a magnitude for every row of the weight.
#[derive(Clone, Debug)]
pub struct Dora {
    /// The pair.
    pub lora: Lora,
    /// Number of m, `[out]`, among the [`Params`].
    pub magnitude: usize,
}

impl Dora {
    /// `V` and the norms of its rows.
    fn sum<B: Backend>(&self, on: &B, linear: &Linear) -> Result<(B::Buf, B::Buf)> {
        let sum = on.merged(linear, &self.lora)?;
        let norms = on.row_norms(&sum, linear.shape)?;
        Ok((sum, norms))
    }

    /// `W'`, of `W` in `values`.
    pub fn apply(&self, params: &Params, [out, _]: [usize; 2], values: &mut [f32]) {
        self.lora.merge_rows(params, 0, out, values);
        let norms = magnitude::row_norms(values, out);
        magnitude::scale_rows(values, params.value(self.magnitude), &norms);
    }
}

impl Branch for Dora {
    fn params(&self) -> Vec<usize> {
        vec![self.lora.a, self.lora.b, self.magnitude]
    }

    fn pair(&self) -> &Lora {
        &self.lora
    }

    fn forward<B: Backend>(&self, pass: &Forward<B>, y: &mut B::Buf) -> Result<()> {
        let Forward { on, linear, x, x_at, rows, at, scale, keep } = *pass;
        let [out, width] = linear.shape;
        let dropped = on.dropout().map(|dropout| on.dropped(dropout, x, self.lora.a)).transpose()?;
        if let Some(dropped) = &dropped {
            linear.product(pass, y)?;
            linear.product(&Forward { x: dropped, scale: -scale, keep: true, ..*pass }, y)?;
        }
        let (mut weight, norms) = self.sum(on, linear)?;
        on.scale_rows(&mut weight, linear.shape, self.magnitude, &norms)?;
        let (x, weight) = (dropped.as_ref().unwrap_or(x), on.view(&weight, out, width, Cols::all(width)));
        let x = on.view(x, rows, width, x_at);
        on.product(on.out(y, rows, out, at), keep || dropped.is_some(), scale, x, weight.t())?;
        linear.add_bias(pass, y)
    }

    fn backward<B: Backend>(
        &self,
        pass: &Backward<B>,
        dx: Option<(&mut B::Buf, bool)>,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let Backward { on, linear, x, rows, dy, at, scale, .. } = *pass;
        let [out, width] = linear.shape;
        let (sum, norms) = self.sum(on, linear)?;
        let scaled = on.scale_columns(dy, rows, at, linear.shape, self.magnitude, &norms)?;
        let (whole, dense) = (Cols::all(width), Cols::all(out));
        let (v, d) = (on.view(&sum, out, width, whole), on.view(&scaled, rows, out, dense));
        match (dx, on.dropout()) {
            (Some((dx, keep)), None) => on.product(on.out(dx, rows, width, whole), keep, scale, d, v)?,
            (Some((dx, keep)), Some(dropout)) => {
                linear.product_backward(pass, dx, keep)?;
                let mut branch = on.alloc(rows * width)?;
                on.product(on.out(&mut branch, rows, width, whole), false, scale, d, v)?;
                linear.product_backward(&Backward { scale: -scale, ..*pass }, &mut branch, true)?;
                on.add_dropped(dropout, dx, branch, self.lora.a)?;
            }
            (None, _) => {}
        }
        {
            let dropped = on.dropout().map(|dropout| on.dropped(dropout, x, self.lora.a)).transpose()?;
            let mut plain = on.alloc(rows * out)?;
            let x = on.view(dropped.as_ref().unwrap_or(x), rows, width, whole);
            on.product(on.out(&mut plain, rows, out, dense), false, scale, x, v.t())?;
            on.add_magnitude(grads, self.magnitude, (dy, at), &plain, rows, &norms)?;
        }
        drop(sum);
        self.lora.factors_backward(pass, x, (&scaled, dense), scale, grads)?;
        Ok(())
    }

    fn delta(&self, params: &Params, linear: &Linear) -> Result<DeltaWeight> {
        let [out, width] = linear.shape;
        let mut before = vec![0.0; out * width];
        linear.weight.rows(params, 0..out, width, &mut before);
        let mut values = before.clone();
        self.apply(params, linear.shape, &mut values);
        values.iter_mut().zip(&before).for_each(|(x, before)| *x -= before);
        let matrix = Arc::new(Matrix::new(out, width, values)?);
        Ok(DeltaWeight::Dense(Dense { matrix, epsilon: f64::from(f32::EPSILON), rounding_std: None }))
    }
}
