//! The operations of a decoder on the processor, forward and backward, over plain buffers of `f32`.
//!
//! Activations are `[tokens, width]`, row after row. Every operation is written down once, with its gradient beside it,
//! runs on all threads of the pool, and gives the same bits each time.

pub mod activation;
pub mod attention;
pub mod bf16;
pub mod conv;
pub mod experts;
pub mod gated;
pub mod gemm;
pub mod heads;
pub mod latent;
pub mod loss;
pub mod magnitude;
pub mod norm;
pub mod pool;
pub mod rope;
pub mod scan;
pub(crate) mod simd;

pub use pool::{Buf, Pool};

use rayon::prelude::*;

/// Rows that one thread takes at a time: about 16,000 values.
pub(crate) fn rows_of(width: usize) -> usize {
    (1usize << 14).div_ceil(width.max(1)).max(1)
}

/// `to += from`.
pub fn add(to: &mut [f32], from: &[f32]) {
    simd::wide! {
        fn run(to: &mut [f32], from: &[f32]) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }
    to.par_chunks_mut(1 << 14).zip(from.par_chunks(1 << 14)).for_each(|(to, from)| run(to, from));
}

/// `to += scale · from`.
pub fn add_scaled(to: &mut [f32], from: &[f32], scale: f32) {
    simd::wide! {
        fn run(to: &mut [f32], from: &[f32], scale: f32) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += scale * from);
        }
    }
    to.par_chunks_mut(1 << 14).zip(from.par_chunks(1 << 14)).for_each(|(to, from)| run(to, from, scale));
}

/// `to = from`.
pub fn copy(to: &mut [f32], from: &[f32]) {
    to.par_chunks_mut(1 << 16).zip(from.par_chunks(1 << 16)).for_each(|(to, from)| to.copy_from_slice(from));
}

/// Copies the first `width` values of rows that are some distance apart into others, or adds them.
pub fn copy_columns(from: (&[f32], usize), to: (&mut [f32], usize), width: usize, add: bool) {
    let ((from, from_stride), (to, to_stride)) = (from, to);
    to.par_chunks_mut(to_stride).zip(from.par_chunks(from_stride)).for_each(|(to, from)| {
        let (to, from) = (&mut to[..width], &from[..width]);
        match add {
            true => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
            false => to.copy_from_slice(from),
        }
    });
}

/// Adds `bias` to every row of a matrix whose rows are `stride` apart.
pub fn add_bias(to: &mut [f32], stride: usize, bias: &[f32]) {
    simd::wide! {
        fn run(to: &mut [f32], stride: usize, bias: &[f32]) {
            for row in to.chunks_mut(stride) {
                row.iter_mut().zip(bias).for_each(|(to, bias)| *to += bias);
            }
        }
    }
    to.par_chunks_mut(stride * rows_of(bias.len())).for_each(|to| run(to, stride, bias));
}

/// `sums += Σ rows`, of rows of `sums.len()` values, `stride` apart.
pub fn add_column_sums(sums: &mut [f32], rows: &[f32], stride: usize) {
    simd::wide! {
        fn run(sums: &mut [f32], rows: &[f32], stride: usize) {
            for row in rows.chunks(stride) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
        }
    }
    run(sums, rows, stride);
}
