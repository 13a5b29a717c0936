//! [`Status`]: how far a run came and how it ended, in `status.json`; and the lock that tells whether it still goes on.
//!
//! The system lets go of the lock when the program ends, however it ends: a run that says that it goes on while nobody
//! holds its lock was killed.

use super::run_folder::{LOCK, STATUS};
use super::store::write_whole;
use crate::checkpoint::json;
use crate::error::{Error, Result};
use crate::guard;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::path::Path;

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It goes on; where nobody holds the lock, it was killed.
    #[default]
    Running,
    /// It came to its end.
    Finished,
    /// A person has stopped it.
    Stopped,
    /// It could not go on.
    Failed,
}

/// How far a run came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// How it stands.
    pub state: State,
    /// Steps in all.
    pub steps: usize,
    /// What it computes on, `cpu` or `gpu`; empty where that was not kept.
    pub device: String,
    /// Elements that are trained.
    pub trainable: usize,
    /// Predicted bytes.
    pub predicted: u64,
    /// The most bytes that weights, everything trained and buffers took.
    pub held: u64,
    /// Loss over text of the base's own kind before the first step, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget_before: Option<f64>,
    /// The step whose parameters are the result, where that is not the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<usize>,
    /// Why it could not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Status {
    /// Reads a run's status; `None` where there is none that can be read.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&json::text(&folder.join(STATUS)).ok()?).ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::failure(error.to_string()))?;
        write_whole(&folder.join(STATUS), &text)
    }

    /// Notes how it ended. A disk that is full has been complained of already.
    pub(super) fn end<T>(&mut self, folder: &Path, result: &Result<T>) {
        (self.state, self.error) = match result {
            Ok(_) => (State::Finished, None),
            Err(Error::Cancelled) => (State::Stopped, None),
            Err(error) => (State::Failed, Some(error.to_string())),
        };
        if let Err(error) = self.write(folder) {
            log::warn!("{error}");
        }
    }
}

/// Makes the run's folder and locks it for this run.
///
/// # Errors
/// When another run writes to it, or it cannot be written.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    // A pipe of this name would wait for somebody who reads.
    if path.symlink_metadata().is_ok() {
        guard::regular(&path)?;
    }
    let opened = std::fs::create_dir_all(folder)
        .and_then(|()| OpenOptions::new().create(true).truncate(false).write(true).open(&path));
    let file = opened.map_err(|error| Error::write(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::file(folder, "another run is writing to this folder")),
        // A file system without locks: it is only not known from outside that the run goes on.
        Err(std::fs::TryLockError::Error(error)) => {
            log::warn!("{}: cannot lock: {error}", path.display());
            Ok(file)
        }
    }
}

/// True while a run writes to this folder, in this program or another.
pub fn is_running(folder: &Path) -> bool {
    let Ok(file) = guard::regular(&folder.join(LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_from_outside() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        assert!(!is_running(&run));
        let held = lock(&run).unwrap();
        assert!(is_running(&run));
        assert!(lock(&run).unwrap_err().to_string().ends_with("another run is writing to this folder"));
        drop(held);
        assert!(!is_running(&run));
    }

    #[test]
    fn an_end_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let mut status = Status { steps: 3, ..Status::default() };
        status.end(folder.path(), &Result::<()>::Err(Error::failure("the loss is NaN")));
        let read = Status::read(folder.path()).unwrap();
        assert_eq!((read.state, read.error.as_deref(), read.steps), (State::Failed, Some("the loss is NaN"), 3));
        status.end(folder.path(), &Ok(()));
        assert_eq!(Status::read(folder.path()).unwrap().state, State::Finished);
        std::fs::write(folder.path().join(STATUS), "{").unwrap();
        assert_eq!(Status::read(folder.path()), None);
    }
}
