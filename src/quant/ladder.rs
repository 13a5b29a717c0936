//! The loops over NF4 and FP4: values to codes, codes to values, both at once.
//!
//! A code is how many of 15 midpoints lie below the value. Counting all of them is faster than searching: it has no branch and
//! compiles to vectors.

use super::codebook::{Ladder, QuantType};
use super::fit::Scale;
use crate::simd::wide;

/// A value as a share of its block's absmax. bitsandbytes multiplies in whole blocks and divides in a short one.
#[inline(always)]
pub(super) fn share(value: f32, scale: &Scale, short: bool) -> f32 {
    let y = if short { value / scale.zero.max(1e-38) } else { value * scale.inverse };
    clamp(y)
}

#[inline(always)]
fn clamp(y: f32) -> f32 {
    let y = if y > -1.0 { y } else { -1.0 };
    if y < 1.0 { y } else { 1.0 }
}

/// `ŵ` of values that begin at place `at` of a flattened weight of `total`.
pub(super) fn read(
    kind: QuantType,
    scales: &[Scale],
    block: usize,
    total: usize,
    at: usize,
    values: &[f32],
    out: &mut [f32],
) {
    let Ladder { midpoints, levels, .. } = kind.ladder();
    through(&midpoints, &levels, scales, block, total, at, values, out);
}

wide! {
    fn through(
        midpoints: &[f32; 15],
        levels: &[f32; 16],
        scales: &[Scale],
        block: usize,
        total: usize,
        at: usize,
        values: &[f32],
        out: &mut [f32],
    ) {
        let mut done = 0;
        while done < values.len() {
            let number = (at + done) / block;
            let end = ((number + 1) * block - at).min(values.len());
            let scale = scales[number];
            let short = (number + 1) * block > total;
            let run = out[done..end].iter_mut().zip(&values[done..end]);
            if short {
                run.for_each(|(to, &x)| *to = level(midpoints, levels, share(x, &scale, true)) * scale.scale);
            } else {
                run.for_each(|(to, &x)| *to = level(midpoints, levels, share(x, &scale, false)) * scale.scale);
            }
            done = end;
        }
    }
}

/// The level of the highest midpoint that lies below.
#[inline(always)]
fn level(midpoints: &[f32; 15], levels: &[f32; 16], y: f32) -> f32 {
    let mut found = levels[0];
    for (midpoint, &level) in midpoints.iter().zip(&levels[1..]) {
        found = if *midpoint < y { level } else { found };
    }
    found
}

/// Codes and maxima of a piece that begins at a block's beginning; two codes a byte, the first in the high nibble.
pub(super) fn quantize(ladder: &Ladder, values: &[f32], block: usize, codes: &mut [u8], absmax: &mut [f32]) {
    pack(&ladder.midpoints, &ladder.codes().map(f32::from), values, block, codes, absmax);
}

/// Values that are packed at a time.
const PACK: usize = 64;

/// The code of a value, in the lowest bits. Adding 2²³ to a small whole number leaves it there.
#[inline(always)]
fn code(midpoints: &[f32; 15], codes: &[f32; 16], y: f32) -> u32 {
    (level(midpoints, codes, clamp(y)) + 8_388_608.0).to_bits()
}

wide! {
    fn pack(
        midpoints: &[f32; 15],
        table: &[f32; 16],
        values: &[f32],
        block: usize,
        codes: &mut [u8],
        absmax: &mut [f32],
    ) {
        for ((values, codes), absmax) in values.chunks(block).zip(codes.chunks_mut(block / 2)).zip(absmax) {
            *absmax = largest(values);
            let divisor = if *absmax > 1e-38 { *absmax } else { 1e-38 };
            let inverse = 1.0 / divisor;
            // bitsandbytes multiplies in whole blocks and divides in the last, partial one.
            let whole = values.len() == block;
            for (values, bytes) in values.chunks(PACK).zip(codes.chunks_mut(PACK / 2)) {
                let mut found = [0u32; PACK];
                if whole {
                    for (found, &x) in found.iter_mut().zip(values) {
                        *found = code(midpoints, table, x * inverse);
                    }
                } else {
                    for (found, &x) in found.iter_mut().zip(values) {
                        *found = code(midpoints, table, x / divisor);
                    }
                }
                // An odd last value leaves zero in the low nibble.
                for (byte, pair) in bytes.iter_mut().zip(found.as_chunks::<2>().0) {
                    *byte = (pair[0] << 4 | pair[1] & 15) as u8;
                }
            }
        }
    }
}

/// The largest magnitude, in lanes.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut most = [0f32; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for (most, &x) in most.iter_mut().zip(chunk) {
            *most = if x.abs() > *most { x.abs() } else { *most };
        }
    }
    rest.iter().map(|x| x.abs()).chain(most).fold(0f32, |a, b| if b > a { b } else { a })
}

/// `out[i] = level[code i]`, from the first code's high nibble on.
pub(super) fn unpack(level: &[f32; 16], codes: &[u8], out: &mut [f32]) {
    let done = unpack_wide(level, codes, out);
    let (codes, out) = (&codes[done / 2..], &mut out[done..]);
    let (pairs, last) = out.as_chunks_mut::<2>();
    for (pair, &code) in pairs.iter_mut().zip(codes) {
        *pair = [level[usize::from(code >> 4)], level[usize::from(code & 15)]];
    }
    if let [last] = last {
        *last = level[usize::from(codes[pairs.len()] >> 4)];
    }
}

/// As many of them as whole registers hold; how many that were.
#[cfg(target_arch = "x86_64")]
fn unpack_wide(level: &[f32; 16], codes: &[u8], out: &mut [f32]) -> usize {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the feature that the function was compiled for.
        unsafe { x86::unpack_512(level, codes, out) };
        return out.len() / 16 * 16;
    }
    if is_x86_feature_detected!("avx2") {
        // SAFETY: as above.
        unsafe { x86::unpack_256(level, codes, out) };
        return out.len() / 8 * 8;
    }
    0
}

#[cfg(not(target_arch = "x86_64"))]
fn unpack_wide(_: &[f32; 16], _: &[u8], _: &mut [f32]) -> usize {
    0
}

/// A level is looked up in a register: the compiler would gather from memory.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cvtepu8_epi64,
        _mm256_loadu_ps, _mm256_or_si256, _mm256_permutevar8x32_ps, _mm256_slli_epi32, _mm256_slli_epi64,
        _mm256_srli_epi64, _mm256_storeu_ps, _mm512_cvtepu8_epi64, _mm512_loadu_ps, _mm512_or_si512,
        _mm512_permutexvar_ps, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_storeu_ps,
    };

    #[target_feature(enable = "avx512f")]
    pub fn unpack_512(level: &[f32; 16], codes: &[u8], out: &mut [f32]) {
        // SAFETY: sixteen values are read from an array of sixteen.
        let level = unsafe { _mm512_loadu_ps(level.as_ptr()) };
        for (bytes, out) in codes.as_chunks::<8>().0.iter().zip(out.as_chunks_mut::<16>().0) {
            let byte = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(i64::from_le_bytes(*bytes)));
            // Only the lowest four bits of an index count: the upper half of each pair need not be masked.
            let index = _mm512_or_si512(_mm512_srli_epi64(byte, 4), _mm512_slli_epi64(byte, 32));
            // SAFETY: sixteen values are written to an array of sixteen.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_permutexvar_ps(index, level)) };
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn unpack_256(level: &[f32; 16], codes: &[u8], out: &mut [f32]) {
        // SAFETY: eight values are read from either half of an array of sixteen.
        let (lower, upper) = unsafe { (_mm256_loadu_ps(level.as_ptr()), _mm256_loadu_ps(level[8..].as_ptr())) };
        for (bytes, out) in codes.as_chunks::<4>().0.iter().zip(out.as_chunks_mut::<8>().0) {
            let byte = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(i32::from_le_bytes(*bytes)));
            let index = _mm256_or_si256(_mm256_srli_epi64(byte, 4), _mm256_slli_epi64(byte, 32));
            // Bit 3 chooses the half; a blend looks at the sign.
            let half = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
            let (a, b) = (_mm256_permutevar8x32_ps(lower, index), _mm256_permutevar8x32_ps(upper, index));
            // SAFETY: eight values are written to an array of eight.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_blendv_ps(a, b, half)) };
        }
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn both_widths_unpack_the_same() {
            let level: [f32; 16] = std::array::from_fn(|at| at as f32 * 1.5 - 7.0);
            let codes: Vec<u8> = (0..64u32).map(|at| (at * 37 % 256) as u8).collect();
            let expected: Vec<f32> =
                codes.iter().flat_map(|&code| [level[usize::from(code >> 4)], level[usize::from(code & 15)]]).collect();
            let mut out = vec![0.0; 128];
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has it.
                unsafe { super::unpack_512(&level, &codes, &mut out) };
                assert_eq!(out, expected);
            }
            if is_x86_feature_detected!("avx2") {
                out.fill(0.0);
                // SAFETY: the processor has it.
                unsafe { super::unpack_256(&level, &codes, &mut out) };
                assert_eq!(out, expected);
            }
        }
    }
}
