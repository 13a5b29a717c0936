//! [`Reading`]: a run of another program as it stands, looked at again and again for little.
//!
//! A look asks for the times of the folders and the sizes of the logs; names are listed, and logs read, only where these have
//! changed. A folder that goes away leaves what was read.

use super::listing::{Listing, modified};
use super::points::Points;
use super::{Foreign, KINDS, Kind, Log, Saved, settings};
use crate::error::Result;
use crate::train::{Record, Settings};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A log as it was when it was last read.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    size: u64,
    modified: Option<SystemTime>,
    at: u64,
    trouble: Option<String>,
}

/// What is known of a run.
pub struct Reading {
    folder: PathBuf,
    listing: Option<Listing>,
    kind: Option<&'static Kind>,
    /// The newest checkpoint's folder, and when it last changed: its files come one after the other.
    newest: Option<(PathBuf, Option<SystemTime>)>,
    logs: Vec<Log>,
    seen: HashMap<PathBuf, Seen>,
    points: Points,
    /// Who wrote it, what it saved.
    pub foreign: Foreign,
    /// Its settings, as far as they are known.
    pub settings: Settings,
    /// When it last wrote something.
    pub modified: SystemTime,
}

/// A run that has not written for so long has come to its end, or was stopped; longer where its checkpoints are further apart.
const SILENT: Duration = Duration::from_secs(180);
/// What is wrong with a file may be that it is being written, for so long.
const SETTLED: Duration = Duration::from_secs(5);

impl Reading {
    /// Nothing read yet.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            listing: None,
            kind: None,
            newest: None,
            logs: Vec::new(),
            seen: HashMap::new(),
            points: Points::default(),
            foreign: Foreign::default(),
            settings: Settings { out: folder.to_path_buf(), ..Settings::default() },
            modified: SystemTime::UNIX_EPOCH,
        }
    }

    /// Whether another program has written a run there; to be asked after a look.
    pub fn is_run(&self) -> bool {
        self.kind.is_some()
    }

    /// The folders in the folder, where it is no run itself.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let listing = self.listing.iter();
        listing.flat_map(|listing| listing.folders.iter().map(|name| listing.path(name)))
    }

    /// Looks; true when there is something new.
    ///
    /// # Errors
    /// When the folder cannot be read. What was read before stays.
    pub fn refresh(&mut self) -> Result<bool> {
        let listed = self.listing.as_ref().is_none_or(Listing::is_stale);
        if listed {
            self.list()?;
        }
        let (Some(kind), Some(listing)) = (self.kind, &self.listing) else { return Ok(listed) };
        let newest = self.foreign.checkpoints.last().map(|saved| (saved.path.clone(), modified(&saved.path)));
        let grown = newest != self.newest;
        if listed || grown {
            self.logs = (kind.logs)(listing, &self.foreign.checkpoints);
            self.modified =
                self.modified.max(newest.iter().filter_map(|newest| newest.1).max().unwrap_or(self.modified));
            self.newest = newest;
        }
        let read = self.read();
        if listed || grown || read {
            let (settings, described) = settings::of(&self.folder, &self.foreign, &self.points);
            (self.settings, self.foreign.described) = (settings, described);
        }
        Ok(listed || grown || read)
    }

    fn list(&mut self) -> Result<()> {
        let listing = Listing::of(&self.folder)?;
        self.kind = KINDS.into_iter().find(|kind| (kind.is)(&listing));
        if let Some(kind) = self.kind {
            let result = kind.results.iter().find(|name| listing.has(name)).map(|name| listing.path(name));
            self.modified = self.modified.max(result.as_deref().and_then(modified).unwrap_or(self.modified));
            self.foreign = Foreign {
                made_by: (kind.made_by)(&listing),
                described: false,
                checkpoints: (kind.checkpoints)(&listing),
                // A folder is opened as one where it can be: the configuration lies beside the weights.
                result: result.map(|_| self.folder.clone()),
            };
        }
        self.listing = Some(listing);
        Ok(())
    }

    /// Reads the logs that have changed; true when one has.
    fn read(&mut self) -> bool {
        let mut changed = false;
        let mut again = false;
        for log in &self.logs {
            let Ok(about) = std::fs::metadata(&log.path) else { continue };
            let (size, modified) = (about.len(), about.modified().ok());
            let seen = self.seen.entry(log.path.clone()).or_default();
            if seen.size == size && seen.modified == modified {
                continue;
            }
            if size < seen.at {
                // Begun anew: what it said before counts no more.
                again = true;
                break;
            }
            changed = true;
            self.modified = self.modified.max(modified.unwrap_or(self.modified));
            let (at, trouble) = match (log.read)(&log.path, seen.at, &mut self.points) {
                Ok(at) => (at, None),
                Err(error) => (seen.at, Some(error.to_string())),
            };
            *seen = Seen { size, modified, at, trouble };
        }
        if again {
            self.seen.clear();
            self.points = Points::default();
            return self.read();
        }
        changed
    }

    /// Its steps.
    pub fn records(&self) -> Vec<Record> {
        self.points.records()
    }

    /// Steps in all, where it is known.
    pub fn total(&self) -> Option<usize> {
        self.points.total.or(self.settings.steps)
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.points.last().max(self.foreign.checkpoints.last().map_or(0, |saved| saved.step))
    }

    /// What is wrong with a log that is not being written any more: a sentence.
    pub fn trouble(&self) -> Option<String> {
        self.logs.iter().find_map(|log| {
            let seen = self.seen.get(&log.path)?;
            if !seen.modified.is_some_and(is_older_than(SETTLED)) {
                return None;
            }
            let cut = seen.at > 0 && seen.at < seen.size;
            let left = || {
                format!(
                    "{}: ends within a record or a line, the last {} bytes are not read",
                    log.path.display(),
                    seen.size - seen.at
                )
            };
            seen.trouble.clone().or_else(|| cut.then(left))
        })
    }

    /// Whether a program seems to be at work on it: it wrote something a short while ago and is not at its last step.
    pub fn goes_on(&self) -> bool {
        // A checkpoint's folder is there before its files are: what counts is what a log says.
        let said = self.points.last().max(self.points.done.unwrap_or(0));
        let at_the_end = self.total().is_some_and(|total| said >= total) || self.foreign.result.is_some();
        let apart = match &self.foreign.checkpoints[..] {
            [.., before, last] => modified(&last.path).zip(modified(&before.path)),
            _ => None,
        };
        let apart = apart.and_then(|(last, before)| last.duration_since(before).ok()).unwrap_or_default();
        !at_the_end && !is_older_than(SILENT.max(2 * apart))(self.modified)
    }

    /// Whether nothing was written for a short while: what comes at a run's end comes file by file.
    pub(super) fn is_settled(&self) -> bool {
        is_older_than(SETTLED)(self.modified)
    }

    /// Whether it came to its end.
    pub fn is_finished(&self) -> bool {
        self.foreign.result.is_some() || self.total().is_some_and(|total| total > 0 && self.done() >= total)
    }

    /// The checkpoints of which there is to be a frame: all, or evenly so many of them and the last one.
    pub(super) fn filmed(&self, most: usize) -> impl Iterator<Item = &Saved> {
        let all = &self.foreign.checkpoints;
        let every = all.len().div_ceil(most.max(1)).max(1);
        all.iter().enumerate().filter(move |(at, _)| at % every == 0 || at + 1 == all.len()).map(|(_, saved)| saved)
    }
}

/// Whether a checkpoint, a folder or a file, was written to a short while ago.
pub(super) fn is_fresh(path: &Path) -> bool {
    let within = std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| modified(&entry.ok()?.path()));
    within.chain(modified(path)).max().is_some_and(|time| !is_older_than(SETTLED)(time))
}

/// Whether a time is longer ago than this.
fn is_older_than(age: Duration) -> impl Fn(SystemTime) -> bool {
    let now = SystemTime::now();
    move |time| now.duration_since(time).is_ok_and(|since| since > age)
}
