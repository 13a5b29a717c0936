//! [`Facts`]: what advice rests on. Whoever has files and runs gathers them; here they are only judged.

use super::rate::Course;
use crate::plan::energy::Curve;
use crate::plan::{Layout, Load, Method, Selection};
use std::sync::Arc;

/// Everything that is known. What is not there takes its reason away, and nothing else.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The model.
    pub layout: Arc<Layout>,
    /// The modules that get an adapter.
    pub selection: Selection,
    /// The same in words.
    pub targets: String,
    /// What is trained.
    pub method: Method,
    /// What such a run loads the memory with.
    pub load: Load,
    /// The data.
    pub data: Option<DataFacts>,
    /// What the run is like, where its length and the data are known.
    pub course: Option<Course>,
    /// The memory that it has to fit.
    pub room: Option<Room>,
    /// Gradients of the frozen model on the data.
    pub gradients: Vec<Pull>,
    /// A tuned model or an adapter of the same base.
    pub sibling: Option<Sibling>,
    /// Runs on the same data.
    pub grid: Grid,
    /// Runs whose loss on text of the base's own kind was measured.
    pub forgetting: Vec<Forgetting>,
    /// Seconds that a run on this data takes, from and to, where something says so.
    pub seconds_of_run: Option<[f64; 2]>,
}

/// What there is to learn from.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFacts {
    /// Rows.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Tokens that carry loss: the answers.
    pub predicted: u64,
    /// What the base knows of the answers already, where it was asked.
    pub answers: Option<Answers>,
}

/// How well a model says the answers, token by token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answers {
    /// Mean loss.
    pub loss: f64,
    /// Share of tokens that it gives more than half of the probability to: greedy decoding says these right.
    pub sure: f64,
    /// Tokens that were looked at.
    pub tokens: u64,
}

/// A device's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    /// As a person says it.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// How the data pull at one module.
#[derive(Clone, Debug, PartialEq)]
pub struct Pull {
    /// The module.
    pub name: String,
    /// Share of the energy of all gradients.
    pub share: f64,
    /// Directions that hold 90 % of its own, as far as they are known.
    pub directions: Option<usize>,
    /// `Σσ²/σ₁²`.
    pub stable: f64,
}

/// What was tuned before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sibling {
    /// Its name.
    pub name: String,
    /// It is a low-rank adapter: its own rank bounds what it can say.
    pub adapter: Option<usize>,
    /// Over the modules, least, median and most of the directions that hold 90 % of the energy of ΔW.
    pub energy_90: [usize; 3],
    /// The same of directions above the noise that rounding leaves; `None` where base and sibling were not rounded.
    pub above_rounding: Option<[usize; 3]>,
    /// Share of the energy of all ΔW that one rank everywhere keeps, and the best ranks.
    pub curve: Curve,
}

/// A run of an earlier sweep, or any other run on the same data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// Rank.
    pub r: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// α.
    pub alpha: f64,
    /// Divided by √r.
    pub rslora: bool,
    /// Seed.
    pub seed: u64,
    /// Steps.
    pub steps: usize,
    /// Elements that were trained.
    pub trainable: u64,
    /// Loss on held-out rows.
    pub loss: f64,
    /// Share of their tokens that got more than half of the probability, where it was counted.
    pub sure: Option<f64>,
}

impl Tried {
    /// `s`, at its rank or another under the same α.
    pub fn scaling(&self, r: usize) -> f64 {
        if self.rslora { self.alpha / (r as f64).sqrt() } else { self.alpha / r as f64 }
    }

    /// The same point, whatever the seed.
    fn is_at(&self, other: &Self) -> bool {
        (self.r, self.lr, self.alpha, self.rslora, self.steps)
            == (other.r, other.lr, other.alpha, other.rslora, other.steps)
    }
}

/// Runs on the same data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    /// All of them; only losses after equally many steps are held against each other.
    pub tried: Vec<Tried>,
}

impl Grid {
    /// The mean over seeds of every point of the most common length, with the number of seeds and the spread.
    pub fn points(&self) -> Vec<(Tried, usize, f64)> {
        let steps = self.steps();
        let mut points: Vec<(Tried, Vec<f64>, Vec<f64>)> = Vec::new();
        for one in self.tried.iter().filter(|one| Some(one.steps) == steps && one.loss.is_finite()) {
            match points.iter_mut().find(|(known, ..)| known.is_at(one)) {
                Some((_, losses, sure)) => {
                    losses.push(one.loss);
                    sure.extend(one.sure);
                }
                None => points.push((*one, vec![one.loss], one.sure.into_iter().collect())),
            }
        }
        let mean = |(point, losses, sure): (Tried, Vec<f64>, Vec<f64>)| {
            let loss = losses.iter().sum::<f64>() / losses.len() as f64;
            let spread = losses.iter().map(|one| (one - loss).abs()).fold(0.0, f64::max);
            let sure = (!sure.is_empty()).then(|| sure.iter().sum::<f64>() / sure.len() as f64);
            (Tried { loss, sure, ..point }, losses.len(), spread)
        };
        points.into_iter().map(mean).collect()
    }

    /// The length that most runs have, the longest of equals.
    fn steps(&self) -> Option<usize> {
        let count = |steps: usize| self.tried.iter().filter(|one| one.steps == steps).count();
        self.tried.iter().map(|one| one.steps).max_by_key(|&steps| (count(steps), steps))
    }

    /// The best point of every rank, by rank, with its spread.
    pub fn by_rank(&self) -> Vec<(Tried, f64)> {
        let mut best: Vec<(Tried, f64)> = Vec::new();
        for (point, _, spread) in self.points() {
            match best.iter_mut().find(|(known, _)| known.r == point.r) {
                Some(known) if known.0.loss > point.loss => *known = (point, spread),
                Some(_) => {}
                None => best.push((point, spread)),
            }
        }
        best.sort_by_key(|(point, _)| point.r);
        best
    }

    /// The best point of this rank.
    pub fn best_at(&self, r: usize) -> Option<Tried> {
        self.by_rank().into_iter().map(|(point, _)| point).find(|point| point.r == r)
    }

    /// The most seeds that a point has.
    pub fn seeds(&self) -> usize {
        self.points().iter().map(|(_, seeds, _)| *seeds).max().unwrap_or(0)
    }
}

/// What a run did to what the base could do before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forgetting {
    /// Rank; 0 for every parameter.
    pub r: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Held-out loss on the data.
    pub loss: f64,
    /// Loss on text of the base's own kind, before.
    pub before: f64,
    /// And after.
    pub after: f64,
}
