//! [`Measures`]: how far a rounded weight is from the weight, in one pass; [`Detail`]: where, and how it is spread.
//!
//! The error is `e = ŵ − w`. Sums are added up in `f64`; median and percentile come from counts of magnitudes in bins of 0.2 %.

use super::fit::Fit;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::simd::wide;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// The error of a weight, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// Weights.
    pub count: u64,
    /// `sqrt(mean e²)`.
    pub rmse: f64,
    /// `‖Ŵ − W‖ / ‖W‖`; 0 where both are 0.
    pub relative_rmse: f64,
    /// `‖Ŵ − W‖_F`.
    pub norm: f64,
    /// `‖W‖_F`.
    pub weight_norm: f64,
    /// `max |e|`.
    pub max_abs: f64,
    /// Row and column of the first largest.
    pub max_at: [usize; 2],
    /// Median of `|e|`.
    pub median: f64,
    /// What 95 % of `|e|` do not exceed.
    pub p95: f64,
    /// `20 log₁₀ (‖W‖ / ‖Ŵ − W‖)`; infinite without an error.
    pub sqnr_db: f64,
    /// `⟨w, ŵ⟩ / (‖w‖ ‖ŵ‖)`; not a number where one of them is 0.
    pub cosine: f64,
    /// `mean e`.
    pub bias: f64,
}

/// Weights between two reports of progress.
const PART: usize = 1 << 20;
/// Weights that are rounded at a time: they stay in the cache.
const SLICE: usize = 1 << 12;
/// Magnitudes are counted by their sign-less upper bits: 9 of the mantissa.
const SHIFT: u32 = 14;
const BINS: usize = (0x7f80_0000 >> SHIFT) as usize + 1;

/// How far `fit` is from the weight that it was made of.
///
/// # Errors
/// Cancellation.
pub fn measure(values: &[f32], fit: &Fit, progress: &dyn Progress) -> Result<Measures> {
    let total = values.len() as u64;
    let done = AtomicU64::new(0);
    let sums = values
        .par_chunks(PART)
        .enumerate()
        .try_fold(Sums::new, |mut sums, (index, part)| {
            let mut rounded = [0f32; SLICE];
            for (slice, chunk) in part.chunks(SLICE).enumerate() {
                let at = index * PART + slice * SLICE;
                let rounded = &mut rounded[..chunk.len()];
                fit.read(values, at..at + chunk.len(), rounded);
                sums.add(at, chunk, rounded);
            }
            progress.step(done.fetch_add(part.len() as u64, Ordering::Relaxed) + part.len() as u64, total)?;
            Ok(sums)
        })
        .try_reduce(Sums::new, |a, b| Ok(a.and(b)))?;
    Ok(sums.measures(fit.shape()[1]))
}

/// How far a weight as it is stored, `rounded`, is from what it was made of; both `[_, cols]`.
///
/// # Errors
/// Cancellation; weights of two sizes.
pub fn measure_stored(values: &[f32], rounded: &[f32], cols: usize, progress: &dyn Progress) -> Result<Measures> {
    if values.len() != rounded.len() {
        return Err(Error::failure(format!("{} values beside {}", values.len(), rounded.len())));
    }
    let pairs = values.par_chunks(PART).zip(rounded.par_chunks(PART)).enumerate();
    let sums = pairs
        .try_fold(Sums::new, |mut sums, (index, (values, rounded))| {
            progress.step(0, 1)?;
            let mut copy = [0f32; SLICE];
            for (slice, (values, rounded)) in values.chunks(SLICE).zip(rounded.chunks(SLICE)).enumerate() {
                let copy = &mut copy[..values.len()];
                copy.copy_from_slice(rounded);
                sums.add(index * PART + slice * SLICE, values, copy);
            }
            Ok(sums)
        })
        .try_reduce(Sums::new, |a, b| Ok(a.and(b)))?;
    Ok(sums.measures(cols))
}

/// Largest weights between which sums of 4,096 squares, of them and of errors a millionth as large, stay within `f32`.
const SMALL: f32 = 1e-12;
const LARGE: f32 = 1e15;

/// As [`squares`], in `f64`.
fn slow_squares(values: &[f32], rounded: &mut [f32], sums: &mut [f64; 5]) -> f32 {
    let mut largest = 0f32;
    for (&w, r) in values.iter().zip(rounded) {
        let (weight, value) = (f64::from(w), f64::from(*r));
        let e = value - weight;
        for (sum, term) in sums.iter_mut().zip([e * e, weight * weight, value * value, weight * value, e]) {
            *sum += term;
        }
        *r = e.abs() as f32;
        largest = if *r > largest { *r } else { largest };
    }
    largest
}

/// What is added up.
struct Sums {
    count: u64,
    error2: f64,
    weight2: f64,
    rounded2: f64,
    product: f64,
    error: f64,
    most: f32,
    most_at: usize,
    bins: Vec<u32>,
}

impl Sums {
    fn new() -> Self {
        Self {
            count: 0,
            error2: 0.0,
            weight2: 0.0,
            rounded2: 0.0,
            product: 0.0,
            error: 0.0,
            most: 0.0,
            most_at: 0,
            bins: Vec::new(),
        }
    }

    fn add(&mut self, at: usize, values: &[f32], rounded: &mut [f32]) {
        let mut sums = [0f64; 5];
        let largest = values.iter().fold(0f32, |most, w| if w.abs() > most { w.abs() } else { most });
        // Squares in f32 hold between these; beyond, every one is taken in f64.
        let most = if largest == 0.0 || (SMALL..LARGE).contains(&largest) {
            squares(values, rounded, &mut sums)
        } else {
            slow_squares(values, rounded, &mut sums)
        };
        self.count += values.len() as u64;
        self.error2 += sums[0];
        self.weight2 += sums[1];
        self.rounded2 += sums[2];
        self.product += sums[3];
        self.error += sums[4];
        if most > self.most {
            self.most = most;
            // `rounded` holds the magnitudes now.
            self.most_at = at + rounded.iter().position(|&e| e == most).unwrap_or(0);
        }
        if self.bins.is_empty() {
            self.bins = vec![0; BINS];
        }
        for e in rounded {
            self.bins[((e.to_bits() >> SHIFT) as usize).min(BINS - 1)] += 1;
        }
    }

    fn and(mut self, other: Self) -> Self {
        if self.bins.is_empty() {
            return other;
        }
        self.bins.iter_mut().zip(&other.bins).for_each(|(a, b)| *a += b);
        // The first of equals, whichever thread found it.
        let later = other.most > self.most || (other.most == self.most && other.most_at < self.most_at);
        if later && !other.bins.is_empty() {
            (self.most, self.most_at) = (other.most, other.most_at);
        }
        self.count += other.count;
        self.error2 += other.error2;
        self.weight2 += other.weight2;
        self.rounded2 += other.rounded2;
        self.product += other.product;
        self.error += other.error;
        self
    }

    fn measures(&self, cols: usize) -> Measures {
        let count = self.count.max(1) as f64;
        let (norm, weight_norm) = (self.error2.sqrt(), self.weight2.sqrt());
        Measures {
            count: self.count,
            rmse: (self.error2 / count).sqrt(),
            relative_rmse: if norm == 0.0 { 0.0 } else { norm / weight_norm },
            norm,
            weight_norm,
            max_abs: f64::from(self.most),
            max_at: [self.most_at / cols.max(1), self.most_at % cols.max(1)],
            median: self.quantile(0.5),
            p95: self.quantile(0.95),
            sqnr_db: 20.0 * (weight_norm / norm).log10(),
            cosine: self.product / (weight_norm * self.rounded2.sqrt()),
            bias: self.error / count,
        }
    }

    /// The magnitude that a share of the errors does not exceed, straight within a bin.
    fn quantile(&self, share: f64) -> f64 {
        let rank = share * self.count.saturating_sub(1) as f64;
        let mut below = 0f64;
        for (bin, &count) in self.bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            if below + f64::from(count) > rank {
                let edge = |bin: usize| f64::from(f32::from_bits((bin as u32) << SHIFT));
                // The bin of zero is zero.
                let low = edge(bin);
                let high = if bin == 0 { 0.0 } else { edge(bin + 1) };
                let inside = (rank - below + 0.5) / f64::from(count);
                return (low + (high - low) * inside).min(f64::from(self.most));
            }
            below += f64::from(count);
        }
        0.0
    }
}

wide! {
    /// Adds up `e²`, `w²`, `ŵ²`, `w ŵ` and `e`; leaves `|e|` in the place of `ŵ`, and returns the largest.
    fn squares(values: &[f32], rounded: &mut [f32], sums: &mut [f64; 5]) -> f32 {
        const LANES: usize = 32;
        let mut most = [0f32; LANES];
        let mut lanes = [[0f32; LANES]; 5];
        let (whole, rest) = values.as_chunks::<LANES>();
        let (rounded_whole, rounded_rest) = rounded.as_chunks_mut::<LANES>();
        for (w, r) in whole.iter().zip(rounded_whole) {
            for lane in 0..LANES {
                let e = r[lane] - w[lane];
                lanes[0][lane] += e * e;
                lanes[1][lane] += w[lane] * w[lane];
                lanes[2][lane] += r[lane] * r[lane];
                lanes[3][lane] += w[lane] * r[lane];
                lanes[4][lane] += e;
                let size = e.abs();
                most[lane] = if size > most[lane] { size } else { most[lane] };
                r[lane] = size;
            }
        }
        for (sum, lanes) in sums.iter_mut().zip(&lanes) {
            *sum += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
        let mut largest = most.iter().fold(0f32, |a, &b| if b > a { b } else { a });
        for (&w, r) in rest.iter().zip(rounded_rest) {
            let e = *r - w;
            for (sum, term) in sums.iter_mut().zip([e * e, w * w, *r * *r, w * *r, e]) {
                *sum += f64::from(term);
            }
            *r = e.abs();
            largest = if *r > largest { *r } else { largest };
        }
        largest
    }
}

/// How an error is spread over a weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    /// RMSE of every row.
    pub by_row: Vec<f32>,
    /// RMSE of every column.
    pub by_col: Vec<f32>,
    /// RMSE of every block; empty where there are none.
    pub by_block: Vec<f32>,
    /// Counts of `e` in equal bins over −reach…reach; what lies beyond is in the last ones.
    pub histogram: Vec<u64>,
    /// See `histogram`.
    pub reach: f64,
}

impl Detail {
    /// Bins of the histogram.
    pub const BINS: usize = 121;

    /// Looks once more at every weight.
    ///
    /// # Errors
    /// Cancellation.
    pub fn new(values: &[f32], fit: &Fit, measures: &Measures, progress: &dyn Progress) -> Result<Self> {
        let [rows, cols] = fit.shape();
        let reach = measures.max_abs.min(3.0 * measures.p95).max(f64::from(f32::MIN_POSITIVE));
        let scale = (Self::BINS as f64 / (2.0 * reach)) as f32;
        let band = (PART / cols.max(1)).max(1);
        let done = AtomicU64::new(0);
        let mut by_row = vec![0f32; rows];
        let bands = values.par_chunks(band * cols.max(1)).zip(by_row.par_chunks_mut(band)).enumerate();
        let empty = || (vec![0f64; cols], vec![0u64; Self::BINS]);
        let (by_col, histogram) = bands
            .try_fold(empty, |(mut by_col, mut histogram), (index, (part, by_row))| {
                let mut rounded = vec![0f32; cols];
                for (row, (values_of_row, sum)) in part.chunks(cols).zip(by_row.iter_mut()).enumerate() {
                    let at = (index * band + row) * cols;
                    fit.read(values, at..at + values_of_row.len(), &mut rounded);
                    let mut squares = 0f64;
                    for ((&w, &r), by_col) in values_of_row.iter().zip(&rounded).zip(&mut by_col) {
                        let e = r - w;
                        let square = f64::from(e) * f64::from(e);
                        squares += square;
                        *by_col += square;
                        let bin = ((e + reach as f32) * scale).max(0.0) as usize;
                        histogram[bin.min(Self::BINS - 1)] += 1;
                    }
                    *sum = (squares / cols.max(1) as f64).sqrt() as f32;
                }
                let now = done.fetch_add(by_row.len() as u64, Ordering::Relaxed) + by_row.len() as u64;
                progress.step(now, rows as u64)?;
                Ok((by_col, histogram))
            })
            .try_reduce(empty, |(mut cols_a, mut bins_a), (cols_b, bins_b)| {
                cols_a.iter_mut().zip(cols_b).for_each(|(a, b)| *a += b);
                bins_a.iter_mut().zip(bins_b).for_each(|(a, b)| *a += b);
                Ok((cols_a, bins_a))
            })?;
        let root = |square: f64| (square / rows.max(1) as f64).sqrt() as f32;
        Ok(Self {
            by_row,
            by_col: by_col.into_iter().map(root).collect(),
            by_block: by_block(values, fit),
            histogram,
            reach,
        })
    }
}

fn by_block(values: &[f32], fit: &Fit) -> Vec<f32> {
    let Some(block) = fit.block().filter(|&block| block > 0) else { return Vec::new() };
    let mut out = vec![0f32; values.len().div_ceil(block)];
    values.par_chunks(block).zip(&mut out).enumerate().with_min_len(64).for_each_init(
        || vec![0f32; block.min(SLICE)],
        |rounded, (index, (part, to))| {
            let mut sum = 0f64;
            for (slice, chunk) in part.chunks(SLICE).enumerate() {
                let at = index * block + slice * SLICE;
                let rounded = &mut rounded[..chunk.len()];
                fit.read(values, at..at + chunk.len(), rounded);
                sum += chunk.iter().zip(&*rounded).map(|(&w, &r)| f64::from(r - w).powi(2)).sum::<f64>();
            }
            *to = (sum / part.len().max(1) as f64).sqrt() as f32;
        },
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::quant::{Format, Group, Recipe};

    /// 2.25, −1, 0.5, 3 with INT4 symmetric over all four: step 3/7.
    #[test]
    fn by_hand() {
        let values = [2.25f32, -1.0, 0.5, 3.0];
        let recipe = Recipe::with(Format::Int4Symmetric, Group::Tensor, false);
        let fit = Fit::new(&values, [2, 2], recipe).unwrap();
        let step = 3.0 / 7.0;
        // 2.25/step = 5.25 → 5, −2.33 → −2, 1.17 → 1, 7.
        let rounded = [5.0 * step, -2.0 * step, step, 3.0];
        let errors: Vec<f64> = values.iter().zip(rounded).map(|(&w, r)| r - f64::from(w)).collect();
        let found = measure(&values, &fit, &()).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6 * b.abs().max(0.1), "{a} {b}");
        let square: f64 = errors.iter().map(|e| e * e).sum();
        let weight = 2.25f64 * 2.25 + 1.0 + 0.25 + 9.0;
        close(found.rmse, (square / 4.0).sqrt());
        close(found.relative_rmse, (square / weight).sqrt());
        close(found.sqnr_db, 10.0 * (weight / square).log10());
        close(found.bias, errors.iter().sum::<f64>() / 4.0);
        close(found.max_abs, 1.0 - 2.0 * step);
        assert_eq!((found.max_at, found.count), ([0, 1], 4));
        let product: f64 = values.iter().zip(rounded).map(|(&w, r)| f64::from(w) * r).sum();
        let size: f64 = rounded.iter().map(|r| r * r).sum();
        close(found.cosine, product / (weight * size).sqrt());
        let detail = Detail::new(&values, &fit, &found, &()).unwrap();
        close(f64::from(detail.by_row[0]), ((errors[0].powi(2) + errors[1].powi(2)) / 2.0).sqrt());
        close(f64::from(detail.by_col[1]), ((errors[1].powi(2) + errors[3].powi(2)) / 2.0).sqrt());
        close(f64::from(detail.by_block[0]), found.rmse);
        assert_eq!(detail.histogram.iter().sum::<u64>(), 4);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_errors() {
        let values: Vec<f32> = (0..100 * 333).map(|i| ((i * 7919 % 100_003) as f32 - 5e4) / 3e5).collect();
        let fit = Fit::new(&values, [100, 333], Recipe::default()).unwrap();
        let found = measure(&values, &fit, &()).unwrap();
        let rounded = fit.dequantize(&values);
        let mut sizes: Vec<f64> = values.iter().zip(&rounded).map(|(w, r)| f64::from((r - w).abs())).collect();
        sizes.sort_by(f64::total_cmp);
        let at = |share: f64| sizes[(share * (sizes.len() - 1) as f64).round() as usize];
        for (found, exact) in [(found.median, at(0.5)), (found.p95, at(0.95)), (found.max_abs, at(1.0))] {
            assert!((found / exact - 1.0).abs() < 3e-3, "{found} {exact}");
        }
    }

    #[test]
    fn no_error_is_no_error() {
        let fit = Fit::new(&[0.0; 64], [4, 16], Recipe::default()).unwrap();
        let found = measure(&[0.0; 64], &fit, &()).unwrap();
        assert_eq!((found.rmse, found.relative_rmse, found.p95, found.max_abs), (0.0, 0.0, 0.0, 0.0));
        assert!(found.cosine.is_nan());
        let exact = Fit::new(&[0.5, 1.0], [1, 2], Recipe::new(Format::F16)).unwrap();
        assert_eq!(measure(&[0.5, 1.0], &exact, &()).unwrap().sqnr_db, f64::INFINITY);
    }

    #[test]
    fn it_can_be_stopped() {
        struct Stop;
        impl Progress for Stop {
            fn step(&self, _: u64, _: u64) -> Result<()> {
                Err(Error::Cancelled)
            }
        }
        let fit = Fit::new(&[1.0; 64], [4, 16], Recipe::default()).unwrap();
        assert!(measure(&[1.0; 64], &fit, &Stop).unwrap_err().is_cancelled());
    }
}
