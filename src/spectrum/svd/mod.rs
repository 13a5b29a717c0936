//! Decompositions: the only place that names the linear-algebra crates.
//!
//! | file | what | operations for `m × n`, `m ≤ n` |
//! |---|---|---|
//! | `gram` | every singular value, from `W Wᵀ` in `f64` | `m² n + 4/3 m³` |
//! | `band`, `chase`, `tridiagonal` | its eigenvalues: to a band, to three diagonals, to one | of those, `4/3 m³` |
//! | `krylov`, `block` | the largest `k`, from a Krylov space of dimension `K` | `4 m n K + 2 n K²` |
//! | `factored` | those of `B·A`, through its factors | `2 (m + n) r²` |
//! | `residual` | what a truncated decomposition leaves | `2 m n k` |
//! | `kernels`, `lanes` | loops that the crates have no fast form of | |

mod band;
mod block;
mod chase;
pub mod factored;
pub mod gram;
mod kernels;
pub mod krylov;
mod lanes;
pub mod residual;
mod tridiagonal;

use faer::{Mat, MatRef, Par};

use super::Vectors;
use crate::error::Error;
use crate::matrix::Matrix;
use crate::room;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// faer's products set twice the third-level cache aside on every thread, and end the program where they cannot: looked at once.
///
/// # Errors
/// When the address space is too small for that.
pub fn check_room() -> Result<(), Error> {
    static SEEN: AtomicBool = AtomicBool::new(false);
    if !SEEN.load(Ordering::Relaxed) {
        room::check_addresses(2 * room::cache().unwrap_or(0) * rayon::current_num_threads() as u64)?;
        SEEN.store(true, Ordering::Relaxed);
    }
    Ok(())
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

/// Every singular value by a plain `f64` SVD.
#[cfg(test)]
pub fn reference(w: &Matrix) -> Vec<f64> {
    widen(w).singular_values().expect("converges")
}
