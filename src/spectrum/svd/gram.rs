//! Every singular value, from the Gram matrix of the short side.
//!
//! `W Wᵀ = U S² Uᵀ` for `m ≤ n`, else `Wᵀ W`. The products of two `f32` are exact in `f64`, so squaring costs no more than
//! `sqrt(ε₆₄) σ₁ ≈ 1e-8 σ₁` in the smallest values: far below what `f32` weights know about themselves.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef};
use rayon::prelude::*;

use super::chase::{Band, Tridiagonal};
use super::{Found, band, failed, krylov, leading, par, par_for, tridiagonal, view, widen};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::{Part, Progress};
use crate::spectrum::Vectors;

/// What a spectrum says of how it was computed.
pub const METHOD: &str = "gram f64";

/// Columns or rows of the long side that are widened to `f64` and multiplied at once: at least so many, or 8 MiB.
const PANEL: usize = 256;
const PANEL_VALUES: usize = 1 << 20;

/// Below this share of σ₁ a product in `f32` is rounding.
const FLOOR: f64 = 1e-6;

/// Up to this short side a plain `f64` SVD takes no time, and is accurate to the last value.
const SMALL: usize = 96;

/// All singular values, and `vectors` leading pairs.
pub fn decompose(w: &Matrix, vectors: usize, progress: &dyn Progress) -> Result<Found> {
    let short = w.rows().min(w.cols());
    let vectors = vectors.min(short);
    if short <= SMALL {
        progress.step(0, 1)?;
        return small(w, vectors);
    }
    let parts = 2 + u64::from(vectors > 0);
    let gram = gram(w, &Part::new(progress, 0, parts))?;
    progress.step(1, parts)?;
    if vectors > 0 && !krylov::vectors_pay(short, vectors) {
        return all_vectors(w, gram, vectors);
    }
    let sigma = roots(gram, &Part::new(progress, 1, parts))?;
    let vectors = match vectors {
        0 => None,
        k => krylov::vectors(w, k, &Part::new(progress, 2, parts))?.vectors,
    };
    Ok(Found { sigma, tolerance: None, vectors })
}

fn small(w: &Matrix, vectors: usize) -> Result<Found> {
    let wide = widen(w);
    if vectors == 0 {
        let sigma = wide.singular_values().map_err(|_| failed("the singular value decomposition"))?;
        return Ok(Found { sigma, tolerance: None, vectors: None });
    }
    let svd = wide.thin_svd().map_err(|_| failed("the singular value decomposition"))?;
    let sigma = svd.S().column_vector().iter().copied().collect();
    let vectors = Vectors { u: leading(svd.U(), vectors), v: leading(svd.V(), vectors) };
    Ok(Found { sigma, tolerance: None, vectors: Some(vectors) })
}

/// The lower triangle of `W Wᵀ` or `Wᵀ W`, whichever is smaller.
pub fn gram(w: &Matrix, progress: &dyn Progress) -> Result<Mat<f64>> {
    let (m, n) = (w.rows(), w.cols());
    let (short, long) = (m.min(n), m.max(n));
    let most = PANEL.max(PANEL_VALUES / short.max(1)).min(long.max(1));
    let mut gram = Mat::<f64>::zeros(short, short);
    let mut panel = vec![0.0f64; short * most];
    let panels = long.div_ceil(most) as u64;
    for (index, from) in (0..long).step_by(most).enumerate() {
        progress.step(index as u64, panels)?;
        let width = most.min(long - from);
        let panel = &mut panel[..short * width];
        // Pᵀ for the columns of a wide matrix, P for the rows of a tall one: `gram += Pᵀ P` with P of `width × short`.
        let p = if m <= n {
            panel.par_chunks_mut(width).enumerate().for_each(|(row, to)| {
                to.iter_mut().zip(&w.row(row)[from..]).for_each(|(to, &x)| *to = f64::from(x));
            });
            MatRef::from_column_major_slice(panel, width, short)
        } else {
            let source = &w.data()[from * n..][..panel.len()];
            panel.par_chunks_mut(short).zip(source.par_chunks(short)).for_each(|(to, from)| {
                to.iter_mut().zip(from).for_each(|(to, &x)| *to = f64::from(x));
            });
            MatRef::from_row_major_slice(panel, width, short)
        };
        triangular::matmul(
            gram.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Add,
            p.transpose(),
            BlockStructure::Rectangular,
            p,
            BlockStructure::Rectangular,
            1.0,
            par_for(short * short * width),
        );
    }
    Ok(gram)
}

/// The roots of the eigenvalues of a Gram matrix, largest first; only its lower triangle is read.
pub fn roots(gram: Mat<f64>, progress: &dyn Progress) -> Result<Vec<f64>> {
    let band = band::reduce(gram, &Part::new(progress, 0, 2))?;
    roots_of_band(band, &Part::new(progress, 1, 2))
}

/// The same of a Gram matrix that is a band.
pub fn roots_of_band(band: Band, progress: &dyn Progress) -> Result<Vec<f64>> {
    let Tridiagonal { diagonal, off } = band.tridiagonal(progress)?;
    let mut sigma = tridiagonal::eigenvalues(diagonal, off).ok_or_else(|| failed("the eigenvalue decomposition"))?;
    sigma.iter_mut().for_each(|s| *s = s.max(0.0).sqrt());
    sigma.sort_by(|a, b| b.total_cmp(a));
    Ok(sigma)
}

/// Values and vectors from all eigenvectors of the Gram matrix: `U`, then `V = Wᵀ U / σ`.
fn all_vectors(w: &Matrix, gram: Mat<f64>, vectors: usize) -> Result<Found> {
    let n = gram.nrows();
    let (sigma, basis) = eigenvectors(&gram)?;
    drop(gram);
    let near = Mat::<f32>::from_fn(n, vectors, |i, j| basis[(i, n - 1 - j)] as f32);
    drop(basis);
    let wide = w.rows() <= w.cols();
    let far = if wide { view(w).transpose() * &near } else { view(w) * &near };
    let near = Matrix::from_fn(n, vectors, |i, j| near[(i, j)]);
    // Of length one by its own measure; pairs whose value is rounding have only one vector to speak of.
    let scale: Vec<f64> = (0..vectors)
        .map(|j| {
            let norm = (0..far.nrows()).map(|i| f64::from(far[(i, j)]).powi(2)).sum::<f64>().sqrt();
            if sigma[j] > FLOOR * sigma[0] && norm > 0.0 { 1.0 / norm } else { 0.0 }
        })
        .collect();
    let far = Matrix::from_fn(far.nrows(), vectors, |i, j| (f64::from(far[(i, j)]) * scale[j]) as f32);
    let vectors = if wide { Vectors { u: near, v: far } } else { Vectors { u: far, v: near } };
    Ok(Found { sigma, tolerance: None, vectors: Some(vectors) })
}

/// The roots of the eigenvalues, largest first, and the eigenvectors as faer orders them: smallest first.
pub fn eigenvectors(gram: &Mat<f64>) -> Result<(Vec<f64>, Mat<f64>)> {
    let n = gram.nrows();
    let mut values = Diag::<f64>::zeros(n);
    let mut basis = Mat::<f64>::zeros(n, n);
    let params = Default::default();
    let mut memory = MemBuffer::new(self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, par(), params));
    self_adjoint_evd(gram.as_ref(), values.as_mut(), Some(basis.as_mut()), par(), MemStack::new(&mut memory), params)
        .map_err(|_| failed("the eigenvalue decomposition"))?;
    Ok((values.column_vector().iter().rev().map(|s| s.max(0.0).sqrt()).collect(), basis))
}
