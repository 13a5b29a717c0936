//! The largest rank, batch and context that fit, each with the others as they are.

use super::{Load, Method, Pairs, predict};
use crate::error::Result;
use crate::plan::count::Selection;
use crate::plan::layout::Layout;

/// The largest of each that fits; `None` where not even the least does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Largest {
    /// Rank, up to the smallest side of the adapted matrices; `None` under `full` too.
    pub rank: Option<usize>,
    /// Sequences of a micro-batch.
    pub batch: Option<usize>,
    /// Tokens of a sequence.
    pub seq: Option<usize>,
}

/// Larger batches and contexts are not looked for.
pub(super) const MOST_BATCH: usize = 4096;
pub(super) const MOST_SEQ: usize = 1 << 20;

/// What fits into `room` bytes beside everything else as `load` says, at rank `r`.
///
/// # Errors
/// As [`predict`].
pub fn largest(layout: &Layout, selection: &Selection, r: usize, load: &Load, room: u64) -> Result<Largest> {
    let need =
        |r: usize, load: &Load| -> Result<u64> { Ok(predict(layout, &Pairs::uniform(selection, r), load)?.total()) };
    let rank = match load.method {
        Method::Full => None,
        _ => last(selection.max_rank(), |r| Ok(need(r, load)? <= room))?,
    };
    let batch = last(MOST_BATCH, |batch| Ok(need(r, &Load { batch, ..*load })? <= room))?;
    // A sequence of one predicts nothing; learned positions end.
    let positions = layout.spec.as_ref().filter(|spec| spec.positions.is_some()).map(|spec| spec.max_positions);
    let seq = last(positions.map_or(MOST_SEQ, |most| most.min(MOST_SEQ)), |seq| {
        Ok(need(r, &Load { seq: seq.max(2), ..*load })? <= room)
    })?;
    Ok(Largest { rank, batch, seq: seq.filter(|&seq| seq >= 2) })
}

/// The last of 1…`most` for which `fits` is true, which it is up to some value.
pub(super) fn last(most: usize, fits: impl Fn(usize) -> Result<bool>) -> Result<Option<usize>> {
    if most == 0 || !fits(1)? {
        return Ok(None);
    }
    // Doubling first: large values take long to predict.
    let mut low = 1;
    while low < most && fits((2 * low).min(most))? {
        low = (2 * low).min(most);
    }
    let mut high = (2 * low).min(most + 1);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if fits(middle)? { low = middle } else { high = middle }
    }
    Ok(Some(low))
}
