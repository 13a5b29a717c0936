//! [`Stage`]: what a run does between two steps (it reads, evaluates, samples), with a name and a way to stop it.

use crate::error::Result;
use crate::progress::Progress;

/// Progress of a part of a run: the whole hears its name and how far it is, and its own `done` of `total` stays.
pub(super) struct Stage<'a> {
    whole: &'a dyn Progress,
    name: String,
    unit: &'static str,
    at: (u64, u64),
}

impl<'a> Stage<'a> {
    /// A stage after `done` of `steps` steps.
    pub(super) fn new(whole: &'a dyn Progress, name: impl Into<String>, unit: &'static str, at: (u64, u64)) -> Self {
        Self { whole, name: name.into(), unit, at }
    }

    /// Before the first step.
    pub(super) fn before(whole: &'a dyn Progress, name: &str) -> Self {
        Self::new(whole, name, "", (0, 1))
    }
}

impl Progress for Stage<'_> {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        if self.unit.is_empty() || total <= 1 {
            self.whole.stage(&self.name);
        } else {
            self.whole.stage(&format!("{}, {done} of {total} {}", self.name, self.unit));
        }
        self.whole.step(self.at.0, self.at.1)
    }

    fn check(&self) -> Result<()> {
        self.whole.check()
    }
}
