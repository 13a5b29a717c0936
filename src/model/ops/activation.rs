//! The nonlinearity of an MLP, gated (`f(gate) ∘ up`) or not (`f(up)`).

pub use crate::spec::Activation;

use super::rows_of;
use super::simd::{erf, exp, sigmoid, tanh, wide};
use rayon::prelude::*;

/// √(2/π).
const ROOT: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

/// `(f(x), f'(x))`.
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = sigmoid(x);
    (x * s, s * (1.0 + x * (1.0 - s)))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let t = tanh(ROOT * (x + CUBE * x * x * x));
    let slope = (1.0 - t * t) * ROOT * (1.0 + 3.0 * CUBE * x * x);
    (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * slope)
}

#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    let half = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
    (x * half, half + x * exp(-0.5 * x * x) * 0.398_942_3)
}

#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    if x > 0.0 { (x, 1.0) } else { (0.0, 0.0) }
}

#[inline(always)]
fn relu2(x: f32) -> (f32, f32) {
    if x > 0.0 { (x * x, 2.0 * x) } else { (0.0, 0.0) }
}

/// β of an xIELU.
const LINEAR: f32 = 0.5;
/// Its ε.
const NEAR: f32 = -1e-6;

#[inline(always)]
fn xielu(x: f32, [positive, negative]: [f32; 2]) -> (f32, f32) {
    if x > 0.0 {
        return (positive * x * x + LINEAR * x, 2.0 * positive * x + LINEAR);
    }
    let e = exp(x.min(NEAR));
    let slope = if x < NEAR { e } else { 0.0 };
    (negative * (e - 1.0 - x) + LINEAR * x, negative * (slope - 1.0) + LINEAR)
}

#[inline(always)]
fn rows_forward(f: impl Fn(f32) -> (f32, f32), rows: &[f32], gated: bool, out: &mut [f32], width: usize) {
    let stride = if gated { 2 * width } else { width };
    for (row, out) in rows.chunks_exact(stride).zip(out.chunks_exact_mut(width)) {
        if gated {
            let (gate, up) = row.split_at(width);
            for i in 0..width {
                out[i] = f(gate[i]).0 * up[i];
            }
        } else {
            for i in 0..width {
                out[i] = f(row[i]).0;
            }
        }
    }
}

#[inline(always)]
fn rows_backward(f: impl Fn(f32) -> (f32, f32), rows: &mut [f32], gated: bool, d: &[f32], width: usize) {
    let stride = if gated { 2 * width } else { width };
    for (row, d) in rows.chunks_exact_mut(stride).zip(d.chunks_exact(width)) {
        if gated {
            let (gate, up) = row.split_at_mut(width);
            let up = &mut up[..width];
            for i in 0..width {
                let (value, slope) = f(gate[i]);
                gate[i] = d[i] * up[i] * slope;
                up[i] = d[i] * value;
            }
        } else {
            for i in 0..width {
                row[i] = d[i] * f(row[i]).1;
            }
        }
    }
}

/// `g · sigmoid(α g)` and its slope.
#[inline(always)]
fn swish(g: f32, alpha: f32) -> (f32, f32) {
    let s = sigmoid(alpha * g);
    (g * s, s * (1.0 + alpha * g * (1.0 - s)))
}

#[inline(always)]
fn clamped_forward([alpha, limit]: [f32; 2], rows: &[f32], out: &mut [f32]) {
    for (pair, out) in rows.as_chunks::<2>().0.iter().zip(out) {
        let [gate, up] = *pair;
        *out = (up.clamp(-limit, limit) + 1.0) * swish(gate.min(limit), alpha).0;
    }
}

#[inline(always)]
fn clamped_backward([alpha, limit]: [f32; 2], rows: &mut [f32], d: &[f32]) {
    for (pair, d) in rows.as_chunks_mut::<2>().0.iter_mut().zip(d) {
        let [gate, up] = *pair;
        let (value, slope) = swish(gate.min(limit), alpha);
        let by_gate = if gate > limit { 0.0 } else { d * (up.clamp(-limit, limit) + 1.0) * slope };
        *pair = [by_gate, if up.abs() > limit { 0.0 } else { d * value }];
    }
}

wide! {
    fn some_forward(activation: Activation, alphas: [f32; 2], rows: &[f32], gated: bool, out: &mut [f32], width: usize) {
        match activation {
            Activation::Silu => rows_forward(silu, rows, gated, out, width),
            Activation::GeluTanh => rows_forward(gelu_tanh, rows, gated, out, width),
            Activation::Gelu => rows_forward(gelu, rows, gated, out, width),
            Activation::Relu => rows_forward(relu, rows, gated, out, width),
            Activation::Relu2 => rows_forward(relu2, rows, gated, out, width),
            Activation::Xielu => rows_forward(|x| xielu(x, alphas), rows, gated, out, width),
            Activation::ClampedSwiglu => clamped_forward(alphas, rows, out),
        }
    }
}

wide! {
    fn some_backward(activation: Activation, alphas: [f32; 2], rows: &mut [f32], gated: bool, d: &[f32], width: usize) {
        match activation {
            Activation::Silu => rows_backward(silu, rows, gated, d, width),
            Activation::GeluTanh => rows_backward(gelu_tanh, rows, gated, d, width),
            Activation::Gelu => rows_backward(gelu, rows, gated, d, width),
            Activation::Relu => rows_backward(relu, rows, gated, d, width),
            Activation::Relu2 => rows_backward(relu2, rows, gated, d, width),
            Activation::Xielu => rows_backward(|x| xielu(x, alphas), rows, gated, d, width),
            Activation::ClampedSwiglu => clamped_backward(alphas, rows, d),
        }
    }
}

impl Activation {
    /// From rows of `[gate | up]` (gated) or of `up`, to rows of `width` values; `alphas` are those of an xIELU.
    pub fn forward(self, alphas: [f32; 2], rows: &[f32], gated: bool, out: &mut [f32], width: usize) {
        let (some, stride) = (rows_of(width), if gated { 2 * width } else { width });
        let parts = out.par_chunks_mut(some * width).zip(rows.par_chunks(some * stride));
        parts.for_each(|(out, rows)| some_forward(self, alphas, rows, gated, out, width));
    }

    /// Turns the rows that went in into the gradient by them; `d` is the gradient by what came out.
    pub fn backward(self, alphas: [f32; 2], rows: &mut [f32], gated: bool, d: &[f32], width: usize) {
        let (some, stride) = (rows_of(width), if gated { 2 * width } else { width });
        let parts = rows.par_chunks_mut(some * stride).zip(d.par_chunks(some * width));
        parts.for_each(|(rows, d)| some_backward(self, alphas, rows, gated, d, width));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clamped_swiglu_goes_back_by_its_slope() {
        let (alphas, rows) = ([1.702, 0.8], [0.3f32, -0.5, 1.2, 0.4, -2.0, 1.1, 0.7, -1.3]);
        let value = |rows: &[f32]| {
            let mut out = [0.0; 4];
            Activation::ClampedSwiglu.forward(alphas, rows, true, &mut out, 4);
            out.iter().zip([1.0, -0.5, 2.0, 0.7]).map(|(x, d)| x * d).sum::<f32>()
        };
        let mut gradient = rows;
        Activation::ClampedSwiglu.backward(alphas, &mut gradient, true, &[1.0, -0.5, 2.0, 0.7], 4);
        for at in 0..rows.len() {
            let moved = |by: f32| {
                let mut rows = rows;
                rows[at] += by;
                value(&rows)
            };
            let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            assert!((slope - gradient[at]).abs() < 1e-3, "{slope}, {}", gradient[at]);
        }
    }
}
