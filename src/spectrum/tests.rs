//! Decompositions against matrices whose singular values are known.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;

use super::*;

/// A matrix with the given singular values between random orthonormal columns, formed in `f64`, and its vectors.
fn planted(m: usize, n: usize, sigma: &[f64], seed: u64) -> Matrix {
    let mut rng = StdRng::seed_from_u64(seed);
    let (u, v) = (orthonormal(m, sigma.len(), &mut rng), orthonormal(n, sigma.len(), &mut rng));
    Matrix::from_fn(m, n, |i, j| sigma.iter().zip(&u).zip(&v).map(|((s, u), v)| s * u[i] * v[j]).sum::<f64>() as f32)
}

/// `k` orthonormal columns by Gram–Schmidt, twice.
fn orthonormal(rows: usize, k: usize, rng: &mut StdRng) -> Vec<Vec<f64>> {
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for _ in 0..k {
        let mut x: Vec<f64> = (0..rows).map(|_| rng.sample(StandardNormal)).collect();
        for _ in 0..2 {
            for q in &columns {
                let dot: f64 = x.iter().zip(q).map(|(a, b)| a * b).sum();
                x.iter_mut().zip(q).for_each(|(x, q)| *x -= dot * q);
            }
        }
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
        columns.push(x);
    }
    columns
}

/// Rank 16 above a floor of noise whose edge is 2.
pub fn spiked(m: usize, n: usize, seed: u64) -> Matrix {
    let sigma: Vec<f64> = (0..16).map(|i| 10.0 * 10f64.powf(-0.5 * f64::from(i) / 15.0)).collect();
    let mut w = planted(m, n, &sigma, seed);
    let mut rng = StdRng::seed_from_u64(seed + 1);
    let scale = 1.0 / (m.max(n) as f32).sqrt();
    for x in w.data_mut() {
        *x += scale * rng.sample::<f32, _>(StandardNormal);
    }
    w
}

fn dense(matrix: Matrix) -> DeltaWeight {
    DeltaWeight::Dense(Dense { matrix: matrix.into(), epsilon: 2f64.powi(-23), rounding_std: None })
}

fn options(method: Method) -> Options {
    Options { method, ..Options::default() }
}

pub fn compute(w: &Matrix, options: Options) -> Spectrum {
    spectrum(&dense(w.clone()), &options, &()).unwrap()
}

/// Every singular value by faer's plain `f64` SVD: another way than those under test.
fn reference(w: &Matrix) -> Vec<f64> {
    svd::reference(w)
}

fn worst_of_largest(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.first().copied().unwrap_or(0.0).max(f64::MIN_POSITIVE);
    found.iter().zip(expected).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f64::max)
}

/// `‖WV - US‖`, `‖UᵀU - I‖` and `‖VᵀV - I‖`, largest elements.
fn check_vectors(w: &Matrix, spectrum: &Spectrum, k: usize, tolerance: f64) {
    let vectors = spectrum.vectors.as_ref().expect("vectors were asked for");
    assert_eq!((vectors.u.shape(), vectors.v.shape()), ([w.rows(), k], [w.cols(), k]));
    for (columns, name) in [(&vectors.u, "U"), (&vectors.v, "V")] {
        for a in 0..k {
            for b in 0..=a {
                let dot: f64 =
                    (0..columns.rows()).map(|i| f64::from(columns.get(i, a)) * f64::from(columns.get(i, b))).sum();
                let expected = f64::from(u8::from(a == b));
                assert!((dot - expected).abs() < tolerance, "{name}: {a}·{b} = {dot}");
            }
        }
    }
    let largest = spectrum.largest();
    for a in 0..k {
        let mut error = 0.0;
        for i in 0..w.rows() {
            let wv: f64 = (0..w.cols()).map(|j| f64::from(w.get(i, j)) * f64::from(vectors.v.get(j, a))).sum();
            error += (wv - spectrum.sigma[a] * f64::from(vectors.u.get(i, a))).powi(2);
        }
        assert!(error.sqrt() < tolerance * largest, "residual of pair {a}: {} of σ₁", error.sqrt() / largest);
    }
}

#[test]
fn exact_finds_what_was_planted() {
    // Small ones take the plain SVD, larger ones the Gram matrix; both orientations.
    for (m, n) in [(1, 1), (1, 9), (9, 1), (2, 3), (40, 40), (90, 200), (97, 97), (130, 220), (220, 130), (300, 257)] {
        let count = m.min(n).min(12);
        let sigma: Vec<f64> = (0..count).map(|i| 7.0 * 0.6f64.powi(i as i32)).collect();
        let w = planted(m, n, &sigma, 3);
        let found = compute(&w, options(Method::Exact));
        assert!(found.exact && found.is_complete() && !found.low_rank);
        assert_eq!(found.sigma.len(), m.min(n));
        assert!(worst_of_largest(&found.sigma[..count], &sigma) < 1e-6, "{m}×{n}");
        assert!(found.sigma[count..].iter().all(|&s| s < 1e-6 * sigma[0]), "{m}×{n}");
        assert!((found.frobenius - w.frobenius()).abs() < 1e-12 * found.frobenius);
        assert!(found.sigma.is_sorted_by(|a, b| a >= b));
    }
}

#[test]
fn exact_agrees_with_a_plain_svd_everywhere() {
    for (m, n) in [(256, 256), (150, 400), (400, 150)] {
        let w = spiked(m, n, 5);
        let found = compute(&w, options(Method::Auto));
        assert!(worst_of_largest(&found.sigma, &reference(&w)) < 1e-7, "{m}×{n}");
        assert_eq!((found.method, found.exact), (svd::gram::METHOD, true));
    }
}

#[test]
fn randomized_finds_the_top_of_a_spiked_matrix() {
    for (m, n, k) in [(1024, 1024, 64), (560, 1100, 32), (1100, 560, 32)] {
        let w = spiked(m, n, 7);
        let expected = reference(&w);
        let found = compute(&w, Options { top: Some(k), ..options(Method::Randomized) });
        assert_eq!((found.method, found.exact, found.sigma.len()), ("block krylov", false, k));
        for (index, (a, b)) in found.sigma.iter().zip(&expected).enumerate() {
            assert!((a - b).abs() / b < 1e-3, "{m}×{n}: σ_{} is {a}, expected {b}", index + 1);
        }
        assert!(found.tolerance.unwrap() <= 1e-3);
        // The tail is known although its values are not.
        let tail: f64 = expected[k..].iter().map(|s| s * s).sum();
        let total: f64 = expected.iter().map(|s| s * s).sum();
        assert!((found.relative_error(k).powi(2) - tail / total).abs() < 1e-4);
        assert_eq!(found, compute(&w, Options { top: Some(k), ..options(Method::Randomized) }), "the same each time");
    }
}

#[test]
fn randomized_stands_exact_low_rank_and_repeated_values() {
    // Rank 5 and nothing else: the space is exhausted in one step.
    let sigma = [4.0, 4.0, 4.0, 1.0, 0.5];
    let w = planted(600, 700, &sigma, 9);
    let found = compute(&w, Options { top: Some(20), vectors: 5, ..options(Method::Randomized) });
    assert_eq!(found.sigma.len(), 20);
    assert!(worst_of_largest(&found.sigma[..5], &sigma) < 1e-5, "{:?}", found.sigma);
    assert!(found.sigma[5..].iter().all(|&s| s < 1e-5), "{:?}", found.sigma);
    check_vectors(&w, &found, 5, 1e-4);
    // The identity: one value, 600 times.
    let w = Matrix::from_fn(600, 600, |i, j| if i == j { 3.0 } else { 0.0 });
    let found = compute(&w, Options { top: Some(32), ..options(Method::Randomized) });
    assert!(found.sigma.iter().all(|&s| (s - 3.0).abs() < 1e-4), "{:?}", found.sigma);
    // A diagonal of few values: columns of the blocks vanish exactly.
    let w = Matrix::from_fn(520, 520, |i, j| if i == j && i < 30 { 1.0 + (i % 3) as f32 } else { 0.0 });
    let found = compute(&w, Options { top: Some(32), ..options(Method::Randomized) });
    let expected: Vec<f64> = (0..32).map(|i| if i < 30 { 3.0 - f64::from(i / 10) } else { 0.0 }).collect();
    assert!(worst_of_largest(&found.sigma, &expected) < 1e-5, "{:?}", found.sigma);
}

#[test]
fn vectors_of_every_method() {
    let w = spiked(300, 420, 11);
    for (method, k) in [(Method::Exact, 4), (Method::Exact, 200)] {
        let found = compute(&w, Options { vectors: k, ..options(method) });
        check_vectors(&w, &found, k, 1e-4);
    }
    let w = spiked(700, 540, 11);
    for method in [Method::Exact, Method::Randomized] {
        let found = compute(&w, Options { vectors: 20, top: Some(20), ..options(method) });
        check_vectors(&w, &found, 20, 2e-3);
    }
    let w = spiked(20, 60, 11);
    let found = compute(&w, Options { vectors: 100, ..Options::default() });
    check_vectors(&w, &found, 20, 1e-5);
    // All of them make the matrix again.
    let vectors = found.vectors.as_ref().unwrap();
    let term = |r: usize, c: usize, i: usize| vectors.u.get(r, i) * found.sigma[i] as f32 * vectors.v.get(c, i);
    let again = Matrix::from_fn(20, 60, |r, c| (0..20).map(|i| term(r, c, i)).sum());
    assert!(again.data().iter().zip(w.data()).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn more_vectors_come_without_the_spectrum() {
    let w = spiked(560, 640, 23);
    let expected = reference(&w);
    for k in [3, 70, 100] {
        let (sigma, vectors) = leading(&dense(w.clone()), k, &()).unwrap();
        assert_eq!((sigma.len(), vectors.count()), (k, k));
        assert!(worst_of_largest(&sigma, &expected[..k]) < 1e-5);
        let mut found = Spectrum::from_sigma(w.shape(), sigma);
        found.vectors = Some(vectors);
        check_vectors(&w, &found, k, 2e-3);
    }
    let (sigma, vectors) = leading(&dense(Matrix::zeros(4, 6)), 9, &()).unwrap();
    assert_eq!((sigma, vectors.u.shape(), vectors.v.shape()), (vec![0.0; 4], [4, 4], [6, 4]));
    let (sigma, vectors) = leading(&dense(Matrix::zeros(4, 6)), 0, &()).unwrap();
    assert_eq!((sigma.len(), vectors.count()), (0, 0));
}

#[test]
fn extreme_scales_are_decomposed_in_f64() {
    let w = spiked(520, 530, 25);
    let expected = compute(&w, options(Method::Exact)).sigma;
    for scale in [1e-25f32, 1e30] {
        let scaled = Matrix::from_fn(520, 530, |i, j| w.get(i, j) * scale);
        let found = compute(&scaled, Options { top: Some(8), ..options(Method::Randomized) });
        let back: Vec<f64> = found.sigma.iter().map(|s| s / f64::from(scale)).collect();
        assert!(worst_of_largest(&back, &expected[..8]) < 1e-6, "{scale:e}");
    }
}

fn low_rank(b: Matrix, a: Matrix, scaling: f64) -> DeltaWeight {
    DeltaWeight::LowRank(LowRank { b, a, scaling, epsilon: 2f64.powi(-7) })
}

#[test]
fn factors_give_the_spectrum_of_their_product() {
    let mut rng = StdRng::seed_from_u64(13);
    for (m, r, n) in [(64, 8, 48), (30, 1, 50), (5, 9, 40), (40, 9, 5), (3, 9, 4), (33, 33, 33), (200, 64, 300)] {
        let mut random = |rows, cols| Matrix::from_fn(rows, cols, |_, _| rng.sample(StandardNormal));
        let (b, a) = (random(m, r), random(r, n));
        let product = Matrix::from_fn(m, n, |i, j| {
            (-0.5 * (0..r).map(|k| f64::from(b.get(i, k)) * f64::from(a.get(k, j))).sum::<f64>()) as f32
        });
        let k = r.min(m).min(n);
        let delta = low_rank(b, a, -0.5);
        let found = spectrum(&delta, &Options { vectors: k, ..Options::default() }, &()).unwrap();
        assert_eq!((found.sigma.len(), found.method, found.exact, found.low_rank), (k, "factored", true, true));
        assert!(worst_of_largest(&found.sigma, &reference(&product)[..k]) < 1e-6, "{m}, {r}, {n}");
        check_vectors(&product, &found, k, 1e-5);
        // Without vectors another way is taken.
        let values = spectrum(&delta, &Options::default(), &()).unwrap();
        assert!(worst_of_largest(&values.sigma, &found.sigma) < 1e-12, "{m}, {r}, {n}");
        assert_eq!(found.ranks().gavish_donoho, None);
    }
}

#[test]
fn a_fresh_adapter_is_all_zeros() {
    let a = Matrix::from_fn(8, 40, |i, j| (i * j) as f32 + 1.0);
    let values = spectrum(&low_rank(Matrix::zeros(50, 8), a.clone(), 2.0), &Options::default(), &()).unwrap();
    assert_eq!(values.sigma, vec![0.0; 8]);
    let found =
        spectrum(&low_rank(Matrix::zeros(50, 8), a, 2.0), &Options { vectors: 8, ..Options::default() }, &()).unwrap();
    assert_eq!(found.sigma, vec![0.0; 8]);
    assert_eq!((found.stable_rank(), found.ranks().numerical, found.ranks().energy_90), (0.0, Some(0), Some(0)));
    let vectors = found.vectors.unwrap();
    assert!(vectors.u.data().iter().chain(vectors.v.data()).all(|x| x.is_finite()));
}

#[test]
fn dependent_columns_of_b_lower_the_rank() {
    // Columns 2 and 3 of B repeat column 1, column 4 is zero.
    let b = Matrix::from_fn(60, 6, |i, j| match j {
        0 | 2 => (i as f32 * 0.37).sin(),
        3 => 0.0,
        1 => 2.0 * (i as f32 * 0.37).sin(),
        _ => ((i * j) as f32 * 0.21).cos(),
    });
    let a = Matrix::from_fn(6, 70, |i, j| ((i * 70 + j) as f32 * 0.11).sin());
    let product = Matrix::from_fn(60, 70, |i, j| (0..6).map(|k| b.get(i, k) * a.get(k, j)).sum());
    let delta = low_rank(b, a, 1.0);
    let values = spectrum(&delta, &Options::default(), &()).unwrap();
    assert!(worst_of_largest(&values.sigma, &reference(&product)[..6]) < 1e-6);
    let found = spectrum(&delta, &Options { vectors: 3, ..Options::default() }, &()).unwrap();
    assert!(worst_of_largest(&found.sigma, &reference(&product)[..6]) < 1e-6);
    assert_eq!(found.sigma.iter().filter(|&&s| s > 1e-9 * found.sigma[0]).count(), 3);
    check_vectors(&product, &found, 3, 1e-5);
}

#[test]
fn nothing_and_zeros_have_spectra() {
    for (m, n) in [(0, 0), (0, 5), (5, 0), (3, 4), (600, 700)] {
        for method in Method::ALL {
            let found = compute(&Matrix::zeros(m, n), Options { vectors: 2, ..options(method) });
            assert!(found.sigma.iter().all(|&s| s == 0.0) && found.frobenius == 0.0);
            assert_eq!(found.stable_rank(), 0.0);
            assert!(found.is_complete());
            let vectors = found.vectors.as_ref().unwrap();
            assert_eq!((vectors.u.rows(), vectors.v.rows()), (m, n));
        }
    }
    let found = spectrum(&low_rank(Matrix::zeros(4, 0), Matrix::zeros(0, 6), 1.0), &Options::default(), &()).unwrap();
    assert!(found.sigma.is_empty() && found.shape == [4, 6]);
    assert_eq!(found.rules().len(), RuleId::ALL.len());
}

#[test]
fn values_that_are_no_numbers_are_an_error() {
    let mut w = spiked(20, 20, 1);
    w.data_mut()[7] = f32::INFINITY;
    assert!(spectrum(&dense(w.clone()), &Options::default(), &()).unwrap_err().to_string().contains("infinite"));
    assert!(spectrum(&low_rank(w, Matrix::zeros(20, 20), 1.0), &Options::default(), &()).is_err());
}

/// Cancels at the given step.
struct Impatient(AtomicU64, u64);

impl Progress for Impatient {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        assert!(done <= total && total > 0);
        if self.0.fetch_add(1, Ordering::Relaxed) >= self.1 { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn cancelling_stops_inside_a_matrix() {
    let delta = dense(spiked(600, 1100, 17));
    for method in [Method::Exact, Method::Randomized] {
        for patience in [0, 2, 5] {
            let impatient = Impatient(AtomicU64::new(0), patience);
            let found = spectrum(&delta, &Options { top: Some(32), ..options(method) }, &impatient);
            assert!(found.unwrap_err().is_cancelled());
            assert_eq!(impatient.0.into_inner(), patience + 1, "nothing goes on after cancelling");
        }
    }
}

#[test]
fn listing_fewer_keeps_the_measures() {
    let w = spiked(200, 220, 19);
    let (all, few) = (compute(&w, Options::default()), compute(&w, Options { top: Some(10), ..Options::default() }));
    assert_eq!(few.sigma, all.sigma[..10]);
    assert_eq!(few.ranks(), all.ranks());
    assert_eq!(few.energy_curve(), all.energy_curve());
    assert!(few.exact && few.is_complete());
}

#[test]
fn methods_are_words() {
    for method in Method::ALL {
        assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
    }
    assert_eq!("svd".parse::<Method>().unwrap_err().status(), 2);
}
