//! The singular values as by hand: `MᵀM`, the roots of its characteristic polynomial, their square roots.
//!
//! ```text
//! det(MᵀM − λ I) = 0      λ³ − c₁ λ² + c₂ λ − c₃ = 0      σᵢ = √λᵢ      MᵀM vᵢ = λᵢ vᵢ      uᵢ = M vᵢ / σᵢ
//! ```
//!
//! The roots are found by Jacobi rotations (Golub & Van Loan, §8.5), which give the vectors at the same time; σ is good to about
//! 3e-8 of σ₁, the square root of what `f64` can tell apart in `MᵀM`.

use super::{Three, determinant, gram, outer, sum};

/// σ under this share of σ₁ counts as zero: `max(m, n) · ε` of `f32`, as for weights that are stored so.
pub const THRESHOLD: f64 = 3.0 * f32::EPSILON as f64;

/// Every number on the way to the singular values.
#[derive(Clone, Debug, PartialEq)]
pub struct Svd {
    /// `MᵀM`.
    pub gram: Three,
    /// `[c₁, c₂, c₃]`: trace, sum of the principal 2×2 minors, determinant.
    pub polynomial: [f64; 3],
    /// Its roots, largest first.
    pub lambda: [f64; 3],
    /// Their square roots.
    pub sigma: [f64; 3],
    /// Right singular vectors, one after the other.
    pub v: Three,
    /// Left singular vectors, one after the other; zeros where σ is.
    pub u: Three,
}

impl Svd {
    /// How many σ are above the threshold.
    pub fn rank(&self) -> usize {
        self.sigma.iter().filter(|&&s| s > THRESHOLD * self.sigma[0]).count()
    }

    /// `σᵢ uᵢ vᵢᵀ`.
    pub fn term(&self, i: usize) -> Three {
        outer(self.u[i].map(|u| u * self.sigma[i]), self.v[i])
    }

    /// The sum of the first `k` terms: by Eckart–Young the closest matrix of rank `k`.
    pub fn approximation(&self, k: usize) -> Three {
        (0..k.min(3)).fold([[0.0; 3]; 3], |all, i| sum(&all, &self.term(i)))
    }
}

/// Takes a matrix apart.
pub fn svd(m: &Three) -> Svd {
    let gram = gram(m);
    let minor = |i: usize, j: usize| gram[i][i] * gram[j][j] - gram[i][j] * gram[j][i];
    let polynomial =
        [gram[0][0] + gram[1][1] + gram[2][2], minor(0, 1) + minor(0, 2) + minor(1, 2), determinant(m).powi(2)];
    let (lambda, mut v) = eigen(gram);
    let sigma = lambda.map(f64::sqrt);
    let mut u = [[0.0; 3]; 3];
    for i in 0..3 {
        // Of the two directions the one in which the largest number is positive.
        let strongest = v[i].iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
        if strongest < 0.0 {
            v[i] = v[i].map(|x| -x);
        }
        if sigma[i] > THRESHOLD * sigma[0] {
            u[i] = super::apply(m, v[i]).map(|x| x / sigma[i]);
        }
    }
    Svd { gram, polynomial, lambda, sigma, v, u }
}

/// Eigenvalues, largest first and none below zero, and vectors of a symmetric matrix.
fn eigen(mut a: Three) -> ([f64; 3], Three) {
    let mut v = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    // Each sweep squares what is beside the diagonal: six are more than enough.
    for _ in 0..12 {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if a[p][q] == 0.0 {
                continue;
            }
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
            let t = if theta == 0.0 { 1.0 } else { t };
            let c = 1.0 / (t * t + 1.0).sqrt();
            let s = t * c;
            for row in &mut a {
                let (x, y) = (row[p], row[q]);
                (row[p], row[q]) = (c * x - s * y, s * x + c * y);
            }
            let (x, y) = (a[p], a[q]);
            a[p] = std::array::from_fn(|k| c * x[k] - s * y[k]);
            a[q] = std::array::from_fn(|k| s * x[k] + c * y[k]);
            for row in &mut v {
                let (x, y) = (row[p], row[q]);
                (row[p], row[q]) = (c * x - s * y, s * x + c * y);
            }
        }
    }
    let mut order = [0, 1, 2];
    order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
    (order.map(|i| a[i][i].max(0.0)), order.map(|i| v.map(|row| row[i])))
}

#[cfg(test)]
mod tests {
    use super::super::{difference, frobenius, matrix};
    use super::*;
    use crate::delta::{DeltaWeight, Dense};
    use crate::spectrum::{Options, spectrum};
    use std::sync::Arc;

    const SOME: [Three; 6] = [
        [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
        [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]],
        [[2.0, 4.0, 6.0], [1.0, 2.0, 3.0], [3.0, 6.0, 9.0]],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.0, 0.0, -3.0], [0.0, 0.0, 0.0], [0.0, 2.0, 0.0]],
        [[0.0; 3]; 3],
    ];

    #[test]
    fn the_values_are_those_of_the_spectrum() {
        for m in SOME {
            let found = svd(&m);
            let dense = Dense { matrix: Arc::new(matrix(&m)), epsilon: f64::from(f32::EPSILON), rounding_std: None };
            let library = spectrum(&DeltaWeight::Dense(dense), &Options::default(), &()).unwrap();
            for (here, there) in found.sigma.iter().zip(&library.sigma) {
                assert!((here - there).abs() <= 1e-7 * library.largest(), "{m:?}: {:?}", found.sigma);
            }
            assert_eq!(Some(found.rank()), library.ranks().numerical, "{m:?}");
        }
    }

    #[test]
    fn the_terms_add_up_and_the_roots_solve_the_polynomial() {
        for m in SOME {
            let found = svd(&m);
            assert!(frobenius(&difference(&m, &found.approximation(3))) <= 1e-6 * frobenius(&m), "{m:?}");
            let [c1, c2, c3] = found.polynomial;
            let size = c1.powi(3).max(1e-9);
            for l in found.lambda {
                assert!((l.powi(3) - c1 * l * l + c2 * l - c3).abs() < 1e-9 * size, "{l} of {m:?}");
            }
        }
    }

    /// Eckart–Young: no rank-1 matrix comes closer to the identity than √2.
    #[test]
    fn one_term_misses_the_rest() {
        let one = svd(&SOME[3]).approximation(1);
        assert!((frobenius(&difference(&SOME[3], &one)) - 2f64.sqrt()).abs() < 1e-12);
    }
}
