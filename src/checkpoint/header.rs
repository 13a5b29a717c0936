//! [`Header`]: the table of contents of a safetensors file, believed only after every check.
//!
//! A file is 8 bytes (little-endian length n of the header), n bytes of JSON, then the data:
//! `{"name": {"dtype": "BF16", "shape": [4, 2], "data_offsets": [0, 16]}, …, "__metadata__": {…}}`, offsets counted from
//! the end of the header. As the reference implementation does, this demands that the tensors cover the data exactly:
//! no overlap, no hole, nothing behind the last one.

use super::Dtype;
use super::json::{Keyed, Unique, sentence};
use super::tensor::View;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::MapAccess;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// Longest header that is read, the reference implementation's own limit.
pub const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the length in front of the header.
const PREFIX: u64 = 8;

/// One tensor as the header describes it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The tensor's name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub begin: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// How its values become those that the name stands for.
    pub view: View,
}

/// A checked header: every entry lies inside the file and fills exactly its own bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their bytes.
    pub entries: Vec<Entry>,
    /// What stands beside them: texts by name.
    pub metadata: HashMap<String, String>,
}

/// One tensor as JSON says it.
#[derive(Deserialize)]
struct Stated {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// A value of the top-level object: a tensor, or the free-form `__metadata__`, texts by name.
enum Value {
    Tensor(Stated),
    Metadata(HashMap<String, String>),
}

impl<'de> Keyed<'de> for Value {
    fn read<A: MapAccess<'de>>(key: &str, map: &mut A) -> std::result::Result<Self, A::Error> {
        match key {
            "__metadata__" => map
                .next_value::<Option<HashMap<String, String>>>()
                .map(|texts| Self::Metadata(texts.unwrap_or_default())),
            _ => map.next_value().map(Self::Tensor),
        }
    }
}

impl Header {
    /// Length in bytes of the JSON, from the file's first 8 bytes.
    ///
    /// # Errors
    /// When the file is too short for a header, or for the header it announces, or the header is over [`MAX_HEADER`].
    pub fn length(prefix: &[u8], file_len: u64, path: &Path) -> Result<usize> {
        let Some(first) = prefix.first_chunk::<8>().filter(|_| file_len >= PREFIX) else {
            let found = file_len.min(prefix.len() as u64);
            return Err(Error::file(
                path,
                format!("found {found} bytes, expected at least the 8 of a safetensors header's length"),
            ));
        };
        if first == b"version " {
            return Err(Error::file(
                path,
                "found a git-lfs pointer, expected the weights themselves (run `git lfs pull`)",
            ));
        }
        let length = u64::from_le_bytes(*first);
        let room = file_len - PREFIX;
        if length > room {
            let message = format!(
                "found {room} bytes after the length of the header, expected a header of {length}: not a safetensors file, or cut short"
            );
            return Err(Error::file(path, message));
        }
        if length > MAX_HEADER {
            return Err(Error::file(path, format!("found a header of {length} bytes, expected at most {MAX_HEADER}")));
        }
        usize::try_from(length)
            .map_err(|_| Error::file(path, format!("a header of {length} bytes does not fit in memory")))
    }

    /// Reads and checks the header of a file of `file_len` bytes; `bytes` is its beginning, header included. Reads
    /// nothing but `bytes`: `path` is for the messages only.
    ///
    /// # Errors
    /// A sentence naming file and tensor for everything that is not as it should be.
    pub fn parse(bytes: &[u8], file_len: u64, path: &Path) -> Result<Self> {
        let length = Self::length(bytes, file_len, path)?;
        let Some(json) = bytes.get(PREFIX as usize..).and_then(|rest| rest.get(..length)) else {
            let message = format!("found {} bytes, expected a header of {length} after the first 8", bytes.len());
            return Err(Error::file(path, message));
        };
        let text = std::str::from_utf8(json).map_err(|e| {
            Error::file(
                path,
                format!("the header is not UTF-8 text: bad byte at {}", PREFIX as usize + e.valid_up_to()),
            )
        })?;
        let data = file_len - PREFIX - length as u64;
        let (mut entries, mut metadata) = (Vec::new(), HashMap::new());
        let stated = Unique::<Value>::parse(text).map_err(|(at, e)| {
            let message = format!("the header cannot be read: {}", sentence(&e));
            match at {
                Some(name) => Error::tensor(path, &name, message),
                None => Error::file(path, message),
            }
        })?;
        for (name, stated) in stated.into_entries() {
            let stated = match stated {
                Value::Tensor(stated) => stated,
                Value::Metadata(texts) => {
                    metadata = texts;
                    continue;
                }
            };
            match checked(&stated, data) {
                Ok((dtype, shape)) => {
                    let (begin, end) = stated.data_offsets;
                    entries.push(Entry { name, dtype, shape, begin, bytes: end - begin, view: View::Plain });
                }
                Err(message) => return Err(Error::tensor(path, &name, message)),
            }
        }
        entries.sort_by(|a, b| (a.begin, a.bytes, &a.name).cmp(&(b.begin, b.bytes, &b.name)));
        covers(&entries, data, path)?;
        for entry in &mut entries {
            entry.begin += PREFIX + length as u64;
        }
        Ok(Self { entries, metadata })
    }
}

/// What one tensor says about itself fits together, and fits in `data` bytes.
fn checked(stated: &Stated, data: u64) -> std::result::Result<(Dtype, Vec<usize>), String> {
    let Some(dtype) = Dtype::from_safetensors(&stated.dtype) else {
        return Err(format!("found dtype {:?}, expected one of {}", Short(&stated.dtype), Dtype::known()));
    };
    let shape = Sizes(&stated.shape);
    let elements = stated.shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
    let Some(bits) = elements.and_then(|n| n.checked_mul(dtype.bits() as u64)) else {
        return Err(format!("the size of shape {shape} in {dtype} overflows 64 bits"));
    };
    if bits % 8 != 0 {
        return Err(format!("shape {shape} in {dtype} does not end at a whole byte"));
    }
    let (begin, end) = stated.data_offsets;
    if begin > end {
        return Err(format!(
            "found data_offsets [{begin}, {end}], expected the first not to be larger than the second"
        ));
    }
    if end > data {
        return Err(format!("data_offsets [{begin}, {end}] go beyond the file, which has {data} bytes of data"));
    }
    let expected = bits / 8;
    if end - begin != expected {
        return Err(format!("found {} bytes, expected {expected} for shape {shape} in {dtype}", end - begin));
    }
    let mut sizes = Vec::with_capacity(stated.shape.len());
    for &size in &stated.shape {
        sizes.push(usize::try_from(size).map_err(|_| format!("shape {shape} does not fit in memory"))?);
    }
    Ok((dtype, sizes))
}

/// Entries sorted by their first byte lie end to end in `0..data`.
fn covers(entries: &[Entry], data: u64, path: &Path) -> Result<()> {
    let mut end = 0;
    let mut previous = None::<&Entry>;
    for entry in entries {
        if entry.begin < end {
            let other = previous.map_or("", |entry| &entry.name);
            let message =
                format!("its bytes, from {}, overlap those of {}, which end at {end}", entry.begin, Short(other));
            return Err(Error::tensor(path, &entry.name, message));
        }
        if entry.begin > end {
            let message =
                format!("its bytes start at {}, expected {end}: the bytes between belong to no tensor", entry.begin);
            return Err(Error::tensor(path, &entry.name, message));
        }
        end = entry.begin + entry.bytes;
        previous = Some(entry);
    }
    if end != data {
        return Err(Error::file(path, format!("found {data} bytes of data, expected the {end} that its tensors fill")));
    }
    Ok(())
}

/// A text of unknown length, cut for a message.
struct Short<'a>(&'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 120;
        match self.0.char_indices().nth(MOST) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

impl fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A shape for a message, cut when it is absurdly long.
struct Sizes<'a>(&'a [u64]);

impl fmt::Display for Sizes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 8;
        match self.0.get(..MOST) {
            Some(first) if self.0.len() > MOST => write!(f, "{first:?} and {} more sizes", self.0.len() - MOST),
            _ => write!(f, "{:?}", self.0),
        }
    }
}
