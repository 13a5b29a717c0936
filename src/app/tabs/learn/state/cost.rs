//! Chapter 2: what training keeps for each parameter, for a model of any size, against real GPUs.

use crate::error::Result;
use crate::plan::{Layout, Selection, Targets, of_sizes};
use crate::quant::Scheme;

/// Blocks of the smallest and the largest model.
pub const BLOCKS: std::ops::RangeInclusive<usize> = 17..=127;
/// Rank of the adapters here.
pub const RANK: usize = 16;
/// The GPU of the goal.
pub const GPU: u64 = 80 << 30;

/// A model of some size, and what each way of tuning it keeps.
pub struct Cost {
    blocks: usize,
    parameters: u64,
    memory: Result<[Kept; 3]>,
}

impl Default for Cost {
    fn default() -> Self {
        Self::of(22)
    }
}

impl Cost {
    /// A model of so many blocks.
    pub fn of(blocks: usize) -> Self {
        let blocks = blocks.clamp(*BLOCKS.start(), *BLOCKS.end());
        let layout = layout(blocks);
        let memory = memories(&layout);
        Self { blocks, parameters: layout.parameters, memory }
    }

    /// Its blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Its parameters.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Full, LoRA, QLoRA.
    pub fn memory(&self) -> &Result<[Kept; 3]> {
        &self.memory
    }

    /// Full tuning fits the GPU, and would not fit one much smaller.
    pub fn reached(&self) -> bool {
        self.memory.as_ref().is_ok_and(|[full, ..]| (GPU / 10 * 9..=GPU).contains(&full.total()))
    }
}

/// Bytes that follow from the parameters alone: everything but activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// All weights of the base, as they are kept.
    pub weights: u64,
    /// A and B.
    pub adapters: u64,
    /// One for each number that moves.
    pub gradients: u64,
    /// Adam's two averages.
    pub optimizer: u64,
}

impl Kept {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.adapters + self.gradients + self.optimizer
    }
}

/// Bytes of a weight and of a gradient, in 16 bit.
const HALF: u64 = 2;
/// Bytes of Adam's two averages, in 32 bit.
const MOMENTS: u64 = 8;

/// Parameters of a model of so many blocks.
pub fn parameters(blocks: usize) -> u64 {
    layout(blocks).parameters
}

/// A Llama-shaped model that is 128 times as wide as it is deep, as LLaMA 7B and GPT-3 175B are: `12 · 128² · blocks³` parameters
/// and the embeddings.
fn layout(blocks: usize) -> Layout {
    let hidden = 128 * blocks;
    // Three matrices of 8/3 d are as large as two of 4 d.
    let ffn = (hidden * 8 / 3).next_multiple_of(128);
    of_sizes(&format!("{blocks} blocks"), "llama", [hidden, ffn, blocks, blocks, blocks, 32_000], "")
}

fn memories(layout: &Layout) -> Result<[Kept; 3]> {
    let all = layout.parameters;
    let adapter = Selection::new(layout, &Targets::AllLinear)?.count(RANK)?.trainable;
    let full = Kept { weights: HALF * all, adapters: 0, gradients: HALF * all, optimizer: MOMENTS * all };
    let lora =
        Kept { weights: HALF * all, adapters: HALF * adapter, gradients: HALF * adapter, optimizer: MOMENTS * adapter };
    // Codes of 4 bits; a scale in 8 bits for each block, and one in 32 for 256 of those: N (4 + 8/B + 32/(256 B)) / 8.
    let linear = layout.linear_parameters();
    let block = Scheme::default().blocksize as f64;
    let packed = (linear as f64 * (4.0 + 8.0 / block + 32.0 / (256.0 * block)) / 8.0) as u64;
    let qlora = Kept { weights: packed + HALF * (all - linear), ..lora };
    Ok([full, lora, qlora])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_bytes_for_each_parameter_that_moves() {
        let cost = Cost::of(32);
        let [full, lora, qlora] = cost.memory().as_ref().unwrap();
        // Weight and gradient in 16 bit, two moments in 32.
        assert_eq!(full.total(), 12 * cost.parameters());
        assert!(lora.total() < 3 * cost.parameters() && lora.total() > 2 * cost.parameters());
        assert!(qlora.total() < cost.parameters());
        assert!(cost.reached(), "{}", full.total());
        assert!(!Cost::of(33).reached());
    }

    #[test]
    fn the_slider_goes_from_one_to_four_hundred_billion() {
        assert!((0.9e9..1.2e9).contains(&(parameters(*BLOCKS.start()) as f64)));
        assert!((3.9e11..4.3e11).contains(&(parameters(*BLOCKS.end()) as f64)));
        // 32 blocks are LLaMA 7B, 96 are as many as GPT-3 has.
        assert!((parameters(32) as f64 / 6.74e9 - 1.0).abs() < 0.02);
        assert!((parameters(96) as f64 / 1.746e11 - 1.0).abs() < 0.03);
    }
}
