//! What a block shares, found from its smallest and its largest value.

use super::Scale;

/// Formats that share nothing, or pack it themselves.
pub(super) fn none(_: [f32; 2]) -> Scale {
    Scale::default()
}

/// bitsandbytes divides by 1e-38 at least; in a short block it divides by the largest, which is kept for that.
pub(super) fn absmax(ends: [f32; 2]) -> Scale {
    let absmax = magnitude(ends);
    Scale { inverse: 1.0 / absmax.max(1e-38), scale: absmax, low: 0.0, zero: absmax }
}

/// So many steps to the largest magnitude.
pub(super) fn steps(ends: [f32; 2], most: f32) -> Scale {
    let absmax = magnitude(ends);
    plain(finite(most / absmax), absmax / most)
}

/// The range holds zero, and zero is a level: its code is the zero point.
pub(super) fn affine([low, high]: [f32; 2]) -> Scale {
    let (low, high) = (low.min(0.0), high.max(0.0));
    let (inverse, scale) = (finite(15.0 / (high - low)), (high - low) / 15.0);
    let zero = -(-low * inverse).round_ties_even() * scale;
    Scale { inverse, scale, low: zero, zero }
}

/// Both ends are the value of largest magnitude.
pub(super) fn q4_0([largest, _]: [f32; 2]) -> Scale {
    plain(inverse(largest / -8.0), half(largest / -8.0))
}

/// A step and the minimum.
pub(super) fn q4_1([low, high]: [f32; 2]) -> Scale {
    let step = (high - low) / 15.0;
    Scale { inverse: inverse(step), scale: half(step), low, zero: half(low) }
}

/// 127 steps, the scale in half precision.
pub(super) fn q8_0(ends: [f32; 2]) -> Scale {
    let step = magnitude(ends) / 127.0;
    let inverse = inverse(step);
    plain(if inverse.is_nan() { 0.0 } else { inverse }, half(step))
}

fn magnitude([low, high]: [f32; 2]) -> f32 {
    if -low > high { -low } else { high }
}

fn half(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

/// As numpy's `where(d == 0, 0, 1 / d)`. Where that overflows, numpy's conversion to bytes makes every code 0: so does NaN here.
fn inverse(step: f32) -> f32 {
    match 1.0 / step {
        _ if step == 0.0 => 0.0,
        inverse if inverse.is_finite() => inverse,
        _ => f32::NAN,
    }
}

fn plain(inverse: f32, scale: f32) -> Scale {
    Scale { inverse, scale, ..Scale::default() }
}

fn finite(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}
