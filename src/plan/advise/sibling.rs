//! A tuned model or adapter of the same base: what its change would take, and why that is no advice for training.

use super::{Facts, Found, Reason};
use crate::error::Result;
use crate::figure::Figure;
use crate::units::{count, percent};

pub(super) const REASON: Reason = Reason {
    id: "sibling",
    title: "What was tuned before",
    means: "Any change of a weight is a sum of directions, each with a strength, its singular value σ. Energy is the sum of all σ².",
    source: "LoRA Learns Less and Forgets Less (arXiv 2405.09673); Bai & Yin 1993 (rounding edge)",
    judge,
};

fn judge(facts: &Facts) -> Result<Option<Found>> {
    let Some(sibling) = &facts.sibling else { return Ok(None) };
    let [least, median, most] = sibling.energy_90;
    let value = format!("90 % of the change (energy) in {median} directions ({least} to {most})");
    let rounding = match sibling.above_rounding {
        Some([_, above, _]) => {
            format!(" Beyond {above} directions (the median) there is only rounding noise.")
        }
        None => String::new(),
    };
    let says = match sibling.adapter {
        Some(r) => format!(
            "{} was trained at rank {r}, so no module can show more than {r} directions: that it uses {median} of them says nothing of what a larger rank would do.",
            sibling.name
        ),
        None => format!(
            "To copy 90 % of what full tuning changed in {}, a module would need rank {median} (the median). Training a LoRA takes 10 to 100 times fewer for the same loss: read this as the size of that change, not as a rank to train at.{rounding}",
            sibling.name
        ),
    };
    Ok(Some(Found { value, says, weight: 0.25, bound: None, figure: figure(facts) }))
}

/// Energy against parameters, and what lies beyond the edge of rounding.
fn figure(facts: &Facts) -> Option<Figure> {
    let sibling = facts.sibling.as_ref()?;
    let edge = sibling.above_rounding.map(|[_, above, _]| (facts.selection.per_rank * above as u64) as f64);
    Some(sibling.curve.figure(edge)).filter(|figure| figure.series.iter().any(|series| !series.points.is_empty()))
}

/// What the curve says of one rank.
pub(super) fn kept(facts: &Facts, r: usize) -> Option<String> {
    let sibling = facts.sibling.as_ref()?;
    let (_, n, share) = sibling.curve.uniform.iter().find(|(known, ..)| *known == r)?;
    Some(format!("rank {r} everywhere keeps {} of it with {} numbers", percent(*share), count(*n)))
}
