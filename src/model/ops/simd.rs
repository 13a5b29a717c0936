//! Functions and reductions that the compiler turns into vector instructions, for loops in [`wide`](crate::simd).

pub(crate) use crate::simd::wide;

/// Partial sums of a reduction: one or two registers of any width.
pub(crate) const LANES: usize = 32;

/// `Σ f(at)` over `0..count` in [`LANES`] partial sums.
#[inline(always)]
pub(crate) fn reduce(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let whole = count / LANES * LANES;
    let mut at = 0;
    while at < whole {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(at + lane);
        }
        at += LANES;
    }
    let rest: f32 = (whole..count).map(&term).sum();
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0] + rest
}

/// The largest of `values`, −∞ of none.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for (most, &x) in most.iter_mut().zip(chunk) {
            *most = if x > *most { x } else { *most };
        }
    }
    rest.iter().chain(&most).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

/// `e^x` to about 1e-7 of itself; NaN stays NaN; underflows to about 1e-38 and not to 0.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 · 2^23 rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p =
        ((((1.987_569_1e-4 * r + 1.398_2e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1) * r + 0.5;
    let y = p * r * r + r + 1.0;
    // The low bits of the shifted number are n.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    y * power
}

/// `tanh x`.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // Near 0 the difference below loses digits; a short series does not.
    let square = x * x;
    let series = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0)));
    let general = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if square < 1e-3 { series } else { general }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function (Abramowitz and Stegun 7.1.26, to 1.5e-7).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let magnitude = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * magnitude);
    let p = ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_72) * t + 0.254_829_6) * t;
    let y = 1.0 - p * exp(-x * x);
    if x < 0.0 { -y } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_agree_with_the_library() {
        for i in -4000..4000 {
            let x = i as f32 / 100.0;
            let close = |ours: f32, theirs: f64, tolerance: f64| {
                assert!(
                    (f64::from(ours) - theirs).abs() <= tolerance * theirs.abs().max(1e-30),
                    "{x}: {ours} {theirs}"
                );
            };
            let y = f64::from(x);
            close(exp(x), y.exp(), 3e-7);
            close(sigmoid(x), 1.0 / (1.0 + (-y).exp()), 4e-7);
            assert!((f64::from(tanh(x)) - y.tanh()).abs() < 2e-7, "{x}");
        }
        assert!(exp(f32::NAN).is_nan());
        // scipy.special.erf
        for (x, expected) in [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (-2.0, -0.995_322_3)] {
            assert!((erf(x) - expected).abs() < 3e-7, "{x}");
        }
    }

    #[test]
    fn sums_and_maxima() {
        let values: Vec<f32> = (0..77).map(|i| ((i * 31) % 77) as f32).collect();
        assert_eq!(reduce(77, |at| values[at]), 77.0 * 76.0 / 2.0);
        assert_eq!(largest(&values), 76.0);
        assert_eq!(largest(&[]), f32::NEG_INFINITY);
    }
}
