//! The singular values of `s · B A` without ever forming the product.
//!
//! `B = Q_B R_B`, `Aᵀ = Q_A R_A`, so `s · B A = Q_B (s R_B R_Aᵀ) Q_Aᵀ`: the core has at most `r × r` values, and its SVD is the
//! SVD of the whole. All in `f64`; Householder reflections do not mind that B is zero, as in a fresh adapter, or that `r` exceeds
//! `m` or `n`.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj,
};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Conj, Mat, MatRef, Par};

use super::{Found, failed, leading, par_for, widen};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::spectrum::Vectors;

/// `min(r, m, n)` singular values of `scaling · b a`, and `vectors` leading pairs (at most as many as there are values).
pub fn decompose(b: &Matrix, a: &Matrix, scaling: f64, vectors: usize) -> Result<Found> {
    let left = Qr::new(widen(b));
    // A row-major is Aᵀ column-major.
    let right = Qr::new(Mat::from_fn(a.cols(), a.rows(), |i, j| f64::from(a.get(j, i))));
    let core = faer::Scale(scaling) * (left.r() * right.r().transpose());
    let (p, q) = (core.nrows(), core.ncols());
    let count = p.min(q);
    let k = vectors.min(count);
    let thin = if k > 0 { ComputeSvdVectors::Thin } else { ComputeSvdVectors::No };
    let par = par_for(10 * p * q * count);
    let mut sigma = Diag::<f64>::zeros(count);
    let (mut u, mut v) = (Mat::<f64>::zeros(p, count), Mat::<f64>::zeros(q, count));
    let mut memory = MemBuffer::new(svd_scratch::<f64>(p, q, thin, thin, par, Default::default()));
    let keep = k > 0;
    svd(
        core.as_ref(),
        sigma.as_mut(),
        keep.then(|| u.as_mut()),
        keep.then(|| v.as_mut()),
        par,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .map_err(|_| failed("the singular value decomposition of the core"))?;
    let vectors = (vectors > 0).then(|| Vectors {
        u: leading(left.apply(u.as_ref().subcols(0, k)).as_ref(), k),
        v: leading(right.apply(v.as_ref().subcols(0, k)).as_ref(), k),
    });
    Ok(Found { sigma: sigma.column_vector().iter().copied().collect(), tolerance: None, vectors })
}

/// `X = Q R` with Q kept as reflections.
pub struct Qr {
    reflections: Mat<f64>,
    coefficients: Mat<f64>,
    par: Par,
}

impl Qr {
    /// Of a matrix of any shape, zero included.
    pub fn new(mut x: Mat<f64>) -> Self {
        let (rows, cols) = (x.nrows(), x.ncols());
        let size = rows.min(cols);
        let par = par_for(2 * rows * cols * size);
        let block = recommended_block_size::<f64>(rows, cols).max(1);
        let mut coefficients = Mat::<f64>::zeros(block, size);
        if size > 0 {
            let mut memory = MemBuffer::new(qr_in_place_scratch::<f64>(rows, cols, block, par, Default::default()));
            qr_in_place(x.as_mut(), coefficients.as_mut(), par, MemStack::new(&mut memory), Default::default());
        }
        Self { reflections: x, coefficients, par }
    }

    /// The upper trapezoid, `min(rows, cols) × cols`.
    pub fn r(&self) -> Mat<f64> {
        let size = self.coefficients.ncols();
        Mat::from_fn(size, self.reflections.ncols(), |i, j| if i <= j { self.reflections[(i, j)] } else { 0.0 })
    }

    /// `Q x`, with `x` of `min(rows, cols)` rows.
    pub fn apply(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        let (rows, size) = (self.reflections.nrows(), self.coefficients.ncols());
        let mut out = Mat::<f64>::zeros(rows, x.ncols());
        out.as_mut().subrows_mut(0, size).copy_from(x);
        if size > 0 && x.ncols() > 0 {
            let mut memory = MemBuffer::new(apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(
                rows,
                self.coefficients.nrows(),
                x.ncols(),
            ));
            apply_block_householder_sequence_on_the_left_in_place_with_conj(
                self.reflections.as_ref().subcols(0, size),
                self.coefficients.as_ref(),
                Conj::No,
                out.as_mut(),
                self.par,
                MemStack::new(&mut memory),
            );
        }
        out
    }
}
