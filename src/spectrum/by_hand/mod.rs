//! A 3×3 matrix by hand: what the rest of this floor does at once, a step at a time, with the numbers in between.
//!
//! Everything is `f64` and small enough to be read; the results agree with [`spectrum`](super::spectrum), which the tests show.

mod elimination;
mod svd;

pub use elimination::{Elimination, Operation, Step, eliminate};
pub use svd::{Svd, THRESHOLD, svd};

use crate::matrix::Matrix;

/// Rows of a 3×3 matrix.
pub type Three = [[f64; 3]; 3];

/// `b aᵀ`: nine numbers from six.
pub fn outer(b: [f64; 3], a: [f64; 3]) -> Three {
    b.map(|b| a.map(|a| b * a))
}

/// `X + Y`.
pub fn sum(x: &Three, y: &Three) -> Three {
    each(|i, j| x[i][j] + y[i][j])
}

/// `X − Y`.
pub fn difference(x: &Three, y: &Three) -> Three {
    each(|i, j| x[i][j] - y[i][j])
}

/// `X x`.
pub fn apply(m: &Three, x: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * x[0] + row[1] * x[1] + row[2] * x[2])
}

/// `Xᵀ X`.
pub fn gram(m: &Three) -> Three {
    each(|i, j| (0..3).map(|k| m[k][i] * m[k][j]).sum())
}

/// `‖X‖_F`.
pub fn frobenius(m: &Three) -> f64 {
    m.iter().flatten().map(|x| x * x).sum::<f64>().sqrt()
}

/// `det X`.
pub fn determinant(m: &Three) -> f64 {
    let [[a, b, c], [d, e, f], [g, h, i]] = *m;
    a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
}

/// The largest magnitude in it.
pub fn largest(m: &Three) -> f64 {
    m.iter().flatten().fold(0.0, |max, x| max.max(x.abs()))
}

/// As the other modules take it.
pub fn matrix(m: &Three) -> Matrix {
    Matrix::from_fn(3, 3, |i, j| m[i][j] as f32)
}

fn each(value: impl Fn(usize, usize) -> f64) -> Three {
    std::array::from_fn(|i| std::array::from_fn(|j| value(i, j)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_numbers_from_six() {
        assert_eq!(outer([2.0, 1.0, 3.0], [1.0, 2.0, 3.0]), [[2.0, 4.0, 6.0], [1.0, 2.0, 3.0], [3.0, 6.0, 9.0]]);
    }

    #[test]
    fn small_maths_by_hand() {
        let m = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]];
        assert_eq!(determinant(&m), -3.0);
        assert_eq!(apply(&m, [1.0, 0.0, -1.0]), [-2.0, -2.0, -3.0]);
        assert_eq!(gram(&m)[0], [66.0, 78.0, 97.0]);
        assert_eq!(largest(&m), 10.0);
        assert!((frobenius(&m) - 304f64.sqrt()).abs() < 1e-12);
        assert_eq!(difference(&sum(&m, &m), &m), m);
    }
}
