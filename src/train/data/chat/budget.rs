//! [`Budget`]: what one rendering may make.

use super::python::{Made, wrong};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are left to make, of all texts and lists together, those between the steps included. Shared by the
/// operators, filters and methods of one template; begun anew for every rendering.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// Begins anew with `bytes`.
    pub fn begin(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes `bytes` before they are made.
    ///
    /// # Errors
    /// When so many are not left.
    pub fn charge(&self, bytes: usize) -> Made<()> {
        let left = self.left();
        self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        if bytes > left { Err(self.spent()) } else { Ok(()) }
    }

    /// The sentence for it.
    pub fn spent(&self) -> minijinja::Error {
        wrong("it makes more text than any conversation needs")
    }
}
