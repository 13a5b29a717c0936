//! Causal depthwise convolution over the rows of a row of data, with or without a SiLU.
//!
//! `pre_t = b + Σ_j w_j ∘ x_(t − kernel + 1 + j)`, rows before the first are 0; `c = silu(pre)` or `pre`.

use super::rows_of;
use super::simd::{sigmoid, wide};
use rayon::prelude::*;
use std::ops::Range;

/// The weights, and where the channels lie in the rows that are read.
#[derive(Clone, Copy, Debug)]
pub struct Conv<'a> {
    /// `[channels, kernel]`.
    pub weight: &'a [f32],
    /// One a channel.
    pub bias: Option<&'a [f32]>,
    /// Rows that a row sees, itself among them.
    pub kernel: usize,
    /// Followed by a SiLU.
    pub silu: bool,
    /// Columns of a row that is read.
    pub stride: usize,
    /// First of the channels.
    pub first: usize,
}

impl Conv<'_> {
    fn channels(&self) -> usize {
        self.weight.len() / self.kernel
    }

    /// Kernel by kernel, `[kernel, channels]`: neighbours are computed at once.
    fn turned(&self) -> Vec<f32> {
        let channels = self.channels();
        (0..self.kernel * channels).map(|at| self.weight[at % channels * self.kernel + at / channels]).collect()
    }
}

/// Begins of the rows of data, for every row.
fn starts(segments: &[Range<usize>]) -> Vec<usize> {
    segments.iter().flat_map(|segment| std::iter::repeat_n(segment.start, segment.len())).collect()
}

wide! {
    fn add_product(to: &mut [f32], a: &[f32], b: &[f32]) {
        let (a, b) = (&a[..to.len()], &b[..to.len()]);
        for i in 0..to.len() {
            to[i] += a[i] * b[i];
        }
    }
}

wide! {
    fn silus(to: &mut [f32]) {
        to.iter_mut().for_each(|x| *x *= sigmoid(*x));
    }
}

wide! {
    /// `d` becomes `d · silu'(pre)`.
    fn slopes(pre: &[f32], d: &mut [f32]) {
        let pre = &pre[..d.len()];
        for i in 0..d.len() {
            let s = sigmoid(pre[i]);
            d[i] *= s * (1.0 + pre[i] * (1.0 - s));
        }
    }
}

/// What goes into the nonlinearity, of one row; `before` are the rows that come before the first, where there are any.
fn row(conv: &Conv, weight: &[f32], x: &[f32], before: &[f32], at: usize, start: usize, to: &mut [f32]) {
    let channels = to.len();
    match conv.bias {
        Some(bias) => to.copy_from_slice(bias),
        None => to.fill(0.0),
    }
    for (tap, weight) in weight.chunks_exact(channels).enumerate() {
        let back = conv.kernel - 1 - tap;
        if back <= at - start {
            add_product(to, weight, &x[(at - back) * conv.stride + conv.first..]);
        } else if let Some(row) = (before.len() / channels + at).checked_sub(back).filter(|_| !before.is_empty()) {
            add_product(to, weight, &before[row * channels..]);
        }
    }
}

/// `[rows, channels]`. `before` are the channels of the rows before the first (of a sequence that goes on), else empty.
pub fn forward(conv: Conv, x: &[f32], segments: &[Range<usize>], before: &[f32], out: &mut [f32]) {
    let (channels, weight, starts) = (conv.channels(), conv.turned(), starts(segments));
    let some = rows_of(channels);
    out.par_chunks_mut(some * channels).enumerate().for_each(|(index, out)| {
        for (at, out) in out.chunks_exact_mut(channels).enumerate() {
            let at = index * some + at;
            row(&conv, &weight, x, before, at, starts[at], out);
            if conv.silu {
                silus(out);
            }
        }
    });
}

/// The gradient `d` by the output becomes the one by what goes into the nonlinearity; then `dx` gets the one by the channels of the input,
/// and the weights' are added up where they are wanted.
pub fn backward(
    conv: Conv,
    x: &[f32],
    segments: &[Range<usize>],
    d: &mut [f32],
    dx: &mut [f32],
    by_weight: Option<&mut [f32]>,
    by_bias: Option<&mut [f32]>,
) {
    let (channels, weight, starts) = (conv.channels(), conv.turned(), starts(segments));
    let some = rows_of(channels);
    if conv.silu {
        d.par_chunks_mut(some * channels).enumerate().for_each(|(index, d)| {
            let mut pre = vec![0.0; channels];
            for (at, d) in d.chunks_exact_mut(channels).enumerate() {
                let at = index * some + at;
                row(&conv, &weight, x, &[], at, starts[at], &mut pre);
                slopes(&pre, d);
            }
        });
    }
    let d = &*d;
    dx.par_chunks_mut(some * conv.stride).enumerate().for_each(|(index, dx)| {
        for (at, dx) in dx.chunks_exact_mut(conv.stride).enumerate() {
            let (at, to) = (index * some + at, &mut dx[conv.first..conv.first + channels]);
            to.fill(0.0);
            for (tap, weight) in weight.chunks_exact(channels).enumerate() {
                let later = at + conv.kernel - 1 - tap;
                // Rows that belong to the same row of data begin where this one does.
                if starts.get(later) == Some(&starts[at]) {
                    add_product(to, weight, &d[later * channels..]);
                }
            }
        }
    });
    if let Some(by_weight) = by_weight {
        let mut turned = vec![0.0; weight.len()];
        turned.par_chunks_mut(channels).enumerate().for_each(|(tap, to)| {
            let back = conv.kernel - 1 - tap;
            for (at, d) in d.chunks_exact(channels).enumerate().filter(|(at, _)| back <= at - starts[*at]) {
                add_product(to, d, &x[(at - back) * conv.stride + conv.first..]);
            }
        });
        for (at, to) in by_weight.iter_mut().enumerate() {
            *to += turned[at % conv.kernel * channels + at / conv.kernel];
        }
    }
    if let Some(by_bias) = by_bias {
        super::add_column_sums(by_bias, d, channels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919 + i * i * 31) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn gradients_are_slopes_and_rows_of_data_are_apart() {
        let (count, channels, kernel, stride) = (11, 3, 4, 5);
        let segments = [0..6, 6..8, 8..11];
        for silu in [true, false] {
            let of = |at: usize| values([count * stride, channels * kernel, channels][at], at + 1);
            let inputs = [of(0), of(1), of(2)];
            let weights = values(count * channels, 7);
            let conv = |inputs: &[Vec<f32>; 3], x: Range<usize>, segments: &[Range<usize>], before: &[f32]| {
                let conv = Conv { weight: &inputs[1], bias: Some(&inputs[2]), kernel, silu, stride, first: 1 };
                let mut out = vec![0.0; x.len() * channels];
                forward(conv, &inputs[0][x.start * stride..x.end * stride], segments, before, &mut out);
                out
            };
            let loss = |inputs: &[Vec<f32>; 3]| -> f64 {
                let out = conv(inputs, 0..count, &segments, &[]);
                out.iter().zip(&weights).map(|(x, w)| f64::from(x * w)).sum()
            };
            let all = conv(&inputs, 0..count, &segments, &[]);
            for segment in &segments {
                let own = 0..segment.len();
                let alone = conv(&inputs, segment.clone(), std::slice::from_ref(&own), &[]);
                assert!(alone == all[segment.start * channels..segment.end * channels]);
            }
            // Row by row, with the rows before.
            let before: Vec<f32> = (1..4).flat_map(|at| inputs[0][at * stride + 1..][..channels].to_vec()).collect();
            let next = conv(&inputs, 4..5, std::slice::from_ref(&(0..1)), &before);
            assert!(next == all[4 * channels..5 * channels]);
            let (mut d, mut dx) = (weights.clone(), vec![0.0; count * stride]);
            let (mut by_weight, mut by_bias) = (vec![0.0; channels * kernel], vec![0.0; channels]);
            let of = Conv { weight: &inputs[1], bias: Some(&inputs[2]), kernel, silu, stride, first: 1 };
            backward(of, &inputs[0], &segments, &mut d, &mut dx, Some(&mut by_weight), Some(&mut by_bias));
            for (which, gradient) in [dx, by_weight, by_bias].iter().enumerate() {
                for (at, gradient) in gradient.iter().enumerate() {
                    let moved = |h: f32| {
                        let mut inputs = inputs.clone();
                        inputs[which][at] += h;
                        loss(&inputs)
                    };
                    let slope = (moved(0.01) - moved(-0.01)) / 0.02;
                    assert!((slope - f64::from(*gradient)).abs() < 1e-3, "{which} {at}: {slope} against {gradient}");
                }
            }
        }
    }
}
