//! [`Tensor`]: one tensor as it is stored, and what the tensors of a checkpoint must agree on.

use super::Dtype;
use super::folder::Index;
use super::four_bit::State;
use super::module::product;
use super::shard::Shard;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::ops::Range;

/// How stored values become those that the name stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// They are those.
    #[default]
    Plain,
    /// Rows of so many heads, each stored as (0, d/2, 1, d/2 + 1, …): llama.cpp's order for rotary positions.
    Heads(usize),
    /// They are 1 too large: llama.cpp adds to a norm's scales what transformers adds when it uses them.
    LessOne,
}

impl View {
    /// Where row `row` of `rows` is stored.
    pub(crate) fn stored_row(self, row: usize, rows: usize) -> usize {
        match self {
            Self::Heads(heads) => {
                let size = rows / heads;
                let (head, at) = (row / size, row % size);
                head * size + at % (size / 2) * 2 + at / (size / 2)
            }
            _ => row,
        }
    }
}

/// One tensor as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Sizes as stored, outermost first.
    pub shape: Vec<usize>,
    /// Length in bytes.
    pub bytes: u64,
    pub(super) shard: usize,
    pub(super) begin: u64,
    pub(super) view: View,
}

impl Tensor {
    /// Product of the sizes, which the header's check has found to fit.
    pub fn elements(&self) -> u64 {
        product(&self.shape) as u64
    }

    /// Where it lies in its file. The header was checked against the length of the file, which is mapped whole, so
    /// both ends fit.
    pub(super) fn range(&self) -> Range<usize> {
        self.begin as usize..(self.begin + self.bytes) as usize
    }
}

/// Positions by name; a name in two shards is an error.
pub(super) fn by_name(tensors: &[Tensor], shards: &[Shard]) -> Result<HashMap<String, usize>> {
    let mut names = HashMap::with_capacity(tensors.len());
    for (at, tensor) in tensors.iter().enumerate() {
        if let Some(other) = names.insert(tensor.name.clone(), at) {
            let other: &Tensor = &tensors[other];
            let message =
                format!("the tensor is also in {}, expected it in one of them", shards[other.shard].path().display());
            return Err(Error::tensor(shards[tensor.shard].path(), &tensor.name, message));
        }
    }
    Ok(names)
}

/// Every tensor of the index is in the shard that the index names.
pub(super) fn agrees(
    index: &Index,
    by_name: &HashMap<String, usize>,
    tensors: &[Tensor],
    shards: &[Shard],
) -> Result<()> {
    for (name, shard) in &index.tensors {
        let found = by_name.get(name).map(|&at| tensors[at].shard);
        if found != Some(*shard) {
            let index = index.path.file_name().unwrap_or_default().to_string_lossy();
            let message = format!("the tensor is not in this shard, where {index} says it is");
            return Err(Error::tensor(shards[*shard].path(), name, message));
        }
    }
    Ok(())
}

/// The 4-bit weights: by position of the codes, what their states say.
pub(super) fn states(
    tensors: &[Tensor],
    by_name: &HashMap<String, usize>,
    shards: &[Shard],
) -> Result<HashMap<usize, State>> {
    /// Real states are under 300 bytes.
    const LONGEST: u64 = 65536;
    let mut states = HashMap::new();
    for tensor in tensors {
        let Some((weight, _)) = tensor.name.split_once(".quant_state.bitsandbytes__") else { continue };
        let wrong = |message: String| Error::tensor(shards[tensor.shard].path(), &tensor.name, message);
        let Some(&weight) = by_name.get(weight) else { return Err(wrong(format!("its weight {weight} is not there"))) };
        if tensor.bytes > LONGEST {
            return Err(wrong(format!("found {} bytes, expected a few hundred", tensor.bytes)));
        }
        let state = State::parse(shards[tensor.shard].bytes(tensor.range())?).map_err(wrong)?;
        states.insert(weight, state);
    }
    Ok(states)
}
