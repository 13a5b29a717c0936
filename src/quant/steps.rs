//! [`Steps`]: evenly spaced levels, and the loops over blocks of them.
//!
//! `q = clamp(round((w − low) · inverse + before))`, `ŵ = (q − center) · scale + zero`.

use super::fit::Scale;
use crate::simd::wide;

/// How a number becomes a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// To the nearest, ties to the even one.
    Even,
    /// To the nearest, ties away from zero: C's `roundf`.
    Away,
    /// Towards zero, after one half was added to what is not negative: how llama.cpp rounds 4-bit codes.
    Down,
}

/// Evenly spaced levels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    /// Smallest code.
    pub least: f32,
    /// Largest code.
    pub most: f32,
    /// Added before rounding.
    pub before: f32,
    /// How.
    pub rounding: Rounding,
    /// The code of zero, or of the minimum.
    pub center: f32,
    /// Steps from the middle (or the minimum) to the end of a block's range.
    pub reach: f32,
}

impl Steps {
    pub(super) const INT4: Self =
        Self { least: -7.0, most: 7.0, before: 0.0, rounding: Rounding::Even, center: 0.0, reach: 7.0 };
    pub(super) const INT4_AFFINE: Self = Self { least: 0.0, most: 15.0, reach: 15.0, ..Self::INT4 };
    pub(super) const INT8: Self = Self { least: -127.0, most: 127.0, reach: 127.0, ..Self::INT4 };
    pub(super) const Q4_0: Self =
        Self { least: 0.0, most: 15.0, before: 8.5, rounding: Rounding::Down, center: 8.0, reach: 8.0 };
    pub(super) const Q4_1: Self = Self { before: 0.5, center: 0.0, reach: 15.0, ..Self::Q4_0 };
    pub(super) const Q8_0: Self = Self { rounding: Rounding::Away, ..Self::INT8 };

    /// The code of one value.
    pub(super) fn code(&self, value: f32, scale: &Scale) -> f32 {
        let place = (value - scale.low) * scale.inverse + self.before;
        let whole = match self.rounding {
            Rounding::Even => place.round_ties_even(),
            Rounding::Away => place.round(),
            Rounding::Down => place.trunc(),
        };
        clamp(whole, self.least, self.most)
    }
}

/// As `f32::clamp`, but what is not a number becomes the least.
#[inline(always)]
fn clamp(x: f32, least: f32, most: f32) -> f32 {
    let x = if x > least { x } else { least };
    if x < most { x } else { most }
}

wide! {
    /// `ŵ` of values that begin at place `at` of the flattened weight.
    pub(super) fn read(
        steps: Steps,
        scales: &[Scale],
        block: usize,
        at: usize,
        values: &[f32],
        out: &mut [f32],
    ) {
        match steps.rounding {
            Rounding::Even => each(steps, scales, block, at, values, out, |x| x.round_ties_even()),
            Rounding::Away => each(steps, scales, block, at, values, out, |x| x.round()),
            Rounding::Down => each(steps, scales, block, at, values, out, |x| x.trunc()),
        }
    }
}

#[inline(always)]
fn each(
    steps: Steps,
    scales: &[Scale],
    block: usize,
    at: usize,
    values: &[f32],
    out: &mut [f32],
    round: impl Fn(f32) -> f32,
) {
    let mut done = 0;
    while done < values.len() {
        let number = (at + done) / block;
        let end = ((number + 1) * block - at).min(values.len());
        let scale = scales[number];
        for (to, &x) in out[done..end].iter_mut().zip(&values[done..end]) {
            let place = round((x - scale.low) * scale.inverse + steps.before);
            *to = (clamp(place, steps.least, steps.most) - steps.center) * scale.scale + scale.zero;
        }
        done = end;
    }
}

wide! {
    /// Smallest and largest of every block of `block` values.
    pub(super) fn extremes(values: &[f32], block: usize, out: &mut [[f32; 2]]) {
        for (values, out) in values.chunks(block).zip(out) {
            *out = extremes_of(values);
        }
    }
}

/// Sixteen lanes, so that it is compiled to vectors.
#[inline(always)]
fn extremes_of(values: &[f32]) -> [f32; 2] {
    const LANES: usize = 16;
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for ((low, high), &x) in low.iter_mut().zip(&mut high).zip(chunk) {
            *low = if x < *low { x } else { *low };
            *high = if x > *high { x } else { *high };
        }
    }
    for ((low, high), &x) in low.iter_mut().zip(&mut high).zip(rest) {
        *low = if x < *low { x } else { *low };
        *high = if x > *high { x } else { *high };
    }
    let least = low.iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a });
    let most = high.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    [least, most]
}
