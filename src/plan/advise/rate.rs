//! The learning rate: it comes before the rank.
//!
//! What an update moves the output by grows with `s · r` for the same rate, as all r directions move together, and with `√r`
//! where they do not. So the best rate depends on how `s` follows r (arXiv 2602.06204): with `s` fixed (α = 2r) it falls as r grows;
//! with `s = α/r` it hardly moves; rsLoRA lies between. Measured on the bundled model: `docs/study.md`.

use super::{Facts, Found, Reason};
use crate::error::Result;
use crate::figure::{Axis, Figure, Series, Style};
use crate::plan::Method;
use crate::plan::anchors::TULU_BY_RATE;

pub(super) const REASON: Reason = Reason {
    id: "rate",
    title: "Learning rate before rank",
    source: "arXiv 2602.04998 (variants within 1 to 2 % at their own rate); 2602.06204 (how it moves with r); LoRA Without Regret",
    judge,
};

/// α is twice the rank: the convention of most published adapters, and the one that rates here are stated under.
pub const ALPHA: Convention = Convention(2.0);

/// `s`, the same at every rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convention(f64);

impl Convention {
    /// `s` at rank `r`.
    pub fn scaling(self, _r: usize) -> f64 {
        self.0
    }
}

/// Parameters and best rate of a small and a large model: a power law goes through them.
type Law = [(f64, f64); 2];

/// The bundled model's, in the middle of what short and longer runs on its three sets want at r = 16, α = 32 (`docs/study.md`); QLoRA's
/// of 7B (Dettmers et al. 2023, table 9).
const LORA: Law = [(2e6, 6e-3), (7e9, 2e-4)];
/// A full fine-tune moves every weight, so each by less: the bundled model's own, and a tenth of LoRA's at 7B (LoRA Without Regret).
const FULL: Law = [(2e6, 1e-3), (7e9, 2e-5)];

/// The rank and `s` that [`learning_rate`] is stated for.
const AT: (usize, f64) = (16, 2.0);
/// How the best rate moves with r at the same `s`, and with `s` at the same r: measured from r = 4 to 64 on the bundled model.
const BY_RANK: f64 = -0.5;
const BY_SCALING: f64 = -0.5;

/// The best rate lies within this factor of the expected one, up and down.
pub const EXPECTED: f64 = 3.0;
/// And of one that is the best of a sweep.
pub const MEASURED: f64 = 1.5;

/// A peak learning rate to begin with for a model of so many parameters: [`LORA`] or [`FULL`].
pub fn learning_rate(parameters: u64, method: Method) -> f64 {
    digit(expected(parameters, method))
}

fn expected(parameters: u64, method: Method) -> f64 {
    let [(small, first), (large, last)] = if method == Method::Full { FULL } else { LORA };
    let slope = (first / last).ln() / (large / small).ln();
    let rate = last * (large / parameters.max(1) as f64).powf(slope);
    rate.clamp(0.1 * last, 2.0 * first)
}

/// The same at a rank and an `s`.
pub fn at(parameters: u64, method: Method, r: usize, scaling: f64) -> f64 {
    let rate = expected(parameters, method);
    if method == Method::Full {
        return digit(rate);
    }
    digit(moved(rate, AT, (r, scaling)))
}

/// What a rate at one rank and `s` is worth at another.
pub fn moved(rate: f64, (r, scaling): (usize, f64), (to, scaled): (usize, f64)) -> f64 {
    rate * (to.max(1) as f64 / r.max(1) as f64).powf(BY_RANK) * (scaled / scaling).powf(BY_SCALING)
}

/// One digit: more is not known.
pub fn digit(rate: f64) -> f64 {
    let unit = 10f64.powf(rate.log10().floor());
    (rate / unit).round() * unit
}

/// From so many times less to so many times more.
pub fn around(rate: f64, factor: f64) -> [f64; 2] {
    [rate / factor, rate * factor].map(digit)
}

fn judge(facts: &Facts) -> Result<Option<Found>> {
    let parameters = facts.layout.parameters;
    if facts.method == Method::Full {
        return Ok(None);
    }
    let [(low, worst), (high, best)] = TULU_BY_RATE;
    let of = |r: usize, s: f64| at(parameters, facts.method, r, s);
    let value = format!("{:.0e} at r = 16, α = 32", of(16, 2.0));
    let says = format!(
        "A rate that is off costs more than a rank that is off: at rank 64 a tenth of the best rate ({low:.0e} in place of {high:.0e}) cost {:.1} % of the loss on Tulu 3, rank 1 in place of 64 half of that. LoRA's best rate is about ten times that of full tuning. With α = 2r it falls as the rank grows ({:.0e} at r = 4, {:.0e} at r = 64); with α fixed at 32 it hardly moves ({:.0e}, {:.0e}).",
        100.0 * (worst - best) / worst,
        of(4, 2.0),
        of(64, 2.0),
        of(4, 8.0),
        of(64, 0.5),
    );
    let ranks = || (0..=8).map(|i| 1usize << i);
    let line = |name: &str, scaling: fn(f64) -> f64, color: usize| {
        let rate = |r: usize| moved(expected(parameters, facts.method), AT, (r, scaling(r as f64)));
        Series::line(name, ranks().map(|r| [r as f64, rate(r)]).collect()).color(color)
    };
    let mut figure = Figure {
        title: "Expected best learning rate, by rank and by how α follows it".into(),
        x: Axis::log("rank r"),
        y: Axis::log("learning rate"),
        series: vec![
            line("α = 2r", |_| 2.0, 1),
            line("α = 32", |r| 32.0 / r, 2),
            line("rsLoRA, α = 8", |r| 8.0 / r.sqrt(), 3),
        ],
        ..Figure::default()
    };
    let measured: Vec<[f64; 2]> = facts.grid.by_rank().iter().map(|(point, _)| [point.r as f64, point.lr]).collect();
    if !measured.is_empty() {
        figure.series.push(Series::line("best of your sweep", measured).style(Style::Points).color(0));
    }
    Ok(Some(Found { value, says, weight: 0.9, bound: None, figure: Some(figure) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learning_rate_for_each_size() {
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        assert!(close(learning_rate(7_000_000_000, Method::Qlora), 2e-4));
        assert!(close(learning_rate(2_000_000, Method::Lora), 6e-3));
        assert!(close(learning_rate(2_000_000, Method::Full), 1e-3));
        let middle = learning_rate(1_100_000_000, Method::Lora);
        assert!((3e-4..6e-4).contains(&middle), "{middle}");
        assert!(learning_rate(0, Method::Lora) <= 2e-2 && learning_rate(u64::MAX, Method::Lora) >= 2e-5);
    }

    #[test]
    fn a_rate_falls_with_the_rank_unless_alpha_is_fixed() {
        let of = |r, s| at(7_000_000_000, Method::Lora, r, s);
        assert!(of(4, 2.0) > of(16, 2.0) && of(16, 2.0) > of(64, 2.0));
        assert_eq!(of(4, 8.0), of(64, 0.5));
        assert_eq!(at(7_000_000_000, Method::Full, 4, 2.0), at(7_000_000_000, Method::Full, 64, 2.0));
        let [low, high] = around(1e-3, 3.0);
        assert!((low - 3e-4).abs() < 1e-9 && (high - 3e-3).abs() < 1e-9);
    }
}
