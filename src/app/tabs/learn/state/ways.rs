//! Chapter 1: what the data teach, which numbers may move, and what many tuned versions of one base take on a disk.

use crate::error::Result;
use crate::plan::{Layout, Selection, Targets};

/// What the new data are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// Texts of a field.
    #[default]
    Domain,
    /// Prompts with wanted completions.
    Task,
}

/// Which numbers may move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moving {
    /// All of them.
    #[default]
    All,
    /// Those of an adapter.
    Adapter,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Other data.
    Data(Data),
    /// Other numbers move.
    Moving(Moving),
    /// So many tuned versions.
    Versions(usize),
}

/// Rank of the adapters here.
pub const RANK: usize = 8;
/// The most versions.
pub const MOST: usize = 40;
/// Versions that are to be kept, and the disk for them.
const WANTED: usize = 20;
/// The disk, in bytes.
pub const DISK: u64 = 40_000_000_000;

/// The chapter's choices, and the sizes of LLaMA 7B that they are about.
pub struct Ways {
    /// What the data are.
    pub data: Data,
    /// What moves.
    pub moving: Moving,
    /// Tuned versions.
    pub versions: usize,
    /// All parameters of the base, and those of an adapter.
    sizes: Result<[u64; 2]>,
}

impl Default for Ways {
    fn default() -> Self {
        Self { data: Data::default(), moving: Moving::default(), versions: 3, sizes: sizes() }
    }
}

fn sizes() -> Result<[u64; 2]> {
    let layout = Layout::preset("llama-7b")?;
    let adapter = Selection::new(&layout, &Targets::AllLinear)?.count(RANK)?;
    Ok([layout.parameters, adapter.trainable])
}

impl Ways {
    /// Takes in what was asked for.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Data(data) => self.data = data,
            Edit::Moving(moving) => self.moving = moving,
            Edit::Versions(versions) => self.versions = versions.clamp(1, MOST),
        }
    }

    /// All parameters of the base, and those that move.
    pub fn parameters(&self) -> [u64; 2] {
        let [all, adapter] = *self.sizes.as_ref().unwrap_or(&[0, 0]);
        match self.moving {
            Moving::All => [all, all],
            Moving::Adapter => [all, adapter],
        }
    }

    /// Bytes of the base that the versions need beside themselves, and of one version, in 16 bit. A fully tuned version stands
    /// by itself.
    pub fn bytes(&self) -> [u64; 2] {
        let [all, moving] = self.parameters();
        match self.moving {
            Moving::All => [0, 2 * all],
            Moving::Adapter => [2 * all, 2 * moving],
        }
    }

    /// Bytes of everything.
    pub fn total(&self) -> u64 {
        let [base, version] = self.bytes();
        base + version * self.versions as u64
    }

    /// Bytes of memory that hold twenty versions at once, in 16 bit: each tuned whole; one base with twenty adapters.
    pub fn serving(&self) -> [u64; 2] {
        let [all, adapter] = *self.sizes.as_ref().unwrap_or(&[0, 0]);
        [2 * all * WANTED as u64, 2 * (all + adapter * WANTED as u64)]
    }

    /// Bytes of LLaMA 7B in 16 bits and in QLoRA's 4, and of an adapter in 16.
    pub fn phone(&self) -> [u64; 3] {
        let [all, adapter] = *self.sizes.as_ref().unwrap_or(&[0, 0]);
        let bits = 4.0 + 8.0 / 64.0 + 32.0 / (256.0 * 64.0);
        [2 * all, (all as f64 * bits / 8.0) as u64, 2 * adapter]
    }

    /// Enough versions on the disk.
    pub fn reached(&self) -> bool {
        self.versions >= WANTED && self.total() > 0 && self.total() <= DISK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_do_not_change_the_bytes_and_the_adapter_does() {
        let mut ways = Ways::default();
        // LLaMA 7B has 6,738,415,616 parameters; r (in + out) over its linear layers is 2,498,560 for each unit of rank.
        assert_eq!(ways.parameters(), [6_738_415_616; 2]);
        let before = ways.total();
        ways.edit(Edit::Data(Data::Task));
        assert_eq!((ways.total(), before), (before, 3 * 2 * 6_738_415_616));
        ways.edit(Edit::Versions(20));
        assert!(!ways.reached());
        ways.edit(Edit::Moving(Moving::Adapter));
        assert_eq!(ways.bytes(), [2 * 6_738_415_616, 2 * 8 * 2_498_560]);
        assert!(ways.reached());
        // On a disk or in memory, twenty adapters take the same.
        assert_eq!(ways.serving(), [40 * 6_738_415_616, ways.total()]);
    }
}
