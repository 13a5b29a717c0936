//! `tuned − base`, streamed: one `f32` matrix in memory, everything else stays in the files.

use super::Dense;
use crate::checkpoint::read::{BLOCK, Flaws, rows_of};
use crate::checkpoint::{Dtype, Reader};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::Progress;
use rayon::prelude::*;
use std::sync::Arc;

/// A weight and the type that it is stored in.
pub(super) struct Side<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) dtype: Dtype,
}

/// What a pass over some rows found.
#[derive(Clone, Copy, Default)]
struct Seen {
    base: Flaws,
    tuned: Flaws,
    /// Two finite values can differ by more than f32 holds.
    difference: Flaws,
    /// Σ ulp(w_base)² + ulp(w_tuned)².
    squares: f64,
}

impl Seen {
    fn and(self, other: Self) -> Self {
        Self {
            base: self.base.and(other.base),
            tuned: self.tuned.and(other.tuned),
            difference: self.difference.and(other.difference),
            squares: self.squares + other.squares,
        }
    }
}

/// Reads both weights once and subtracts them block of rows by block of rows.
///
/// # Errors
/// NaN and Inf in either weight, counted; cancellation.
pub(super) fn subtract(base: &Side, tuned: &Side, epsilon: f64, progress: &dyn Progress) -> Result<Dense> {
    /// Blocks between two reports of progress.
    const TURN: usize = 16;
    let [rows, cols] = tuned.reader.shape();
    let ulps = Ulp::of(base.dtype).zip(Ulp::of(tuned.dtype));
    let mut data = vec![0f32; rows * cols];
    let block = rows_of(BLOCK, cols);
    let mut seen = Seen::default();
    for (turn, part) in data.chunks_mut((TURN * block * cols).max(1)).enumerate() {
        progress.step((turn * TURN * block) as u64, rows as u64)?;
        let blocks = part.par_chunks_mut((block * cols).max(1)).enumerate();
        let found = blocks.map_init(Vec::new, |other, (index, out)| {
            let first = (turn * TURN + index) * block;
            let range = first..first + out.len() / cols.max(1);
            other.resize(out.len(), 0f32);
            tuned.reader.rows(range.clone(), out)?;
            base.reader.rows(range, other)?;
            let squares = ulps.map_or(0.0, |(base, tuned)| base.squares(other) + tuned.squares(out));
            let (base, tuned) = (Flaws::of(other, first, cols), Flaws::of(out, first, cols));
            out.iter_mut().zip(other.iter()).for_each(|(tuned, base)| *tuned -= base);
            Ok(Seen { base, tuned, difference: Flaws::of(out, first, cols), squares })
        });
        seen = seen.and(found.try_reduce(Seen::default, |a, b| Ok(a.and(b)))?);
    }
    progress.step(rows as u64, rows as u64)?;
    seen.tuned.check(rows * cols, tuned.reader.path(), tuned.reader.tensor())?;
    seen.base.check(rows * cols, base.reader.path(), base.reader.tensor())?;
    seen.difference.check(rows * cols, tuned.reader.path(), &format!("{} − base", tuned.reader.tensor()))?;
    let rounding_std = ulps.map(|_| (seen.squares / (rows * cols) as f64 / 12.0).sqrt());
    Ok(Dense { matrix: Arc::new(Matrix::new(rows, cols, data)?), epsilon, rounding_std })
}

/// Distance between neighbouring numbers of a type: `ulp(x) = 2^(max(⌊log2 |x|⌋, least) − mantissa)`.
#[derive(Clone, Copy)]
struct Ulp {
    mantissa: i32,
    least: i32,
}

impl Ulp {
    fn of(dtype: Dtype) -> Option<Self> {
        // What is read is f32: an f64's exponents under f32's range do not come through.
        dtype.float().map(|(mantissa, least)| Self { mantissa, least: least.max(-126) })
    }

    /// Σ ulp(x)².
    fn squares(self, values: &[f32]) -> f64 {
        values.iter().map(|x| self.square(*x)).sum()
    }

    fn square(self, x: f32) -> f64 {
        let exponent = (x.to_bits() >> 23 & 0xff) as i32 - 127;
        let power = 2 * (exponent.max(self.least) - self.mantissa);
        // Between 2^-356 and 2^256: always a normal f64, put together from its exponent.
        f64::from_bits(((power + 1023) as u64) << 52)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.spacing` of numpy 2.4 for float32 and float16; for bfloat16 the next number's distance, by hand.
    #[test]
    fn ulps_are_numpys_spacing() {
        let ulp = |dtype, x| Ulp::of(dtype).unwrap().square(x).sqrt();
        assert_eq!(ulp(Dtype::F32, 1.0), 1.1920928955078125e-7);
        assert_eq!(ulp(Dtype::F32, -3.5), 2.384185791015625e-7);
        assert_eq!(ulp(Dtype::F32, 0.0), f64::from(f32::from_bits(1)));
        assert_eq!(ulp(Dtype::F16, 1.0), 0.0009765625);
        assert_eq!(ulp(Dtype::F16, 0.02), 1.52587890625e-5);
        assert_eq!(ulp(Dtype::F16, 0.0), 5.960464477539063e-8);
        assert_eq!(ulp(Dtype::BF16, 1.0), 0.0078125);
        assert_eq!(ulp(Dtype::BF16, 0.02), 0.0001220703125);
        assert_eq!(ulp(Dtype::F8E4M3, 1.0), 0.125);
        assert!(Ulp::of(Dtype::NF4).is_none());
    }
}
