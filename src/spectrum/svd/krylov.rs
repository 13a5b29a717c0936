//! The largest singular values, from a block Krylov space.
//!
//! Golub–Kahan with a block of [`WIDTH`] columns and full reorthogonalisation:
//!
//! ```text
//!   V₁ random;   W V_j = U_1..j B_j  →  U_j,   Wᵀ U_j → V_j+1,   …   B = Uᵀ W V, K × K
//! ```
//!
//! The singular values of `B` approach those of `W` from below, the largest first. A small block makes a long recurrence: for
//! the top 64 of a bulk of noise without gaps, 32 steps of 16 columns are worth more than 12 of 64 and read `W` as fast as
//! memory gives it. Steps go on until the values stand still.
//!
//! Every block is projected *and* made orthonormal twice: what a projection leaves may be rounding, which dividing by its length
//! blows up, and only a second projection of that removes the old directions again.

use faer::{Mat, MatRef};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use super::block::{Basis, Block};
use super::chase::Band;
use super::kernels::{self, Rows, WIDTH};
use super::{Found, gram};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::spectrum::Vectors;

/// Relative error at which the singular values are good enough; what is aimed at is 1e-3.
const TOLERANCE: f64 = 5e-4;

/// The same where only singular vectors are wanted: a vector's error is about the root of its value's.
const VECTOR_TOLERANCE: f64 = 1e-6;

/// Changes below this share of σ₁ are rounding of `f32`.
const FLOOR: f64 = 1e-6;

/// The same matrix gives the same spectrum.
const SEED: u64 = 0x5EED;

/// Smaller matrices are decomposed whole in no time.
const SMALLEST: usize = 512;

/// True where the top `k` of `short` singular values are found faster than all of them.
pub fn pays(short: usize, k: usize) -> bool {
    short >= SMALLEST && k <= short / 16
}

/// The `k` largest singular values and `vectors ≤ k` leading pairs.
pub fn top(w: &Matrix, k: usize, vectors: usize, progress: &dyn Progress) -> Result<Found> {
    run(w, k, vectors.min(k), TOLERANCE, progress)
}

/// True where the `k` leading singular vectors are found faster than all of them.
pub fn vectors_pay(short: usize, k: usize) -> bool {
    short >= SMALLEST && k <= short / 8
}

/// The `k` leading triplets.
pub fn vectors(w: &Matrix, k: usize, progress: &dyn Progress) -> Result<Found> {
    run(w, k, k, VECTOR_TOLERANCE, progress)
}

fn run(w: &Matrix, k: usize, vectors: usize, tolerance: f64, progress: &dyn Progress) -> Result<Found> {
    let (m, n) = (w.rows(), w.cols());
    let short = m.min(n);
    // A space this large costs as much as the whole decomposition.
    let limit = (short / 4 * 3).min((24 * k).max(1024)) / WIDTH * WIDTH;
    let rows = Rows::of(w);
    let mut rng = StdRng::seed_from_u64(SEED);
    let (mut left, mut right) = (Basis::new(m), Basis::new(n));
    let mut projected = Projected::default();
    let mut settled = Settled::new(k, tolerance);

    let mut v: Block = (0..n).map(|_| std::array::from_fn(|_| StandardNormal.sample(&mut rng))).collect();
    right.orthonormalize(&mut v, &mut rng);
    loop {
        progress.step(right.cols() as u64, (10 * k).max(right.cols() + 4 * WIDTH) as u64)?;
        right.push(&v);
        let mut u = kernels::times(rows, &v);
        projected.push(left.orthonormalize(&mut u, &mut rng));
        left.push(&u);
        let size = right.cols();
        let last = size + WIDTH > limit;
        if last || settled.due(size) {
            progress.step(size as u64, (10 * k).max(size + 4 * WIDTH) as u64)?;
            if settled.look(size, projected.values()?) || last {
                break;
            }
        }
        v = kernels::transposed_times(rows, &u);
        right.orthonormalize(&mut v, &mut rng);
    }
    let vectors = if vectors > 0 { Some(ritz(&projected.matrix(), &left, &right, vectors)?) } else { None };
    Ok(Found { sigma: settled.values, tolerance: Some(settled.error), vectors })
}

/// `U P` and `V Q`, where `B = P S Qᵀ`: Q from `BᵀB`, then `P = B Q / S`.
fn ritz(b: &Mat<f64>, left: &Basis, right: &Basis, k: usize) -> Result<Vectors> {
    let (sigma, basis) = gram::eigenvectors(&(b.transpose() * b))?;
    let q = basis.as_ref().subcols(basis.ncols() - k, k).reverse_cols();
    let p = b * q;
    // Values that are rounding have no left vector to speak of.
    let floor = FLOOR * sigma[0];
    let p = Mat::from_fn(p.nrows(), k, |i, j| if sigma[j] > floor { p[(i, j)] / sigma[j] } else { 0.0 });
    Ok(Vectors { u: combine(left, p.as_ref(), k), v: combine(right, q, k) })
}

/// The first `k` columns of `basis · weights`.
fn combine(basis: &Basis, weights: MatRef<'_, f64>, k: usize) -> Matrix {
    let mut out = Matrix::zeros(basis.rows(), k);
    for first in (0..k).step_by(WIDTH) {
        let width = WIDTH.min(k - first);
        let block: Block = (0..basis.cols())
            .map(|i| std::array::from_fn(|j| if j < width { weights[(i, first + j)] as f32 } else { 0.0 }))
            .collect();
        let product = basis.times(&block);
        for (to, from) in out.data_mut().chunks_mut(k).zip(&product) {
            to[first..first + width].copy_from_slice(&from[..width]);
        }
    }
    out
}

/// `B = Uᵀ W V`, block column by block column.
#[derive(Default)]
struct Projected {
    columns: Vec<Vec<[f64; WIDTH]>>,
}

impl Projected {
    fn push(&mut self, column: Vec<[f64; WIDTH]>) {
        self.columns.push(column);
    }

    /// The singular values of `B`, by way of `BᵀB`: those that matter are far above the root of ε₆₄.
    ///
    /// But for rounding `B` has only its diagonal blocks and those above them, so that `BᵀB` is a band.
    fn values(&self) -> Result<Vec<f64>> {
        let mut band = Band::new(self.columns.len() * WIDTH, 2 * WIDTH);
        for (j, column) in self.columns.iter().enumerate() {
            let rows = &column[j.saturating_sub(1) * WIDTH..];
            for a in 0..WIDTH {
                for b in 0..=a {
                    let dot = rows.iter().map(|row| row[a] * row[b]).sum();
                    band.set(j * WIDTH + a, j * WIDTH + b, dot);
                }
            }
            if let Some(next) = self.columns.get(j + 1) {
                let (next, own) = (&next[j * WIDTH..][..WIDTH], &column[j * WIDTH..]);
                for (a, b) in (0..WIDTH).flat_map(|a| (0..WIDTH).map(move |b| (a, b))) {
                    let dot = next.iter().zip(own).map(|(next, own)| next[a] * own[b]).sum();
                    band.set((j + 1) * WIDTH + a, j * WIDTH + b, dot);
                }
            }
        }
        gram::roots_of_band(band, &())
    }

    fn matrix(&self) -> Mat<f64> {
        let size = self.columns.len() * WIDTH;
        Mat::from_fn(size, size, |i, j| self.columns[j / WIDTH].get(i).map_or(0.0, |row| row[j % WIDTH]))
    }
}

/// Watches the values until they stand still.
struct Settled {
    k: usize,
    tolerance: f64,
    values: Vec<f64>,
    change: f64,
    error: f64,
    next: usize,
}

impl Settled {
    fn new(k: usize, tolerance: f64) -> Self {
        // The first look is when there can be something to see.
        let next = (2 * k + 4 * WIDTH).next_multiple_of(WIDTH);
        Self { k, tolerance, values: Vec::new(), change: f64::INFINITY, error: f64::INFINITY, next }
    }

    fn due(&self, size: usize) -> bool {
        size >= self.next
    }

    /// Compares with the last look. Changes shrink faster than geometrically, so that what is still to come is at most
    /// `Δ ρ / (1 - ρ)`, with the latest change `Δ` and its ratio `ρ` to the one before.
    fn look(&mut self, size: usize, mut sigma: Vec<f64>) -> bool {
        sigma.truncate(self.k);
        self.next = size + (size / 12).next_multiple_of(WIDTH);
        let floor = FLOOR * sigma.first().copied().unwrap_or(0.0);
        if self.values.len() == sigma.len() {
            let change = self
                .values
                .iter()
                .zip(&sigma)
                .map(|(old, new)| ((new - old).abs() - floor).max(0.0) / new.max(f64::MIN_POSITIVE))
                .fold(0.0, f64::max);
            let ratio = change / self.change;
            self.error = if change == 0.0 {
                0.0
            } else if ratio < 1.0 {
                change * ratio / (1.0 - ratio)
            } else {
                change
            };
            // The first change has none to be compared with.
            if self.change.is_infinite() && change > 0.0 {
                self.error = change;
            }
            self.change = change;
        }
        self.values = sigma;
        self.error <= self.tolerance
    }
}
