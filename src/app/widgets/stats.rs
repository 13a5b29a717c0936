//! What a colour range is chosen from: extremes, and percentiles of the magnitude.

use crate::hash::mixed;
use rayon::prelude::*;

/// Values whose magnitudes are kept for percentiles.
const SAMPLE: usize = 1 << 16;

/// Extremes of a set of values (exact) and percentiles of their magnitudes (of an evenly spread sample of at most 65,536).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Smallest finite value; 0 if there is none.
    pub min: f32,
    /// Largest finite value; 0 if there is none.
    pub max: f32,
    /// How many values are NaN or infinite.
    pub not_finite: usize,
    /// Finite magnitudes, ascending.
    magnitudes: Vec<f32>,
}

impl Stats {
    /// Looks at every value once for the extremes.
    pub fn of(values: &[f32]) -> Self {
        const CHUNK: usize = 1 << 16;
        let (min, max, not_finite) = values
            .par_chunks(CHUNK)
            .map(extremes)
            .reduce(|| (f32::INFINITY, f32::NEG_INFINITY, 0), |a, b| (a.0.min(b.0), a.1.max(b.1), a.2 + b.2));
        let (min, max) = if min <= max { (min, max) } else { (0.0, 0.0) };
        let mut magnitudes: Vec<f32> = sample(values).map(f32::abs).filter(|x| x.is_finite()).collect();
        magnitudes.sort_unstable_by(f32::total_cmp);
        Self { min, max, not_finite, magnitudes }
    }

    /// `max |x|`.
    pub fn magnitude(&self) -> f32 {
        self.max.max(-self.min)
    }

    /// The magnitude that `percent` of the values do not exceed; 100 is [`magnitude`](Self::magnitude).
    pub fn percentile(&self, percent: f64) -> f32 {
        let Some(last) = self.magnitudes.len().checked_sub(1) else { return 0.0 };
        if percent >= 100.0 {
            return self.magnitude();
        }
        let rank = (percent.max(0.0) / 100.0 * last as f64).ceil() as usize;
        self.magnitudes[rank.min(last)]
    }
}

/// Minimum and maximum of the finite values, and the number of others. Sixteen lanes, so that it is compiled to vectors.
fn extremes(values: &[f32]) -> (f32, f32, usize) {
    const LANES: usize = 16;
    let (mut low, mut high, mut bad) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0_u32; LANES]);
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut look = |i: usize, x: f32| {
        let finite = x.abs() < f32::INFINITY;
        let (a, b) = if finite { (x, x) } else { (f32::INFINITY, f32::NEG_INFINITY) };
        low[i] = if a < low[i] { a } else { low[i] };
        high[i] = if b > high[i] { b } else { high[i] };
        bad[i] += u32::from(!finite);
    };
    for chunk in whole {
        for (i, &x) in chunk.iter().enumerate() {
            look(i, x);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        look(i, x);
    }
    let fold = |values: [f32; LANES], pick: fn(f32, f32) -> f32| values.into_iter().fold(values[0], pick);
    (fold(low, f32::min), fold(high, f32::max), bad.iter().map(|&n| n as usize).sum())
}

/// All values, or [`SAMPLE`] of them: one from a pseudo-random place in each of equal stretches, the same every time, so that no
/// row or column of a matrix is favoured.
fn sample(values: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let count = values.len().min(SAMPLE);
    (0..count).map(move |i| {
        let start = (i as u128 * values.len() as u128 / count as u128) as usize;
        let end = ((i as u128 + 1) * values.len() as u128 / count as u128) as usize;
        values[start + (mixed(i as u64 + 1) % (end - start).max(1) as u64) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_leave_out_what_is_not_finite() {
        let stats = Stats::of(&[1.0, f32::NAN, -3.0, f32::INFINITY, 2.0]);
        assert_eq!((stats.min, stats.max, stats.not_finite), (-3.0, 2.0, 2));
        assert_eq!(stats.magnitude(), 3.0);
        assert_eq!(Stats::of(&[]), Stats::default());
        assert_eq!(Stats::of(&[f32::NAN]).percentile(99.0), 0.0);
    }

    #[test]
    fn percentiles_of_one_to_a_thousand() {
        let values: Vec<f32> = (0..=1000).map(|x| if x % 2 == 0 { x as f32 } else { -x as f32 }).collect();
        let stats = Stats::of(&values);
        assert_eq!(stats.percentile(99.0), 990.0);
        assert_eq!(stats.percentile(100.0), 1000.0);
        assert_eq!(stats.percentile(0.0), 0.0);
    }

    #[test]
    fn a_sample_of_many_is_close() {
        let values: Vec<f32> = (0..3_000_000).map(|x| (x % 4096) as f32).collect();
        let p99 = Stats::of(&values).percentile(99.0);
        assert!((p99 / 4055.0 - 1.0).abs() < 0.005, "{p99}");
        assert_eq!(Stats::of(&values).max, 4095.0);
    }
}
