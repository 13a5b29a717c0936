//! Eigenvalues of a symmetric matrix, without vectors, first to a band and then to three diagonals.
//!
//! The textbook reduction to three diagonals spends half of its operations on products of the whole matrix with one vector:
//! that runs at the speed of memory, and cannot be stopped. Here panels of `b` columns are reduced at once,
//!
//! ```text
//!   A22 ← Qᵀ A22 Q = A22 - V Wᵀ - W Vᵀ,   Q = I - V S Vᵀ,   X = A22 V S,   W = X - ½ V Sᵀ Vᵀ X
//! ```
//!
//! all of it matrix products, until `2 b + 1` diagonals are left; `chase` takes those to three. (Bischof, Lang & Sun
//! 2000, ACM TOMS 26(4).)

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatMut, MatRef};
use rayon::prelude::*;

use super::chase::Band;
use super::lanes::{self, Reflection};
use super::par_for;
use crate::error::Result;
use crate::progress::Progress;

/// Diagonals that are left below the main one. Wider makes the products here faster, which tells once the matrix has left the
/// caches, and the chase slower.
fn width(n: usize) -> usize {
    if n > 3000 { 64 } else { 32 }
}

/// Reduces the symmetric matrix whose lower triangle `a` holds to a band with the same eigenvalues; `a` is used up.
pub fn reduce(mut a: Mat<f64>, progress: &dyn Progress) -> Result<Band> {
    let n = a.nrows();
    let most = width(n);
    let mut band = Band::new(n, most);
    let mut work = Work::new(n * most);
    let mut first = 0;
    // Operations done and to do: the cube of what is left.
    let left = |first: usize| ((n - first) as u64).pow(3) >> 10;
    while first < n {
        progress.step(left(0) - left(first), left(0).max(1))?;
        let width = most.min(n - first);
        let below = n - first - width;
        // The diagonal block is final.
        band.put(a.as_ref().submatrix(first, first, width, width), first, first);
        if below > 0 {
            let (_, _, panel, trailing) = a.as_mut().split_at_mut(first + width, first + width);
            let mut panel = panel.subcols_mut(first, width);
            work.factor(&mut panel, trailing);
            band.put(panel.as_ref(), first + width, first);
        }
        first += width;
    }
    Ok(band)
}

/// Buffers for the largest panel.
struct Work {
    /// The reflections V, `m × b`, column-major.
    v: Vec<f64>,
    /// `[V W]`, `m × 2b`.
    vw: Vec<f64>,
    /// `[W V]`.
    wv: Vec<f64>,
    /// `A22 V`.
    x: Vec<f64>,
}

impl Work {
    fn new(size: usize) -> Self {
        let buffer = |count| vec![0.0; count * size];
        Self { v: buffer(1), vw: buffer(2), wv: buffer(2), x: buffer(1) }
    }

    /// Makes the panel upper triangular by reflections from the left, and applies them to both sides of the trailing matrix.
    fn factor(&mut self, panel: &mut MatMut<'_, f64>, mut trailing: MatMut<'_, f64>) {
        let (m, width) = (panel.nrows(), panel.ncols());
        let size = m * width;
        let reflections = &mut self.v[..size];
        for (j, column) in reflections.chunks_mut(m).enumerate() {
            column.iter_mut().enumerate().for_each(|(i, x)| *x = panel[(i, j)]);
        }
        let taus = factor_columns(reflections, m);
        // R to the panel, the reflections' unit diagonal and zeros above it in its place.
        for (j, column) in reflections.chunks_mut(m).enumerate() {
            let top = (j + 1).min(m);
            for i in 0..m {
                panel[(i, j)] = if i < top { column[i] } else { 0.0 };
            }
            column[..top].fill(0.0);
            if j < m {
                column[j] = 1.0;
            }
        }
        if taus.iter().all(|&tau| tau == 0.0) {
            return;
        }
        let v = MatRef::from_column_major_slice(reflections, m, width);
        let s = compact(v, &taus);
        let par = par_for(2 * m * m * width);
        // X = A22 V S, with A22 = L + strictly lower Lᵀ.
        let lower = trailing.as_ref();
        let mut product = MatMut::from_column_major_slice_mut(&mut self.x[..size], m, width);
        let square = BlockStructure::Rectangular;
        triangular::matmul(
            product.as_mut(),
            square,
            Accum::Replace,
            lower,
            BlockStructure::TriangularLower,
            v,
            square,
            1.0,
            par,
        );
        let upper = BlockStructure::StrictTriangularUpper;
        triangular::matmul(product.as_mut(), square, Accum::Add, lower.transpose(), upper, v, square, 1.0, par);
        let (head, tail) = self.vw[..2 * size].split_at_mut(size);
        head.copy_from_slice(reflections);
        let mut w = MatMut::from_column_major_slice_mut(tail, m, width);
        matmul(w.as_mut(), Accum::Replace, product.as_ref(), s.as_ref(), 1.0, par_for(2 * m * width * width));
        let inner = s.transpose() * (v.transpose() * w.as_ref());
        matmul(w.as_mut(), Accum::Add, v, inner, -0.5, par_for(2 * m * width * width));
        let (head, tail) = self.wv[..2 * size].split_at_mut(size);
        head.copy_from_slice(&self.vw[size..2 * size]);
        tail.copy_from_slice(reflections);
        triangular::matmul(
            trailing.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Add,
            MatRef::from_column_major_slice(&self.vw[..2 * size], m, 2 * width),
            square,
            MatRef::from_column_major_slice(&self.wv[..2 * size], m, 2 * width).transpose(),
            square,
            -1.0,
            par,
        );
    }
}

/// Householder QR of `m`-row columns in place: R above, the reflections below the diagonal. Returns their factors τ; those that
/// have nothing to do are 0.
fn factor_columns(columns: &mut [f64], m: usize) -> Vec<f64> {
    let count = columns.len() / m;
    let mut taus = vec![0.0; count];
    // The last row has nothing below it.
    for j in 0..count.min(m.saturating_sub(1)) {
        let (done, rest) = columns.split_at_mut((j + 1) * m);
        let column = &mut done[j * m + j..];
        let tau = lanes::reflect(column);
        taus[j] = tau;
        if tau != 0.0 {
            let diagonal = std::mem::replace(&mut column[0], 1.0);
            let reflection = Reflection { v: column, tau };
            if rest.len() > 1 << 15 {
                rest.par_chunks_mut(m).for_each(|c| reflection.apply(&mut c[j..]));
            } else {
                rest.chunks_mut(m).for_each(|c| reflection.apply(&mut c[j..]));
            }
            column[0] = diagonal;
        }
    }
    taus
}

/// Upper triangular `S` with `H₁ H₂ … = I - V S Vᵀ`.
fn compact(v: MatRef<'_, f64>, taus: &[f64]) -> Mat<f64> {
    let width = v.ncols();
    let dots = v.transpose() * v;
    let mut s = Mat::<f64>::zeros(width, width);
    for (j, &tau) in taus.iter().enumerate() {
        s[(j, j)] = tau;
        for i in 0..j {
            s[(i, j)] = -tau * (i..j).map(|l| s[(i, l)] * dots[(l, j)]).sum::<f64>();
        }
    }
    s
}
