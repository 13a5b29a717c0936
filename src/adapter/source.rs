//! How the factors of a layer become B and A, whichever tensors they come from.

use super::factors::{Factor, Half, Source};
use super::{Adapter, lycoris};
use crate::error::Result;
use crate::matrix::Matrix;

impl Adapter {
    /// `(B, A)` of a layer before anything is taken from it.
    pub(super) fn pair(&self, source: &Source) -> Result<(Matrix, Matrix)> {
        match source {
            Source::Pair { a, b } => Ok((self.factor(b)?, self.factor(a)?)),
            Source::Core(half) => self.half(half),
            Source::Hadamard(first, second) => {
                let ((w1_b, w1_a), (w2_b, w2_a)) = (self.half(first)?, self.half(second)?);
                Ok(lycoris::hadamard(&w1_b, &w1_a, &w2_b, &w2_a))
            }
            Source::Kronecker(first, second) => {
                let first = match first {
                    Half::Whole(name) => self.read(name)?,
                    half => {
                        let (b, a) = self.half(half)?;
                        let at = |i, j| (0..b.cols()).map(|k| b.get(i, k) * a.get(k, j)).sum();
                        Matrix::from_fn(b.rows(), a.cols(), at)
                    }
                };
                let (w2_b, w2_a) = self.half(second)?;
                Ok(lycoris::kronecker(&first, &w2_b, &w2_a))
            }
        }
    }

    /// `(b, a)` of a matrix as LyCORIS stores it.
    fn half(&self, half: &Half) -> Result<(Matrix, Matrix)> {
        match half {
            Half::Product { b, a } => Ok((self.read(b)?, self.read(a)?)),
            Half::Tucker { core, b, a, upright } => {
                let b = self.read(b)?;
                let a = lycoris::with_core(&self.read(core)?, &self.read(a)?);
                Ok((if *upright { b } else { b.transposed() }, a))
            }
            Half::Whole(name) => {
                let matrix = self.read(name)?;
                let [rows, cols] = matrix.shape();
                let one = |size| Matrix::from_fn(size, size, |i, j| if i == j { 1.0 } else { 0.0 });
                Ok(if rows <= cols { (one(rows), matrix) } else { (matrix, one(cols)) })
            }
        }
    }

    fn factor(&self, factor: &Factor) -> Result<Matrix> {
        let matrix = self.read(&factor.tensor)?;
        let matrix = if factor.transposed { matrix.transposed() } else { matrix };
        if factor.blocks == 1 {
            return Ok(matrix);
        }
        let [rows, cols] = matrix.shape();
        let height = rows / factor.blocks;
        Ok(Matrix::from_fn(rows, cols * factor.blocks, |i, j| {
            let block = i / height.max(1);
            if j / cols == block { matrix.get(i, j % cols) } else { 0.0 }
        }))
    }
}
