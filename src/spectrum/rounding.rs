//! What rounding a weight does to ΔW: how large the error is beside it, how much of the error lies where ΔW lies, what of ΔW survives
//! when the merged weight is rounded again, and what a low rank can repair.
//!
//! `E = Ŵ − W`; `U_r`, `V_r` are ΔW's leading singular vectors.

use super::{Options, Spectrum, leading, spectrum};
use crate::delta::{DeltaWeight, Dense, LowRank};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::{Part, Progress};
use crate::quant::{Fit, Recipe};
use rayon::prelude::*;
use std::sync::Arc;

/// Leading pairs of singular vectors that shares are computed for.
pub const DIRECTIONS: usize = 64;

/// The error of a weight beside its ΔW.
#[derive(Clone, Debug)]
pub struct Against {
    /// `‖E‖_F`.
    pub error: f64,
    /// `‖ΔW‖_F`.
    pub delta: f64,
    /// `‖W‖_F`.
    pub weight: f64,
    /// `‖U_rᵀ E V_r‖² / ‖E‖²` for r = 1, 2, … as far as vectors are there.
    pub inside: Vec<f64>,
    /// `‖U_rᵀ E V_r‖_F` beside `‖ΔW_r‖_F` for the same r: error and signal within ΔW's own directions.
    pub signal: Vec<[f64; 2]>,
    /// Share of the entries whose code changes when ΔW is merged and the sum is rounded again.
    pub moved: f64,
    /// `⟨q(W + ΔW) − q(W), ΔW⟩ / ‖ΔW‖²`: 1 where all of ΔW arrives.
    pub kept: f64,
    /// `‖q(W + ΔW) − (W + ΔW)‖_F / ‖ΔW‖_F`.
    pub merged_error: f64,
    /// Singular values of E.
    pub spectrum: Spectrum,
}

impl Against {
    /// What chance alone puts into r directions: `r² / (out · in)`.
    pub fn chance(&self, r: usize) -> f64 {
        let [out, inner] = self.spectrum.shape.map(|n| n.max(1) as f64);
        let r = r as f64;
        (r * r / (out * inner)).min(1.0)
    }
}

/// Lays the error of `recipe` beside ΔW.
///
/// # Errors
/// A weight that cannot be written so; cancellation.
pub fn against(weight: &Matrix, delta: &DeltaWeight, recipe: Recipe, progress: &dyn Progress) -> Result<Against> {
    let shape = weight.shape();
    let fit = Fit::new(weight.data(), shape, recipe)?;
    let rounded = fit.dequantize(weight.data());
    let dense = delta.dense(&Part::new(progress, 0, 10))?;
    let (moved, kept, merged_error) = merged(weight, &dense, &fit, &rounded)?;
    progress.step(2, 10)?;
    let mut error = rounded;
    error.par_iter_mut().zip(weight.data()).for_each(|(r, w)| *r -= w);
    let error = Matrix::new(shape[0], shape[1], error)?;
    let side = shape[0].min(shape[1]);
    let (sigma, vectors) = leading(delta, DIRECTIONS.min(side), &Part::new(progress, 2, 10))?;
    let core = core(&vectors.u, &error, &vectors.v);
    let total = error.frobenius();
    let count = vectors.count().min(sigma.len());
    let (mut inside, mut signal, mut square, mut kept_sigma) = (Vec::new(), Vec::new(), 0f64, 0f64);
    for (r, sigma) in sigma.iter().enumerate().take(count) {
        // The r-th row and column of the core are new.
        square += (0..=r).map(|i| core.get(r, i).powi(2) as f64 + core.get(i, r).powi(2) as f64).sum::<f64>()
            - core.get(r, r).powi(2) as f64;
        kept_sigma += sigma * sigma;
        inside.push(if total > 0.0 { square / (total * total) } else { 0.0 });
        signal.push([square.sqrt(), kept_sigma.sqrt()]);
    }
    let dense_error = Dense { matrix: Arc::new(error), epsilon: f64::from(f32::EPSILON), rounding_std: None };
    let rest = Part::rest(progress, 3, 10);
    let spectrum = spectrum(&DeltaWeight::Dense(dense_error), &Options::default(), &rest)?;
    Ok(Against {
        error: total,
        delta: dense.frobenius(),
        weight: weight.frobenius(),
        inside,
        signal,
        moved,
        kept,
        merged_error,
        spectrum,
    })
}

/// Shares of what a merge and a second rounding leave of ΔW: see [`Against`].
fn merged(weight: &Matrix, delta: &Matrix, fit: &Fit, rounded: &[f32]) -> Result<(f64, f64, f64)> {
    let sum: Vec<f32> = weight.data().par_iter().zip(delta.data()).map(|(w, d)| w + d).collect();
    let after = Fit::new(&sum, weight.shape(), fit.recipe())?;
    let again = after.dequantize(&sum);
    let (before, after) = (fit.in_units().dequantize(weight.data()), after.in_units().dequantize(&sum));
    let moved = before.par_iter().zip(&after).filter(|(a, b)| a != b).count();
    let [mut arrived, mut size, mut error] = [0f64; 3];
    for (((&again, &rounded), &d), &sum) in again.iter().zip(rounded).zip(delta.data()).zip(&sum) {
        let (again, d) = (f64::from(again), f64::from(d));
        arrived += (again - f64::from(rounded)) * d;
        size += d * d;
        error += (again - f64::from(sum)).powi(2);
    }
    let count = weight.data().len().max(1) as f64;
    let share = |x: f64| if size > 0.0 { x / size } else { 0.0 };
    Ok((moved as f64 / count, share(arrived), share(error).sqrt()))
}

/// `Uᵀ E V`.
fn core(u: &Matrix, error: &Matrix, v: &Matrix) -> Matrix {
    let (r, k, cols) = (u.cols(), v.cols(), error.cols());
    let empty = || vec![0f32; r * k];
    let rows = error.data().par_chunks(cols.max(1)).enumerate();
    let core = rows
        .fold(empty, |mut core, (row, error)| {
            // e · V first, a vector of k; then its outer product with u's row.
            let mut along = vec![0f32; k];
            for (&e, v) in error.iter().zip(v.data().chunks(k.max(1))) {
                along.iter_mut().zip(v).for_each(|(a, v)| *a += e * v);
            }
            for (&u, core) in u.row(row).iter().zip(core.chunks_mut(k.max(1))) {
                core.iter_mut().zip(&along).for_each(|(c, a)| *c += u * a);
            }
            core
        })
        .reduce(empty, |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        });
    Matrix::from_fn(r, k, |i, j| core[i * k + j])
}

/// What a repair of rank r leaves, as a share of what there was to repair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// Of the weight: `‖W − Q − B A‖ / ‖W − q(W)‖`.
    pub weights: f64,
    /// Of the output, for inputs of these mean squares: `‖(W − Q − B A) S‖ / ‖(W − q(W)) S‖` with `S = diag √E[x²]`; `None` where they are
    /// not known.
    pub outputs: Option<f64>,
}

/// What a repair leaves, iteration by iteration, of LoftQ (arXiv 2310.08659), which alternates `Q = q(W − B A)` and
/// `B A = SVD_r(W − Q)`. The first iteration is the plain repair of the rounding error. `squares` are `E[x²]`, `[in_features]`.
///
/// # Errors
/// A weight that cannot be written so, squares of another length; cancellation.
pub fn repair(
    weight: &Matrix,
    recipe: Recipe,
    r: usize,
    iterations: usize,
    squares: Option<&[f64]>,
    progress: &dyn Progress,
) -> Result<Vec<Left>> {
    let [rows, cols] = weight.shape();
    squares.map_or(Ok(()), |squares| fits(squares, cols))?;
    let r = r.min(rows.min(cols));
    let mut target = weight.clone();
    let (mut left, mut whole) = (Vec::new(), [0f64; 2]);
    for iteration in 0..iterations.max(1) {
        let part = Part::new(progress, iteration as u64, iterations.max(1) as u64);
        part.step(0, 1)?;
        let rest = rest(weight, &target, recipe)?;
        let size = [rest.frobenius(), squares.map_or(0.0, |squares| of_outputs(&rest, squares))];
        if iteration == 0 {
            whole = size;
        }
        let (sigma, vectors) = leading(&dense(&rest), r, &part)?;
        let of = |total: f64, whole: f64, taken: f64| {
            if whole > 0.0 { (total * total - taken).max(0.0).sqrt() / whole } else { 0.0 }
        };
        let energy: f64 = sigma.iter().take(r).map(|sigma| sigma * sigma).sum();
        let outputs = squares.map(|squares| {
            let taken: f64 = sigma.iter().take(r).enumerate().map(|(i, s)| s * s * along(&vectors.v, i, squares)).sum();
            of(size[1], whole[1], taken)
        });
        left.push(Left { weights: of(size[0], whole[0], energy), outputs });
        if iteration + 1 < iterations {
            let b =
                Matrix::from_fn(rows, vectors.count(), |row, i| (f64::from(vectors.u.get(row, i)) * sigma[i]) as f32);
            let pair = LowRank { b, a: vectors.v.transposed(), scaling: 1.0, epsilon: f64::from(f32::EPSILON) };
            let product = DeltaWeight::LowRank(pair).dense(&())?.into_owned();
            let values = target.data_mut().par_iter_mut().zip(weight.data()).zip(product.data());
            values.for_each(|((t, w), p)| *t = w - p);
        }
    }
    Ok(left)
}

/// What the best repair for these inputs leaves of the output, [`Left::outputs`], at each of `ranks`: QERA's diagonal form (arXiv
/// 2410.06040, "QERA-approx"), `B A = SVD_r((W − q(W)) S) S⁻¹`. It is exact where the channels of the input do not go together.
///
/// # Errors
/// As [`repair`].
pub fn weighted(
    weight: &Matrix,
    recipe: Recipe,
    ranks: &[usize],
    squares: &[f64],
    progress: &dyn Progress,
) -> Result<Vec<f64>> {
    let [rows, cols] = weight.shape();
    fits(squares, cols)?;
    let mut error = rest(weight, weight, recipe)?;
    let scales: Vec<f32> = squares.iter().map(|square| square.max(0.0).sqrt() as f32).collect();
    for row in error.data_mut().chunks_mut(cols.max(1)) {
        row.iter_mut().zip(&scales).for_each(|(e, s)| *e *= s);
    }
    let most = ranks.iter().copied().max().unwrap_or(0).min(rows.min(cols));
    let total = error.frobenius().powi(2);
    let (sigma, _) = leading(&dense(&error), most, progress)?;
    let left = |&r: &usize| {
        let taken: f64 = sigma.iter().take(r).map(|sigma| sigma * sigma).sum();
        if total > 0.0 { ((total - taken).max(0.0) / total).sqrt() } else { 0.0 }
    };
    Ok(ranks.iter().map(left).collect())
}

/// `W − q(target)`.
fn rest(weight: &Matrix, target: &Matrix, recipe: Recipe) -> Result<Matrix> {
    let [rows, cols] = weight.shape();
    let mut rest = Fit::new(target.data(), [rows, cols], recipe)?.dequantize(target.data());
    rest.par_iter_mut().zip(weight.data()).for_each(|(q, w)| *q = w - *q);
    Matrix::new(rows, cols, rest)
}

fn dense(matrix: &Matrix) -> DeltaWeight {
    let matrix = Arc::new(matrix.clone());
    DeltaWeight::Dense(Dense { matrix, epsilon: f64::from(f32::EPSILON), rounding_std: None })
}

fn fits(squares: &[f64], cols: usize) -> Result<()> {
    match squares.len() == cols && squares.iter().all(|square| square.is_finite()) {
        true => Ok(()),
        false => Err(Error::failure(format!(
            "{} mean squares of inputs, not all of them numbers or not one for each of {cols} columns",
            squares.len()
        ))),
    }
}

/// `‖E S‖_F`.
fn of_outputs(error: &Matrix, squares: &[f64]) -> f64 {
    let row = |row: &[f32]| row.iter().zip(squares).map(|(e, s)| f64::from(*e).powi(2) * s).sum::<f64>();
    error.data().chunks(error.cols().max(1)).map(row).sum::<f64>().sqrt()
}

/// `‖S v_i‖²`.
fn along(v: &Matrix, i: usize, squares: &[f64]) -> f64 {
    squares.iter().enumerate().map(|(row, square)| f64::from(v.get(row, i)).powi(2) * square).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Format, Group};

    fn noise(rows: usize, cols: usize, seed: u64) -> Matrix {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        Matrix::from_fn(rows, cols, |_, _| next() + next() + next() + next())
    }

    fn low(rows: usize, cols: usize, r: usize, scale: f64) -> DeltaWeight {
        let (b, a) = (noise(rows, r, 3), noise(r, cols, 4));
        DeltaWeight::LowRank(LowRank { b, a, scaling: scale, epsilon: f64::from(f32::EPSILON) })
    }

    #[test]
    fn a_large_change_survives_and_a_small_one_drowns() {
        let weight = noise(96, 128, 1);
        let large = against(&weight, &low(96, 128, 4, 1.0), Recipe::default(), &()).unwrap();
        let small = against(&weight, &low(96, 128, 4, 1e-5), Recipe::default(), &()).unwrap();
        assert!(large.delta > large.error && small.delta < 1e-3 * small.error);
        assert!(large.moved > 0.5 && small.moved < 0.01, "{} {}", large.moved, small.moved);
        // Rounding is unbiased enough: on the average a large ΔW arrives.
        assert!((large.kept - 1.0).abs() < 0.05, "{}", large.kept);
        // The sum is half as large again as the weight, and so is its error.
        let ratio = large.merged_error * large.delta / large.error;
        assert!((1.2..1.8).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_share_inside_is_that_of_the_projection() {
        let (weight, delta) = (noise(60, 80, 1), low(60, 80, 3, 1.0));
        let found = against(&weight, &delta, Recipe::new(Format::Int4Symmetric), &()).unwrap();
        let fit = Fit::new(weight.data(), [60, 80], Recipe::new(Format::Int4Symmetric)).unwrap();
        let rounded = fit.dequantize(weight.data());
        let (_, vectors) = leading(&delta, 3, &()).unwrap();
        for r in 1..=3 {
            let mut square = 0f64;
            for i in 0..r {
                for j in 0..r {
                    let entry: f64 = (0..60)
                        .flat_map(|row| (0..80).map(move |col| (row, col)))
                        .map(|(row, col)| {
                            let e = f64::from(rounded[row * 80 + col] - weight.get(row, col));
                            f64::from(vectors.u.get(row, i)) * e * f64::from(vectors.v.get(col, j))
                        })
                        .sum();
                    square += entry * entry;
                }
            }
            let exact = square / (found.error * found.error);
            assert!(
                (found.inside[r - 1] - exact).abs() < 1e-4 * exact.max(1e-3),
                "{r}: {} {exact}",
                found.inside[r - 1]
            );
        }
        assert!((found.spectrum.frobenius - found.error).abs() < 1e-3 * found.error);
        assert!((found.chance(3) - 9.0 / 4800.0).abs() < 1e-12);
    }

    #[test]
    fn a_repair_of_full_rank_leaves_nothing_and_iterations_help() {
        let weight = noise(48, 64, 2);
        let recipe = Recipe::with(Format::Nf4, Group::Block(64), false);
        let all = repair(&weight, recipe, 48, 1, None, &()).unwrap();
        assert!(all[0].weights < 1e-3 && all[0].outputs.is_none(), "{all:?}");
        let some = repair(&weight, recipe, 8, 5, None, &()).unwrap();
        assert_eq!(some.len(), 5);
        assert!(some[0].weights < 1.0 && some[4].weights < some[0].weights, "{some:?}");
        // The first is what the error's own spectrum says (Eckart–Young).
        let found = against(&weight, &low(48, 64, 2, 1.0), recipe, &()).unwrap();
        let tail: f64 = found.spectrum.sigma[8..].iter().map(|s| s * s).sum();
        assert!((some[0].weights - (tail.sqrt() / found.error)).abs() < 1e-3);
    }

    /// Reference: numpy 2.4.6 (`linalg.svd`, f64) on weights rounded to `rint(w / s) · s`, `s = max |w| / 7` in blocks of 64, of
    /// `W = sin(0.7 i + 1.3 j + 0.05 i j)`, 24 × 32, and `E[x_j²] = 0.05 + ((7 j) mod 11)² / 10`.
    #[test]
    fn repairs_by_outputs_are_numpys() {
        let wave = |i: usize, j: usize| {
            let (i, j) = (i as f64, j as f64);
            (0.7 * i + 1.3 * j + 0.05 * i * j).sin() as f32
        };
        let weight = Matrix::from_fn(24, 32, wave);
        let squares: Vec<f64> = (0..32).map(|j| 0.05 + (((7 * j) % 11) as f64).powi(2) / 10.0).collect();
        let recipe = Recipe::with(Format::Int4Symmetric, Group::Block(64), false);
        let ranks = [1, 4, 8];
        let qera = weighted(&weight, recipe, &ranks, &squares, &()).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-4;
        let expected = [0.899_143_59, 0.677_444_55, 0.451_725_69];
        assert!(qera.iter().zip(expected).all(|(a, b)| close(*a, b)), "{qera:?}");
        for (&r, expected) in ranks.iter().zip([0.916_663_45, 0.755_123_58, 0.566_449_73]) {
            let plain = repair(&weight, recipe, r, 1, Some(&squares), &()).unwrap()[0];
            assert!(close(plain.outputs.unwrap(), expected), "{r}: {plain:?}");
            // By weights the plain repair is the best there is, and does not depend on inputs.
            assert_eq!(plain.weights, repair(&weight, recipe, r, 1, None, &()).unwrap()[0].weights);
        }
        let twice = repair(&weight, recipe, 8, 2, Some(&squares), &()).unwrap()[1];
        // A code may be another one where numpy's f64 and f32 disagree about a tie.
        let near = |a: f64, b: f64| (a - b).abs() < 5e-3;
        assert!(near(twice.outputs.unwrap(), 0.636_615_94) && near(twice.weights, 0.610_461_00), "{twice:?}");
        // Where all channels are alike, weights and outputs are one.
        let alike = weighted(&weight, recipe, &ranks, &[3.0; 32], &()).unwrap();
        for (&r, found) in ranks.iter().zip(alike) {
            assert!(close(repair(&weight, recipe, r, 1, None, &()).unwrap()[0].weights, found));
        }
        assert!(weighted(&weight, recipe, &ranks, &squares[1..], &()).is_err());
    }
}
