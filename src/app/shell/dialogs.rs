//! The system's own file dialogs, beside the window. A path field stands in where there are none.

use std::path::PathBuf;

use crate::error::Result;
use crate::job::{Job, Wake};
use crate::workspace::Request;

use crate::app::effect::Question;

/// A dialog that is open.
pub struct Asking {
    question: Question,
    job: Job<Option<PathBuf>>,
}

impl Asking {
    /// Opens the dialog. It must be made on the thread of the window; waiting for it happens elsewhere.
    pub fn new(question: Question, wake: Wake) -> Self {
        let dialog = rfd::AsyncFileDialog::new();
        let answer: std::pin::Pin<Box<dyn Future<Output = Option<rfd::FileHandle>> + Send>> = match question {
            Question::File => Box::pin(
                dialog
                    .set_title("Open weights")
                    .add_filter("Weights", &["safetensors", "json"])
                    .add_filter("All files", &["*"])
                    .pick_file(),
            ),
            Question::Folder => Box::pin(dialog.set_title("Open a model or adapter folder").pick_folder()),
            Question::TunedFolder => Box::pin(dialog.set_title("Open the tuned model's folder").pick_folder()),
            Question::AdapterFolder => Box::pin(dialog.set_title("Open an adapter's folder").pick_folder()),
        };
        let job = Job::spawn("Waiting for a choice", wake, move |_| {
            Ok(pollster::block_on(answer).map(|file| file.path().to_path_buf()))
        });
        Self { question, job }
    }

    /// What was chosen, once; `None` inside when the dialog was closed without a choice.
    pub fn take(&mut self) -> Option<Result<Option<Request>>> {
        let result = self.job.take()?;
        Some(result.map(|path| path.map(|path| self.request(path))))
    }

    fn request(&self, path: PathBuf) -> Request {
        match self.question {
            Question::TunedFolder => Request::Tuned(path),
            Question::File | Question::Folder | Question::AdapterFolder => Request::Any(path),
        }
    }
}
