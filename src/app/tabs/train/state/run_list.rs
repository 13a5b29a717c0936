//! [`RunList`]: the runs on the disk, looked through every now and then; and the runs that are read from there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::job::{Stream, Wake};
use crate::train::history::{Follow, Past, Phase, Written};
use crate::train::list::Lister;
use crate::train::sweep::Group;

use super::track::Track;

/// Time between two looks at the folders.
const LOOK: Duration = Duration::from_millis(1500);
/// Seconds in which a run that goes on is news once.
const NEWS: u64 = 5;
/// Time between two looks at a run that goes on elsewhere.
const FOLLOW: Duration = Duration::from_millis(300);

/// When a run last wrote something, in seconds; of one that goes on every few of them, as each look that tells something new is
/// painted.
fn written(past: &Past) -> u64 {
    let seconds = past.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if past.phase == Phase::Running { seconds / NEWS } else { seconds }
}

/// Work that looks again and again; it ends when its owner is gone, and wakes the window only with news.
struct Watcher<I: Send + 'static> {
    stream: Stream<I>,
    gone: Arc<AtomicBool>,
}

impl<I: Send + 'static> Watcher<I> {
    /// `look` is called again after each pause until it says that nothing more will come.
    fn spawn(wake: Wake, pause: Duration, mut look: impl FnMut(&mut dyn FnMut(I)) -> bool + Send + 'static) -> Self {
        let gone = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&gone);
        let stream = Stream::spawn("Looking at runs", wake, move |_, send| {
            while look(send) {
                let mut left = pause;
                while !left.is_zero() {
                    if over.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    let nap = left.min(Duration::from_millis(50));
                    std::thread::sleep(nap);
                    left -= nap;
                }
            }
            Ok(())
        });
        Self { stream, gone }
    }
}

impl<I: Send + 'static> Drop for Watcher<I> {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// What a look at the folders has found.
struct Found {
    runs: Vec<Past>,
    sweeps: Vec<PathBuf>,
}

impl Found {
    fn of(lister: &mut Lister, folders: &[PathBuf]) -> Self {
        let runs = lister.list(folders);
        let mut sweeps: Vec<PathBuf> = Vec::new();
        for around in runs.iter().filter_map(|past| past.folder.parent()) {
            let new = !sweeps.iter().any(|known| known == around);
            if new && Group::read(around).is_some_and(|group| group.kind == "sweep") {
                sweeps.push(around.to_path_buf());
            }
        }
        Self { runs, sweeps }
    }
}

/// Runs on the disk.
pub struct RunList {
    wake: Wake,
    folders: Vec<PathBuf>,
    watcher: Option<Watcher<Found>>,
    /// Folders of sweeps.
    pub sweeps: Vec<PathBuf>,
    /// All runs, the newest first; `None` before the first look.
    pub runs: Option<Arc<[Past]>>,
    readers: HashMap<PathBuf, Watcher<Vec<Written>>>,
}

impl RunList {
    /// Nothing looked at yet.
    pub fn new(wake: Wake) -> Self {
        Self { wake, folders: Vec::new(), watcher: None, sweeps: Vec::new(), runs: None, readers: HashMap::new() }
    }

    /// Looks at these folders from now on.
    pub fn watch(&mut self, folders: &[PathBuf]) {
        if self.watcher.is_some() && self.folders == folders {
            return;
        }
        self.folders = folders.to_vec();
        self.look_again();
    }

    /// Looks now, and then as before.
    pub fn look_again(&mut self) {
        let (folders, mut before, mut lister) = (self.folders.clone(), None, Lister::default());
        self.watcher = Some(Watcher::spawn(Arc::clone(&self.wake), LOOK, move |send| {
            let found = Found::of(&mut lister, &folders);
            let seen: Vec<_> =
                found.runs.iter().map(|past| (past.folder.clone(), past.phase.clone(), written(past))).collect();
            if before.as_ref() != Some(&seen) {
                before = Some(seen);
                send(found);
            }
            true
        }));
    }

    /// Takes in what was found; true when it changed.
    pub fn logic(&mut self, tracks: &mut [Track]) -> bool {
        let newest = self.watcher.as_ref().and_then(|watcher| watcher.stream.items().last());
        let changed = newest.is_some();
        if let Some(Found { runs, sweeps }) = newest {
            (self.runs, self.sweeps) = (Some(runs.into()), sweeps);
        }
        self.readers.retain(|folder, reader| {
            // The end before the items: none is missed.
            let ended = reader.stream.take().is_some();
            if let Some(track) = tracks.iter_mut().find(|track| track.is_of(folder)) {
                reader.stream.items().flatten().for_each(|written| track.read(written));
            }
            !ended
        });
        changed
    }

    /// Reads a run's files, and goes on as long as a program writes them.
    pub fn read(&mut self, folder: &Path) {
        let (path, mut follow) = (folder.to_path_buf(), None);
        let reader = Watcher::spawn(Arc::clone(&self.wake), FOLLOW, move |send| {
            // Asked before the files are read: what is written until the end is read too.
            let follow = follow.get_or_insert_with(|| Follow::new(&path));
            let goes_on = follow.goes_on();
            let mut news = Vec::new();
            follow.look(&mut |written| news.push(written));
            if !news.is_empty() {
                send(news);
            }
            goes_on
        });
        self.readers.insert(folder.to_path_buf(), reader);
    }

    /// Nobody looks at this run any more.
    pub fn leave(&mut self, folder: &Path) {
        self.readers.remove(folder);
    }

    /// True while a run's files are read.
    pub fn is_reading(&self, folder: &Path) -> bool {
        self.readers.contains_key(folder)
    }

    /// A run by its folder.
    pub fn find(&self, folder: &Path) -> Option<&Past> {
        self.runs.as_ref()?.iter().find(|past| past.folder == folder)
    }
}
