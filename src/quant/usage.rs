//! [`Usage`]: where the weights lie in their blocks' ranges, beside the levels that they may take.

use super::fit::{Fit, Levels};
use rayon::prelude::*;

/// How weights are spread over the range of their blocks, and how often each level is taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Counts in equal bins over `range`.
    pub bins: Vec<u64>,
    /// −1…1 of the block's largest magnitude, 0…1 from its minimum to its maximum; of the whole weight's largest magnitude where
    /// there are no blocks.
    pub range: [f32; 2],
    /// The levels, where they are the same in every block.
    pub levels: Option<Levels>,
    /// Counts of the levels.
    pub taken: Vec<u64>,
    /// Weights that were counted.
    pub counted: u64,
    /// All weights.
    pub count: u64,
}

/// Weights that are counted at most.
const MOST: usize = 1 << 22;
/// A stretch of neighbours that are counted together.
const STRETCH: usize = 1 << 12;

impl Usage {
    /// Bins of the histogram.
    pub const BINS: usize = 160;

    /// Counts the weights, evenly spaced stretches of them where there are more than four million.
    pub fn new(values: &[f32], fit: &Fit) -> Self {
        let levels = fit.levels();
        let low = if levels.as_ref().is_some_and(|levels| levels.from_minimum) { 0.0 } else { -1.0f32 };
        let blocks = values.first().is_some_and(|&x| fit.share(0, x).is_some());
        let largest = if blocks { 1.0 } else { values.iter().fold(0f32, |a, x| a.max(x.abs())).max(f32::MIN_POSITIVE) };
        let stretches = values.len().div_ceil(STRETCH);
        let every = values.len().div_ceil(MOST).max(1);
        let thresholds = levels.as_ref().map_or(&[][..], |levels| &levels.thresholds);
        let scale = Self::BINS as f32 / (1.0 - low);
        let empty = || (vec![0u64; Self::BINS], vec![0u64; thresholds.len() + 1]);
        let (bins, taken) = (0..stretches.div_ceil(every))
            .into_par_iter()
            .with_min_len(8)
            .fold(empty, |(mut bins, mut taken), index| {
                let start = index * every * STRETCH;
                let end = (start + STRETCH).min(values.len());
                for (at, &x) in (start..end).zip(&values[start..end]) {
                    let share = fit.share(at, x).unwrap_or(x / largest);
                    bins[(((share - low) * scale).max(0.0) as usize).min(Self::BINS - 1)] += 1;
                    taken[thresholds.partition_point(|&edge| edge < share)] += 1;
                }
                (bins, taken)
            })
            .reduce(empty, |(mut a, mut taken), (b, more)| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                taken.iter_mut().zip(more).for_each(|(a, b)| *a += b);
                (a, taken)
            });
        let counted = bins.iter().sum();
        let taken = if levels.is_some() { taken } else { Vec::new() };
        Self { bins, range: [low, 1.0], levels, taken, counted, count: values.len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Format, Group, Recipe};

    #[test]
    fn every_weight_is_counted_once() {
        let values: Vec<f32> = (0..64 * 40).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 504.0).collect();
        for format in Format::ALL {
            let shape = if Recipe::new(format).problem([64, 40]).is_none() { [64, 40] } else { [10, 256] };
            let fit = Fit::new(&values, shape, Recipe::new(format)).unwrap();
            let usage = Usage::new(&values, &fit);
            assert_eq!(usage.counted, 64 * 40, "{format}");
            assert_eq!(usage.taken.iter().sum::<u64>(), if usage.levels.is_some() { 64 * 40 } else { 0 }, "{format}");
        }
    }

    #[test]
    fn levels_are_those_of_the_format() {
        let recipe = Recipe::with(Format::Int4Symmetric, Group::Tensor, false);
        let usage = Usage::new(&[1.0, -1.0, 0.0, 0.13], &Fit::new(&[1.0, -1.0, 0.0, 0.13], [2, 2], recipe).unwrap());
        let levels = usage.levels.unwrap();
        assert_eq!((levels.levels.len(), levels.levels[0], levels.levels[14]), (15, -1.0, 1.0));
        assert!((levels.thresholds[7] - 1.0 / 14.0).abs() < 1e-7);
        assert_eq!((usage.taken[0], usage.taken[7], usage.taken[8], usage.taken[14]), (1, 1, 1, 1));
        let fit = Fit::new(&[1.0, -1.0, 0.0, 0.13], [2, 2], Recipe::new(Format::Fp4)).unwrap();
        assert_eq!(fit.levels().unwrap().levels.len(), 15, "two zeros are one level");
    }
}
