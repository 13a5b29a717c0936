//! [`Picture`]: a matrix that can be looked at in part and at every level.

use std::ops::Range;
use std::sync::Arc;

use eframe::egui::{ComboBox, Ui};
use serde::{Deserialize, Serialize};

use super::levels::Levels;
use super::stats::Stats;
use crate::matrix::Matrix;

/// What a texel that stands for many cells shows of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reduction {
    /// Their mean. Linear: the mean of a difference is the difference of the means.
    #[default]
    Mean,
    /// The one of largest magnitude, with its sign. The first one if two are equal.
    Extreme,
    /// The root of the mean of their squares.
    Rms,
}

impl Reduction {
    /// Every reduction.
    pub const ALL: [Self; 3] = [Self::Mean, Self::Extreme, Self::Rms];

    /// The word before "of 8 × 8 cells".
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Extreme => "extreme",
            Self::Rms => "rms",
        }
    }

    /// A list to choose from; true when another was chosen.
    pub fn ui(&mut self, ui: &mut Ui) -> bool {
        let before = *self;
        let combo = ComboBox::from_id_salt("reduction")
            .selected_text(format!("cells: {}", self.name()))
            .width(104.0)
            .show_ui(ui, |ui| {
                for reduction in Self::ALL {
                    ui.selectable_value(self, reduction, reduction.name());
                }
            });
        combo.response.accessible_name("Many cells as").on_hover_text(
            "What a pixel shows when it stands for many cells: their mean, the one of largest magnitude, or the root of their mean square.",
        );
        before != *self
    }
}

/// A matrix that can be looked at in part and at every level; it may compute what it shows on demand.
///
/// Cheap to read one value from; blocks are made in jobs, never in a frame.
pub trait Picture: Send + Sync {
    /// Shape and levels.
    fn levels(&self) -> &Levels;

    /// What a texel shows of its cells.
    fn reduction(&self) -> Reduction;

    /// Cells of the matrix itself.
    fn cells(&self, rows: Range<usize>, cols: Range<usize>) -> Matrix;

    /// Texels of a level. Unless the picture knows a shorter way, made from [`cells`](Self::cells), one row of texels at a time.
    fn block(&self, level: usize, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        let (shape, of) = (self.levels().shape(), self.levels().get(level));
        if level == 0 {
            return self.cells(rows, cols);
        }
        let mut texels = Vec::with_capacity(rows.len() * cols.len());
        let [_, across] = of.covered(shape, 0, cols.start);
        let [_, last] = of.covered(shape, 0, cols.end.saturating_sub(1));
        for row in rows.clone() {
            let [down, _] = of.covered(shape, row, 0);
            let band = self.cells(down, across.start..last.end);
            texels.extend(reduce_band(&band, 1 << of.col_shift, self.reduction()));
        }
        filled(rows.len(), cols.len(), texels)
    }

    /// One texel.
    fn value(&self, level: usize, row: usize, col: usize) -> f32 {
        self.block(level, row..row + 1, col..col + 1).data().first().copied().unwrap_or(f32::NAN)
    }

    /// Statistics of a level that are there already.
    fn known_stats(&self, _level: usize) -> Option<Arc<Stats>> {
        None
    }

    /// Statistics of a level; a picture that computes its texels looks at some rows only. For jobs.
    fn stats(&self, level: usize) -> Arc<Stats> {
        Arc::new(sampled_stats(self, level))
    }
}

/// Statistics of evenly spaced rows of a level: about a quarter of a million texels.
pub(super) fn sampled_stats(picture: &(impl Picture + ?Sized), level: usize) -> Stats {
    const TEXELS: usize = 1 << 18;
    let of = picture.levels().get(level);
    let rows = (TEXELS / of.cols.max(1)).clamp(1, of.rows.max(1));
    if rows >= of.rows {
        return Stats::of(picture.block(level, 0..of.rows, 0..of.cols).data());
    }
    let mut values = Vec::with_capacity(rows * of.cols);
    for i in 0..rows {
        let row = i * of.rows / rows;
        values.extend_from_slice(picture.block(level, row..row + 1, 0..of.cols).data());
    }
    Stats::of(&values)
}

/// One row of texels from the cells under it.
fn reduce_band(band: &Matrix, width: usize, reduction: Reduction) -> Vec<f32> {
    let texels = band.cols().div_ceil(width.max(1));
    let texel = |t: usize| {
        let cols = t * width..((t + 1) * width).min(band.cols());
        let cells = (0..band.rows()).flat_map(|row| &band.row(row)[cols.clone()]).copied();
        match reduction {
            Reduction::Mean => cells.sum::<f32>() / (cols.len() * band.rows()) as f32,
            Reduction::Extreme => cells.fold(0.0, extreme),
            Reduction::Rms => (cells.map(|x| x * x).sum::<f32>() / (cols.len() * band.rows()) as f32).sqrt(),
        }
    };
    (0..texels).map(texel).collect()
}

/// The one of larger magnitude; NaN wins, equals keep the first.
#[inline]
pub(super) fn extreme(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.abs() <= a.abs() { a } else { b }
}

/// A matrix whose length is right by construction.
pub(super) fn filled(rows: usize, cols: usize, values: Vec<f32>) -> Matrix {
    debug_assert_eq!(values.len(), rows * cols);
    Matrix::new(rows, cols, values).unwrap_or_else(|_| Matrix::zeros(rows, cols))
}

/// `a − b`, texel by texel.
///
/// With [`Reduction::Mean`] the levels of both are subtracted; with the others the cells are.
pub struct Difference {
    a: Arc<dyn Picture>,
    b: Arc<dyn Picture>,
}

impl Difference {
    /// Two pictures of the same shape and reduction; `None` otherwise.
    pub fn new(a: Arc<dyn Picture>, b: Arc<dyn Picture>) -> Option<Self> {
        (a.levels() == b.levels() && a.reduction() == b.reduction()).then_some(Self { a, b })
    }
}

impl Picture for Difference {
    fn levels(&self) -> &Levels {
        self.a.levels()
    }

    fn reduction(&self) -> Reduction {
        self.a.reduction()
    }

    fn cells(&self, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        minus(self.a.cells(rows.clone(), cols.clone()), &self.b.cells(rows, cols))
    }

    fn block(&self, level: usize, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        if level == 0 || self.reduction() == Reduction::Mean {
            return minus(self.a.block(level, rows.clone(), cols.clone()), &self.b.block(level, rows, cols));
        }
        OnlyCells(self).block(level, rows, cols)
    }
}

fn minus(mut a: Matrix, b: &Matrix) -> Matrix {
    for (x, y) in a.data_mut().iter_mut().zip(b.data()) {
        *x -= y;
    }
    a
}

/// A picture with another reduction: its texels are made from its cells.
pub struct Reduced {
    picture: Arc<dyn Picture>,
    reduction: Reduction,
}

impl Reduced {
    /// The picture itself where it reduces like this already.
    #[expect(clippy::new_ret_no_self, reason = "where nothing differs it is the picture itself")]
    pub fn new(picture: Arc<dyn Picture>, reduction: Reduction) -> Arc<dyn Picture> {
        match picture.reduction() == reduction {
            true => picture,
            false => Arc::new(Self { picture, reduction }),
        }
    }
}

impl Picture for Reduced {
    fn levels(&self) -> &Levels {
        self.picture.levels()
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn cells(&self, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        self.picture.cells(rows, cols)
    }
}

/// The same picture without its own way to texels: what [`Picture::block`] does by itself.
pub(super) struct OnlyCells<'a>(pub &'a dyn Picture);

impl Picture for OnlyCells<'_> {
    fn levels(&self) -> &Levels {
        self.0.levels()
    }

    fn reduction(&self) -> Reduction {
        self.0.reduction()
    }

    fn cells(&self, rows: Range<usize>, cols: Range<usize>) -> Matrix {
        self.0.cells(rows, cols)
    }
}
