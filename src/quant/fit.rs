//! [`Fit`]: the scales that a recipe gives a weight. Codes and rounded values follow from them and the weight, wherever they are
//! looked at: nothing as large as the weight is kept.
//!
//! ```text
//! w ─ blocks ─ [min, max] ─ Scale { inverse, scale, low, zero } ─┬─ code(at, w)
//!                                                               └─ read(w, range) = ŵ
//! ```

use super::casts;
use super::codebook::QuantType;
use super::format::{Format, Group, Recipe};
use super::kquant;
use super::ladder;
use super::nested::Nested;
use super::steps::{self, Steps};
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
    rule: Rule,
    scales: Vec<Scale>,
}

/// How codes and values come from scales.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Ladder(QuantType),
    Steps(Steps),
    ScaledFp8,
    Cast,
    SuperBlocks,
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
        let rule = match recipe.format {
            Format::Nf4 | Format::Fp4 => Rule::Ladder(recipe.format.quant_type().unwrap_or(QuantType::Nf4)),
            Format::Int4Symmetric => Rule::Steps(Steps::INT4),
            Format::Int4Affine => Rule::Steps(Steps::INT4_AFFINE),
            Format::Int8 => Rule::Steps(Steps::INT8),
            Format::Q4_0 => Rule::Steps(Steps::Q4_0),
            Format::Q4_1 => Rule::Steps(Steps::Q4_1),
            Format::Q8_0 => Rule::Steps(Steps::Q8_0),
            Format::Fp8Scaled => Rule::ScaledFp8,
            Format::Fp8 | Format::F16 | Format::Bf16 => Rule::Cast,
            Format::Q2K | Format::Q3K | Format::Q4K | Format::Q5K | Format::Q6K => Rule::SuperBlocks,
        };
        let block = recipe.block(shape).unwrap_or(values.len()).max(1);
        let scales = match rule {
            Rule::Cast | Rule::SuperBlocks => Vec::new(),
            _ => scales(values, block, recipe),
        };
        Ok(Self { recipe, shape, block, rule, scales })
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
        match self.rule {
            Rule::Ladder(kind) => ladder::read(kind, &self.scales, self.block, values.len(), range.start, part, out),
            Rule::Steps(steps) => steps::read(steps, &self.scales, self.block, range.start, part, out),
            Rule::ScaledFp8 => self.scaled(range.start, part, out),
            Rule::Cast => match self.recipe.format {
                Format::F16 => casts::f16(part, out),
                Format::Bf16 => casts::bf16(part, out),
                _ => casts::fp8(part, 1.0, 1.0, out),
            },
            Rule::SuperBlocks => {
                // Whole super-blocks: what lies around the range is made too, and left out.
                let start = range.start / kquant::BLOCK * kquant::BLOCK;
                let end = range.end.next_multiple_of(kquant::BLOCK).min(values.len());
                if (start, end) == (range.start, range.end) {
                    return kquant::read(self.recipe.format, part, out);
                }
                let mut whole = vec![0f32; end - start];
                kquant::read(self.recipe.format, &values[start..end], &mut whole);
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
        let code = match (self.rule, scale) {
            (Rule::Ladder(kind), Some(scale)) => {
                let code = kind.ladder().code(ladder::share(value, &scale, self.is_short(at)));
                Some(i32::from(code))
            }
            (Rule::Steps(steps), Some(scale)) => Some(steps.code(value, &scale) as i32),
            (Rule::ScaledFp8, Some(scale)) => {
                Some(i32::from(casts::fp8_code(casts::nearest_fp8(value * scale.inverse))))
            }
            (Rule::Cast, _) => Some(match self.recipe.format {
                Format::F16 => i32::from(half::f16::from_f32(value).to_bits()),
                Format::Bf16 => i32::from(half::bf16::from_f32(value).to_bits()),
                _ => i32::from(casts::fp8_code(casts::nearest_fp8(value))),
            }),
            _ => None,
        };
        let has_zero = matches!(self.recipe.format, Format::Int4Affine | Format::Q4_1);
        CellCode {
            code,
            block,
            scale: scale.map(|scale| scale.scale),
            zero: scale.filter(|_| has_zero).map(|scale| scale.zero),
        }
    }

    /// The same codes with steps of one: two weights have the same code where these have the same value.
    pub fn in_units(&self) -> Self {
        let unit = |scale: &Scale| match self.rule {
            // The last number is the divisor of a short block.
            Rule::Ladder(_) => Scale { scale: 1.0, ..*scale },
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
        match self.rule {
            Rule::Ladder(_) => Some(ladder::share(value, scale, self.is_short(at))),
            Rule::Steps(steps) => Some(place / steps.reach),
            Rule::ScaledFp8 => Some(place / casts::FP8_MAX),
            Rule::Cast | Rule::SuperBlocks => None,
        }
    }

    /// The levels that a code may stand for, as shares of a block's range. `None` where they are not the same in every block.
    pub fn levels(&self) -> Option<Levels> {
        let (levels, from_minimum): (Vec<f32>, bool) = match self.rule {
            Rule::Ladder(kind) => {
                let mut levels = kind.levels().to_vec();
                levels.sort_by(f32::total_cmp);
                // FP4 has two zeros.
                levels.dedup_by(|a, b| *a == *b);
                (levels, false)
            }
            Rule::Steps(steps) => {
                let codes = steps.least as i32..=steps.most as i32;
                let levels = codes.map(|code| (code as f32 - steps.center) / steps.reach).collect();
                (levels, matches!(self.recipe.format, Format::Int4Affine | Format::Q4_1))
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

    /// The steps of an evenly spaced format.
    pub(super) fn steps(&self) -> Option<Steps> {
        if let Rule::Steps(steps) = self.rule { Some(steps) } else { None }
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
    let mut scales: Vec<Scale> =
        ends.par_iter().with_min_len(1 << 12).map(|&ends| scale(ends, recipe.format)).collect();
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

/// What a block shares, from its ends; for Q4_0 both are the value of largest magnitude.
fn scale([low, high]: [f32; 2], format: Format) -> Scale {
    let absmax = if -low > high { -low } else { high };
    let half = |x: f32| half::f16::from_f32(x).to_f32();
    // As numpy's `where(d == 0, 0, 1 / d)`. Where that overflows, numpy's conversion to bytes makes every code 0: so does NaN here.
    let inverse = |step: f32| match 1.0 / step {
        _ if step == 0.0 => 0.0,
        inverse if inverse.is_finite() => inverse,
        _ => f32::NAN,
    };
    let plain = |inverse: f32, scale: f32| Scale { inverse, scale, ..Scale::default() };
    let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
    match format {
        // bitsandbytes divides by 1e-38 at least; in a short block it divides by the largest, which is kept for that.
        Format::Nf4 | Format::Fp4 => Scale { inverse: 1.0 / absmax.max(1e-38), scale: absmax, low: 0.0, zero: absmax },
        Format::Int4Symmetric => plain(finite(7.0 / absmax), absmax / 7.0),
        Format::Int8 => plain(finite(127.0 / absmax), absmax / 127.0),
        Format::Fp8Scaled => plain(finite(casts::FP8_MAX / absmax), absmax / casts::FP8_MAX),
        Format::Int4Affine => {
            // The range holds zero, and zero is a level: its code is the zero point.
            let (low, high) = (low.min(0.0), high.max(0.0));
            let (inverse, scale) = (finite(15.0 / (high - low)), (high - low) / 15.0);
            let zero = -(-low * inverse).round_ties_even() * scale;
            Scale { inverse, scale, low: zero, zero }
        }
        Format::Q4_0 => plain(inverse(low / -8.0), half(low / -8.0)),
        Format::Q4_1 => {
            let step = (high - low) / 15.0;
            Scale { inverse: inverse(step), scale: half(step), low, zero: half(low) }
        }
        Format::Q8_0 => {
            let inverse = inverse(absmax / 127.0);
            plain(if inverse.is_nan() { 0.0 } else { inverse }, half(absmax / 127.0))
        }
        _ => Scale::default(),
    }
}

/// The recipe of llama.cpp's 4-bit rule in blocks of another size: for comparisons, no file has them.
pub fn q4_0_rule(block: usize) -> Recipe {
    Recipe { format: Format::Q4_0, group: Group::Block(block), double_quant: false }
}
