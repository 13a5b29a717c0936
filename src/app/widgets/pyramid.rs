//! [`Pyramid`]: a matrix and its reductions by factors of two, all in memory.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::levels::{Level, Levels};
use super::picture::{Picture, Reduction, extreme, filled};
use super::stats::Stats;
use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::Progress;

/// A matrix and its reduced levels. The levels need a third of the matrix's memory again (up to the same again where one
/// side is far longer than the other).
pub struct Pyramid {
    source: Arc<Matrix>,
    reduced: Vec<Matrix>,
    levels: Levels,
    reduction: Reduction,
    stats: Vec<Arc<Stats>>,
}

impl Pyramid {
    /// Reduces level after level, each from the one before, in parallel. One step of progress per level.
    ///
    /// # Errors
    /// `Cancelled`, when `progress` says so.
    pub fn build(source: Arc<Matrix>, reduction: Reduction, progress: &dyn Progress) -> Result<Self> {
        let levels = Levels::of(source.shape());
        let total = levels.all().len() as u64;
        let mut stats = vec![Arc::new(Stats::of(source.data()))];
        let mut reduced: Vec<Matrix> = Vec::with_capacity(levels.all().len() - 1);
        for (i, pair) in levels.all().windows(2).enumerate() {
            progress.step(i as u64, total)?;
            let parent = reduced.last().unwrap_or(&source);
            let child = reduce(&of_matrix(parent), [pair[0], pair[1]], source.shape(), reduction);
            stats.push(Arc::new(Stats::of(child.data())));
            reduced.push(child);
        }
        progress.step(total, total)?;
        Ok(Self { source, reduced, levels, reduction, stats })
    }

    /// The matrix itself.
    pub fn source(&self) -> &Arc<Matrix> {
        &self.source
    }

    /// All texels of a level.
    pub fn level(&self, level: usize) -> &Matrix {
        match level.min(self.reduced.len()) {
            0 => &self.source,
            level => &self.reduced[level - 1],
        }
    }
}

impl Picture for Pyramid {
    fn levels(&self) -> &Levels {
        &self.levels
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn cells(&self, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        self.block(0, rows, cols)
    }

    fn block(&self, level: usize, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        let level = self.level(level);
        let mut values = Vec::with_capacity(rows.len() * cols.len());
        for row in rows.clone() {
            values.extend_from_slice(&level.row(row)[cols.clone()]);
        }
        filled(rows.len(), cols.len(), values)
    }

    fn value(&self, level: usize, row: usize, col: usize) -> f32 {
        self.level(level).get(row, col)
    }

    fn known_stats(&self, level: usize) -> Option<Arc<Stats>> {
        Some(self.stats(level))
    }

    fn stats(&self, level: usize) -> Arc<Stats> {
        self.stats[level.min(self.stats.len() - 1)].clone()
    }
}

/// Writes a row of a level into a buffer that it finds empty.
pub(super) type Rows<'a> = dyn Fn(usize, &mut Vec<f32>) + Sync + 'a;

/// The rows of a matrix.
pub(super) fn of_matrix(matrix: &Matrix) -> impl Fn(usize, &mut Vec<f32>) + Sync + '_ {
    |row, out| out.extend_from_slice(matrix.row(row))
}

/// The next coarser level of a matrix of this shape, from the rows of the finer one.
pub(super) fn reduce(parent: &Rows<'_>, [from, to]: [Level; 2], shape: [usize; 2], reduction: Reduction) -> Matrix {
    match reduction {
        Reduction::Mean => halve(parent, from, to, shape, |x| x, weighted, |x| x),
        Reduction::Extreme => halve(parent, from, to, shape, |x| x, |a, b, _, _| extreme(a, b), |x| x),
        Reduction::Rms => halve(parent, from, to, shape, |x| x * x, weighted, f32::sqrt),
    }
}

#[inline]
fn weighted(a: f32, b: f32, share_a: f32, share_b: f32) -> f32 {
    share_a * a + share_b * b
}

/// Joins rows and/or columns of a level two by two. `lift` is applied to every texel on the way in and `lower` on the way out;
/// `join` gets two values and their shares (by the cells they stand for: one half each but at the far edges).
fn halve(
    parent: &Rows<'_>,
    from: Level,
    to: Level,
    shape: [usize; 2],
    lift: impl Fn(f32) -> f32 + Sync,
    join: impl Fn(f32, f32, f32, f32) -> f32 + Sync,
    lower: impl Fn(f32) -> f32 + Sync,
) -> Matrix {
    let share = |i: usize, shift: u32, end: usize| {
        let cells = |i: usize| ((i + 1) << shift).min(end).saturating_sub(i << shift) as f32;
        let (a, b) = (cells(2 * i), cells(2 * i + 1));
        (a / (a + b), b / (a + b))
    };
    let (by_rows, by_cols) = (to.row_shift > from.row_shift, to.col_shift > from.col_shift);
    let join_rows = |row: usize, joined: &mut Vec<f32>, second: &mut Vec<f32>| {
        joined.clear();
        parent(if by_rows { 2 * row } else { row }, joined);
        joined.iter_mut().for_each(|x| *x = lift(*x));
        if !by_rows || 2 * row + 1 == from.rows {
            return;
        }
        second.clear();
        parent(2 * row + 1, second);
        let (a, b) = share(row, from.row_shift, shape[0]);
        joined.iter_mut().zip(second.iter()).for_each(|(x, &y)| *x = join(*x, lift(y), a, b));
    };
    let mut values = vec![0.0; to.rows * to.cols];
    let buffers = || (Vec::new(), Vec::new());
    values.par_chunks_mut(to.cols.max(1)).enumerate().with_min_len(4).for_each_init(buffers, |buffers, (row, out)| {
        let (joined, second) = buffers;
        join_rows(row, joined, second);
        if by_cols {
            // The last pair may be uneven or single, all others are even.
            let even = (from.cols / 2).saturating_sub(1);
            let (pairs, _) = joined.as_chunks::<2>();
            for (x, &[a, b]) in out.iter_mut().zip(pairs).take(even) {
                *x = lower(join(a, b, 0.5, 0.5));
            }
            for (col, x) in out.iter_mut().enumerate().skip(even) {
                let first = joined[2 * col];
                let (a, b) = share(col, from.col_shift, shape[1]);
                *x = lower(joined.get(2 * col + 1).map_or(first, |&second| join(first, second, a, b)));
            }
        } else {
            for (x, &y) in out.iter_mut().zip(joined.iter()) {
                *x = lower(y);
            }
        }
    });
    filled(to.rows, to.cols, values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn pyramid(rows: usize, cols: usize, reduction: Reduction) -> Pyramid {
        let source = Matrix::from_fn(rows, cols, |r, c| ((r * 7 + c * 13) % 31) as f32 - 15.0);
        Pyramid::build(Arc::new(source), reduction, &()).unwrap()
    }

    /// The first reduced level of a matrix that would be too small to have one.
    fn halved(values: [f32; 6], reduction: Reduction) -> Vec<f32> {
        // 65 × 128 so that there is a level; the values sit in the last row and last columns.
        let source = Matrix::from_fn(66, 129, |r, c| match (r, c) {
            (64, 126) => values[0],
            (64, 127) => values[1],
            (64, 128) => values[2],
            (65, 126) => values[3],
            (65, 127) => values[4],
            (65, 128) => values[5],
            _ => 0.0,
        });
        let pyramid = Pyramid::build(Arc::new(source), reduction, &()).unwrap();
        assert_eq!((pyramid.level(1).rows(), pyramid.level(1).cols()), (33, 65));
        vec![pyramid.level(1).get(32, 63), pyramid.level(1).get(32, 64)]
    }

    #[test]
    fn reductions_by_hand() {
        let values = [1.0, 2.0, 3.0, -6.0, 5.0, 4.0];
        assert_eq!(halved(values, Reduction::Mean), [0.5, 3.5]);
        assert_eq!(halved(values, Reduction::Extreme), [-6.0, 4.0]);
        let rms = halved(values, Reduction::Rms);
        assert!((rms[0] - (66.0_f32 / 4.0).sqrt()).abs() < 1e-6 && (rms[1] - (25.0_f32 / 2.0).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn every_level_is_what_its_cells_say() {
        // Odd sides everywhere: the shares at the edges matter.
        for reduction in Reduction::ALL {
            let pyramid = pyramid(203, 333, reduction);
            for (level, of) in pyramid.levels().all().iter().enumerate() {
                for (row, col) in [(0, 0), (of.rows - 1, 0), (0, of.cols - 1), (of.rows - 1, of.cols - 1)] {
                    let [rows, cols] = of.covered([203, 333], row, col);
                    let cells: Vec<f32> = rows
                        .flat_map(|r| cols.clone().map(move |c| (r, c)))
                        .map(|(r, c)| pyramid.source.get(r, c))
                        .collect();
                    let n = cells.len() as f32;
                    let expected = match reduction {
                        Reduction::Mean => cells.iter().sum::<f32>() / n,
                        Reduction::Extreme => cells.iter().copied().fold(0.0, extreme).abs(),
                        Reduction::Rms => (cells.iter().map(|x| x * x).sum::<f32>() / n).sqrt(),
                    };
                    let mut found = pyramid.value(level, row, col);
                    if reduction == Reduction::Extreme || (level == 0 && reduction == Reduction::Rms) {
                        // Which of two equal magnitudes comes first differs; at level 0 nothing is squared yet.
                        found = found.abs();
                    }
                    assert!(
                        (found - expected).abs() < 1e-4,
                        "{reduction:?} level {level} ({row}, {col}): {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_short_way_and_the_long_way_agree() {
        let pyramid = pyramid(150, 700, Reduction::Rms);
        for level in 1..pyramid.levels().all().len() {
            let of = pyramid.levels().get(level);
            let (rows, cols) = (of.rows / 3..of.rows, of.cols / 2..of.cols);
            let long = super::super::picture::OnlyCells(&pyramid).block(level, rows.clone(), cols.clone());
            let short = pyramid.block(level, rows, cols);
            assert_eq!(long.shape(), short.shape());
            assert!(long.data().iter().zip(short.data()).all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }

    #[test]
    fn not_a_number_stays_visible() {
        let mut source = Matrix::zeros(200, 200);
        source.data_mut()[5] = f32::NAN;
        for reduction in Reduction::ALL {
            let pyramid = Pyramid::build(Arc::new(source.clone()), reduction, &()).unwrap();
            assert!(pyramid.value(2, 0, 1).is_nan(), "{reduction:?}");
            assert_eq!(pyramid.value(2, 1, 1), 0.0);
        }
    }

    #[test]
    fn a_pyramid_costs_a_third_and_can_be_cancelled() {
        let pyramid = pyramid(1024, 1024, Reduction::Mean);
        let extra: usize = pyramid.reduced.iter().map(|m| m.data().len()).sum();
        assert!(extra * 3 <= 1024 * 1024);

        struct Stop;
        impl Progress for Stop {
            fn step(&self, _: u64, _: u64) -> Result<()> {
                Err(Error::Cancelled)
            }
        }
        let cancelled = Pyramid::build(Arc::new(Matrix::zeros(100, 100)), Reduction::Mean, &Stop);
        assert!(cancelled.is_err_and(|e| e.is_cancelled()));
    }
}
