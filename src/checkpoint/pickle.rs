//! Files that `torch.save` writes (`adapter_model.bin`, `pytorch_model.bin`): a zip of a pickle and the tensors' bytes.
//!
//! The pickle is a program for a small stack machine. It is read here and never run: of the classes that it may name only those
//! that make up a dictionary of tensors are known, and every other one is refused. Objects lie in one list and are named by their
//! numbers, so that a pickle that copies or nests itself takes neither memory nor stack; their count is bounded. The tensors' bytes lie in the zip as they are
//! and are read from there like those of a `.safetensors` file.

use super::header::Entry;
use super::tensor::View;
use super::{Dtype, module::product};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

/// Longest pickle: a thousand tensors take some hundred kilobytes.
const LONGEST: u64 = 64 << 20;
/// Most entries of the zip.
const MOST: usize = 1 << 20;
/// Most objects of a pickle.
const OBJECTS: usize = 1 << 22;

/// The tensors of a file.
///
/// # Errors
/// When it is no zip that `torch.save` writes, its pickle names something else than tensors, or a tensor does not lie in the file
/// as its sizes say.
pub(super) fn entries(file: &File, path: &Path) -> Result<Vec<Entry>> {
    let wrong = |message: String| Error::file(path, message);
    let again = file.try_clone().map_err(|e| Error::read(path, "read", &e))?;
    let mut zip = ZipArchive::new(std::io::BufReader::new(again)).map_err(|_| wrong(no_zip(file)))?;
    if zip.len() > MOST {
        return Err(wrong(format!("found a zip of {} files, expected {MOST} at most", zip.len())));
    }
    let mut places = HashMap::new();
    let mut pickle = None;
    for at in 0..zip.len() {
        let part = zip.by_index(at).map_err(|e| wrong(format!("the zip cannot be read: {e}")))?;
        let name = part.name().map_err(|e| wrong(format!("the zip cannot be read: {e}")))?.into_owned();
        let plain = part.compression() == CompressionMethod::Stored;
        let place = part.data_start().filter(|_| plain).map(|begin| (begin, part.size()));
        if name.ends_with("/data.pkl") || name == "data.pkl" {
            let size = part.size();
            if size > LONGEST {
                return Err(wrong(format!("found a pickle of {size} bytes, expected {LONGEST} at most")));
            }
            let mut bytes = Vec::new();
            part.take(LONGEST).read_to_end(&mut bytes).map_err(|e| Error::read(path, "read", &e))?;
            let folder = name.strip_suffix("data.pkl").unwrap_or_default().to_owned();
            pickle = Some((folder, bytes));
        } else if let Some(place) = place {
            places.insert(name, place);
        }
    }
    let (folder, bytes) = pickle.ok_or_else(|| wrong("found a zip without data.pkl, expected torch.save's".into()))?;
    let mut machine = Machine::new(&bytes);
    let object = machine.run().map_err(wrong)?;
    let mut tensors = Vec::new();
    machine.collect(object, "", 0, &mut 0, &mut tensors).map_err(wrong)?;
    let mut seen = HashSet::new();
    let mut list = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let about = |message: String| Error::tensor(path, &name, message);
        if !seen.insert(name.clone()) {
            return Err(about("the name stands there twice".to_owned()));
        }
        let key = format!("{folder}data/{}", tensor.storage);
        let &(begin, length) = places.get(&key).ok_or_else(|| {
            about(format!("its values are not in the file: there is no {key} that is stored as it is"))
        })?;
        let size = tensor.dtype.size() as u64;
        let bytes = (product(&tensor.shape) as u64).checked_mul(size);
        let offset = tensor.offset.checked_mul(size);
        let end = bytes.zip(offset).and_then(|(bytes, offset)| bytes.checked_add(offset));
        match (bytes, offset, end) {
            (Some(bytes), Some(offset), Some(end)) if end <= length => list.push(Entry {
                name,
                dtype: tensor.dtype,
                shape: tensor.shape,
                begin: begin + offset,
                bytes,
                view: View::Plain,
            }),
            _ => return Err(about(format!("found {length} bytes, expected more for {:?}", tensor.shape))),
        }
    }
    Ok(list)
}

/// What a file is that is no zip.
fn no_zip(file: &File) -> String {
    use std::io::{Seek, SeekFrom};
    let mut begin = [0u8; 48];
    let mut file = file;
    let length = file.seek(SeekFrom::Start(0)).and_then(|_| file.read(&mut begin)).unwrap_or(0);
    let begin = &begin[..length];
    if let Some(pointer) = super::shard::pointer(begin) {
        return pointer.to_owned();
    }
    match begin {
        [0x80, 2, ..] => {
            "found a file by torch before 1.6, expected a zip: load and save it once with a newer torch".into()
        }
        _ => "found no zip, expected a file that torch.save wrote".into(),
    }
}

/// An object's place in the machine's list.
type Id = u32;

/// Objects that are there from the start.
const NOTHING: Id = 0;
const MARK: Id = 1;

/// An object of a pickle.
#[derive(Debug)]
enum Object {
    /// None, true, false, numbers with a point, lists: nothing that a tensor needs.
    Nothing,
    Mark,
    Int(i64),
    Text(String),
    Class(String),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage {
        dtype: Dtype,
        key: String,
    },
    Tensor(Tensor),
}

/// A tensor that a pickle speaks of.
#[derive(Clone, Debug)]
struct Tensor {
    dtype: Dtype,
    storage: String,
    /// In elements.
    offset: u64,
    shape: Vec<usize>,
}

type Said<T> = std::result::Result<T, String>;

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Vec<Object>,
    stack: Vec<Id>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, objects: vec![Object::Nothing, Object::Mark], stack: Vec::new(), memo: HashMap::new() }
    }

    fn take(&mut self, count: usize) -> Said<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or("the pickle ends too early")?;
        let part = &self.bytes[self.at..end];
        self.at = end;
        Ok(part)
    }

    /// A little-endian number of so many bytes.
    fn number(&mut self, bytes: usize) -> Said<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn key(&mut self, bytes: usize) -> Said<u32> {
        Ok(self.number(bytes)? as u32)
    }

    fn text(&mut self, length: u64) -> Said<Object> {
        let length = usize::try_from(length).map_err(|_| "the pickle ends too early")?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "the pickle holds a text that is not UTF-8")?;
        Ok(Object::Text(text.to_owned()))
    }

    fn line(&mut self) -> Said<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("the pickle ends too early")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "the pickle holds a text that is not UTF-8".into())
    }

    fn push(&mut self, object: Object) -> Said<()> {
        if self.objects.len() >= OBJECTS {
            return Err(format!("the pickle has more than {OBJECTS} objects, too many for a dictionary of tensors"));
        }
        self.stack.push(self.objects.len() as Id);
        self.objects.push(object);
        Ok(())
    }

    fn pop(&mut self) -> Said<Id> {
        self.stack.pop().ok_or_else(|| "the pickle takes from an empty stack".into())
    }

    fn object(&self, id: Id) -> &Object {
        self.objects.get(id as usize).unwrap_or(&Object::Nothing)
    }

    /// Everything above the last mark.
    fn above(&mut self) -> Said<Vec<Id>> {
        let mark = self.stack.iter().rposition(|&id| id == MARK).ok_or("the pickle lacks a mark")?;
        let above = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(above)
    }

    fn remember(&mut self, key: u32) -> Said<()> {
        let &top = self.stack.last().ok_or("the pickle takes from an empty stack")?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Said<()> {
        let &id = self.memo.get(&key).ok_or("the pickle recalls what it never kept")?;
        self.stack.push(id);
        Ok(())
    }

    fn dict(&mut self) -> Said<&mut Vec<(Id, Id)>> {
        let top = self.stack.last().copied().unwrap_or(NOTHING);
        match self.objects.get_mut(top as usize) {
            Some(Object::Dict(dict)) => Ok(dict),
            _ => Err("the pickle sets an item of something else than a dictionary".into()),
        }
    }

    fn run(&mut self) -> Said<Id> {
        loop {
            let [instruction] = self.take(1)? else { return Err("the pickle ends too early".into()) };
            match instruction {
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'(' => self.stack.push(MARK),
                b'N' | 0x88 | 0x89 | b']' => self.stack.push(NOTHING),
                b'J' => {
                    let value = self.number(4)? as u32 as i32;
                    self.push(Object::Int(value.into()))?;
                }
                b'K' => {
                    let value = self.number(1)?;
                    self.push(Object::Int(value as i64))?;
                }
                b'M' => {
                    let value = self.number(2)?;
                    self.push(Object::Int(value as i64))?;
                }
                0x8a => {
                    let length = self.number(1)? as usize;
                    let value = if length <= 8 { self.number(length)? } else { u64::MAX };
                    let value = i64::try_from(value).map_err(|_| "the pickle holds a number that is too large")?;
                    self.push(Object::Int(value))?;
                }
                b'G' => {
                    self.take(8)?;
                    self.stack.push(NOTHING);
                }
                b'X' => {
                    let length = self.number(4)?;
                    let text = self.text(length)?;
                    self.push(text)?;
                }
                0x8c => {
                    let length = self.number(1)?;
                    let text = self.text(length)?;
                    self.push(text)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Object::Class(class(module, name)?))?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Object::Text(module), Object::Text(name)) = (self.object(module), self.object(name)) else {
                        return Err("the pickle names a class by something else than texts".into());
                    };
                    let class = class(module, name)?;
                    self.push(Object::Class(class))?;
                }
                b')' => self.push(Object::Tuple(Vec::new()))?,
                b't' => {
                    let items = self.above()?;
                    self.push(Object::Tuple(items))?;
                }
                count @ 0x85..=0x87 => {
                    let from = self.stack.len().checked_sub(usize::from(count - 0x84));
                    let items = self.stack.split_off(from.ok_or("the pickle takes from an empty stack")?);
                    self.push(Object::Tuple(items))?;
                }
                b'a' => drop(self.pop()?),
                b'e' => drop(self.above()?),
                b'}' => self.push(Object::Dict(Vec::new()))?,
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.dict()?.push((key, value));
                }
                b'u' => {
                    let items = self.above()?;
                    self.dict()?.extend(items.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value)));
                }
                b'q' => {
                    let key = self.key(1)?;
                    self.remember(key)?;
                }
                b'r' => {
                    let key = self.key(4)?;
                    self.remember(key)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?,
                b'h' => {
                    let key = self.key(1)?;
                    self.recall(key)?;
                }
                b'j' => {
                    let key = self.key(4)?;
                    self.recall(key)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(storage)?;
                }
                b'R' => {
                    let (arguments, class) = (self.pop()?, self.pop()?);
                    let made = self.made(class, arguments, 0)?;
                    self.stack.push(made);
                }
                // The state of an object that exists: a dictionary's attributes, such as `_metadata`.
                b'b' => drop(self.pop()?),
                other => {
                    return Err(format!(
                        "the pickle has an instruction {other:#04x}, which a dictionary of tensors does not need"
                    ));
                }
            }
        }
    }

    /// `("storage", class, key, device, elements)`.
    fn storage(&self, id: Id) -> Said<Object> {
        if let Object::Tuple(items) = self.object(id)
            && let [word, class, key, ..] = items[..]
            && let (Object::Text(word), Object::Class(class), Object::Text(key)) =
                (self.object(word), self.object(class), self.object(key))
            && word == "storage"
            && let Some(dtype) = kind(class)
        {
            return Ok(Object::Storage { dtype, key: key.clone() });
        }
        Err("the pickle names a storage of a type that is not known here".into())
    }

    /// What a class makes of its arguments.
    fn made(&mut self, class: Id, arguments: Id, depth: usize) -> Said<Id> {
        let (Object::Class(name), Object::Tuple(items)) = (self.object(class), self.object(arguments)) else {
            return Err("the pickle calls what is no class".into());
        };
        let object = match (name.as_str(), &items[..]) {
            ("collections.OrderedDict", _) => Object::Dict(Vec::new()),
            ("torch._utils._rebuild_parameter", [tensor, ..]) => return Ok(*tensor),
            ("torch._tensor._rebuild_from_type_v2", &[class, _, arguments, ..]) if depth == 0 => {
                return self.made(class, arguments, depth + 1);
            }
            ("torch._utils._rebuild_tensor_v2", &[storage, offset, shape, strides, ..]) => {
                let (Object::Storage { dtype, key }, Object::Int(offset)) = (self.object(storage), self.object(offset))
                else {
                    return Err("a tensor is not described as torch describes one".into());
                };
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                if !dense(&shape, &strides) {
                    return Err(format!(
                        "a tensor of {shape:?} is stored with steps {strides:?}, expected its rows one after the other"
                    ));
                }
                let offset = u64::try_from(*offset).map_err(|_| "a tensor begins before its storage")?;
                Object::Tensor(Tensor { dtype: *dtype, storage: key.clone(), offset, shape })
            }
            ("torch._utils._rebuild_tensor_v2", _) => {
                return Err("a tensor is not described as torch describes one".into());
            }
            _ => return Ok(NOTHING),
        };
        self.push(object)?;
        self.pop()
    }

    fn sizes(&self, id: Id) -> Said<Vec<usize>> {
        let Object::Tuple(items) = self.object(id) else { return Err("a tensor has no sizes".into()) };
        let size = |&id: &Id| match self.object(id) {
            Object::Int(size) => usize::try_from(*size).map_err(|_| "a tensor has a negative size".to_owned()),
            _ => Err("a tensor has a size that is no number".into()),
        };
        items.iter().map(size).collect()
    }

    /// Tensors of nested dictionaries (`{"model": {…}}`), their keys joined by dots.
    fn collect(
        &self,
        id: Id,
        before: &str,
        depth: usize,
        steps: &mut usize,
        found: &mut Vec<(String, Tensor)>,
    ) -> Said<()> {
        /// Deeper than any checkpoint is.
        const DEEPEST: usize = 4;
        let Object::Dict(dict) = self.object(id) else { return Ok(()) };
        for &(key, value) in dict {
            *steps += 1;
            if *steps > MOST {
                return Err(format!("its dictionaries have more than {MOST} entries"));
            }
            let Object::Text(key) = self.object(key) else { continue };
            let wrapper = depth == 0 && ["state_dict", "model", "module"].contains(&key.as_str());
            let name = match (wrapper, before.is_empty()) {
                (true, _) => String::new(),
                (false, true) => key.clone(),
                (false, false) => format!("{before}.{key}"),
            };
            match self.object(value) {
                Object::Tensor(tensor) => found.push((name, tensor.clone())),
                Object::Dict(_) if depth < DEEPEST => self.collect(value, &name, depth + 1, steps, found)?,
                Object::Dict(_) => return Err("its dictionaries are nested too deep".into()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether values lie row after row.
fn dense(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    let mut fits = |(&size, &stride): (&usize, &usize)| {
        let fits = stride == expected || size <= 1;
        expected = expected.saturating_mul(size.max(1));
        fits
    };
    shape.len() == strides.len() && shape.iter().zip(strides).rev().all(&mut fits)
}

/// Classes of which a dictionary of tensors is made.
const CLASSES: [&str; 9] = [
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch._tensor._rebuild_from_type_v2",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.Size",
    "torch.device",
    "torch.storage.UntypedStorage",
];

fn class(module: &str, name: &str) -> Said<String> {
    let full = format!("{module}.{name}");
    if CLASSES.contains(&full.as_str()) || kind(&full).is_some() {
        return Ok(full);
    }
    let full: String = full.chars().take(80).filter(|c| !c.is_control()).collect();
    Err(format!(
        "its pickle asks for {full}, which no dictionary of tensors needs: it is refused, nothing of it was run"
    ))
}

/// The type of a storage's values.
fn kind(class: &str) -> Option<Dtype> {
    Some(match class.strip_prefix("torch.")? {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "Float8_e4m3fnStorage" => Dtype::F8E4M3,
        "Float8_e5m2Storage" => Dtype::F8E5M2,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8]) -> Said<Id> {
        Machine::new(bytes).run()
    }

    #[test]
    fn nothing_is_run() {
        let error = run(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap_err();
        assert!(error.contains("posix.system") && error.contains("refused"), "{error}");
        assert!(run(b"\x80\x02").unwrap_err().contains("too early"));
        assert!(run(b"\x80\x02R.").is_err());
        assert!(run(b"h\x07.").unwrap_err().contains("recalls"));
    }

    /// Forty tuples of two of the tuple before: 2^40 objects if they were copied.
    #[test]
    fn what_copies_itself_is_shared() {
        let mut bytes = b"\x80\x02)q\x00".to_vec();
        for step in 0..40u8 {
            bytes.extend([b'h', step, b'h', step, 0x86, b'q', step + 1]);
        }
        bytes.push(b'.');
        assert!(run(&bytes).is_ok());
        // A million dictionaries, each in the next.
        let nested: Vec<u8> = std::iter::repeat_n(b"}X\x00\x00\x00\x00", 1_000_000).flatten().copied().collect();
        let nested = [nested, b"N".to_vec(), vec![b's'; 1_000_000], b".".to_vec()].concat();
        assert!(run(&nested).is_ok());
    }
}
