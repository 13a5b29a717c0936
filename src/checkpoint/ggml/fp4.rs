//! Blocks of 4-bit codes that stand for uneven levels: MXFP4 and NVFP4 (e2m1), IQ4 (a fixed table).

use super::{f16, nibbles, u16_at};

/// e2m1, doubled: the scales are halved instead.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// llama.cpp's levels of IQ4_NL and IQ4_XS.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn level(levels: [i8; 16], code: u8) -> f32 {
    f32::from(levels[usize::from(code)])
}

/// Half of the power of two that an e8m0 exponent stands for.
fn half_e8m0(exponent: u8) -> f32 {
    let bits = if exponent < 2 { 0x0020_0000 << exponent } else { u32::from(exponent - 1) << 23 };
    f32::from_bits(bits)
}

/// Half of an unsigned e4m3; 0x7F is 0 here.
fn half_e4m3(byte: u8) -> f32 {
    if byte == 0 || byte == 0x7f {
        return 0.0;
    }
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let value = if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7) };
    value * 0.5
}

pub(super) fn mxfp4(block: &[u8], out: &mut [f32]) {
    let d = half_e8m0(block[0]);
    nibbles(&block[1..17], |at, code| out[at] = d * level(E2M1, code));
}

/// Four groups of 16, each with a scale of its own.
pub(super) fn nvfp4(block: &[u8], out: &mut [f32]) {
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let d = half_e4m3(block[group]);
        nibbles(&block[4 + group * 8..][..8], |at, code| out[at] = d * level(E2M1, code));
    }
}

pub(super) fn iq4_nl(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 0);
    nibbles(&block[2..18], |at, code| out[at] = d * level(IQ4, code));
}

/// Eight groups of 32 with scales of 6 bits.
pub(super) fn iq4_xs(block: &[u8], out: &mut [f32]) {
    let (d, high, low) = (f16(block, 0), u16_at(block, 2), &block[4..8]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let scale = low[group / 2] >> (group % 2 * 4) & 15 | ((high >> (2 * group) & 3) as u8) << 4;
        let d = d * (f32::from(scale) - 32.0);
        nibbles(&block[8 + group * 16..][..16], |at, code| out[at] = d * level(IQ4, code));
    }
}
