//! [`Inputs`]: which data and model a run began with, by what is in them and not by where they lie.

use super::Settings;
use super::run_folder::{INPUTS, RunFolder};
use super::store::write_whole;
use crate::checkpoint::json;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::units;
use serde::{Deserialize, Serialize};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Length and hash of a file, or of a folder's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    bytes: u64,
    hash: String,
}

/// What a run reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Inputs {
    model: Option<Mark>,
    data: Option<Mark>,
    eval_data: Option<Mark>,
    init_adapter: Option<Mark>,
    forget_data: Option<Mark>,
}

/// Endings of files in a folder that belong to a model or an adapter.
const READ: [&str; 7] = ["safetensors", "bin", "pt", "gguf", "json", "jinja", "model"];

/// Up to so many bytes a file counts as a whole; of a larger one [`SAMPLES`] pieces of [`PIECE`] bytes.
const WHOLE: u64 = 1 << 28;
const SAMPLES: u64 = 64;
const PIECE: u64 = 1 << 16;

impl Inputs {
    /// Of the paths in the settings.
    ///
    /// # Errors
    /// A file that cannot be read; and cancellation.
    pub(super) fn of(settings: &Settings, progress: &dyn Progress) -> Result<Self> {
        let mark = |path: &Path| Mark::of(path, progress);
        let optional = |path: &Option<PathBuf>| path.as_deref().map(mark).transpose();
        Ok(Self {
            model: Some(mark(&settings.model)?),
            data: Some(mark(&settings.data)?),
            eval_data: optional(&settings.eval_data)?,
            init_adapter: optional(&settings.init_adapter)?,
            forget_data: optional(&settings.forget_data)?,
        })
    }

    /// Of a run that has begun; `None` of one that did not keep them.
    pub(super) fn read(folder: &RunFolder) -> Option<Self> {
        serde_json::from_str(&json::text(&folder.file(INPUTS)).ok()?).ok()
    }

    /// Writes them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn write(&self, folder: &RunFolder) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::failure(error.to_string()))?;
        write_whole(&folder.file(INPUTS), &text)
    }

    /// What is another now than it was when the run began, as sentences.
    pub(super) fn differ(&self, before: &Self, settings: &Settings) -> Vec<String> {
        let name =
            |path: Option<&PathBuf>| path.map_or_else(|| "nothing".to_owned(), |path| path.display().to_string());
        let inputs = [
            ("model", &before.model, &self.model, Some(&settings.model)),
            ("data", &before.data, &self.data, Some(&settings.data)),
            ("eval-data", &before.eval_data, &self.eval_data, settings.eval_data.as_ref()),
            ("init-adapter", &before.init_adapter, &self.init_adapter, settings.init_adapter.as_ref()),
            ("forget-data", &before.forget_data, &self.forget_data, settings.forget_data.as_ref()),
        ];
        let other = inputs.into_iter().filter(|(_, before, now, _)| before != now);
        other
            .map(|(what, before, now, path)| {
                let size = |mark: &Option<Mark>| mark.as_ref().map_or(0, |mark| mark.bytes);
                let (then, now) = (size(before), size(now));
                let sizes = if then == now {
                    "of the same size, with another content".to_owned()
                } else {
                    format!("{} bytes then, {} now", units::exact(then), units::exact(now))
                };
                format!("{what} {} is not what the run began with ({sizes})", name(path))
            })
            .collect()
    }
}

impl Mark {
    fn of(path: &Path, progress: &dyn Progress) -> Result<Self> {
        let mut hash = Hash::default();
        let mut bytes = 0;
        for file in files(path)? {
            if file != path {
                hash.mix(file.file_name().unwrap_or_default().as_encoded_bytes());
            }
            bytes += hash.file(&file, progress)?;
        }
        Ok(Self { bytes, hash: format!("{:016x}", hash.0) })
    }
}

/// A file, or those of a folder that are read, in order.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| Error::read(path, "read", &error))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let ends = |path: &PathBuf| path.extension().is_some_and(|end| READ.iter().any(|read| end == *read));
    let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file() && ends(path)).collect();
    files.sort();
    Ok(files)
}

/// FNV-1a, eight bytes at a time.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn mix(&mut self, bytes: &[u8]) {
        let mut word = |word: u64| self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|bytes| word(u64::from_le_bytes(*bytes)));
        rest.iter().for_each(|byte| word(u64::from(*byte)));
        word(bytes.len() as u64);
    }

    /// Takes in a file; its length.
    fn file(&mut self, path: &Path, progress: &dyn Progress) -> Result<u64> {
        let mut file = crate::guard::regular(path)?;
        let failed = |error: std::io::Error| Error::read(path, "read", &error);
        let length = file.metadata().map_err(failed)?.len();
        let (pieces, piece) = if length <= WHOLE { (length.div_ceil(PIECE), PIECE) } else { (SAMPLES, PIECE) };
        let mut buffer = Vec::new();
        for at in 0..pieces {
            progress.step(0, 1)?;
            let begin = if length <= WHOLE { at * piece } else { (length - piece) / (pieces - 1) * at };
            file.seek(SeekFrom::Start(begin)).map_err(failed)?;
            buffer.clear();
            Read::by_ref(&mut file).take(piece).read_to_end(&mut buffer).map_err(failed)?;
            self.mix(&buffer);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_file_counts_and_not_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("model")).unwrap();
        std::fs::create_dir_all(at("elsewhere")).unwrap();
        for (name, text) in [("config.json", "{}"), ("model.safetensors", "weights"), ("README.md", "read me")] {
            std::fs::write(at("model").join(name), text).unwrap();
            std::fs::write(at("elsewhere").join(name), text).unwrap();
        }
        std::fs::write(at("data.jsonl"), "one\ntwo\n").unwrap();
        let settings = Settings { model: at("model"), data: at("data.jsonl"), ..Settings::default() };
        let before = Inputs::of(&settings, &()).unwrap();
        let run = RunFolder::new(at("run"));
        assert_eq!(Inputs::read(&run), None);
        before.write(&run).unwrap();
        assert_eq!(Inputs::read(&run).as_ref(), Some(&before));
        let moved = Settings { model: at("elsewhere"), ..settings.clone() };
        std::fs::write(at("elsewhere/README.md"), "read me again").unwrap();
        assert!(Inputs::of(&moved, &()).unwrap().differ(&before, &moved).is_empty());
        std::fs::write(at("data.jsonl"), "one\ntwo\nthree\n").unwrap();
        std::fs::write(at("elsewhere/model.safetensors"), "wEights").unwrap();
        let differ = Inputs::of(&moved, &()).unwrap().differ(&before, &moved);
        assert_eq!(differ.len(), 2);
        assert!(
            differ[0].ends_with("is not what the run began with (of the same size, with another content)"),
            "{differ:?}"
        );
        assert!(differ[1].ends_with("data.jsonl is not what the run began with (8 bytes then, 14 now)"), "{differ:?}");
    }
}
