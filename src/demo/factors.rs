//! The numbers of the sample: base weights, planted signals, noise.

use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use crate::matrix::Matrix;

fn normal(rng: &mut StdRng) -> f32 {
    StandardNormal.sample(rng)
}

/// iid noise of standard deviation `std`.
pub fn noise(rng: &mut StdRng, rows: usize, cols: usize, std: f32) -> Matrix {
    Matrix::from_fn(rows, cols, |_, _| std * normal(rng))
}

/// Base weights: normal, `1/√in`, with a few loud output rows as trained layers have.
pub fn base(rng: &mut StdRng, rows: usize, cols: usize) -> Matrix {
    let loud: Vec<f32> = (0..rows).map(|_| (0.25 * normal(rng)).exp()).collect();
    let scale = 1.0 / (cols as f32).sqrt();
    Matrix::from_fn(rows, cols, |row, _| scale * loud[row] * normal(rng))
}

/// `Σ_k s_k u_k v_kᵀ` with `rank` smooth unit directions and geometrically falling `s_k`.
pub fn signal(rng: &mut StdRng, rows: usize, cols: usize, rank: usize) -> Matrix {
    let u: Vec<Vec<f32>> = (0..rank).map(|_| direction(rng, rows)).collect();
    let v: Vec<Vec<f32>> = (0..rank).map(|_| direction(rng, cols)).collect();
    // From 0.35 down to a tenth of it: well over the noise edge, far apart enough to be seen.
    let s: Vec<f32> = (0..rank).map(|k| 0.35 * 0.1f32.powf(k as f32 / (rank - 1).max(1) as f32)).collect();
    Matrix::from_fn(rows, cols, |i, j| (0..rank).map(|k| s[k] * u[k][i] * v[k][j]).sum())
}

/// B (out × r) and A (r × in) of an adapter whose last `r - rank` directions were never used.
pub fn adapter(rng: &mut StdRng, rows: usize, cols: usize, r: usize, rank: usize) -> (Matrix, Matrix) {
    let mut b = Matrix::zeros(rows, r);
    for k in 0..rank {
        let s = 0.3 * 0.08f32.powf(k as f32 / (rank - 1).max(1) as f32);
        for (row, x) in direction(rng, rows).into_iter().enumerate() {
            b.data_mut()[row * r + k] = s * x;
        }
    }
    // PEFT draws A from a uniform distribution; what matters here is that its rows are independent.
    let a = noise(rng, r, cols, 1.0 / (cols as f32).sqrt());
    (b, a)
}

/// A unit vector: a few slow waves under noise, so that a picture of `u vᵀ` has something to see.
fn direction(rng: &mut StdRng, n: usize) -> Vec<f32> {
    let waves: Vec<(f32, f32, f32)> =
        (1..=6).map(|f| (f as f32 + normal(rng).abs(), 3.0 * normal(rng), normal(rng))).collect();
    let mut x: Vec<f32> = (0..n)
        .map(|i| {
            let t = i as f32 / n as f32 * std::f32::consts::TAU;
            waves.iter().map(|(f, phase, a)| a * (f * t + phase).sin()).sum::<f32>() + 0.7 * normal(rng)
        })
        .collect();
    let norm = x.iter().map(|x| x * x).sum::<f32>().sqrt();
    x.iter_mut().for_each(|x| *x /= norm);
    x
}
