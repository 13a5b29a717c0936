//! Where the error is: its histogram, and its size along rows, columns and blocks.

use super::state::Facts;
use crate::figure::{Axis, Figure, Series, Style};
use crate::quant::Detail;

/// A curve is drawn with this many points at most: the largest of neighbours, so that none is missed.
const POINTS: usize = 800;

/// The three figures of one or two formats.
pub fn figures(all: &[Facts]) -> [Figure; 3] {
    let figure =
        |title: &str, x: Axis, y: Axis| Figure { title: title.into(), x, y, quiet: all.len() < 2, ..Figure::default() };
    let mut histogram = figure("Histogram of the error", Axis::linear("ŵ − w"), Axis::linear("share of weights"));
    let mut rows = figure("Error along rows and columns", Axis::linear("index"), Axis::linear("RMSE"));
    rows.quiet = false;
    let mut blocks = figure("Error along blocks", Axis::linear("block, smallest error first"), Axis::linear("RMSE"));
    for (index, facts) in all.iter().enumerate() {
        let (detail, name) = (&facts.detail, facts.recipe.to_string());
        let total: u64 = detail.histogram.iter().sum();
        let width = 2.0 * detail.reach / Detail::BINS as f64;
        let points = detail.histogram.iter().enumerate();
        let points = points.map(|(i, &n)| [-detail.reach + width * (i as f64 + 0.5), n as f64 / total.max(1) as f64]);
        histogram.series.push(Series::line(&name, points.collect()).style(Style::Area).color(index));
        let tag = if all.len() > 1 { format!(" {}", ["A", "B"][index.min(1)]) } else { String::new() };
        rows.series.push(Series::line(format!("rows{tag}"), largest(&detail.by_row)).color(2 * index));
        rows.series.push(Series::line(format!("columns{tag}"), largest(&detail.by_col)).color(2 * index + 1));
        let mut sorted = detail.by_block.clone();
        sorted.sort_by(f32::total_cmp);
        blocks.series.push(Series::line(&name, largest(&sorted)).color(index));
    }
    [histogram, rows, blocks]
}

fn largest(values: &[f32]) -> Vec<[f64; 2]> {
    let each = values.len().div_ceil(POINTS).max(1);
    let chunks = values.chunks(each).enumerate();
    chunks.map(|(i, chunk)| [(i * each) as f64, f64::from(chunk.iter().fold(0f32, |a, &b| a.max(b)))]).collect()
}
