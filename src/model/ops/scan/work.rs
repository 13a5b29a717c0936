//! What one lane computes of one chunk, forward and back.

use super::super::gemm::{Out, View, product};
use super::super::simd::{exp, reduce, wide};
use super::{Scan, cut};
use std::ops::Range;

/// Rows of a triangular system that are solved one after the other.
const BLOCK: usize = 16;
/// Added to the squares of a query or key before they are normalized.
const EPS: f32 = 1e-6;

wide! {
    /// Copies columns of `count` rows, normalized where there is a `scale`.
    fn load(rows: &[f32], stride: usize, width: usize, count: usize, scale: Option<f32>, to: &mut [f32]) {
        for at in 0..count {
            let (from, to) = (&rows[at * stride..][..width], &mut to[at * width..][..width]);
            let factor = match scale {
                Some(scale) => scale / (reduce(width, |i| from[i] * from[i]) + EPS).sqrt(),
                None => 1.0,
            };
            for i in 0..width {
                to[i] = from[i] * factor;
            }
        }
    }
}

wide! {
    /// The gradient `d` by what [`load`] gave becomes the one by what it read.
    pub(super) fn load_backward(rows: &[f32], stride: usize, width: usize, count: usize, scale: f32, d: &mut [f32]) {
        for at in 0..count {
            let (x, d) = (&rows[at * stride..][..width], &mut d[at * width..][..width]);
            let inverse = 1.0 / (reduce(width, |i| x[i] * x[i]) + EPS);
            let (along, factor) = (reduce(width, |i| x[i] * d[i]) * inverse, scale * inverse.sqrt());
            for i in 0..width {
                d[i] = factor * (d[i] - x[i] * along);
            }
        }
    }
}

/// `e^x` of a decay. What is below 1e-26 counts for nothing, and would become numbers so small that processors take a hundred times as
/// long for a product of them.
#[inline(always)]
fn decay(x: f32) -> f32 {
    if x < -60.0 { 0.0 } else { exp(x) }
}

wide! {
    /// `D_ij = e^(sums_i − sums_j)` for i ≥ j, 0 above.
    fn decays(sums: &[f32], to: &mut [f32]) {
        let count = sums.len();
        for (i, row) in to.chunks_exact_mut(count).enumerate() {
            let own = sums[i];
            for j in 0..=i {
                row[j] = decay(own - sums[j]);
            }
            row[i + 1..].fill(0.0);
        }
    }
}

wide! {
    /// `to = a ∘ b`.
    fn times(a: &[f32], b: &[f32], to: &mut [f32]) {
        let (a, b) = (&a[..to.len()], &b[..to.len()]);
        for i in 0..to.len() {
            to[i] = a[i] * b[i];
        }
    }
}

wide! {
    /// Below the diagonal `f_i a_ij b_ij`, else 0.
    fn system(f: &[f32], a: &[f32], b: &[f32], to: &mut [f32]) {
        let count = f.len();
        for i in 0..count {
            let (a, b, to) = (&a[i * count..][..count], &b[i * count..][..count], &mut to[i * count..][..count]);
            for j in 0..i {
                to[j] = f[i] * a[j] * b[j];
            }
            to[i..].fill(0.0);
        }
    }
}

wide! {
    /// Multiplies each row by a factor.
    fn scale_rows(factors: &[f32], width: usize, rows: &mut [f32]) {
        for (row, factor) in rows.chunks_exact_mut(width).zip(factors) {
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

wide! {
    /// `to_i = a_i − factor_i · b_i`.
    fn less(a: &[f32], factors: &[f32], b: &[f32], width: usize, to: &mut [f32]) {
        for (i, factor) in factors.iter().enumerate() {
            let (a, b, to) = (&a[i * width..][..width], &b[i * width..][..width], &mut to[i * width..][..width]);
            for at in 0..width {
                to[at] = a[at] - factor * b[at];
            }
        }
    }
}

wide! {
    /// `to_i += a_i · b_i`, row by row.
    fn add_dots(a: &[f32], b: &[f32], width: usize, sign: f32, to: &mut [f32]) {
        for (i, to) in to.iter_mut().enumerate() {
            let (a, b) = (&a[i * width..][..width], &b[i * width..][..width]);
            *to += sign * reduce(width, |at| a[at] * b[at]);
        }
    }
}

wide! {
    pub(super) fn add(from: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
    }
}

wide! {
    /// `Σ a b`.
    fn dot(a: &[f32], b: &[f32], sum: &mut f32) {
        let b = &b[..a.len()];
        *sum = reduce(a.len(), |at| a[at] * b[at]);
    }
}

wide! {
    /// Rows `range` of `(I + A) X = B`, or of `(I + A)ᵀ X = B`, where what other rows take from them is taken.
    fn solve_rows(a: &[f32], count: usize, range: Range<usize>, width: usize, turned: bool, x: &mut [f32]) {
        for step in 0..range.len() {
            let i = if turned { range.end - 1 - step } else { range.start + step };
            let others = if turned { i + 1..range.end } else { range.start..i };
            for j in others {
                let factor = if turned { a[j * count + i] } else { a[i * count + j] };
                let (low, high) = x.split_at_mut(i.max(j) * width);
                let (own, other) = if i > j {
                    (&mut high[..width], &low[j * width..][..width])
                } else {
                    (&mut low[i * width..][..width], &high[..width])
                };
                for at in 0..width {
                    own[at] -= factor * other[at];
                }
            }
        }
    }
}

/// Solves `(I + A) X = B`, or with `turned` `(I + A)ᵀ X = B`, in place of B `[count, width]`; A is strictly below the diagonal.
fn solve(a: &[f32], count: usize, width: usize, turned: bool, x: &mut [f32]) {
    let blocks = count.div_ceil(BLOCK);
    for step in 0..blocks {
        let block = if turned { blocks - 1 - step } else { step };
        let range = block * BLOCK..(block * BLOCK + BLOCK).min(count);
        let many = range.len();
        if turned && range.end < count {
            let (own, others) = x.split_at_mut(range.end * width);
            let own = Out::dense(&mut own[range.start * width..], many, width);
            let rest = count - range.end;
            let factor = View::new(&a[range.end * count + range.start..], rest, many, count).t();
            product(own, true, -1.0, factor, View::dense(others, rest, width));
        } else if !turned && range.start > 0 {
            let (others, own) = x.split_at_mut(range.start * width);
            let own = Out::dense(&mut own[..many * width], many, width);
            let factor = View::new(&a[range.start * count..], many, range.start, count);
            product(own, true, -1.0, factor, View::dense(others, range.start, width));
        }
        solve_rows(a, count, range, width, turned, x);
    }
}

/// What a lane works with: `[chunk, …]` each.
pub(super) struct Work<'a> {
    /// Queries and keys, `Q Kᵀ` and `K Kᵀ`.
    pub(super) q: &'a mut [f32],
    pub(super) k: &'a mut [f32],
    qk: &'a mut [f32],
    kk: &'a mut [f32],
    /// Sums of g, `e^G`, `e^(G_last − G)`, f.
    pub(super) sums: &'a mut [f32],
    grown: &'a mut [f32],
    left: &'a mut [f32],
    f: &'a mut [f32],
    d: &'a mut [f32],
    p: &'a mut [f32],
    a: &'a mut [f32],
    v: &'a mut [f32],
    /// `K S`, `V − e^G ∘ K S`, V'.
    m: &'a mut [f32],
    x: &'a mut [f32],
    new: &'a mut [f32],
    /// States of the lane's heads, or the gradients by them.
    pub(super) states: &'a mut [f32],
    /// Gradients by queries and keys of all heads, and room for more.
    pub(super) dq: &'a mut [f32],
    pub(super) dk: &'a mut [f32],
    keys: &'a mut [f32],
    d_new: &'a mut [f32],
    d_p: &'a mut [f32],
    d_a: &'a mut [f32],
    d_sums: &'a mut [f32],
}

impl<'a> Work<'a> {
    pub(super) fn new(scan: &Scan, longest: usize, scratch: &'a mut [f32]) -> Self {
        let [q, k, qk, kk, sums, grown, left, f, d, p, a, v, m, x, new, states, dq, dk, keys, d_new, d_p, d_a, d_sums] =
            cut(scratch, scan.pieces(longest));
        Self {
            q,
            k,
            qk,
            kk,
            sums,
            grown,
            left,
            f,
            d,
            p,
            a,
            v,
            m,
            x,
            new,
            states,
            dq,
            dk,
            keys,
            d_new,
            d_p,
            d_a,
            d_sums,
        }
    }

    /// The same for a chunk of `count` rows.
    pub(super) fn of(&mut self, scan: &Scan, count: usize) -> Work<'_> {
        let (keys, values, square) = (count * scan.key_dim, count * scan.value_dim, count * count);
        Work {
            q: &mut self.q[..keys],
            k: &mut self.k[..keys],
            qk: &mut self.qk[..square],
            kk: &mut self.kk[..square],
            sums: &mut self.sums[..count],
            grown: &mut self.grown[..count],
            left: &mut self.left[..count],
            f: &mut self.f[..count],
            d: &mut self.d[..square],
            p: &mut self.p[..square],
            a: &mut self.a[..square],
            v: &mut self.v[..values],
            m: &mut self.m[..values],
            x: &mut self.x[..values],
            new: &mut self.new[..values],
            states: &mut *self.states,
            dq: &mut self.dq[..keys],
            dk: &mut self.dk[..keys],
            keys: &mut self.keys[..keys],
            d_new: &mut self.d_new[..values],
            d_p: &mut self.d_p[..square],
            d_a: &mut self.d_a[..square],
            d_sums: &mut self.d_sums[..count],
        }
    }

    /// Reads queries and keys of the rows from `first` on.
    pub(super) fn load_keys(&mut self, scan: &Scan, rows: &[f32], first: usize, lane: usize) {
        let (count, dk) = (self.sums.len(), scan.key_dim);
        let head = lane / scan.lanes_of_key();
        let from = |part: usize| &rows[first * scan.stride + scan.at[part] + head * dk..];
        let [of_query, of_key] = scan.scales();
        load(from(0), scan.stride, dk, count, of_query, self.q);
        load(from(1), scan.stride, dk, count, of_key, self.k);
        let k = View::dense(self.k, count, dk);
        product(Out::dense(self.qk, count, count), false, 1.0, View::dense(self.q, count, dk), k.t());
        if scan.delta {
            product(Out::dense(self.kk, count, count), false, 1.0, k, k.t());
        }
    }

    /// Reads what a value head needs, and computes everything up to V', from the state `s`.
    pub(super) fn load_values(
        &mut self,
        scan: &Scan,
        rows: &[f32],
        factors: &[f32],
        first: usize,
        head: usize,
        s: &[f32],
    ) {
        let (count, dk, dv) = (self.sums.len(), scan.key_dim, scan.value_dim);
        let mut sum = 0.0;
        for at in 0..count {
            let row = &factors[(first + at) * 2 * scan.value_heads..];
            sum += row[head];
            (self.sums[at], self.f[at], self.grown[at]) = (sum, row[scan.value_heads + head], decay(sum));
        }
        for (left, own) in self.left.iter_mut().zip(&*self.sums) {
            *left = decay(sum - own);
        }
        decays(self.sums, self.d);
        times(self.qk, self.d, self.p);
        load(&rows[first * scan.stride + scan.at[2] + head * dv..], scan.stride, dv, count, None, self.v);
        if scan.delta {
            system(self.f, self.kk, self.d, self.a);
            let k = View::dense(self.k, count, dk);
            product(Out::dense(self.m, count, dv), false, 1.0, k, View::dense(s, dk, dv));
            less(self.v, self.grown, self.m, dv, self.x);
            self.new.copy_from_slice(self.x);
        } else {
            self.new.copy_from_slice(self.v);
        }
        scale_rows(self.f, dv, self.new);
        if scan.delta {
            solve(self.a, count, dv, false, self.new);
        }
    }

    /// Writes the output, and moves the state on.
    pub(super) fn step(&mut self, scan: &Scan, s: &mut [f32], out: &mut [f32], stride: usize) {
        let (count, dk, dv) = (self.sums.len(), scan.key_dim, scan.value_dim);
        let q = View::dense(self.q, count, dk);
        product(Out::dense(self.m, count, dv), false, 1.0, q, View::dense(s, dk, dv));
        scale_rows(self.grown, dv, self.m);
        let p = View::dense(self.p, count, count);
        product(Out::dense(self.m, count, dv), true, 1.0, p, View::dense(self.new, count, dv));
        for (to, from) in out.chunks_mut(stride).zip(self.m.chunks_exact(dv)) {
            to[..dv].copy_from_slice(from);
        }
        let all = self.grown[count - 1];
        s.iter_mut().for_each(|x| *x *= all);
        scale_rows(self.left, dv, self.new);
        product(Out::dense(s, dk, dv), true, 1.0, View::dense(self.k, count, dk).t(), View::dense(self.new, count, dv));
    }

    /// The way back of [`load_values`](Self::load_values) and [`step`](Self::step): from the gradient by the output, in `x`'s place `d_out`
    /// of `d_stride` columns, and by the state that the chunk ends with, in `ds`, which becomes the one by `s`. `d_v`, `d_g` and `d_f` are written
    /// `stride` apart; gradients by queries and keys are added up.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn back(
        &mut self,
        scan: &Scan,
        s: &[f32],
        ds: &mut [f32],
        d_out: (&[f32], usize),
        to: &mut [f32],
        stride: usize,
        at: [usize; 3],
    ) {
        let (count, dk, dv) = (self.sums.len(), scan.key_dim, scan.value_dim);
        let (q, k) = (View::dense(self.q, count, dk), View::dense(self.k, count, dk));
        let state = View::dense(s, dk, dv);
        let dy = View::new(d_out.0, count, dv, d_out.1);
        let last = count - 1;
        self.d_sums.fill(0.0);
        // By V', and what the state that follows takes from K.
        product(Out::dense(self.d_new, count, dv), false, 1.0, k, View::dense(ds, dk, dv));
        scale_rows(self.left, dv, self.d_new);
        product(Out::dense(self.d_new, count, dv), true, 1.0, View::dense(self.p, count, count).t(), dy);
        let (new, keys) = (View::dense(self.new, count, dv), Out::dense(self.keys, count, dk));
        product(keys, false, 1.0, new, View::dense(ds, dk, dv).t());
        scale_rows(self.left, dk, self.keys);
        add(self.keys, self.dk);
        add_dots(self.k, self.keys, dk, -1.0, self.d_sums);
        let of_left: f32 = self.d_sums.iter().sum();
        let mut along = 0.0;
        dot(ds, s, &mut along);
        self.d_sums[last] += self.grown[last] * along - of_left;
        // By P, by Q through the state, and by that state.
        product(Out::dense(self.d_p, count, count), false, 1.0, dy, new.t());
        product(Out::dense(self.keys, count, dk), false, 1.0, dy, state.t());
        scale_rows(self.grown, dk, self.keys);
        add(self.keys, self.dq);
        add_dots(self.q, self.keys, dk, 1.0, self.d_sums);
        let all = self.grown[last];
        ds.iter_mut().for_each(|x| *x *= all);
        self.keys.copy_from_slice(self.q);
        scale_rows(self.grown, dk, self.keys);
        product(Out::dense(ds, dk, dv), true, 1.0, View::dense(self.keys, count, dk).t(), dy);
        if scan.delta {
            solve(self.a, count, dv, true, self.d_new);
            let d_new = View::dense(self.d_new, count, dv);
            product(Out::dense(self.d_a, count, count), false, -1.0, d_new, new.t());
        }
        let (d_f, d_v) = (at[2], at[0]);
        for row in 0..count {
            let (given, of) = (&mut self.d_new[row * dv..][..dv], if scan.delta { &*self.x } else { &*self.v });
            let mut by_f = 0.0;
            dot(given, &of[row * dv..][..dv], &mut by_f);
            to[row * stride + d_f] = by_f;
            given.iter_mut().for_each(|x| *x *= self.f[row]);
            to[row * stride + d_v..][..dv].copy_from_slice(given);
        }
        if scan.delta {
            // By K S, from V − e^G ∘ K S.
            scale_rows(self.grown, dv, self.d_new);
            self.d_new.iter_mut().for_each(|x| *x = -*x);
            add_dots(self.m, self.d_new, dv, 1.0, self.d_sums);
            let d_m = View::dense(self.d_new, count, dv);
            product(Out::dense(self.dk, count, dk), true, 1.0, d_m, state.t());
            product(Out::dense(ds, dk, dv), true, 1.0, k.t(), d_m);
        }
        squares(scan.delta, self.f, self.kk, self.d, self.p, self.a, self.d_p, self.d_a, self.d_sums, to, stride, d_f);
        let d_p = View::dense(self.d_p, count, count);
        product(Out::dense(self.dq, count, dk), true, 1.0, d_p, k);
        product(Out::dense(self.dk, count, dk), true, 1.0, d_p.t(), q);
        if scan.delta {
            let d_a = View::dense(self.d_a, count, count);
            product(Out::dense(self.dk, count, dk), true, 1.0, d_a, k);
            product(Out::dense(self.dk, count, dk), true, 1.0, d_a.t(), k);
        }
        let mut sum = 0.0;
        for row in (0..count).rev() {
            sum += self.d_sums[row];
            to[row * stride + at[1]] = sum;
        }
    }
}

wide! {
    /// From the gradients by P and A: those by the sums of g, and by f; then they become the ones by `Q Kᵀ` and `K Kᵀ`.
    fn squares(delta: bool, f: &[f32], kk: &[f32], d: &[f32], p: &[f32], a: &[f32], d_p: &mut [f32], d_a: &mut [f32], d_sums: &mut [f32], to: &mut [f32], stride: usize, column: usize) {
        let count = f.len();
        for i in 0..count {
            let row = i * count..(i + 1) * count;
            let (d, p, d_p) = (&d[row.clone()], &p[row.clone()], &mut d_p[row.clone()]);
            let mut own = 0.0;
            for j in 0..=i {
                let z = d_p[j] * p[j];
                own += z;
                d_sums[j] -= z;
                d_p[j] *= d[j];
            }
            d_p[i + 1..].fill(0.0);
            if delta {
                let (kk, a, d_a) = (&kk[row.clone()], &a[row.clone()], &mut d_a[row]);
                let mut by_f = 0.0;
                for j in 0..i {
                    let z = d_a[j] * a[j];
                    own += z;
                    d_sums[j] -= z;
                    by_f += d_a[j] * kk[j] * d[j];
                    d_a[j] *= f[i] * d[j];
                }
                d_a[i..].fill(0.0);
                to[i * stride + column] += by_f;
            }
            d_sums[i] += own;
        }
    }
}
