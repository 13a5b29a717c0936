//! Blocks of 32 with one scale `d`, and with a minimum `m` in the `_1` kinds: `w = d · (q − offset)` or `d · q + m`.

use super::{f16, nibbles, u32_at};

pub(super) fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    nibbles(&block[2..18], |at, code| out[at] = d * (f32::from(code) - 8.0));
}

pub(super) fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16(block, 0), f16(block, 2));
    nibbles(&block[4..20], |at, code| out[at] = d * f32::from(code) + m);
}

/// The fifth bit of each code stands in a word of its own.
fn fifth(high: u32, at: usize, code: u8) -> f32 {
    f32::from(code | (((high >> at) & 1) as u8) << 4)
}

pub(super) fn q5_0(block: &[u8], out: &mut [f32]) {
    let (d, high) = (f16(block, 0), u32_at(block, 2));
    nibbles(&block[6..22], |at, code| out[at] = d * (fifth(high, at, code) - 16.0));
}

pub(super) fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m, high) = (f16(block, 0), f16(block, 2), u32_at(block, 4));
    nibbles(&block[8..24], |at, code| out[at] = d * fifth(high, at, code) + m);
}

pub(super) fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    out.iter_mut().zip(&block[2..]).for_each(|(out, &code)| *out = f32::from(code.cast_signed()) * d);
}

/// As Q8_0, with the sum of the codes beside the scale.
pub(super) fn q8_1(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    out.iter_mut().zip(&block[4..]).for_each(|(out, &code)| *out = f32::from(code.cast_signed()) * d);
}
