//! [`Best`]: the evaluations of a run so far, for patience and for keeping the best checkpoint.

use super::logs::Record;
use super::run_folder::{METRICS, RunFolder};
use crate::error::Result;

/// The lowest held-out loss so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Best {
    /// After which step.
    pub step: usize,
    /// How low.
    pub loss: f64,
    /// Evaluations since then.
    pub since: usize,
}

impl Default for Best {
    fn default() -> Self {
        Self { step: 0, loss: f64::INFINITY, since: 0 }
    }
}

impl Best {
    /// Of the lines that a run has written up to a step: what a run that goes on begins with.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn of_log(folder: &RunFolder, done: usize) -> Result<Self> {
        let lines = folder.lines_until(METRICS, done)?;
        let mut best = Self::default();
        for record in String::from_utf8_lossy(&lines).lines().filter_map(Record::parse) {
            if let Some(loss) = record.eval_loss {
                best.see(record.step.step, loss);
            }
        }
        Ok(best)
    }

    /// Takes in an evaluation: true where it is the lowest so far.
    pub(super) fn see(&mut self, step: usize, loss: f64) -> bool {
        let lower = loss < self.loss;
        *self = if lower { Self { step, loss, since: 0 } } else { Self { since: self.since + 1, ..*self } };
        lower
    }

    /// True where the run has gone on in vain for long enough.
    pub(super) fn is_over(&self, patience: usize) -> bool {
        patience > 0 && self.since >= patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_evaluations_that_were_no_better() {
        let mut best = Best::default();
        let seen: Vec<bool> = [2.0, 1.5, 1.5, 1.6].iter().zip(1..).map(|(&loss, step)| best.see(step, loss)).collect();
        assert_eq!((seen, best), (vec![true, true, false, false], Best { step: 2, loss: 1.5, since: 2 }));
        assert!(best.is_over(2) && !best.is_over(3) && !best.is_over(0));
        assert!(best.see(5, 1.4) && !best.is_over(1));
    }
}
