//! Bytes of a file as UTF-8: byte order marks, UTF-16, and JSON as Python writes it.

use crate::error::{Error, Result};
use serde_json::Value;
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes at the beginning that are looked at to see what a file is.
const HEAD: usize = 1 << 16;
/// Longest line, or element of a list.
pub(super) const LONGEST: usize = 256 << 20;

/// A data file that is being read, from its beginning on.
pub(super) struct Input {
    /// Its path.
    pub path: PathBuf,
    /// Its first bytes, as UTF-8 where they are text.
    pub head: Vec<u8>,
    /// What was said of its encoding.
    pub note: Option<String>,
    reader: Box<dyn BufRead + Send>,
    /// Bytes of the file that were read.
    read: Arc<AtomicU64>,
    /// Bytes of the file; 0 where that is not known.
    size: u64,
}

/// Counts what goes through.
struct Counted<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buf)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Input {
    /// Opens a data file. Anything that can be read once will do.
    ///
    /// # Errors
    /// When it cannot be opened or its beginning cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let about = std::fs::metadata(path).map_err(|error| Error::read(path, "read", &error))?;
        if about.is_dir() {
            return Err(Error::file(path, "found a folder, expected a file with data"));
        }
        let file = File::open(path).map_err(|error| Error::read(path, "read", &error))?;
        let read = Arc::new(AtomicU64::new(0));
        Self::of(path, Counted(file, Arc::clone(&read)), read, about.len())
    }

    fn of(path: &Path, mut file: impl Read + Send + 'static, read: Arc<AtomicU64>, size: u64) -> Result<Self> {
        let wrong = |error: std::io::Error| Error::read(path, "read", &error);
        let mut head = Vec::new();
        file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(wrong)?;
        let (mark, wide) = encoding(&head);
        let raw = std::io::Cursor::new(head.split_off(mark)).chain(file);
        let (reader, note): (Box<dyn BufRead + Send>, _) = match wide {
            Some(little) => {
                let note = format!("read as UTF-16 ({} endian)", if little { "little" } else { "big" });
                (Box::new(BufReader::new(Utf16 { raw, little, left: Vec::new(), high: None })), Some(note))
            }
            None => (Box::new(BufReader::with_capacity(1 << 20, raw)), None),
        };
        let mut input = Self { path: path.to_owned(), head: Vec::new(), note, reader, read, size };
        let mut head = Vec::new();
        input.reader.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(wrong)?;
        input.head = head.clone();
        input.reader = Box::new(std::io::Cursor::new(head).chain(input.reader));
        Ok(input)
    }

    /// A reader of its UTF-8 bytes.
    pub fn into_reader(self) -> Box<dyn BufRead + Send> {
        self.reader
    }

    /// How far the file is read: bytes, of how many.
    pub fn progress(&self) -> Far {
        Far { read: Arc::clone(&self.read), size: self.size }
    }

    /// The first line that is not empty.
    pub fn first_line(&self) -> Cow<'_, str> {
        let line = self.head.split(|&byte| byte == b'\n').find(|line| !line.trim_ascii().is_empty());
        String::from_utf8_lossy(line.unwrap_or_default().trim_ascii())
    }

    /// The first byte that is no white space.
    pub fn first_byte(&self) -> Option<u8> {
        self.head.trim_ascii_start().first().copied()
    }
}

/// How far a file is read.
pub(super) struct Far {
    read: Arc<AtomicU64>,
    size: u64,
}

impl Far {
    /// Bytes read, and bytes in all.
    pub fn now(&self) -> (u64, u64) {
        let read = self.read.load(Ordering::Relaxed);
        (read, self.size.max(read))
    }
}

/// Bytes of a byte order mark, and whether the text is UTF-16, little endian or not.
fn encoding(head: &[u8]) -> (usize, Option<bool>) {
    match head {
        [0xef, 0xbb, 0xbf, ..] => (3, None),
        [0xff, 0xfe, ..] => (2, Some(true)),
        [0xfe, 0xff, ..] => (2, Some(false)),
        // Without a mark: two characters of ASCII with a zero beside each.
        [a, 0, b, 0, ..] if a.is_ascii_graphic() && (b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            (0, Some(true))
        }
        [0, a, 0, b, ..] if a.is_ascii_graphic() && (b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            (0, Some(false))
        }
        _ => (0, None),
    }
}

/// UTF-16 as UTF-8; half a pair becomes U+FFFD.
struct Utf16<R> {
    raw: R,
    little: bool,
    /// Bytes that are not handed on yet, in order from the end.
    left: Vec<u8>,
    /// The first half of a pair.
    high: Option<u16>,
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.left.is_empty() {
            let mut raw = Vec::with_capacity(1 << 16);
            self.raw.by_ref().take(1 << 16).read_to_end(&mut raw)?;
            if raw.is_empty() && self.high.is_none() {
                return Ok(0);
            }
            let ends = raw.is_empty();
            let pair = |bytes: &[u8]| {
                let pair = [bytes[0], bytes.get(1).copied().unwrap_or(0)];
                if self.little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
            };
            let mut units: Vec<u16> = self.high.take().into_iter().chain(raw.chunks(2).map(pair)).collect();
            if !ends && units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) {
                self.high = units.pop();
            }
            let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            self.left = text.into_bytes();
            self.left.reverse();
        }
        let count = buf.len().min(self.left.len());
        for to in &mut buf[..count] {
            *to = self.left.pop().unwrap_or_default();
        }
        Ok(count)
    }
}

/// One value of JSON as Python's `json` reads it: NaN and Infinity are allowed and become null; half a surrogate pair in a
/// text becomes U+FFFD.
///
/// # Errors
/// A sentence without line numbers, which are the caller's.
pub(super) fn value(bytes: &[u8]) -> std::result::Result<Value, String> {
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(format!("not UTF-8 text: bad byte at {} of the row", error.valid_up_to()));
    }
    let mended = mended(bytes);
    if mended != bytes
        && let Ok(value) = serde_json::from_slice(&mended)
    {
        return Ok(value);
    }
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or(&words);
    Err(format!("not valid JSON: {words} (column {})", error.column()))
}

/// JSON without what only Python takes.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut at, mut inside) = (0, false);
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6).filter(|six| six.starts_with(b"\\u"))?;
        u16::from_str_radix(std::str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        if inside {
            match unit(at) {
                Some(0xd800..0xdc00) if matches!(unit(at + 6), Some(0xdc00..0xe000)) => {
                    out.extend(&rest[..12]);
                    at += 12;
                }
                Some(0xd800..0xe000) => {
                    out.extend(b"\\ufffd");
                    at += 6;
                }
                _ if rest[0] == b'\\' => {
                    out.extend(&rest[..rest.len().min(2)]);
                    at += 2;
                }
                _ => {
                    inside = rest[0] != b'"';
                    out.push(rest[0]);
                    at += 1;
                }
            }
            continue;
        }
        let python = [&b"NaN"[..], b"-Infinity", b"Infinity"].into_iter().find(|word| rest.starts_with(word));
        match python {
            Some(word) => {
                out.extend(b"null");
                at += word.len();
            }
            None => {
                inside = rest[0] == b'"';
                out.push(rest[0]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(bytes: &[u8]) -> String {
        let input = Input::of(Path::new("d"), std::io::Cursor::new(bytes.to_vec()), Arc::default(), 0).unwrap();
        let mut text = String::new();
        input.into_reader().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn encodings_become_utf8() {
        assert_eq!(read(b"\xef\xbb\xbf{}"), "{}");
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        assert_eq!(read(&[&[0xff, 0xfe], &wide("{\"a\": \"ö😀\"}")[..]].concat()), "{\"a\": \"ö😀\"}");
        assert_eq!(read(&wide("{\"a\"}")), "{\"a\"}");
        let big: Vec<u8> = "hé".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read(&[&[0xfe, 0xff], &big[..]].concat()), "hé");
        // A pair across two reads, and half of one at the end.
        let long = "😀".repeat(50_000) + "x";
        assert_eq!(read(&[&[0xff, 0xfe], &wide(&long)[..]].concat()), long);
        assert_eq!(read(&[0xff, 0xfe, 0x61, 0, 0x3d, 0xd8]), "a\u{fffd}");
    }

    #[test]
    fn python_s_json_is_read() {
        assert_eq!(value(br#"{"a": NaN, "b": [-Infinity, "NaN"]}"#).unwrap(), json!({"a": null, "b": [null, "NaN"]}));
        assert_eq!(
            value(br#"{"a": "x\ud83d", "b": "\ud83d\ude00 \\ud800"}"#).unwrap(),
            json!({"a": "x\u{fffd}", "b": "😀 \\ud800"})
        );
        assert_eq!(value(br#"{"a": 1, "a": 2}"#).unwrap(), json!({"a": 2}));
        assert_eq!(value(b"{\"a\": }").unwrap_err(), "not valid JSON: expected value (column 7)");
        assert!(value(b"{\"a\": \"\xff\"}").unwrap_err().contains("UTF-8"));
    }
}
