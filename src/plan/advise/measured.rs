//! Runs on the same data: once there are some, their loss has the last word.

use super::facts::Grid;
use super::law::{Law, Point, RANKS};
use super::{Bound, Facts, Found, Reason};
use crate::error::Result;
use crate::figure::{Axis, Figure, Series, Style};
use crate::plan::anchors::behind;
use crate::units::percent;

pub(super) const REASON: Reason = Reason {
    id: "measured",
    title: "Your own sweep",
    means: "Loss: how badly the model predicts answers that it was not trained on; lower is better. A sweep trains several ranks and rates to compare them.",
    source: "measured here; ΔL = C·r^α·ℓ^−β + b and p > ½, arXiv 2605.30260",
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
    let tokens = facts.data.as_ref().map_or(1, |data| data.predicted.max(1));
    let law = law(facts, tokens, best.loss);
    let sure = chosen.sure.map_or_else(String::new, |sure| {
        format!(
            " At r = {low} {} of the held-out answer tokens get more than half of the probability: those the model says right.",
            percent(sure)
        )
    });
    let says = format!(
        "On your held-out rows r = {low} comes within 2 % of the best loss ({:.4}, r = {}), each rank at its own best rate, {} of every point.{sure}{edge}{law}",
        best.loss,
        best.r,
        if seeds > 1 { format!("up to {seeds} seeds") } else { "one seed".to_owned() },
    );
    let found = Found {
        value,
        says,
        weight: 1.0,
        bound: Some(Bound::Decided(low, low, high)),
        figure: Some(figure(&facts.grid, tokens)),
    };
    Ok(Some(found))
}

/// The best of every rank, as the law takes it.
fn points(grid: &Grid, tokens: u64) -> Vec<Point> {
    grid.by_rank().iter().map(|(point, _)| Point { r: point.r, tokens, loss: point.loss }).collect()
}

/// What the law says, or why it is not fitted.
fn law(facts: &Facts, tokens: u64, best: f64) -> String {
    let points = points(&facts.grid, tokens);
    let Some(law) = Law::fit(&points) else {
        return if points.len() < RANKS {
            format!(" With {RANKS} ranks or more the law of loss by rank can be fitted; these are {}.", points.len())
        } else {
            " The losses follow no law of the rank: they do not fall with it by a smooth curve.".to_owned()
        };
    };
    let next = law.rank((1.0 - SAME) * best, tokens as f64).map_or_else(String::new, |r| {
        format!(" By it another 2 % would take rank {:.0}: a guess beyond what was tried.", r.ceil())
    });
    format!(" {}{next}", law.sentence())
}

/// Loss against rank: each rank at its best rate, with the furthest seed.
fn figure(grid: &Grid, tokens: u64) -> Figure {
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
    let (low, high) = (by_rank.first().map_or(1, |one| one.0.r), by_rank.last().map_or(1, |one| one.0.r));
    if let Some(law) = Law::fit(&self::points(grid, tokens)) {
        let ranks = (0..).map(|i| low << i).take_while(|&r| r <= 2 * high);
        let points = ranks.map(|r| [r as f64, law.loss(r as f64, tokens as f64)]).collect();
        figure.series.push(Series::line("the law, fitted", points).style(Style::Dashed).color(3));
    }
    let least = by_rank.iter().map(|(point, _)| point.loss).fold(f64::INFINITY, f64::min);
    figure.series.extend(behind(least, [low, high]));
    figure
}
