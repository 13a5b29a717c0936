//! What some families do to rows of queries, keys and values beside their norms and the rotary embedding.

use super::rows_of;
use super::simd::{sigmoid, wide};
use crate::spec::QueryScaling;
use rayon::prelude::*;

/// Rows `[queries of the first key | key | value | queries of the second key | …]` become `[all queries | all keys | all
/// values]`; or, `back`, the other way.
pub fn regroup(from: &[f32], to: &mut [f32], heads: usize, kv_heads: usize, head_dim: usize, back: bool) {
    let (of_group, stride) = (heads / kv_heads, (heads + 2 * kv_heads) * head_dim);
    // Where head `at` of a grouped row lies in a split one.
    let split = |at: usize| match (at / (of_group + 2), at % (of_group + 2)) {
        (group, number) if number < of_group => group * of_group + number,
        (group, number) if number == of_group => heads + group,
        (group, _) => heads + kv_heads + group,
    };
    let some = rows_of(stride) * stride;
    to.par_chunks_mut(some).zip(from.par_chunks(some)).for_each(|(to, from)| {
        for (to, from) in to.chunks_exact_mut(stride).zip(from.chunks_exact(stride)) {
            for grouped in 0..heads + 2 * kv_heads {
                let (one, other) = if back { (grouped, split(grouped)) } else { (split(grouped), grouped) };
                to[one * head_dim..][..head_dim].copy_from_slice(&from[other * head_dim..][..head_dim]);
            }
        }
    });
}

/// Values are held within ±`bound`.
pub fn clip(rows: &mut [f32], bound: f32) {
    wide! {
        fn run(rows: &mut [f32], bound: f32) {
            rows.iter_mut().for_each(|x| *x = x.clamp(-bound, bound));
        }
    }
    rows.par_chunks_mut(1 << 14).for_each(|rows| run(rows, bound));
}

/// The gradient by values that were clipped: 0 where `raw` was outside the bound.
pub fn clip_backward(raw: &[f32], d: &mut [f32], bound: f32) {
    wide! {
        fn run(raw: &[f32], d: &mut [f32], bound: f32) {
            d.iter_mut().zip(raw).for_each(|(d, x)| *d = if x.abs() > bound { 0.0 } else { *d });
        }
    }
    d.par_chunks_mut(1 << 14).zip(raw.par_chunks(1 << 14)).for_each(|(d, raw)| run(raw, d, bound));
}

/// Multiplies the first `queries` columns of each row by what its position says; the gradient is multiplied by the same. As in
/// [`Table::turn`](super::rope::Table::turn), rows begin anew every `seq` rows, at `first`, and where `starts` say it.
pub fn scale_queries(
    rows: &mut [f32],
    stride: usize,
    queries: usize,
    scaling: QueryScaling,
    seq: usize,
    first: usize,
    starts: &[u32],
) {
    let some = rows_of(stride);
    rows.par_chunks_mut(stride * some).enumerate().for_each(|(index, rows)| {
        for (row, number) in rows.chunks_mut(stride).zip(index * some..) {
            let start = starts.get(number).map_or(0, |&start| start as usize);
            let position = first + number % seq - start;
            let turns = ((position + scaling.shift) / scaling.original) as f32;
            let scale = 1.0 + scaling.beta * (1.0 + turns).ln();
            if scale != 1.0 {
                row[..queries].iter_mut().for_each(|x| *x *= scale);
            }
        }
    });
}

/// `out = x · sigmoid(gate)`.
pub fn gate(x: &[f32], gate: &[f32], out: &mut [f32]) {
    wide! {
        fn run(x: &[f32], gate: &[f32], out: &mut [f32]) {
            for ((out, x), gate) in out.iter_mut().zip(x).zip(gate) {
                *out = x * sigmoid(*gate);
            }
        }
    }
    let parts = out.par_chunks_mut(1 << 14).zip(x.par_chunks(1 << 14)).zip(gate.par_chunks(1 << 14));
    parts.for_each(|((out, x), gate)| run(x, gate, out));
}

/// Gradients of [`gate`]: `d`, the one by its output, becomes the one by `x`, and `gate` the one by itself.
pub fn gate_backward(x: &[f32], gate: &mut [f32], d: &mut [f32]) {
    wide! {
        fn run(x: &[f32], gate: &mut [f32], d: &mut [f32]) {
            for ((d, x), gate) in d.iter_mut().zip(x).zip(gate) {
                let s = sigmoid(*gate);
                *gate = *d * x * s * (1.0 - s);
                *d *= s;
            }
        }
    }
    let parts = d.par_chunks_mut(1 << 14).zip(x.par_chunks(1 << 14)).zip(gate.par_chunks_mut(1 << 14));
    parts.for_each(|((d, x), gate)| run(x, gate, d));
}

/// Rows of `[query | gate]` of every head of `width` columns in all, then keys and values, become rows of `row` columns without gates,
/// and rows of gates.
pub fn split_gate(rows: &[f32], head_dim: usize, width: usize, row: usize, qkv: &mut [f32], gate: &mut [f32]) {
    let parts = qkv.par_chunks_mut(row).zip(gate.par_chunks_mut(width)).zip(rows.par_chunks(row + width));
    parts.for_each(|((qkv, gate), from)| {
        let (both, rest) = from.split_at(2 * width);
        let (q, kv) = qkv.split_at_mut(width);
        let heads = q.chunks_exact_mut(head_dim).zip(gate.chunks_exact_mut(head_dim));
        for ((q, gate), both) in heads.zip(both.chunks_exact(2 * head_dim)) {
            q.copy_from_slice(&both[..head_dim]);
            gate.copy_from_slice(&both[head_dim..]);
        }
        kv.copy_from_slice(rest);
    });
}

/// The way back.
pub fn join_gate(qkv: &[f32], gate: &[f32], head_dim: usize, width: usize, row: usize, rows: &mut [f32]) {
    let parts = rows.par_chunks_mut(row + width).zip(qkv.par_chunks(row).zip(gate.par_chunks(width)));
    parts.for_each(|(to, (qkv, gate))| {
        let (both, rest) = to.split_at_mut(2 * width);
        let (q, kv) = qkv.split_at(width);
        let heads = q.chunks_exact(head_dim).zip(gate.chunks_exact(head_dim));
        for ((q, gate), both) in heads.zip(both.chunks_exact_mut(2 * head_dim)) {
            both[..head_dim].copy_from_slice(q);
            both[head_dim..].copy_from_slice(gate);
        }
        rest.copy_from_slice(kv);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_sorted_back() {
        // Two keys with two queries each, heads of one value.
        let grouped = [0.0, 1.0, 10.0, 20.0, 2.0, 3.0, 11.0, 21.0];
        let mut split = [0.0; 8];
        regroup(&grouped, &mut split, 4, 2, 1, false);
        assert_eq!(split, [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 20.0, 21.0]);
        let mut again = [0.0; 8];
        regroup(&split, &mut again, 4, 2, 1, true);
        assert_eq!(again, grouped);
    }

    #[test]
    fn a_gate_has_the_slopes_of_its_values() {
        let (x, gates, h) = ([0.3f32, -1.2], [0.4f32, -0.7], 1e-2f32);
        let value = |x: [f32; 2], gates: [f32; 2]| {
            let mut out = [0.0; 2];
            gate(&x, &gates, &mut out);
            out
        };
        let (mut by_gate, mut by_x) = (gates, [1.0; 2]);
        gate_backward(&x, &mut by_gate, &mut by_x);
        for at in 0..2 {
            let moved = |values: [f32; 2], by: f32| {
                let mut values = values;
                values[at] += by;
                values
            };
            let slope = (value(moved(x, h), gates)[at] - value(moved(x, -h), gates)[at]) / (2.0 * h);
            assert!((slope - by_x[at]).abs() < 1e-4);
            let slope = (value(x, moved(gates, h))[at] - value(x, moved(gates, -h))[at]) / (2.0 * h);
            assert!((slope - by_gate[at]).abs() < 1e-4);
        }
    }

    #[test]
    fn queries_grow_with_their_position() {
        let mut rows = [1.0f32; 2 * 20];
        scale_queries(&mut rows, 2, 1, QueryScaling { beta: 0.1, original: 8, shift: 0 }, 20, 0, &[]);
        let expected = |at: usize| 1.0 + 0.1 * (1.0 + (at / 8) as f32).ln();
        for (at, row) in rows.chunks(2).enumerate() {
            assert!((row[0] - expected(at)).abs() < 1e-6 && row[1] == 1.0, "{at}");
        }
        let mut clipped = [-3.0, 0.5, 2.0];
        clip(&mut clipped, 1.0);
        assert_eq!(clipped, [-1.0, 0.5, 1.0]);
        let mut d = [1.0; 3];
        clip_backward(&[-3.0, 0.5, 2.0], &mut d, 1.0);
        assert_eq!(d, [0.0, 1.0, 0.0]);
    }
}
