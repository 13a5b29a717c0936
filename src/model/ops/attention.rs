//! Causal attention with grouped keys, sliding windows and capped scores; the scores are never kept.
//!
//! ```text
//! S = scale · Q Kᵀ    (capped: cap · tanh(S / cap))    P = softmax of what a row may see    O = P V
//! dV = Pᵀ dO    dP = dO Vᵀ    dS = P ∘ (dP − rowsum(dO ∘ O)) (· capped slope) · scale    dQ = dS K    dK = dSᵀ Q
//! ```
//!
//! A sink is a score of a head that belongs to no key: it takes its share of the softmax, and gives nothing.
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
    /// Width of a head's query and key.
    pub head_dim: usize,
    /// Width of a head's value.
    pub value_dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// Cap of the scores, 0 for none.
    pub softcap: f32,
    /// A row sees itself and the `window − 1` rows before it.
    pub window: Option<usize>,
    /// A row sees no row before the multiple of this that its position reaches.
    pub chunk: Option<usize>,
    /// Times a head's slope and the distance to a key is taken from its score; 0 for none.
    pub alibi: f32,
    /// Slopes, and slopes times the positions of keys, are rounded to bf16.
    pub rounded: bool,
}

impl Rules {
    /// Keys that query rows `first..end` can see, of a sequence.
    fn seen(&self, first: usize, end: usize, starts: &[u32]) -> std::ops::Range<usize> {
        let begin = self.window.map_or(0, |window| (first + 1).saturating_sub(window));
        // The first query row's start is the smallest of a block.
        let start = starts.first().map_or(0, |&start| start as usize);
        begin.max(self.chunk_of(first, start))..end
    }

    /// The first row of the chunk that a row is in, of rows that begin at `start`.
    fn chunk_of(&self, position: usize, start: usize) -> usize {
        self.chunk.map_or(start, |chunk| start + (position - start) / chunk * chunk)
    }

    /// The first key that a row sees.
    fn begin(&self, position: usize, start: usize) -> usize {
        let window = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        window.max(self.chunk_of(position, start))
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
    /// Takes `slope · distance` from a head's scores of a block; `position` of the first row, `lo` of the first key.
    fn bias(&self, head: usize, scores: &mut [f32], keys: usize, position: usize, lo: usize, starts: &[u32]) {
        if self.alibi == 0.0 {
            return;
        }
        let slope = alibi_slopes(self.heads)[head];
        for (at, row) in scores.chunks_exact_mut(keys).enumerate() {
            let own = position + at;
            if !self.rounded {
                let (slope, own) = (self.alibi * slope, own as f32 - lo as f32);
                row.iter_mut().enumerate().for_each(|(key, score)| *score += slope * (key as f32 - own));
                continue;
            }
            let start = starts.get(at).map_or(0, |&start| start as usize);
            let of = |place: usize| {
                let place = half::bf16::from_f32(place.saturating_sub(start) as f32).to_f32();
                half::bf16::from_f32(half::bf16::from_f32(slope).to_f32() * place).to_f32()
            };
            let mine = of(own);
            row.iter_mut().enumerate().for_each(|(key, score)| *score += self.alibi * (of(lo + key) - mine));
        }
    }
}

wide! {
    /// Scores of a block become probabilities; `position` of the first row, `lo` of the first key. With a cap, `capped`
    /// gets the capped scores; with a sink, `sunk` gets its share of each row.
    fn softmax(scores: &mut [f32], keys: usize, position: usize, lo: usize, rules: Rules, starts: &[u32], sink: Option<f32>, capped: &mut [f32], sunk: &mut [f32]) {
        let softcap = rules.softcap;
        for (at, row) in scores.chunks_exact_mut(keys).enumerate() {
            let position = position + at;
            let start = starts.get(at).map_or(0, |&start| start as usize);
            let begin = rules.begin(position, start).max(lo) - lo;
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
            let most = largest(row).max(sink.unwrap_or(f32::NEG_INFINITY));
            for x in row.iter_mut() {
                *x = exp(*x - most);
            }
            let apart = sink.map_or(0.0, |sink| exp(sink - most));
            let inverse = 1.0 / (reduce(row.len(), |i| row[i]) + apart);
            for x in row.iter_mut() {
                *x *= inverse;
            }
            if let Some(sunk) = sunk.get_mut(at) {
                *sunk = apart * inverse;
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

/// `out[rows, heads · value_dim]` of `rows` query rows a sequence, the last ones of `keys` rows of keys and values; `sinks` of all
/// heads, or none.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    q: Heads,
    k: Heads,
    v: Heads,
    rules: Rules,
    sinks: &[f32],
    rows: usize,
    keys: usize,
    starts: &[u32],
    pool: &Pool,
    out: &mut [f32],
) {
    let Rules { heads, kv_heads, head_dim, value_dim, .. } = rules;
    let width = heads * value_dim;
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
                let values = v.rows(group, sequence * keys + seen.start, seen.len(), value_dim);
                product(Out::dense(&mut scores, count, seen.len()), false, rules.scale, queries, keys_seen.t());
                rules.bias(head, &mut scores, seen.len(), before + first, seen.start, starts);
                let sink = sinks.get(head).copied();
                softmax(&mut scores, seen.len(), before + first, seen.start, rules, starts, sink, &mut [], &mut []);
                let to = Out::new(&mut out[head * value_dim..], count, value_dim, width);
                product(to, false, 1.0, View::dense(&scores, count, seen.len()), values);
            }
        });
    });
}

/// Gradients of [`forward`] with as many keys as query rows: a buffer `[sequences · heads][dq | dk | dv]`, each `[rows, width of a
/// head]`, where dk and dv of the query heads of a group are still apart. Where `d_sinks` has a place for each head, gradients
/// by the sinks are added to it.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    q: Heads,
    k: Heads,
    v: Heads,
    rules: Rules,
    (sinks, d_sinks): (&[f32], &mut [f32]),
    rows: usize,
    starts: &[u32],
    out: &[f32],
    d_out: &[f32],
    pool: &Pool,
) -> Buf {
    let Rules { heads, kv_heads, head_dim, value_dim, softcap, .. } = rules;
    let width = heads * value_dim;
    let (each, each_value) = (rows * head_dim, rows * value_dim);
    let sequences = out.len() / (rows * width);
    let mut gradients = pool.take(sequences * heads * (2 * each + each_value));
    let mut sunk = vec![0f32; sequences * heads];
    gradients.par_chunks_mut(2 * each + each_value).zip(&mut sunk).enumerate().for_each(|(task, (gradient, sunk))| {
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
        let sink = sinks.get(head).copied();
        let mut shares = [0f32; BLOCK];
        for first in (0..rows).step_by(BLOCK) {
            let count = BLOCK.min(rows - first);
            let starts = starts.get(base + first..).unwrap_or_default();
            let seen = rules.seen(first, first + count, starts);
            let many = seen.len();
            let queries = q.rows(head, base + first, count, head_dim);
            let keys = k.rows(group, base + seen.start, many, head_dim);
            let values = v.rows(group, base + seen.start, many, value_dim);
            let at = (base + first) * width + head * value_dim;
            let d_o = View::new(&d_out[at..], count, value_dim, width);
            let (p, dp) = (&mut p[..count * many], &mut dp[..count * many]);
            product(Out::dense(p, count, many), false, rules.scale, queries, keys.t());
            rules.bias(head, p, many, first, seen.start, starts);
            softmax(p, many, first, seen.start, rules, starts, sink, &mut capped, &mut shares);
            if sink.is_some() {
                for (row, share) in shares.iter().enumerate().take(count) {
                    let at = at + row * width;
                    let along: f32 = out[at..at + value_dim].iter().zip(&d_out[at..]).map(|(o, d)| o * d).sum();
                    *sunk -= share * along;
                }
            }
            product(Out::dense(dp, count, many), false, 1.0, d_o, values.t());
            scores_backward(p, many, &out[at..], width, &d_out[at..], value_dim, softcap, &capped, dp);
            let scores = View::dense(dp, count, many);
            let to = Out::dense(&mut dq[first * head_dim..][..count * head_dim], count, head_dim);
            product(to, false, rules.scale, scores, keys);
            let range = seen.start * head_dim..seen.end * head_dim;
            product(Out::dense(&mut dk[range], many, head_dim), true, rules.scale, scores.t(), queries);
            let range = seen.start * value_dim..seen.end * value_dim;
            product(Out::dense(&mut dv[range], many, value_dim), true, 1.0, View::dense(p, count, many).t(), d_o);
        }
    });
    for sequence in sunk.chunks(heads) {
        d_sinks.iter_mut().zip(sequence).for_each(|(to, d)| *to += d);
    }
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
    let Rules { heads, kv_heads, head_dim, value_dim, .. } = rules;
    let (each, task) = (rows * head_dim, rows * (2 * head_dim + value_dim));
    let group = heads / kv_heads;
    to.par_chunks_mut(row.stride).enumerate().for_each(|(at, to)| {
        let (sequence, at) = (at / rows, at % rows);
        let part = |head: usize, which: usize| {
            let width = if which == 2 { value_dim } else { head_dim };
            &gradients[(sequence * heads + head) * task + which * each + at * width..][..width]
        };
        for head in 0..heads {
            to[row.q.0 + head * row.q.1..][..head_dim].copy_from_slice(part(head, 0));
        }
        for kv in 0..kv_heads {
            for (which, (offset, step), width) in [(1, row.k, head_dim), (2, row.v, value_dim)] {
                let to = &mut to[offset + kv * step..][..width];
                to.copy_from_slice(part(kv * group, which));
                for head in kv * group + 1..(kv + 1) * group {
                    to.iter_mut().zip(part(head, which)).for_each(|(to, from)| *to += from);
                }
            }
        }
    });
}
