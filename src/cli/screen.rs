//! [`Screen`]: stdout and stderr, and the progress bar between them.

use crate::error::{Error, Result};
use crate::interrupt;
use crate::progress::Progress;
use crate::units::visible_lines;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// How finely the bar is divided.
const UNITS: u64 = 1_000_000;

/// Where results and messages go.
pub struct Screen {
    /// One JSON document instead of text for a person.
    pub json: bool,
    closed: AtomicBool,
    bar: OnceLock<ProgressBar>,
}

impl Screen {
    /// Nothing printed yet.
    pub fn new(json: bool) -> Self {
        Self { json, closed: AtomicBool::new(false), bar: OnceLock::new() }
    }

    /// Whether whoever read stdout has gone away, as `head` does: no error, but no reason to go on.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Prints text, which ends with a newline, on stdout.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once nobody reads any more; a failure when the text cannot be written.
    pub fn print(&self, text: &str) -> Result<()> {
        // A document's own escapes are JSON's.
        let text = if self.json { text.into() } else { visible_lines(text) };
        let write = || {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        };
        let written = self.bar.get().map_or_else(write, |bar| bar.suspend(write));
        written.map_err(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                self.closed.store(true, Ordering::Relaxed);
                Error::Cancelled
            } else {
                Error::write(Path::new("stdout"), &error)
            }
        })
    }

    /// Prints the JSON document, on one line: lists of singular values are long.
    ///
    /// # Errors
    /// As [`print`](Self::print).
    pub fn document(&self, document: &Value) -> Result<()> {
        self.print(&format!("{document}\n"))
    }

    /// Prints a message on stderr. Where it cannot be read it is lost.
    pub fn message(&self, text: &str) {
        let text = visible_lines(text);
        let write = || {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        };
        self.bar.get().map_or_else(write, |bar| bar.suspend(write));
    }

    /// Prints an error on stderr.
    pub fn error(&self, error: &Error) {
        self.message(&format!("error: {error}"));
    }

    /// Takes the progress bar away.
    pub fn finish(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// A bar on stderr where that is a terminal, nothing otherwise; and the end of the work when nobody reads its results.
impl Progress for Screen {
    fn stage(&self, name: &str) {
        if let Some(bar) = self.bar.get() {
            bar.set_message(if name.is_empty() { String::new() } else { format!("{name}  ") });
        }
    }

    fn check(&self) -> Result<()> {
        if self.closed() { Err(Error::Cancelled) } else { interrupt::check() }
    }

    fn step(&self, done: u64, total: u64) -> Result<()> {
        self.check()?;
        let bar = self.bar.get_or_init(|| {
            let hidden = !std::io::stderr().is_terminal();
            let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
            let style = ProgressStyle::with_template("{msg}{wide_bar} {percent:>3} %  {eta:>4} left");
            let bar = ProgressBar::with_draw_target(Some(UNITS), target);
            if let Ok(style) = style { bar.with_style(style) } else { bar }
        });
        // Parts of the work count in finer units than the whole: on one scale the estimate of the time left is steady.
        bar.set_position((u128::from(done) * u128::from(UNITS) / u128::from(total.max(1))) as u64);
        Ok(())
    }
}
