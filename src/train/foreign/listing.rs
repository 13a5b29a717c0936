//! [`Listing`]: the names in a folder, and of the event files that lie in folders of their own within it.

use crate::error::{Error, Result};
use crate::train::tfevents;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folders in a run's folder that TensorBoard's files may lie in, themselves or in one for each start of the run.
const EVENTS: [&str; 5] = ["runs", "logs", "tensorboard", "tb", "train"];
/// Changes that are this close may have the same time.
const TICK: Duration = Duration::from_millis(50);
/// More names than a folder that is looked at may have; of a larger one the first are seen.
const MOST: usize = 200_000;

/// Names in a folder.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The folder.
    pub folder: PathBuf,
    /// Its files.
    pub files: Vec<String>,
    /// Its folders.
    pub folders: Vec<String>,
    /// Event files in it, and in folders within it that hold nothing else.
    pub events: Vec<PathBuf>,
    /// When each folder that was listed had last changed, and when it was looked at.
    stamps: Vec<(PathBuf, Option<SystemTime>, SystemTime)>,
}

/// When a path last changed.
pub fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

impl Listing {
    /// Of a folder. Asks for names alone: ten thousand checkpoints take milliseconds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut listing = Self { folder: folder.to_path_buf(), ..Self::default() };
        let (files, folders) = listing.names(folder)?;
        let is_event = |name: &String| name.contains(tfevents::MARK);
        listing.events = files.iter().filter(|name| is_event(name)).map(|name| folder.join(name)).collect();
        for within in folders.iter().filter(|name| EVENTS.contains(&name.as_str())).map(|name| folder.join(name)) {
            let Ok((files, starts)) = listing.names(&within) else { continue };
            listing.events.extend(files.iter().filter(|name| is_event(name)).map(|name| within.join(name)));
            for start in starts.iter().map(|name| within.join(name)) {
                let Ok((files, _)) = listing.names(&start) else { continue };
                listing.events.extend(files.iter().filter(|name| is_event(name)).map(|name| start.join(name)));
            }
        }
        listing.events.sort();
        (listing.files, listing.folders) = (files, folders);
        Ok(listing)
    }

    fn names(&mut self, folder: &Path) -> Result<(Vec<String>, Vec<String>)> {
        // Before the names: what changes meanwhile is seen at the next look.
        self.stamps.push((folder.to_path_buf(), modified(folder), SystemTime::now()));
        let entries = std::fs::read_dir(folder).map_err(|error| Error::read(folder, "open", &error))?;
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for entry in entries.filter_map(std::result::Result::ok).take(MOST) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = match entry.file_type() {
                Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
                kind => kind.is_ok_and(|kind| kind.is_dir()),
            };
            if is_folder { folders.push(name) } else { files.push(name) }
        }
        Ok((files, folders))
    }

    /// Whether something has come to a folder that was listed, or gone.
    pub fn is_stale(&self) -> bool {
        self.stamps.iter().any(|(folder, stamp, looked)| {
            // The system's clock for files goes in ticks: two changes within one have the same time.
            let fresh = stamp.is_none_or(|stamp| looked.duration_since(stamp).is_ok_and(|age| age < TICK));
            fresh || modified(folder) != *stamp
        })
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    /// The path of a file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
