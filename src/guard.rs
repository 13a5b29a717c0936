//! What keeps strangers' input from taking the program with it: files that are no files, files without end, crates that panic.

use crate::error::{Error, Result};
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

/// Longest side file that is read unless somebody says otherwise: index files of the largest models stay under a tenth of it.
pub(crate) const MOST: u64 = 100_000_000;

/// Opens a regular file; a pipe or a device would block or never end.
///
/// # Errors
/// When it cannot be opened or is no regular file.
pub(crate) fn regular(path: &Path) -> Result<File> {
    let about = std::fs::metadata(path).map_err(|e| Error::read(path, "open", &e))?;
    if !about.is_file() {
        let found = if about.is_dir() { "a folder" } else { "a pipe or device" };
        return Err(Error::file(path, format!("found {found}, expected a file")));
    }
    File::open(path).map_err(|e| Error::read(path, "open", &e))
}

/// A whole regular file of at most `most` bytes.
///
/// # Errors
/// As [`regular`], when it cannot be read, and when it is longer.
pub(crate) fn bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = regular(path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|e| Error::read(path, "read", &e))?;
    if bytes.len() as u64 > most {
        return Err(Error::file(path, format!("found more than {most} bytes, too many for such a file")));
    }
    Ok(bytes)
}

/// A whole regular file of at most `most` bytes as text.
///
/// # Errors
/// As [`bytes`], and when it is not UTF-8.
pub(crate) fn text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(bytes(path, most)?)
        .map_err(|e| Error::file(path, format!("not UTF-8 text: bad byte at {}", e.utf8_error().valid_up_to())))
}

/// The same; `None` where there is no file of this name.
///
/// # Errors
/// As [`text`].
pub(crate) fn text_if_there(path: &Path, most: u64) -> Result<Option<String>> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => text(path, most).map(Some),
    }
}

thread_local! {
    static QUIET: Cell<u32> = const { Cell::new(0) };
}

/// Runs what may panic on strangers' input, such as a parser of another crate. The panic is not printed.
///
/// # Errors
/// The panic's own words.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |about| {
            if QUIET.with(Cell::get) == 0 {
                before(about);
            }
        }));
    });
    QUIET.with(|quiet| quiet.set(quiet.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.with(|quiet| quiet.set(quiet.get() - 1));
    result.map_err(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        words.unwrap_or("it broke off").chars().take(200).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_words() {
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(caught(|| -> u8 { panic!("no such {}", "thing") }), Err("no such thing".to_owned()));
    }

    #[test]
    fn folders_and_long_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(text(&path, 4).unwrap(), "four");
        assert!(text(&path, 3).unwrap_err().to_string().contains("more than 3 bytes"));
        assert!(text(folder.path(), 3).unwrap_err().to_string().contains("found a folder"));
        assert_eq!(text_if_there(&folder.path().join("b"), 3).unwrap(), None);
        std::fs::write(&path, [b'a', 0xff]).unwrap();
        assert!(text(&path, 4).unwrap_err().to_string().contains("bad byte at 1"));
    }
}
