//! K-quants: super-blocks of 256 values, in groups of 16 or 32 whose scales (and minima) are themselves in a few bits.

use super::f16;

/// 2 bits: 16 groups of 16, scales and minima of 4 bits; `w = d·sc·q − dmin·m`.
pub(super) fn q2(block: &[u8], out: &mut [f32]) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (d, dmin) = (f16(block, 80), f16(block, 82));
    for (at, out) in out.iter_mut().enumerate() {
        let (half, shift, place) = (at / 128, at % 128 / 32 * 2, at % 32);
        let q = (codes[half * 32 + place] >> shift) & 3;
        let scale = scales[at / 16];
        *out = d * f32::from(scale & 15) * f32::from(q) - dmin * f32::from(scale >> 4);
    }
}

/// 3 bits: 16 groups of 16 with scales of 6 bits; the third bit of a code stands in a mask, and means +4 where it is set.
pub(super) fn q3(block: &[u8], out: &mut [f32]) {
    let (mask, codes, packed, d) = (&block[..32], &block[32..96], &block[96..108], f16(block, 108));
    let mut scales = [0f32; 16];
    for (group, scale) in scales.iter_mut().enumerate() {
        let low = (packed[group % 8] >> (group / 8 * 4)) & 15;
        let high = (packed[8 + group % 4] >> (group / 4 * 2)) & 3;
        *scale = d * (f32::from(low | high << 4) - 32.0);
    }
    for (at, out) in out.iter_mut().enumerate() {
        let (half, shift, place) = (at / 128, at % 128 / 32 * 2, at % 32);
        let low = (codes[half * 32 + place] >> shift) & 3;
        let high = (mask[place] >> (at / 32)) & 1;
        *out = scales[at / 16] * (f32::from(low) - f32::from((high ^ 1) << 2));
    }
}

/// Scale and minimum, 6 bits each, of one of the 8 groups of 32 in Q4_K and Q5_K.
fn scale_and_minimum(packed: &[u8], group: usize) -> (f32, f32) {
    let at = group % 4;
    let (scale, minimum) = if group < 4 {
        (packed[at] & 63, packed[4 + at] & 63)
    } else {
        (packed[8 + at] & 15 | packed[at] >> 2 & 48, packed[8 + at] >> 4 | packed[4 + at] >> 2 & 48)
    };
    (f32::from(scale), f32::from(minimum))
}

/// 4 bits: 8 groups of 32.
pub(super) fn q4(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (f16(block, 0), f16(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], group);
        let (scale, minimum) = (d * scale, dmin * minimum);
        let codes = &block[16 + group / 2 * 32..][..32];
        let shift = group % 2 * 4;
        out.iter_mut().zip(codes).for_each(|(out, code)| *out = scale * f32::from(code >> shift & 15) - minimum);
    }
}

/// 5 bits: as Q4_K, the fifth bit of group `g` being bit `g` of a byte of its own.
pub(super) fn q5(block: &[u8], out: &mut [f32]) {
    let (d, dmin, high) = (f16(block, 0), f16(block, 2), &block[16..48]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], group);
        let (scale, minimum) = (d * scale, dmin * minimum);
        let codes = &block[48 + group / 2 * 32..][..32];
        let shift = group % 2 * 4;
        for ((out, code), high) in out.iter_mut().zip(codes).zip(high) {
            *out = scale * f32::from(code >> shift & 15 | (high >> group & 1) << 4) - minimum;
        }
    }
}

/// 6 bits: 16 groups of 16 with signed scales of 8 bits.
pub(super) fn q6(block: &[u8], out: &mut [f32]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], f16(block, 208));
    for (at, out) in out.iter_mut().enumerate() {
        let (half, quarter, place) = (at / 128, at % 128 / 32, at % 32);
        let code = low[half * 64 + quarter % 2 * 32 + place] >> (quarter / 2 * 4) & 15;
        let top = high[half * 32 + place] >> (quarter * 2) & 3;
        let scale = d * f32::from(scales[at / 16].cast_signed());
        *out = scale * (f32::from(code | top << 4) - 32.0);
    }
}
