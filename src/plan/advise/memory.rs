//! What fits the device: the largest rank, batch and context.

use super::prior::USUAL;
use super::{Bound, Facts, Found, Reason};
use crate::error::Result;
use crate::figure::{Axis, Figure, Mark, Series};
use crate::plan::memory::{Verdict, largest, predict};
use crate::plan::{Method, Pairs};
use crate::units::{bytes as in_words, count};

pub(super) const REASON: Reason = Reason {
    id: "memory",
    title: "Memory",
    means: "The most memory that the run holds at any moment, by the method that is set up in Train.",
    source: "this engine's own buffers, counted (plan::memory)",
    judge,
};

/// Bytes of a run at this rank; `None` where the sizes of the model are not known.
///
/// # Errors
/// A batch or sequence that cannot be.
pub(super) fn bytes(facts: &Facts, r: usize) -> Result<Option<u64>> {
    if facts.layout.spec.is_none() {
        return Ok(None);
    }
    predict(&facts.layout, &Pairs::uniform(&facts.layout, &facts.selection, r), &facts.load)
        .map(|memory| Some(memory.total()))
}

fn judge(facts: &Facts) -> Result<Option<Found>> {
    let (Some(room), Some(need)) = (&facts.room, bytes(facts, USUAL.min(facts.selection.max_rank()))?) else {
        return Ok(None);
    };
    let most = largest(&facts.layout, &facts.selection, USUAL, &facts.load, room.bytes)?;
    let number = |n: Option<usize>| n.map_or_else(|| "none".to_owned(), |n| count(n as u64));
    let verdict = Verdict::of(need, room.bytes);
    let value = format!("{} of {} at r = {}: {}", in_words(need), in_words(room.bytes), USUAL, verdict.as_str());
    let full = facts.selection.max_rank();
    let (says, bound, weight) = match most.rank {
        Some(rank) if rank >= full => {
            let says = format!(
                "{} holds any rank. At r = {USUAL} up to {} rows at once fit, or rows of up to {} tokens.",
                room.name,
                number(most.batch),
                number(most.seq)
            );
            (says, Some(Bound::AtMost(full)), 0.3)
        }
        Some(rank) => {
            let says = format!(
                "{} holds ranks up to {rank}. At r = {USUAL} up to {} rows at once fit, or rows of up to {} tokens.",
                room.name,
                number(most.batch),
                number(most.seq)
            );
            (says, Some(Bound::AtMost(rank)), if rank < USUAL { 1.0 } else { 0.4 })
        }
        None if facts.method == Method::Full => {
            (format!("{}: training every parameter has no rank.", room.name), None, 0.3)
        }
        None => {
            let says = format!(
                "{} does not even hold rank 1 with batch {} of {} tokens: take QLoRA, checkpointing or a shorter sequence.",
                room.name, facts.load.batch, facts.load.seq
            );
            (says, Some(Bound::AtMost(1)), 1.0)
        }
    };
    Ok(Some(Found { value, says, weight, bound, figure: figure(facts, room.bytes, &room.name)? }))
}

fn figure(facts: &Facts, room: u64, name: &str) -> Result<Option<Figure>> {
    let ranks = (0..).map(|i| 1usize << i).take_while(|&r| r <= facts.selection.max_rank().min(1024));
    let at = |r: usize| Ok([r as f64, bytes(facts, r)?.unwrap_or(0) as f64 / 1e9]);
    let points = ranks.map(at).collect::<Result<Vec<_>>>()?;
    Ok(Some(Figure {
        title: "Memory of a run, by rank".into(),
        x: Axis::log("rank r"),
        y: Axis { from_zero: true, ..Axis::linear("GB") },
        series: vec![Series::line(facts.method.as_str(), points).color(1)],
        marks: vec![Mark::level(name, room as f64 / 1e9)],
        ..Figure::default()
    }))
}
