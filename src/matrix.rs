//! [`Matrix`]: the currency between the analysis floors.

use crate::error::{Error, Result};

/// A dense matrix, `rows × cols`, row-major `f32`. A linear layer's weight reads `[out, in]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// Wraps row-major values; the length must be `rows · cols`.
    pub fn new(rows: usize, cols: usize, data: Vec<f32>) -> Result<Self> {
        match rows.checked_mul(cols) {
            Some(n) if n == data.len() => Ok(Self { rows, cols, data }),
            _ => Err(Error::failure(format!("{} values do not fill a matrix of {rows} × {cols}", data.len()))),
        }
    }

    /// All zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, data: vec![0.0; rows * cols] }
    }

    /// `value(row, col)` in every cell.
    pub fn from_fn(rows: usize, cols: usize, mut value: impl FnMut(usize, usize) -> f32) -> Self {
        let mut data = Vec::with_capacity(rows * cols);
        for row in 0..rows {
            data.extend((0..cols).map(|col| value(row, col)));
        }
        Self { rows, cols, data }
    }

    /// Number of rows (`out` of a weight).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (`in` of a weight).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// All values, row after row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All values, to change in place.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.cols..][..self.cols]
    }

    /// One cell.
    pub fn get(&self, row: usize, col: usize) -> f32 {
        self.data[row * self.cols + col]
    }

    /// The values, given away.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// Rows and columns exchanged.
    pub fn transposed(&self) -> Self {
        // Blocks of 32: both sides stay in the first-level cache.
        const SIDE: usize = 32;
        let mut out = Self::zeros(self.cols, self.rows);
        for r0 in (0..self.rows).step_by(SIDE) {
            for c0 in (0..self.cols).step_by(SIDE) {
                for r in r0..(r0 + SIDE).min(self.rows) {
                    for c in c0..(c0 + SIDE).min(self.cols) {
                        out.data[c * self.rows + r] = self.data[r * self.cols + c];
                    }
                }
            }
        }
        out
    }

    /// `‖·‖_F = sqrt(Σ x²)`, accumulated in `f64`.
    pub fn frobenius(&self) -> f64 {
        self.data.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_first() {
        let m = Matrix::new(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(m.row(1), [4.0, 5.0, 6.0]);
        assert_eq!(m.transposed(), Matrix::new(3, 2, vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]).unwrap());
        assert!((m.frobenius() - 91f64.sqrt()).abs() < 1e-12);
        assert!(Matrix::new(2, 2, vec![0.0]).is_err());
    }

    #[test]
    fn transposing_twice_is_nothing() {
        let m = Matrix::from_fn(70, 33, |r, c| (r * 100 + c) as f32);
        assert_eq!(m.transposed().transposed(), m);
        assert_eq!(m.transposed().get(5, 69), m.get(69, 5));
    }
}
