//! [`Shown`]: the module that is looked at, as pictures.

use std::sync::Arc;

use crate::app::widgets::low_rank::{Factors, LowRank};
use crate::app::widgets::picture::{Difference, Picture, Reduced, Reduction};

/// ΔW, its approximation and its residual, as far as they are there.
#[derive(Default)]
pub struct Shown {
    /// The module that the pictures are of.
    name: Option<String>,
    /// The module whose pictures are on their way, or were given up.
    expected: Option<String>,
    subject: u64,
    delta: Option<Arc<dyn Picture>>,
    factors: Option<Arc<Factors>>,
    /// Counts other factors of the same module.
    version: u64,
}

/// The pictures of the three linked heatmaps.
pub struct Pictures {
    /// Says which module.
    pub subject: u64,
    /// Says which rank, of which factors.
    pub version: u64,
    /// ΔW.
    pub delta: Arc<dyn Picture>,
    /// Its rank-r approximation and what that leaves, once the singular vectors are there.
    pub split: Option<(Arc<dyn Picture>, Arc<dyn Picture>)>,
}

impl Shown {
    /// Forgets everything: another model is open.
    pub fn clear(&mut self) {
        *self = Self { subject: self.subject + 1, ..Self::default() };
    }

    /// The module that the pictures are of.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// True for a module whose pictures nobody has asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.expected.as_deref() != Some(name)
    }

    /// The pictures of this module are on their way, or will not come.
    pub fn expect(&mut self, name: &str) {
        self.expected = Some(name.to_owned());
    }

    /// What was given up is asked for once more.
    pub fn expect_again(&mut self) {
        self.expected = None;
    }

    /// Takes in ΔW.
    pub fn set_delta(&mut self, name: &str, delta: Arc<dyn Picture>) {
        if self.name.as_deref() != Some(name) {
            self.name = Some(name.to_owned());
            self.subject += 1;
            self.factors = None;
        }
        self.delta = Some(delta);
    }

    /// Takes in the singular vectors of the module that is shown.
    pub fn set_factors(&mut self, name: &str, factors: Option<Arc<Factors>>) {
        if self.name.as_deref() == Some(name) && factors.is_some() {
            self.factors = factors;
            self.version += 1;
        }
    }

    /// How many singular vectors there are: the largest rank that can be pictured.
    pub fn terms(&self) -> Option<usize> {
        self.factors.as_ref().map(|f| f.terms())
    }

    /// The pictures at rank `r`. Making them costs nothing; their tiles are computed when they are looked at.
    pub fn pictures(&self, r: usize, reduction: Reduction) -> Option<Pictures> {
        let delta = Reduced::new(self.delta.clone()?, reduction);
        let split = self.factors.as_ref().and_then(|factors| {
            let low: Arc<dyn Picture> = Arc::new(LowRank::new(Arc::clone(factors), r, reduction));
            let rest: Arc<dyn Picture> = Arc::new(Difference::new(Arc::clone(&delta), Arc::clone(&low))?);
            Some((low, rest))
        });
        let rank = r.min(self.terms().unwrap_or(0)) as u64;
        // Three reductions, so many ranks, so many factors.
        let version = (self.version << 40) | ((reduction as u64) << 32) | rank;
        Some(Pictures { subject: self.subject, version, delta, split })
    }
}
