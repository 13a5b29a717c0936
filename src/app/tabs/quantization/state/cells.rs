//! What the three heatmaps show, cell by cell, from a weight and the scales of one or two formats.

use std::ops::Range;
use std::sync::Arc;

use crate::app::widgets::derived::Cells;
use crate::matrix::Matrix;
use crate::quant::Fit;

/// What a cell is.
#[derive(Clone)]
pub enum Quantity {
    /// `w`.
    Weight,
    /// `ŵ`.
    Rounded(Arc<Fit>),
    /// `ŵ − w`.
    Error(Arc<Fit>),
    /// `ŵ` as a file stores it.
    Stored(Arc<Matrix>),
    /// That, `− w`.
    StoredError(Arc<Matrix>),
    /// `ŵ_A − ŵ_B`.
    Difference(Arc<Fit>, Arc<Fit>),
    /// `|ŵ_A − w| − |ŵ_B − w|`: below zero where A is nearer.
    Gap(Arc<Fit>, Arc<Fit>),
}

/// A weight seen as one of them.
pub struct Seen {
    /// The weight.
    pub weight: Arc<Matrix>,
    /// What of it.
    pub quantity: Quantity,
    /// Magnitudes only.
    pub absolute: bool,
}

impl Cells for Seen {
    fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    fn row(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let all = self.weight.data();
        let start = row * self.weight.cols();
        let range = start + cols.start..start + cols.end;
        let values = &all[range.clone()];
        match &self.quantity {
            Quantity::Weight => out.copy_from_slice(values),
            Quantity::Rounded(fit) => fit.read(all, range, out),
            Quantity::Error(fit) => {
                fit.read(all, range, out);
                out.iter_mut().zip(values).for_each(|(r, w)| *r -= w);
            }
            Quantity::Stored(stored) => out.copy_from_slice(&stored.data()[range]),
            Quantity::StoredError(stored) => {
                let pairs = stored.data()[range].iter().zip(values);
                out.iter_mut().zip(pairs).for_each(|(out, (stored, w))| *out = stored - w);
            }
            Quantity::Difference(a, b) => {
                let mut other = vec![0f32; out.len()];
                a.read(all, range.clone(), out);
                b.read(all, range, &mut other);
                out.iter_mut().zip(&other).for_each(|(a, b)| *a -= b);
            }
            Quantity::Gap(a, b) => {
                let mut other = vec![0f32; out.len()];
                a.read(all, range.clone(), out);
                b.read(all, range, &mut other);
                let cells = out.iter_mut().zip(&other).zip(values);
                cells.for_each(|((a, b), w)| *a = (*a - w).abs() - (b - w).abs());
            }
        }
        if self.absolute {
            out.iter_mut().for_each(|x| *x = x.abs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Format, Recipe};

    #[test]
    fn quantities_by_hand() {
        let weight = Arc::new(Matrix::new(1, 4, vec![1.0, -0.4, 0.3, 0.0]).unwrap());
        let fit = |format| Arc::new(Fit::new(weight.data(), [1, 4], Recipe::new(format)).unwrap());
        let (a, b) = (fit(Format::Int4Symmetric), fit(Format::F16));
        let row = |quantity, absolute| {
            let mut out = [0f32; 4];
            Seen { weight: weight.clone(), quantity, absolute }.row(0, 0..4, &mut out);
            out
        };
        // Steps of 1/7: −0.4 → −3/7, 0.3 → 2/7.
        let rounded = row(Quantity::Rounded(a.clone()), false);
        assert!((rounded[1] + 3.0 / 7.0).abs() < 1e-6 && (rounded[2] - 2.0 / 7.0).abs() < 1e-6);
        let error = row(Quantity::Error(a.clone()), false);
        assert!((error[1] + 3.0 / 7.0 - 0.4).abs() < 1e-6 && (error[2] - 2.0 / 7.0 + 0.3).abs() < 1e-6);
        assert!(row(Quantity::Error(a.clone()), true).iter().all(|&x| x >= 0.0));
        assert!(row(Quantity::Gap(a.clone(), b.clone()), false)[1] > 0.0, "half precision is nearer");
        assert!((row(Quantity::Difference(a, b), false)[1] - (-3.0 / 7.0 + 0.4)).abs() < 1e-3);
        assert_eq!(row(Quantity::Weight, true)[1], 0.4);
        let stored = Arc::new(Matrix::new(1, 4, vec![1.0, -0.5, 0.25, 0.0]).unwrap());
        assert_eq!(row(Quantity::Stored(stored.clone()), false), [1.0, -0.5, 0.25, 0.0]);
        assert!((row(Quantity::StoredError(stored), true)[1] - 0.1).abs() < 1e-6);
    }
}
