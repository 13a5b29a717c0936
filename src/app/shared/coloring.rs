//! [`Coloring`]: the job that colours the tiles of a tab's heatmaps.

use std::sync::Arc;

use crate::app::widgets::tiles::{self, TileBatch, TileJob};
use crate::job::{Job, Wake};

/// One colouring at a time. What runs already is left to end: it is newer than what is on screen.
pub struct Coloring {
    wake: Wake,
    job: Option<Job<Vec<TileBatch>>>,
    /// Colouring these pictures has failed: it is not tried again in every frame.
    stalled: bool,
    /// The pictures, by subject and version.
    of: Option<(u64, u64)>,
}

impl Coloring {
    /// Nothing to do yet; `wake` makes the window look again.
    pub fn new(wake: &Wake) -> Self {
        Self { wake: Arc::clone(wake), job: None, stalled: false, of: None }
    }

    /// Other pictures are tried again.
    pub fn follow(&mut self, of: Option<(u64, u64)>) {
        if self.of != of {
            (self.of, self.stalled) = (of, false);
        }
    }

    /// True while tiles are being coloured.
    pub fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// True when tiles that are missing can be asked for.
    pub fn is_ready(&self) -> bool {
        self.job.is_none() && !self.stalled
    }

    /// Colours tiles beside the window.
    pub fn begin(&mut self, jobs: Vec<TileJob>) {
        if self.is_ready() && !jobs.is_empty() {
            self.job =
                Some(Job::spawn("Colouring", Arc::clone(&self.wake), move |progress| tiles::run(&jobs, progress)));
        }
    }

    /// The tiles that have come.
    pub fn tiles(&mut self) -> Vec<TileBatch> {
        let Some(result) = self.job.as_mut().and_then(Job::take) else { return Vec::new() };
        self.job = None;
        result.unwrap_or_else(|error| {
            log::error!("{error}");
            self.stalled = true;
            Vec::new()
        })
    }
}
