//! The singular values of `s · B A` without ever forming the product.
//!
//! `B = Q_B R_B`, `Aᵀ = Q_A R_A`, so `s · B A = Q_B (s R_B R_Aᵀ) Q_Aᵀ`: the core has at most `r × r` values, and its SVD is the
//! SVD of the whole. All in `f64`.
//!
//! Without vectors only the two R are needed, and `BᵀB = RᵀR` gives them in a fraction of the time, as long as B's columns are
//! not nearly dependent. Else Householder reflections do it, which do not mind that B is zero, as in a fresh adapter, or that
//! `r` exceeds `m` or `n`.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj,
};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Conj, Mat, MatRef, Par, Side};

use super::{Found, failed, gram, leading, par_for, widen};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::spectrum::Vectors;

/// Smallest ratio of two diagonal elements of R that the way through `BᵀB` is trusted with: it loses the square.
const INDEPENDENT: f64 = 1e-3;

/// `min(r, m, n)` singular values of `scaling · b a`, and `vectors` leading pairs (at most as many as there are values).
pub fn decompose(b: &Matrix, a: &Matrix, scaling: f64, vectors: usize) -> Result<Found> {
    let thin = b.cols() > 0 && b.rows() > b.cols() && a.cols() > a.rows();
    if vectors == 0
        && thin
        && let Some((left, right)) = lower(b)?.zip(lower(a)?)
    {
        let (sigma, _, _) = core_svd(left.transpose() * right * faer::Scale(scaling), false)?;
        return Ok(Found { sigma, tolerance: None, vectors: None });
    }
    let left = Qr::new(widen(b));
    let right = Qr::new(Mat::from_fn(a.cols(), a.rows(), |i, j| f64::from(a.get(j, i))));
    let (sigma, u, v) = core_svd(left.r() * right.r().transpose() * faer::Scale(scaling), vectors > 0)?;
    let k = vectors.min(sigma.len());
    let vectors = (vectors > 0).then(|| Vectors {
        u: leading(left.apply(u.as_ref().subcols(0, k)).as_ref(), k),
        v: leading(right.apply(v.as_ref().subcols(0, k)).as_ref(), k),
    });
    Ok(Found { sigma, tolerance: None, vectors })
}

/// `Rᵀ` of a thin factor by Cholesky of its Gram matrix; `None` where QR is called for.
fn lower(x: &Matrix) -> Result<Option<Mat<f64>>> {
    let Ok(cholesky) = gram::gram(x, &())?.llt(Side::Lower) else { return Ok(None) };
    let lower = cholesky.L().to_owned();
    let diagonal = lower.diagonal().column_vector();
    let (least, most) = diagonal.iter().fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), &x| (a.min(x), b.max(x)));
    Ok((least > INDEPENDENT * most).then_some(lower))
}

/// The SVD of the core; U and V are empty unless `vectors`.
fn core_svd(core: Mat<f64>, vectors: bool) -> Result<(Vec<f64>, Mat<f64>, Mat<f64>)> {
    let (p, q) = (core.nrows(), core.ncols());
    let count = p.min(q);
    let thin = if vectors { ComputeSvdVectors::Thin } else { ComputeSvdVectors::No };
    let par = par_for(10 * p * q * count);
    let mut sigma = Diag::<f64>::zeros(count);
    let columns = if vectors { count } else { 0 };
    let (mut u, mut v) = (Mat::<f64>::zeros(p, columns), Mat::<f64>::zeros(q, columns));
    let mut memory = MemBuffer::new(svd_scratch::<f64>(p, q, thin, thin, par, Default::default()));
    svd(
        core.as_ref(),
        sigma.as_mut(),
        vectors.then(|| u.as_mut()),
        vectors.then(|| v.as_mut()),
        par,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .map_err(|_| failed("the singular value decomposition of the core"))?;
    Ok((sigma.column_vector().iter().copied().collect(), u, v))
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
