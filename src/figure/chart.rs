//! Drawings of a report that are no plots: bars with their amounts, and the map of block × projection.

use super::svg::{Anchor, Svg};
use super::{Color, ColorMap};

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

const FILL: Color = Color([0x31, 0x68, 0x8e]);

/// Bars from 0 to `most`, one under the other.
pub fn bars(title: &str, bars: &[Bar], most: f64) -> String {
    const ROW: f64 = 28.0;
    const LEFT: f64 = 220.0;
    const WIDTH: f64 = 560.0;
    let mut svg = Svg::new(title, [LEFT + WIDTH + 120.0, 34.0 + ROW * bars.len() as f64]);
    svg.heading([0.0, 16.0], title);
    for (at, bar) in bars.iter().enumerate() {
        let y = 30.0 + ROW * at as f64;
        let length = if most > 0.0 { WIDTH * (bar.value / most).clamp(0.0, 1.0) } else { 0.0 };
        svg.text([LEFT - 10.0, y + 13.0], Anchor::End, &bar.label, "");
        svg.rect([LEFT, y, length, 16.0], FILL, " rx=\"2\"");
        svg.text([LEFT + length + 8.0, y + 13.0], Anchor::Start, &bar.text, "");
    }
    svg.finish()
}

/// Cells of `(block, name, value)`: blocks down, names across, coloured by their value, which stands in the cell.
pub fn map(title: &str, values: &[(usize, &str, f64)]) -> String {
    const CELL: [f64; 2] = [74.0, 20.0];
    const LEFT: f64 = 60.0;
    const TOP: f64 = 54.0;
    let (mut blocks, mut names) = (Vec::<usize>::new(), Vec::<&str>::new());
    let cells: Vec<([f64; 2], f64)> = values
        .iter()
        .map(|&(block, name, value)| {
            let (row, column) = (position(&mut blocks, block), position(&mut names, name));
            ([LEFT + CELL[0] * column as f64, TOP + CELL[1] * row as f64], value)
        })
        .collect();
    let most = cells.iter().map(|cell| cell.1).fold(0.0, f64::max);
    let width = LEFT + CELL[0] * names.len() as f64 + 12.0;
    let mut svg = Svg::new(title, [width.max(300.0), TOP + CELL[1] * blocks.len() as f64 + 10.0]);
    svg.heading([0.0, 16.0], title);
    for (at, name) in names.iter().enumerate() {
        svg.text([LEFT + CELL[0] * (at as f64 + 0.5), TOP - 8.0], Anchor::Middle, name, "");
    }
    for (at, block) in blocks.iter().enumerate() {
        svg.text([LEFT - 8.0, TOP + CELL[1] * at as f64 + 14.0], Anchor::End, &block.to_string(), "");
    }
    for ([x, y], value) in cells {
        let share = if most > 0.0 { value / most } else { 0.0 };
        svg.rect([x, y, CELL[0] - 1.0, CELL[1] - 1.0], ColorMap::Viridis.table(false).at(share as f32), "");
        let ink = if share > 0.6 { Color::INK } else { Color::WHITE };
        svg.text([x + CELL[0] / 2.0, y + 14.0], Anchor::Middle, &value.to_string(), &format!(" fill=\"{ink}\""));
    }
    svg.finish()
}

fn position<T: PartialEq>(known: &mut Vec<T>, value: T) -> usize {
    known.iter().position(|other| *other == value).unwrap_or_else(|| {
        known.push(value);
        known.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        let bar = |value, text: &str| Bar { label: "a<b".into(), value, text: text.into() };
        let svg = bars("Memory", &[bar(1.0, "one"), bar(4.0, "four")], 4.0);
        assert!(svg.contains("width=\"140.0\"") && svg.contains("width=\"560.0\"") && svg.contains("a&lt;b"), "{svg}");
        assert!(bars("none", &[bar(0.0, "0")], 0.0).contains("width=\"0.0\""));
    }

    #[test]
    fn a_map_has_a_row_for_each_block() {
        let svg = map("Ranks", &[(0, "q_proj", 8.0), (0, "v_proj", 2.0), (3, "q_proj", 0.0)]);
        assert_eq!(svg.matches(">q_proj<").count(), 1);
        assert!(svg.contains(">3<") && svg.contains(&format!("fill=\"{}\"", ColorMap::Viridis.table(false).at(1.0))));
        assert_eq!(svg.matches("height=\"19.0\"").count(), 3);
    }
}
