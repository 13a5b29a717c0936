//! GGUF, llama.cpp's container: metadata by key, then the tensors' descriptions, then their bytes.
//!
//! ```text
//! "GGUF" · version u32 · tensors u64 · pairs u64
//! pairs:   key · type u32 · value              (a text is its length u64 and its bytes; a list its type, length u64 and values)
//! tensors: name · dimensions u32 · sizes u64, innermost first · type u32 · offset u64
//! data, from the next multiple of general.alignment on
//! ```
//!
//! [`names`] says what the tensors of an architecture are called by transformers, and which of its settings stand where.

pub(crate) mod names;
mod splits;
pub(crate) mod tokenizer;
pub(crate) mod vocabulary;
pub(crate) mod write;

pub use tokenizer::Tokenizer;

use super::ggml::BlockType;
use super::header::Entry;
use super::shard::Shard;
use super::{Dtype, Tensor};
use crate::error::{Error, Result};
use serde_json::{Map, Number, Value};
use std::io::{BufReader, Read};
use std::path::Path;

/// What the header of a GGUF file says.
pub(super) struct Header {
    /// The tensors, by transformers' names where the architecture is known.
    pub(super) entries: Vec<Entry>,
    /// A `config.json` made from the metadata, where the architecture is known; else what is known of it.
    pub(super) config: Value,
    /// What the file is for: `model`, `adapter`, `mmproj`, …
    pub(super) kind: String,
    metadata: Map<String, Value>,
}

/// The first bytes of a GGUF file.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";

/// More tensors or pairs than any model has.
const MOST_ENTRIES: u64 = 1 << 20;
/// Bytes of metadata: the largest vocabularies need a fiftieth.
const MOST_BYTES: u64 = 512 << 20;
/// Values of a list.
const MOST_VALUES: u64 = 1 << 23;
/// Lists within lists.
const DEEPEST: usize = 4;

/// A reader that counts, and never goes beyond the file.
struct Cursor<'a, R> {
    reader: R,
    at: u64,
    end: u64,
    path: &'a Path,
}

impl<R: Read> Cursor<'_, R> {
    fn wrong(&self, message: impl Into<String>) -> Error {
        Error::file(self.path, message)
    }

    fn bytes(&mut self, count: u64, what: &str) -> Result<Vec<u8>> {
        if count > self.end.min(MOST_BYTES).saturating_sub(self.at) {
            let message = format!("the file is cut short or damaged: {what} at byte {} needs {count} bytes", self.at);
            return Err(self.wrong(message));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(count).read_to_end(&mut bytes);
        read.map_err(|e| Error::read(self.path, "read", &e))?;
        if bytes.len() as u64 != count {
            return Err(self.wrong(format!("the file was cut while it was read: {what} at byte {}", self.at)));
        }
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let bytes = self.bytes(N as u64, what)?;
        bytes.try_into().map_err(|_| self.wrong(format!("{what} is cut short")))
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.u64(what)?;
        let bytes = self.bytes(length, what)?;
        // Pieces of a vocabulary need not be whole characters.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A value of a type, by its number in the format.
    fn value(&mut self, kind: u32, what: &str, depth: usize) -> Result<Value> {
        let float = |x: f64| Number::from_f64(x).map_or(Value::Null, Value::Number);
        Ok(match kind {
            0 => self.array::<1>(what)?[0].into(),
            1 => i8::from_le_bytes(self.array(what)?).into(),
            2 => u16::from_le_bytes(self.array(what)?).into(),
            3 => i16::from_le_bytes(self.array(what)?).into(),
            4 => self.u32(what)?.into(),
            5 => i32::from_le_bytes(self.array(what)?).into(),
            6 => float(f64::from(f32::from_le_bytes(self.array(what)?))),
            7 => (self.array::<1>(what)?[0] != 0).into(),
            8 => self.text(what)?.into(),
            9 => {
                let (kind, count) = (self.u32(what)?, self.u64(what)?);
                if count > MOST_VALUES || depth >= DEEPEST {
                    return Err(self.wrong(format!("{what} holds a list of {count} values, more than any model needs")));
                }
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value(kind, what, depth + 1)?);
                }
                Value::Array(list)
            }
            10 => self.u64(what)?.into(),
            11 => i64::from_le_bytes(self.array(what)?).into(),
            12 => float(f64::from_le_bytes(self.array(what)?)),
            other => return Err(self.wrong(format!("{what} has a value of type {other}, expected one from 0 to 12"))),
        })
    }
}

/// How a tensor's values are stored, by the format's number.
fn dtype(kind: u32) -> Option<Dtype> {
    Some(match kind {
        0 => Dtype::F32,
        1 => Dtype::F16,
        24 => Dtype::I8,
        25 => Dtype::I16,
        26 => Dtype::I32,
        27 => Dtype::I64,
        28 => Dtype::F64,
        30 => Dtype::BF16,
        other => Dtype::Block(BlockType::of_gguf(other)?),
    })
}

impl Header {
    /// Reads the header of a file of `len` bytes.
    ///
    /// # Errors
    /// A sentence naming the file, and the tensor where there is one, for everything that is not as it should be.
    pub(super) fn read(file: impl Read, len: u64, path: &Path) -> Result<Self> {
        let mut cursor = Cursor { reader: BufReader::with_capacity(1 << 16, file), at: 0, end: len, path };
        if &cursor.array::<4>("the first word")? != MAGIC {
            return Err(cursor.wrong("found other first bytes, expected GGUF: not a GGUF file"));
        }
        let version = cursor.u32("the version")?;
        if !(2..=3).contains(&version) {
            let message = if version.swap_bytes() < 1 << 16 {
                "found a big-endian file, expected a little-endian one".to_owned()
            } else {
                format!("found GGUF version {version}, expected 2 or 3")
            };
            return Err(cursor.wrong(message));
        }
        let (tensors, pairs) = (cursor.u64("the count of tensors")?, cursor.u64("the count of keys")?);
        if tensors > MOST_ENTRIES || pairs > MOST_ENTRIES {
            return Err(cursor.wrong(format!("found {tensors} tensors and {pairs} keys, more than any model has")));
        }
        let mut metadata = Map::new();
        for _ in 0..pairs {
            let key = cursor.text("a key")?;
            let kind = cursor.u32(&key)?;
            let value = cursor.value(kind, &key, 0)?;
            metadata.insert(key, value);
        }
        let mut found = Vec::new();
        for _ in 0..tensors {
            found.push(tensor(&mut cursor)?);
        }
        let alignment = metadata.get("general.alignment").and_then(Value::as_u64).unwrap_or(32);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(cursor.wrong(format!("found an alignment of {alignment}, expected a power of two")));
        }
        let data = cursor.at.next_multiple_of(alignment);
        let entries = found.into_iter().map(|(entry, offset)| placed(entry, offset, data, len, path));
        let mut entries = entries.collect::<Result<Vec<_>>>()?;
        apart(&entries, path)?;
        let text = |key: &str| metadata.get(key).and_then(Value::as_str);
        let kind = text("general.type").unwrap_or("model").to_owned();
        let config = match kind.as_str() {
            "adapter" => names::translate_adapter(&mut entries, &metadata),
            _ => names::translate(&mut entries, &metadata),
        };
        Ok(Self { entries, config, kind, metadata })
    }

    /// The tokenizer that the file holds.
    ///
    /// # Errors
    /// A sentence when it holds none, or one that is not known here.
    pub(super) fn tokenizer(&self) -> std::result::Result<Tokenizer, String> {
        tokenizer::build(&self.metadata)
    }
}

fn tensor<R: Read>(cursor: &mut Cursor<R>) -> Result<(Entry, u64)> {
    let name = cursor.text("a tensor's name")?;
    let wrong = |message: String| Error::tensor(cursor.path, &name, message);
    let dimensions = u32::from_le_bytes(cursor.bytes(4, &name)?.try_into().unwrap_or_default());
    if dimensions > 4 {
        return Err(wrong(format!("found {dimensions} dimensions, expected 4 at most")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let size = cursor.u64(&name)?;
        let size = usize::try_from(size).ok();
        shape.push(size.ok_or_else(|| Error::tensor(cursor.path, &name, "a size that does not fit in memory"))?);
    }
    shape.reverse();
    let kind = cursor.u32(&name)?;
    let offset = cursor.u64(&name)?;
    let wrong = |message: String| Error::tensor(cursor.path, &name, message);
    let Some(dtype) = dtype(kind) else {
        let known: Vec<_> = BlockType::all().map(BlockType::name).collect();
        let message = format!(
            "found values of GGML type {kind}, which is not known here; known are F32, F16, BF16, {}",
            known.join(", ")
        );
        return Err(wrong(message));
    };
    let row = shape.last().copied().unwrap_or(1);
    if let Dtype::Block(block) = dtype
        && !row.is_multiple_of(block.values())
    {
        return Err(wrong(format!(
            "found rows of {row} values, expected a multiple of {} for {dtype}",
            block.values()
        )));
    }
    let bytes = shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64)).and_then(|n| dtype.bytes_of(n));
    let Some(bytes) = bytes else { return Err(wrong(format!("the size of shape {shape:?} overflows 64 bits"))) };
    Ok((Entry { name, dtype, shape, begin: 0, bytes, view: super::tensor::View::Plain }, offset))
}

/// The same with its place in the file.
fn placed(entry: Entry, offset: u64, data: u64, len: u64, path: &Path) -> Result<Entry> {
    let begin = data.checked_add(offset);
    match begin.and_then(|begin| Some((begin, begin.checked_add(entry.bytes)?))) {
        Some((begin, end)) if end <= len => Ok(Entry { begin, ..entry }),
        _ => {
            let message = format!(
                "its {} bytes from {offset} on lie beyond the end of the file, which has {} bytes of data: cut short?",
                entry.bytes,
                len.saturating_sub(data)
            );
            Err(Error::tensor(path, &entry.name, message))
        }
    }
}

/// No two tensors share bytes.
fn apart(entries: &[Entry], path: &Path) -> Result<()> {
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| (entry.begin, entry.bytes));
    for pair in order.windows(2) {
        if pair[0].begin + pair[0].bytes > pair[1].begin {
            let message = format!("its bytes overlap those of {}", pair[0].name);
            return Err(Error::tensor(path, &pair[1].name, message));
        }
    }
    Ok(())
}
/// A GGUF file's `config.json` with the rotary scaling that its `rope_freqs.weight` stands for.
pub(super) fn rotary(mut config: Value, tensors: &[Tensor], shards: &[Shard]) -> Value {
    let theta = config.get("rope_theta").and_then(Value::as_f64).unwrap_or(10_000.0);
    let values = tensors.iter().find(|tensor| tensor.name == "rope_freqs.weight" && tensor.dtype == Dtype::F32);
    let values = values.and_then(|tensor| shards.get(tensor.shard)?.bytes(tensor.range()).ok());
    if let (Some(bytes), Some(object)) = (values.filter(|bytes| bytes.len() <= 1 << 16), config.as_object_mut()) {
        let factors: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        if object.contains_key("num_hidden_layers") && factors.iter().any(|&x| x != 1.0) {
            object.insert("rope_scaling".to_owned(), names::llama3(&factors, theta));
        }
    }
    config
}
