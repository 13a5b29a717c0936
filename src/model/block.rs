//! One block, forward and backward.
//!
//! ```text
//! x ─ norm ─ qkv ─ (norm per head) ─ rope ─ attention ─ o (─ norm) ─ + x ─► x₁
//! x₁ ─ norm ─ gate, up ─ act ─ down (─ norm) ─ + x₁ ─► next x         (parallel: the second norm reads x, both are added)
//! ```
//!
//! The tape keeps what cannot be had again cheaply; normalized inputs and the MLP's inner values are computed again.

use super::decoder::{Block, Decoder, NormWeights, Part};
use super::linear::Run;
use super::ops::attention::{self as ops_attention, Heads, Row, Rules};
use super::ops::norm::{self, Groups};
use super::ops::rope::{Table, Turned};
use super::ops::{Buf, add};
use super::params::{Grads, Params};
use super::watch::parent;
use crate::spec::QkvLayout;

/// Where the rows are in their sequences.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Rows of a sequence.
    pub seq: usize,
    /// Position of a sequence's first row.
    pub first: usize,
    /// For every row where in its sequence its own positions begin; empty where that is always 0.
    pub starts: &'a [u32],
    /// Cosines and sines by [`crate::spec::AttentionSpec::rope`].
    pub tables: &'a [Table],
}

/// What a block's pass forward keeps for the pass backward, beside its input.
pub(super) struct Tape {
    qkv: Buf,
    /// Queries and keys before their norm.
    raw: Option<Buf>,
    attended: Buf,
    /// The attention's output before its norm.
    o: Option<Buf>,
    /// After the attention; `None` where the block is parallel.
    middle: Option<Buf>,
    up: Buf,
    /// The MLP's output before its norm.
    down: Option<Buf>,
}

/// Keys and values of one block and one sequence, growing.
#[derive(Debug, Default)]
pub(super) struct BlockCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// A watch looks at the columns that a projection has filled; the others are not written yet.
fn see_part(run: &Run, part: &Part, rows: &[f32], stride: usize) {
    if let Some(watch) = run.watch {
        let own = rows.chunks(stride).flat_map(|row| &row[part.offset..part.offset + part.linear.shape[0]]);
        watch.see(|| part.linear.module.clone(), own);
    }
}

impl Decoder {
    pub(super) fn row(&self, layer: usize) -> Row {
        let c = &self.blocks[layer].attention;
        let d = c.head_dim;
        let stride = c.row();
        match c.layout {
            QkvLayout::Grouped => Row { stride, q: (0, 3 * d), k: (d, 3 * d), v: (2 * d, 3 * d) },
            QkvLayout::Split => Row { stride, q: (0, d), k: (c.heads * d, d), v: ((c.heads + c.kv_heads) * d, d) },
        }
    }

    pub(super) fn rules(&self, layer: usize) -> Rules {
        let c = &self.blocks[layer].attention;
        Rules {
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            scale: c.scale,
            softcap: c.softcap,
            window: c.window,
        }
    }

    /// Turns queries and keys by their positions, or back.
    fn turn(&self, layer: usize, place: Place, rows: &mut [f32], back: bool) {
        let attention = &self.blocks[layer].attention;
        let Some(table) = attention.rope.and_then(|rope| place.tables.get(rope)) else { return };
        let row = self.row(layer);
        for ((offset, step), heads) in [(row.q, attention.heads), (row.k, attention.kv_heads)] {
            table.turn(
                rows,
                Turned { stride: row.stride, offset, step, heads },
                place.seq,
                place.first,
                place.starts,
                back,
            );
        }
    }

    pub(super) fn norm_forward(&self, run: &Run, weights: &NormWeights, x: &[f32]) -> Buf {
        let values = weights.values(run.params);
        let mut y = run.pool.take(x.len());
        norm::forward(x, values.norm(), &mut y);
        run.see(|| weights.spec.name.clone(), &y);
        y
    }

    /// `dx = keep·dx + …`, and the gradients of the norm itself where it is trained.
    pub(super) fn norm_backward(
        &self,
        params: &Params,
        weights: &NormWeights,
        x: &[f32],
        dy: &[f32],
        dx: (&mut [f32], bool),
        grads: &mut Grads,
    ) {
        let values = weights.values(params);
        let norm = values.norm();
        norm::backward(x, norm, dy, dx.1, dx.0);
        self.norm_weights(weights, x, dy, Groups::rows(weights.spec.width), norm, grads);
    }

    /// [`norm_forward`](Self::norm_forward), or the same values where there is no norm.
    fn normed(&self, run: &Run, weights: &Option<NormWeights>, x: &[f32]) -> Buf {
        match weights {
            Some(weights) => self.norm_forward(run, weights, x),
            None => run.pool.copy(x),
        }
    }

    /// Adds to `dx` what goes back through [`normed`](Self::normed).
    fn normed_backward(
        &self,
        params: &Params,
        weights: &Option<NormWeights>,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        grads: &mut Grads,
    ) {
        match weights {
            Some(weights) => self.norm_backward(params, weights, x, dy, (dx, true), grads),
            None => add(dx, dy),
        }
    }

    fn norm_weights(
        &self,
        weights: &NormWeights,
        x: &[f32],
        dy: &[f32],
        groups: Groups,
        norm: norm::Norm,
        grads: &mut Grads,
    ) {
        if let Some(number) = weights.weight.trained() {
            norm::weights_backward(x, dy, groups, norm, &mut grads.0[number], None);
        }
        if let Some(number) = weights.bias.as_ref().and_then(|bias| bias.trained()) {
            super::ops::add_column_sums(&mut grads.0[number], dy, groups.stride);
        }
    }

    /// Where the heads of queries (0) and keys (1) lie in a row of the tape's raw copy and of `qkv`.
    fn head_groups(&self, layer: usize, which: usize) -> Groups {
        let (row, c) = (self.row(layer), &self.blocks[layer].attention);
        let ((offset, step), groups) = if which == 0 { (row.q, c.heads) } else { (row.k, c.kv_heads) };
        Groups { groups, stride: row.stride, offset, step, x_stride: row.stride, x_offset: offset, x_step: step }
    }

    /// The block's output, and the tape.
    pub(super) fn block_forward(
        &self,
        run: &Run,
        layer: usize,
        place: Place,
        x: &Buf,
        cache: Option<&mut BlockCache>,
    ) -> (Buf, Tape) {
        let block: &Block = &self.blocks[layer];
        let (attention, mlp, hidden) = (&block.attention, &block.mlp, self.spec.hidden);
        let rows = x.len() / hidden;
        let row = self.row(layer);
        let mut qkv = run.pool.take(rows * row.stride);
        {
            let h = self.normed(run, &block.norm_in, x);
            for part in &block.qkv {
                part.linear.forward(run, &h, &mut qkv[part.offset..], row.stride, false);
                see_part(run, part, &qkv, row.stride);
            }
        }
        let raw = block.q_norm.as_ref().zip(block.k_norm.as_ref()).map(|(q, k)| {
            let raw = run.pool.copy(&qkv);
            for (which, weights) in [q, k].into_iter().enumerate() {
                let values = weights.values(run.params);
                norm::heads_forward(&raw, values.norm(), self.head_groups(layer, which), &mut qkv);
                run.see(|| weights.spec.name.clone(), &qkv);
            }
            raw
        });
        self.turn(layer, place, &mut qkv, false);
        let mut attended = run.pool.take(rows * attention.width());
        let part = |(offset, step): (usize, usize)| Heads { data: &qkv, stride: row.stride, offset, step };
        let (q, rules) = (part(row.q), self.rules(layer));
        match cache {
            None => {
                let (k, v) = (part(row.k), part(row.v));
                ops_attention::forward(q, k, v, rules, place.seq, place.seq, place.starts, run.pool, &mut attended);
            }
            Some(cache) => {
                let (kv_heads, d) = (attention.kv_heads, attention.head_dim);
                let width = kv_heads * d;
                for values in qkv.chunks_exact(row.stride) {
                    for head in 0..kv_heads {
                        cache.keys.extend_from_slice(&values[row.k.0 + head * row.k.1..][..d]);
                        cache.values.extend_from_slice(&values[row.v.0 + head * row.v.1..][..d]);
                    }
                }
                let keys = cache.keys.len() / width;
                let of = |data| Heads { data, stride: width, offset: 0, step: d };
                let (k, v) = (of(&cache.keys), of(&cache.values));
                ops_attention::forward(q, k, v, rules, rows, keys, &[], run.pool, &mut attended);
            }
        }
        run.see(|| parent(&block.o.module), &attended);
        let mut out = run.pool.copy(x);
        let mut o = None;
        match &block.norm_mixed {
            None => block.o.forward(run, &attended, &mut out, hidden, true),
            Some(weights) => {
                let mut projected = run.pool.take(x.len());
                block.o.forward(run, &attended, &mut projected, hidden, false);
                run.see(|| block.o.module.clone(), &projected);
                add(&mut out, &self.norm_forward(run, weights, &projected));
                o = Some(projected);
            }
        }
        run.see(|| block.o.module.clone(), &out);
        let middle = (!block.parallel).then(|| run.pool.copy(&out));
        let up = self.up_forward(run, block, middle.as_ref().unwrap_or(x));
        let mut down = None;
        {
            let mut inner = run.pool.take(rows * mlp.width);
            mlp.activation.forward(&up, mlp.gated, &mut inner, mlp.width);
            run.see(|| parent(&block.down.module), &inner);
            match &block.norm_out {
                None => block.down.forward(run, &inner, &mut out, hidden, true),
                Some(weights) => {
                    let mut projected = run.pool.take(x.len());
                    block.down.forward(run, &inner, &mut projected, hidden, false);
                    run.see(|| block.down.module.clone(), &projected);
                    add(&mut out, &self.norm_forward(run, weights, &projected));
                    down = Some(projected);
                }
            }
        }
        run.see(|| block.down.module.clone(), &out);
        (out, Tape { qkv, raw, attended, o, middle, up, down })
    }

    fn up_forward(&self, run: &Run, block: &Block, x: &[f32]) -> Buf {
        let width = block.mlp.up_width();
        let h = self.normed(run, &block.norm_ffn, x);
        let mut up = run.pool.take(x.len() / self.spec.hidden * width);
        for part in &block.up {
            part.linear.forward(run, &h, &mut up[part.offset..], width, false);
            see_part(run, part, &up, width);
        }
        up
    }

    /// Turns the gradient by the block's output, in `d`, into the one by its input `x`. Where `wanted` is false nobody
    /// needs that, and `d` is left in between.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn block_backward(
        &self,
        run: &Run,
        layer: usize,
        place: Place,
        x: &[f32],
        tape: Tape,
        d: &mut Buf,
        wanted: bool,
        grads: &mut Grads,
    ) {
        let block: &Block = &self.blocks[layer];
        let (attention, mlp, hidden) = (&block.attention, &block.mlp, self.spec.hidden);
        let Tape { mut qkv, raw, attended, o, middle, mut up, down } = tape;
        let rows = x.len() / hidden;
        let take = |width: usize| run.pool.take(rows * width);
        // Parallel blocks: both branches get the gradient of the output, and add to it.
        let out_gradient = block.parallel.then(|| run.pool.copy(d));

        let through = |weights: &Option<NormWeights>, before: &Option<Buf>, d: &[f32], grads: &mut Grads| {
            let (weights, before) = (weights.as_ref()?, before.as_ref()?);
            let mut dx = take(hidden);
            self.norm_backward(run.params, weights, before, d, (&mut dx, false), grads);
            Some(dx)
        };

        // The MLP.
        let from = middle.as_deref().unwrap_or(x);
        {
            let d_down = through(&block.norm_out, &down, d, grads);
            let mut d_inner = take(mlp.width);
            {
                let mut inner = take(mlp.width);
                mlp.activation.forward(&up, mlp.gated, &mut inner, mlp.width);
                let dy = d_down.as_deref().unwrap_or(d);
                block.down.backward(run, &inner, dy, hidden, Some((&mut d_inner, false)), grads);
            }
            mlp.activation.backward(&mut up, mlp.gated, &d_inner, mlp.width);
        }
        {
            let h = self.normed(run, &block.norm_ffn, from);
            let mut dh = take(hidden);
            for (index, part) in block.up.iter().enumerate() {
                let dx = Some((&mut dh[..], index > 0));
                part.linear.backward(run, &h, &up[part.offset..], mlp.up_width(), dx, grads);
            }
            self.normed_backward(run.params, &block.norm_ffn, from, &dh, d, grads);
        }
        drop(up);

        // The attention.
        let row = self.row(layer);
        {
            let d_out = out_gradient.as_deref().unwrap_or(d);
            let d_o = through(&block.norm_mixed, &o, d_out, grads);
            let mut d_attended = take(attention.width());
            let dy = d_o.as_deref().unwrap_or(d_out);
            block.o.backward(run, &attended, dy, hidden, Some((&mut d_attended, false)), grads);
            let part = |(offset, step): (usize, usize)| Heads { data: &qkv, stride: row.stride, offset, step };
            let (q, k, v, rules) = (part(row.q), part(row.k), part(row.v), self.rules(layer));
            let starts = place.starts;
            let gathered = ops_attention::backward(q, k, v, rules, place.seq, starts, &attended, &d_attended, run.pool);
            ops_attention::gather(&gathered, rules, place.seq, row, &mut qkv);
        }
        drop(attended);
        let mut d_qkv = qkv;
        self.turn(layer, place, &mut d_qkv, true);
        if let (Some(q), Some(k), Some(raw)) = (&block.q_norm, &block.k_norm, &raw) {
            for (which, weights) in [q, k].into_iter().enumerate() {
                let values = weights.values(run.params);
                let (norm, groups) = (values.norm(), self.head_groups(layer, which));
                self.norm_weights(weights, raw, &d_qkv, groups, norm, grads);
                norm::heads_backward(raw, norm, groups, &mut d_qkv);
            }
        }
        let h = self.normed(run, &block.norm_in, x);
        let trained_norm = block.norm_in.as_ref().is_some_and(|norm| norm.weight.trained().is_some());
        let mut dh = if wanted || trained_norm { Some(take(hidden)) } else { None };
        for (index, part) in block.qkv.iter().enumerate() {
            let dx = dh.as_mut().map(|dh| (&mut dh[..], index > 0));
            part.linear.backward(run, &h, &d_qkv[part.offset..], row.stride, dx, grads);
        }
        if let Some(dh) = dh {
            self.normed_backward(run.params, &block.norm_in, x, &dh, d, grads);
        }
    }
}
