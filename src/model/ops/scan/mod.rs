//! Linear attention with decay, with or without the delta rule: Gated DeltaNet (arXiv 2412.06464) and Mamba-2 (arXiv 2405.21060).
//!
//! ```text
//! S_t = e^g_t S_{t−1} + k_tᵀ v'_t        o_t = q_t S_t        S [key_dim, value_dim] of each value head
//! v'_t = f_t v_t                         Mamba-2: q, k, v, f are C, B, x, Δ
//! v'_t = f_t (v_t − k_t e^g_t S_{t−1})   the delta rule: f is β; q and k are normalized, q · key_dim^−½
//! ```
//!
//! Rows go in chunks, so that nearly all of it is products. With `G` the sums of g in a chunk, `D_ij = e^(G_i − G_j)` for i ≥ j,
//! `P = Q Kᵀ ∘ D`, `A = f ∘ K Kᵀ ∘ D` below the diagonal, and S what the chunk begins with:
//!
//! ```text
//! V' = f ∘ V   or   (I + A) V' = f ∘ (V − e^G ∘ K S)
//! O = e^G ∘ Q S + P V'          S ← e^G_last S + (e^(G_last − G) ∘ K)ᵀ V'
//! ```
//!
//! What a chunk begins with is kept for the way back, all else is computed again. A *lane* is some value heads of one key head in one
//! row of data: lanes run at once, and which there are does not depend on threads.

mod work;

#[cfg(test)]
mod tests;

use super::{Buf, Pool};
use rayon::prelude::*;
use std::ops::Range;
use work::{Work, add, load_backward};

/// Rows of a chunk.
pub const CHUNK: usize = 64;
/// Lanes of a key head at most.
const LANES: usize = 8;

/// Shapes and rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values; number h uses key head `h / (value_heads / key_heads)`.
    pub value_heads: usize,
    /// Width of a query and key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// With the delta rule.
    pub delta: bool,
    /// Rows of a chunk.
    pub chunk: usize,
    /// Columns of a row of the input.
    pub stride: usize,
    /// First columns of queries, keys and values in it.
    pub at: [usize; 3],
}

impl Scan {
    /// Values of a state.
    pub fn state(&self) -> usize {
        self.value_heads * self.key_dim * self.value_dim
    }

    /// Columns of the output.
    pub fn width(&self) -> usize {
        self.value_heads * self.value_dim
    }

    fn lanes_of_key(&self) -> usize {
        let group = self.value_heads / self.key_heads;
        (1..=LANES.min(group)).rev().find(|count| group.is_multiple_of(*count)).unwrap_or(1)
    }

    fn lanes(&self) -> usize {
        self.key_heads * self.lanes_of_key()
    }

    /// Value heads of a lane.
    fn heads(&self) -> usize {
        self.value_heads / self.lanes()
    }

    /// Values of what chunks begin with, for rows of data of these lengths.
    fn states(&self, segments: &[Range<usize>]) -> usize {
        segments.iter().map(|segment| segment.len().div_ceil(self.chunk)).sum::<usize>() * self.state()
    }

    /// What normalized queries and keys are multiplied by, where they are normalized.
    fn scales(&self) -> [Option<f32>; 2] {
        if self.delta { [Some((self.key_dim as f32).powf(-0.5)), Some(1.0)] } else { [None; 2] }
    }

    /// Columns of a lane's gradients: queries, keys, values, g and f.
    fn gradients(&self) -> usize {
        2 * self.key_dim + self.heads() * (self.value_dim + 2)
    }

    /// Values that a lane works with, in rows of data of up to so many rows.
    fn scratch(&self, longest: usize) -> usize {
        self.pieces(longest).iter().sum()
    }

    /// Of [`Work`], in its order.
    fn pieces(&self, longest: usize) -> [usize; 23] {
        let c = self.chunk.min(longest);
        let (keys, values, square) = (c * self.key_dim, c * self.value_dim, c * c);
        let states = self.heads() * self.key_dim * self.value_dim;
        let (k, v, s) = (keys, values, square);
        [k, k, s, s, c, c, c, c, s, s, s, v, v, v, v, states, k, k, k, v, s, s, c]
    }

    /// Values of the buffers that [`forward`] or [`backward`] takes, in this order, for `sequences` of `rows` rows where `threads` work.
    pub fn buffers(&self, rows: usize, sequences: usize, threads: usize, back: bool) -> Vec<usize> {
        let all = rows * sequences;
        let lanes = sequences * self.lanes();
        let at_once = lanes.div_ceil(lanes.div_ceil(threads.max(1)).max(1)) * self.scratch(rows);
        match back {
            false => vec![sequences * rows.div_ceil(self.chunk) * self.state(), all * self.width(), at_once],
            true => vec![all * self.lanes() * self.gradients(), at_once],
        }
    }

    /// Floating-point operations of the products for `sequences` of `rows` rows.
    pub fn flops(&self, rows: usize, sequences: usize, back: bool) -> f64 {
        let (c, dk, dv) = (self.chunk.min(rows) as f64, self.key_dim as f64, self.value_dim as f64);
        let each = match (back, self.delta) {
            (false, false) => c * (dk + dv) + 2.0 * dk * dv,
            (false, true) => c * (2.0 * dk + 1.5 * dv) + 3.0 * dk * dv,
            (true, false) => c * (3.0 * dk + 3.0 * dv) + 4.0 * dk * dv,
            (true, true) => c * (5.0 * dk + 5.0 * dv) + 7.0 * dk * dv,
        };
        2.0 * each * (rows * sequences * self.value_heads) as f64
    }
}

/// One lane of one row of data, and its piece of a buffer.
struct Lane<'a> {
    number: usize,
    segment: Range<usize>,
    piece: &'a mut [f32],
}

/// Cuts a buffer into one piece for each lane of each row of data; `size` of one with so many rows.
fn lanes<'a>(
    scan: &Scan,
    segments: &[Range<usize>],
    mut data: &'a mut [f32],
    size: impl Fn(usize) -> usize,
) -> Vec<Lane<'a>> {
    let mut list = Vec::with_capacity(segments.len() * scan.lanes());
    for segment in segments {
        for number in 0..scan.lanes() {
            let (piece, rest) = std::mem::take(&mut data).split_at_mut(size(segment.len()));
            list.push(Lane { number, segment: segment.clone(), piece });
            data = rest;
        }
    }
    list
}

/// Takes pieces of these sizes off a buffer.
fn cut<const N: usize>(mut data: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|size| {
        let (piece, rest) = std::mem::take(&mut data).split_at_mut(size);
        data = rest;
        piece
    })
}

/// `out[rows, value_heads · value_dim]` of rows of queries, keys and values; `factors` are `[rows, g | f]` of every value head,
/// `segments` the rows of each row of data. A `state` is where a single one goes on from, and becomes what it ends with. Gives what
/// chunks begin with.
pub fn forward(
    scan: &Scan,
    rows: &[f32],
    factors: &[f32],
    segments: &[Range<usize>],
    mut state: Option<&mut [f32]>,
    pool: &Pool,
    out: &mut [f32],
) -> Buf {
    let Scan { key_dim: dk, value_dim: dv, chunk, .. } = *scan;
    let heads = scan.heads();
    let (each, wide) = (heads * dk * dv, heads * dv);
    let mut states = pool.take(scan.states(segments));
    let mut outputs = pool.take(out.len());
    let mut ends: Vec<Option<&mut [f32]>> = match &mut state {
        Some(state) => state.chunks_exact_mut(each).map(Some).collect(),
        None => Vec::new(),
    };
    ends.resize_with(segments.len() * scan.lanes(), || None);
    let kept = lanes(scan, segments, &mut states, |rows| rows.div_ceil(chunk) * each);
    let given = lanes(scan, segments, &mut outputs, |rows| rows * wide);
    let tasks: Vec<_> = kept.into_iter().zip(given).zip(ends).collect();
    on_threads(scan, segments, pool, tasks, |((kept, given), end), work| {
        let running = std::mem::take(&mut work.states);
        match &end {
            Some(end) => running.copy_from_slice(end),
            None => running.fill(0.0),
        }
        for (index, first) in kept.segment.clone().step_by(chunk).enumerate() {
            let count = chunk.min(kept.segment.end - first);
            kept.piece[index * each..][..each].copy_from_slice(running);
            let mut work = work.of(scan, count);
            work.load_keys(scan, rows, first, kept.number);
            for (head, s) in running.chunks_exact_mut(dk * dv).enumerate() {
                work.load_values(scan, rows, factors, first, kept.number * heads + head, s);
                let at = (first - kept.segment.start) * wide;
                work.step(scan, s, &mut given.piece[at..at + count * wide][head * dv..], wide);
            }
        }
        if let Some(end) = end {
            end.copy_from_slice(running);
        }
    });
    let regions = Regions::new(scan, segments, wide);
    out.par_chunks_mut(scan.width()).enumerate().for_each(|(row, out)| {
        for (lane, to) in out.chunks_exact_mut(wide).enumerate() {
            to.copy_from_slice(&outputs[regions.at(row, lane)..][..wide]);
        }
    });
    states
}

/// Does a task for each lane, as many of them at once as there are threads, each of which works in a part of one buffer: how much memory that
/// takes does not depend on who is faster.
fn on_threads<T: Send>(
    scan: &Scan,
    segments: &[Range<usize>],
    pool: &Pool,
    tasks: Vec<T>,
    run: impl Fn(T, &mut Work) + Sync,
) {
    let each = tasks.len().div_ceil(rayon::current_num_threads()).max(1);
    let longest = segments.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    let size = scan.scratch(longest);
    let mut scratch = pool.take(tasks.len().div_ceil(each) * size);
    let mut tasks: Vec<Option<T>> = tasks.into_iter().map(Some).collect();
    tasks.par_chunks_mut(each).zip(scratch.par_chunks_mut(size.max(1))).for_each(|(tasks, scratch)| {
        for task in tasks.iter_mut().filter_map(Option::take) {
            run(task, &mut Work::new(scan, longest, scratch));
        }
    });
}

/// Where the rows of lanes lie in a buffer of pieces.
struct Regions<'a> {
    segments: &'a [Range<usize>],
    lanes: usize,
    width: usize,
}

impl<'a> Regions<'a> {
    fn new(scan: &Scan, segments: &'a [Range<usize>], width: usize) -> Self {
        Self { segments, lanes: scan.lanes(), width }
    }

    fn at(&self, row: usize, lane: usize) -> usize {
        let number = self.segments.partition_point(|segment| segment.end <= row);
        let segment = &self.segments[number.min(self.segments.len() - 1)];
        (segment.start * self.lanes + lane * segment.len() + row - segment.start) * self.width
    }
}

/// Gradients of [`forward`], from the one by its output: by rows of queries, keys and values into the columns of `d_rows` that they have
/// in the input, and by the factors.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    scan: &Scan,
    rows: &[f32],
    factors: &[f32],
    segments: &[Range<usize>],
    states: &[f32],
    d_out: &[f32],
    pool: &Pool,
    d_rows: &mut [f32],
    d_factors: &mut [f32],
) {
    let Scan { key_dim: dk, value_dim: dv, chunk, value_heads, .. } = *scan;
    let (heads, width, stride) = (scan.heads(), scan.width(), scan.gradients());
    let each = heads * dk * dv;
    let mut gradients = pool.take(rows.len() / scan.stride * scan.lanes() * stride);
    let mut begun = 0;
    let kept: Vec<&[f32]> = segments
        .iter()
        .flat_map(|segment| std::iter::repeat_n(segment.len().div_ceil(chunk) * each, scan.lanes()))
        .map(|size| {
            begun += size;
            &states[begun - size..begun]
        })
        .collect();
    let tasks: Vec<_> = lanes(scan, segments, &mut gradients, |rows| rows * stride).into_iter().zip(kept).collect();
    on_threads(scan, segments, pool, tasks, |(lane, states), work| {
        let Lane { number, segment, piece } = lane;
        let running = std::mem::take(&mut work.states);
        running.fill(0.0);
        for (index, first) in segment.clone().step_by(chunk).enumerate().collect::<Vec<_>>().into_iter().rev() {
            let count = chunk.min(segment.end - first);
            let states = &states[index * each..][..each];
            let to = &mut piece[(first - segment.start) * stride..][..count * stride];
            let mut work = work.of(scan, count);
            work.load_keys(scan, rows, first, number);
            work.dq.fill(0.0);
            work.dk.fill(0.0);
            for (head, (s, ds)) in states.chunks_exact(dk * dv).zip(running.chunks_exact_mut(dk * dv)).enumerate() {
                let of = number * heads + head;
                work.load_values(scan, rows, factors, first, of, s);
                let d_out = (&d_out[first * width + of * dv..], width);
                let at = 2 * dk + heads * dv;
                work.back(scan, s, ds, d_out, to, stride, [2 * dk + head * dv, at + head, at + heads + head]);
            }
            let head = number / scan.lanes_of_key();
            let [of_query, of_key] = scan.scales();
            for (part, scale, d) in [(0, of_query, &mut *work.dq), (1, of_key, &mut *work.dk)] {
                if let Some(scale) = scale {
                    let from = &rows[first * scan.stride + scan.at[part] + head * dk..];
                    load_backward(from, scan.stride, dk, count, scale, d);
                }
                for (to, d) in to.chunks_exact_mut(stride).zip(d.chunks_exact(dk)) {
                    to[part * dk..][..dk].copy_from_slice(d);
                }
            }
        }
    });
    let regions = Regions::new(scan, segments, stride);
    let (of_key, lanes) = (scan.lanes_of_key(), scan.lanes());
    let both = d_rows.par_chunks_mut(scan.stride).zip(d_factors.par_chunks_mut(2 * value_heads));
    both.enumerate().for_each(|(row, (to, factors))| {
        for lane in 0..lanes {
            let from = &gradients[regions.at(row, lane)..][..stride];
            for part in 0..2 {
                let to = &mut to[scan.at[part] + lane / of_key * dk..][..dk];
                let from = &from[part * dk..][..dk];
                if lane % of_key == 0 { to.copy_from_slice(from) } else { add(from, to) }
            }
            let values = heads * dv;
            to[scan.at[2] + lane * values..][..values].copy_from_slice(&from[2 * dk..][..values]);
            let (of_g, of_f) = from[2 * dk + values..].split_at(heads);
            factors[lane * heads..][..heads].copy_from_slice(of_g);
            factors[value_heads + lane * heads..][..heads].copy_from_slice(of_f);
        }
    });
}
