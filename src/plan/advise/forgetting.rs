//! Forgetting: the second axis beside learning.

use super::{Facts, Found, Reason};
use crate::error::Result;
use crate::figure::{Axis, Figure, Series, Style};
use crate::units::percent;

pub(super) const REASON: Reason = Reason {
    id: "forgetting",
    title: "Forgetting",
    means: "Forgetting: what the model predicted well before training, and predicts worse after it.",
    source: "arXiv 2405.09673 (learns less, forgets less); 2410.21228 (intruder directions)",
    judge,
};

fn judge(facts: &Facts) -> Result<Option<Found>> {
    let runs = &facts.forgetting;
    let Some(best) = runs.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)) else {
        return Ok(None);
    };
    let least = runs.iter().min_by(|a, b| a.after.total_cmp(&b.after)).unwrap_or(best);
    let rose = best.after - best.before;
    let value = format!("{:.3} → {:.3} on the base's own kind of text", best.before, best.after);
    let share = rose / best.before.max(1e-9);
    let says = if share < 0.02 {
        "The run that learned most has hardly touched what the base could do before: forgetting sets no bound here."
            .to_owned()
    } else if best.r == least.r && best.lr == least.lr {
        format!(
            "The run that learned most makes the base {} worse at its own kind of text, and no other run forgets less.",
            percent(share)
        )
    } else {
        format!(
            "The run that learned most (r = {}, rate {:.0e}) makes the base {} worse at its own kind of text; r = {} at {:.0e} forgets least, at a loss of {:.3} in place of {:.3}.",
            best.r,
            best.lr,
            percent(share),
            least.r,
            least.lr,
            least.loss,
            best.loss
        )
    };
    let points = runs.iter().map(|run| [run.after - run.before, run.loss]).collect();
    let figure = Figure {
        title: "Learning against forgetting: down and left is better".into(),
        x: Axis::linear("loss gained on the base's own kind of text"),
        y: Axis::linear("held-out loss on your data"),
        series: vec![Series::line("runs", points).style(Style::Points).color(1)],
        quiet: true,
        ..Figure::default()
    };
    let weight = if share > 0.1 { 0.6 } else { 0.4 };
    Ok(Some(Found { value, says, weight, bound: None, figure: Some(figure) }))
}
