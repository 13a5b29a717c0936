//! Files of rows. Every kind is a file beside this one and a line in [`KINDS`].

mod array;
mod csv;
mod lines;
mod parquet;
mod prose;

use super::columns::ROLES;
use super::decode::{Far, Input};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

pub(super) use prose::Prose;

/// Rows one after the other, each an object of columns.
pub(super) trait Rows: Send {
    /// The next row with its number, as a person counts; or what is wrong with it.
    fn next(&mut self) -> Option<(u64, std::result::Result<Value, String>)>;

    /// What the numbers count: `line` or `row`.
    fn unit(&self) -> &'static str {
        "row"
    }
}

/// What a file holds.
pub(super) enum Content {
    /// A table.
    Rows(Box<dyn Rows>),
    /// Text, all of it to be predicted.
    Prose(Prose),
}

/// A kind of file.
struct Kind {
    /// Whether a file is of this kind, by its ending (in small letters) and beginning.
    is: fn(ending: &str, input: &Input) -> bool,
    open: fn(Input) -> Result<Content>,
}

/// The kinds; the first that takes a file reads it.
const KINDS: [Kind; 5] = [parquet::KIND, csv::KIND, array::KIND, lines::KIND, prose::KIND];

/// Whether a table is known by a column of this name, where it has no ending to tell.
pub(super) fn is_column(name: &str) -> bool {
    ROLES.contains(&name) || name == "response"
}

/// A file that is being read: what it holds, a note about how it is read, and how far it is.
pub(super) struct Opened {
    pub content: Content,
    pub notes: Vec<String>,
    pub far: Far,
}

/// Opens a data file of any kind.
///
/// # Errors
/// A file that cannot be read, is empty, or is none of data.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let input = Input::open(path)?;
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    if let Some(what) = foreign(&ending, &input.head) {
        return Err(Error::file(
            path,
            format!("found {what}, expected JSON lines, a JSON array, CSV, TSV, Parquet or text"),
        ));
    }
    if input.head.trim_ascii().is_empty() {
        return Err(Error::file(path, "the file is empty, expected rows or text"));
    }
    let far = input.progress();
    let mut notes: Vec<String> = input.note.clone().into_iter().collect();
    let kind = KINDS.iter().find(|kind| (kind.is)(&ending, &input));
    let kind = kind.ok_or_else(|| Error::file(path, "no kind of data file that is known"))?;
    let content = (kind.open)(input)?;
    if matches!(content, Content::Prose(_)) && !prose::ENDINGS.contains(&ending.as_str()) {
        notes.push("read as plain text: all of it is learnt as it stands".to_owned());
    }
    Ok(Opened { content, notes, far })
}

/// What a file is that is certainly no data.
fn foreign(ending: &str, head: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 8] = [
        (&[0x1f, 0x8b], "a gzip archive; unpack it first"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "a zstd archive; unpack it first"),
        (b"BZh", "a bzip2 archive; unpack it first"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "an xz archive; unpack it first"),
        (b"PK\x03\x04", "a zip archive or a spreadsheet; unpack it, or save it as CSV"),
        (b"%PDF", "a PDF; export its text"),
        (b"ARROW1", "an Arrow file; save it as Parquet"),
        (b"SQLite", "a database; export it as CSV"),
    ];
    const ENDINGS: [(&str, &str); 10] = [
        ("html", "a web page"),
        ("htm", "a web page"),
        ("xml", "XML"),
        ("yaml", "YAML"),
        ("yml", "YAML"),
        ("toml", "TOML"),
        ("xlsx", "a spreadsheet; save it as CSV"),
        ("xls", "a spreadsheet; save it as CSV"),
        ("docx", "a document; save it as text"),
        ("safetensors", "weights"),
    ];
    BEGINNINGS
        .iter()
        .find(|(beginning, _)| head.starts_with(beginning))
        .map(|(_, what)| *what)
        .or_else(|| ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, what)| *what))
        .or_else(|| (!head.starts_with(parquet::MAGIC) && head.contains(&0)).then_some("bytes that are no text"))
}
