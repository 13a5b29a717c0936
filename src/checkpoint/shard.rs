//! [`Shard`]: one safetensors or GGUF file, mapped into memory; opening it reads the header and nothing else.

use super::fault::Guard;
use super::gguf;
use super::header::{Entry, Header};
use crate::error::{Error, Result};
use crate::guard::regular;
use memmap2::Mmap;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Endings of files that `torch.save` writes.
pub(super) const PICKLES: [&str; 3] = ["bin", "pt", "pth"];

/// What to say of a file that begins so, where git-lfs has left a pointer in its place.
pub(super) fn pointer(begin: &[u8]) -> Option<&'static str> {
    begin.starts_with(b"version ").then_some(
        "found a git-lfs pointer in place of the weights: the repository was cloned without git-lfs; run git lfs pull in it",
    )
}

/// What a file says of itself.
pub(super) struct Contents {
    /// Its tensors.
    pub(super) entries: Vec<Entry>,
    /// Of a safetensors file the texts beside them.
    pub(super) metadata: HashMap<String, String>,
    /// Of a GGUF file a `config.json` made from its metadata, and what the file is for.
    pub(super) gguf: Option<(serde_json::Value, String)>,
}

/// One file of a checkpoint.
///
/// The file may be cut or written over while it is open: [`unchanged`](Self::unchanged) says so after every reading.
pub(super) struct Shard {
    path: PathBuf,
    file: File,
    /// Dropped before the map that it watches.
    guard: Guard,
    map: Mmap,
    /// When the file was last written, as it was opened.
    written: Option<SystemTime>,
}

impl Shard {
    /// Opens a file and checks its header.
    pub(super) fn open(path: &Path) -> Result<(Self, Contents)> {
        let mut file = regular(path)?;
        let about = file.metadata().map_err(|e| Error::read(path, "read", &e))?;
        let (len, written) = (about.len(), about.modified().ok());
        if path.extension().is_some_and(|end| PICKLES.iter().any(|pickle| end == *pickle)) {
            let entries = super::pickle::entries(&file, path)?;
            return Ok((
                Self::map(path, file, len, written)?,
                Contents { entries, metadata: HashMap::new(), gguf: None },
            ));
        }
        if path.extension().is_some_and(|end| end == "gguf") {
            let header = gguf::Header::read(&file, len, path)?;
            let gguf = Some((header.config, header.kind));
            let contents = Contents { entries: header.entries, metadata: HashMap::new(), gguf };
            return Ok((Self::map(path, file, len, written)?, contents));
        }
        let mut bytes = Vec::new();
        (&mut file).take(8).read_to_end(&mut bytes).map_err(|e| Error::read(path, "read", &e))?;
        if let Some(pointer) = pointer(&bytes) {
            return Err(Error::file(path, pointer));
        }
        let length = Header::length(&bytes, len, path)?;
        (&mut file).take(length as u64).read_to_end(&mut bytes).map_err(|e| Error::read(path, "read", &e))?;
        let header = Header::parse(&bytes, len, path)?;
        Ok((
            Self::map(path, file, len, written)?,
            Contents { entries: header.entries, metadata: header.metadata, gguf: None },
        ))
    }

    /// The tokenizer that a GGUF file holds; `None` of any other file.
    pub(super) fn tokenizer(&self) -> Option<Result<gguf::Tokenizer>> {
        if self.path.extension().is_none_or(|end| end != "gguf") {
            return None;
        }
        let header = regular(&self.path).and_then(|file| gguf::Header::read(&file, self.map.len() as u64, &self.path));
        Some(header.and_then(|header| header.tokenizer().map_err(|message| Error::file(&self.path, message))))
    }

    fn map(path: &Path, file: File, len: u64, written: Option<SystemTime>) -> Result<Self> {
        // SAFETY: the map is read-only and private to this type. Bytes that are gone read as zeros and bytes that were written
        // over as what they are now; both are found out before they are used.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::read(path, "map into memory", &e))?;
        if (map.len() as u64) < len {
            return Err(shrunk(path, map.len() as u64, len));
        }
        let guard = Guard::new(&map);
        Ok(Self { path: path.to_path_buf(), file, guard, map, written })
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self, range: Range<usize>) -> Result<&[u8]> {
        self.unchanged()?;
        let found = self.map.len();
        let end = range.end;
        self.map
            .get(range)
            .ok_or_else(|| Error::file(&self.path, format!("found {found} bytes, expected at least {end}")))
    }

    /// Makes sure that what was read so far is of the file as it was opened.
    ///
    /// # Errors
    /// When the file was cut or written since.
    pub(super) fn unchanged(&self) -> Result<()> {
        let about = self.file.metadata().map_err(|e| Error::read(&self.path, "read", &e))?;
        let expected = self.map.len() as u64;
        if about.len() < expected || self.guard.cut() {
            return Err(shrunk(&self.path, about.len().min(expected), expected));
        }
        if about.len() != expected || about.modified().ok() != self.written {
            return Err(Error::file(&self.path, "the file was written to while it was open; open it again"));
        }
        Ok(())
    }

    /// Tells the system that nothing of the file will be read again soon.
    pub(super) fn rest(&self) {
        self.done_with(0..self.map.len());
    }

    /// Tells the system that a large range will not be read again soon.
    #[cfg(not(unix))]
    pub(super) fn done_with(&self, _range: Range<usize>) {}

    /// Tells the system that a large range will not be read again soon.
    #[cfg(unix)]
    pub(super) fn done_with(&self, range: Range<usize>) {
        /// Ranges from this size on are given back: the next matrix needs the memory.
        const LARGE: usize = 1 << 20;
        const PAGE: usize = 1 << 16; // a multiple of every page size in use
        let begin = range.start.next_multiple_of(PAGE);
        let end = range.end.min(self.map.len()) / PAGE * PAGE;
        if end.saturating_sub(begin) >= LARGE {
            // SAFETY: the map is shared, read-only and backed by the file, so bytes that are dropped here are simply
            // read from the file again, also when another thread is in the middle of reading them.
            let advised =
                unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, begin, end - begin) };
            if let Err(e) = advised {
                log::debug!("{}: {e}", self.path.display());
            }
        }
    }
}

fn shrunk(path: &Path, found: u64, expected: u64) -> Error {
    if found == expected {
        return Error::file(path, "the file was cut and written again while it was open; open it again");
    }
    Error::file(path, format!("found {found} bytes, expected {expected}: the file was cut while it was open"))
}
