//! The learning rate: it comes before the rank.
//!
//! What an update moves the output by grows with `s · r` for the same rate, as all r directions move together, and with `√r`
//! where they do not. So the best rate depends on how `s` follows r (arXiv 2602.06204): with `s` fixed (α = 2r) it falls as r grows;
//! with `s = α/r` it hardly moves; rsLoRA lies between. It also depends on the run: a step of few answer tokens is a noisy one and wants a
//! smaller rate (for Adam by the square root, arXiv 2205.10287), and so do many steps (LoRA Without Regret: 15 times full tuning's rate in
//! short runs, 10 times in long ones). Measured on the bundled model: `docs/study.md`.

use super::{Facts, Found, Reason};
use crate::error::Result;
use crate::figure::{Axis, Figure, Series, Style};
use crate::plan::Method;
use crate::plan::anchors::{TULU_BY_RANK, TULU_BY_RATE};

pub(super) const REASON: Reason = Reason {
    id: "rate",
    title: "Learning rate before rank",
    means: "Learning rate: how far each step of training moves the numbers. Too small learns little, too large destroys what was learnt.",
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

/// The bundled model's at r = 16, α = 32 for a run of as many steps as a step has answer tokens (`docs/study.md`); QLoRA's of 7B (Dettmers
/// et al. 2023, table 9), whose runs were about as long.
const LORA: Law = [(2e6, 6.5e-3), (7e9, 2e-4)];
/// A full fine-tune moves every weight, so each by less: the bundled model's own, and a tenth of LoRA's at 7B (LoRA Without Regret).
const FULL: Law = [(2e6, 1e-3), (7e9, 2e-5)];

/// The rank and `s` that [`learning_rate`] is stated for.
const AT: (usize, f64) = (16, 2.0);
/// How the best rate moves with r at the same `s`, and with `s` at the same r: measured from r = 4 to 64 on the bundled model.
const BY_RANK: f64 = -0.5;
const BY_SCALING: f64 = -0.5;

/// The best rate goes with this power of answer tokens in a step over steps: fitted to the bundled model's three sets in runs of 40 to
/// 1,800 steps.
const BY_COURSE: f64 = 1.0 / 3.0;
/// No further than this from the rate of a run whose steps are as many as the answer tokens of one: beyond it nothing was measured.
const FAR: [f64; 2] = [0.4, 2.0];

/// The best rate lies within this factor of the expected one, up and down.
pub const EXPECTED: f64 = 3.0;
/// And of one that is the best of a sweep.
pub const MEASURED: f64 = 1.5;

/// A peak learning rate to begin with for a model of so many parameters: that of adapters or that of full tuning.
pub fn learning_rate(parameters: u64, method: Method) -> f64 {
    digit(expected(parameters, method))
}

fn expected(parameters: u64, method: Method) -> f64 {
    let [(small, first), (large, last)] = if method == Method::Full { FULL } else { LORA };
    let slope = (first / last).ln() / (large / small).ln();
    let rate = last * (large / parameters.max(1) as f64).powf(slope);
    rate.clamp(0.1 * last, 2.0 * first)
}

/// What a run is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Course {
    /// Answer tokens of a step.
    pub tokens: f64,
    /// Steps.
    pub steps: f64,
}

impl Course {
    /// What the best rate is multiplied by for such a run.
    pub fn factor(self) -> f64 {
        let factor = (self.tokens / self.steps.max(1.0)).powf(BY_COURSE);
        if factor > 0.0 { factor.clamp(FAR[0], FAR[1]) } else { 1.0 }
    }
}

/// The same at a rank and an `s`, for a run where it is known.
pub fn at(parameters: u64, method: Method, r: usize, scaling: f64, course: Option<Course>) -> f64 {
    digit(exact(parameters, method, r, scaling, course))
}

fn exact(parameters: u64, method: Method, r: usize, scaling: f64, course: Option<Course>) -> f64 {
    let rate = expected(parameters, method);
    if method == Method::Full {
        return rate;
    }
    moved(rate, AT, (r, scaling)) * course.map_or(1.0, Course::factor)
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
    let of = |r: usize, s: f64| at(parameters, facts.method, r, s, facts.course);
    let value = format!("{:.0e} at r = 16, α = 32", of(16, 2.0));
    let course = facts.course.map_or_else(String::new, |course| {
        format!(
            " Steps of few answer tokens, and many of them, want a smaller rate: yours have about {:.0}, and there are {:.0}, so it is {:.1} times what the size of the model alone would say.",
            course.tokens,
            course.steps,
            course.factor()
        )
    });
    let says = format!(
        "A learning rate that is off costs more than a rank that is off: in a published sweep (Tulu 3) a tenth of the best rate ({low:.0e} in place of {high:.0e}) cost {:.1} % of the loss, rank 1 in place of 64 only {:.1} %. LoRA's best rate is about ten times that of full tuning. How it moves with the rank depends on α: with α = 2r it falls ({:.0e} at r = 4, {:.0e} at r = 64), with α fixed at 32 it hardly moves ({:.0e}, {:.0e}).{course}",
        100.0 * (worst - best) / worst,
        100.0 * (TULU_BY_RANK[0].1 - TULU_BY_RANK[1].1) / TULU_BY_RANK[0].1,
        of(4, 2.0),
        of(64, 2.0),
        of(4, 8.0),
        of(64, 0.5),
    );
    let ranks = || (0..=8).map(|i| 1usize << i);
    let line = |name: &str, scaling: fn(f64) -> f64, color: usize| {
        let rate = |r: usize| exact(parameters, facts.method, r, scaling(r as f64), facts.course);
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
        assert!(close(learning_rate(2_164_416, Method::Lora), 6e-3));
        assert!(close(learning_rate(2_000_000, Method::Full), 1e-3));
        let middle = learning_rate(1_100_000_000, Method::Lora);
        assert!((3e-4..6e-4).contains(&middle), "{middle}");
        assert!(learning_rate(0, Method::Lora) <= 2e-2 && learning_rate(u64::MAX, Method::Lora) >= 2e-5);
    }

    /// What the bundled model's sets wanted at r = 16, α = 32: answer tokens of a step, steps, and the best of a ladder of rates
    /// (`assets/study.csv`, `assets/grid.csv`). No further than one rung of quarter powers of ten from it.
    #[test]
    fn the_rule_is_near_what_was_measured() {
        let measured = [
            (188.0, 40.0, 1e-2),
            (80.0, 40.0, 1e-2),
            (32.0, 60.0, 5.6e-3),
            (724.0, 200.0, 1e-2),
            (160.0, 300.0, 3e-3),
            (128.0, 600.0, 3e-3),
            (128.0, 1800.0, 3e-3),
        ];
        for (tokens, steps, best) in measured {
            let rate = exact(2_164_416, Method::Lora, 16, 2.0, Some(Course { tokens, steps }));
            let off = (rate / best).log10().abs();
            assert!(off < 0.26, "{tokens} tokens, {steps} steps: {rate:e}, measured {best:e}");
        }
        // What nobody has measured is not run away with.
        assert_eq!(Course { tokens: 1e6, steps: 10.0 }.factor(), FAR[1]);
        assert_eq!(Course { tokens: 1.0, steps: 1e6 }.factor(), FAR[0]);
        assert_eq!(Course { tokens: 0.0, steps: 10.0 }.factor(), 1.0);
    }

    #[test]
    fn a_rate_falls_with_the_rank_unless_alpha_is_fixed() {
        let of = |r, s| at(7_000_000_000, Method::Lora, r, s, None);
        assert!(of(4, 2.0) > of(16, 2.0) && of(16, 2.0) > of(64, 2.0));
        assert_eq!(of(4, 8.0), of(64, 0.5));
        let full = |r| at(7_000_000_000, Method::Full, r, 2.0, Some(Course { tokens: 1.0, steps: 900.0 }));
        assert_eq!(full(4), full(64));
        let [low, high] = around(1e-3, 3.0);
        assert!((low - 3e-4).abs() < 1e-9 && (high - 3e-3).abs() < 1e-9);
    }
}
