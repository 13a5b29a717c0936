//! Mixers with a state on the processor: convolution, recurrence, gate and norm.

use super::{Cache, Cpu, Kept, starts};
use crate::error::Result;
use crate::model::backend::{Buffers, Cols, Hybrids, Place};
use crate::model::decoder::Attention;
use crate::model::mixer::Recurrence;
use crate::model::ops::conv::{self, Conv};
use crate::model::ops::experts::Routes;
use crate::model::ops::gated::{self, Gated};
use crate::model::ops::rope::Table;
use crate::model::ops::simd::{sigmoid, wide};
use crate::model::ops::{self, Buf, heads, scan};
use crate::model::params::Grads;
use crate::model::weight::Vector;
use crate::spec::RecurrenceKind;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// What a recurrence keeps for the way back.
#[derive(Debug)]
pub struct Recurred {
    /// What the projections gave, in the order of [`RecurrenceSpec`](crate::spec::RecurrenceSpec).
    rows: Buf,
    /// What the convolution gave.
    conv: Buf,
    scanned: Option<Scanned>,
}

#[derive(Debug)]
struct Scanned {
    /// `[rows, g | f]`.
    factors: Buf,
    /// What chunks begin with.
    states: Buf,
    /// What the recurrence gave.
    y: Buf,
}

/// Rows of each row of data.
fn segments(place: &Place<Cpu>) -> Vec<Range<usize>> {
    let starts = starts(place);
    let mut list: Vec<Range<usize>> = Vec::new();
    for row in 0..place.rows {
        let at = row % place.seq;
        let begins = at == starts.get(row).map_or(0, |&start| start as usize);
        match list.last_mut() {
            Some(last) if !begins => last.end = row + 1,
            _ => list.push(row..row + 1),
        }
    }
    list
}

/// Columns of every row in another order: `to[c] = from[order[c]]`, or the way back.
fn reorder(order: &[u32], from: &[f32], to: &mut [f32], back: bool) {
    let width = order.len();
    to.par_chunks_mut(width).zip(from.par_chunks(width)).for_each(|(to, from)| {
        for (at, &other) in order.iter().enumerate() {
            if back { to[other as usize] = from[at] } else { to[at] = from[other as usize] }
        }
    });
}

/// `ln(1 + e^x)`, as torch has it: x beyond 20.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

wide! {
    /// `to += x ∘ factors`, a factor for every head.
    fn add_heads(x: &[f32], factors: &[f32], to: &mut [f32]) {
        let width = to.len() / factors.len();
        for (head, factor) in factors.iter().enumerate() {
            let (x, to) = (&x[head * width..][..width], &mut to[head * width..][..width]);
            for i in 0..width {
                to[i] += factor * x[i];
            }
        }
    }
}

impl Recurrence {
    fn columns(&self, scale: impl Fn(usize) -> f32) -> Vec<f32> {
        let parts = self.spec.parts();
        parts.iter().enumerate().flat_map(|(part, &width)| std::iter::repeat_n(scale(part), width)).collect()
    }
}

impl Cpu<'_> {
    fn conv_weights(&self, of: &Recurrence) -> Vec<f32> {
        of.conv.iter().flat_map(|piece| piece.values(self.params).into_owned()).collect()
    }

    fn conv<'a>(&self, of: &Recurrence, weight: &'a [f32], bias: Option<&'a [f32]>) -> Conv<'a> {
        let ((_, first), short) = (of.spec.channels(), of.spec.kind == RecurrenceKind::Short);
        Conv { weight, bias, kernel: of.spec.conv.kernel, silu: !short, stride: of.spec.row(), first }
    }

    fn gated<'a>(&self, of: &'a Recurrence, weight: &'a [f32]) -> Gated<'a> {
        let norm = of.spec.norm.as_ref();
        Gated {
            width: of.spec.width(),
            stride: of.spec.row(),
            first: of.spec.gate(),
            group: norm.map_or(0, |norm| norm.group),
            weight,
            eps: norm.map_or(0.0, |norm| norm.eps),
            norm_first: norm.is_some_and(|norm| norm.first),
        }
    }

    /// Multiplies the columns of rows.
    fn scale_columns_of(&self, of: &Recurrence, rows: &mut Buf) {
        if of.spec.scales.is_empty() {
            return;
        }
        let factors = of.columns(|part| of.spec.scales[part]);
        rows.par_chunks_mut(factors.len()).for_each(|row| row.iter_mut().zip(&factors).for_each(|(x, s)| *x *= s));
    }

    /// B ∘ x of a short convolution takes the place of x; `rows` are kept as they were in `x`'s own gradient.
    fn multiply_in(&self, of: &Recurrence, rows: &Buf) -> Option<Buf> {
        (of.spec.kind == RecurrenceKind::Short).then(|| {
            let (width, stride) = (of.spec.width(), of.spec.row());
            let mut to = self.pool.take(rows.len());
            to.par_chunks_mut(stride).zip(rows.par_chunks(stride)).for_each(|(to, row)| {
                let (b, x) = (&row[..width], &row[2 * width..]);
                to[2 * width..].iter_mut().zip(b.iter().zip(x)).for_each(|(to, (b, x))| *to = b * x);
            });
            to
        })
    }

    /// g and f of every row and value head.
    fn factors(&self, of: &Recurrence, rows: &[f32]) -> Buf {
        let (spec, heads) = (&of.spec, of.spec.value_heads);
        let stride = spec.row();
        let (a_log, dt_bias) = (of.vectors[0].values(self.params), of.vectors[1].values(self.params));
        let mut factors = self.pool.take(rows.len() / stride * 2 * heads);
        factors.par_chunks_mut(2 * heads).zip(rows.par_chunks(stride)).for_each(|(to, row)| {
            let (g, f) = to.split_at_mut(heads);
            for head in 0..heads {
                let last = softplus(row[stride - heads + head] + dt_bias[head]);
                let decay = -a_log[head].exp();
                (g[head], f[head]) = match spec.kind {
                    RecurrenceKind::Delta { beta } => (decay * last, beta * sigmoid(row[stride - 2 * heads + head])),
                    RecurrenceKind::State { limit: [least, most] } => {
                        let dt = last.clamp(least, most);
                        (decay * dt, dt)
                    }
                    RecurrenceKind::Short => (0.0, 0.0),
                };
            }
        });
        factors
    }

    /// The gradients by g and f become those by the last columns of rows, and are added to those of the vectors.
    fn factors_backward(&self, of: &Recurrence, rows: &[f32], d: &[f32], d_rows: &mut [f32], grads: &mut Grads) {
        let (spec, heads) = (&of.spec, of.spec.value_heads);
        let stride = spec.row();
        let (a_log, dt_bias) = (of.vectors[0].values(self.params), of.vectors[1].values(self.params));
        let (mut by_a, mut by_dt) = (vec![0.0; heads], vec![0.0; heads]);
        for ((row, d), d_row) in
            rows.chunks_exact(stride).zip(d.chunks_exact(2 * heads)).zip(d_rows.chunks_exact_mut(stride))
        {
            for head in 0..heads {
                let x = row[stride - heads + head] + dt_bias[head];
                let (last, slope, decay) = (softplus(x), sigmoid(x), -a_log[head].exp());
                let (by_g, by_f) = (d[head], d[heads + head]);
                let by_x = match spec.kind {
                    RecurrenceKind::Delta { beta } => {
                        let s = sigmoid(row[stride - 2 * heads + head]);
                        d_row[stride - 2 * heads + head] = by_f * beta * s * (1.0 - s);
                        by_a[head] += by_g * decay * last;
                        by_g * decay * slope
                    }
                    RecurrenceKind::State { limit: [least, most] } => {
                        by_a[head] += by_g * decay * last.clamp(least, most);
                        let inside = (least..=most).contains(&last);
                        if inside { (by_f + by_g * decay) * slope } else { 0.0 }
                    }
                    RecurrenceKind::Short => 0.0,
                };
                d_row[stride - heads + head] = by_x;
                by_dt[head] += by_x;
            }
        }
        for (vector, by) in of.vectors.iter().zip([by_a, by_dt]) {
            if let Some(number) = vector.trained() {
                ops::add(&mut grads.0[number], &by);
            }
        }
    }

    pub(super) fn run_recurrence(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        rows: Buf,
        cache: Option<&mut Cache>,
    ) -> Recurred {
        let spec = &of.spec;
        let (channels, first) = spec.channels();
        let mut rows = match &of.order {
            None => rows,
            Some(order) => {
                let mut to = self.pool.take(rows.len());
                reorder(order, &rows, &mut to, false);
                to
            }
        };
        self.scale_columns_of(of, &mut rows);
        let segments = segments(&place);
        let mut given = self.pool.take(place.rows * channels);
        let mut cache = cache;
        {
            let read = self.multiply_in(of, &rows);
            let read = read.as_ref().unwrap_or(&rows);
            let weight = self.conv_weights(of);
            let bias = of.conv_bias.as_ref().map(|bias| bias.values(self.params));
            let conv = self.conv(of, &weight, bias.as_deref());
            let before = cache.as_deref().map_or(&[][..], |cache| &cache.window);
            conv::forward(conv, read, &segments, before, &mut given);
            if let Some(cache) = cache.as_deref_mut() {
                let new = read.chunks_exact(spec.row()).flat_map(|row| &row[first..first + channels]);
                cache.window.extend(new);
                let most = (spec.conv.kernel - 1) * channels;
                let more = cache.window.len().saturating_sub(most);
                cache.window.drain(..more);
            }
        }
        let Some(scan) = of.scan() else { return Recurred { rows, conv: given, scanned: None } };
        let factors = self.factors(of, &rows);
        let mut y = self.pool.take(place.rows * spec.width());
        let state = cache.map(|cache| {
            cache.state.resize(scan.state(), 0.0);
            cache.state.as_mut_slice()
        });
        let states = scan::forward(&scan, &given, &factors, &segments, state, self.pool, &mut y);
        if let RecurrenceKind::State { .. } = spec.kind {
            let d = of.vectors[2].values(self.params);
            let inputs = given.par_chunks(channels);
            y.par_chunks_mut(spec.width()).zip(inputs).for_each(|(y, x)| add_heads(x, &d, y));
        }
        Recurred { rows, conv: given, scanned: Some(Scanned { factors, states, y }) }
    }

    fn norm_of<'a>(&'a self, of: &'a Recurrence) -> Cow<'a, [f32]> {
        of.norm.as_ref().map_or(Cow::Borrowed(&[]), |norm| norm.values(self.params))
    }

    pub(super) fn recurrence_output(&self, of: &Recurrence, kept: &Recurred) -> Buf {
        let (width, stride) = (of.spec.width(), of.spec.row());
        let mut out = self.pool.take(kept.rows.len() / stride * width);
        match &kept.scanned {
            Some(scanned) => {
                gated::forward(self.gated(of, &self.norm_of(of)), &scanned.y, &kept.rows, &mut out);
            }
            None => {
                let rows = kept.rows.par_chunks(stride).zip(kept.conv.par_chunks(width));
                out.par_chunks_mut(width).zip(rows).for_each(|(out, (row, conv))| {
                    out.iter_mut().zip(row[width..].iter().zip(conv)).for_each(|(out, (c, x))| *out = c * x);
                });
            }
        }
        out
    }

    pub(super) fn recurrence_backward(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        kept: Recurred,
        mut d: Buf,
        grads: &mut Grads,
    ) -> Buf {
        let spec = &of.spec;
        let (width, stride, (channels, first)) = (spec.width(), spec.row(), spec.channels());
        let segments = segments(&place);
        let Recurred { rows, conv: given, scanned } = kept;
        let mut d_rows = self.pool.take(rows.len());
        // By what the convolution gave.
        let mut d_given = match scanned {
            Some(Scanned { factors, states, y }) => {
                let number = of.norm.as_ref().and_then(Vector::trained);
                let by_norm = number.map(|number| grads.0[number].as_mut_slice());
                gated::backward(self.gated(of, &self.norm_of(of)), &y, &rows, &mut d, &mut d_rows, by_norm);
                drop(y);
                let Some(scan) = of.scan() else { return d_rows };
                let mut d_given = self.pool.take(given.len());
                let mut d_factors = self.pool.take(factors.len());
                scan::backward(
                    &scan,
                    &given,
                    &factors,
                    &segments,
                    &states,
                    &d,
                    self.pool,
                    &mut d_given,
                    &mut d_factors,
                );
                drop((factors, states));
                if let RecurrenceKind::State { .. } = spec.kind {
                    let skip = of.vectors[2].values(self.params);
                    d_given
                        .par_chunks_mut(channels)
                        .zip(d.par_chunks(width))
                        .for_each(|(to, d)| add_heads(d, &skip, &mut to[..width]));
                    if let Some(number) = of.vectors[2].trained() {
                        let by = &mut grads.0[number];
                        for (x, d) in given.chunks_exact(channels).zip(d.chunks_exact(width)) {
                            for (head, by) in by.iter_mut().enumerate() {
                                let at = head * spec.value_dim..(head + 1) * spec.value_dim;
                                *by += x[at.clone()].iter().zip(&d[at]).map(|(x, d)| x * d).sum::<f32>();
                            }
                        }
                    }
                }
                self.factors_backward(of, &rows, &d_factors, &mut d_rows, grads);
                d_given
            }
            None => {
                let inputs = rows.par_chunks(stride).zip(given.par_chunks(width));
                let outputs = d_rows.par_chunks_mut(stride).zip(d.par_chunks_mut(width));
                outputs.zip(inputs).for_each(|((d_row, d), (row, conv))| {
                    for (at, d) in d.iter_mut().enumerate() {
                        d_row[width + at] = *d * conv[at];
                        *d *= row[width + at];
                    }
                });
                d
            }
        };
        drop(given);
        {
            let read = self.multiply_in(of, &rows);
            let weight = self.conv_weights(of);
            let bias = of.conv_bias.as_ref().map(|bias| bias.values(self.params));
            let conv = self.conv(of, &weight, bias.as_deref());
            let trained = of.conv.iter().any(|piece| piece.trained().is_some());
            let mut by_weight = trained.then(|| vec![0.0; weight.len()]);
            let by_bias = of.conv_bias.as_ref().and_then(Vector::trained).map(|number| grads.0[number].as_mut_slice());
            let read = read.as_ref().unwrap_or(&rows);
            conv::backward(conv, read, &segments, &mut d_given, &mut d_rows, by_weight.as_deref_mut(), by_bias);
            let mut by_weight = by_weight.as_deref().unwrap_or_default();
            for number in of.conv.iter().filter_map(Vector::trained) {
                let (own, rest) = by_weight.split_at(grads.0[number].len());
                ops::add(&mut grads.0[number], own);
                by_weight = rest;
            }
        }
        if spec.kind == RecurrenceKind::Short {
            d_rows.par_chunks_mut(stride).zip(rows.par_chunks(stride)).for_each(|(d, row)| {
                for at in 0..width {
                    let by = d[first + at];
                    d[at] = by * row[first + at];
                    d[first + at] = by * row[at];
                }
            });
        }
        self.scale_columns_of(of, &mut d_rows);
        match &of.order {
            None => d_rows,
            Some(order) => {
                let mut to = rows;
                reorder(order, &d_rows, &mut to, true);
                to
            }
        }
    }
}

impl Buffers for Cpu<'_> {
    type Buf = Buf;
    type Ids = Vec<u32>;
    type Grads = Grads;
    type Angles = Table;
    type Heads = Kept;
    type Cache = Cache;
    type Routes = Routes;
    type Recurred = Recurred;
    type Logits = Buf;
    type Losses = super::Losses;
    type Sum = f64;
}

impl Hybrids for Cpu<'_> {
    fn keys_values(&self, attention: &Attention, heads: &Kept) -> Result<Buf> {
        let (stride, first) = (attention.spec.row(), attention.spec.queries());
        let width = stride - first;
        let mut to = self.pool.take(heads.qkv.len() / stride * width);
        ops::copy_columns((&heads.qkv[first..], stride), (&mut to, width), width, false);
        Ok(to)
    }

    fn copy_columns(&self, from: (&Buf, Cols), to: (&mut Buf, Cols), width: usize, add: bool) -> Result<()> {
        let ((from, from_at), (to, to_at)) = (from, to);
        let from = (&from[from_at.first..], from_at.stride);
        ops::copy_columns(from, (&mut to[to_at.first..], to_at.stride), width, add);
        Ok(())
    }

    fn split_gate(&self, attention: &Attention, rows: Buf) -> Result<(Buf, Buf)> {
        let spec = &attention.spec;
        let count = rows.len() / spec.projected();
        let (mut qkv, mut gate) = (self.pool.take(count * spec.row()), self.pool.take(count * spec.width()));
        heads::split_gate(&rows, spec.head_dim, spec.width(), spec.row(), &mut qkv, &mut gate);
        Ok((qkv, gate))
    }

    fn join_gate(&self, attention: &Attention, qkv: Buf, gate: Buf) -> Result<Buf> {
        let spec = &attention.spec;
        let mut rows = self.pool.take(qkv.len() + gate.len());
        heads::join_gate(&qkv, &gate, spec.head_dim, spec.width(), spec.row(), &mut rows);
        Ok(rows)
    }

    fn recur(&self, of: &Recurrence, place: Place<Self>, rows: Buf, cache: Option<&mut Cache>) -> Result<Recurred> {
        Ok(self.run_recurrence(of, place, rows, cache))
    }

    fn recurred(&self, of: &Recurrence, kept: &Recurred) -> Result<Buf> {
        Ok(self.recurrence_output(of, kept))
    }

    fn recur_backward(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        kept: Recurred,
        d: Buf,
        grads: &mut Grads,
    ) -> Result<Buf> {
        Ok(self.recurrence_backward(of, place, kept, d, grads))
    }

    fn state(&self, _of: &Recurrence) -> Result<Cache> {
        Ok(Cache::default())
    }
}
