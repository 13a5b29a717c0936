//! GGUF files as they are written: pairs of key and value, descriptions, and one tensor at a time.

use super::{BlockType, MAGIC};
use crate::checkpoint::Dtype;
use crate::checkpoint::write::{Pieces, write_pieces};
use crate::error::{Error, Result};
use crate::progress::Progress;
use std::path::Path;

/// The version of the format, and the boundary that tensors begin at.
const VERSION: u32 = 3;
const ALIGNMENT: usize = 32;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    I32s(Vec<i32>),
    U32s(Vec<u32>),
    F32s(Vec<f32>),
    Texts(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A tensor that will be made when its turn comes.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) name: String,
    /// Outermost first.
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
}

impl Planned {
    /// Bytes in the file.
    pub(crate) fn bytes(&self) -> usize {
        let values: usize = self.shape.iter().product();
        match self.dtype {
            Dtype::Block(block) => values / block.values() * block.bytes(),
            dtype => values * dtype.size(),
        }
    }
}

/// The number of a type in the format.
fn kind(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F16 => 1,
        Dtype::BF16 => 30,
        Dtype::Block(block) => BlockType::id(block),
        _ => 0,
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Value {
    fn number(&self) -> u32 {
        match self {
            Self::U32(_) => 4,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::I32s(_) | Self::U32s(_) | Self::F32s(_) | Self::Texts(_) => 9,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let list = |out: &mut Vec<u8>, kind: u32, count: usize| {
            out.extend(kind.to_le_bytes());
            out.extend((count as u64).to_le_bytes());
        };
        match self {
            Self::U32(x) => out.extend(x.to_le_bytes()),
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::Bool(x) => out.push(u8::from(*x)),
            Self::Text(x) => text(out, x),
            Self::I32s(all) => {
                list(out, 5, all.len());
                out.extend(all.iter().flat_map(|x| x.to_le_bytes()));
            }
            Self::U32s(all) => {
                list(out, 4, all.len());
                out.extend(all.iter().flat_map(|x| x.to_le_bytes()));
            }
            Self::F32s(all) => {
                list(out, 6, all.len());
                out.extend(all.iter().flat_map(|x| x.to_le_bytes()));
            }
            Self::Texts(all) => {
                list(out, 8, all.len());
                all.iter().for_each(|one| text(out, one));
            }
        }
    }
}

/// Writes a file, whole or not at all; `make` gives the bytes of a tensor. Gives its size.
///
/// # Errors
/// What `make` says, cancellation, bytes of another count than planned, and when the file cannot be written.
pub(crate) fn write(
    path: &Path,
    pairs: &[(String, Value)],
    tensors: &[Planned],
    progress: &dyn Progress,
    make: &mut Pieces<'_>,
) -> Result<u64> {
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        text(&mut head, key);
        head.extend(value.number().to_le_bytes());
        value.put(&mut head);
    }
    let mut offset = 0usize;
    for tensor in tensors {
        text(&mut head, &tensor.name);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|&size| head.extend((size as u64).to_le_bytes()));
        head.extend(kind(tensor.dtype).to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    let size = (head.len() + offset) as u64;
    write_pieces(path, tensors.len() + 1, progress, &mut |at, still| {
        let Some((at, tensor)) = at.checked_sub(1).map(|at| (at, &tensors[at])) else {
            return Ok(std::mem::take(&mut head));
        };
        let mut bytes = make(at, still)?;
        if bytes.len() != tensor.bytes() {
            let message = format!("{} bytes were made, {} planned", bytes.len(), tensor.bytes());
            return Err(Error::tensor(path, &tensor.name, message));
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        Ok(bytes)
    })?;
    Ok(size)
}
