//! The one error type: which file, which tensor, what was found, what was expected.

use crate::units::{visible, visible_lines};
use std::fmt;
use std::path::{Path, PathBuf};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Whose fault it was: decides the exit status of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Arguments or files that cannot be used: exit status 2.
    Input,
    /// Something that should have worked and did not: exit status 1.
    Failure,
}

/// Why something could not be done, as a sentence for a person.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The person, or whoever owns the job, asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Everything else, with the file and tensor it is about where there are any.
    #[error("{}", Report { file: file.as_deref(), tensor: tensor.as_deref(), message })]
    Failed {
        /// Input or failure.
        fault: Fault,
        /// The file the sentence is about.
        file: Option<PathBuf>,
        /// The tensor or module the sentence is about.
        tensor: Option<String>,
        /// What was found and what was expected.
        message: String,
    },
}

impl Error {
    /// Bad arguments, about no file in particular.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Fault::Input, None, None, message.into())
    }

    /// A file that cannot be used.
    pub fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::new(Fault::Input, Some(path), None, message.into())
    }

    /// A tensor or module in a file that cannot be used.
    pub fn tensor(path: &Path, tensor: &str, message: impl Into<String>) -> Self {
        Self::new(Fault::Input, Some(path), Some(tensor), message.into())
    }

    /// A file that could not be read; `doing` completes "cannot …", as in `open`.
    pub fn read(path: &Path, doing: &str, error: &std::io::Error) -> Self {
        Self::file(path, format!("cannot {doing}: {}", plain(error)))
    }

    /// A file that could not be written: the disk's fault, not the input's.
    pub fn write(path: &Path, error: &std::io::Error) -> Self {
        Self::new(Fault::Failure, Some(path), None, format!("cannot write: {}", plain(error)))
    }

    /// Something that should have worked.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(Fault::Failure, None, None, message.into())
    }

    fn new(fault: Fault, file: Option<&Path>, tensor: Option<&str>, message: String) -> Self {
        Self::Failed { fault, file: file.map(Path::to_path_buf), tensor: tensor.map(str::to_owned), message }
    }

    /// The same with something to add, such as what to do about it.
    pub fn and(self, more: &str) -> Self {
        match self {
            Self::Failed { fault, file, tensor, message } if !more.is_empty() => {
                Self::Failed { fault, file, tensor, message: format!("{message}; {more}") }
            }
            other => other,
        }
    }

    /// The same, about a tensor of a file.
    pub(crate) fn in_tensor(self, path: &Path, name: &str) -> Self {
        match self {
            Self::Failed { fault, message, .. } => Self::new(fault, Some(path), Some(name), message),
            other => other,
        }
    }

    /// True when the work was stopped on purpose.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Exit status of the command line: 1 failed, 2 bad input, 130 interrupted.
    pub fn status(&self) -> u8 {
        match self {
            Self::Cancelled => 130,
            Self::Failed { fault: Fault::Input, .. } => 2,
            Self::Failed { fault: Fault::Failure, .. } => 1,
        }
    }
}

/// The operating system's words without its error number.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file or folder".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    }
}

struct Report<'a> {
    file: Option<&'a Path>,
    tensor: Option<&'a str>,
    message: &'a str,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = self.file {
            write!(f, "{}: ", visible(&file.to_string_lossy()))?;
        }
        if let Some(tensor) = self.tensor {
            write!(f, "{}: ", visible(tensor))?;
        }
        f.write_str(&visible_lines(self.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_names_file_and_tensor() {
        let error = Error::tensor(Path::new("a.safetensors"), "w", "found 3 bytes, expected 4");
        assert_eq!(error.to_string(), "a.safetensors: w: found 3 bytes, expected 4");
        assert_eq!(error.status(), 2);
        assert_eq!(error.and("so it is cut").to_string(), "a.safetensors: w: found 3 bytes, expected 4; so it is cut");
        assert_eq!(Error::Cancelled.and("more").status(), 130);
        assert_eq!(Error::failure("no").status(), 1);
    }

    #[test]
    fn missing_file_reads_as_a_sentence() {
        let error = std::fs::read("no-such-file").map_err(|e| Error::read(Path::new("no-such-file"), "open", &e));
        assert_eq!(error.unwrap_err().to_string(), "no-such-file: cannot open: there is no such file or folder");
    }
}
