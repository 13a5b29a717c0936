//! IQ4_NL and IQ4_XS as llama.cpp makes them without an importance matrix (`quantize_row_iq4_nl_impl` with seven tries on either side):
//! weights in steps of an uneven table. The step of 32 weights is the one of fifteen that leaves the smallest error, larger weights
//! counting more; IQ4_XS keeps eight such steps in 6 bits of one.

use crate::checkpoint::BlockType;

/// The table, rising.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Weights of a step.
const GROUP: usize = 32;
/// Steps that are tried on either side of the first.
const TRIES: i32 = 7;
/// What counts as zero.
const EPSILON: f32 = 1e-15;

/// The nearest level; half-way the upper one.
fn nearest(x: f32) -> u8 {
    let level = |at: usize| f32::from(LEVELS[at]);
    if x <= level(0) {
        return 0;
    }
    let above = (1..16).find(|&at| x < level(at)).unwrap_or(15);
    if x >= level(15) || x - level(above - 1) >= level(above) - x { above as u8 } else { above as u8 - 1 }
}

/// The step of 32 weights.
fn step(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0f32, |most, &x| if x.abs() > most.abs() { x } else { most });
    if largest.abs() < EPSILON {
        return 0.0;
    }
    let tried = |inverse: f32| {
        values.iter().fold((0f32, 0f32), |(xq, qq), &x| {
            let q = f32::from(LEVELS[usize::from(nearest(inverse * x))]);
            (xq + x * x * q * x, qq + x * x * q * q)
        })
    };
    let first = f32::from(LEVELS[0]);
    let (xq, qq) = tried(1.0 / (-largest / first));
    let mut step = xq / qq;
    let mut best = step * xq;
    for number in -TRIES..=TRIES {
        let (xq, qq) = tried((number as f32 + first) / largest);
        if qq > 0.0 && xq * xq > best * qq {
            step = xq / qq;
            best = step * xq;
        }
    }
    step
}

fn half(x: f32) -> [u8; 2] {
    half::f16::from_f32(x).to_le_bytes()
}

/// Codes of 32 weights, the first 16 in the low halves.
fn codes(values: &[f32], inverse: f32, out: &mut Vec<u8>) {
    let (low, high) = values.split_at(GROUP / 2);
    out.extend(low.iter().zip(high).map(|(&low, &high)| nearest(inverse * low) | nearest(inverse * high) << 4));
}

fn inverse(step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { 1.0 / step }
}

/// A block of IQ4_NL: 32 weights.
pub(in crate::quant) fn nl(values: &[f32], out: &mut Vec<u8>) {
    let step = step(values);
    out.extend(half(step));
    codes(values, inverse(step), out);
}

/// A block of IQ4_XS: 256 weights.
pub(in crate::quant) fn xs(values: &[f32], out: &mut Vec<u8>) {
    let steps: Vec<f32> = values.chunks(GROUP).map(step).collect();
    let largest = steps.iter().fold(0f32, |most, &x| if x.abs() > most.abs() { x } else { most });
    let unit = -largest / 32.0;
    // As llama.cpp's nearest_int rounds: ties to even.
    let whole: Vec<i32> =
        steps.iter().map(|&step| ((inverse(unit) * step).round_ties_even() as i32).clamp(-32, 31)).collect();
    let stored = |at: usize| (whole[at] + 32) as u16;
    out.extend(half(unit));
    out.extend((0..8).fold(0u16, |high, at| high | (stored(at) >> 4) << (2 * at)).to_le_bytes());
    out.extend((0..4).map(|pair| (stored(2 * pair) & 15) as u8 | ((stored(2 * pair + 1) & 15) as u8) << 4));
    for (values, &whole) in values.chunks(GROUP).zip(&whole) {
        codes(values, inverse(unit * whole as f32), out);
    }
}

/// `ŵ` of whole blocks of IQ4_NL: encoded, and read back as any GGUF file is.
pub(super) fn read_nl(values: &[f32], out: &mut [f32]) {
    read("IQ4_NL", nl, values, out);
}

/// The same of IQ4_XS.
pub(super) fn read_xs(values: &[f32], out: &mut [f32]) {
    read("IQ4_XS", xs, values, out);
}

fn read(name: &str, encode: fn(&[f32], &mut Vec<u8>), values: &[f32], out: &mut [f32]) {
    let Some(kind) = BlockType::named(name) else { return };
    let mut bytes = Vec::with_capacity(kind.bytes());
    for (values, out) in values.chunks_exact(kind.values()).zip(out.chunks_exact_mut(kind.values())) {
        bytes.clear();
        encode(values, &mut bytes);
        kind.decode(&bytes, 0, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_found() {
        for (at, &level) in LEVELS.iter().enumerate() {
            assert_eq!(usize::from(nearest(f32::from(level))), at);
        }
        assert_eq!((nearest(-200.0), nearest(200.0), nearest(7.0)), (0, 15, 9));
        // A block of the table itself is exact.
        let values: Vec<f32> = LEVELS.iter().chain(&LEVELS).map(|&x| f32::from(x)).collect();
        assert_eq!(step(&values).abs(), 1.0);
    }
}
