//! ΔW of DoRA (arXiv 2402.09353): `W′ = m ∘ (W + s B A) / ‖W + s B A‖`, so that `ΔW = W′ − W` has full rank.

use super::{Dense, LowRank};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use rayon::prelude::*;
use std::sync::Arc;

/// `m ∘ V / ‖V‖` for `V = W + s B A` of shape `[out, in]`: each row has the length that `magnitude` says. Of an embedding
/// (`[vocabulary, width]`) each column has it, and of LyCORIS' `wd_on_out=False` each input: all columns of its kernel. As PEFT merges: the norm is that of the weight with the pair in it. A row of zeros
/// has no direction and stays zero.
///
/// # Errors
/// When there is not one magnitude for each row (column, input).
pub fn rescaled(mut merged: Matrix, magnitude: &[f32], columns: bool) -> Result<Matrix> {
    let [rows, cols] = merged.shape();
    let expected = if columns { cols } else { rows };
    let fits = if columns { expected.is_multiple_of(magnitude.len().max(1)) } else { magnitude.len() == expected };
    if !fits || magnitude.is_empty() {
        return Err(Error::failure(format!("{} magnitudes for {expected} rows or columns", magnitude.len())));
    }
    if columns {
        let kernel = (cols / magnitude.len()).max(1);
        let mut squares = vec![0f64; magnitude.len()];
        for row in merged.data().chunks(cols.max(1)) {
            let sums = squares.iter_mut().zip(row.chunks(kernel));
            sums.for_each(|(sum, values)| *sum += values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>());
        }
        let factors: Vec<f32> = magnitude.iter().zip(&squares).map(|(&m, &sum)| factor(m, sum)).collect();
        for row in merged.data_mut().chunks_mut(cols.max(1)) {
            let inputs = row.chunks_mut(kernel).zip(&factors);
            inputs.for_each(|(values, factor)| values.iter_mut().for_each(|x| *x *= factor));
        }
        return Ok(merged);
    }
    merged.data_mut().par_chunks_mut(cols.max(1)).zip(magnitude).for_each(|(row, &m)| {
        let square: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
        let factor = factor(m, square);
        row.iter_mut().for_each(|x| *x *= factor);
    });
    Ok(merged)
}

/// What gives a row with this sum of squares the length `magnitude`.
fn factor(magnitude: f32, square: f64) -> f32 {
    if square > 0.0 { (f64::from(magnitude) / square.sqrt()) as f32 } else { 0.0 }
}

/// ΔW of a pair with magnitudes on the weight `base`.
pub(super) fn difference(
    base: Matrix,
    pair: LowRank,
    magnitude: &[f32],
    columns: bool,
    progress: &dyn Progress,
) -> Result<Dense> {
    let epsilon = pair.epsilon;
    let mut merged = pair.product(progress)?;
    if merged.shape() != base.shape() {
        return Err(Error::failure(format!("found ΔW of {:?} for a weight of {:?}", merged.shape(), base.shape())));
    }
    merged.data_mut().iter_mut().zip(base.data()).for_each(|(to, from)| *to += from);
    let mut delta = rescaled(merged, magnitude, columns)?;
    delta.data_mut().iter_mut().zip(base.data()).for_each(|(to, from)| *to -= from);
    Ok(Dense { matrix: Arc::new(delta), epsilon, rounding_std: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_length_that_is_said() {
        let weight = Matrix::new(2, 2, vec![3.0, 4.0, 0.0, 2.0]).unwrap();
        let scaled = rescaled(weight.clone(), &[10.0, 1.0], false).unwrap();
        assert_eq!(scaled.data(), [6.0, 8.0, 0.0, 1.0]);
        let columns = rescaled(Matrix::new(2, 2, vec![3.0, 0.0, 4.0, 2.0]).unwrap(), &[10.0, 1.0], true).unwrap();
        assert_eq!(columns.data(), [6.0, 0.0, 8.0, 1.0]);
        assert!(rescaled(weight, &[1.0], false).is_err());
        let kernels = rescaled(Matrix::new(1, 4, vec![3.0, 4.0, 0.0, 2.0]).unwrap(), &[10.0, 1.0], true).unwrap();
        assert_eq!(kernels.data(), [6.0, 8.0, 0.0, 1.0]);
    }
}
