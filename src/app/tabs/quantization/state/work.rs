//! [`Work`]: a list that a job fills, and what it is a list of.

use crate::error::{Error, Result};
use crate::job::{Running, Stream, Wake};
use crate::progress::Progress;

/// Results for a key, as far as they are there. The last ones stay until the first of the next have come.
pub struct Work<K, T: Send + 'static> {
    key: Option<K>,
    /// What has come, in the order in which it came.
    pub items: Vec<T>,
    /// The items are of an older key.
    stale: bool,
    stream: Option<Stream<T>>,
    /// Why there is not all of it.
    pub error: Option<Error>,
}

impl<K: PartialEq, T: Send + 'static> Work<K, T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { key: None, items: Vec::new(), stale: false, stream: None, error: None }
    }

    /// What it is about.
    pub fn key(&self) -> Option<&K> {
        self.key.as_ref()
    }

    /// True when this is what was computed, is being computed, or could not be.
    pub fn is_for(&self, key: &K) -> bool {
        self.key.as_ref() == Some(key)
    }

    /// True when every item belongs to this key.
    pub fn is_of(&self, key: &K) -> bool {
        self.is_for(key) && !self.stale
    }

    /// Begins; what was running for another key is dropped.
    pub fn begin(
        &mut self,
        key: K,
        title: String,
        wake: Wake,
        work: impl FnOnce(&dyn Progress, &mut dyn FnMut(T)) -> Result<()> + Send + 'static,
    ) {
        self.key = Some(key);
        self.stale = true;
        self.error = None;
        self.stream = Some(Stream::spawn(title, wake, work));
    }

    /// Drops what runs; it is missing again. What has come stays until the next has.
    pub fn stop(&mut self) {
        if self.stream.take().is_some() {
            (self.key, self.stale) = (None, true);
        }
    }

    /// Takes in what has come. True when there was something.
    pub fn logic(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let end = stream.take();
        let new: Vec<T> = stream.items().collect();
        let any = !new.is_empty() || end.is_some();
        if !new.is_empty() && std::mem::take(&mut self.stale) {
            self.items.clear();
        }
        self.items.extend(new);
        if let Some(result) = end {
            self.stream = None;
            if std::mem::take(&mut self.stale) {
                self.items.clear();
            }
            self.error = result.err();
        }
        any
    }

    /// The job, while it runs.
    pub fn running(&self) -> Option<&dyn Running> {
        self.stream.as_ref().map(|stream| stream.job() as &dyn Running)
    }
}
