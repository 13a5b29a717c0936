//! [`advise`]: which rank, with which α and learning rate, on which modules; from what is known, with the reasons.
//!
//! ```text
//! Facts (data, sizes, room, gradients, a sibling, earlier runs) ─► REASONS ─► Why: what it says, how much it weighs
//!                                                                              │ at least, at most, decided
//!                                                                              ▼
//!                                                                           Advice: r, α, lr, targets, range
//! ```
//!
//! A reason is one file and one line in [`REASONS`]. It may bound the rank from below ([`Bound::AtLeast`]: fewer directions
//! than this have been measured to fall behind) or from above ([`Bound::AtMost`]: more does not fit), or decide it
//! ([`Bound::Decided`]: it was measured on this data). Most say something about a rank and bound nothing: the energy of a
//! sibling's ΔW is no accuracy.

mod capacity;
mod facts;
mod forgetting;
mod gradients;
mod law;
mod layers;
mod measured;
mod memory;
mod prior;
pub mod rate;
mod report;
mod sibling;

pub use facts::{Answers, DataFacts, Facts, Forgetting, Grid, Pull, Room, Sibling, Tried};
pub use law::{Law, Point};
pub use report::section;

use crate::error::Result;
use crate::figure::Figure;
use serde::Serialize;

/// What a reason does to the rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Fewer would fall behind.
    AtLeast(usize),
    /// More do not fit.
    AtMost(usize),
    /// Measured: from, best, to.
    Decided(usize, usize, usize),
}

/// A reason, as far as it can be computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    /// Which: an entry of [`REASONS`].
    pub criterion: &'static str,
    /// As on the screen.
    pub title: &'static str,
    /// What its words mean.
    pub means: &'static str,
    /// The number that it rests on, with its unit.
    pub value: String,
    /// What that says, for somebody who has never heard of a singular value.
    pub says: String,
    /// How much it counts, from 0 to 1: reasons stand in this order.
    pub weight: f64,
    /// Where the rule comes from.
    pub source: &'static str,
    /// What it does to the rank.
    pub bound: Option<Bound>,
    /// The same as a plot.
    pub figure: Option<Figure>,
}

/// What a reason has found: a [`Why`] without its name and source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// See [`Why::value`].
    pub value: String,
    /// See [`Why::says`].
    pub says: String,
    /// See [`Why::weight`].
    pub weight: f64,
    /// See [`Why::bound`].
    pub bound: Option<Bound>,
    /// See [`Why::figure`].
    pub figure: Option<Figure>,
}

/// A way to reason about a rank.
pub struct Reason {
    /// Its name in documents.
    pub id: &'static str,
    /// As on the screen.
    pub title: &'static str,
    /// What its words mean, for somebody who has never heard of them.
    pub means: &'static str,
    /// Paper, and where in it.
    pub source: &'static str,
    /// What it says of these facts; `None` where they do not suffice for it.
    pub judge: fn(&Facts) -> Result<Option<Found>>,
}

/// Every reason; a new one is a line here and a file beside this one.
pub static REASONS: [Reason; 9] = [
    measured::REASON,
    rate::REASON,
    capacity::REASON,
    memory::REASON,
    prior::REASON,
    gradients::REASON,
    sibling::REASON,
    layers::REASON,
    forgetting::REASON,
];

/// Something that is not known, and what it would take to know it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Uncertain {
    /// What is not known.
    pub what: String,
    /// How it is found out.
    pub how: String,
    /// Seconds that this would take here, from and to; `None` where nothing says how fast this machine is.
    pub seconds: Option<[f64; 2]>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// The rank.
    pub r: usize,
    /// Ranks that are as good, as far as is known: from, to.
    pub range: [usize; 2],
    /// α of `α/r`, or of `α/√r` under rsLoRA.
    pub alpha: f64,
    /// α is divided by √r.
    pub rslora: bool,
    /// Peak learning rate.
    pub lr: f64,
    /// Rates between which the best one is to be expected.
    pub lr_range: [f64; 2],
    /// Modules.
    pub targets: String,
    /// Reasons, the weightiest first.
    pub why: Vec<Why>,
    /// What is not known.
    pub uncertain: Vec<Uncertain>,
    /// Tokens that carry loss; `None` without data.
    pub tokens: Option<u64>,
    /// Trained parameters for each unit of rank.
    pub parameters_per_rank: u64,
    /// Trained parameters of the answer.
    pub trainable: u64,
    /// Bytes of such a run, by the method that was asked for; `None` where the sizes of the model are not known.
    pub bytes: Option<u64>,
}

/// The smallest power of two that is not below `r`: what a rank is usually taken from.
fn power(r: usize) -> usize {
    r.max(1).checked_next_power_of_two().unwrap_or(r)
}

/// The answer to these facts.
///
/// # Errors
/// Sizes of a model that cannot be; nothing that is missing is an error.
pub fn advise(facts: &Facts) -> Result<Advice> {
    let mut why = Vec::new();
    for reason in &REASONS {
        if let Some(Found { value, says, weight, bound, figure }) = (reason.judge)(facts)? {
            let Reason { id: criterion, title, means, source, .. } = *reason;
            why.push(Why { criterion, title, means, value, says, weight, source, bound, figure });
        }
    }
    why.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let (r, range) = rank(&why, facts.selection.max_rank());
    let alpha = rate::ALPHA;
    let (lr, lr_range) = match facts.grid.best_at(r) {
        Some(best) => (best.lr, rate::around(best.lr, rate::MEASURED)),
        None => {
            let lr = rate::at(facts.layout.parameters, facts.method, r, alpha.scaling(r), facts.course);
            (lr, rate::around(lr, rate::EXPECTED))
        }
    };
    let found = facts.grid.best_at(r);
    let scaled = found.map_or(alpha.scaling(r), |best| best.scaling(r));
    let rslora = found.is_some_and(|best| best.rslora);
    let alpha = if rslora { scaled * (r as f64).sqrt() } else { scaled * r as f64 };
    let trainable = facts.selection.count(r)?.trainable;
    Ok(Advice {
        r,
        range,
        alpha,
        rslora,
        lr,
        lr_range,
        targets: facts.targets.clone(),
        uncertain: uncertain(facts),
        tokens: facts.data.as_ref().map(|data| data.predicted),
        parameters_per_rank: facts.selection.per_rank,
        trainable,
        bytes: memory::bytes(facts, r)?,
        why,
    })
}

/// The rank that the bounds leave, and the range around it: down to half of what is asked for at least, up to four times as
/// much, as far as that fits. What was measured needs no such room.
fn rank(why: &[Why], most: usize) -> (usize, [usize; 2]) {
    let bounds = || why.iter().filter_map(|why| why.bound);
    let at_most = |bound| if let Bound::AtMost(r) = bound { Some(r) } else { None };
    let at_least = |bound| if let Bound::AtLeast(r) = bound { Some(r) } else { None };
    let most = bounds().filter_map(at_most).min().unwrap_or(most).clamp(1, most.max(1));
    let decided = bounds().find_map(|bound| match bound {
        Bound::Decided(low, best, high) => Some((best, [low, high])),
        _ => None,
    });
    let (r, [low, high]) = decided.unwrap_or_else(|| {
        let r = power(bounds().filter_map(at_least).max().unwrap_or(1));
        (r, [(r / 2).max(1), r.saturating_mul(4)])
    });
    let r = r.min(most);
    (r, [low.min(r), high.clamp(r, most.max(r))])
}

fn uncertain(facts: &Facts) -> Vec<Uncertain> {
    let mut found = Vec::new();
    let of_runs = |runs: f64| facts.seconds_of_run.map(|[low, high]| [runs * low, runs * high]);
    if facts.grid.tried.is_empty() {
        found.push(Uncertain {
            what: "The learning rate: it moves the loss more than the rank does, and only runs tell the best one."
                .into(),
            how: "a short sweep over three ranks and three rates of each".into(),
            seconds: of_runs(9.0),
        });
    } else if facts.grid.seeds() < 2 {
        found.push(Uncertain {
            what: "How much of the differences in the sweep is luck: every point was run with one seed.".into(),
            how: "the same sweep with --seeds 3".into(),
            seconds: of_runs(2.0 * facts.grid.tried.len() as f64),
        });
    }
    if facts.data.is_none() {
        found.push(Uncertain {
            what: "How much there is to learn: no data were given.".into(),
            how: "the data file, read in seconds".into(),
            seconds: None,
        });
    }
    if facts.forgetting.is_empty() {
        found.push(Uncertain {
            what: "What the base forgets: no run has been measured on text of its own kind.".into(),
            how: "a file of such text beside the next run".into(),
            seconds: of_runs(1.0),
        });
    }
    found
}

#[cfg(test)]
mod tests;
