//! [`View`]: which part of the matrices is on screen and where the cursor is; linked heatmaps share one.

use super::super::levels::{Level, Levels};
use super::super::tiles::Area;
use eframe::egui::{Pos2, Rect, Vec2, vec2};

/// A cell is not drawn larger than this, in points.
const LARGEST_CELL: f64 = 128.0;

/// The part of a matrix that is seen, and the cursor over it, in fractions of rows and columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Middle of what is seen, `[row, col]`, 0…1.
    center: [f64; 2],
    /// How many times larger than when the whole matrix is seen.
    zoom: f64,
    /// Where the pointer is, `[row, col]`, 0…1.
    cursor: Option<[f64; 2]>,
}

impl Default for View {
    fn default() -> Self {
        Self { center: [0.5, 0.5], zoom: 1.0, cursor: None }
    }
}

impl View {
    /// How many times larger than when the whole matrix is seen.
    pub fn zoom(&self) -> f64 {
        self.zoom
    }

    /// The cursor, `[row, col]`, 0…1.
    pub fn cursor(&self) -> Option<[f64; 2]> {
        self.cursor
    }

    /// Puts the cursor, or takes it away.
    pub fn set_cursor(&mut self, cursor: Option<[f64; 2]>) {
        self.cursor = cursor.filter(|c| c.iter().all(|x| (0.0..1.0).contains(x)));
    }

    /// The whole matrix again.
    pub fn reset(&mut self) {
        *self = Self { cursor: self.cursor, ..Self::default() };
    }

    /// Moves by a share of what is seen, `[down, right]`.
    pub fn pan(&mut self, share: [f64; 2]) {
        for (center, share) in self.center.iter_mut().zip(share) {
            *center += share / self.zoom;
        }
        self.settle(f64::INFINITY);
    }

    /// Enlarges by `factor`; what is at `at` of the frame (`[row, col]`, 0…1) stays there.
    pub fn zoom_at(&mut self, factor: f64, at: [f64; 2], largest: f64) {
        let before = self.zoom;
        self.zoom = (self.zoom * factor).clamp(1.0, largest.max(1.0));
        for (center, at) in self.center.iter_mut().zip(at) {
            *center += (at - 0.5) * (1.0 / before - 1.0 / self.zoom);
        }
        self.settle(largest);
    }

    /// Keeps the view inside the matrix.
    fn settle(&mut self, largest: f64) {
        self.zoom = self.zoom.clamp(1.0, largest.max(1.0));
        let half = 0.5 / self.zoom;
        for center in &mut self.center {
            *center = if center.is_finite() { center.clamp(half, 1.0 - half) } else { 0.5 };
        }
    }

    /// The cells that are seen of a matrix of this shape.
    pub fn area(&self, shape: [usize; 2]) -> Area {
        let span = |i: usize| {
            let (middle, half) = (self.center[i] * shape[i] as f64, 0.5 * shape[i] as f64 / self.zoom);
            [middle - half, middle + half]
        };
        Area { rows: span(0), cols: span(1) }
    }

    /// The largest zoom at which a cell of this matrix in this frame still has a sensible size.
    pub fn largest(shape: [usize; 2], frame: Vec2) -> f64 {
        let of = |cells: usize, points: f32| LARGEST_CELL * cells.max(1) as f64 / f64::from(points.max(1.0));
        of(shape[0], frame.y).min(of(shape[1], frame.x))
    }
}

/// Where cells are on the screen.
#[derive(Clone, Copy, Debug)]
pub struct Projection {
    /// The rectangle in points.
    pub frame: Rect,
    /// The cells in it.
    pub area: Area,
}

impl Projection {
    /// Points per cell, `[down, across]`.
    pub fn cell(&self) -> [f64; 2] {
        let size = |points: f32, [low, high]: [f64; 2]| f64::from(points) / (high - low).max(1e-12);
        [size(self.frame.height(), self.area.rows), size(self.frame.width(), self.area.cols)]
    }

    /// Where a place in the matrix is.
    pub fn point(&self, row: f64, col: f64) -> Pos2 {
        let [height, width] = self.cell();
        let offset = vec2(((col - self.area.cols[0]) * width) as f32, ((row - self.area.rows[0]) * height) as f32);
        self.frame.min + offset
    }

    /// Where cells are.
    pub fn rect(&self, area: &Area) -> Rect {
        Rect::from_min_max(self.point(area.rows[0], area.cols[0]), self.point(area.rows[1], area.cols[1]))
    }

    /// The place of a point in the frame, `[row, col]`, 0…1.
    pub fn share(&self, at: Pos2) -> [f64; 2] {
        let share = |x: f32, low: f32, size: f32| f64::from((x - low) / size.max(1e-6));
        [share(at.y, self.frame.top(), self.frame.height()), share(at.x, self.frame.left(), self.frame.width())]
    }

    /// The level to draw at.
    pub fn level(&self, levels: &Levels, pixels_per_point: f32) -> usize {
        levels.select(self.cell().map(|points| 1.0 / (points * f64::from(pixels_per_point)).max(1e-12)))
    }
}

/// The texel under the cursor: what a hover readout is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// The level that is drawn.
    pub level: usize,
    /// Row and column of the texel in that level.
    pub texel: [usize; 2],
    /// Row and column of the cell under the cursor.
    pub cell: [usize; 2],
    /// Rows and columns that the texel stands for.
    pub covered: [std::ops::Range<usize>; 2],
}

impl Spot {
    /// What lies at `cursor` when `level` is drawn; `None` in an empty matrix.
    pub fn at(levels: &Levels, level: usize, cursor: [f64; 2]) -> Option<Self> {
        let shape = levels.shape();
        if shape.contains(&0) {
            return None;
        }
        let index = |i: usize| ((cursor[i] * shape[i] as f64).max(0.0) as usize).min(shape[i] - 1);
        let cell = [index(0), index(1)];
        let Level { row_shift, col_shift, .. } = levels.get(level);
        let texel = [cell[0] >> row_shift, cell[1] >> col_shift];
        Some(Self { level, texel, cell, covered: levels.get(level).covered(shape, texel[0], texel[1]) })
    }

    /// True when the texel is one cell.
    pub fn is_cell(&self) -> bool {
        self.covered.iter().all(|r| r.len() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eframe::egui::pos2;

    #[test]
    fn zooming_keeps_what_is_under_the_pointer() {
        let mut view = View::default();
        let frame = Rect::from_min_size(pos2(10.0, 20.0), vec2(400.0, 400.0));
        let at = pos2(110.0, 320.0);
        let under = |view: &View| {
            let projection = Projection { frame, area: view.area([1000, 1000]) };
            let [row, col] = projection.share(at);
            [projection.area.rows[0] + row * 1000.0 / view.zoom(), projection.area.cols[0] + col * 1000.0 / view.zoom()]
        };
        let before = under(&view);
        for factor in [2.0, 1.5, 0.8] {
            let share = Projection { frame, area: view.area([1000, 1000]) }.share(at);
            view.zoom_at(factor, share, 100.0);
            assert!(under(&view).iter().zip(before).all(|(a, b)| (a - b).abs() < 1e-6));
        }
        view.zoom_at(1e-9, [0.5, 0.5], 100.0);
        assert_eq!(view, View::default());
    }

    #[test]
    fn the_view_stays_inside() {
        let mut view = View::default();
        view.pan([5.0, -5.0]);
        assert_eq!(view.area([10, 10]), Area::whole([10, 10]));
        view.zoom_at(4.0, [0.5, 0.5], 100.0);
        view.pan([9.0, -9.0]);
        assert_eq!(view.area([100, 100]), Area { rows: [75.0, 100.0], cols: [0.0, 25.0] });
        view.zoom_at(1e12, [0.5, 0.5], 32.0);
        assert_eq!(view.zoom(), 32.0);
    }

    #[test]
    fn a_spot_names_its_cells() {
        let levels = Levels::of([1000, 1000]);
        let spot = Spot::at(&levels, 3, [0.5, 0.999]).unwrap();
        assert_eq!((spot.texel, spot.cell), ([62, 124], [500, 999]));
        assert_eq!(spot.covered, [496..504, 992..1000]);
        assert!(!spot.is_cell());
        assert!(Spot::at(&levels, 0, [0.0, 0.0]).unwrap().is_cell());
        assert_eq!(Spot::at(&Levels::of([0, 3]), 0, [0.5, 0.5]), None);
    }
}
