//! [`Planted`]: a matrix whose rank is known, under noise.
//!
//! ```text
//! M = Σ_{i≤k} sᵢ uᵢ vᵢᵀ + noise · N(0, 1)        uᵢ, vᵢ orthonormal, seeded
//! ```
//!
//! With it a rule can be asked what it would have chosen where the answer is known.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use super::noise;
use crate::matrix::Matrix;

/// What is planted.
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    /// `[m, n]`.
    pub shape: [usize; 2],
    /// Strength of each planted direction: as many as the planted rank, at most `min(m, n)`.
    pub strengths: Vec<f64>,
    /// Standard deviation of the noise in each cell.
    pub noise: f64,
    /// The same seed gives the same matrix.
    pub seed: u64,
}

impl Planted {
    /// `rank` directions of strengths that fall geometrically from `strongest` to `weakest`, both in units of the noise edge
    /// `s (√m + √n)`: above 1 a direction stands out of the noise, below it drowns.
    pub fn above_noise(shape: [usize; 2], rank: usize, [strongest, weakest]: [f64; 2], noise: f64, seed: u64) -> Self {
        let edge = noise::edge(shape[0], shape[1], noise);
        let rank = rank.min(shape[0].min(shape[1]));
        let last = rank.saturating_sub(1).max(1) as f64;
        let ratio = weakest / strongest;
        let strengths = (0..rank).map(|i| edge * strongest * ratio.powf(i as f64 / last)).collect();
        Self { shape, strengths, noise, seed }
    }

    /// The planted rank.
    pub fn rank(&self) -> usize {
        self.strengths.len()
    }

    /// The matrix.
    pub fn matrix(&self) -> Matrix {
        let [m, n] = self.shape;
        let mut rng = StdRng::seed_from_u64(self.seed);
        let u = orthonormal(&mut rng, m, self.rank());
        let v = orthonormal(&mut rng, n, self.rank());
        Matrix::from_fn(m, n, |i, j| {
            let signal: f64 = self.strengths.iter().zip(&u).zip(&v).map(|((s, u), v)| s * u[i] * v[j]).sum();
            let normal: f64 = StandardNormal.sample(&mut rng);
            (signal + self.noise * normal) as f32
        })
    }
}

/// `count` orthonormal vectors of length `n` in random directions, by Gram and Schmidt, each twice.
fn orthonormal(rng: &mut StdRng, n: usize, count: usize) -> Vec<Vec<f64>> {
    let mut all: Vec<Vec<f64>> = Vec::with_capacity(count);
    while all.len() < count.min(n) {
        let mut x: Vec<f64> = (0..n).map(|_| StandardNormal.sample(rng)).collect();
        for _ in 0..2 {
            for y in &all {
                let along: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                x.iter_mut().zip(y).for_each(|(x, y)| *x -= along * y);
            }
        }
        let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 1e-6 {
            x.iter_mut().for_each(|x| *x /= length);
            all.push(x);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::{DeltaWeight, Dense};
    use crate::spectrum::{Options, RuleId, Spectrum, rule_rank, spectrum};
    use std::sync::Arc;

    fn spectrum_of(planted: &Planted) -> Spectrum {
        let matrix = Arc::new(planted.matrix());
        let dense = Dense { matrix, epsilon: f64::from(f32::EPSILON), rounding_std: None };
        spectrum(&DeltaWeight::Dense(dense), &Options::default(), &()).unwrap()
    }

    #[test]
    fn without_noise_the_singular_values_are_the_strengths() {
        let planted = Planted { shape: [20, 12], strengths: vec![5.0, 2.0, 0.5], noise: 0.0, seed: 3 };
        let found = spectrum_of(&planted);
        for (found, planted) in found.sigma.iter().zip(&planted.strengths) {
            assert!((found - planted).abs() < 1e-5, "{found} {planted}");
        }
        assert_eq!(found.ranks().numerical, Some(3));
        assert_eq!(planted.matrix(), planted.clone().matrix());
    }

    /// The optimal threshold finds what stands clearly out of the noise, whatever the seed.
    #[test]
    fn gavish_and_donoho_find_what_stands_out() {
        for seed in 0..20 {
            let planted = Planted::above_noise([48, 48], 1 + seed as usize % 9, [5.0, 1.8], 0.1, seed);
            assert_eq!(rule_rank(&spectrum_of(&planted), RuleId::GavishDonoho), Some(planted.rank()), "seed {seed}");
        }
    }
}
