//! The two drawings of a plan, as SVG: bars, and the map of block × projection.

use super::escape;
use std::fmt::Write as _;

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// What is written behind it.
    pub text: String,
}

const INK: &str = "#333333";
const OPEN: &str = "font-family=\"Inter, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"12\"";

/// Bars from 0 to `most`, one under the other.
pub fn bars(title: &str, bars: &[Bar], most: f64) -> String {
    const ROW: f64 = 28.0;
    const LEFT: f64 = 220.0;
    const WIDTH: f64 = 560.0;
    let height = 34.0 + ROW * bars.len() as f64;
    let mut out = open(title, LEFT + WIDTH + 120.0, height);
    for (at, bar) in bars.iter().enumerate() {
        let y = 30.0 + ROW * at as f64;
        let share = if most > 0.0 { (bar.value / most).clamp(0.0, 1.0) } else { 0.0 };
        let length = WIDTH * share;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"16\" rx=\"2\" fill=\"#31688e\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 10.0,
            y + 13.0,
            escape(&bar.label),
            y,
            LEFT + length + 8.0,
            y + 13.0,
            escape(&bar.text)
        );
    }
    out.push_str("</svg>");
    out
}

/// Modules by block (down) and projection (across), coloured by their value, which stands in the cell.
pub fn map(title: &str, values: &[(&str, f64)]) -> String {
    const CELL: [f64; 2] = [74.0, 20.0];
    const LEFT: f64 = 60.0;
    const TOP: f64 = 54.0;
    let (mut blocks, mut leaves, mut cells) = (Vec::<usize>::new(), Vec::<&str>::new(), Vec::new());
    for &(name, value) in values {
        let Some(block) = crate::checkpoint::layer_of(name) else { continue };
        let leaf = name.rsplit('.').next().unwrap_or(name);
        let row = position(&mut blocks, block);
        let column = position(&mut leaves, leaf);
        cells.push((row, column, value));
    }
    let most = cells.iter().map(|cell| cell.2).fold(0.0, f64::max);
    let width = LEFT + CELL[0] * leaves.len() as f64 + 12.0;
    let mut out = open(title, width.max(300.0), TOP + CELL[1] * blocks.len() as f64 + 10.0);
    for (at, leaf) in leaves.iter().enumerate() {
        let x = LEFT + CELL[0] * (at as f64 + 0.5);
        let _ =
            writeln!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", TOP - 8.0, escape(leaf));
    }
    for (at, block) in blocks.iter().enumerate() {
        let y = TOP + CELL[1] * at as f64 + 14.0;
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{block}</text>", LEFT - 8.0);
    }
    for (row, column, value) in cells {
        let [x, y] = [LEFT + CELL[0] * column as f64, TOP + CELL[1] * row as f64];
        let share = if most > 0.0 { value / most } else { 0.0 };
        let ink = if share > 0.6 { INK } else { "#ffffff" };
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{ink}\">{value}</text>",
            CELL[0] - 1.0,
            CELL[1] - 1.0,
            color(share),
            x + CELL[0] / 2.0,
            y + 14.0
        );
    }
    out.push_str("</svg>");
    out
}

fn position<T: PartialEq>(known: &mut Vec<T>, value: T) -> usize {
    known.iter().position(|other| *other == value).unwrap_or_else(|| {
        known.push(value);
        known.len() - 1
    })
}

fn open(title: &str, width: f64, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         role=\"img\" {OPEN} fill=\"{INK}\">\n<title>{title}</title>\n<text x=\"0\" y=\"16\" font-size=\"13\" font-weight=\"600\">{title}</text>\n"
    )
}

/// Viridis at five places, straight lines between.
fn color(share: f64) -> String {
    const STOPS: [[f64; 3]; 5] =
        [[68.0, 1.0, 84.0], [59.0, 82.0, 139.0], [33.0, 145.0, 140.0], [94.0, 201.0, 98.0], [253.0, 231.0, 37.0]];
    let at = share.clamp(0.0, 1.0) * 4.0;
    let low = (at as usize).min(3);
    let part = at - low as f64;
    let channel = |c: usize| (STOPS[low][c] + (STOPS[low + 1][c] - STOPS[low][c]) * part).round() as u8;
    format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2))
}
