//! Where the parts of a group of heatmaps are.

use eframe::egui::{Rect, Ui, Vec2, pos2, vec2};

use super::super::legend;
use super::super::levels::MAX_ASPECT;

/// Room around a frame: axis on the left, title and axis above.
pub const LEFT: f32 = 18.0;
/// Height of the title.
pub const TITLE: f32 = 20.0;
/// Height of the line below all.
pub const FOOTER: f32 = 20.0;
const TOP: f32 = 18.0;
const GAP: f32 = 20.0;

/// Where things are, relative to the group.
pub struct Layout {
    /// What it takes.
    pub size: Vec2,
    /// One legend, beside the last heatmap, instead of one below each.
    pub shared: bool,
    frame: Vec2,
    step: f32,
}

impl Layout {
    /// For so many heatmaps of this shape in the room there is.
    pub fn new(ui: &Ui, count: usize, shape: [usize; 2], shared: bool) -> Self {
        let shared = shared && count > 1;
        let room = ui.available_size();
        let beside = if shared { 14.0 + legend::THICKNESS + legend::NUMBERS[1] } else { 0.0 };
        let below = if shared { 0.0 } else { 8.0 + legend::THICKNESS + legend::NUMBERS[0] + 4.0 };
        let n = count.max(1) as f32;
        let width = ((room.x - beside - (n - 1.0) * GAP) / n - LEFT).max(60.0);
        let height = (room.y - TITLE - TOP - below - FOOTER).max(60.0);
        let frame = fit(shape, vec2(width, height));
        // A thin frame keeps room for its title.
        let step = frame.x.max(width.min(150.0)) + LEFT + GAP;
        let size = vec2(n * step - GAP + beside, TITLE + TOP + frame.y + below + FOOTER);
        Self { size, frame, step, shared }
    }

    /// The frame of one, on whole pixels.
    pub fn frame(&self, rect: Rect, index: usize, pixels_per_point: f32) -> Rect {
        let corner = rect.min + vec2(LEFT + index as f32 * self.step, TITLE + TOP);
        snap(Rect::from_min_size(corner, self.frame), pixels_per_point)
    }
}

/// The frame for a matrix of this shape in the room there is: cells are square unless one side is more than [`MAX_ASPECT`] times the other.
fn fit(shape: [usize; 2], room: Vec2) -> Vec2 {
    let aspect = aspect(shape) as f32;
    let width = room.x.min(room.y * aspect).max(1.0);
    vec2(width, width / aspect)
}

/// Width over height of the frame of a matrix of this shape.
pub fn aspect([rows, cols]: [usize; 2]) -> f64 {
    (cols.max(1) as f64 / rows.max(1) as f64).clamp(1.0 / MAX_ASPECT, MAX_ASPECT)
}

/// Width over height of a cell: 1 unless the matrix is very long.
pub fn stretch(shape: [usize; 2]) -> f64 {
    aspect(shape) * shape[0].max(1) as f64 / shape[1].max(1) as f64
}

/// On whole pixels.
fn snap(rect: Rect, pixels_per_point: f32) -> Rect {
    let round = |x: f32| (x * pixels_per_point).round() / pixels_per_point;
    Rect::from_min_max(pos2(round(rect.left()), round(rect.top())), pos2(round(rect.right()), round(rect.bottom())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_matrices_are_stretched_and_others_are_not() {
        assert_eq!(fit([4096, 4096], vec2(300.0, 500.0)), vec2(300.0, 300.0));
        assert_eq!(stretch([4096, 4096]), 1.0);
        assert_eq!(fit([1, 10_000], vec2(500.0, 500.0)), vec2(500.0, 200.0));
        assert!((stretch([4096, 16]) - 102.4).abs() < 1e-9);
    }
}
