//! [`LowRank`]: the picture of a product of thin factors, computed where it is looked at.
//!
//! The mean over a block of `L · R` is the product of the means over rows of `L` and over columns of `R`. So each level of the
//! picture is a product of reduced factors, and turning the rank costs only what is on screen: `texels · r` multiplications.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::levels::Levels;
use super::picture::{OnlyCells, Picture, Reduction, filled, sampled_stats};
use super::stats::Stats;
use crate::matrix::Matrix;

/// The factors of `Σᵢ lᵢ rᵢᵀ`, reduced for every level: shared by the pictures of all ranks.
pub struct Factors {
    levels: Levels,
    /// By `row_shift`: `rows × k`.
    left: Vec<Matrix>,
    /// By `col_shift`: `k × cols`.
    right: Vec<Matrix>,
}

impl Factors {
    /// From singular vectors (`u`: m × k, `v`: n × k, in columns) and values: `Σᵢ σᵢ uᵢ vᵢᵀ`. As many terms as all three have.
    pub fn of_svd(u: &Matrix, sigma: &[f64], v: &Matrix) -> Self {
        let k = u.cols().min(v.cols()).min(sigma.len());
        let left = Matrix::from_fn(u.rows(), k, |row, i| (f64::from(u.get(row, i)) * sigma[i]) as f32);
        let right = Matrix::from_fn(k, v.rows(), |i, col| v.get(col, i));
        Self::new(left, right)
    }

    /// From `left` (m × k) and `right` (k × n): `left · right`.
    pub fn new(left: Matrix, right: Matrix) -> Self {
        let levels = Levels::of([left.rows(), right.cols()]);
        let shifts = |pick: fn(&super::levels::Level) -> u32| levels.all().iter().map(pick).max().unwrap_or(0);
        let rows = shifts(|l| l.row_shift);
        let cols = shifts(|l| l.col_shift);
        let left: Vec<_> = (0..=rows).into_par_iter().map(|shift| mean_rows(&left, shift)).collect();
        let across = right.transposed();
        let right = (0..=cols).into_par_iter().map(|shift| mean_rows(&across, shift).transposed()).collect();
        Self { levels, left, right }
    }

    /// How many terms there are: the largest rank that can be shown.
    pub fn terms(&self) -> usize {
        self.left[0].cols().min(self.right[0].rows())
    }

    /// Sum of the first `rank` terms over a block of a level.
    fn product(&self, rank: usize, level: usize, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        let of = self.levels.get(level);
        let (left, right) = (&self.left[of.row_shift as usize], &self.right[of.col_shift as usize]);
        let rank = rank.min(self.terms());
        let mut values = vec![0.0_f32; rows.len() * cols.len()];
        let start = rows.start;
        values.par_chunks_mut(cols.len().max(1)).enumerate().with_min_len(8).for_each(|(i, out)| {
            let weights = &left.row(start + i)[..rank];
            // Four terms at a time: the row of the result is read and written a quarter as often.
            let (fours, rest) = weights.as_chunks::<4>();
            for (j, &[a, b, c, d]) in fours.iter().enumerate() {
                let term = |n: usize| &right.row(4 * j + n)[cols.clone()];
                for ((((x, p), q), s), t) in out.iter_mut().zip(term(0)).zip(term(1)).zip(term(2)).zip(term(3)) {
                    *x += a * p + b * q + c * s + d * t;
                }
            }
            for (j, &a) in rest.iter().enumerate() {
                for (x, p) in out.iter_mut().zip(&right.row(4 * fours.len() + j)[cols.clone()]) {
                    *x += a * p;
                }
            }
        });
        filled(rows.len(), cols.len(), values)
    }
}

/// Means of `2^shift` rows, fewer in the last.
fn mean_rows(matrix: &Matrix, shift: u32) -> Matrix {
    let height = 1 << shift;
    let rows = matrix.rows().div_ceil(height);
    let mut values = Vec::with_capacity(rows * matrix.cols());
    for band in matrix.data().chunks((height * matrix.cols()).max(1)) {
        let start = values.len();
        values.resize(start + matrix.cols(), 0.0);
        let share = matrix.cols() as f32 / band.len() as f32;
        for row in band.chunks(matrix.cols().max(1)) {
            for (mean, x) in values[start..].iter_mut().zip(row) {
                *mean += x * share;
            }
        }
    }
    values.resize(rows * matrix.cols(), 0.0);
    filled(rows, matrix.cols(), values)
}

/// The sum of the first `rank` terms of shared [`Factors`]. Made anew for every rank: that costs nothing.
pub struct LowRank {
    factors: Arc<Factors>,
    rank: usize,
    reduction: Reduction,
    /// By level, once somebody asked.
    stats: Vec<OnceLock<Arc<Stats>>>,
}

impl LowRank {
    /// A rank beyond [`Factors::terms`] shows all terms.
    pub fn new(factors: Arc<Factors>, rank: usize, reduction: Reduction) -> Self {
        let stats = factors.levels.all().iter().map(|_| OnceLock::new()).collect();
        Self { factors, rank, reduction, stats }
    }
}

impl Picture for LowRank {
    fn levels(&self) -> &Levels {
        &self.factors.levels
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn cells(&self, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        self.factors.product(self.rank, 0, rows, cols)
    }

    fn block(&self, level: usize, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        if level == 0 || self.reduction == Reduction::Mean {
            return self.factors.product(self.rank, level, rows, cols);
        }
        OnlyCells(self).block(level, rows, cols)
    }

    fn known_stats(&self, level: usize) -> Option<Arc<Stats>> {
        self.stats.get(level)?.get().cloned()
    }

    fn stats(&self, level: usize) -> Arc<Stats> {
        let sampled = || Arc::new(sampled_stats(self, level));
        self.stats.get(level).map_or_else(sampled, |known| known.get_or_init(sampled).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::Difference;
    use super::super::pyramid::Pyramid;
    use super::*;

    fn factors(rows: usize, cols: usize, k: usize) -> Factors {
        let left = Matrix::from_fn(rows, k, |r, i| ((r * 5 + i * 3) % 17) as f32 / 17.0 - 0.5);
        let right = Matrix::from_fn(k, cols, |i, c| ((c * 11 + i * 7) % 13) as f32 / 13.0 - 0.4);
        Factors::new(left, right)
    }

    fn dense(picture: &dyn Picture) -> Matrix {
        let [rows, cols] = picture.levels().shape();
        picture.cells(0..rows, 0..cols)
    }

    #[test]
    fn two_by_two_by_hand() {
        // [1 2; 3 4] · [1 0; 1 1] = [3 2; 7 4]; its first term is [1 0; 3 0].
        let left = Matrix::new(2, 2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let right = Matrix::new(2, 2, vec![1.0, 0.0, 1.0, 1.0]).unwrap();
        let factors = Arc::new(Factors::new(left, right));
        assert_eq!(dense(&LowRank::new(factors.clone(), 2, Reduction::Mean)).data(), [3.0, 2.0, 7.0, 4.0]);
        assert_eq!(dense(&LowRank::new(factors.clone(), 1, Reduction::Mean)).data(), [1.0, 0.0, 3.0, 0.0]);
        assert_eq!(dense(&LowRank::new(factors, 0, Reduction::Mean)).data(), [0.0; 4]);
    }

    #[test]
    fn singular_values_scale_the_terms() {
        let u = Matrix::new(2, 1, vec![0.6, 0.8]).unwrap();
        let v = Matrix::new(1, 1, vec![1.0]).unwrap();
        let picture = LowRank::new(Arc::new(Factors::of_svd(&u, &[5.0], &v)), 1, Reduction::Mean);
        assert_eq!(dense(&picture).data(), [3.0, 4.0]);
    }

    #[test]
    fn levels_are_those_of_the_dense_matrix() {
        for reduction in Reduction::ALL {
            let picture = LowRank::new(Arc::new(factors(203, 150, 7)), 6, reduction);
            let pyramid = Pyramid::build(Arc::new(dense(&picture)), reduction, &()).unwrap();
            for level in 0..pyramid.levels().all().len() {
                let of = pyramid.levels().get(level);
                let (rows, cols) = (1..of.rows, of.cols / 2..of.cols);
                let (a, b) = (picture.block(level, rows.clone(), cols.clone()), pyramid.block(level, rows, cols));
                let close = |(a, b): (&f32, &f32)| match reduction {
                    // Sums in another order: equal magnitudes may come out with either sign.
                    Reduction::Extreme => (a.abs() - b.abs()).abs() < 1e-5,
                    _ => (a - b).abs() < 1e-5,
                };
                assert!(a.data().iter().zip(b.data()).all(close), "{reduction:?} {level}");
            }
        }
    }

    #[test]
    fn what_is_left_is_the_difference() {
        let all = LowRank::new(Arc::new(factors(130, 90, 5)), 5, Reduction::Mean);
        let some: Arc<dyn Picture> = Arc::new(LowRank::new(all.factors.clone(), 2, Reduction::Mean));
        let whole: Arc<dyn Picture> = Arc::new(Pyramid::build(Arc::new(dense(&all)), Reduction::Mean, &()).unwrap());
        let rest = Difference::new(whole.clone(), some.clone()).unwrap();
        for level in 0..2 {
            let expected = whole.value(level, 20, 30) - some.value(level, 20, 30);
            assert!((rest.value(level, 20, 30) - expected).abs() < 1e-6);
        }
        let other: Arc<dyn Picture> = Arc::new(LowRank::new(Arc::new(factors(9, 9, 1)), 1, Reduction::Mean));
        assert!(Difference::new(whole, other).is_none());
    }
}
