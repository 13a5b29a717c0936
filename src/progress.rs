//! Progress and cancellation in one trait.

use std::fmt;
use std::ops::Range;

use crate::error::Result;

/// What a long computation tells about itself, once per natural unit (a module, a panel, a batch).
///
/// `Err(Cancelled)` from [`step`](Progress::step) and `?` are the whole cancellation mechanism.
pub trait Progress: Sync {
    /// `done` of `total` units are finished.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::error::Error::Cancelled) when the work should stop.
    fn step(&self, done: u64, total: u64) -> Result<()>;

    /// Whether to go on, within a unit: nothing is told, and nothing waits.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What the work is at, in words, until the next one; empty for its usual course.
    fn stage(&self, _name: &str) {}
}

impl fmt::Debug for dyn Progress + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Nobody is watching.
impl Progress for () {
    fn step(&self, _done: u64, _total: u64) -> Result<()> {
        Ok(())
    }
}

/// A part of a longer piece of work: `done` of `total` of the part become a share of its units of the whole.
pub struct Part<'a> {
    whole: &'a dyn Progress,
    units: Range<u64>,
    count: u64,
}

/// What is too small to be counted: it is asked whether to go on, and the place stays where it is.
pub struct Still<'a> {
    whole: &'a dyn Progress,
    place: [u64; 2],
}

impl<'a> Still<'a> {
    /// Within unit `done` of `total` of `whole`, which is told of it.
    ///
    /// # Errors
    /// Cancellation.
    pub fn new(whole: &'a dyn Progress, done: u64, total: u64) -> Result<Self> {
        whole.step(done, total)?;
        Ok(Self { whole, place: [done, total] })
    }
}

impl Progress for Still<'_> {
    fn step(&self, _done: u64, _total: u64) -> Result<()> {
        self.whole.step(self.place[0], self.place[1])
    }

    fn check(&self) -> Result<()> {
        self.whole.check()
    }
}

/// Units that one part is divided into.
const FINENESS: u64 = 1000;

impl<'a> Part<'a> {
    /// Part number `index` of `count` equal parts of `whole`.
    pub fn new(whole: &'a dyn Progress, index: u64, count: u64) -> Self {
        Self { whole, units: index..index + 1, count }
    }

    /// What is left of `count` units of `whole`, from unit `from` on.
    pub fn rest(whole: &'a dyn Progress, from: u64, count: u64) -> Self {
        Self { whole, units: from..count.max(from), count }
    }
}

impl Progress for Part<'_> {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        let all = (self.units.end - self.units.start) * FINENESS;
        let share = (u128::from(done) * u128::from(all) / u128::from(total.max(1))) as u64;
        self.whole.step(self.units.start * FINENESS + share.min(all), self.count * FINENESS)
    }

    fn check(&self) -> Result<()> {
        self.whole.check()
    }

    fn stage(&self, name: &str) {
        self.whole.stage(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::Mutex;

    struct Seen(Mutex<Vec<(u64, u64)>>);

    impl Progress for Seen {
        fn step(&self, done: u64, total: u64) -> Result<()> {
            self.0.lock().unwrap().push((done, total));
            if done == total { Err(Error::Cancelled) } else { Ok(()) }
        }
    }

    #[test]
    fn parts_add_up_and_cancel() {
        let seen = Seen(Mutex::default());
        assert!(Part::new(&seen, 0, 2).step(1, 2).is_ok());
        assert!(Part::new(&seen, 1, 2).step(2, 2).unwrap_err().is_cancelled());
        assert_eq!(*seen.0.lock().unwrap(), [(500, 2000), (2000, 2000)]);
    }

    #[test]
    fn the_rest_goes_to_the_end() {
        let seen = Seen(Mutex::default());
        assert!(Part::rest(&seen, 2, 10).step(0, 4).is_ok());
        assert!(Part::rest(&seen, 2, 10).step(1, 4).is_ok());
        assert!(Part::rest(&seen, 2, 10).step(4, 4).unwrap_err().is_cancelled());
        assert_eq!(*seen.0.lock().unwrap(), [(2000, 10_000), (4000, 10_000), (10_000, 10_000)]);
    }
}
