//! The levels of a pyramid: how often the rows and the columns of a matrix are halved.

use std::ops::Range;

/// The longest picture relative to its short side that is drawn with square cells.
///
/// Beyond that the short side is stretched: a matrix of 4096 × 16 would be a hair otherwise. Level after level the long side alone is
/// halved until this aspect is reached, then both.
pub const MAX_ASPECT: f64 = 2.5;

/// The last level has at most this many rows and columns.
const SMALLEST: usize = 64;

/// One level: a texel stands for `2^row_shift × 2^col_shift` cells, fewer at the far edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Rows of texels.
    pub rows: usize,
    /// Columns of texels.
    pub cols: usize,
    /// log₂ of the cells of a texel, down.
    pub row_shift: u32,
    /// log₂ of the cells of a texel, across.
    pub col_shift: u32,
}

impl Level {
    /// Rows and columns of cells that one texel stands for.
    pub fn cells(&self) -> [usize; 2] {
        [1 << self.row_shift, 1 << self.col_shift]
    }

    /// The cells of one texel of this level of a matrix of this shape.
    pub fn covered(&self, shape: [usize; 2], row: usize, col: usize) -> [Range<usize>; 2] {
        let range = |i: usize, shift: u32, end: usize| (i << shift).min(end)..((i + 1) << shift).min(end);
        [range(row, self.row_shift, shape[0]), range(col, self.col_shift, shape[1])]
    }
}

/// All levels for a shape, finest first. The same for every matrix of that shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    shape: [usize; 2],
    levels: Vec<Level>,
}

impl Levels {
    /// Levels for a matrix of `[rows, cols]`.
    pub fn of(shape: [usize; 2]) -> Self {
        let [rows, cols] = shape;
        let mut levels = vec![Level { rows, cols, row_shift: 0, col_shift: 0 }];
        let mut last = levels[0];
        while last.rows.max(last.cols) > SMALLEST {
            let aspect = last.rows as f64 / last.cols.max(1) as f64;
            // Half a level of slack, so that the stretched texel is at most √2 off a square.
            let slack = MAX_ASPECT * std::f64::consts::SQRT_2;
            if aspect >= 1.0 / slack {
                last.row_shift += 1;
            }
            if aspect <= slack {
                last.col_shift += 1;
            }
            last.rows = rows.div_ceil(1 << last.row_shift);
            last.cols = cols.div_ceil(1 << last.col_shift);
            levels.push(last);
        }
        Self { shape, levels }
    }

    /// `[rows, cols]` of the matrix.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// All levels, finest first.
    pub fn all(&self) -> &[Level] {
        &self.levels
    }

    /// One level; an index beyond the end is the coarsest.
    pub fn get(&self, level: usize) -> Level {
        self.levels[level.min(self.levels.len() - 1)]
    }

    /// The coarsest level that still has at least one texel for every pixel, given how many cells lie under one pixel down and across.
    pub fn select(&self, cells_per_pixel: [f64; 2]) -> usize {
        // A pixel may miss a twentieth of a texel: nobody sees it, and whole factors of two are not missed by rounding.
        let enough = |shift: u32, cells: f64| f64::from(1_u32 << shift.min(31)) <= cells.max(1.0) * 1.05;
        let fits = |l: &Level| enough(l.row_shift, cells_per_pixel[0]) && enough(l.col_shift, cells_per_pixel[1]);
        self.levels.iter().rposition(fits).unwrap_or(0)
    }

    /// The finest level that fits in `side × side` texels.
    pub fn whole(&self, side: usize) -> usize {
        self.levels.iter().position(|l| l.rows.max(l.cols) <= side).unwrap_or(self.levels.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn square_matrices_are_halved_both_ways() {
        let levels = Levels::of([4096, 4096]);
        assert_eq!(levels.all().len(), 7);
        assert_eq!(levels.get(3), Level { rows: 512, cols: 512, row_shift: 3, col_shift: 3 });
        assert_eq!(levels.get(99).rows, 64);
        assert_eq!(levels.whole(512), 3);
    }

    #[test]
    fn thin_matrices_lose_their_long_side_first() {
        let levels = Levels::of([4096, 16]);
        assert_eq!(levels.get(1), Level { rows: 2048, cols: 16, row_shift: 1, col_shift: 0 });
        assert_eq!(levels.all().last().map(|l| (l.rows, l.cols)), Some((64, 16)));
        let wide = Levels::of([1, 1000]);
        assert_eq!(wide.get(1), Level { rows: 1, cols: 500, row_shift: 0, col_shift: 1 });
        assert_eq!(Levels::of([8192, 28672]).get(1).cells(), [2, 2]);
    }

    #[test]
    fn a_pixel_never_lacks_a_texel() {
        let levels = Levels::of([4096, 4096]);
        assert_eq!(levels.select([10.24, 10.24]), 3);
        assert_eq!(levels.select([0.1, 0.1]), 0);
        assert_eq!(levels.select([1.8, 30.0]), 0);
        assert_eq!(levels.select([1e9, 1e9]), 6);
        // Stretched: 16 columns over 160 pixels, 4096 rows over 400.
        assert_eq!(Levels::of([4096, 16]).select([10.24, 0.1]), 3);
    }

    #[test]
    fn texels_at_the_edge_cover_what_is_left() {
        let level = Levels::of([100, 300]).get(2);
        assert_eq!(level, Level { rows: 25, cols: 75, row_shift: 2, col_shift: 2 });
        let odd = Levels::of([101, 301]).get(1);
        assert_eq!(odd.covered([101, 301], 50, 150), [100..101, 300..301]);
    }

    #[test]
    fn nothing_and_one_cell() {
        assert_eq!(Levels::of([0, 0]).all().len(), 1);
        assert_eq!(Levels::of([1, 1]).select([5.0, 5.0]), 0);
    }
}
