//! Ternary blocks of 256: `w = d · t`, t in −1, 0, 1.

use super::f16;

/// Five digits of base three a byte: the byte is the fraction `digits / 3⁵` in 256ths, so the next digit is the integer
/// part of three times it.
pub(super) fn tq1_0(block: &[u8], out: &mut [f32]) {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let d = f16(block, 52);
    let mut done = 0;
    for (first, count, digits) in [(0, 32, 5), (32, 16, 5), (48, 4, 4)] {
        for power in &POWERS[..digits] {
            for &byte in &block[first..first + count] {
                let digit = (u16::from(byte.wrapping_mul(*power)) * 3) >> 8;
                out[done] = d * (f32::from(digit) - 1.0);
                done += 1;
            }
        }
    }
}

/// Two bits a value.
pub(super) fn tq2_0(block: &[u8], out: &mut [f32]) {
    let d = f16(block, 64);
    for (at, out) in out.iter_mut().enumerate() {
        let code = block[at / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3;
        *out = d * (f32::from(code) - 1.0);
    }
}
