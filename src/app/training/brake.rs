//! [`Brake`]: holds a run between two steps, and lets it go on.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::error::Result;
use crate::progress::Progress;

/// Held or not.
#[derive(Debug, Default)]
pub struct Brake {
    held: Mutex<bool>,
    released: Condvar,
}

impl Brake {
    /// Holds, or lets go.
    pub fn hold(&self, held: bool) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.released.notify_all();
    }

    /// True while it holds.
    pub fn is_held(&self) -> bool {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.released.wait_while(held, |held| *held).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Progress that stands still while the brake holds: nothing is computed and nobody is woken.
pub struct Braked<'a> {
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// What holds.
    pub brake: &'a Brake,
}

impl Progress for Braked<'_> {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        self.brake.wait();
        self.progress.step(done, total)
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
        let (brake, steps) = (Arc::new(Brake::default()), Arc::new(AtomicU64::new(0)));
        let (held, counted) = (Arc::clone(&brake), Arc::clone(&steps));
        let mut job = Job::<()>::spawn("counting", Arc::new(|| {}), move |progress| {
            loop {
                Braked { progress, brake: &held }.step(0, 1)?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        while steps.load(Ordering::Relaxed) < 10 {
            std::thread::yield_now();
        }
        brake.hold(true);
        // One step may be under way.
        let before = steps.load(Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(steps.load(Ordering::Relaxed) <= before + 1);
        let before = steps.load(Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!(steps.load(Ordering::Relaxed), before);
        job.cancel();
        brake.hold(false);
        let result = loop {
            if let Some(result) = job.take() {
                break result;
            }
            std::thread::yield_now();
        };
        assert!(result.unwrap_err().is_cancelled());
    }
}
