//! The system's own file dialogs, beside the window. A path field stands in where there are none.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use rfd::{AsyncFileDialog, FileHandle};

use crate::error::Result;
use crate::job::{Job, Wake};
use crate::workspace::Request;

/// Kinds of files: a name and endings.
pub type Filter = (&'static str, &'static [&'static str]);

/// What is to be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file of one of these kinds.
    File(&'static [Filter]),
    /// A new file of this name.
    Save(String, &'static [Filter]),
}

/// A dialog that is open.
pub struct Dialog {
    job: Job<Option<PathBuf>>,
}

impl Dialog {
    /// Opens it at the folder `start`. It must be made on the thread of the window; waiting for it happens elsewhere.
    pub fn open(title: &str, kind: Kind, start: Option<&Path>, wake: &Wake) -> Self {
        let answer = ask(title, kind, start);
        let job = Job::spawn("Waiting for a choice", Arc::clone(wake), move |_| {
            Ok(pollster::block_on(answer).map(|file| file.path().to_path_buf()))
        });
        Self { job }
    }

    /// What was chosen, once; `None` inside when the dialog was closed without a choice.
    pub fn take(&mut self) -> Option<Result<Option<PathBuf>>> {
        self.job.take()
    }
}

/// The answer, for a job to wait for. To be called on the thread of the window.
pub fn ask(title: &str, kind: Kind, start: Option<&Path>) -> Pin<Box<dyn Future<Output = Option<FileHandle>> + Send>> {
    let dialog = AsyncFileDialog::new().set_title(title);
    let dialog = match start {
        Some(folder) => dialog.set_directory(folder),
        None => dialog,
    };
    let filtered = |filters: &[Filter]| {
        filters.iter().fold(dialog.clone(), |dialog, (name, endings)| dialog.add_filter(*name, endings))
    };
    match kind {
        Kind::Folder => Box::pin(dialog.pick_folder()),
        Kind::File(filters) => Box::pin(filtered(filters).pick_file()),
        Kind::Save(name, filters) => Box::pin(filtered(filters).set_file_name(name).save_file()),
    }
}

/// What can be opened through a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A model or adapter folder.
    Folder,
    /// A weights file.
    File,
    /// The folder of a tuned version of the open base.
    TunedFolder,
    /// The folder of an adapter for the open base.
    AdapterFolder,
}

impl Question {
    /// Opens its dialog.
    pub fn open(self, start: Option<&Path>, wake: &Wake) -> Dialog {
        let (title, kind) = match self {
            Self::File => (
                "Open weights",
                Kind::File(&[("Weights", &["safetensors", "gguf", "bin", "pt", "json"]), ("All files", &["*"])]),
            ),
            Self::Folder => ("Open a model or an adapter: choose its folder", Kind::Folder),
            Self::TunedFolder => ("Open a tuned version of the base: choose its folder", Kind::Folder),
            Self::AdapterFolder => ("Open an adapter for the base: choose its folder", Kind::Folder),
        };
        Dialog::open(title, kind, start, wake)
    }

    /// What is done with the path that was chosen.
    pub fn request(self, path: PathBuf) -> Request {
        match self {
            Self::TunedFolder => Request::Tuned(path),
            Self::File | Self::Folder | Self::AdapterFolder => Request::Any(path),
        }
    }
}
