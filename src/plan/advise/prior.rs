//! What sweeps elsewhere have found: where nobody has measured, this is where to begin.

use super::{Bound, Facts, Found, Reason};
use crate::error::Result;
use crate::figure::{Axis, Figure, Series, Style};
use crate::plan::anchors::{TULU_BY_RANK, WIKISQL};

pub(super) const REASON: Reason = Reason {
    id: "published",
    title: "What others measured",
    means: "Rank: in how many independent ways each weight can change. Each of them is a row of A and a column of B.",
    source: "LoRA (arXiv 2106.09685, table 6); QLoRA (2305.14314); Tinker, sft_sweep.md; docs/study.md",
    judge,
};

/// The rank to begin with: from 8 on, published curves are flat once each rank has its own learning rate, and a short run at a
/// smaller one is behind because it learns more slowly.
pub(super) const USUAL: usize = 16;

fn judge(_: &Facts) -> Result<Option<Found>> {
    let [(low, worst), (high, best)] = TULU_BY_RANK;
    let value = format!("rank {low} → {high}: loss {worst:.4} → {best:.4}");
    let says = format!(
        "In published sweeps the rank hardly moves the result from 8 on, once every rank has its own learning rate: {low} → {high} gained {:.1} % of the loss on Tulu 3. In short runs, as measured here, ranks below 8 are behind because they learn more slowly. So: {USUAL}, unless something says otherwise.",
        100.0 * (worst - best) / worst
    );
    let series = WIKISQL.iter().enumerate().map(|(at, one)| {
        let points = one.points.iter().map(|&(r, accuracy)| [r as f64, accuracy]).collect();
        Series::line(format!("GPT-3, {}", one.matrices), points).style(Style::LinePoints).color(at)
    });
    let figure = Figure {
        title: "Published: accuracy by rank (WikiSQL, GPT-3 175B)".into(),
        x: Axis::log("rank r"),
        y: Axis::linear("accuracy, %"),
        series: series.collect(),
        ..Figure::default()
    };
    Ok(Some(Found { value, says, weight: 0.5, bound: Some(Bound::AtLeast(USUAL)), figure: Some(figure) }))
}
