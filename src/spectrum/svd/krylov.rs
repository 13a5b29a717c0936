//! The largest singular values, from a block Krylov space.
//!
//! Block Lanczos on `WᵀW` with [`WIDTH`] columns and full reorthogonalisation, without ever forming `WᵀW`:
//!
//! ```text
//!   V₁ random;   U_j = W V_j,  Z = Wᵀ U_j (one reading of W),  V_j+1 = Z made orthonormal to V_1..j,   …
//!   σ(W) ≈ σ(U) = σ(W V),  from UᵀU in f64: block tridiagonal, as V_iᵀ WᵀW V_j = 0 for |i − j| > 1
//! ```
//!
//! The singular values of `W V` approach those of `W` from below, the largest first. A small block makes a long recurrence: for
//! the top 64 of a bulk of noise without gaps, 30 steps of 16 columns reach what 20 of 32 or 12 of 64 do, and `W`, which is
//! read once a step, comes as fast as it is multiplied. Steps go on until the values stand still.
//!
//! Squaring costs few digits: what a later block has of the largest directions was taken out of it, and `U` is as good as the
//! products that made it. What rounding leaves outside the three block diagonals is `ε₃₂ σ₁²`; where the smallest wanted square is
//! not far above that, all of `UᵀU` is looked at. Every block is projected *and* made orthonormal twice, the first time against its two neighbours:
//! what a projection leaves may be rounding, which dividing by its length blows up, and only a second projection, of that,
//! removes the old directions again.

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

/// Estimated relative error at which the singular values are good enough; what is aimed at is 1e-3.
const TOLERANCE: f64 = 7.5e-4;

/// The same where only singular vectors are wanted: a vector's error is about the root of its value's.
const VECTOR_TOLERANCE: f64 = 1e-6;

/// Changes below this share of σ₁ are rounding of `f32`.
const FLOOR: f64 = 1e-6;

/// Changes of so many times what is wanted are far from the end.
const FAR: f64 = 16.0;

/// Values under this share of σ₁ are taken from all of `UᵀU`.
const WHOLE: f64 = 0.05;

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
    // Steps are seldom more than that.
    let room = (10 * k).next_multiple_of(WIDTH).clamp(8 * WIDTH, limit.max(8 * WIDTH));
    let (mut left, mut right) = (Vec::new(), Basis::new(n, room));
    let mut squared = Squared::default();
    let mut settled = Settled::new(k, tolerance);

    let mut v: Block = (0..n).map(|_| std::array::from_fn(|_| StandardNormal.sample(&mut rng))).collect();
    right.orthonormalize(&mut v, 0, &mut rng);
    loop {
        progress.step(right.cols() as u64, (10 * k).max(right.cols() + 4 * WIDTH) as u64)?;
        right.push(&v);
        let (u, mut z) = kernels::both_times(rows, &v);
        squared.push(&u, left.last());
        left.push(u);
        let size = right.cols();
        let last = size + WIDTH > limit;
        if last || settled.due(size) {
            progress.step(size as u64, (10 * k).max(size + 4 * WIDTH) as u64)?;
            let mut sigma = squared.roots()?;
            if sigma[k.saturating_sub(1)] < WHOLE * sigma[0] {
                sigma = gram::roots(gram::gram(&side_by_side(&left), &())?, &())?;
            }
            if settled.look(size, sigma) || last {
                break;
            }
        }
        right.orthonormalize(&mut z, 2 * WIDTH, &mut rng);
        v = z;
    }
    let Settled { values: mut sigma, error, .. } = settled;
    if vectors == 0 {
        return Ok(Found { sigma, tolerance: Some(error), vectors: None });
    }
    let (whole, vectors) = ritz(&left, &right, vectors)?;
    sigma.iter_mut().zip(whole).for_each(|(sigma, whole)| *sigma = whole);
    Ok(Found { sigma, tolerance: Some(error), vectors: Some(vectors) })
}

/// From `W V = U`: `S` and `Q` from `UᵀU = Q S² Qᵀ`, then `V Q` and `U Q / S`.
fn ritz(left: &[Block], right: &Basis, k: usize) -> Result<(Vec<f64>, Vectors)> {
    let (sigma, basis) = gram::eigenvectors(&gram::gram(&side_by_side(left), &())?)?;
    let q = basis.as_ref().subcols(basis.ncols() - k, k).reverse_cols();
    // Values that are rounding have no left vector to speak of.
    let floor = FLOOR * sigma[0];
    let p = Mat::from_fn(q.nrows(), k, |i, j| if sigma[j] > floor { q[(i, j)] / sigma[j] } else { 0.0 });
    let mut columns = Basis::new(left.first().map_or(0, Vec::len), left.len() * WIDTH);
    left.iter().for_each(|block| columns.push(block));
    let vectors = Vectors { u: combine(&columns, p.as_ref(), k), v: combine(right, q, k) };
    Ok((sigma, vectors))
}

/// Blocks as one matrix.
fn side_by_side(blocks: &[Block]) -> Matrix {
    let mut out = Matrix::zeros(blocks.first().map_or(0, Vec::len), blocks.len() * WIDTH);
    for (row, to) in out.data_mut().chunks_mut(blocks.len() * WIDTH).enumerate() {
        for (to, block) in to.chunks_mut(WIDTH).zip(blocks) {
            to.copy_from_slice(&block[row]);
        }
    }
    out
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

/// `UᵀU`: its diagonal blocks and those beside them, which are triangles: `U_jᵀ U_j-1 = V_jᵀ Z_j-1`, and Z was made orthonormal
/// by a triangle.
#[derive(Default)]
struct Squared {
    own: Vec<[Lane64; WIDTH]>,
    /// `U_j-1ᵀ U_j`.
    beside: Vec<[Lane64; WIDTH]>,
}

type Lane64 = [f64; WIDTH];

impl Squared {
    fn push(&mut self, u: &[kernels::Lane], before: Option<&Block>) {
        self.beside.extend(before.map(|before| kernels::block_product(before, u)));
        self.own.push(kernels::block_product(u, u));
    }

    /// The singular values of `U`.
    fn roots(&self) -> Result<Vec<f64>> {
        let mut band = Band::new(self.own.len() * WIDTH, WIDTH);
        for (j, own) in self.own.iter().enumerate() {
            let at = j * WIDTH;
            for (a, row) in own.iter().enumerate() {
                for (b, &value) in row[..=a].iter().enumerate() {
                    band.set(at + a, at + b, value);
                }
            }
            for (a, row) in self.beside.get(j).into_iter().flatten().enumerate() {
                for (b, &value) in row[..=a].iter().enumerate() {
                    band.set(at + WIDTH + b, at + a, value);
                }
            }
        }
        gram::roots_of_band(band, &())
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
    /// Columns between looks.
    step: usize,
}

impl Settled {
    fn new(k: usize, tolerance: f64) -> Self {
        // The first look is when there can be something to see.
        let next = (2 * k + 4 * WIDTH).next_multiple_of(WIDTH);
        Self { k, tolerance, values: Vec::new(), change: f64::INFINITY, error: f64::INFINITY, next, step: 2 * WIDTH }
    }

    fn due(&self, size: usize) -> bool {
        size >= self.next
    }

    /// Compares with the last look. Changes shrink faster than geometrically, so that what is still to come is at most
    /// `Δ ρ / (1 - ρ)`, with the latest change `Δ` and its ratio `ρ` to the one before.
    fn look(&mut self, size: usize, mut sigma: Vec<f64>) -> bool {
        sigma.truncate(self.k);
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
            // Far from the end looks are rarer; changes over different distances are not compared.
            let step = if change > FAR * self.tolerance { 4 * WIDTH } else { 2 * WIDTH };
            self.change = if step == self.step { change } else { f64::INFINITY };
            self.step = step;
        }
        self.next = size + self.step;
        self.values = sigma;
        self.error <= self.tolerance
    }
}
