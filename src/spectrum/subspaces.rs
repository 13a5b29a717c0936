//! Two sets of directions beside each other: what two updates share, what an update does to a weight, what in a tuned
//! weight was not there before.
//!
//! | quantity | definition | source |
//! |---|---|---|
//! | similarity | `φ(i, j) = ‖U_A[:, :i]ᵀ U_B[:, :j]‖_F² / min(i, j)` | LoRA, arXiv 2106.09685, §7.2 |
//! | amplification | `‖ΔW‖_F / ‖Uᵀ W V‖_F`, U and V the top r singular vectors of ΔW | the same, §7.3 |
//! | intruder | a top singular vector of the tuned weight whose largest cosine with any of the base's is under ε | arXiv 2410.21228 |

use rayon::prelude::*;

use super::Vectors;
use crate::error::{Error, Result};
use crate::matrix::Matrix;

/// φ(i, j) for i, j from 1: row `i − 1`, column `j − 1`. Columns of `a` and `b` are orthonormal, of one length.
///
/// 1 where the smaller space lies in the larger one; two random ones in `m` dimensions have `max(i, j) / m`.
///
/// # Errors
/// When the columns have different lengths.
pub fn similarity(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    if a.rows() != b.rows() {
        let message = format!("directions of {} and {} dimensions cannot be compared", a.rows(), b.rows());
        return Err(Error::usage(message));
    }
    let squares: Vec<f64> = cross(a, b).into_iter().map(|x| x * x).collect();
    let (rows, cols) = (a.cols(), b.cols());
    let mut phi = Matrix::zeros(rows, cols);
    // Sums over the rectangle up to (i, j), row by row.
    let mut above = vec![0f64; cols];
    for i in 0..rows {
        let mut left = 0.0;
        for j in 0..cols {
            left += squares[i * cols + j];
            above[j] += left;
            phi.data_mut()[i * cols + j] = (above[j] / (i.min(j) + 1) as f64).min(1.0) as f32;
        }
    }
    Ok(phi)
}

/// `Aᵀ B`, in `f64`, row after row.
fn cross(a: &Matrix, b: &Matrix) -> Vec<f64> {
    const ROWS: usize = 256;
    let (rows, cols) = (a.cols(), b.cols());
    let pieces = a.data().par_chunks((ROWS * rows).max(1)).zip(b.data().par_chunks((ROWS * cols).max(1)));
    let sums: Vec<Vec<f64>> = pieces
        .map(|(a, b)| {
            let mut sum = vec![0f64; rows * cols];
            for (a, b) in a.chunks(rows.max(1)).zip(b.chunks(cols.max(1))) {
                for (to, &x) in sum.chunks_mut(cols.max(1)).zip(a) {
                    let x = f64::from(x);
                    to.iter_mut().zip(b).for_each(|(to, &y)| *to += x * f64::from(y));
                }
            }
            sum
        })
        .collect();
    let mut total = vec![0f64; rows * cols];
    for sum in sums {
        total.iter_mut().zip(sum).for_each(|(to, x)| *to += x);
    }
    total
}

/// What ΔW does to W along its own top directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amplification {
    /// How many directions.
    pub r: usize,
    /// `‖Uᵀ W V‖_F`: as much of W lies in them.
    pub base: f64,
    /// `‖ΔW‖_F / ‖Uᵀ W V‖_F`; infinite where W has nothing there.
    pub factor: f64,
}

/// For the first `r` of `vectors`, of a ΔW with this Frobenius norm on the weight `w`.
///
/// # Errors
/// When shapes differ.
pub fn amplification(frobenius: f64, vectors: &Vectors, r: usize, w: &Matrix) -> Result<Amplification> {
    if [vectors.u.rows(), vectors.v.rows()] != w.shape() {
        return Err(Error::failure("ΔW and the weight have different shapes"));
    }
    let r = r.min(vectors.count());
    let v: Vec<f32> = vectors.v.data().chunks(vectors.count().max(1)).flat_map(|row| row[..r].to_vec()).collect();
    // W V, then Uᵀ of it.
    let mut wv = Matrix::zeros(w.rows(), r);
    wv.data_mut().par_chunks_mut(r.max(1)).enumerate().for_each(|(row, to)| {
        for (&w, v) in w.row(row).iter().zip(v.chunks(r.max(1))) {
            to.iter_mut().zip(v).for_each(|(to, v)| *to += w * v);
        }
    });
    let u = Matrix::from_fn(w.rows(), r, |row, col| vectors.u.get(row, col));
    let base = cross(&u, &wv).into_iter().map(|x| x * x).sum::<f64>().sqrt();
    Ok(Amplification { r, base, factor: frobenius / base })
}

/// A top direction of the tuned weight and how much it looks like one of the base's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Familiar {
    /// Largest `|cosine|` with a singular vector of the base weight.
    pub cosine: f64,
    /// Which of the base's that is, from 0.
    pub nearest: usize,
}

impl Familiar {
    /// True for an intruder dimension.
    pub fn is_intruder(&self, epsilon: f64) -> bool {
        self.cosine < epsilon
    }
}

/// ε of the paper's count of intruders.
pub const EPSILON: f64 = 0.5;

/// For every column of `tuned` its nearest among the columns of `base`, which are all left (or all right) singular vectors
/// of the base weight.
///
/// # Errors
/// When the columns have different lengths, or there are none in the base.
pub fn familiar(tuned: &Matrix, base: &Matrix) -> Result<Vec<Familiar>> {
    if tuned.rows() != base.rows() || base.cols() == 0 {
        return Err(Error::failure("the tuned weight and the base have different shapes"));
    }
    let cosines = cross(tuned, base);
    let nearest = |row: &[f64]| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        best.map_or(Familiar { cosine: 0.0, nearest: 0 }, |(nearest, x)| Familiar { cosine: x.abs().min(1.0), nearest })
    };
    Ok(cosines.chunks(base.cols()).map(nearest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(rows: usize, which: &[usize]) -> Matrix {
        Matrix::from_fn(rows, which.len(), |i, j| if which[j] == i { 1.0 } else { 0.0 })
    }

    #[test]
    fn axes_share_what_they_have_in_common() {
        let phi = similarity(&axes(6, &[0, 1, 2]), &axes(6, &[1, 0, 5, 2])).unwrap();
        assert_eq!(phi.shape(), [3, 4]);
        // By hand: how many of the first i axes are among the first j, over min(i, j).
        let expected = [[0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 2.0 / 3.0, 1.0]];
        for (i, row) in expected.iter().enumerate() {
            for (j, &expected) in row.iter().enumerate() {
                assert!((phi.get(i, j) - expected).abs() < 1e-6, "{i} {j}: {}", phi.get(i, j));
            }
        }
        assert!(similarity(&axes(6, &[0]), &axes(5, &[0])).is_err());
    }

    #[test]
    fn amplification_of_a_diagonal() {
        // W = diag(2, 3, 4), ΔW = 10 e₂e₂ᵀ: ‖ΔW‖ 10 against 3 of W in that direction.
        let w = Matrix::from_fn(3, 3, |i, j| if i == j { 2.0 + i as f32 } else { 0.0 });
        let vectors = Vectors { u: axes(3, &[1, 0]), v: axes(3, &[1, 0]) };
        let one = amplification(10.0, &vectors, 1, &w).unwrap();
        assert_eq!((one.base, one.factor), (3.0, 10.0 / 3.0));
        let two = amplification(10.0, &vectors, 2, &w).unwrap();
        assert!((two.base - 13f64.sqrt()).abs() < 1e-6);
        let nothing = amplification(1.0, &Vectors { u: axes(3, &[0]), v: axes(3, &[1]) }, 1, &w).unwrap();
        assert!(nothing.factor.is_infinite());
    }

    #[test]
    fn an_intruder_is_near_no_direction_of_the_base() {
        let base = axes(4, &[0, 1, 2, 3]);
        let half = 0.5f32;
        let tuned = Matrix::from_fn(4, 2, |i, j| if j == 0 { f32::from(u8::from(i == 2)) } else { half });
        let found = familiar(&tuned, &base).unwrap();
        assert_eq!((found[0].nearest, found[0].cosine), (2, 1.0));
        assert!(!found[0].is_intruder(EPSILON) && !found[1].is_intruder(EPSILON));
        assert!(found[1].is_intruder(0.51));
        assert!(familiar(&tuned, &axes(3, &[0])).is_err());
    }
}
