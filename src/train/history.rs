//! Runs on the disk: what a folder of runs holds, and what a run has written so far, also while another program writes it.

use super::film::Frame;
use super::foreign::{self, EXPECTED, Foreign, Reading};
use super::logs::Record;
use super::memory;
use super::run::Event;
use super::run_folder::{LINES, METRICS, NOTE, RunFolder, SETTINGS, STATE};
use super::samples::Sample;
use super::sketch;
use super::status::{self, State, Status};
use super::store::write_whole;
use super::{Method, Settings};
use crate::checkpoint::json;
use crate::error::{Error, Result};
use crate::guard;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// How a run on the disk stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A program is at work on it.
    Running,
    /// It came to its end.
    Finished,
    /// A person has stopped it.
    Stopped,
    /// The program that was at work on it is gone.
    Interrupted,
    /// It could not go on: why.
    Failed(String),
}

impl Phase {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "failed",
        }
    }

    fn of(folder: &Path, status: Option<&Status>) -> Self {
        if status::is_running(folder) {
            return Self::Running;
        }
        match status {
            Some(Status { state: State::Finished, .. }) => Self::Finished,
            Some(Status { state: State::Stopped, .. }) => Self::Stopped,
            Some(Status { state: State::Failed, error, .. }) => Self::Failed(error.clone().unwrap_or_default()),
            Some(Status { state: State::Running, .. }) => Self::Interrupted,
            None if RunFolder::new(folder).has_result() => Self::Finished,
            None => Self::Interrupted,
        }
    }
}

/// A run on the disk, in short.
#[derive(Clone, Debug)]
pub struct Past {
    /// Its folder.
    pub folder: PathBuf,
    /// Its name: the folder's, with that of the folder around it where it is part of a sweep or a comparison.
    pub name: String,
    /// Whether its result is there.
    pub has_weights: bool,
    /// Its settings.
    pub settings: Settings,
    /// How it stands.
    pub phase: Phase,
    /// Steps in all; 0 where that is not known.
    pub steps: usize,
    /// Steps done.
    pub done: usize,
    /// Elements that are trained.
    pub trainable: usize,
    /// Predicted bytes in all; 0 where that is not known.
    pub predicted: u64,
    /// Memory as predicted and as measured, of a run that has ended.
    pub memory: Option<memory::Record>,
    /// What it computes on, `cpu` or `gpu`; empty where that was not kept.
    pub device: String,
    /// Tokens a second, the median over its last steps; 0 where there is none.
    pub speed: f64,
    /// Its training loss at some steps from the first to the last.
    pub curve: Arc<[f32]>,
    /// The last line of its metrics.
    pub last: Option<Record>,
    /// The last loss over held-out rows; of a run that keeps its best checkpoint the lowest.
    pub eval_loss: Option<f64>,
    /// Share of the held-out predictions that got more than half of the probability, of the same step.
    pub eval_sure: Option<f64>,
    /// Loss over text of the base's own kind, before the run and of its result, where it was measured.
    pub forgetting: Option<[f64; 2]>,
    /// Steps at which there is a checkpoint, in order.
    pub checkpoints: Vec<usize>,
    /// What a person has noted about it.
    pub note: String,
    /// When it last wrote something.
    pub modified: SystemTime,
    /// What is known of it beside the rest, where another program made it: its settings are then those that it says.
    pub foreign: Option<Foreign>,
}

impl Past {
    /// Reads the summary of a run, of this program or another.
    ///
    /// # Errors
    /// When it is no run, or its settings cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        if RunFolder::new(folder).is_run() {
            return Self::own(folder);
        }
        let mut reading = Reading::new(folder);
        reading.refresh()?;
        Self::foreign(folder, &reading).ok_or_else(|| no_run(folder))
    }

    /// The same of what was read of another program's run; `None` where it is none.
    pub(super) fn foreign(folder: &Path, reading: &Reading) -> Option<Self> {
        if !reading.is_run() {
            return None;
        }
        let records = reading.records();
        let phase = match () {
            () if reading.goes_on() => Phase::Running,
            () if reading.is_finished() => Phase::Finished,
            () => Phase::Interrupted,
        };
        Some(Self {
            name: RunFolder::new(folder).read_name(),
            has_weights: reading.foreign.result.is_some(),
            phase,
            steps: reading.total().unwrap_or(0),
            done: reading.done(),
            speed: median(records.iter().rev().take(SPEED_OF).map(|record| record.tokens_per_s).collect()),
            curve: sketch::thinned(&records),
            last: records.iter().rev().find(|record| record.step.loss.is_finite()).copied(),
            eval_loss: records.iter().rev().find_map(|record| record.eval_loss),
            eval_sure: records.iter().rev().find_map(|record| record.eval_sure),
            checkpoints: reading.foreign.checkpoints.iter().map(|saved| saved.step).collect(),
            modified: reading.modified,
            foreign: Some(reading.foreign.clone()),
            ..Self::unknown(folder, reading.settings.clone())
        })
    }

    fn own(folder: &Path) -> Result<Self> {
        let run = RunFolder::new(folder);
        let settings = run.settings()?;
        let status = Status::read(folder);
        let metrics = run.file(METRICS);
        let ends = ending(&metrics);
        let records: Vec<Record> = ends.iter().rev().filter_map(|line| Record::parse(line)).collect();
        let last = records.first().copied();
        // The result is of this step, where not of the last.
        let of_result =
            |record: &&Record| status.as_ref().and_then(|s| s.kept).is_none_or(|step| record.step.step <= step);
        let results = || records.iter().filter(of_result);
        let eval_loss = results().find_map(|record| record.eval_loss);
        let eval_sure = results().find_map(|record| record.eval_sure);
        let forget_loss = results().find_map(|record| record.forget_loss);
        let forgetting = status.as_ref().and_then(|status| status.forget_before).zip(forget_loss);
        let modified = [&metrics, &run.file(SETTINGS)]
            .iter()
            .filter_map(|path| std::fs::metadata(path).ok()?.modified().ok())
            .max()
            .unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Self {
            folder: folder.to_path_buf(),
            name: run.read_name(),
            has_weights: run.has_result(),
            phase: Phase::of(folder, status.as_ref()),
            steps: status.as_ref().map_or(0, |status| status.steps),
            done: last.map_or(0, |record| record.step.step),
            trainable: status.as_ref().map_or(0, |status| status.trainable),
            predicted: status.as_ref().map_or(0, |status| status.predicted),
            // One that cannot be read is as good as none: the rest of the run is there.
            memory: memory::Record::read(folder).ok().flatten(),
            device: status.map(|status| status.device).unwrap_or_default(),
            speed: median(records.iter().take(SPEED_OF).map(|record| record.tokens_per_s).collect()),
            settings,
            curve: sketch::of_file(&metrics),
            last,
            eval_loss,
            eval_sure,
            forgetting: forgetting.map(|(before, after)| [before, after]),
            checkpoints: run.checkpoints(),
            note: json::text(&run.file(NOTE)).unwrap_or_default(),
            modified,
            foreign: None,
        })
    }

    /// A run of which nothing but its settings is known.
    pub(super) fn unknown(folder: &Path, settings: Settings) -> Self {
        Self {
            folder: folder.to_path_buf(),
            name: String::new(),
            has_weights: false,
            settings,
            phase: Phase::Finished,
            steps: 0,
            done: 0,
            trainable: 0,
            predicted: 0,
            memory: None,
            device: String::new(),
            speed: 0.0,
            curve: Arc::default(),
            last: None,
            eval_loss: None,
            eval_sure: None,
            forgetting: None,
            checkpoints: Vec::new(),
            note: String::new(),
            modified: SystemTime::UNIX_EPOCH,
            foreign: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Who made it.
    pub fn made_by(&self) -> &'static str {
        self.foreign.as_ref().map_or(HERE, |foreign| foreign.made_by)
    }

    /// Whether method, rank and modules are known.
    pub fn is_described(&self) -> bool {
        self.foreign.as_ref().is_none_or(|foreign| foreign.described)
    }

    /// True for a run that this program can go on with.
    pub fn can_go_on(&self) -> bool {
        self.foreign.is_none() && !matches!(self.phase, Phase::Running | Phase::Finished)
    }

    /// What ΔW can be read from: the result, or a checkpoint of a run with pairs.
    pub fn weights(&self, step: Option<usize>) -> Option<PathBuf> {
        if let Some(foreign) = &self.foreign {
            return match step {
                Some(step) => {
                    foreign.checkpoints.iter().find(|saved| saved.step == step).map(|saved| saved.path.clone())
                }
                None => foreign.result.clone(),
            };
        }
        match step {
            Some(step) if self.settings.method != Method::Full => Some(RunFolder::new(&self.folder).checkpoint(step)),
            Some(_) => None,
            None => self.has_weights.then(|| self.folder.clone()),
        }
    }
}

impl Past {
    /// The result, or the newest checkpoint of a run with pairs.
    pub fn newest_weights(&self) -> Option<PathBuf> {
        self.weights(self.in_place_of_result())
    }

    /// The step of the checkpoint that is looked at in place of the result, where there is none.
    pub fn in_place_of_result(&self) -> Option<usize> {
        self.checkpoints.last().copied().filter(|_| self.weights(None).is_none())
    }
}

/// Who made a run of this program.
pub const HERE: &str = "Rankscope";

/// For a folder that is nobody's run.
fn no_run(folder: &Path) -> Error {
    Error::file(folder, format!("found no run, expected {EXPECTED}"))
}

/// Steps whose speed counts: the last ones.
const SPEED_OF: usize = 50;

/// The middle one; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A run's name as a person reads it: [`RunFolder::read_name`].
pub fn name(folder: &Path) -> String {
    RunFolder::new(folder).read_name()
}

/// Settings of a run: [`RunFolder::settings`], or what another program's run says of its own.
///
/// # Errors
/// When there are none, or they cannot be read.
pub fn settings(folder: &Path) -> Result<Settings> {
    if RunFolder::new(folder).is_run() { RunFolder::new(folder).settings() } else { Ok(Past::read(folder)?.settings) }
}

/// Bytes at the end of a file that are looked at for its last lines.
const ENDING: u64 = 1 << 16;

/// The last lines of a file.
fn ending(path: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = guard::regular(path).map_err(std::io::Error::other)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(ENDING)))?;
        let mut bytes = Vec::new();
        file.take(ENDING).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

/// Keeps what a person has noted about a run.
///
/// # Errors
/// When it cannot be written.
pub fn write_note(folder: &Path, note: &str) -> Result<()> {
    write_whole(&folder.join(NOTE), note.as_bytes())
}

/// Deletes a run with all its files.
///
/// # Errors
/// When it is no run, goes on, or cannot be deleted.
pub fn delete(folder: &Path) -> Result<()> {
    if !RunFolder::new(folder).is_run() {
        let message = "found no run.toml, expected a run of this program: nothing was deleted";
        return Err(Error::file(folder, message));
    }
    if status::is_running(folder) {
        return Err(Error::file(folder, "the run goes on; stop it before it is deleted"));
    }
    std::fs::remove_dir_all(folder).map_err(|error| Error::write(folder, &error))
}

/// Makes sure that runs can be kept in a folder; makes it where it is not there.
///
/// # Errors
/// When the path is not a whole one, a run lies in it, or nothing can be written there.
pub fn can_hold_runs(folder: &Path) -> Result<()> {
    if !folder.is_absolute() {
        return Err(Error::file(
            folder,
            "expected a whole path, from the root on: where a run lies must not depend on where the program was started",
        ));
    }
    if RunFolder::new(folder).is_run() {
        return Err(Error::file(folder, "this is a run itself; expected the folder around it, or another one"));
    }
    let written = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    written.map(drop).map_err(|error| Error::write(folder, &error))
}

/// Makes a new run that begins at a checkpoint of another one; the other one stays as it is. It is then to be resumed.
///
/// # Errors
/// When there is no such checkpoint, the new folder is there already, or something cannot be written.
pub fn branch(from: &Path, step: usize, to: &Path) -> Result<Settings> {
    let (from, to) = (RunFolder::new(from), RunFolder::new(to));
    let (checkpoint, target) = (from.checkpoint(step), to.checkpoint(step));
    if !checkpoint.join(STATE).is_file() {
        return Err(Error::file(from.path(), format!("found no checkpoint of step {step}")));
    }
    if to.is_run() {
        return Err(Error::file(to.path(), "there is a run in this folder; choose another folder"));
    }
    let settings = Settings { out: to.path().to_path_buf(), ..from.settings()? };
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(&target)?;
        for entry in std::fs::read_dir(&checkpoint)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                std::fs::copy(&path, target.join(name))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| Error::write(&target, &error))?;
    for name in LINES {
        write_whole(&to.file(name), &from.lines_until(name, step)?)?;
    }
    to.write_settings(&settings)?;
    Ok(settings)
}

/// What a run has written since one last looked.
pub struct Follow {
    folder: PathBuf,
    files: [Tail; 3],
    foreign: Option<Box<foreign::Follow>>,
}

/// Something that a run has written.
#[derive(Clone, Debug)]
pub enum Written {
    /// What was read before counts no more: the run went on from a checkpoint.
    Again,
    /// A step, spectra, a sample.
    Event(Event),
}

impl Follow {
    /// From the beginning.
    pub fn new(folder: &Path) -> Self {
        let own = RunFolder::new(folder).is_run();
        let foreign = if own { None } else { foreign::Follow::of(folder).map(Box::new) };
        let files = LINES.map(|name| Tail { path: folder.join(name), at: 0, file: None, rest: Vec::new() });
        Self { folder: folder.to_path_buf(), files, foreign }
    }

    /// Whether there may be more to come. To be asked before a look: what is written until the end is read too.
    pub fn goes_on(&self) -> bool {
        match &self.foreign {
            Some(foreign) => foreign.goes_on(),
            None => status::is_running(&self.folder),
        }
    }

    /// All that is there, as events.
    pub fn events(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            self.look(&mut |written| match written {
                Written::Event(event) => events.push(event),
                Written::Again => events.clear(),
            });
            if !self.foreign.as_ref().is_some_and(|foreign| foreign.is_pending()) {
                return events;
            }
        }
    }

    /// Hands over what is new.
    pub fn look(&mut self, send: &mut dyn FnMut(Written)) {
        if let Some(foreign) = &mut self.foreign {
            return foreign.advance(send);
        }
        let mut lines: [(bool, Vec<String>); 3] = Default::default();
        for (tail, lines) in self.files.iter_mut().zip(&mut lines) {
            *lines = tail.read();
        }
        if lines.iter().any(|(again, _)| *again) {
            send(Written::Again);
            for tail in &mut self.files {
                (tail.at, tail.file) = (0, None);
            }
            for (tail, lines) in self.files.iter_mut().zip(&mut lines) {
                *lines = tail.read();
            }
        }
        let [metrics, film, samples] = lines.map(|(_, lines)| lines);
        let frame = |line: &String| serde_json::from_str::<Frame>(line).ok().map(Event::Frame);
        let sample = |line: &String| serde_json::from_str::<Sample>(line).ok().map(Event::Sample);
        metrics.iter().filter_map(|line| Record::parse(line).map(Event::Step)).for_each(|e| send(Written::Event(e)));
        film.iter().filter_map(frame).for_each(|event| send(Written::Event(event)));
        samples.iter().filter_map(sample).for_each(|event| send(Written::Event(event)));
    }
}

/// A file that grows.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    at: u64,
    /// Which file it was.
    file: Option<u64>,
    /// The beginning of a line that is being written.
    rest: Vec<u8>,
}

impl Tail {
    /// New whole lines; true when it is another file than before, or a shorter one.
    fn read(&mut self) -> (bool, Vec<String>) {
        let Ok(mut file) = guard::regular(&self.path) else { return (self.at > 0, Vec::new()) };
        let Ok(data) = file.metadata() else { return (false, Vec::new()) };
        let number = number(&data);
        let other = self.file.is_some() && self.file != number;
        self.file = number;
        if data.len() < self.at || (other && self.at > 0) {
            self.rest.clear();
            return (true, Vec::new());
        }
        if self.at == 0 {
            self.rest.clear();
        }
        let mut bytes = std::mem::take(&mut self.rest);
        if file.seek(SeekFrom::Start(self.at)).is_err() {
            return (false, Vec::new());
        }
        let Ok(read) = file.read_to_end(&mut bytes) else { return (false, Vec::new()) };
        self.at += read as u64;
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.rest = bytes.split_off(end);
        (false, String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }
}

/// Tells one file from another of the same name.
#[cfg(unix)]
fn number(data: &std::fs::Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(data))
}

#[cfg(not(unix))]
fn number(_: &std::fs::Metadata) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::list::list;
    use std::io::Write as _;

    fn line(step: usize, loss: f64) -> String {
        format!("{{\"step\":{step},\"loss\":{loss},\"lr\":0.1,\"grad_norm\":1.0,\"tokens\":8,\"tokens_per_s\":9.0}}\n")
    }

    fn losses(follow: &mut Follow) -> (usize, Vec<f64>) {
        let (mut again, mut losses) = (0, Vec::new());
        follow.look(&mut |written| match written {
            Written::Again => again += 1,
            Written::Event(Event::Step(record)) => losses.push(record.step.loss),
            Written::Event(_) => {}
        });
        (again, losses)
    }

    #[test]
    fn what_is_being_written_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(METRICS);
        let mut follow = Follow::new(folder.path());
        assert_eq!(losses(&mut follow), (0, vec![]));
        let mut file = std::fs::File::create(&path).unwrap();
        let second = line(2, 3.0);
        file.write_all((line(1, 4.0) + &second[..20]).as_bytes()).unwrap();
        assert_eq!(losses(&mut follow), (0, vec![4.0]));
        file.write_all(&second.as_bytes()[20..]).unwrap();
        file.write_all(b"nonsense\n").unwrap();
        assert_eq!(losses(&mut follow), (0, vec![3.0]));
        assert_eq!(losses(&mut follow), (0, vec![]));
        // A run that goes on from a checkpoint writes the file anew.
        write_whole(&path, (line(1, 4.0) + &line(2, 2.5)).as_bytes()).unwrap();
        assert_eq!(losses(&mut follow), (1, vec![4.0, 2.5]));
    }

    #[test]
    fn what_is_no_run_is_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
        assert!(delete(folder.path()).unwrap_err().to_string().contains("nothing was deleted"));
        assert!(folder.path().join("thesis.txt").exists());
        let run = folder.path().join("run");
        std::fs::create_dir(&run).unwrap();
        RunFolder::new(&run).write_settings(&Settings::default()).unwrap();
        assert_eq!(list(&[folder.path().to_path_buf()]).len(), 1);
        let held = status::lock(&run).unwrap();
        assert_eq!(Past::read(&run).unwrap().phase, Phase::Running);
        assert!(delete(&run).unwrap_err().to_string().contains("stop it"));
        drop(held);
        assert_eq!(Past::read(&run).unwrap().phase, Phase::Interrupted);
        delete(&run).unwrap();
        assert!(list(&[folder.path().to_path_buf()]).is_empty());
    }
}
