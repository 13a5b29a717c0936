//! Rotary position embedding: dimensions `i` and `i + n/2` of a head's first `n` turn by `position · frequency[i]`; or, in
//! GPT-J's order, dimensions `2i` and `2i + 1`.
//!
//! `(a, b) → (a cos − b sin, b cos + a sin)`; the gradient turns back.

use super::rows_of;
use super::simd::wide;
use crate::spec::Rope;
use rayon::prelude::*;

/// Cosines and sines for positions `0..positions`, each `[positions, n/2]`.
#[derive(Clone, Debug, Default)]
pub struct Table {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
    /// Neighbours turn together.
    interleaved: bool,
}

/// Where the heads that turn lie in a row.
#[derive(Clone, Copy, Debug)]
pub struct Turned {
    /// Distance of rows.
    pub stride: usize,
    /// First head.
    pub offset: usize,
    /// From head to head.
    pub step: usize,
    /// Heads.
    pub heads: usize,
}

impl Table {
    /// For frequencies in radians a position; `scale` multiplies cosines and sines (1 but for YaRN and longrope).
    pub fn new(frequencies: &[f32], positions: usize, scale: f32) -> Self {
        let mut table = Self { half: frequencies.len(), ..Self::default() };
        for position in 0..positions {
            for &frequency in frequencies {
                let angle = position as f32 * frequency;
                table.cos.push(angle.cos() * scale);
                table.sin.push(angle.sin() * scale);
            }
        }
        table
    }

    /// Cosines, sines, and how many of each a position has.
    pub fn values(&self) -> (&[f32], &[f32], usize) {
        (&self.cos, &self.sin, self.half)
    }

    /// Neighbours turn together.
    pub fn is_interleaved(&self) -> bool {
        self.interleaved
    }

    /// Positions that it covers.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(usize::MAX)
    }

    /// Turns the heads of rows whose positions are `first, first + 1, …`, beginning anew every `seq` rows; and, where there are
    /// `starts`, one for every row, at those places of a sequence.
    pub fn turn(&self, rows: &mut [f32], at: Turned, seq: usize, first: usize, starts: &[u32], back: bool) {
        wide! {
            fn halves(row: &mut [f32], at: Turned, cos: &[f32], sin: &[f32], sign: f32) {
                let half = cos.len();
                let sin = &sin[..half];
                for head in 0..at.heads {
                    let (a, b) = row[at.offset + head * at.step..][..2 * half].split_at_mut(half);
                    let b = &mut b[..half];
                    for i in 0..half {
                        let (x, y) = (a[i], b[i]);
                        a[i] = x * cos[i] - y * sin[i] * sign;
                        b[i] = y * cos[i] + x * sin[i] * sign;
                    }
                }
            }
        }
        wide! {
            fn pairs(row: &mut [f32], at: Turned, cos: &[f32], sin: &[f32], sign: f32) {
                for head in 0..at.heads {
                    let turned = &mut row[at.offset + head * at.step..][..2 * cos.len()];
                    for (pair, (cos, sin)) in turned.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin)) {
                        let [x, y] = *pair;
                        *pair = [x * cos - y * sin * sign, y * cos + x * sin * sign];
                    }
                }
            }
        }
        if self.half == 0 {
            return;
        }
        let some = rows_of(at.stride);
        let sign = if back { -1.0 } else { 1.0 };
        rows.par_chunks_mut(at.stride * some).enumerate().for_each(|(index, rows)| {
            for (row, number) in rows.chunks_mut(at.stride).zip(index * some..) {
                let start = starts.get(number).map_or(0, |&start| start as usize);
                let position = (first + number % seq - start) * self.half;
                let angles = position..position + self.half;
                let (cos, sin) = (&self.cos[angles.clone()], &self.sin[angles]);
                if self.interleaved { pairs(row, at, cos, sin, sign) } else { halves(row, at, cos, sin, sign) }
            }
        });
    }
}

impl Rope {
    /// Cosines and sines for sequences of up to `positions`, of which the longest has `longest`.
    pub fn table(&self, positions: usize, longest: usize) -> Table {
        Table { interleaved: self.interleaved, ..Table::new(&self.frequencies_of(longest), positions, self.scale) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_back_undoes_it() {
        let table = Table::new(&[1.0, 0.25], 8, 1.0);
        let before: Vec<f32> = (0..8 * 10).map(|i| (i % 13) as f32 - 6.0).collect();
        let mut rows = before.clone();
        let at = Turned { stride: 10, offset: 1, step: 4, heads: 2 };
        table.turn(&mut rows, at, 4, 3, &[], false);
        assert_ne!(rows, before);
        // Row 5 is position 3 + 1; its first head begins at 1 and turns (1, 3) and (2, 4).
        let (x, y) = (before[51], before[53]);
        assert!((rows[51] - (x * 4f32.cos() - y * 4f32.sin())).abs() < 1e-5);
        assert_eq!(rows[50], before[50]);
        table.turn(&mut rows, at, 4, 3, &[], true);
        assert!(rows.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_eq!(table.positions(), 8);
    }
}
