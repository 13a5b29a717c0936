//! [`export`]: a run's settings as a folder that runs elsewhere.
//!
//! ```text
//! Settings ─► Job ─┬─ data       rows as the run sees them: ids and labels, or texts
//!                  ├─ Engine     what trains: TRL, Unsloth, axolotl, LLaMA-Factory      one file, one line in ENGINES
//!                  ├─ Launcher   what starts it: python … kubernetes                     one file, one line in LAUNCHERS
//!                  └─ differs    every setting that is not the same there, and why
//! ```
//!
//! Scripts are files of their own (`templates/`): those in Python are copied as they are and read `job.json`, so that what is tested
//! is what runs. A batch is spread over the GPUs; what cannot be divided evenly is said.

mod axolotl;
mod data;
mod engine;
mod kubernetes;
mod launcher;
mod llama_factory;
mod plan;
mod skypilot;
mod slurm;
mod sweep;
mod trl;
mod unsloth;

pub use crate::plan::memory::Strategy;
pub use engine::{ENGINES, Engine};
pub use launcher::{LAUNCHERS, Launcher};
pub use plan::{Job, Variant};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::train::{Settings, store::write_whole};
use minijinja::{Environment, UndefinedBehavior};
use plan::Plan;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// A setting that is not the same there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name.
    pub setting: String,
    /// Its value here.
    pub here: String,
    /// What stands for it there.
    pub there: String,
    /// Why.
    pub why: String,
}

impl Difference {
    fn new(setting: &str, here: impl ToString, there: impl Into<String>, why: impl Into<String>) -> Self {
        Self { setting: setting.into(), here: here.to_string(), there: there.into(), why: why.into() }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The folder.
    pub out: PathBuf,
    /// Its files, by their paths within it.
    pub files: Vec<String>,
    /// What is not the same there.
    pub differs: Vec<Difference>,
    /// The one command that runs it.
    pub command: String,
    /// Sentences about the data.
    pub notes: Vec<String>,
}

/// A file of the folder.
struct File {
    name: String,
    text: String,
}

impl File {
    fn new(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// A JSON document.
    fn json(name: &str, value: &Value) -> Self {
        Self::new(name, format!("{value:#}\n"))
    }
}

/// A template filled with values. Every name that it uses must be there.
fn fill(template: &str, values: &Value) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    environment.add_filter("sh", shell);
    let text = environment.render_str(template, values);
    text.map_err(|error| Error::failure(format!("a template of an exported job cannot be filled: {error}")))
}

/// A text as one word of a POSIX shell.
fn shell(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Writes the folder. All of it is made beside its place and renamed, so that it is there whole or not at all.
///
/// # Errors
/// Settings, data or a model that cannot be used; an engine that does not do what is asked for, by name; a folder that holds something
/// already or cannot be written; and cancellation.
pub fn export(settings: &Settings, job: &Job, progress: &dyn Progress) -> Result<Written> {
    settings.check()?;
    let out = &job.out;
    if out.as_os_str().is_empty() {
        return Err(Error::usage("no folder to write to; expected --out DIR"));
    }
    if out.exists() && std::fs::read_dir(out).map_or(true, |mut entries| entries.next().is_some()) {
        return Err(Error::file(out, "there is something already, expected a new or an empty folder"));
    }
    let checkpoint = Checkpoint::open(&settings.model)?;
    let plan = Plan::new(settings, job, &checkpoint)?;
    (job.engine.check)(&plan)?;
    let around = out.parent().filter(|around| !around.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let made = std::fs::create_dir_all(around).and_then(|()| tempfile::tempdir_in(around));
    let made = made.map_err(|error| Error::write(around, &error))?;
    let mut differs = plan.differences();
    let data = data::write(&plan, &checkpoint, made.path(), progress)?;
    differs.extend(data.differs);
    let mut files = (job.engine.files)(&plan)?;
    differs.extend((job.engine.differs)(&plan));
    files.extend(launcher::files(&plan)?);
    files.push(File::new("requirements.txt", job.engine.requirements.join("\n") + "\n"));
    files.extend(sweep::files(&plan));
    files.push(File::json("differs.json", &json!(differs)));
    let command = format!("bash {}", launcher::RUN);
    let readme = json!({
        "engine": job.engine.title,
        "launcher": job.launcher.title,
        "command": command,
        "gpus": job.gpus,
        "nodes": job.nodes,
        "strategy": job.strategy.map(Strategy::as_str),
        "model": plan.model,
        "local_model": plan.model_is_local,
        "python": plan.is_python(),
        "differs": differs,
        "variants": job.variants.len(),
        "notes": (job.launcher.notes)(&plan),
        "version": env!("CARGO_PKG_VERSION"),
    });
    files.push(File::new("README.md", fill(include_str!("templates/README.md.j2"), &readme)?));
    let mut names = data.files;
    for File { name, text } in files {
        let path = made.path().join(&name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Error::write(folder, &error))?;
        }
        write_whole(&path, text.as_bytes())?;
        names.push(name);
    }
    progress.step(1, 1)?;
    let made = made.keep();
    if out.exists() {
        std::fs::remove_dir(out).map_err(|error| Error::write(out, &error))?;
    }
    let moved = std::fs::rename(&made, out).and_then(|()| open_to_all(out));
    moved.map_err(|error| Error::write(out, &error))?;
    names.sort();
    let mut notes = data.notes;
    if let Some(most) = checkpoint.spec().ok().map(|spec| spec.max_positions).filter(|most| settings.seq > *most) {
        notes.push(format!("sequences of {} tokens: the model's config allows {most}", settings.seq));
    }
    Ok(Written { out: out.clone(), files: names, differs, command, notes })
}

/// A temporary folder is for its owner alone; this one is no secret.
#[cfg(unix)]
fn open_to_all(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn open_to_all(_: &std::path::Path) -> std::io::Result<()> {
    Ok(())
}
