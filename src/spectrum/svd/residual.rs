//! What a truncated decomposition leaves of its matrix, summed without forming the approximation.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef};

use super::{par_for, view};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::spectrum::Vectors;

/// Rows at a time.
const PANEL: usize = 256;

/// `‖W − U S Vᵀ‖_F`; `sigma` is as long as there are vectors. Products in `f32`, sums in `f64`.
pub fn norm(w: &Matrix, sigma: &[f64], vectors: &Vectors, progress: &dyn Progress) -> Result<f64> {
    let (n, k) = (w.cols(), vectors.count().min(sigma.len()));
    let v = MatRef::from_row_major_slice(vectors.v.data(), n, vectors.count()).subcols(0, k);
    let mut sum = 0.0;
    for first in (0..w.rows()).step_by(PANEL) {
        progress.step(first as u64, w.rows() as u64)?;
        let rows = PANEL.min(w.rows() - first);
        let us = Mat::from_fn(rows, k, |i, j| (f64::from(vectors.u.get(first + i, j)) * sigma[j]) as f32);
        let mut left = view(w).subrows(first, rows).to_owned();
        matmul(left.as_mut(), Accum::Add, us.as_ref(), v.transpose(), -1f32, par_for(2 * rows * n * k));
        for j in 0..n {
            sum += left.col(j).iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        }
    }
    progress.step(w.rows() as u64, w.rows() as u64)?;
    Ok(sum.sqrt())
}
