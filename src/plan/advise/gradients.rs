//! The gradients of the frozen model on the data: which modules matter, and in how many directions.

use super::{Facts, Found, Pull, Reason};
use crate::error::Result;
use crate::figure::{Axis, Figure, Series, Style};
use crate::units::percent;

pub(super) const REASON: Reason = Reason {
    id: "gradients",
    title: "Where your data pull",
    means: "Gradient: which way, and how strongly, the data would change each weight in the very first step.",
    source: "LoRA-GA (arXiv 2407.05000); LoRA Without Regret (all linear layers)",
    judge,
};

fn judge(facts: &Facts) -> Result<Option<Found>> {
    let pulls = &facts.gradients;
    if pulls.is_empty() {
        return Ok(None);
    }
    let leaf = |pull: &Pull| pull.name.rsplit('.').next().unwrap_or(&pull.name).to_owned();
    let mut roles: Vec<(String, f64)> = Vec::new();
    for pull in pulls {
        match roles.iter_mut().find(|(name, _)| *name == leaf(pull)) {
            Some((_, share)) => *share += pull.share,
            None => roles.push((leaf(pull), pull.share)),
        }
    }
    roles.sort_by(|a, b| b.1.total_cmp(&a.1));
    let of = roles.iter().map(|(name, share)| format!("{name} {}", percent(*share)));
    let value = of.take(3).collect::<Vec<_>>().join(", ");
    let directions = middle(pulls.iter().filter_map(|pull| pull.directions).collect());
    let directions = match directions {
        Some([least, median, most]) => format!(
            " Nine tenths of the pull on a module lie in {median} independent directions (the median; {least} to {most}). That is the first step alone: it says nothing of how many the later ones take, so it asks for no rank."
        ),
        None => String::new(),
    };
    let half = pulls.len().div_ceil(2);
    let mut shares: Vec<f64> = pulls.iter().map(|pull| pull.share).collect();
    shares.sort_by(|a, b| b.total_cmp(a));
    let says = format!(
        "The first step of training would change some weights more than others: half of the modules get {} of that pull. No kind of module is without it, and leaving some out costs more than it saves: all linear layers get a pair A, B.{directions}",
        percent(shares[..half].iter().sum::<f64>())
    );
    Ok(Some(Found { value, says, weight: 0.35, bound: None, figure: Some(figure(&roles)) }))
}

/// Least, median, most.
pub(super) fn middle(mut values: Vec<usize>) -> Option<[usize; 3]> {
    values.sort_unstable();
    Some([*values.first()?, values[values.len() / 2], *values.last()?])
}

fn figure(roles: &[(String, f64)]) -> Figure {
    let points = roles.iter().enumerate().map(|(at, (_, share))| [at as f64, 100.0 * share]).collect();
    Figure {
        title: "Share of the gradient, by kind of module".into(),
        x: Axis::named("module", roles.iter().map(|(name, _)| name.clone()).collect()),
        y: Axis { from_zero: true, ..Axis::linear("%") },
        series: vec![Series::line("share", points).style(Style::LinePoints).color(1)],
        quiet: true,
        ..Figure::default()
    }
}
