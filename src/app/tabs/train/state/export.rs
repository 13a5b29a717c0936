//! [`Exports`]: dialogs for paths, and models written for others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::app::work::dialog::{Dialog, Filter, Kind};
use crate::checkpoint::Checkpoint;
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::export::job::{self, Job as ExportedJob, Written};
use crate::job::{Job, Wake};
use crate::model::gpu;
use crate::train::gguf;
use crate::train::merge::{Change, write_model};
use crate::train::merge_check::{Compared, check};
use crate::train::{Record, Settings, run, saved};

/// Rows that a merged model is checked on.
const CHECKED: usize = 64;

/// Files that hold data.
const DATA: [Filter; 2] = [("JSON lines or text", &["jsonl", "json", "txt", "md"]), ("All files", &["*"])];

/// What a path is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Data to train on.
    Data,
    /// A folder with runs.
    Runs,
    /// A folder for new runs.
    Keep,
    /// A folder around one that trains on a cluster.
    Job,
    /// A folder around the model with the adapter of this run merged in.
    Merged(PathBuf),
    /// A place for a copy of a run's adapter.
    Adapter(PathBuf, Format),
}

/// A format for adapters: its name here, its word in [`Adapter::export`], the ending of its file (none: a folder).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// As a button says it.
    pub title: &'static str,
    word: &'static str,
    ending: Option<&'static [Filter]>,
}

/// Those that are offered.
pub const FORMATS: [Format; 4] = [
    Format { title: "PEFT (transformers, vLLM)", word: "peft", ending: None },
    Format { title: "GGUF (llama.cpp, Ollama)", word: "gguf", ending: Some(&[("GGUF", &["gguf"])]) },
    Format { title: "MLX (mlx-lm)", word: "mlx", ending: None },
    Format { title: "kohya (image models)", word: "kohya", ending: Some(&[("safetensors", &["safetensors"])]) },
];

/// The types in which a merged model is offered as a GGUF file.
pub const GGUFS: [&str; 4] = ["f16", "q8_0", "q6_k", "q4_k_m"];

/// How a merged model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// As a GGUF file with weights of this type; otherwise safetensors, in files of 5 GB.
    pub gguf: Option<&'static str>,
    /// Checked on the run's rows then.
    pub checked: bool,
}

/// What has come of it.
pub enum Found {
    /// A sentence.
    Said(String),
    /// A folder that trains on a cluster is there.
    Job(Box<Written>),
    /// A path was chosen.
    Path(Purpose, PathBuf),
    /// A model and a tuned version of it.
    Pair(PathBuf, PathBuf),
}

/// Dialogs and writing, one of each at a time.
pub struct Exports {
    wake: Wake,
    dialog: Option<(Purpose, Dialog)>,
    work: Option<Job<Found>>,
}

impl Exports {
    /// Nothing to do yet; `wake` makes the window look again.
    pub fn new(wake: Wake) -> Self {
        Self { wake, dialog: None, work: None }
    }

    /// Opens the system's dialog.
    pub fn choose(&mut self, purpose: Purpose) {
        let (title, kind) = match &purpose {
            Purpose::Adapter(run, format) => match format.ending {
                Some(filters) => {
                    let ending =
                        filters.first().and_then(|(_, endings)| endings.first()).copied().unwrap_or(format.word);
                    ("Save the adapter", Kind::Save(format!("{}.{ending}", file_name(run)), filters))
                }
                None => ("A folder around the saved adapter", Kind::Folder),
            },
            Purpose::Data => ("Data to train on", Kind::File(&DATA)),
            Purpose::Runs => ("A folder with runs", Kind::Folder),
            Purpose::Keep => ("A folder for new runs", Kind::Folder),
            Purpose::Job => ("A folder for the job", Kind::Folder),
            Purpose::Merged(_) => ("A folder for the merged model", Kind::Folder),
        };
        self.dialog = Some((purpose, Dialog::open(title, kind, None, &self.wake)));
    }

    /// Begins to write the model of a run with its adapter merged in, and then perhaps to read the run's rows with it.
    ///
    /// # Errors
    /// When another model is being written.
    pub fn merge(&mut self, run: PathBuf, out: PathBuf, form: Form, device: Choice) -> Result<()> {
        self.is_free()?;
        let name = crate::train::history::name(&run);
        self.work = Some(Job::spawn(format!("Merging {name}"), Arc::clone(&self.wake), move |progress| {
            let settings = crate::train::history::settings(&run)?;
            let base = Checkpoint::open(&settings.model)?;
            let adapter = Adapter::open(&run)?;
            let change = Change::Adapter(&adapter);
            let out = match form.gguf {
                None => {
                    write_model(&base, &change, None, &out, progress)?;
                    out
                }
                Some(kind) => gguf::write(&base, &change, kind, &out, progress)?.path,
            };
            let said = format!("The merged model is in {}.", out.display());
            if !form.checked {
                return Ok(Found::Said(said));
            }
            let (merged, place) = (Checkpoint::open(&out)?, gpu::open(device, settings.dtype)?);
            let (data, held_out) = run::read(&settings, &base, progress)?;
            let mut rows = held_out.unwrap_or(data.rows);
            rows.rows.truncate(CHECKED);
            let (base, adapter, merged, rows, place) = (&base, &adapter, &merged, &rows, &place);
            let compared = Compared { base, adapter, merged, rows, batch: settings.batch, place };
            let checked = check(&compared, progress)?;
            let causes: String = checked.causes.iter().map(|cause| format!(" {cause}.")).collect();
            Ok(Found::Said(format!("{said} Checked: {checked}.{causes}")))
        }));
        Ok(())
    }

    /// Writes a run's adapter in a format, at the place that was chosen: a file, or a folder within it.
    ///
    /// # Errors
    /// When a model or adapter is being written.
    pub fn save(&mut self, run: PathBuf, format: Format, place: &Path) -> Result<()> {
        self.is_free()?;
        let out = if format.ending.is_some() { place.to_path_buf() } else { place.join(file_name(&run)) };
        let title = format!("Saving {}", crate::train::history::name(&run));
        self.work = Some(Job::spawn(title, Arc::clone(&self.wake), move |progress| {
            if out.is_dir() && out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
                return Err(Error::file(&out, "there is something in this folder already; choose another place"));
            }
            let base = Checkpoint::open(&crate::train::history::settings(&run)?.model)?;
            let made = Adapter::open(&run)?.export(format.word, Some(&base), &out, progress)?;
            let notes = made.notes.iter().map(|note| format!(" Note: {note}.")).collect::<String>();
            Ok(Found::Said(format!("The adapter is in {}.{notes}", made.path.display())))
        }));
        Ok(())
    }

    fn is_free(&self) -> Result<()> {
        match &self.work {
            Some(work) => Err(Error::usage(format!("{} is still working; wait, or cancel it", work.title()))),
            None => Ok(()),
        }
    }

    /// Begins to write a folder that trains elsewhere.
    ///
    /// # Errors
    /// When something is being written already.
    pub fn job(&mut self, settings: Settings, job: ExportedJob) -> Result<()> {
        if let Some(work) = &self.work {
            return Err(Error::usage(format!("{} is still working; wait, or cancel it", work.title())));
        }
        self.work = Some(Job::spawn("Writing a job", Arc::clone(&self.wake), move |progress| {
            Ok(Found::Job(Box::new(job::export(&settings, &job, progress)?)))
        }));
        Ok(())
    }

    /// Writes what a full run was at a checkpoint as a model, to be looked at.
    pub fn checkpoint(&mut self, settings: Settings, step: usize) {
        self.work = Some(Job::spawn(format!("Writing step {step}"), Arc::clone(&self.wake), move |progress| {
            let model = saved::model_at(&settings, step, progress)?;
            Ok(Found::Pair(settings.model, model))
        }));
    }

    /// What has come of it.
    pub fn logic(&mut self) -> Option<Result<Found>> {
        if let Some(result) = self.dialog.as_mut().and_then(|(_, dialog)| dialog.take()) {
            let (purpose, _) = self.dialog.take()?;
            match (result, purpose) {
                (Ok(Some(path)), purpose) => return Some(Ok(Found::Path(purpose, path))),
                (Ok(None), _) => {}
                (Err(error), _) => return Some(Err(error)),
            }
        }
        let result = self.work.as_mut().and_then(Job::take)?;
        self.work = None;
        Some(result)
    }

    /// What is being written.
    pub fn running(&self) -> Option<&Job<Found>> {
        self.work.as_ref()
    }
}

/// The metrics of a run as a table.
pub fn metrics(track: &super::Track) -> Vec<Vec<String>> {
    let heads = ["step", "seconds", "loss", "lr", "grad_norm", "tokens", "tokens_per_s", "eval_loss", "held_bytes"];
    let row = |(record, seconds): (&Record, &f64)| {
        let step = &record.step;
        let eval = record.eval_loss.map(|loss| loss.to_string()).unwrap_or_default();
        vec![
            step.step.to_string(),
            format!("{seconds:.3}"),
            step.loss.to_string(),
            step.lr.to_string(),
            step.grad_norm.to_string(),
            step.tokens.to_string(),
            format!("{:.1}", record.tokens_per_s),
            eval,
            record.held.to_string(),
        ]
    };
    let rows = track.records.iter().zip(&track.seconds).map(row);
    std::iter::once(heads.map(str::to_owned).to_vec()).chain(rows).collect()
}

/// The name of a run as a file can have it.
fn file_name(run: &Path) -> String {
    crate::train::history::name(run).replace('/', "-")
}

/// A folder's name, for a button.
pub fn short(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
