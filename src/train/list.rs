//! [`Lister`]: the runs in folders, this program's and others'; looked for again and again for little.

use super::foreign::Reading;
use super::history::Past;
use super::run_folder::RunFolder;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How deep runs may lie in a folder of runs: a sweep has its runs within, an exported job in a folder within.
const DEPTH: usize = 3;

/// Looks for runs; what it has read it reads again only where it has changed.
#[derive(Default)]
pub struct Lister {
    readings: HashMap<PathBuf, Reading>,
}

/// Every run in these folders, the newest first. What is no run is passed over.
pub fn list(folders: &[PathBuf]) -> Vec<Past> {
    Lister::default().list(folders)
}

impl Lister {
    /// Every run in these folders, the newest first; a folder may be a run itself. What is no run is passed over.
    pub fn list(&mut self, folders: &[PathBuf]) -> Vec<Past> {
        let (mut found, mut readings) = (Vec::new(), HashMap::new());
        for folder in folders {
            self.collect(folder, DEPTH, &mut found, &mut readings);
        }
        self.readings = readings;
        found.sort_by(|a: &Past, b| b.modified.cmp(&a.modified).then_with(|| a.folder.cmp(&b.folder)));
        found.dedup_by(|a, b| a.folder == b.folder);
        found
    }

    fn collect(&mut self, folder: &Path, depth: usize, found: &mut Vec<Past>, kept: &mut HashMap<PathBuf, Reading>) {
        if RunFolder::new(folder).is_run() {
            match Past::read(folder) {
                Ok(past) => found.push(past),
                Err(error) => log::warn!("{error}"),
            }
            return;
        }
        let mut reading = self.readings.remove(folder).unwrap_or_else(|| Reading::new(folder));
        // What cannot be read now may be there again at the next look.
        if let Err(error) = reading.refresh() {
            log::debug!("{error}");
        }
        match Past::foreign(folder, &reading) {
            Some(past) => found.push(past),
            None if depth > 0 => {
                for within in reading.folders() {
                    let hidden = within.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
                    if !hidden {
                        self.collect(&within, depth - 1, found, kept);
                    }
                }
            }
            None => return,
        }
        kept.insert(folder.to_path_buf(), reading);
    }
}
