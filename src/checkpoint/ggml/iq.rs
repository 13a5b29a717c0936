//! IQ blocks of 256: eight (or four) values at once are a row of a fixed grid, with signs, group scales and one scale `d`.
//!
//! The grids are llama.cpp's tables, kept in `grids.bin`: one after the other, each value as an `i8`; made by
//! `tests/fixtures/make_grids.py` from the `gguf` package 0.19.

use super::{f16, u16_at, u32_at};

static GRIDS: &[u8; 33_792] = include_bytes!("grids.bin");

/// One grid: where it begins in the file, and how many values a row has.
struct Grid(usize, usize);

const IQ2_XXS: Grid = Grid(0, 8);
const IQ2_XS: Grid = Grid(256 * 8, 8);
const IQ2_S: Grid = Grid(768 * 8, 8);
const IQ3_XXS: Grid = Grid(1792 * 8, 4);
const IQ3_S: Grid = Grid(1792 * 8 + 256 * 4, 4);
const IQ1_S: Grid = Grid(1792 * 8 + 768 * 4, 8);

impl Grid {
    fn row(&self, index: usize) -> impl Iterator<Item = f32> {
        GRIDS[self.0 + index * self.1..][..self.1].iter().map(|&byte| f32::from(byte.cast_signed()))
    }
}

/// Seven signs and their parity as the eighth.
fn signs_of(index: u32) -> u8 {
    let seven = (index & 127) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// Writes a row of a grid with its signs: `scale · value · ±1`.
fn signed(out: &mut [f32], row: impl Iterator<Item = f32>, signs: u8, scale: f32) {
    for (at, (out, value)) in out.iter_mut().zip(row).enumerate() {
        let sign = if signs >> at & 1 == 0 { 1.0 } else { -1.0 };
        *out = scale * value * sign;
    }
}

pub(super) fn iq2_xxs(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let at = 2 + group * 8;
        let word = u32_at(block, at + 4);
        let scale = d * (0.5 + (word >> 28) as f32) * 0.25;
        for (k, out) in out.chunks_exact_mut(8).enumerate() {
            signed(out, IQ2_XXS.row(usize::from(block[at + k])), signs_of(word >> (7 * k)), scale);
        }
    }
}

pub(super) fn iq2_xs(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    for (k, out) in out.chunks_exact_mut(8).enumerate() {
        let word = u16_at(block, 2 + 2 * k);
        let scale = block[66 + k / 4] >> (k / 2 % 2 * 4) & 15;
        let scale = d * (0.5 + f32::from(scale)) * 0.25;
        signed(out, IQ2_XS.row(usize::from(word & 511)), signs_of(u32::from(word >> 9)), scale);
    }
}

pub(super) fn iq2_s(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    let (low, signs, high, scales) = (&block[2..34], &block[34..66], &block[66..74], &block[74..82]);
    for (k, out) in out.chunks_exact_mut(8).enumerate() {
        let index = usize::from(low[k]) | usize::from(high[k / 4] >> (k % 4 * 2) & 3) << 8;
        let scale = d * (0.5 + f32::from(scales[k / 4] >> (k / 2 % 2 * 4) & 15)) * 0.25;
        signed(out, IQ2_S.row(index), signs[k], scale);
    }
}

pub(super) fn iq3_xxs(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let word = u32_at(block, 66 + group * 4);
        let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
        for (k, out) in out.chunks_exact_mut(4).enumerate() {
            let signs = signs_of(word >> (7 * (k / 2))) >> (k % 2 * 4);
            signed(out, IQ3_XXS.row(usize::from(block[2 + group * 8 + k])), signs, scale);
        }
    }
}

pub(super) fn iq3_s(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    let (low, high, signs, scales) = (&block[2..66], &block[66..74], &block[74..106], &block[106..110]);
    for (k, out) in out.chunks_exact_mut(4).enumerate() {
        let index = usize::from(low[k]) | usize::from(high[k / 8] >> (k % 8) & 1) << 8;
        let scale = scales[k / 16] >> (k / 8 % 2 * 4) & 15;
        let scale = d * f32::from(1 + 2 * scale);
        signed(out, IQ3_S.row(index), signs[k / 2] >> (k % 2 * 4), scale);
    }
}

/// Added to every value of an IQ1 group, or subtracted.
const DELTA: f32 = 0.125;

fn shifted(out: &mut [f32], index: usize, minus: bool, scale: f32) {
    let delta = if minus { -DELTA } else { DELTA };
    out.iter_mut().zip(IQ1_S.row(index)).for_each(|(out, value)| *out = scale * (value + delta));
}

pub(super) fn iq1_s(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    for (k, out) in out.chunks_exact_mut(8).enumerate() {
        let high = u16_at(block, 34 + k / 4 * 2);
        let scale = d * f32::from(2 * (high >> 12 & 7) + 1);
        let index = usize::from(block[2 + k]) | usize::from(high >> (3 * (k % 4)) & 7) << 8;
        shifted(out, index, high & 0x8000 != 0, scale);
    }
}

/// The half-precision scale stands in the upper four bits of four words.
pub(super) fn iq1_m(block: &[u8], out: &mut [f32]) {
    let word = |at: usize| u16_at(block, 48 + 2 * at);
    let bits = (0..4).fold(0, |bits, at| bits | (word(at) >> 12) << (4 * at));
    let d = half::f16::from_bits(bits).to_f32();
    for (k, out) in out.chunks_exact_mut(8).enumerate() {
        let high = block[32 + k / 2] >> (k % 2 * 4) & 15;
        let scale = word(k / 8) >> (3 * (k / 2 % 4)) & 7;
        let index = usize::from(block[k]) | usize::from(high & 7) << 8;
        shifted(out, index, high & 8 != 0, d * f32::from(2 * scale + 1));
    }
}
