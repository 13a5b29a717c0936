//! From a symmetric band to three diagonals: what one reflection pushes out of the band is chased down and out at its end.
//!
//! Sweep `j` clears column `j` below the first subdiagonal. Its reflection, applied from both sides, fills a triangle under the
//! band one block further down; only the first column of that needs to go, as the next sweep comes one column later. So a
//! sweep is a chain of small steps, each on one diagonal block and the block under it:
//!
//! ```text
//!   D ← H D H        columns p..p+b, on and below the diagonal
//!   O ← O H          the block under it
//!   O ← H' O         H' clears the first column of O, and is the H of the next step
//! ```

use faer::MatRef;
use faer::traits::pulp::{Arch, Simd, WithSimd};

use super::lanes::{axpy, dot, reflect};
use crate::error::Result;
use crate::progress::Progress;

/// The lower half of a symmetric band matrix, column by column, with as much room again for what is chased.
pub struct Band {
    n: usize,
    width: usize,
    /// Column `c` starts at `c · stride` with its diagonal element.
    data: Vec<f64>,
}

/// Diagonal and subdiagonal.
pub struct Tridiagonal {
    pub diagonal: Vec<f64>,
    pub off: Vec<f64>,
}

impl Band {
    /// All zeros.
    pub fn new(n: usize, width: usize) -> Self {
        Self { n, width, data: vec![0.0; n * 2 * width] }
    }

    fn stride(&self) -> usize {
        2 * self.width
    }

    /// Takes what of a block at `(row, col)` lies on and below the diagonal and within the band.
    pub fn put(&mut self, block: MatRef<'_, f64>, row: usize, col: usize) {
        for j in 0..block.ncols() {
            for i in 0..block.nrows() {
                let (r, c) = (row + i, col + j);
                if r >= c && r - c <= self.width {
                    self.set(r, c, block[(i, j)]);
                }
            }
        }
    }

    /// Sets the element at `(row, col)`, on or below the diagonal and within the band.
    pub fn set(&mut self, row: usize, col: usize, value: f64) {
        debug_assert!(row >= col && row - col <= self.width);
        let stride = self.stride();
        self.data[col * stride + row - col] = value;
    }

    /// Three diagonals with the same eigenvalues.
    pub fn tridiagonal(mut self, progress: &dyn Progress) -> Result<Tridiagonal> {
        /// Sweeps between two reports of progress.
        const REPORT: usize = 64;
        let (n, stride) = (self.n, self.stride());
        if self.width > 1 {
            let arch = Arch::new();
            let left = |sweep: usize| ((n - sweep) as u64).pow(2);
            for first in (0..n.saturating_sub(2)).step_by(REPORT) {
                progress.step(left(0) - left(first), left(0))?;
                arch.dispatch(Sweeps { band: &mut self, first, last: (first + REPORT).min(n - 2) });
            }
        }
        let diagonal = (0..n).map(|c| self.data[c * stride]).collect();
        let off = (0..n.saturating_sub(1)).map(|c| self.data[c * stride + 1]).collect();
        Ok(Tridiagonal { diagonal, off })
    }
}

struct Sweeps<'a> {
    band: &'a mut Band,
    first: usize,
    last: usize,
}

impl WithSimd for Sweeps<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (n, width, stride) = (self.band.n, self.band.width, self.band.stride());
        let data = &mut self.band.data;
        let mut v = vec![0.0; width];
        let mut next = vec![0.0; width];
        let mut w = vec![0.0; width];
        for sweep in self.first..self.last {
            let mut length = width.min(n - 1 - sweep);
            let column = &mut data[sweep * stride + 1..][..length];
            let mut tau = take(column, &mut v);
            let mut p = sweep + 1;
            loop {
                let below = width.min(n - p - length);
                let columns = &mut data[p * stride..(p + length) * stride];
                if tau != 0.0 {
                    both_sides(simd, columns, stride, &v[..length], tau, &mut w[..length]);
                }
                if below == 0 {
                    break;
                }
                tau = under(simd, columns, stride, &v[..length], tau, &mut next[..below], &mut w[..below]);
                std::mem::swap(&mut v, &mut next);
                p += length;
                length = below;
            }
        }
    }
}

/// Reflects a column onto its first element and moves the reflection to `v`, `v[0] = 1`.
#[inline(always)]
fn take(column: &mut [f64], v: &mut [f64]) -> f64 {
    let tau = reflect(column);
    if tau != 0.0 {
        v[0] = 1.0;
        v[1..column.len()].copy_from_slice(&column[1..]);
        column[1..].fill(0.0);
    }
    tau
}

/// `D ← H D H` of the diagonal block, lower half: `w = τ D v`, `w -= ½ τ (vᵀ w) v`, `D -= v wᵀ + w vᵀ`.
#[inline(always)]
fn both_sides<S: Simd>(simd: S, columns: &mut [f64], stride: usize, v: &[f64], tau: f64, w: &mut [f64]) {
    let length = v.len();
    w.fill(0.0);
    for c in 0..length {
        let column = &columns[c * stride..][..length - c];
        axpy(simd, tau * v[c], column, &mut w[c..]);
        w[c] += tau * dot(simd, &column[1..], &v[c + 1..]);
    }
    let half = -0.5 * tau * dot(simd, v, w);
    axpy(simd, half, v, w);
    for c in 0..length {
        let column = &mut columns[c * stride..][..length - c];
        axpy(simd, -w[c], &v[c..], column);
        axpy(simd, -v[c], &w[c..], column);
    }
}

/// `O ← H' O H` of the block under the diagonal block: its row `r` is at `length - c + r` of column `c`. `H'` clears the first
/// column and is left in `next`; its τ is returned.
#[inline(always)]
fn under<S: Simd>(
    simd: S,
    columns: &mut [f64],
    stride: usize,
    v: &[f64],
    tau: f64,
    next: &mut [f64],
    y: &mut [f64],
) -> f64 {
    let (length, below) = (v.len(), next.len());
    // y = τ O v.
    if tau != 0.0 {
        y.fill(0.0);
        for (c, &x) in v.iter().enumerate() {
            axpy(simd, tau * x, &columns[c * stride + length - c..][..below], y);
        }
        for (c, &x) in v.iter().enumerate() {
            axpy(simd, -x, y, &mut columns[c * stride + length - c..][..below]);
        }
    }
    let tau = take(&mut columns[length..][..below], next);
    if tau != 0.0 {
        for c in 1..length {
            let column = &mut columns[c * stride + length - c..][..below];
            let weight = tau * dot(simd, next, column);
            axpy(simd, -weight, next, column);
        }
    }
    tau
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::{Mat, Side};

    #[test]
    fn a_band_keeps_its_eigenvalues() {
        for (n, width) in [(1, 4), (2, 4), (3, 2), (7, 4), (40, 8), (41, 1), (65, 32), (200, 16)] {
            let value = |i: usize, j: usize| ((i * 29 + j * 13) % 31) as f64 / 31.0 - 0.4;
            let full = Mat::<f64>::from_fn(n, n, |i, j| {
                let (i, j) = (i.max(j), i.min(j));
                if i - j <= width { value(i, j) } else { 0.0 }
            });
            let mut band = Band::new(n, width);
            band.put(full.as_ref(), 0, 0);
            let t = band.tridiagonal(&()).unwrap();
            let small = Mat::<f64>::from_fn(n, n, |i, j| match i.abs_diff(j) {
                0 => t.diagonal[i],
                1 => t.off[i.min(j)],
                _ => 0.0,
            });
            let (a, b) = (
                full.self_adjoint_eigenvalues(Side::Lower).unwrap(),
                small.self_adjoint_eigenvalues(Side::Lower).unwrap(),
            );
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() < 1e-12, "{n}, {width}: {a} {b}");
            }
        }
    }
}
