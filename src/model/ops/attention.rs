//! Causal attention with grouped keys, sliding windows and capped scores; the scores are never kept.
//!
//! ```text
//! S = scale · Q Kᵀ    (capped: cap · tanh(S / cap))    P = softmax of what a row may see    O = P V
//! dV = Pᵀ dO    dP = dO Vᵀ    dS = P ∘ (dP − rowsum(dO ∘ O)) (· capped slope) · scale    dQ = dS K    dK = dSᵀ Q
//! ```
//!
//! Query rows go in blocks: a block sees the keys from its window's begin to its own last row, nothing else is computed. Where
//! several rows of data share a sequence, `starts` says for every query row where its own begin: it sees nothing before.

use super::Buf;
use super::Pool;
use super::gemm::{Out, View, product};
use super::simd::{exp, largest, reduce, tanh, wide};
use crate::spec::alibi_slopes;
use rayon::prelude::*;

/// Query rows of a block.
const BLOCK: usize = 64;

/// One of queries, keys and values: rows in a buffer, heads in a row.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The buffer.
    pub data: &'a [f32],
    /// Distance of rows.
    pub stride: usize,
    /// First head in a row.
    pub offset: usize,
    /// From head to head.
    pub step: usize,
}

impl<'a> Heads<'a> {
    /// Rows `rows` of one head.
    fn rows(&self, head: usize, first: usize, count: usize, width: usize) -> View<'a> {
        View::new(&self.data[first * self.stride + self.offset + head * self.step..], count, width, self.stride)
    }
}

/// Shapes and rules.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head h uses number `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// Cap of the scores, 0 for none.
    pub softcap: f32,
    /// A row sees itself and the `window − 1` rows before it.
    pub window: Option<usize>,
    /// Times a head's slope and the distance to a key is taken from its score; 0 for none.
    pub alibi: f32,
}

impl Rules {
    /// Keys that query rows `first..end` can see, of a sequence.
    fn seen(&self, first: usize, end: usize, starts: &[u32]) -> std::ops::Range<usize> {
        let begin = self.window.map_or(0, |window| (first + 1).saturating_sub(window));
        // The first query row's start is the smallest of a block.
        begin.max(starts.first().map_or(0, |&start| start as usize))..end
    }
}

/// Values of the buffers that [`forward`] and [`backward`] have in use at once, when `threads` of them work.
pub fn scratch(rules: &Rules, rows: usize, sequences: usize, threads: usize, back: bool) -> Vec<usize> {
    let (block, blocks) = (BLOCK.min(rows), rows.div_ceil(BLOCK));
    if !back {
        return vec![block * rows; threads.min(sequences * blocks)];
    }
    let each = if rules.softcap > 0.0 { 3 } else { 2 };
    vec![BLOCK * rows; each * threads.min(sequences * rules.heads)]
}

/// Pairs of a query and a key that a sequence's blocks look at, for each head.
pub fn pairs(rules: &Rules, rows: usize) -> usize {
    let block = |first: usize| {
        let end = rows.min(first + BLOCK);
        (end - first) * rules.seen(first, end, &[]).len()
    };
    (0..rows).step_by(BLOCK).map(block).sum()
}

impl Rules {
    /// What a head takes from the score of a key for each position of distance.
    fn slope(&self, head: usize) -> f32 {
        if self.alibi == 0.0 { 0.0 } else { self.alibi * alibi_slopes(self.heads)[head] }
    }
}

/// Takes `slope · distance` from the scores of a block; `position` of the first row, `lo` of the first key.
fn bias(scores: &mut [f32], keys: usize, position: usize, lo: usize, slope: f32) {
    if slope == 0.0 {
        return;
    }
    for (at, row) in scores.chunks_exact_mut(keys).enumerate() {
        let own = (position + at) as f32 - lo as f32;
        row.iter_mut().enumerate().for_each(|(key, score)| *score += slope * (key as f32 - own));
    }
}

wide! {
    /// Scores of a block become probabilities; `position` of the first row, `lo` of the first key. With a cap, `capped`
    /// gets the capped scores.
    fn softmax(scores: &mut [f32], keys: usize, position: usize, lo: usize, window: usize, starts: &[u32], softcap: f32, capped: &mut [f32]) {
        for (at, row) in scores.chunks_exact_mut(keys).enumerate() {
            let position = position + at;
            let start = starts.get(at).map_or(lo, |&start| (start as usize).max(lo));
            let begin = (position + 1).saturating_sub(window).max(start) - lo;
            let end = position + 1 - lo;
            row[..begin].fill(0.0);
            row[end..].fill(0.0);
            let row = &mut row[begin..end];
            if softcap > 0.0 {
                for x in row.iter_mut() {
                    *x = softcap * tanh(*x / softcap);
                }
                if !capped.is_empty() {
                    capped[at * keys + begin..at * keys + end].copy_from_slice(row);
                }
            }
            let most = largest(row);
            for x in row.iter_mut() {
                *x = exp(*x - most);
            }
            let inverse = 1.0 / reduce(row.len(), |i| row[i]);
            for x in row.iter_mut() {
                *x *= inverse;
            }
        }
    }
}

wide! {
    /// `dp` becomes the gradient by the scores before the scale.
    fn scores_backward(p: &[f32], keys: usize, o: &[f32], o_stride: usize, d_o: &[f32], width: usize, softcap: f32, capped: &[f32], dp: &mut [f32]) {
        for (at, (p, dp)) in p.chunks_exact(keys).zip(dp.chunks_exact_mut(keys)).enumerate() {
            let (o, d_o) = (&o[at * o_stride..][..width], &d_o[at * o_stride..][..width]);
            let along = reduce(width, |i| o[i] * d_o[i]);
            for (dp, p) in dp.iter_mut().zip(p) {
                *dp = p * (*dp - along);
            }
            if softcap > 0.0 {
                let capped = &capped[at * keys..][..keys];
                for (dp, c) in dp.iter_mut().zip(capped) {
                    *dp *= 1.0 - (c / softcap) * (c / softcap);
                }
            }
        }
    }
}

/// `out[rows, heads · head_dim]` of `rows` query rows a sequence, the last ones of `keys` rows of keys and values.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    q: Heads,
    k: Heads,
    v: Heads,
    rules: Rules,
    rows: usize,
    keys: usize,
    starts: &[u32],
    pool: &Pool,
    out: &mut [f32],
) {
    let Rules { heads, kv_heads, head_dim, .. } = rules;
    let width = heads * head_dim;
    let before = keys - rows;
    out.par_chunks_mut(rows * width).enumerate().for_each(|(sequence, out)| {
        // The last blocks see the most: they begin first.
        out.par_chunks_mut(BLOCK * width).enumerate().rev().for_each(|(block, out)| {
            let (first, count) = (block * BLOCK, out.len() / width);
            let starts = starts.get(sequence * rows + first..).unwrap_or_default();
            let seen = rules.seen(before + first, before + first + count, starts);
            let mut scores = pool.take(count * seen.len());
            for head in 0..heads {
                let group = head / (heads / kv_heads);
                let queries = q.rows(head, sequence * rows + first, count, head_dim);
                let keys_seen = k.rows(group, sequence * keys + seen.start, seen.len(), head_dim);
                let values = v.rows(group, sequence * keys + seen.start, seen.len(), head_dim);
                product(Out::dense(&mut scores, count, seen.len()), false, rules.scale, queries, keys_seen.t());
                bias(&mut scores, seen.len(), before + first, seen.start, rules.slope(head));
                let window = rules.window.unwrap_or(usize::MAX);
                softmax(&mut scores, seen.len(), before + first, seen.start, window, starts, rules.softcap, &mut []);
                let to = Out::new(&mut out[head * head_dim..], count, head_dim, width);
                product(to, false, 1.0, View::dense(&scores, count, seen.len()), values);
            }
        });
    });
}

/// Gradients of [`forward`] with as many keys as query rows: a buffer `[sequences · heads][dq | dk | dv][rows, head_dim]`,
/// where dk and dv of the query heads of a group are still apart.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    q: Heads,
    k: Heads,
    v: Heads,
    rules: Rules,
    rows: usize,
    starts: &[u32],
    out: &[f32],
    d_out: &[f32],
    pool: &Pool,
) -> Buf {
    let Rules { heads, kv_heads, head_dim, softcap, .. } = rules;
    let width = heads * head_dim;
    let each = rows * head_dim;
    let sequences = out.len() / (rows * width);
    let mut gradients = pool.take(sequences * heads * 3 * each);
    gradients.par_chunks_mut(3 * each).enumerate().for_each(|(task, gradient)| {
        let (sequence, head) = (task / heads, task % heads);
        let group = head / (heads / kv_heads);
        let base = sequence * rows;
        let (dq, rest) = gradient.split_at_mut(each);
        let (dk, dv) = rest.split_at_mut(each);
        dk.fill(0.0);
        dv.fill(0.0);
        let mut p = pool.take(BLOCK * rows);
        let mut dp = pool.take(BLOCK * rows);
        let mut capped = pool.zeros(if softcap > 0.0 { BLOCK * rows } else { 0 });
        for first in (0..rows).step_by(BLOCK) {
            let count = BLOCK.min(rows - first);
            let starts = starts.get(base + first..).unwrap_or_default();
            let seen = rules.seen(first, first + count, starts);
            let many = seen.len();
            let queries = q.rows(head, base + first, count, head_dim);
            let keys = k.rows(group, base + seen.start, many, head_dim);
            let values = v.rows(group, base + seen.start, many, head_dim);
            let at = (base + first) * width + head * head_dim;
            let d_o = View::new(&d_out[at..], count, head_dim, width);
            let (p, dp) = (&mut p[..count * many], &mut dp[..count * many]);
            product(Out::dense(p, count, many), false, rules.scale, queries, keys.t());
            bias(p, many, first, seen.start, rules.slope(head));
            softmax(p, many, first, seen.start, rules.window.unwrap_or(usize::MAX), starts, softcap, &mut capped);
            product(Out::dense(dp, count, many), false, 1.0, d_o, values.t());
            scores_backward(p, many, &out[at..], width, &d_out[at..], head_dim, softcap, &capped, dp);
            let scores = View::dense(dp, count, many);
            let to = Out::dense(&mut dq[first * head_dim..][..count * head_dim], count, head_dim);
            product(to, false, rules.scale, scores, keys);
            let range = seen.start * head_dim..seen.end * head_dim;
            product(Out::dense(&mut dk[range.clone()], many, head_dim), true, rules.scale, scores.t(), queries);
            product(Out::dense(&mut dv[range], many, head_dim), true, 1.0, View::dense(p, count, many).t(), d_o);
        }
    });
    gradients
}

/// Where queries, keys and values lie in a row of a common buffer.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Width of a row.
    pub stride: usize,
    /// First query head, and from head to head.
    pub q: (usize, usize),
    /// Keys.
    pub k: (usize, usize),
    /// Values.
    pub v: (usize, usize),
}

/// Puts what [`backward`] gave into rows of queries, keys and values, adding up the heads of a group.
pub fn gather(gradients: &[f32], rules: Rules, rows: usize, row: Row, to: &mut [f32]) {
    let Rules { heads, kv_heads, head_dim, .. } = rules;
    let each = rows * head_dim;
    let group = heads / kv_heads;
    to.par_chunks_mut(row.stride).enumerate().for_each(|(at, to)| {
        let (sequence, at) = (at / rows, at % rows);
        let part = |head: usize, which: usize| {
            &gradients[((sequence * heads + head) * 3 + which) * each + at * head_dim..][..head_dim]
        };
        for head in 0..heads {
            to[row.q.0 + head * row.q.1..][..head_dim].copy_from_slice(part(head, 0));
        }
        for kv in 0..kv_heads {
            for (which, (offset, step)) in [(1, row.k), (2, row.v)] {
                let to = &mut to[offset + kv * step..][..head_dim];
                to.copy_from_slice(part(kv * group, which));
                for head in kv * group + 1..(kv + 1) * group {
                    to.iter_mut().zip(part(head, which)).for_each(|(to, from)| *to += from);
                }
            }
        }
    });
}
