//! Decompositions: the only place that names the linear-algebra crates.
//!
//! | file | what | cost for `m × n`, `m ≤ n` |
//! |---|---|---|
//! | `gram` | every singular value, from `W Wᵀ` in `f64` | `m² n + 4/3 m³` |
//! | `krylov` | the largest `k`, from a Krylov space of dimension `K` | `4 m n K + 8 (m + n) K²` |
//! | `factored` | those of `B·A`, through QR of both factors | `4 (m + n) r²` |

mod block;
pub mod factored;
pub mod gram;
mod kernels;
pub mod krylov;

use faer::{Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::Vectors;
use crate::error::Error;
use crate::matrix::Matrix;

pub use kernels::{frobenius, is_finite};

/// What a decomposition found.
pub struct Found {
    /// Singular values, largest first.
    pub sigma: Vec<f64>,
    /// Expected relative error of each, where it is more than rounding.
    pub tolerance: Option<f64>,
    /// Leading singular vectors, where asked for.
    pub vectors: Option<Vectors>,
}

/// All threads of the pool we run in.
fn par() -> Par {
    Par::rayon(0)
}

/// The pool, or this thread alone when so few operations do not pay for waking the others.
fn par_for(flops: usize) -> Par {
    if flops < 4_000_000 { Par::Seq } else { par() }
}

/// `W` as faer sees it, without a copy.
fn view(w: &Matrix) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(w.data(), w.rows(), w.cols())
}

/// A row-major copy of the first `k` columns.
fn leading(m: MatRef<'_, f64>, k: usize) -> Matrix {
    Matrix::from_fn(m.nrows(), k.min(m.ncols()), |i, j| m[(i, j)] as f32)
}

/// `W` in `f64`, column-major.
fn widen(w: &Matrix) -> Mat<f64> {
    Mat::from_fn(w.rows(), w.cols(), |i, j| f64::from(w.get(i, j)))
}

fn failed(what: &str) -> Error {
    Error::failure(format!("{what} did not converge"))
}

/// The decomposition of a zero matrix: any orthonormal columns are singular vectors.
pub fn zero(w: &Matrix, count: usize, vectors: usize) -> Found {
    let k = vectors.min(w.rows().min(w.cols()));
    let unit = |rows| Matrix::from_fn(rows, k, |i, j| if i == j { 1.0 } else { 0.0 });
    let vectors = (vectors > 0).then(|| Vectors { u: unit(w.rows()), v: unit(w.cols()) });
    Found { sigma: vec![0.0; count], tolerance: None, vectors }
}

/// `out += U diag(weights) Vᵀ` over the given rows of `u` (`a × k`) and `v` (`b × k`), both row-major with `k` columns, from
/// column `first` on; `out` is `a × b` row-major.
pub fn add_outer(out: &mut [f32], u: &[f32], v: &[f32], k: usize, first: usize, weights: &[f64]) {
    let r = weights.len();
    if k == 0 || r == 0 || out.is_empty() {
        return;
    }
    let (a, b) = (u.len() / k, v.len() / k);
    // The smaller factor carries the weights.
    let swap = a < b;
    let (small, large) = if swap { (u, v) } else { (v, u) };
    let mut weighted = vec![0.0f32; small.len() / k * r];
    weighted.par_chunks_mut(r).zip(small.par_chunks(k)).for_each(|(to, from)| {
        for ((to, from), weight) in to.iter_mut().zip(&from[first..]).zip(weights) {
            *to = (f64::from(*from) * weight) as f32;
        }
    });
    let weighted = MatRef::from_row_major_slice(&weighted, small.len() / k, r);
    let plain = MatRef::from_row_major_slice(large, large.len() / k, k).subcols(first, r);
    let (left, right) = if swap { (weighted, plain) } else { (plain, weighted) };
    faer::linalg::matmul::matmul(
        MatMut::from_row_major_slice_mut(out, a, b),
        faer::Accum::Add,
        left,
        right.transpose(),
        1.0,
        par_for(2 * a * b * r),
    );
}

/// Every singular value by a plain `f64` SVD.
#[cfg(test)]
pub fn reference(w: &Matrix) -> Vec<f64> {
    widen(w).singular_values().expect("converges")
}
