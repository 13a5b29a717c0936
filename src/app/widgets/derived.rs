//! [`Derived`]: the picture of a matrix that is computed cell by cell, with its reduced levels in memory; [`Sketch`]: a first
//! impression of one, from a part of its rows.

use std::ops::Range;
use std::sync::Arc;

use super::levels::Levels;
use super::picture::{Picture, Reduction, extreme, filled, sampled_stats};
use super::pyramid::{of_matrix, reduce};
use super::stats::Stats;
use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::Progress;

/// A matrix that is computed where it is looked at.
pub trait Cells: Send + Sync {
    /// `[rows, cols]`.
    fn shape(&self) -> [usize; 2];

    /// The columns `cols` of a row; `out` is as long.
    fn row(&self, row: usize, cols: Range<usize>, out: &mut [f32]);
}

/// Computed cells and their reductions: a third of the matrix's memory, and nothing for the matrix itself.
pub struct Derived {
    cells: Arc<dyn Cells>,
    levels: Levels,
    reduced: Vec<Matrix>,
    reduction: Reduction,
    stats: Vec<Arc<Stats>>,
}

impl Derived {
    /// Computes every cell once, and the levels from them. One step of progress per level.
    ///
    /// # Errors
    /// `Cancelled`, when `progress` says so.
    pub fn build(cells: Arc<dyn Cells>, reduction: Reduction, progress: &dyn Progress) -> Result<Self> {
        let shape = cells.shape();
        let levels = Levels::of(shape);
        // Every level has a quarter of the cells of the one before: the first is most of the work.
        let total = 4 * levels.all().len() as u64;
        let mut reduced: Vec<Matrix> = Vec::new();
        for (i, pair) in levels.all().windows(2).enumerate() {
            progress.step(if i == 0 { 0 } else { total - levels.all().len() as u64 + i as u64 }, total)?;
            let pair = [pair[0], pair[1]];
            let computed = |row: usize, out: &mut Vec<f32>| {
                out.resize(shape[1], 0.0);
                cells.row(row, 0..shape[1], out);
            };
            let child = match reduced.last() {
                Some(parent) => reduce(&of_matrix(parent), pair, shape, reduction),
                None => reduce(&computed, pair, shape, reduction),
            };
            reduced.push(child);
        }
        let stats = reduced.iter().map(|level| Arc::new(Stats::of(level.data()))).collect();
        let mut derived = Self { cells, levels, reduced, reduction, stats };
        let mut finest = sampled_stats(&derived, 0);
        if let Some(next) = derived.stats.first().filter(|_| reduction == Reduction::Extreme) {
            // Sampled rows may have missed the largest; the first reduction has not.
            finest.min = finest.min.min(next.min);
            finest.max = finest.max.max(next.max);
        }
        derived.stats.insert(0, Arc::new(finest));
        progress.step(total, total)?;
        Ok(derived)
    }
}

impl Picture for Derived {
    fn levels(&self) -> &Levels {
        &self.levels
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn cells(&self, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        let mut values = vec![0f32; rows.len() * cols.len()];
        for (row, out) in rows.clone().zip(values.chunks_mut(cols.len().max(1))) {
            self.cells.row(row, cols.clone(), out);
        }
        filled(rows.len(), cols.len(), values)
    }

    fn block(&self, level: usize, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        let Some(of) = level.checked_sub(1).and_then(|at| self.reduced.get(at)) else { return self.cells(rows, cols) };
        let mut values = Vec::with_capacity(rows.len() * cols.len());
        for row in rows.clone() {
            values.extend_from_slice(&of.row(row)[cols.clone()]);
        }
        filled(rows.len(), cols.len(), values)
    }

    fn value(&self, level: usize, row: usize, col: usize) -> f32 {
        match level.checked_sub(1).and_then(|at| self.reduced.get(at)) {
            Some(of) => of.get(row, col),
            None => {
                let mut value = [f32::NAN];
                self.cells.row(row, col..col + 1, &mut value);
                value[0]
            }
        }
    }

    fn known_stats(&self, level: usize) -> Option<Arc<Stats>> {
        Some(self.stats(level))
    }

    fn stats(&self, level: usize) -> Arc<Stats> {
        self.stats.get(level.min(self.stats.len().saturating_sub(1))).cloned().unwrap_or_default()
    }
}

/// A coarse level of a large picture, made from some of the rows under each of its texels: what is seen until the picture is there.
pub struct Sketch {
    levels: Levels,
    /// The level that `grid` is an estimate of.
    level: usize,
    grid: Matrix,
    reduction: Reduction,
    stats: Arc<Stats>,
}

impl Sketch {
    /// Rows that are looked at under a texel.
    const ROWS: usize = 2;

    /// The level that a sketch of such a matrix is made at.
    fn level(levels: &Levels) -> usize {
        levels.whole(384)
    }

    /// The rows that [`new`](Self::new) asks for.
    pub fn rows(shape: [usize; 2]) -> Vec<usize> {
        let levels = Levels::of(shape);
        let level = Self::level(&levels);
        let of = levels.get(level);
        let rows = (0..of.rows).flat_map(|row| {
            let [down, _] = of.covered(shape, row, 0);
            let every = down.len().div_ceil(Self::ROWS).max(1);
            down.step_by(every)
        });
        rows.collect()
    }

    /// From the cells of the rows that [`rows`](Self::rows) names, one after the other.
    pub fn new(shape: [usize; 2], rows: &Matrix, reduction: Reduction) -> Self {
        let levels = Levels::of(shape);
        let level = Self::level(&levels);
        let of = levels.get(level);
        let numbers = Self::rows(shape);
        let width = 1 << of.col_shift;
        let mut values = vec![0f32; of.rows * of.cols];
        let mut cells = vec![0usize; of.rows];
        for (at, number) in numbers.iter().enumerate().take(rows.rows()) {
            let texel = number >> of.row_shift;
            cells[texel] += 1;
            let out = &mut values[texel * of.cols..][..of.cols];
            for (to, cells) in out.iter_mut().zip(rows.row(at).chunks(width)) {
                let share = cells.len() as f32;
                match reduction {
                    Reduction::Mean => *to += cells.iter().sum::<f32>() / share,
                    Reduction::Rms => *to += cells.iter().map(|x| x * x).sum::<f32>() / share,
                    Reduction::Extreme => *to = cells.iter().fold(*to, |a, &b| extreme(a, b)),
                }
            }
        }
        if reduction != Reduction::Extreme {
            for (out, &count) in values.chunks_mut(of.cols.max(1)).zip(&cells) {
                out.iter_mut().for_each(|x| *x /= count.max(1) as f32);
            }
        }
        if reduction == Reduction::Rms {
            values.iter_mut().for_each(|x| *x = x.sqrt());
        }
        let stats = Arc::new(Stats::of(&values));
        Self { levels, level, grid: filled(of.rows, of.cols, values), reduction, stats }
    }

    /// The texel of the grid, or the mean of those, that a texel of another level shows.
    fn texel(&self, level: usize, row: usize, col: usize) -> f32 {
        let (of, own) = (self.levels.get(level), self.levels.get(self.level));
        let range = |at: usize, shift: u32, own: u32, end: usize| {
            let first = ((at << shift) >> own).min(end.saturating_sub(1));
            let last = ((((at + 1) << shift).max(1) - 1) >> own).min(end.saturating_sub(1));
            first..last + 1
        };
        let rows = range(row, of.row_shift, own.row_shift, self.grid.rows());
        let cols = range(col, of.col_shift, own.col_shift, self.grid.cols());
        let (count, all) = (rows.len() * cols.len(), rows.flat_map(|row| &self.grid.row(row)[cols.clone()]));
        match self.reduction {
            Reduction::Mean => all.sum::<f32>() / count.max(1) as f32,
            Reduction::Extreme => all.fold(0.0, |a, &b| extreme(a, b)),
            Reduction::Rms => (all.map(|x| x * x).sum::<f32>() / count.max(1) as f32).sqrt(),
        }
    }
}

impl Picture for Sketch {
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
        let texels = rows.clone().flat_map(|row| cols.clone().map(move |col| self.texel(level, row, col)));
        filled(rows.len(), cols.len(), texels.collect())
    }

    fn known_stats(&self, _: usize) -> Option<Arc<Stats>> {
        Some(Arc::clone(&self.stats))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pyramid::Pyramid;
    use super::*;

    struct Wave([usize; 2]);

    impl Cells for Wave {
        fn shape(&self) -> [usize; 2] {
            self.0
        }

        fn row(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
            for (col, to) in cols.zip(out) {
                *to = ((row * 7 + col * 13) % 31) as f32 - 15.0;
            }
        }
    }

    #[test]
    fn levels_are_those_of_the_dense_matrix() {
        for shape in [[203, 150], [3, 1000], [40, 40]] {
            for reduction in Reduction::ALL {
                let derived = Derived::build(Arc::new(Wave(shape)), reduction, &()).unwrap();
                let dense = derived.cells(0..shape[0], 0..shape[1]);
                let pyramid = Pyramid::build(Arc::new(dense), reduction, &()).unwrap();
                for level in 0..pyramid.levels().all().len() {
                    let of = pyramid.levels().get(level);
                    let (rows, cols) = (0..of.rows, of.cols / 2..of.cols);
                    assert_eq!(
                        derived.block(level, rows.clone(), cols.clone()),
                        pyramid.block(level, rows, cols),
                        "{shape:?} {reduction:?} {level}"
                    );
                    assert_eq!(derived.value(level, 0, of.cols - 1), pyramid.value(level, 0, of.cols - 1));
                }
            }
        }
    }

    #[test]
    fn a_sketch_of_rows_that_are_all_the_same_is_exact() {
        let shape = [2000, 1500];
        let source = Matrix::from_fn(shape[0], shape[1], |_, col| (col % 37) as f32 - 18.0);
        for reduction in Reduction::ALL {
            let rows = Sketch::rows(shape);
            assert!(rows.is_sorted() && rows.len() < shape[0] / 2, "{}", rows.len());
            let some = Matrix::from_fn(rows.len(), shape[1], |at, col| source.get(rows[at], col));
            let sketch = Sketch::new(shape, &some, reduction);
            let exact = Pyramid::build(Arc::new(source.clone()), reduction, &()).unwrap();
            let level = Sketch::level(exact.levels());
            let of = exact.levels().get(level);
            let (a, b) = (sketch.block(level, 0..of.rows, 0..of.cols), exact.block(level, 0..of.rows, 0..of.cols));
            assert!(a.data().iter().zip(b.data()).all(|(a, b)| (a - b).abs() < 1e-3), "{reduction:?}");
            // Other levels have the shape that they must have.
            for level in 0..exact.levels().all().len() {
                let of = exact.levels().get(level);
                let found = sketch.block(level, of.rows - 1..of.rows, 0..of.cols);
                assert!(found.data().iter().all(|x| x.is_finite()));
            }
        }
    }
}
