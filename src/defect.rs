//! The report of a defect: what a panic leaves for the next start, to be copied by whoever wants to send it. Nothing is sent, and
//! nothing of the files that were open is in it.

use std::backtrace::Backtrace;
use std::collections::VecDeque;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// So many commands are remembered.
const COMMANDS: usize = 30;
/// The report within the program's own folder; a newer one takes its place.
const FILE: &str = "defect.txt";

#[derive(Default)]
struct Known {
    /// Where the report goes; `None`: no window is open, and a driver that panics while it is tried is no defect of ours.
    home: Option<PathBuf>,
    screen: String,
    commands: VecDeque<&'static str>,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

fn with<T>(look: impl FnOnce(&mut Known) -> T) -> T {
    look(KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// From now on a panic is also written down; to be called once, before anything else.
pub fn install() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        write(info);
    }));
}

/// The window is painted: its folder, and what draws it.
pub fn begin(home: &Path, screen: String) {
    with(|known| (known.home, known.screen) = (Some(home.to_path_buf()), screen));
}

/// Where a report goes; `None` before [`begin`].
pub fn report() -> Option<PathBuf> {
    with(|known| known.home.as_ref().map(|home| home.join(FILE)))
}

/// Remembers the name of a command.
pub fn did(what: &'static str) {
    with(|known| {
        known.commands.push_back(what);
        if known.commands.len() > COMMANDS {
            known.commands.pop_front();
        }
    });
}

/// What an earlier start has left.
pub fn find(home: &Path) -> Option<String> {
    std::fs::read_to_string(home.join(FILE)).ok().filter(|text| !text.trim().is_empty())
}

/// Removes it.
///
/// # Errors
/// When it cannot be removed.
pub fn forget(home: &Path) -> Result<()> {
    let path = home.join(FILE);
    std::fs::remove_file(&path).map_err(|error| Error::write(&path, &error))
}

fn write(info: &PanicHookInfo<'_>) {
    // Whoever panics while the list is changed does not wait for it.
    let Ok(mut known) = KNOWN.try_lock() else { return };
    let Some(Known { home: Some(home), screen, commands }) = known.as_mut() else { return };
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let commands: Vec<&str> = commands.iter().copied().collect();
    let text = text(message, &place, &system(), screen, &commands, &trace(&Backtrace::force_capture()));
    // There is nobody to complain to.
    let _ = std::fs::create_dir_all(&*home);
    let _ = std::fs::write(home.join(FILE), text);
}

/// A release has no names of functions: then its addresses stand there, beside that of a function whose place is known.
fn trace(trace: &Backtrace) -> String {
    let named = trace.to_string();
    if named.contains("rankscope::") { named } else { format!("install {:p}\n{trace:#}", install as fn()) }
}

/// The system in a line: what it calls itself, its kernel, its processor's kind.
fn system() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let about = read("/etc/os-release");
    let name = about.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default().trim_matches('"');
    let kernel = read("/proc/sys/kernel/osrelease");
    let parts = [name, std::env::consts::OS, kernel.trim(), std::env::consts::ARCH];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn text(message: &str, place: &str, system: &str, screen: &str, commands: &[&str], trace: &str) -> String {
    // Behind a quotation mark may stand a text from a file.
    let message = message.split(['`', '"', '\'']).next().unwrap_or_default();
    format!(
        "Rankscope {} met a defect: {message}\nat {place}\n\nsystem: {system}\ndrawn by: {screen}\nlast commands: {}\n\n{trace}",
        env!("CARGO_PKG_VERSION"),
        commands.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_done_and_nothing_of_files() {
        let said = "byte index 2 is not a char boundary; it is inside 'ü' of `a secret of mine`";
        let text = text(said, "src/a.rs:1:2", &system(), "glow: a GPU", &["open", "rank"], "0: main");
        assert!(!text.contains("secret") && text.contains("not a char boundary") && text.contains("src/a.rs:1:2"));
        assert!(text.contains("last commands: open, rank") && text.contains("glow: a GPU"), "{text}");
        assert!(text.contains(std::env::consts::ARCH) && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
        let home = tempfile::tempdir().unwrap();
        assert!(find(home.path()).is_none() && forget(home.path()).is_err());
        std::fs::write(home.path().join(FILE), &text).unwrap();
        assert_eq!(find(home.path()).as_deref(), Some(text.as_str()));
        forget(home.path()).unwrap();
        assert!(find(home.path()).is_none());
    }
}
