//! Householder reflections of `f64` columns, at every vector width.

use faer::traits::pulp::{Arch, Simd, WithSimd};

/// `I - τ v vᵀ`.
#[derive(Clone, Copy)]
pub struct Reflection<'a> {
    pub v: &'a [f64],
    pub tau: f64,
}

impl Reflection<'_> {
    /// `x ← x - τ v (vᵀ x)`.
    pub fn apply(self, x: &mut [f64]) {
        Arch::new().dispatch(Apply { reflection: self, x });
    }
}

struct Apply<'a> {
    reflection: Reflection<'a>,
    x: &'a mut [f64],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Reflection { v, tau } = self.reflection;
        let weight = tau * dot(simd, v, self.x);
        axpy(simd, -weight, v, self.x);
    }
}

/// Turns `x` into `β e₁` and leaves the reflection that does it in its place: `x[0] = β`, `x[1..] = v[1..]` with `v[0] = 1`.
/// Returns τ; 0 when `x[1..]` is zero already.
#[inline(always)]
pub fn reflect(x: &mut [f64]) -> f64 {
    let Some((&mut first, rest)) = x.split_first_mut() else { return 0.0 };
    let square: f64 = rest.iter().map(|x| x * x).sum();
    if square == 0.0 {
        return 0.0;
    }
    let beta = -(first * first + square).sqrt().copysign(first);
    let scale = 1.0 / (first - beta);
    rest.iter_mut().for_each(|x| *x *= scale);
    x[0] = beta;
    (beta - first) / beta
}

/// `xᵀ y`.
#[inline(always)]
pub fn dot<S: Simd>(simd: S, x: &[f64], y: &[f64]) -> f64 {
    let (xs, x) = S::as_simd_f64s(x);
    let (ys, y) = S::as_simd_f64s(y);
    let zero = simd.splat_f64s(0.0);
    let mut sums = [zero; 4];
    let ((xs4, xs), (ys4, ys)) = (xs.as_chunks::<4>(), ys.as_chunks::<4>());
    for (x, y) in xs4.iter().zip(ys4) {
        for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum = simd.mul_add_f64s(x, y, *sum);
        }
    }
    for (&x, &y) in xs.iter().zip(ys) {
        sums[0] = simd.mul_add_f64s(x, y, sums[0]);
    }
    let sum = simd.add_f64s(simd.add_f64s(sums[0], sums[1]), simd.add_f64s(sums[2], sums[3]));
    simd.reduce_sum_f64s(sum) + x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>()
}

/// `y += a x`.
#[inline(always)]
pub fn axpy<S: Simd>(simd: S, a: f64, x: &[f64], y: &mut [f64]) {
    let (xs, x) = S::as_simd_f64s(x);
    let (ys, y) = S::as_mut_simd_f64s(y);
    let lanes = simd.splat_f64s(a);
    for (&x, y) in xs.iter().zip(ys) {
        *y = simd.mul_add_f64s(lanes, x, *y);
    }
    for (&x, y) in x.iter().zip(y) {
        *y += a * x;
    }
}
