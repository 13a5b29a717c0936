//! The largest rank, batch and context that fit, each with the others as they are.

use super::{Load, Method, Pairs, Predictor};
use crate::error::Result;
use crate::plan::count::Selection;
use crate::plan::layout::Layout;
use std::cell::RefCell;
use std::collections::HashMap;

/// The largest of each that fits; `None` where not even the least does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Largest {
    /// Rank, up to the smallest side of the adapted matrices; `None` under `full` too.
    pub rank: Option<usize>,
    /// Sequences of a micro-batch.
    pub batch: Option<usize>,
    /// Tokens of a sequence, no more than the model allows.
    pub seq: Option<usize>,
    /// Whether `seq` is all that the model allows, and memory would have room for more.
    pub whole: bool,
}

impl Largest {
    /// [`batch`](Self::batch) for a table.
    pub fn sequences(&self, number: impl Fn(usize) -> String) -> String {
        let batch = self.batch.map_or_else(|| "–".to_owned(), number);
        if self.batch == Some(MOST_BATCH) { format!("≥ {batch}") } else { batch }
    }

    /// [`seq`](Self::seq) for a table.
    pub fn context(&self, number: impl Fn(usize) -> String) -> String {
        let seq = self.seq.map_or_else(|| "–".to_owned(), number);
        match self.whole {
            true => format!("{seq} max"),
            false if self.seq == Some(MOST_SEQ) => format!("≥ {seq}"),
            false => seq,
        }
    }

    /// What is to be said below a table of these: what the marks in it mean.
    pub fn marks<'a>(all: impl Iterator<Item = &'a Self>) -> Vec<&'static str> {
        let (mut whole, mut most) = (false, false);
        for one in all {
            whole |= one.whole;
            most |= one.batch == Some(MOST_BATCH) || (one.seq == Some(MOST_SEQ) && !one.whole);
        }
        let max = whole.then_some("max: as long as the model's config allows");
        max.into_iter().chain(most.then_some("≥: larger ones are not looked for")).collect()
    }
}

/// Larger batches and contexts are not looked for: a table says so ([`Largest::marks`]).
pub(super) const MOST_BATCH: usize = 4096;
pub(super) const MOST_SEQ: usize = 1 << 20;

/// The longest sequence that is looked for: a longer one than its config states is refused when a run starts.
pub(super) fn most_seq(layout: &Layout) -> usize {
    layout.spec.as_ref().map_or(MOST_SEQ, |spec| spec.max_positions.min(MOST_SEQ))
}

/// What is varied.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    Rank,
    Batch,
    Seq,
}

/// Finds what fits into one room after the other: what was predicted for one of them is known for the next.
pub struct Search<'a> {
    layout: &'a Layout,
    selection: &'a Selection,
    load: Load,
    predictor: Predictor<'a>,
    known: RefCell<HashMap<(Of, usize), u64>>,
}

impl<'a> Search<'a> {
    /// Beside everything else as `load` says, at rank `r`.
    ///
    /// # Errors
    /// As [`predict`](super::predict).
    pub fn new(layout: &'a Layout, selection: &'a Selection, r: usize, load: &Load) -> Result<Self> {
        let predictor = Predictor::new(layout, &Pairs::uniform(layout, selection, r), load)?;
        Ok(Self { layout, selection, load: *load, predictor, known: RefCell::default() })
    }

    fn need(&self, of: Of, value: usize) -> Result<u64> {
        if let Some(&bytes) = self.known.borrow().get(&(of, value)) {
            return Ok(bytes);
        }
        let memory = match of {
            Of::Rank => self.predictor.at_rank(value),
            Of::Batch => self.predictor.memory(value, self.load.seq),
            // A sequence of one predicts nothing.
            Of::Seq => self.predictor.memory(self.load.batch, value.max(2)),
        };
        let bytes = memory?.total();
        self.known.borrow_mut().insert((of, value), bytes);
        Ok(bytes)
    }

    /// What fits into `room` bytes.
    ///
    /// # Errors
    /// As [`predict`](super::predict).
    pub fn largest(&self, room: u64) -> Result<Largest> {
        let find = |of: Of, most: usize| last(most, room, |value| self.need(of, value));
        let rank = match self.load.method {
            Method::Full => None,
            _ => find(Of::Rank, self.selection.max_rank())?,
        };
        let most = most_seq(self.layout);
        let seq = find(Of::Seq, most)?.filter(|&seq| seq >= 2);
        Ok(Largest { rank, batch: find(Of::Batch, MOST_BATCH)?, seq, whole: seq == Some(most) && most < MOST_SEQ })
    }
}

/// [`Search`] for one room.
///
/// # Errors
/// As [`predict`](super::predict).
pub fn largest(layout: &Layout, selection: &Selection, r: usize, load: &Load, room: u64) -> Result<Largest> {
    Search::new(layout, selection, r, load)?.largest(room)
}

/// The last of 1…`most` that needs no more than `room`; what is needed only grows.
pub(super) fn last(most: usize, room: u64, need: impl Fn(usize) -> Result<u64>) -> Result<Option<usize>> {
    if most == 0 || need(1)? > room {
        return Ok(None);
    }
    // By doubling, whose values serve every room; then nearly straight lines lead to the place.
    let (mut low, mut high) = (1, most + 1);
    while low < most {
        let next = (2 * low).min(most);
        if need(next)? > room {
            high = next;
            break;
        }
        low = next;
    }
    let mut straight = true;
    while low + 1 < high {
        let (below, above) = (need(low)?, need(high)?);
        let share = (room - below) as f64 / (above - below).max(1) as f64;
        let guess = if straight { low + (share * (high - low) as f64) as usize } else { low + (high - low) / 2 };
        // Its neighbour tells whether it is the place.
        let guess = guess.clamp(low + 1, high - 1);
        let before = high - low;
        if need(guess)? <= room {
            low = guess;
            if low + 1 < high && straight {
                if need(low + 1)? > room { high = low + 1 } else { low += 1 }
            }
        } else {
            high = guess;
            if low + 1 < high && straight {
                if need(high - 1)? <= room { low = high - 1 } else { high -= 1 }
            }
        }
        straight = high - low < before / 2;
    }
    Ok(Some(low))
}
