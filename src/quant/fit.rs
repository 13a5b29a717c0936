//! [`Fit`]: the scales that a recipe gives a weight. Codes and rounded values follow from them and the weight, wherever they are
//! looked at: nothing as large as the weight is kept.
//!
//! ```text
//! w ─ blocks ─ [min, max] ─ Scale { inverse, scale, low, zero } ─┬─ code(at, w)
//!                                                               └─ read(w, range) = ŵ
//! ```

use super::formats::{Encoding, Format, casts, e2m1};
use super::ladder;
use super::nested::Nested;
use super::recipe::{Group, Recipe};
use super::steps;
use crate::error::{Error, Result};
use crate::units;
use rayon::prelude::*;
use std::ops::Range;

/// What a block shares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Scale {
    /// Values are multiplied by it before they are rounded.
    pub inverse: f32,
    /// Codes are multiplied by it.
    pub scale: f32,
    /// Subtracted first.
    pub low: f32,
    /// Added at last.
    pub zero: f32,
}

/// A weight's scales.
#[derive(Clone, Debug)]
pub struct Fit {
    recipe: Recipe,
    shape: [usize; 2],
    /// Weights of a block; all of them where there are no blocks.
    block: usize,
    encoding: Encoding,
    scales: Vec<Scale>,
}

/// The levels of a block and the thresholds between them, as shares of the block's range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// What codes stand for, rising.
    pub levels: Vec<f32>,
    /// Where one level gives way to the next.
    pub thresholds: Vec<f32>,
    /// True when the shares run from 0 (the minimum) to 1 (the maximum), not from −1 to 1 of the largest magnitude.
    pub from_minimum: bool,
}

/// Everything about one cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellCode {
    /// The code, where it is a number.
    pub code: Option<i32>,
    /// Number of the block; `None` where every value stands by itself.
    pub block: Option<usize>,
    /// The block's scale: its absmax for NF4 and FP4, the step for evenly spaced levels.
    pub scale: Option<f32>,
    /// What is added to every value of the block.
    pub zero: Option<f32>,
}

/// Values that one thread takes at a time.
const PIECE: usize = 1 << 16;

impl Fit {
    /// Finds the scales of row-major values.
    ///
    /// # Errors
    /// When the values do not fill the shape or a weight of this shape cannot be written so.
    pub fn new(values: &[f32], shape: [usize; 2], recipe: Recipe) -> Result<Self> {
        if values.len() != shape[0] * shape[1] {
            let shape = units::shape(&shape);
            return Err(Error::failure(format!("{} values do not fill a weight of {shape}", values.len())));
        }
        if let Some(problem) = recipe.problem(shape) {
            return Err(Error::usage(problem));
        }
        let encoding = recipe.format.encoding();
        let block = recipe.block(shape).unwrap_or(values.len()).max(1);
        let scales = match encoding {
            Encoding::Cast { .. } | Encoding::Blocks(_) => Vec::new(),
            _ => scales(values, block, recipe),
        };
        Ok(Self { recipe, shape, block, encoding, scales })
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// What it was made with.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// Weights that share a scale; `None` where every value stands by itself.
    pub fn block(&self) -> Option<usize> {
        self.recipe.block(self.shape)
    }

    /// Bits per weight, everything stored counted.
    pub fn bits(&self) -> f64 {
        self.recipe.bits(self.shape)
    }

    /// `ŵ` of the places `range` of the flattened weight `values`.
    pub fn read(&self, values: &[f32], range: Range<usize>, out: &mut [f32]) {
        let part = &values[range.clone()];
        match self.encoding {
            Encoding::Ladder(kind) => {
                ladder::read(kind, &self.scales, self.block, values.len(), range.start, part, out)
            }
            Encoding::Steps(steps) => steps::read(steps, &self.scales, self.block, range.start, part, out),
            Encoding::E2m1(even) => e2m1::read(&self.scales, self.block, even, range.start, part, out),
            Encoding::ScaledFp8 => self.scaled(range.start, part, out),
            Encoding::Cast { round, .. } => round(part, out),
            Encoding::Blocks(round) => {
                // Whole blocks: what lies around the range is made too, and left out.
                let start = range.start / self.block * self.block;
                let end = range.end.next_multiple_of(self.block).min(values.len());
                if (start, end) == (range.start, range.end) {
                    return round(part, out);
                }
                let mut whole = vec![0f32; end - start];
                round(&values[start..end], &mut whole);
                out.copy_from_slice(&whole[range.start - start..range.end - start]);
            }
        }
    }

    fn scaled(&self, at: usize, values: &[f32], out: &mut [f32]) {
        let mut done = 0;
        while done < values.len() {
            let number = (at + done) / self.block;
            let end = ((number + 1) * self.block - at).min(values.len());
            let Scale { inverse, scale, .. } = self.scales[number];
            casts::fp8(&values[done..end], inverse, scale, &mut out[done..end]);
            done = end;
        }
    }

    /// The whole weight, by all threads.
    pub fn dequantize(&self, values: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; values.len()];
        // Pieces of whole super-blocks.
        out.par_chunks_mut(PIECE).enumerate().for_each(|(index, out)| {
            let at = index * PIECE;
            self.read(values, at..at + out.len(), out);
        });
        out
    }

    /// The code and the block of place `at`, whose value is `value`.
    pub fn cell(&self, at: usize, value: f32) -> CellCode {
        let block = self.block().map(|block| at / block.max(1));
        let scale = block.and_then(|block| self.scales.get(block)).copied();
        let code = match (self.encoding, scale) {
            (Encoding::Ladder(kind), Some(scale)) => {
                let code = kind.ladder().code(ladder::share(value, &scale, self.is_short(at)));
                Some(i32::from(code))
            }
            (Encoding::Steps(steps), Some(scale)) => Some(steps.code(value, &scale) as i32),
            (Encoding::E2m1(even), Some(scale)) => Some(i32::from(e2m1::code(value, &scale, even))),
            (Encoding::ScaledFp8, Some(scale)) => {
                Some(i32::from(casts::fp8_code(casts::nearest_fp8(value * scale.inverse))))
            }
            (Encoding::Cast { code, .. }, _) => Some(code(value)),
            _ => None,
        };
        let has_zero = self.recipe.format.has_zero();
        CellCode {
            code,
            block,
            scale: scale.map(|scale| scale.scale),
            zero: scale.filter(|_| has_zero).map(|scale| scale.zero),
        }
    }

    /// The same codes with steps of one: two weights have the same code where these have the same value.
    pub fn in_units(&self) -> Self {
        let unit = |scale: &Scale| match self.encoding {
            // The last number is the divisor of a short block.
            Encoding::Ladder(_) => Scale { scale: 1.0, ..*scale },
            _ => Scale { scale: 1.0, zero: 0.0, ..*scale },
        };
        Self { scales: self.scales.iter().map(unit).collect(), ..self.clone() }
    }

    /// True in a last block that is shorter than the others.
    fn is_short(&self, at: usize) -> bool {
        (at / self.block + 1) * self.block > self.shape[0] * self.shape[1]
    }

    /// Where a value stands in its block's range: see [`Levels`]. `None` where there are no blocks to stand in.
    pub fn share(&self, at: usize, value: f32) -> Option<f32> {
        let scale = self.scales.get(at / self.block)?;
        let place = (value - scale.low) * scale.inverse;
        match self.encoding {
            Encoding::Ladder(_) => Some(ladder::share(value, scale, self.is_short(at))),
            Encoding::Steps(steps) => Some(place / steps.reach),
            Encoding::E2m1(_) => Some((place / e2m1::LEVELS[7]).clamp(-1.0, 1.0)),
            Encoding::ScaledFp8 => Some(place / casts::FP8_MAX),
            Encoding::Cast { .. } | Encoding::Blocks(_) => None,
        }
    }

    /// The levels that a code may stand for, as shares of a block's range. `None` where they are not the same in every block.
    pub fn levels(&self) -> Option<Levels> {
        let (levels, from_minimum): (Vec<f32>, bool) = match self.encoding {
            Encoding::Ladder(kind) => {
                let mut levels = kind.levels().to_vec();
                levels.sort_by(f32::total_cmp);
                // FP4 has two zeros.
                levels.dedup_by(|a, b| *a == *b);
                (levels, false)
            }
            Encoding::Steps(steps) => {
                let codes = steps.least as i32..=steps.most as i32;
                let levels = codes.map(|code| (code as f32 - steps.center) / steps.reach).collect();
                (levels, self.recipe.format.has_zero())
            }
            Encoding::E2m1(_) => {
                let most = e2m1::LEVELS[7];
                let below = e2m1::LEVELS[1..].iter().rev().map(|level| -level / most);
                (below.chain(e2m1::LEVELS.iter().map(|level| level / most)).collect(), false)
            }
            _ => return None,
        };
        let thresholds = levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        Some(Levels { levels, thresholds, from_minimum })
    }

    /// The scales of llama.cpp's formats, for writing them down: `inverse`, `scale`, `low`, `zero` of each block.
    pub(super) fn scales(&self) -> &[Scale] {
        &self.scales
    }

    /// How codes come from scales, likewise.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }
}

/// One scale a block.
fn scales(values: &[f32], block: usize, recipe: Recipe) -> Vec<Scale> {
    let mut ends = extremes(values, block);
    if recipe.format == Format::Q4_0 {
        // The value of largest magnitude, the first of two: it may be either end.
        let blocks = values.par_chunks(block).zip(&mut ends);
        blocks.for_each(|(values, ends)| {
            let [low, high] = *ends;
            let first = |x: &&f32| x.abs() == high;
            let largest = match (-low).partial_cmp(&high) {
                Some(std::cmp::Ordering::Greater) => low,
                Some(std::cmp::Ordering::Less) => high,
                _ => values.iter().find(first).copied().unwrap_or(0.0),
            };
            *ends = [largest, largest];
        });
    }
    if recipe.format == Format::Nvfp4 {
        let absmax = |[low, high]: [f32; 2]| (-low).max(high);
        let of_tensor = e2m1::of_tensor(ends.iter().fold(0f32, |most, &ends| most.max(absmax(ends))));
        return ends.par_iter().map(|&ends| e2m1::fraction(absmax(ends), of_tensor)).collect();
    }
    let mut scales: Vec<Scale> = ends.par_iter().with_min_len(1 << 12).map(|&ends| recipe.format.scale(ends)).collect();
    if recipe.double_quant {
        let absmax: Vec<f32> = scales.iter().map(|scale| scale.scale).collect();
        let nested = Nested::new(&absmax);
        scales.iter_mut().enumerate().for_each(|(block, scale)| scale.scale = nested.get(block));
    }
    scales
}

/// Smallest and largest of every block.
fn extremes(values: &[f32], block: usize) -> Vec<[f32; 2]> {
    let mut ends = vec![[0f32; 2]; values.len().div_ceil(block)];
    if block <= PIECE {
        let piece = PIECE / block * block;
        let pieces = values.par_chunks(piece).zip(ends.par_chunks_mut(piece / block));
        pieces.for_each(|(values, ends)| steps::extremes(values, block, ends));
        return ends;
    }
    for (values, ends) in values.chunks(block).zip(&mut ends) {
        let mut parts = vec![[0f32; 2]; values.len().div_ceil(PIECE)];
        let pieces = values.par_chunks(PIECE).zip(&mut parts);
        pieces.for_each(|(values, part)| steps::extremes(values, PIECE, std::slice::from_mut(part)));
        *ends = parts.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |a, b| [a[0].min(b[0]), a[1].max(b[1])]);
    }
    ends
}

/// The recipe of llama.cpp's 4-bit rule in blocks of another size: for comparisons, no file has them.
pub fn q4_0_rule(block: usize) -> Recipe {
    Recipe { format: Format::Q4_0, group: Group::Block(block), double_quant: false }
}
