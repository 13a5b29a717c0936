//! [`Quantized`]: one weight in 4 bits.

use super::codebook::QuantType;
use super::ladder;
use super::nested::Nested;
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;

/// How weights are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Which levels; NF4 is QLoRA's choice.
    pub quant_type: QuantType,
    /// Weights that share a scale: an even number; 64 in QLoRA.
    pub blocksize: usize,
    /// Scales in 8 bits, which saves 0.373 bit a weight at block 64.
    pub double_quant: bool,
}

impl Default for Scheme {
    fn default() -> Self {
        Self { quant_type: QuantType::Nf4, blocksize: 64, double_quant: true }
    }
}

/// The largest magnitude of every block.
#[derive(Clone, Debug, PartialEq)]
pub enum Absmax {
    /// As they are.
    Plain(Vec<f32>),
    /// In 8 bits.
    Nested(Nested),
}

impl Absmax {
    /// Of block `block`.
    #[inline]
    pub fn get(&self, block: usize) -> f32 {
        match self {
            Self::Plain(values) => values[block],
            Self::Nested(nested) => nested.get(block),
        }
    }
}

/// Which scale a value is read back with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// The one that it was quantized with: of block `(r · in + c) / blocksize` for row r, column c.
    #[default]
    Exact,
    /// As bitsandbytes 0.50 does on a processor with AVX-512, whose kernel takes row r's scales from block
    /// `r · ⌊in / blocksize⌋` on. That is the same where rows are whole blocks, as in nearly every real model; where they
    /// are not, and `in` is a multiple of 16, most scales are another block's, and a run beside PEFT must read them so.
    Bitsandbytes,
}

/// A weight `[out, in]` in 4 bits, blocks over the flattened values.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    shape: [usize; 2],
    reading: Reading,
    scheme: Scheme,
    codes: Vec<u8>,
    absmax: Absmax,
}

/// Values that one thread takes at a time; a multiple of every sensible block.
const PIECE: usize = 1 << 16;

impl Quantized {
    /// Quantizes row-major values.
    ///
    /// # Errors
    /// When the values do not fill the shape or the block is not an even number.
    pub fn new(values: &[f32], shape: [usize; 2], scheme: Scheme) -> Result<Self> {
        let [out, inner] = shape;
        if values.len() != out * inner {
            return Err(Error::failure(format!("{} values do not fill a weight of {out} × {inner}", values.len())));
        }
        if scheme.blocksize == 0 || !scheme.blocksize.is_multiple_of(2) {
            let message = format!("block {}; expected an even number of weights, as 64", scheme.blocksize);
            return Err(Error::usage(message));
        }
        let ladder = scheme.quant_type.ladder();
        let block = scheme.blocksize;
        let piece = PIECE.div_ceil(block) * block;
        let mut codes = vec![0u8; values.len().div_ceil(2)];
        let mut absmax = vec![0f32; values.len().div_ceil(block)];
        let pieces =
            values.par_chunks(piece).zip(codes.par_chunks_mut(piece / 2)).zip(absmax.par_chunks_mut(piece / block));
        pieces.for_each(|((values, codes), absmax)| ladder::quantize(&ladder, values, block, codes, absmax));
        let absmax = if scheme.double_quant { Absmax::Nested(Nested::new(&absmax)) } else { Absmax::Plain(absmax) };
        Ok(Self { shape, reading: Reading::Exact, scheme, codes, absmax })
    }

    /// From parts that fit each other.
    pub(super) fn from_parts(shape: [usize; 2], scheme: Scheme, codes: Vec<u8>, absmax: Absmax) -> Self {
        Self { shape, reading: Reading::Exact, scheme, codes, absmax }
    }

    /// The same weight, read back in another way.
    pub fn with_reading(self, reading: Reading) -> Self {
        Self { reading, ..self }
    }

    /// How it is read back.
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// Whether the two readings differ for rows of `inner` values.
    pub fn readings_differ(inner: usize, blocksize: usize) -> bool {
        !inner.is_multiple_of(blocksize) && inner.is_multiple_of(16) && (16..2048).contains(&blocksize)
    }

    /// How many blocks further on each row's scales begin, where they begin anew for every row; `None` where blocks run on over the rows. 0
    /// where rows are shorter than a block: all of them are read with the first one's scale.
    pub fn blocks_a_row(&self) -> Option<usize> {
        let [_, inner] = self.shape;
        let by_row = self.reading == Reading::Bitsandbytes && Self::readings_differ(inner, self.scheme.blocksize);
        by_row.then(|| inner / self.scheme.blocksize)
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// How it was made.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Two codes a byte, the first in the high nibble.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The block maxima.
    pub fn absmax(&self) -> &Absmax {
        &self.absmax
    }

    /// Bytes of codes, scales and nested constants.
    pub fn bytes(&self) -> usize {
        let constants = match &self.absmax {
            Absmax::Plain(values) => 4 * values.len(),
            Absmax::Nested(nested) => nested.codes.len() + 4 * nested.absmax.len() + 4,
        };
        self.codes.len() + constants
    }

    /// Values `range` of the flattened weight; `out` is as long as the range.
    pub fn read(&self, range: Range<usize>, out: &mut [f32]) {
        let levels = self.scheme.quant_type.levels();
        let block = self.scheme.blocksize;
        let inner = self.shape[1];
        let by_row = self.reading == Reading::Bitsandbytes && Self::readings_differ(inner, block);
        let (mut at, mut out) = (range.start, out);
        while !out.is_empty() {
            let (number, end) = if by_row {
                let (row, col) = (at / inner, at % inner);
                let end = ((col / block + 1) * block).min(inner);
                (row * (inner / block) + col / block, row * inner + end)
            } else {
                (at / block, (at / block + 1) * block)
            };
            let (now, later) = out.split_at_mut(out.len().min(end - at));
            let scale = self.absmax.get(number);
            // One multiplication a level, not a weight; the products are the same.
            let level = levels.map(|level| level * scale);
            let length = now.len();
            let mut now = now;
            if at % 2 == 1 {
                now[0] = level[usize::from(self.codes[at / 2] & 15)];
                now = &mut now[1..];
            }
            ladder::unpack(&level, &self.codes[at.div_ceil(2)..], now);
            at += length;
            out = later;
        }
    }

    /// The whole weight; `out` has `out · in` values.
    pub fn dequantize(&self, out: &mut [f32]) {
        let piece = PIECE.div_ceil(self.scheme.blocksize) * self.scheme.blocksize;
        out.par_chunks_mut(piece).enumerate().for_each(|(index, out)| {
            let at = index * piece;
            self.read(at..at + out.len(), out);
        });
    }
}
