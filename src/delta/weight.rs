//! [`DeltaWeight`]: one layer's ΔW, dense or as two thin factors.

use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::Progress;
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;

/// ΔW of one layer, `[out, in]`.
#[derive(Clone, Debug)]
pub enum DeltaWeight {
    /// A full matrix.
    Dense(Dense),
    /// An adapter's factors. Their product is never formed for a singular value decomposition.
    LowRank(LowRank),
}

/// A full ΔW: tuned − base, or a weight itself.
#[derive(Clone, Debug)]
pub struct Dense {
    /// The values.
    pub matrix: Arc<Matrix>,
    /// ε of the storage type of the tuned weight (or of the weight itself): see
    /// [`Dtype::epsilon`](crate::checkpoint::Dtype::epsilon).
    pub epsilon: f64,
    /// Standard deviation of the error that storing both weights leaves in an element of their difference,
    /// `sqrt(mean(ulp(w_base)² + ulp(w_tuned)²) / 12)`. `None` where there is no difference, or where a weight is
    /// stored in codes (NF4, FP4), whose error is not that of rounding.
    pub rounding_std: Option<f64>,
}

/// `ΔW = scaling · B A`.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// out × r.
    pub b: Matrix,
    /// r × in.
    pub a: Matrix,
    /// `α / r` or `α / √r`.
    pub scaling: f64,
    /// ε of the storage type of the factors.
    pub epsilon: f64,
}

impl DeltaWeight {
    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(dense) => dense.matrix.shape(),
            Self::LowRank(factors) => [factors.b.rows(), factors.a.cols()],
        }
    }

    /// ε of the storage type.
    pub fn epsilon(&self) -> f64 {
        match self {
            Self::Dense(dense) => dense.epsilon,
            Self::LowRank(factors) => factors.epsilon,
        }
    }

    /// All values, for pictures: forms the product of factors.
    ///
    /// # Errors
    /// Cancellation.
    pub fn dense(&self, progress: &dyn Progress) -> Result<Cow<'_, Matrix>> {
        match self {
            Self::Dense(dense) => Ok(Cow::Borrowed(&dense.matrix)),
            Self::LowRank(factors) => factors.product(progress).map(Cow::Owned),
        }
    }
}

impl LowRank {
    /// `scaling · B A`, out × in.
    pub(super) fn product(&self, progress: &dyn Progress) -> Result<Matrix> {
        /// Multiplications between two reports of progress.
        const STEP: usize = 1 << 26;
        let (rows, cols, r) = (self.b.rows(), self.a.cols(), self.a.rows());
        let mut product = Matrix::zeros(rows, cols);
        if cols == 0 {
            return Ok(product);
        }
        let step = (STEP / (cols * r).max(1)).max(1);
        for (index, part) in product.data_mut().chunks_mut(step * cols).enumerate() {
            progress.step((index * step) as u64, rows as u64)?;
            part.par_chunks_mut(cols).enumerate().for_each(|(row, out)| {
                for (k, &b) in self.b.row(index * step + row).iter().enumerate() {
                    let b = (f64::from(b) * self.scaling) as f32;
                    out.iter_mut().zip(self.a.row(k)).for_each(|(out, a)| *out += b * a);
                }
            });
        }
        progress.step(rows as u64, rows as u64)?;
        Ok(product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_by_hand() {
        let b = Matrix::new(3, 1, vec![1.0, 2.0, -1.0]).unwrap();
        let a = Matrix::new(1, 2, vec![3.0, 4.0]).unwrap();
        let delta = DeltaWeight::LowRank(LowRank { b, a, scaling: 0.5, epsilon: 0.0 });
        assert_eq!(delta.shape(), [3, 2]);
        assert_eq!(delta.dense(&()).unwrap().data(), [1.5, 2.0, 3.0, 4.0, -1.5, -2.0]);
    }
}
