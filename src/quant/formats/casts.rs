//! Formats in which every value stands by itself: FP16, BF16, FP8 E4M3.

use crate::simd::wide;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

/// The largest magnitude of E4M3.
pub(in crate::quant) const FP8_MAX: f32 = 448.0;

/// The nearest half-precision numbers.
pub(super) fn f16(values: &[f32], out: &mut [f32]) {
    // In pieces through a small buffer: the conversion of whole slices uses the processor's own instruction.
    let mut bits = [0u16; 1024];
    for (values, out) in values.chunks(bits.len()).zip(out.chunks_mut(bits.len())) {
        let half: &mut [half::f16] = bits[..values.len()].reinterpret_cast_mut();
        half.convert_from_f32_slice(values);
        half.convert_to_f32_slice(out);
    }
}

wide! {
    /// The nearest BF16 numbers, ties to even.
    pub(super) fn bf16(values: &[f32], out: &mut [f32]) {
        for (to, &x) in out.iter_mut().zip(values) {
            let bits = x.to_bits();
            *to = f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000);
        }
    }
}

wide! {
    /// The nearest E4M3 numbers of `x · inverse`, times `scale`.
    pub(in crate::quant) fn fp8(values: &[f32], inverse: f32, scale: f32, out: &mut [f32]) {
        for (to, &x) in out.iter_mut().zip(values) {
            *to = nearest_fp8(x * inverse) * scale;
        }
    }
}

/// The nearest number of E4M3, ties to even; what is larger becomes the largest.
#[inline(always)]
pub(in crate::quant) fn nearest_fp8(x: f32) -> f32 {
    /// Numbers near it are multiples of 2⁻⁹: adding and subtracting it rounds.
    const ROUND: f32 = 24_576.0;
    let size = x.abs();
    let size = if size < FP8_MAX { size } else { FP8_MAX };
    let bits = size.to_bits();
    let normal = f32::from_bits((bits + 0x7_ffff + (bits >> 20 & 1)) & 0xfff0_0000);
    let small = (size + ROUND) - ROUND;
    let size = if size < 0.015_625 { small } else { normal };
    size.copysign(x)
}

/// The byte of a number of E4M3.
pub(in crate::quant) fn fp8_code(value: f32) -> u8 {
    let sign = (value.to_bits() >> 31 << 7) as u8;
    let size = value.abs();
    let code = match size {
        0.0 => 0,
        // Multiples of 2⁻⁹.
        _ if size < 0.015_625 => (size * 512.0) as u32,
        _ => (size.to_bits() >> 20) - ((127 - 7) << 3),
    };
    sign | code as u8
}

/// [`bf16`] as a plain function.
pub(super) fn bf16_values(values: &[f32], out: &mut [f32]) {
    bf16(values, out);
}

/// [`fp8`] of the values as they are.
pub(super) fn fp8_values(values: &[f32], out: &mut [f32]) {
    fp8(values, 1.0, 1.0, out);
}

/// The bits of a value in half precision.
pub(super) fn f16_bits(value: f32) -> i32 {
    i32::from(half::f16::from_f32(value).to_bits())
}

/// The bits of a value in BF16.
pub(super) fn bf16_bits(value: f32) -> i32 {
    i32::from(half::bf16::from_f32(value).to_bits())
}

/// The byte of a value in E4M3.
pub(super) fn fp8_bits(value: f32) -> i32 {
    i32::from(fp8_code(nearest_fp8(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch 2.15: `torch.tensor([…]).to(torch.float8_e4m3fn)`, its values and `.view(torch.uint8)`.
    #[test]
    fn fp8_is_torchs() {
        for (x, value, code) in [
            (0.0f32, 0.0f32, 0u8),
            (1.0, 1.0, 0x38),
            (-1.06, -1.0, 0xb8),
            (0.02, 0.01953125, 0x0a),
            (0.001, 0.001953125, 0x01),
            (0.0009, 0.0, 0x00),
            (0.015, 0.015625, 0x08),
            (300.0, 288.0, 0x79),
            (448.0, 448.0, 0x7e),
            (3.7, 3.75, 0x47),
        ] {
            assert_eq!(nearest_fp8(x), value, "{x}");
            assert_eq!(fp8_code(nearest_fp8(x)), code, "{x}");
        }
        assert_eq!(nearest_fp8(1e9), 448.0, "torch makes it NaN; kernels for inference saturate, and so do we");
    }

    #[test]
    fn halves_are_those_of_the_half_crate() {
        let values: Vec<f32> = (0..3000).map(|i| ((i * 7919 % 3001) as f32 - 1500.0) / 1e5).collect();
        let (mut a, mut b) = (vec![0.0; values.len()], vec![0.0; values.len()]);
        f16(&values, &mut a);
        bf16(&values, &mut b);
        for ((&x, &a), &b) in values.iter().zip(&a).zip(&b) {
            assert_eq!(a, half::f16::from_f32(x).to_f32());
            assert_eq!(b, half::bf16::from_f32(x).to_f32());
        }
    }
}
