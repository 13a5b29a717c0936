//! RMSNorm and LayerNorm over rows, and over the heads in a row.
//!
//! ```text
//! RMSNorm    y = x · s ∘ w                  s = 1 / sqrt(mean(x²) + ε)          (w is 1 + what is stored in Gemma)
//! LayerNorm  y = (x − mean x) · s ∘ w + b   s = 1 / sqrt(var(x) + ε)
//!            dx = s · (g − mean g − x̂ mean(g ∘ x̂)),  g = dy ∘ w,  without "mean g" in RMSNorm
//! ```

use super::rows_of;
use super::simd::{reduce, wide};
use rayon::prelude::*;

/// A normalization's weights.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// One scale a column, as used (Gemma's 1 is already added).
    pub weight: &'a [f32],
    /// Shifts of a LayerNorm.
    pub bias: Option<&'a [f32]>,
    /// LayerNorm subtracts the mean.
    pub centred: bool,
    /// Added to the variance.
    pub eps: f32,
}

/// Mean (0 of an RMSNorm) and scale of a row.
#[inline(always)]
fn moments(x: &[f32], centred: bool, eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = if centred { reduce(x.len(), |i| x[i]) / n } else { 0.0 };
    let variance = reduce(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

#[inline(always)]
fn row_forward(x: &[f32], norm: &Norm, y: &mut [f32]) {
    let (y, weight) = (&mut y[..x.len()], &norm.weight[..x.len()]);
    let (mean, scale) = moments(x, norm.centred, norm.eps);
    for i in 0..x.len() {
        y[i] = (x[i] - mean) * scale * weight[i];
    }
    if let Some(bias) = norm.bias {
        y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
}

/// `dx = keep·dx + …`; `dy` and `dx` may not be the same row.
#[inline(always)]
fn row_backward(x: &[f32], norm: &Norm, dy: &[f32], keep: bool, dx: &mut [f32]) {
    let n = x.len();
    let (dy, dx, weight) = (&dy[..n], &mut dx[..n], &norm.weight[..n]);
    let (mean, scale) = moments(x, norm.centred, norm.eps);
    let along = reduce(n, |i| dy[i] * weight[i] * ((x[i] - mean) * scale)) / n as f32;
    let shift = if norm.centred { reduce(n, |i| dy[i] * weight[i]) / n as f32 } else { 0.0 };
    for i in 0..n {
        let value = scale * (dy[i] * weight[i] - shift - (x[i] - mean) * scale * along);
        dx[i] = if keep { dx[i] + value } else { value };
    }
}

wide! {
    fn rows_forward(x: &[f32], width: usize, norm: &Norm, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            row_forward(x, norm, y);
        }
    }
}

wide! {
    fn rows_backward(x: &[f32], width: usize, norm: &Norm, dy: &[f32], keep: bool, dx: &mut [f32]) {
        for ((x, dy), dx) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
            row_backward(x, norm, dy, keep, dx);
        }
    }
}

/// Normalizes rows of `norm.weight.len()` values.
pub fn forward(x: &[f32], norm: Norm, y: &mut [f32]) {
    let width = norm.weight.len();
    let some = rows_of(width) * width;
    y.par_chunks_mut(some).zip(x.par_chunks(some)).for_each(|(y, x)| rows_forward(x, width, &norm, y));
}

/// The gradient by `x`, added to `dx` if `keep`.
pub fn backward(x: &[f32], norm: Norm, dy: &[f32], keep: bool, dx: &mut [f32]) {
    let width = norm.weight.len();
    let some = rows_of(width) * width;
    let parts = dx.par_chunks_mut(some).zip(x.par_chunks(some)).zip(dy.par_chunks(some));
    parts.for_each(|((dx, x), dy)| rows_backward(x, width, &norm, dy, keep, dx));
}

/// The gradients by weight and bias, added up over rows of `width` values in groups (`heads` of them in rows that are
/// `stride` apart; a plain norm is one group with the stride of its width).
pub fn weights_backward(x: &[f32], dy: &[f32], layout: Groups, norm: Norm, dw: &mut [f32], db: Option<&mut [f32]>) {
    wide! {
        fn run(x: &[f32], dy: &[f32], layout: Groups, norm: &Norm, dw: &mut [f32]) {
            let width = norm.weight.len();
            for (x, dy) in x.chunks(layout.x_stride).zip(dy.chunks(layout.stride)) {
                for group in 0..layout.groups {
                    let x = &x[layout.x_offset + group * layout.x_step..][..width];
                    let dy = &dy[layout.offset + group * layout.step..][..width];
                    let (mean, scale) = moments(x, norm.centred, norm.eps);
                    for i in 0..width {
                        dw[i] += dy[i] * (x[i] - mean) * scale;
                    }
                }
            }
        }
    }
    run(x, dy, layout, &norm, dw);
    if let Some(db) = db {
        super::add_column_sums(db, dy, layout.stride);
    }
}

/// Where groups of values that are normalized alone lie in two buffers: what went in (`x`) and what came out.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// Groups in a row.
    pub groups: usize,
    /// Distance of rows, first group and distance of groups in what came out.
    pub stride: usize,
    /// First group of a row.
    pub offset: usize,
    /// From group to group.
    pub step: usize,
    /// The same for what went in.
    pub x_stride: usize,
    /// First group of a row.
    pub x_offset: usize,
    /// From group to group.
    pub x_step: usize,
}

impl Groups {
    /// One group that is the whole row.
    pub fn rows(width: usize) -> Self {
        Self { groups: 1, stride: width, offset: 0, step: 0, x_stride: width, x_offset: 0, x_step: 0 }
    }
}

/// Normalizes each head of every row: `x` is read, `y` written.
pub fn heads_forward(x: &[f32], norm: Norm, layout: Groups, y: &mut [f32]) {
    wide! {
        fn run(x: &[f32], norm: &Norm, layout: Groups, y: &mut [f32]) {
            let width = norm.weight.len();
            for (x, y) in x.chunks(layout.x_stride).zip(y.chunks_mut(layout.stride)) {
                for group in 0..layout.groups {
                    let x = &x[layout.x_offset + group * layout.x_step..][..width];
                    row_forward(x, norm, &mut y[layout.offset + group * layout.step..][..width]);
                }
            }
        }
    }
    let rows = rows_of(layout.groups * norm.weight.len());
    let parts = y.par_chunks_mut(rows * layout.stride).zip(x.par_chunks(rows * layout.x_stride));
    parts.for_each(|(y, x)| run(x, &norm, layout, y));
}

/// Turns the gradient by the normalized heads, in `dy`, into the one by what went in, in place.
pub fn heads_backward(x: &[f32], norm: Norm, layout: Groups, dy: &mut [f32]) {
    wide! {
        fn run(x: &[f32], norm: &Norm, layout: Groups, dy: &mut [f32], spare: &mut [f32]) {
            let width = norm.weight.len();
            for (x, dy) in x.chunks(layout.x_stride).zip(dy.chunks_mut(layout.stride)) {
                for group in 0..layout.groups {
                    let x = &x[layout.x_offset + group * layout.x_step..][..width];
                    let dy = &mut dy[layout.offset + group * layout.step..][..width];
                    row_backward(x, norm, dy, false, spare);
                    dy.copy_from_slice(spare);
                }
            }
        }
    }
    let rows = rows_of(layout.groups * norm.weight.len());
    let parts = dy.par_chunks_mut(rows * layout.stride).zip(x.par_chunks(rows * layout.x_stride));
    parts.for_each(|(dy, x)| run(x, &norm, layout, dy, &mut vec![0.0; norm.weight.len()]));
}
