//! Data against capacity: answer tokens beside the parameters of one rank.

use super::{Bound, Facts, Found, Reason, power};
use crate::error::Result;
use crate::figure::{Axis, Figure, Mark, Series};
use crate::units::{count, exact, percent};

pub(super) const REASON: Reason = Reason {
    id: "capacity",
    title: "Data against capacity",
    means: "Token: a word or a piece of one. Answer tokens are those that the model is trained to say.",
    source: "Thinking Machines, LoRA primer (parameters ≥ answer tokens); arXiv 2605.30260",
    judge,
};

/// Beyond this rank the bound is only named: a data set of billions of tokens is not asked to be learnt by heart.
const MOST: usize = 256;

fn judge(facts: &Facts) -> Result<Option<Found>> {
    let Some(data) = &facts.data else { return Ok(None) };
    let each = facts.selection.per_rank.max(1);
    let needed = usize::try_from(data.predicted.div_ceil(each)).unwrap_or(usize::MAX).max(1);
    let bound = power(needed).min(MOST);
    let known = data.answers.map_or_else(String::new, |answers| {
        format!(
            " Before training the model already gives {} of them more than half of the probability (of {} that were looked at; loss {:.2}): it says those right, and they need no room.",
            percent(answers.sure),
            exact(answers.tokens),
            answers.loss
        )
    });
    let says = if needed > MOST {
        format!(
            "To learn every answer by heart would take rank {}. Nobody asks that of so much data: rank {MOST} is as far as this reason goes.{known}",
            exact(needed as u64)
        )
    } else {
        format!(
            "Each unit of rank is {} numbers to train, and your answers have {} tokens: rank {needed} gives every token a number of its own. Fewer can do, as most text is not learnt by heart.{known}",
            count(each),
            count(data.predicted)
        )
    };
    let value = format!("{} answer tokens ÷ {} numbers of one rank = {needed}", exact(data.predicted), exact(each));
    // Far below what is taken anyway it says little.
    let weight = if bound > super::prior::USUAL { 0.8 } else { 0.55 };
    Ok(Some(Found {
        value,
        says,
        weight,
        bound: Some(Bound::AtLeast(bound)),
        figure: Some(figure(each, data.predicted)),
    }))
}

/// Parameters by rank against the answers.
fn figure(each: u64, answers: u64) -> Figure {
    let points = (0..=8).map(|i| f64::from(1 << i)).map(|r| [r, r * each as f64]).collect();
    Figure {
        title: "Numbers to train, by rank, against answer tokens".into(),
        x: Axis::log("rank r"),
        y: Axis::log("numbers"),
        series: vec![Series::line("numbers that are trained", points).color(1)],
        marks: vec![Mark::level(format!("{} answer tokens", count(answers)), answers as f64)],
        ..Figure::default()
    }
}
