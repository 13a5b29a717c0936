//! [`Cpu`]: the processor, on all threads of the pool, in `f32`; with a [`Unit`] factors of large products are rounded to bf16.

mod context;
mod recurrence;
mod rows;

pub use context::{Cache, Cpu, Kept, Losses};

use super::{Backend, Cols, Factor, Lookup, Nonlinear, Place};
use crate::error::Result;
use crate::model::branch::Lora;
use crate::model::decoder::{Attention, Experts, NormWeights};
use crate::model::dropout::Dropout;
use crate::model::linear::Linear;
use crate::model::ops::attention::{self, Heads};
use crate::model::ops::experts::{self as routing, Routes};
use crate::model::ops::gemm::{Out, View, parallel};
use crate::model::ops::latent::{self, Row as LatentRow};
use crate::model::ops::norm::{self, Groups};
use crate::model::ops::rope::Table;
use crate::model::ops::{self, Buf, bf16, heads, loss, magnitude};
use crate::model::params::Grads;
use crate::model::weight::Vector;
use crate::spec::Rope;
use rayon::prelude::*;
use std::{ops::Range, sync::Arc};

/// Rows of a weight that are made at once.
const PANEL: usize = 64;
/// Logits that are held at once: 16 MB.
pub(super) const LOGITS: usize = 1 << 22;

/// As the operations want them.
fn starts<'a>(place: &Place<'a, Cpu<'_>>) -> &'a [u32] {
    place.starts.map_or(&[], Vec::as_slice)
}

impl Factor for View<'_> {
    fn t(self) -> Self {
        View::t(self)
    }
}

impl<'m> Backend for Cpu<'m> {
    type View<'a>
        = View<'a>
    where
        Self: 'a;
    type Out<'a>
        = Out<'a>
    where
        Self: 'a;

    fn check(&self) -> Result<()> {
        self.progress.check()
    }

    fn merges(&self) -> bool {
        self.unit.is_none()
    }

    fn logits_at_once(&self) -> usize {
        LOGITS
    }

    fn dropout(&self) -> Option<Dropout> {
        self.dropout
    }

    fn alloc(&self, count: usize) -> Result<Buf> {
        Ok(self.pool.take(count))
    }

    fn zeros(&self, count: usize) -> Result<Buf> {
        Ok(self.pool.zeros(count))
    }

    fn copy(&self, of: &Buf) -> Result<Buf> {
        Ok(self.pool.copy(of))
    }

    fn len(&self, buf: &Buf) -> usize {
        buf.len()
    }

    fn ids(&self, ids: &[u32]) -> Result<Vec<u32>> {
        Ok(ids.to_vec())
    }

    fn blank_ids(&self, count: usize) -> Result<Vec<u32>> {
        Ok(vec![0; count])
    }

    fn view<'a>(&'a self, buf: &'a Buf, rows: usize, cols: usize, at: Cols) -> View<'a> {
        View::new(&buf[at.first..], rows, cols, at.stride)
    }

    fn out<'a>(&'a self, buf: &'a mut Buf, rows: usize, cols: usize, at: Cols) -> Out<'a> {
        Out::new(&mut buf[at.first..], rows, cols, at.stride)
    }

    fn weight<'a>(&'a self, linear: &'a Linear, rows: usize, spare: &'a mut Option<Buf>) -> Result<View<'a>> {
        let [out, width] = linear.shape;
        if let Some(bits) = linear.weight.as_bf16().filter(|_| bf16::reads_halves(rows, linear.shape)) {
            return Ok(View::halves(bits, out, width));
        }
        let values = match linear.weight.as_f32(self.params) {
            Some(values) => values,
            None => spare.insert(self.widened(linear)),
        };
        Ok(View::dense(values, out, width))
    }

    fn merged(&self, linear: &Linear, lora: &Lora) -> Result<Buf> {
        let [out, width] = linear.shape;
        let mut buf = self.pool.take(out * width);
        buf.par_chunks_mut(PANEL * width).enumerate().for_each(|(panel, values)| {
            let rows = values.len() / width;
            let first = panel * PANEL;
            linear.weight.rows(self.params, first..first + rows, width, values);
            lora.merge_rows(self.params, first, rows, values);
        });
        Ok(buf)
    }

    fn param(&self, number: usize, [rows, cols]: [usize; 2]) -> View<'_> {
        View::dense(self.params.value(number), rows, cols)
    }

    fn grads(&self, shapes: &[[usize; 2]]) -> Result<Grads> {
        Ok(Grads(shapes.iter().map(|[rows, cols]| vec![0.0; rows * cols]).collect()))
    }

    fn read_grads(&self, grads: Grads) -> Result<Vec<Vec<f32>>> {
        Ok(grads.0)
    }

    fn grad<'a>(&'a self, grads: &'a mut Grads, number: usize, [rows, cols]: [usize; 2]) -> Result<Out<'a>> {
        Ok(Out::dense(&mut grads.0[number], rows, cols))
    }

    fn product(&self, c: Out<'_>, keep: bool, alpha: f32, a: View<'_>, b: View<'_>) -> Result<()> {
        match self.unit {
            Some(unit) if bf16::pays(&a, &b) => bf16::rounded(unit, c, keep, alpha, a, b),
            _ => parallel(c, keep, alpha, a, b),
        }
        Ok(())
    }

    fn add(&self, to: &mut Buf, from: &Buf, scale: f32) -> Result<()> {
        if scale == 1.0 {
            ops::add(to, from);
        } else {
            ops::add_scaled(to, from, scale);
        }
        Ok(())
    }

    fn scale(&self, buf: &mut Buf, scale: f32) -> Result<()> {
        buf.par_chunks_mut(1 << 14).for_each(|values| values.iter_mut().for_each(|x| *x *= scale));
        Ok(())
    }

    fn add_bias(&self, to: &mut Buf, rows: usize, at: Cols, _linear: &Linear, bias: &Vector) -> Result<()> {
        let end = to.len().min(at.first + rows * at.stride);
        ops::add_bias(&mut to[at.first..end], at.stride, &bias.values(self.params));
        Ok(())
    }

    fn add_column_sums(
        &self,
        grads: &mut Grads,
        number: usize,
        _width: usize,
        from: &Buf,
        rows: usize,
        at: Cols,
    ) -> Result<()> {
        let end = from.len().min(at.first + rows * at.stride);
        ops::add_column_sums(&mut grads.0[number], &from[at.first..end], at.stride);
        Ok(())
    }

    fn dropped(&self, dropout: Dropout, x: &Buf, place: usize) -> Result<Buf> {
        Ok(dropout.applied(self.pool, x, place))
    }

    fn add_dropped(&self, dropout: Dropout, to: &mut Buf, mut from: Buf, place: usize) -> Result<()> {
        dropout.apply(&mut from, place);
        ops::add(to, &from);
        Ok(())
    }

    fn row_norms(&self, weight: &Buf, [out, _]: [usize; 2]) -> Result<Buf> {
        Ok(self.pool.copy(&magnitude::row_norms(weight, out)))
    }

    fn scale_rows(&self, weight: &mut Buf, _shape: [usize; 2], m: usize, norms: &Buf) -> Result<()> {
        magnitude::scale_rows(weight, self.params.value(m), norms);
        Ok(())
    }

    fn scale_columns(
        &self,
        dy: &Buf,
        rows: usize,
        at: Cols,
        [out, _]: [usize; 2],
        m: usize,
        norms: &Buf,
    ) -> Result<Buf> {
        let mut scaled = self.pool.take(rows * out);
        magnitude::scale_columns(&dy[at.first..], at.stride, self.params.value(m), norms, &mut scaled);
        Ok(scaled)
    }

    fn add_magnitude(
        &self,
        grads: &mut Grads,
        m: usize,
        (dy, at): (&Buf, Cols),
        plain: &Buf,
        _rows: usize,
        norms: &Buf,
    ) -> Result<()> {
        magnitude::gradient(&dy[at.first..], at.stride, plain, norms, &mut grads.0[m]);
        Ok(())
    }

    fn norm(&self, weights: &NormWeights, x: &Buf) -> Result<Buf> {
        let mut y = self.pool.take(x.len());
        norm::forward(x, weights.values(self.params).norm(), &mut y);
        self.see(|| weights.spec.name.clone(), &y, weights.spec.width, Cols::all(weights.spec.width));
        Ok(y)
    }

    fn norm_backward(
        &self,
        weights: &NormWeights,
        x: &Buf,
        dy: &Buf,
        dx: &mut Buf,
        keep: bool,
        grads: &mut Grads,
    ) -> Result<()> {
        let values = weights.values(self.params);
        norm::backward(x, values.norm(), dy, keep, dx);
        self.norm_weights(weights, 0, x, dy, Groups::rows(weights.spec.width), values.norm(), grads);
        Ok(())
    }

    fn angles(&self, ropes: &[Rope], positions: usize, longest: usize) -> Result<Arc<Vec<Table>>> {
        Ok(Arc::new(ropes.iter().map(|rope| rope.table(positions, longest)).collect()))
    }

    fn attention(
        &self,
        attention: &Attention,
        place: Place<Self>,
        qkv: Buf,
        cache: Option<&mut Cache>,
    ) -> Result<(Buf, Kept)> {
        let (spec, row, rules) = (&attention.spec, attention.row(), attention.rules());
        let rows = qkv.len() / row.stride;
        let mut qkv = self.regroup(attention, qkv, false);
        if spec.norm_after_rope {
            self.turn(attention, place, &mut qkv, false);
        }
        let raw = attention.keeps_raw().then(|| self.pool.copy(&qkv));
        self.normalize(attention, raw.as_ref(), &mut qkv);
        if spec.clip > 0.0 {
            heads::clip(&mut qkv, spec.clip);
        }
        if !spec.norm_after_rope {
            self.turn(attention, place, &mut qkv, false);
        }
        self.scale_queries(attention, place, &mut qkv);
        let mut attended = self.pool.take(rows * spec.width());
        let heads = |(offset, step): (usize, usize)| Heads { data: &qkv, stride: row.stride, offset, step };
        let q = heads(row.q);
        let sinks = attention.sinks.as_ref().map(|sinks| sinks.values(self.params)).unwrap_or_default();
        match cache {
            None => {
                let (k, v) = (heads(row.k), heads(row.v));
                let starts = starts(&place);
                attention::forward(q, k, v, rules, &sinks, place.seq, place.seq, starts, self.pool, &mut attended);
            }
            Some(cache) => {
                let (d, value) = (spec.head_dim, spec.value_dim);
                for values in qkv.chunks_exact(row.stride) {
                    for head in 0..spec.kv_heads {
                        cache.keys.extend_from_slice(&values[row.k.0 + head * row.k.1..][..d]);
                        cache.values.extend_from_slice(&values[row.v.0 + head * row.v.1..][..value]);
                    }
                }
                let keys = cache.keys.len() / (spec.kv_heads * d);
                let of = |data, width| Heads { data, stride: spec.kv_heads * width, offset: 0, step: width };
                let (k, v) = (of(&cache.keys[..], d), of(&cache.values[..], value));
                attention::forward(q, k, v, rules, &sinks, rows, keys, &[], self.pool, &mut attended);
            }
        }
        Ok((attended, Kept { qkv, raw }))
    }

    fn attention_backward(
        &self,
        attention: &Attention,
        place: Place<Self>,
        heads: Kept,
        attended: Buf,
        d_attended: &Buf,
        shared: Option<&Buf>,
        grads: &mut Grads,
    ) -> Result<Buf> {
        let (row, rules) = (attention.row(), attention.rules());
        let Kept { mut qkv, raw } = heads;
        {
            let part = |(offset, step): (usize, usize)| Heads { data: &qkv, stride: row.stride, offset, step };
            let (q, k, v, starts) = (part(row.q), part(row.k), part(row.v), starts(&place));
            let sinks = attention.sinks.as_ref();
            let values = sinks.map(|sinks| sinks.values(self.params)).unwrap_or_default();
            let d_sinks = sinks.and_then(Vector::trained).map(|number| &mut grads.0[number][..]).unwrap_or_default();
            let (seq, sinks) = (place.seq, (&values[..], d_sinks));
            let gathered = attention::backward(q, k, v, rules, sinks, seq, starts, &attended, d_attended, self.pool);
            attention::gather(&gathered, rules, place.seq, row, &mut qkv);
        }
        drop(attended);
        let mut d_qkv = qkv;
        if let Some(shared) = shared {
            let (stride, first) = (row.stride, attention.spec.queries());
            let width = stride - first;
            ops::copy_columns((shared, width), (&mut d_qkv[first..], stride), width, true);
        }
        self.scale_queries(attention, place, &mut d_qkv);
        let after = attention.spec.norm_after_rope;
        if !after {
            self.turn(attention, place, &mut d_qkv, true);
        }
        if let Some(raw) = raw.as_ref().filter(|_| attention.spec.clip > 0.0) {
            let mut clipped = self.pool.copy(raw);
            self.normalize(attention, Some(raw), &mut clipped);
            heads::clip_backward(&clipped, &mut d_qkv, attention.spec.clip);
        }
        self.normalize_backward(attention, raw.as_ref(), &mut d_qkv, grads);
        if after {
            self.turn(attention, place, &mut d_qkv, true);
        }
        Ok(self.regroup(attention, d_qkv, true))
    }

    fn columns(&self, x: &Buf, rows: usize, at: Cols, width: usize) -> Result<Buf> {
        let mut to = self.pool.take(rows * width);
        latent::columns(x, at.first, at.stride, width, &mut to);
        Ok(to)
    }

    fn join_latent(&self, row: LatentRow, q: &Buf, given: &Buf, kv: &Buf) -> Result<Buf> {
        let mut to = self.pool.take(q.len() / row.queries() * row.stride());
        latent::join(row, q, given, kv, &mut to);
        Ok(to)
    }

    fn split_latent(&self, row: LatentRow, d: &Buf) -> Result<(Buf, Buf, Buf)> {
        let rows = d.len() / row.stride();
        let (mut dq, mut d_given) = (self.pool.take(rows * row.queries()), self.pool.take(rows * row.given()));
        let mut d_kv = self.pool.take(rows * (row.rank + row.rope));
        latent::split(row, d, &mut dq, &mut d_given, &mut d_kv);
        Ok((dq, d_given, d_kv))
    }

    fn route(&self, experts: &Experts, logits: Buf) -> Result<Routes> {
        let spec = &experts.spec;
        let mut routes = Routes::new(&spec.routing, spec.chosen, &experts.bias, logits, spec.count, self.pool);
        if let Some(scales) = &experts.scales {
            routes.scale(&scales.values(self.params));
        }
        Ok(routes)
    }

    fn ranges(&self, routes: &Routes) -> Vec<Range<usize>> {
        routes.ranges()
    }

    fn dispatch(&self, routes: &Routes, x: &Buf, width: usize) -> Result<Buf> {
        let mut to = self.pool.take(routes.rows() * width);
        routes.dispatch(x, width, &mut to);
        Ok(to)
    }

    fn combine(&self, routes: &Routes, from: &Buf, width: usize, to: &mut Buf, keep: bool) -> Result<()> {
        routes.combine(from, width, to, keep);
        Ok(())
    }

    fn weigh(&self, routes: &Routes, rows: &mut Buf, width: usize) -> Result<()> {
        routes.weigh(rows, width);
        Ok(())
    }

    fn weigh_backward(&self, routes: &Routes, x: &Buf, d: &mut Buf, width: usize, dw: &mut Buf) -> Result<()> {
        routes.weigh_backward(x, d, width, dw);
        Ok(())
    }

    fn add_expert_bias(
        &self,
        routes: &Routes,
        rows: Range<usize>,
        to: &mut Buf,
        (_, bias): (&Linear, &Vector),
    ) -> Result<()> {
        routes.add_bias(rows, to, &bias.values(self.params));
        Ok(())
    }

    fn expert_bias_backward(
        &self,
        routes: &Routes,
        rows: Range<usize>,
        d: &Buf,
        (_, bias): (&Linear, &Vector),
        dw: &mut Buf,
        grads: &mut Grads,
    ) -> Result<()> {
        let db = bias.trained().map(|number| &mut grads.0[number][..]);
        routes.bias_backward(rows, d, &bias.values(self.params), dw, db);
        Ok(())
    }

    fn route_backward(&self, experts: &Experts, routes: Routes, mut dw: Buf, grads: &mut Grads) -> Result<Buf> {
        if let Some(scales) = &experts.scales {
            let ds = scales.trained().map(|number| &mut grads.0[number][..]);
            routes.scale_backward(&experts.spec.routing, &scales.values(self.params), &mut dw, ds);
        }
        Ok(routes.backward(&experts.spec.routing, &dw))
    }

    fn gate(&self, x: &Buf, gate: &Buf) -> Result<Buf> {
        let mut out = self.pool.take(x.len());
        match x.len() / gate.len().max(1) {
            1 => heads::gate(x, gate, &mut out),
            width => routing::gate_rows(x, gate, width, &mut out),
        }
        Ok(out)
    }

    fn gate_backward(&self, x: &Buf, gate: &mut Buf, d: &mut Buf) -> Result<()> {
        match x.len() / gate.len().max(1) {
            1 => heads::gate_backward(x, gate, d),
            width => routing::gate_rows_backward(x, gate, width, d),
        }
        Ok(())
    }

    fn cache(&self, _attention: &Attention, _positions: usize) -> Result<Cache> {
        Ok(Cache::default())
    }

    fn activation(&self, f: Nonlinear, up: &Buf) -> Result<Buf> {
        let mut out = self.pool.take(up.len() / f.stride() * f.width);
        f.activation.forward(f.alphas, up, f.gated, &mut out, f.width);
        Ok(out)
    }

    fn activation_backward(&self, f: Nonlinear, up: &mut Buf, d: &Buf) -> Result<()> {
        f.activation.backward(f.alphas, up, f.gated, d, f.width);
        Ok(())
    }

    fn embed(&self, table: &Linear, scale: f32, positions: Option<(&Linear, usize)>, at: &Lookup<Self>) -> Result<Buf> {
        let [_, width] = table.shape;
        let mut x = self.pool.take(at.ids.len() * width);
        let mut position = vec![0.0; width];
        for (number, (row, &id)) in x.chunks_exact_mut(width).zip(at.ids).enumerate() {
            let id = id as usize;
            table.weight.rows(self.params, id..id + 1, width, row);
            if scale != 1.0 {
                row.iter_mut().for_each(|x| *x *= scale);
            }
            if let Some((positions, offset)) = positions {
                let number = offset + at.position(number);
                positions.weight.rows(self.params, number..number + 1, width, &mut position);
                row.iter_mut().zip(&position).for_each(|(x, p)| *x += p);
            }
        }
        Ok(x)
    }

    fn embed_backward(
        &self,
        table: &Linear,
        scale: f32,
        positions: Option<(&Linear, usize)>,
        at: &Lookup<Self>,
        d: &Buf,
        grads: &mut Grads,
    ) -> Result<()> {
        let [_, width] = table.shape;
        let positions = positions.and_then(|(positions, offset)| Some((positions.weight.trained()?, offset)));
        for (number, (d, &id)) in d.chunks_exact(width).zip(at.ids).enumerate() {
            if let Some(table) = table.weight.trained() {
                let row = &mut grads.0[table][id as usize * width..][..width];
                row.iter_mut().zip(d).for_each(|(to, d)| *to += d * scale);
            }
            if let Some((positions, offset)) = positions {
                let row = &mut grads.0[positions][(offset + at.position(number)) * width..][..width];
                row.iter_mut().zip(d).for_each(|(to, d)| *to += d);
            }
        }
        Ok(())
    }

    fn gather(&self, x: &Buf, width: usize, index: &Vec<u32>, range: Range<usize>, out: &mut Buf) -> Result<()> {
        for (to, &row) in out.chunks_exact_mut(width).zip(&index[range]) {
            to.copy_from_slice(&x[row as usize * width..][..width]);
        }
        Ok(())
    }

    fn scatter(&self, from: &Buf, width: usize, index: &Vec<u32>, range: Range<usize>, to: &mut Buf) -> Result<()> {
        for (from, &row) in from.chunks_exact(width).zip(&index[range]) {
            to[row as usize * width..][..width].copy_from_slice(from);
        }
        Ok(())
    }

    fn logits(&self, rows: usize, vocab: usize, _backward: bool) -> Result<Buf> {
        Ok(self.pool.take(rows * vocab))
    }

    fn logits_out<'a>(&'a self, logits: &'a mut Buf, rows: usize, vocab: usize) -> Out<'a> {
        Out::dense(logits, rows, vocab)
    }

    fn add_logit_bias(&self, logits: &mut Buf, rows: usize, vocab: usize, _head: &Linear, bias: &Vector) -> Result<()> {
        ops::add_bias(&mut logits[..rows * vocab], vocab, &bias.values(self.params));
        Ok(())
    }

    fn losses(&self, _count: usize) -> Result<Losses> {
        Ok(Losses::default())
    }

    fn cross_entropy(
        &self,
        logits: &mut Buf,
        vocab: usize,
        targets: &Vec<u32>,
        range: Range<usize>,
        cap: f32,
        scale: Option<f32>,
        losses: &mut Losses,
    ) -> Result<()> {
        let logits = &mut logits[..range.len() * vocab];
        losses.add(&loss::cross_entropy(logits, vocab, &targets[range], cap, scale.unwrap_or(1.0)));
        Ok(())
    }

    fn largest(&self, logits: &Buf, rows: usize, vocab: usize) -> Result<Vec<u32>> {
        Ok(loss::largest_of_rows(&logits[..rows * vocab], vocab))
    }

    fn logits_gradient<'a>(&'a self, logits: &'a Buf, rows: usize, vocab: usize) -> View<'a> {
        View::dense(logits, rows, vocab)
    }

    fn add_logit_sums(&self, grads: &mut Grads, number: usize, logits: &Buf, rows: usize, vocab: usize) -> Result<()> {
        ops::add_column_sums(&mut grads.0[number], &logits[..rows * vocab], vocab);
        Ok(())
    }

    fn sure(&self, losses: &Losses) -> Result<usize> {
        Ok(losses.sure)
    }

    fn sum(&self, losses: Losses) -> Result<f64> {
        Ok(losses.sum)
    }

    fn wait(&self, sum: f64) -> Result<f64> {
        Ok(sum)
    }

    fn read_logits(&self, logits: Buf, cap: f32) -> Result<Vec<f32>> {
        let mut logits = logits.to_vec();
        if cap > 0.0 {
            loss::cap(&mut logits, cap);
        }
        Ok(logits)
    }

    fn see_input(&self, linear: &Linear, x: &Buf, rows: usize, at: Cols) {
        self.inputs.iter().for_each(|inputs| inputs.see(linear, &x[at.first..], at.stride, rows));
    }

    fn see(&self, module: impl FnOnce() -> String, buf: &Buf, width: usize, at: Cols) {
        let Some(watch) = self.watch else { return };
        watch.see(module, buf.chunks(at.stride).flat_map(|row| &row[at.first..at.first + width]));
    }
}
