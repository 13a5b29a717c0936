//! Runs on the same data: once there are some, their loss has the last word.

use super::facts::Grid;
use super::law::{Law, Point};
use super::{Bound, Facts, Found, Reason};
use crate::error::Result;
use crate::figure::{Axis, Figure, Series, Style};

pub(super) const REASON: Reason = Reason {
    id: "measured",
    title: "Your own sweep",
    source: "measured here; ΔL = C·r^α·ℓ^−β + b, arXiv 2605.30260",
    judge,
};

/// Losses closer than this share are called the same.
pub(super) const SAME: f64 = 0.02;

fn judge(facts: &Facts) -> Result<Option<Found>> {
    let by_rank = facts.grid.by_rank();
    let [first, .., last] = &by_rank[..] else { return Ok(None) };
    let Some(best) = by_rank.iter().map(|(point, _)| point).min_by(|a, b| a.loss.total_cmp(&b.loss)) else {
        return Ok(None);
    };
    // What seeds differ by is no difference.
    let luck = by_rank.iter().find(|(point, _)| point.r == best.r).map_or(0.0, |(_, spread)| *spread);
    let good = |loss: f64| loss <= best.loss + (SAME * best.loss).max(luck);
    let enough: Vec<usize> = by_rank.iter().filter(|(point, _)| good(point.loss)).map(|(point, _)| point.r).collect();
    let (low, high) = (enough.first().copied().unwrap_or(best.r), enough.last().copied().unwrap_or(best.r));
    let chosen = by_rank.iter().map(|(point, _)| point).find(|point| point.r == low).unwrap_or(best);
    let seeds = facts.grid.seeds();
    let value = format!("r = {low} at rate {:.0e}: held-out loss {:.4}", chosen.lr, chosen.loss);
    let edge = if best.r == last.0.r {
        format!(" {} is the largest that was tried: try {}.", best.r, 2 * best.r)
    } else if low == first.0.r {
        format!(" {low} is the smallest that was tried.")
    } else {
        String::new()
    };
    let law = Law::fit(&points(&facts.grid)).map_or_else(String::new, |law| format!(" {}", law.sentence()));
    let says = format!(
        "On your held-out rows r = {low} comes within 2 % of the best loss ({:.4}, r = {}), each rank at its own best rate, {} of every point.{edge}{law}",
        best.loss,
        best.r,
        if seeds > 1 { format!("up to {seeds} seeds") } else { "one seed".to_owned() },
    );
    let found = Found {
        value,
        says,
        weight: 1.0,
        bound: Some(Bound::Decided(low, low, high)),
        figure: Some(figure(&facts.grid)),
    };
    Ok(Some(found))
}

/// The best of every rank, as the law takes it.
fn points(grid: &Grid) -> Vec<Point> {
    grid.by_rank().iter().map(|(point, _)| Point { r: point.r, steps: point.steps, loss: point.loss }).collect()
}

/// Loss against rank: each rank at its best rate, with the furthest seed.
fn figure(grid: &Grid) -> Figure {
    let by_rank = grid.by_rank();
    let (points, spread): (Vec<[f64; 2]>, Vec<f64>) =
        by_rank.iter().map(|(point, spread)| ([point.r as f64, point.loss], *spread)).unzip();
    let others = grid.points().into_iter().map(|(point, ..)| [point.r as f64, point.loss]).collect();
    let mut figure = Figure {
        title: "Held-out loss by rank, each at its best rate".into(),
        x: Axis::log("rank r"),
        y: Axis::linear("held-out loss"),
        series: vec![
            Series::line("every point of the sweep", others).style(Style::Points).color(6),
            Series { spread, ..Series::line("best rate of each rank", points).style(Style::LinePoints).color(1) },
        ],
        ..Figure::default()
    };
    if let Some(law) = Law::fit(&self::points(grid)) {
        let (low, high) = (by_rank.first().map_or(1, |one| one.0.r), by_rank.last().map_or(1, |one| one.0.r));
        let steps = by_rank.first().map_or(1, |one| one.0.steps);
        let ranks = (0..).map(|i| low << i).take_while(|&r| r <= 4 * high);
        let points = ranks.map(|r| [r as f64, law.loss(r as f64, steps as f64)]).collect();
        figure.series.push(Series::line("the law, fitted", points).style(Style::Dashed).color(3));
    }
    figure
}
