//! The colour bar: colours, the values they stand for, and a marker for one of them.

use eframe::egui::{
    Align2, Color32, FontId, Mesh, Painter, Pos2, Rect, Shape, Stroke, Visuals, epaint::TextShape, pos2, vec2,
};

use super::range::Scale;
use super::tiles::Look;
use crate::figure::number;

/// Thickness of the bar.
pub const THICKNESS: f32 = 8.0;
/// Room for the numbers beside the bar: below a horizontal one, to the right of a vertical one.
pub const NUMBERS: [f32; 2] = [16.0, 78.0];
/// Size of small print.
pub const SMALL: f32 = 11.0;

/// Which way the bar runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Low left, high right, numbers below.
    Horizontal,
    /// Low at the bottom, high at the top, numbers to the right.
    Vertical,
}

/// Draws the bar in `bar` with its numbers beside it; `marker` points at a value.
pub fn paint(painter: &Painter, visuals: &Visuals, bar: Rect, direction: Direction, look: &Look, marker: Option<f32>) {
    painter.add(gradient(bar, direction, look));
    painter.rect_stroke(bar, 0, hairline(visuals), eframe::egui::StrokeKind::Outside);
    let mut taken: Vec<(f32, f32)> = vec![];
    for value in values(look) {
        let position = look.range.position(value).clamp(0.0, 1.0) as f32;
        let text = label(look, value);
        let galley = painter.layout_no_wrap(text, FontId::proportional(SMALL), visuals.text_color());
        let (at, size) = match direction {
            Direction::Horizontal => (bar.left() + position * bar.width(), galley.size().x),
            Direction::Vertical => (bar.bottom() - position * bar.height(), galley.size().y),
        };
        let (first, last) = match direction {
            Direction::Horizontal => (bar.left(), bar.right()),
            Direction::Vertical => (bar.top(), bar.bottom()),
        };
        // Within the bar, so that neighbours have room; left out where it would touch another number.
        let start = (at - size / 2.0).min(last - size).max(first);
        if taken.iter().any(|&(low, high)| start < high + 6.0 && start + size > low - 6.0) {
            continue;
        }
        taken.push((start, start + size));
        let corner = match direction {
            Direction::Horizontal => pos2(start, bar.bottom() + 4.0),
            Direction::Vertical => pos2(bar.right() + 6.0, start),
        };
        painter.add(tick(bar, direction, position, visuals));
        painter.add(TextShape::new(corner, galley, visuals.text_color()));
    }
    if let Some(value) = marker.filter(|v| !v.is_nan()) {
        let position = look.range.position(f64::from(value)).clamp(0.0, 1.0) as f32;
        painter.add(pointer(bar, direction, position, visuals.strong_text_color()));
    }
}

/// A thin line that is quieter than text.
pub fn hairline(visuals: &Visuals) -> Stroke {
    Stroke::new(1.0, visuals.weak_text_color().gamma_multiply(0.5))
}

fn gradient(bar: Rect, direction: Direction, look: &Look) -> Shape {
    const STEPS: usize = 64;
    let table = look.map.table(look.dark);
    let mut mesh = Mesh::default();
    for i in 0..=STEPS {
        let t = i as f32 / STEPS as f32;
        let color = table.at(t).into();
        let [a, b] = match direction {
            Direction::Horizontal => {
                let x = bar.left() + t * bar.width();
                [pos2(x, bar.top()), pos2(x, bar.bottom())]
            }
            Direction::Vertical => {
                let y = bar.bottom() - t * bar.height();
                [pos2(bar.left(), y), pos2(bar.right(), y)]
            }
        };
        mesh.colored_vertex(a, color);
        mesh.colored_vertex(b, color);
        if i > 0 {
            let n = 2 * i as u32;
            mesh.add_triangle(n - 2, n - 1, n);
            mesh.add_triangle(n - 1, n, n + 1);
        }
    }
    Shape::mesh(mesh)
}

fn place(bar: Rect, direction: Direction, position: f32) -> Pos2 {
    match direction {
        Direction::Horizontal => pos2(bar.left() + position * bar.width(), bar.bottom()),
        Direction::Vertical => pos2(bar.right(), bar.bottom() - position * bar.height()),
    }
}

fn tick(bar: Rect, direction: Direction, position: f32, visuals: &Visuals) -> Shape {
    let at = place(bar, direction, position);
    let end = match direction {
        Direction::Horizontal => at + vec2(0.0, 3.0),
        Direction::Vertical => at + vec2(3.0, 0.0),
    };
    Shape::line_segment([at, end], hairline(visuals))
}

/// A small triangle that points at the bar from the side without numbers.
fn pointer(bar: Rect, direction: Direction, position: f32, color: Color32) -> Shape {
    let at = place(bar, direction, position);
    let points = match direction {
        Direction::Horizontal => {
            let tip = pos2(at.x, bar.top() + 1.0);
            [tip, tip + vec2(-4.0, -6.0), tip + vec2(4.0, -6.0)]
        }
        Direction::Vertical => {
            let tip = pos2(bar.left() + 1.0, at.y);
            [tip, tip + vec2(-6.0, -4.0), tip + vec2(-6.0, 4.0)]
        }
    };
    Shape::convex_polygon(points.to_vec(), color, Stroke::NONE)
}

/// Values to print, most important first.
fn values(look: &Look) -> Vec<f64> {
    let (low, high) = (f64::from(look.range.low), f64::from(look.range.high));
    let mut values = vec![low, high];
    if low < 0.0 {
        values.push(0.0);
    }
    match look.range.scale {
        Scale::Linear => values.extend([high / 2.0, low / 2.0].into_iter().filter(|&v| v != 0.0)),
        Scale::SymmetricLog => {
            let top = (high / 2.0).log10().floor() as i32;
            for exponent in (top - 2..=top).rev() {
                let value = 10f64.powi(exponent);
                values.push(value);
                if low < 0.0 {
                    values.push(-value);
                }
            }
        }
    }
    values
}

fn label(look: &Look, value: f64) -> String {
    let (low, high) = (f64::from(look.range.low), f64::from(look.range.high));
    let text = number::short(value, 3);
    match look.range.clipped {
        true if value == high => format!("≥ {text}"),
        true if value == low && low < 0.0 => format!("≤ {text}"),
        _ => text,
    }
}

/// Small print.
pub fn small(painter: &Painter, at: Pos2, align: Align2, text: impl ToString, color: Color32) -> Rect {
    painter.text(at, align, text, FontId::proportional(SMALL), color)
}
