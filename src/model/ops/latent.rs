//! Rows of queries, keys and values from what latents give: a head's key is its own part and the one that all heads share.

use super::rows_of;
use rayon::prelude::*;

/// Widths of a row's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Heads.
    pub heads: usize,
    /// A head's own part of its key, and as much of its query.
    pub nope: usize,
    /// The shared part, which turns.
    pub rope: usize,
    /// A head's value.
    pub value: usize,
    /// The latent of keys and values.
    pub rank: usize,
}

impl Row {
    /// Columns of queries.
    pub fn queries(self) -> usize {
        self.heads * (self.nope + self.rope)
    }

    /// Columns of what the latent gives: each head's own key and value.
    pub fn given(self) -> usize {
        self.heads * (self.nope + self.value)
    }

    /// Columns of queries, keys and values.
    pub fn stride(self) -> usize {
        2 * self.queries() + self.heads * self.value
    }
}

/// `[queries | keys | values]` from queries, what the latent gave, and `[latent | shared key]`.
pub fn join(row: Row, q: &[f32], given: &[f32], kv: &[f32], to: &mut [f32]) {
    let Row { heads, nope, rope, value, rank } = row;
    let (queries, width) = (row.queries(), nope + rope);
    let parts = to.par_chunks_mut(row.stride()).zip(q.par_chunks(queries)).zip(given.par_chunks(row.given()));
    parts.zip(kv.par_chunks(rank + rope)).for_each(|(((to, q), given), kv)| {
        let (to_q, rest) = to.split_at_mut(queries);
        let (to_k, to_v) = rest.split_at_mut(queries);
        to_q.copy_from_slice(q);
        for head in 0..heads {
            let own = &given[head * (nope + value)..][..nope + value];
            to_k[head * width..][..nope].copy_from_slice(&own[..nope]);
            to_k[head * width + nope..][..rope].copy_from_slice(&kv[rank..]);
            to_v[head * value..][..value].copy_from_slice(&own[nope..]);
        }
    });
}

/// The way back of [`join`]: gradients by queries, by what the latent gave and, in its last columns, by `[latent | shared key]`.
pub fn split(row: Row, d: &[f32], dq: &mut [f32], d_given: &mut [f32], d_kv: &mut [f32]) {
    let Row { heads, nope, rope, value, rank } = row;
    let (queries, width) = (row.queries(), nope + rope);
    let parts = d.par_chunks(row.stride()).zip(dq.par_chunks_mut(queries)).zip(d_given.par_chunks_mut(row.given()));
    parts.zip(d_kv.par_chunks_mut(rank + rope)).for_each(|(((d, dq), d_given), d_kv)| {
        dq.copy_from_slice(&d[..queries]);
        let (d_k, d_v) = d[queries..].split_at(queries);
        d_kv.fill(0.0);
        for head in 0..heads {
            let own = &mut d_given[head * (nope + value)..][..nope + value];
            own[..nope].copy_from_slice(&d_k[head * width..][..nope]);
            own[nope..].copy_from_slice(&d_v[head * value..][..value]);
            let shared = &d_k[head * width + nope..][..rope];
            d_kv[rank..].iter_mut().zip(shared).for_each(|(to, d)| *to += d);
        }
    });
}

/// `width` columns of rows `stride` apart, by themselves.
pub fn columns(x: &[f32], first: usize, stride: usize, width: usize, to: &mut [f32]) {
    to.par_chunks_mut(width * rows_of(width)).zip(x.par_chunks(stride * rows_of(width))).for_each(|(to, x)| {
        let rows = to.chunks_mut(width).zip(x.chunks(stride));
        rows.for_each(|(to, x)| to.copy_from_slice(&x[first..first + width]));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `⟨join(x), d⟩ = ⟨x, split(d)⟩`: both are linear.
    #[test]
    fn split_is_the_transpose_of_join() {
        let row = Row { heads: 2, nope: 3, rope: 2, value: 4, rank: 3 };
        let values =
            |count: usize, seed: usize| (0..count).map(|at| ((at * 31 + seed) % 17) as f32 - 8.0).collect::<Vec<_>>();
        let (q, given, kv) = (values(2 * row.queries(), 1), values(2 * row.given(), 2), values(2 * 5, 3));
        let d = values(2 * row.stride(), 4);
        let mut joined = vec![0.0; d.len()];
        join(row, &q, &given, &kv, &mut joined);
        let (mut dq, mut d_given, mut d_kv) = (vec![0.0; q.len()], vec![0.0; given.len()], vec![0.0; kv.len()]);
        split(row, &d, &mut dq, &mut d_given, &mut d_kv);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert_eq!(dot(&joined, &d), dot(&q, &dq) + dot(&given, &d_given) + dot(&kv, &d_kv));
        let mut part = vec![0.0; 6];
        columns(&kv, 0, 5, 3, &mut part);
        let mut back = vec![0.0; 10];
        super::super::copy_columns((&part, 3), (&mut back, 5), 3, false);
        assert_eq!((back[..3].to_vec(), back[3], &back[5..8]), (kv[..3].to_vec(), 0.0, &kv[5..8]));
    }
}
