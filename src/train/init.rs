//! The first A and B from the base weight, and what of the weight then stays frozen.
//!
//! ```text
//! PiSSA   W = U S Vᵀ    B = U_r √(S_r/s)    A = √(S_r/s) V_rᵀ    frozen: W − s·B A, in 4 bits under qlora (QPiSSA)
//! LoftQ   Q = q(W − B A), then B = U_r √S_r, A = √S_r V_rᵀ of W − Q, so often as asked for (B A = 0 at first);    frozen: Q
//! ```
//!
//! PiSSA is arXiv 2404.02948, LoftQ arXiv 2310.08659, both as PEFT computes them (`init_lora_weights="pissa"`, `"loftq"`): the same
//! products; the sign of a pair of rows and columns is its SVD's own. LoftQ's B A is not divided by the scaling there, so it
//! repairs the rounding only where s = 1.

use crate::delta::{DeltaWeight, Dense};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::model::ops::gemm::{Out, View, parallel};
use crate::progress::Progress;
use crate::quant::{Quantized, Reading, Scheme};
use crate::spectrum::leading;
use std::sync::Arc;

/// A `[r, in]` and B `[out, r]`.
pub struct Pair {
    pub a: Matrix,
    pub b: Matrix,
}

/// The pair, and `W − s·B A`.
pub fn pissa(w: Matrix, r: usize, scaling: f32, progress: &dyn Progress) -> Result<(Pair, Matrix)> {
    let w = Arc::new(w);
    let pair = largest(&w, r, f64::from(scaling), progress)?;
    let residual = minus(&w, &pair, scaling);
    Ok((pair, residual))
}

/// The pair, and Q.
pub fn loftq(
    w: &Matrix,
    r: usize,
    scheme: Scheme,
    iterations: usize,
    progress: &dyn Progress,
) -> Result<(Pair, Quantized)> {
    let (mut rest, mut iteration) = (w.clone(), 1);
    loop {
        let quantized = Quantized::new(rest.data(), w.shape(), scheme)?.with_reading(Reading::Exact);
        quantized.dequantize(rest.data_mut());
        rest.data_mut().iter_mut().zip(w.data()).for_each(|(q, w)| *q = w - *q);
        let pair = largest(&Arc::new(rest), r, 1.0, progress)?;
        if iteration >= iterations.max(1) {
            return Ok((pair, quantized));
        }
        rest = minus(w, &pair, 1.0);
        iteration += 1;
    }
}

/// The best `s·B A` of rank r, its singular values shared evenly.
fn largest(w: &Arc<Matrix>, r: usize, scaling: f64, progress: &dyn Progress) -> Result<Pair> {
    let dense = Dense { matrix: w.clone(), epsilon: f64::from(f32::EPSILON), rounding_std: None };
    let (sigma, vectors) = leading(&DeltaWeight::Dense(dense), r, progress)?;
    let root: Vec<f32> = sigma.iter().map(|sigma| (sigma / scaling).sqrt() as f32).collect();
    let value = |matrix: &Matrix, row: usize, i: usize| if i < root.len() { matrix.get(row, i) * root[i] } else { 0.0 };
    let a = Matrix::from_fn(r, w.cols(), |i, col| value(&vectors.v, col, i));
    let b = Matrix::from_fn(w.rows(), r, |row, i| value(&vectors.u, row, i));
    Ok(Pair { a, b })
}

/// `W − s·B A`.
fn minus(w: &Matrix, Pair { a, b }: &Pair, scaling: f32) -> Matrix {
    let (out, inner, r) = (w.rows(), w.cols(), a.rows());
    let mut rest = w.clone();
    let b = View::dense(b.data(), out, r);
    parallel(Out::dense(rest.data_mut(), out, inner), true, -scaling, b, View::dense(a.data(), r, inner));
    rest
}
