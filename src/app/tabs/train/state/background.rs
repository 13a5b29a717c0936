//! [`BackgroundTasks`]: what the tab needs of the disk, done beside the window, and what is made of it when it is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::view::Round;
use crate::error::Result;
use crate::job::{Job, Running};

use super::Training;

type Then = Box<dyn FnOnce(&mut Training, &mut Round<'_>) + Send>;

/// How long a disk may keep a window that was closed.
const PATIENCE: Duration = Duration::from_secs(5);
/// A task that takes longer is shown.
const LONG: Duration = Duration::from_millis(300);

/// All that go on.
#[derive(Default)]
pub struct BackgroundTasks {
    going: Vec<Job<Then>>,
}

impl BackgroundTasks {
    /// Those that have taken a while.
    pub fn running(&self) -> impl Iterator<Item = &dyn Running> {
        self.going.iter().filter(|job| job.status().elapsed >= LONG).map(|job| job as &dyn Running)
    }

    /// Waits for what is being written, when the window is gone; not for ever.
    pub fn finish(&mut self) {
        let begin = Instant::now();
        while !self.going.is_empty() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
            self.done();
        }
    }

    fn done(&mut self) -> Vec<Result<Then>> {
        let mut done = Vec::new();
        self.going.retain_mut(|job| match job.take() {
            Some(result) => {
                done.push(result);
                false
            }
            None => true,
        });
        done
    }
}

impl Training {
    /// Does `work` beside the window, and `then` with what it gives; where it fails, the reason is on the screen.
    pub(super) fn in_background<T: Send + 'static>(
        &mut self,
        title: impl Into<String>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
        then: impl FnOnce(&mut Self, T, &mut Round<'_>) + Send + 'static,
    ) {
        let job = Job::spawn(title, Arc::clone(&self.wake), move |_| {
            let found = work()?;
            let then: Then = Box::new(move |training, round| then(training, found, round));
            Ok(then)
        });
        self.background.going.push(job);
    }

    /// The window is gone: what was to be written is.
    pub fn finish(&mut self) {
        self.background.finish();
    }

    /// Goes on with what has come, in the order in which it was asked for.
    pub(super) fn finish_background(&mut self, round: &mut Round<'_>) {
        for result in self.background.done() {
            match result {
                Ok(then) => then(self, round),
                Err(error) => round.complain(error),
            }
        }
    }
}
