//! The best approximation of ΔW of a given rank, for pictures: `ΔW_r = Σ_{i≤r} σ_i u_i v_iᵀ`.
//!
//! Any block of it costs only its own size times `r`. The mean of `ΔW_r` over a bin of rows and a bin of columns is
//! `Σ σ_i mean(u_i) mean(v_i)`, so a small picture of a large matrix is the product of pooled factors, and never needs
//! the matrix.

use std::ops::Range;

use super::{Spectrum, Vectors, svd};
use crate::matrix::Matrix;

/// Leading singular triplets: what every approximation is made from.
#[derive(Clone, Copy, Debug)]
pub struct Approximation<'a> {
    vectors: &'a Vectors,
    sigma: &'a [f64],
}

impl<'a> Approximation<'a> {
    /// From vectors and their singular values; more values than vectors are ignored.
    pub fn new(vectors: &'a Vectors, sigma: &'a [f64]) -> Self {
        Self { vectors, sigma: &sigma[..sigma.len().min(vectors.count())] }
    }

    /// Of a spectrum that kept its vectors.
    pub fn of(spectrum: &'a Spectrum) -> Option<Self> {
        spectrum.vectors.as_ref().map(|vectors| Self::new(vectors, &spectrum.sigma))
    }

    /// The largest rank that there are vectors for.
    pub fn max_rank(&self) -> usize {
        self.sigma.len()
    }

    /// Rows `rows` and columns `cols` of `ΔW_r`. Ranges are cut to the matrix, `r` to the vectors that there are.
    pub fn block(&self, rows: Range<usize>, cols: Range<usize>, r: usize) -> Matrix {
        let (u, v) = (&self.vectors.u, &self.vectors.v);
        let (rows, cols) = (within(rows, u.rows()), within(cols, v.rows()));
        let k = u.cols();
        let mut out = Matrix::zeros(rows.len(), cols.len());
        let some = |m: &'a Matrix, range: Range<usize>| &m.data()[range.start * k..range.end * k];
        svd::add_outer(out.data_mut(), some(u, rows), some(v, cols), k, 0, &self.sigma[..r.min(self.sigma.len())]);
        out
    }
}

fn within(range: Range<usize>, size: usize) -> Range<usize> {
    let end = range.end.min(size);
    range.start.min(end)..end
}

/// Singular vectors averaged over bins of rows and columns: every picture of `ΔW_r` at that size, without the matrix.
#[derive(Clone, Debug)]
pub struct PooledFactors {
    u: Matrix,
    v: Matrix,
    sigma: Vec<f64>,
}

impl PooledFactors {
    /// Bins of `row_bin` rows and `col_bin` columns; the last ones are averaged over what they hold.
    pub fn new(vectors: &Vectors, sigma: &[f64], row_bin: usize, col_bin: usize) -> Self {
        let sigma = sigma[..sigma.len().min(vectors.count())].to_vec();
        Self { u: pool(&vectors.u, row_bin), v: pool(&vectors.v, col_bin), sigma }
    }

    /// The largest rank that there are vectors for.
    pub fn max_rank(&self) -> usize {
        self.sigma.len()
    }

    /// `[⌈m / row_bin⌉, ⌈n / col_bin⌉]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.u.rows(), self.v.rows()]
    }

    /// The mean-pooled picture of `ΔW_r`.
    pub fn image(&self, r: usize) -> Matrix {
        let mut out = Matrix::zeros(self.u.rows(), self.v.rows());
        self.add(&mut out, 0..r.min(self.sigma.len()), 1.0);
        out
    }

    /// `out += sign · Σ_{i in ranks} σ_i u_i v_iᵀ`.
    fn add(&self, out: &mut Matrix, ranks: Range<usize>, sign: f64) {
        let weights: Vec<f64> = self.sigma[ranks.clone()].iter().map(|s| sign * s).collect();
        svd::add_outer(out.data_mut(), self.u.data(), self.v.data(), self.u.cols(), ranks.start, &weights);
    }
}

/// Means over bins of rows: `⌈rows / bin⌉ × cols`.
fn pool(m: &Matrix, bin: usize) -> Matrix {
    let bin = bin.max(1);
    let bins = m.rows().div_ceil(bin);
    let mut out = Matrix::zeros(bins, m.cols());
    let k = m.cols().max(1);
    for (to, from) in out.data_mut().chunks_mut(k).zip(m.data().chunks(bin * k)) {
        let mut sums = vec![0.0f64; k];
        for row in from.chunks(k) {
            sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let count = (from.len() / k) as f64;
        to.iter_mut().zip(&sums).for_each(|(to, sum)| *to = (sum / count) as f32);
    }
    out
}

/// A pooled picture that follows the rank: a step from `r` to `r'` costs only `|r' - r|` outer products.
#[derive(Clone, Debug)]
pub struct PooledImage {
    factors: PooledFactors,
    rank: usize,
    image: Matrix,
    /// Outer products added or taken away since the picture was last made whole.
    drift: usize,
}

/// After so many incremental outer products the picture is made anew, as each leaves a rounding behind.
const DRIFT: usize = 4096;

impl PooledImage {
    /// At rank 0: all zeros.
    pub fn new(factors: PooledFactors) -> Self {
        let [rows, cols] = factors.shape();
        Self { factors, rank: 0, image: Matrix::zeros(rows, cols), drift: 0 }
    }

    /// The factors it is made from.
    pub fn factors(&self) -> &PooledFactors {
        &self.factors
    }

    /// The rank that the picture shows.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The picture as it is.
    pub fn image(&self) -> &Matrix {
        &self.image
    }

    /// Moves to rank `r`, cut to the vectors that there are, by the cheaper of the two ways.
    pub fn set_rank(&mut self, r: usize) -> &Matrix {
        let r = r.min(self.factors.max_rank());
        let steps = r.abs_diff(self.rank);
        if steps >= r || self.drift + steps > DRIFT {
            self.image = self.factors.image(r);
            self.drift = 0;
        } else {
            let (ranks, sign) = if r > self.rank { (self.rank..r, 1.0) } else { (r..self.rank, -1.0) };
            self.factors.add(&mut self.image, ranks, sign);
            self.drift += steps;
        }
        self.rank = r;
        &self.image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// u_i, v_i need not be orthogonal for the arithmetic to hold.
    fn triplets(m: usize, n: usize, k: usize) -> (Vectors, Vec<f64>) {
        let wave = |i: usize, j: usize| ((i * 7 + j * 13) % 11) as f32 / 11.0 - 0.4;
        let vectors = Vectors { u: Matrix::from_fn(m, k, wave), v: Matrix::from_fn(n, k, |i, j| wave(j, i + 3)) };
        (vectors, (0..k).map(|i| 5.0 / (i + 1) as f64).collect())
    }

    fn value(vectors: &Vectors, sigma: &[f64], i: usize, j: usize, r: usize) -> f64 {
        (0..r).map(|q| sigma[q] * f64::from(vectors.u.get(i, q)) * f64::from(vectors.v.get(j, q))).sum()
    }

    #[test]
    fn a_block_is_the_sum_of_outer_products() {
        let (vectors, sigma) = triplets(23, 17, 6);
        let approximation = Approximation::new(&vectors, &sigma);
        for r in [0, 1, 4, 6, 99] {
            let block = approximation.block(5..20, 3..40, r);
            assert_eq!(block.shape(), [15, 14]);
            for (i, j) in [(0, 0), (7, 13), (14, 2)] {
                let expected = value(&vectors, &sigma, i + 5, j + 3, r.min(6));
                assert!((f64::from(block.get(i, j)) - expected).abs() < 1e-5);
            }
        }
        assert_eq!(approximation.block(30..40, 0..5, 3).shape(), [0, 5]);
    }

    #[test]
    fn pooling_the_factors_is_pooling_the_matrix() {
        let (vectors, sigma) = triplets(23, 17, 6);
        let whole = Approximation::new(&vectors, &sigma).block(0..23, 0..17, 5);
        let image = PooledFactors::new(&vectors, &sigma, 4, 5).image(5);
        assert_eq!(image.shape(), [6, 4]);
        for a in 0..6 {
            for b in 0..4 {
                let (rows, cols) = (a * 4..(a * 4 + 4).min(23), b * 5..(b * 5 + 5).min(17));
                let count = (rows.len() * cols.len()) as f32;
                let mean =
                    rows.flat_map(|i| cols.clone().map(move |j| (i, j))).map(|(i, j)| whole.get(i, j)).sum::<f32>()
                        / count;
                assert!((image.get(a, b) - mean).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn moving_the_rank_is_the_same_as_starting_there() {
        let (vectors, sigma) = triplets(40, 30, 12);
        let factors = PooledFactors::new(&vectors, &sigma, 3, 2);
        let mut picture = PooledImage::new(factors.clone());
        for r in [12, 10, 11, 3, 4, 0, 7, 6, 50] {
            let expected = factors.image(r);
            let found = picture.set_rank(r);
            let worst = found.data().iter().zip(expected.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "rank {r}: {worst}");
        }
        assert_eq!(picture.rank(), 12);
    }
}
