//! [`RunFolder`]: the files of a run and how they are read, in one place.
//!
//! ```text
//! run.toml                      the settings
//! inputs.json                   which data and model they named
//! metrics.jsonl                 a line a step
//! memory.json                   bytes, predicted and measured
//! film.jsonl, samples.jsonl     singular values of ΔW; what the model writes after the prompts
//! status.json, .lock            how far it came, how it ended; held while it goes on
//! note.txt                      what a person has noted
//! checkpoints/step-N/           state.safetensors: parameters and moments; state.json: where it was
//! adapter_model.safetensors     the result (under `full`: a model folder)
//! ```

use super::Settings;
use super::store::write_whole;
use crate::checkpoint::json;
use crate::error::{Error, Result};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Settings.
pub const SETTINGS: &str = "run.toml";
/// A line a step.
pub const METRICS: &str = "metrics.jsonl";
/// A line for each frame of singular values.
pub const FILM: &str = "film.jsonl";
/// A line for each sample.
pub const SAMPLES: &str = "samples.jsonl";
/// Files of lines that each name a step.
pub const LINES: [&str; 3] = [METRICS, FILM, SAMPLES];
/// Memory, predicted and measured.
pub const MEMORY: &str = "memory.json";
/// How far it came, how it ended.
pub const STATUS: &str = "status.json";
/// Data and model as they were when the run began.
pub const INPUTS: &str = "inputs.json";
/// Locked while a run goes on.
pub const LOCK: &str = ".lock";
/// A person's note.
pub const NOTE: &str = "note.txt";
/// Marks the folder of a sweep or a comparison.
pub const GROUP: &str = "group.json";
/// Parameters and moments of a checkpoint.
pub const STATE_TENSORS: &str = "state.safetensors";
/// Where a checkpoint was.
pub const STATE: &str = "state.json";

/// Folder of the checkpoints.
const CHECKPOINTS: &str = "checkpoints";
/// A checkpoint's folder begins with it; the number of its step follows.
const STEP: &str = "step-";
/// Any of these is there once a run has come to its end.
const RESULTS: [&str; 3] = ["adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json"];

/// Longest line of a file of lines that is read.
const LONGEST: usize = 1 << 26;

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// The folder at a path, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether a run has begun here.
    pub fn is_run(&self) -> bool {
        self.file(SETTINGS).is_file()
    }

    /// Whether a run has written steps here.
    pub fn has_steps(&self) -> bool {
        self.file(METRICS).exists()
    }

    /// Whether the result is there.
    pub fn has_result(&self) -> bool {
        RESULTS.iter().any(|name| self.file(name).is_file())
    }

    /// The run's name as a person reads it: the folder's, with that of the folder around it where it is part of a sweep or a
    /// comparison.
    pub fn read_name(&self) -> String {
        let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match self.0.parent().filter(|parent| parent.join(GROUP).is_file()) {
            Some(parent) => format!("{}/{}", last(parent), last(&self.0)),
            None => last(&self.0),
        }
    }

    /// Settings of the run. A folder that was moved is where it is now.
    ///
    /// # Errors
    /// As [`read_settings`].
    pub fn settings(&self) -> Result<Settings> {
        Ok(Settings { out: self.0.clone(), ..read_settings(&self.file(SETTINGS))? })
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_settings(&self, settings: &Settings) -> Result<()> {
        let text =
            toml::to_string(settings).map_err(|error| Error::failure(format!("cannot write settings: {error}")))?;
        write_whole(&self.file(SETTINGS), text.as_bytes())
    }

    /// The folder of the checkpoint of a step.
    pub fn checkpoint(&self, step: usize) -> PathBuf {
        self.0.join(CHECKPOINTS).join(format!("{STEP}{step}"))
    }

    /// Where the checkpoint of a step is written before it is renamed.
    pub fn unfinished_checkpoint(&self, step: usize) -> PathBuf {
        self.0.join(CHECKPOINTS).join(format!(".{STEP}{step}"))
    }

    /// Steps with a whole checkpoint, in order.
    pub fn checkpoints(&self) -> Vec<usize> {
        let Ok(entries) = std::fs::read_dir(self.0.join(CHECKPOINTS)) else { return Vec::new() };
        let step = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.ok()?.path();
            let step = path.file_name()?.to_str()?.strip_prefix(STEP)?.parse().ok()?;
            path.join(STATE).is_file().then_some(step)
        };
        let mut steps: Vec<usize> = entries.filter_map(step).collect();
        steps.sort_unstable();
        steps
    }

    /// Removes what a run that was killed has left unfinished. Only for who holds the lock.
    pub(super) fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(self.0.join(CHECKPOINTS)) else { return };
        for entry in entries.filter_map(std::result::Result::ok) {
            let unfinished = entry.file_name().to_string_lossy().starts_with(&format!(".{STEP}"));
            if unfinished && let Err(error) = std::fs::remove_dir_all(entry.path()) {
                log::warn!("{}: cannot remove what was left behind: {error}", entry.path().display());
            }
        }
    }

    /// The lines of a file of lines up to a step, as they are kept when a run goes on from there; what is no line that names a
    /// step is left out. Nothing where the file is not there.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn lines_until(&self, name: &str, step: usize) -> Result<Vec<u8>> {
        let mut kept = Vec::new();
        each_line(&self.file(name), &mut |line| {
            let at = serde_json::from_slice::<Value>(line).ok().and_then(|line| line["step"].as_u64());
            if at.is_some_and(|at| at <= step as u64) {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        })?;
        Ok(kept)
    }
}

/// Settings of a file as a run writes it.
///
/// # Errors
/// When it cannot be read, or holds what is no setting.
pub fn read_settings(path: &Path) -> Result<Settings> {
    toml::from_str(&json::text(path)?).map_err(|error| Error::file(path, error.message().to_owned()))
}

/// Hands over each line of a file, without its end; nothing where there is no such file.
fn each_line(path: &Path, take: &mut dyn FnMut(&[u8])) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut reader = BufReader::new(crate::guard::regular(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = read_line(&mut reader, &mut line).map_err(|error| Error::read(path, "read", &error))?;
        if read == 0 {
            return Ok(());
        }
        take(line.strip_suffix(b"\n").unwrap_or(&line));
    }
}

/// A line with its end; of one that is longer than any of ours only the beginning.
fn read_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut all = 0;
    loop {
        let bytes = reader.fill_buf()?;
        let end = bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        let read = end.unwrap_or(bytes.len());
        if line.len() < LONGEST {
            line.extend_from_slice(&bytes[..read]);
        }
        reader.consume(read);
        all += read;
        if read == 0 || end.is_some() {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_costs_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path());
        assert_eq!(run.lines_until(METRICS, 9).unwrap(), b"");
        std::fs::write(
            run.file(METRICS),
            b"{\"step\":1}\n\xff\xfe{\"step\":2}\n{\"step\":3}\nnonsense\n{\"step\":4}\n\xff",
        )
        .unwrap();
        assert_eq!(run.lines_until(METRICS, 3).unwrap(), b"{\"step\":1}\n{\"step\":3}\n");
        assert_eq!(run.lines_until(METRICS, 9).unwrap(), b"{\"step\":1}\n{\"step\":3}\n{\"step\":4}\n");
    }

    #[test]
    fn checkpoints_are_those_that_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path());
        assert!(run.checkpoints().is_empty() && !run.is_run() && !run.has_result());
        for step in [30, 4, 100] {
            std::fs::create_dir_all(run.checkpoint(step)).unwrap();
            std::fs::write(run.checkpoint(step).join(STATE), "{}").unwrap();
        }
        std::fs::create_dir_all(run.checkpoint(200)).unwrap();
        std::fs::create_dir_all(run.unfinished_checkpoint(300)).unwrap();
        assert_eq!(run.checkpoints(), [4, 30, 100]);
    }

    #[test]
    fn a_moved_folder_is_where_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path());
        let settings = Settings { out: PathBuf::from("elsewhere"), rank: 3, ..Settings::default() };
        run.write_settings(&settings).unwrap();
        assert_eq!(run.settings().unwrap(), Settings { out: folder.path().to_path_buf(), ..settings });
        std::fs::write(run.file(SETTINGS), "rang = 3").unwrap();
        assert!(run.settings().unwrap_err().to_string().contains("rang"));
    }
}
