//! DoRA's magnitudes: `V ∘ m / ‖V‖`, row by row of a weight, and the gradient by `m` with the norm as a constant.

use super::simd::{reduce, wide};
use rayon::prelude::*;

/// The norms of `rows` rows.
pub fn row_norms(values: &[f32], rows: usize) -> Vec<f32> {
    wide! {
        fn norm(row: &[f32]) -> f32 {
            reduce(row.len(), |i| row[i] * row[i]).sqrt()
        }
    }
    values.par_chunks_exact(values.len() / rows.max(1)).map(norm).collect()
}

/// Multiplies row `o` by `m[o] / norms[o]`.
pub fn scale_rows(values: &mut [f32], m: &[f32], norms: &[f32]) {
    wide! {
        fn run(row: &mut [f32], factor: f32) {
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
    let width = values.len() / norms.len().max(1);
    values.par_chunks_exact_mut(width).zip(m.par_iter().zip(norms)).for_each(|(row, (m, norm))| run(row, m / norm));
}

/// `out[t, o] = d[t, o] · m[o] / norms[o]`, of rows that are `stride` apart.
pub fn scale_columns(d: &[f32], stride: usize, m: &[f32], norms: &[f32], out: &mut [f32]) {
    let factors: Vec<f32> = m.iter().zip(norms).map(|(m, norm)| m / norm).collect();
    out.par_chunks_exact_mut(factors.len()).zip(d.par_chunks(stride)).for_each(|(out, d)| {
        for ((out, d), factor) in out.iter_mut().zip(d).zip(&factors) {
            *out = d * factor;
        }
    });
}

/// `dm[o] += Σ_t d[t, o] · plain[t, o] / norms[o]`, where rows of `d` are `stride` apart.
pub fn gradient(d: &[f32], stride: usize, plain: &[f32], norms: &[f32], dm: &mut [f32]) {
    for (d, plain) in d.chunks(stride).zip(plain.chunks_exact(norms.len())) {
        for (((dm, d), plain), norm) in dm.iter_mut().zip(d).zip(plain).zip(norms) {
            *dm += d * plain / norm;
        }
    }
}
