//! MXFP4 and NVFP4: blocks of e2m1, `ŵ = step · ±{0, ½, 1, 1½, 2, 3, 4, 6}`. They differ in what a step may be (a power of two for 32
//! weights; an e4m3 of the tensor's own scale for 16) and in which level a value half-way between two takes.

use super::Scale;
use crate::simd::wide;

/// The magnitudes.
pub(in crate::quant) const LEVELS: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
/// Half-way between two of them.
const MIDPOINTS: [f32; 7] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];
/// The largest, and the largest of e4m3.
const MOST: f32 = 6.0;

/// The number of the magnitude nearest to `size`. Half-way: the even number, or the smaller magnitude.
#[inline(always)]
fn nearest(size: f32, even: bool) -> usize {
    let mut number = 0;
    for (at, &midpoint) in MIDPOINTS.iter().enumerate() {
        // The level above the midpoint at an odd place has an even number.
        let up = if even && at % 2 == 1 { size >= midpoint } else { size > midpoint };
        number += usize::from(up);
    }
    number
}

/// The code: bit 3 is the sign.
pub(in crate::quant) fn code(value: f32, scale: &Scale, even: bool) -> u8 {
    let size = nearest(value.abs() * scale.inverse, even) as u8;
    // Both zeros are one level for the converters, and the first is taken.
    if value < 0.0 && size > 0 { size | 8 } else { size }
}

/// `ŵ` of values that begin at place `at` of a flattened weight.
pub(in crate::quant) fn read(scales: &[Scale], block: usize, even: bool, at: usize, values: &[f32], out: &mut [f32]) {
    through(scales, block, even, at, values, out);
}

wide! {
    fn through(scales: &[Scale], block: usize, even: bool, at: usize, values: &[f32], out: &mut [f32]) {
        let mut done = 0;
        while done < values.len() {
            let number = (at + done) / block;
            let end = ((number + 1) * block - at).min(values.len());
            let scale = scales[number];
            for (to, &x) in out[done..end].iter_mut().zip(&values[done..end]) {
                let size = LEVELS[nearest(x.abs() * scale.inverse, even)] * scale.scale;
                *to = if x < 0.0 { -size } else { size };
            }
            done = end;
        }
    }
}

/// The exponent byte of MXFP4 for a block: the largest value's power of two, and two less, since 6 is below 8 (OCP MX; llama.cpp).
pub(in crate::quant) fn exponent(absmax: f32) -> u8 {
    if absmax > 0.0 { (absmax.log2().floor() + 125.0).clamp(0.0, 254.0) as u8 } else { 0 }
}

/// MXFP4's step.
pub(in crate::quant) fn power_of_two([low, high]: [f32; 2]) -> Scale {
    let exponent = exponent((-low).max(high));
    // 2^(e − 127); the smallest two are below the normal numbers.
    let step = if exponent == 0 { f32::from_bits(0x0040_0000) } else { f32::from_bits(u32::from(exponent) << 23) };
    Scale { inverse: 1.0 / step, scale: step, ..Scale::default() }
}

/// What all scales of a tensor are multiplied with in NVFP4, so that the largest fits e4m3 (compressed-tensors, `generate_gparam`).
pub(in crate::quant) fn of_tensor(absmax: f32) -> f32 {
    let scale = super::casts::FP8_MAX * MOST / absmax.max(f32::MIN_POSITIVE);
    if scale.is_finite() { scale } else { 1.0 }
}

/// NVFP4's step: `absmax / 6` in e4m3 of the tensor's scale. A block of zeros gets an eighth, as compressed-tensors gives it.
pub(in crate::quant) fn fraction(absmax: f32, of_tensor: f32) -> Scale {
    let rounded = super::casts::nearest_fp8(of_tensor * (absmax / MOST));
    let step = (if rounded == 0.0 { 0.125 } else { rounded }) / of_tensor;
    Scale { inverse: 1.0 / step, scale: step, ..Scale::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_where_the_programs_send_them() {
        let found = |even| MIDPOINTS.map(|x| LEVELS[nearest(x, even)]);
        // gguf 0.19 takes the first of equals; compressed-tensors 0.20 rounds to the even code.
        assert_eq!(found(false), [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0]);
        assert_eq!(found(true), [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]);
        let scale = power_of_two([-6.0, 1.0]);
        assert_eq!((scale.scale, exponent(6.0)), (1.0, 127));
        assert_eq!(code(-6.0, &scale, false), 15);
        assert_eq!(code(-0.1, &scale, false), 0);
    }
}
