//! One rank for all modules, or one for each.

use super::{Facts, Found, Reason};
use crate::error::Result;
use crate::figure::{Axis, Figure, Series, Style};

pub(super) const REASON: Reason = Reason {
    id: "layers",
    title: "One rank for all modules",
    means: "σ, a singular value: how strong one direction of a change is. A weak one can be dropped at little loss.",
    source: "FIM-LoRA (arXiv 2605.16800); PARA (2604.27796); against: LR-LoRA (2606.04325)",
    judge,
};

/// Scores of ranks chosen before training beside one rank for all, at equal parameters (arXiv 2605.16800).
const FIM_LORA: [(&str, f64, f64); 2] = [("GLUE", 88.6, 88.7), ("commonsense", 68.5, 68.7)];

fn judge(facts: &Facts) -> Result<Option<Found>> {
    let [(_, each, one), _] = FIM_LORA;
    let value = format!("{each} with a rank for each, {one} with one for all (GLUE)");
    let kept = super::sibling::kept(facts, super::prior::USUAL)
        .map_or_else(String::new, |kept| format!(" Of what was tuned before, {kept}."));
    let says = format!(
        "A rank of its own for every module, chosen before training, hardly helps at as many parameters. What does help: train at a higher rank, then drop the weakest directions of all modules by one threshold; three quarters and more of the parameters went for less than 1 % of the result. One paper of three sees gains from the first, so training both with several seeds decides.{kept}"
    );
    let points = |which: fn(&(&str, f64, f64)) -> f64| {
        FIM_LORA.iter().enumerate().map(|(at, one)| [at as f64, which(one)]).collect::<Vec<_>>()
    };
    let figure = Figure {
        title: "Published: a rank for each module beside one for all, at equal parameters".into(),
        x: Axis::named("benchmark", FIM_LORA.iter().map(|(name, ..)| (*name).to_owned()).collect()),
        y: Axis::linear("score, %"),
        series: vec![
            Series::line("a rank for each", points(|one| one.1)).style(Style::LinePoints).color(2),
            Series::line("one for all", points(|one| one.2)).style(Style::LinePoints).color(1),
        ],
        ..Figure::default()
    };
    Ok(Some(Found { value, says, weight: 0.2, bound: None, figure: Some(figure) }))
}
