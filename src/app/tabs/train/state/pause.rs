//! [`PauseToken`]: holds a run between two steps, and lets it continue.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::progress::Progress;

/// Least time between two looks of the window at a run: what is painted costs the run processor time. A frame takes 6 ms of this
/// program's own and 16 ms of a software renderer's: twice a second that is a fortieth of two processors.
const LOOK: Duration = Duration::from_millis(500);

/// Held, let go, or ended.
#[derive(Debug, Default)]
pub struct PauseToken {
    held: Mutex<bool>,
    released: Condvar,
    ended: AtomicBool,
    looked: Mutex<Option<Instant>>,
}

impl PauseToken {
    /// Holds, or lets go.
    pub fn hold(&self, held: bool) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.released.notify_all();
    }

    /// True while it holds.
    pub fn is_held(&self) -> bool {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the run at its next step.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.hold(false);
    }

    /// True when it is time to tell the window.
    fn is_time(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.is_none_or(|last| last.elapsed() >= LOOK);
        if due {
            *looked = Some(Instant::now());
        }
        due
    }

    fn wait(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.released.wait_while(held, |held| *held).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Progress that stands still while the token holds: nothing is computed and nobody is woken. Otherwise the window is told a
/// few times a second.
pub struct Pausable<'a> {
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// What holds.
    pub pause: &'a PauseToken,
}

impl Progress for Pausable<'_> {
    fn stage(&self, name: &str) {
        self.progress.stage(name);
    }

    fn step(&self, done: u64, total: u64) -> Result<()> {
        self.pause.wait();
        if self.pause.ended.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if done >= total || self.pause.is_time() { self.progress.step(done, total) } else { Ok(()) }
    }

    /// Within a step nothing is held: it is ended, or goes on.
    fn check(&self) -> Result<()> {
        if self.pause.ended.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { self.progress.check() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_held_run_stands_still_and_can_be_ended() {
        let (pause, steps) = (Arc::new(PauseToken::default()), Arc::new(AtomicU64::new(0)));
        let (held, counted) = (Arc::clone(&pause), Arc::clone(&steps));
        let mut job = Job::<()>::spawn("counting", Arc::new(|| {}), move |progress| {
            loop {
                Pausable { progress, pause: &held }.step(0, 1)?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        while steps.load(Ordering::Relaxed) < 10 {
            std::thread::yield_now();
        }
        pause.hold(true);
        // One step may be under way.
        let before = steps.load(Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(steps.load(Ordering::Relaxed) <= before + 1);
        let before = steps.load(Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!(steps.load(Ordering::Relaxed), before);
        pause.end();
        let result = loop {
            if let Some(result) = job.take() {
                break result;
            }
            std::thread::yield_now();
        };
        assert!(result.unwrap_err().is_cancelled());
    }
}
