//! Rows of queries, keys and values on the processor, between their projection and the attention: their order, norms, rotary embedding
//! and scaling.

use super::{Cpu, PANEL, starts};
use crate::model::backend::{Backend as _, Cols, Place};
use crate::model::decoder::{Attention, NormWeights};
use crate::model::linear::Linear;
use crate::model::ops::norm::{self, Groups};
use crate::model::ops::rope::Turned;
use crate::model::ops::{self, Buf, heads};
use crate::model::params::Grads;
use crate::model::weight::Vector;
use rayon::prelude::*;

impl<'m> Cpu<'m> {
    /// A weight as `f32`.
    pub(super) fn widened(&self, linear: &Linear) -> Buf {
        let [out, width] = linear.shape;
        let mut values = self.pool.take(out * width);
        values.par_chunks_mut(PANEL * width).enumerate().for_each(|(panel, values)| {
            let first = panel * PANEL;
            linear.weight.rows(self.params, first..first + values.len() / width, width, values);
        });
        values
    }

    /// Turns queries and keys by their positions, or back.
    pub(super) fn turn(&self, attention: &Attention, place: Place<Self>, rows: &mut [f32], back: bool) {
        let Some(table) = attention.spec.rope.and_then(|rope| place.angles.get(rope)) else { return };
        let (row, spec) = (attention.row(), &attention.spec);
        // Keys of another block have been turned there.
        let keys = if spec.reads_keys_of.is_some() { 0 } else { spec.kv_heads };
        for ((offset, step), heads) in [(row.q, spec.heads), (row.k, keys)] {
            let at = Turned { stride: row.stride, offset: offset + spec.rope_offset, step, heads };
            table.turn(rows, at, place.seq, place.first, starts(&place), back);
        }
    }

    /// Queries grow with their position; so does their gradient.
    pub(super) fn scale_queries(&self, attention: &Attention, place: Place<Self>, rows: &mut [f32]) {
        let Some(scaling) = attention.spec.query_scaling else { return };
        let (stride, queries) = (attention.row().stride, attention.spec.queries());
        heads::scale_queries(rows, stride, queries, scaling, place.seq, place.first, starts(&place));
    }

    /// Rows in the order of their projection become rows in the order of [`Attention::row`], or `back`.
    pub(super) fn regroup(&self, attention: &Attention, rows: Buf, back: bool) -> Buf {
        if !attention.is_regrouped() {
            return rows;
        }
        let mut to = self.pool.take(rows.len());
        let spec = &attention.spec;
        heads::regroup(&rows, &mut to, spec.heads, spec.kv_heads, spec.head_dim, back);
        to
    }

    /// Normalizes queries and keys of `qkv`; `raw` is what they were.
    pub(super) fn normalize(&self, attention: &Attention, raw: Option<&Buf>, qkv: &mut Buf) {
        let stride = attention.row().stride;
        for (weights, copy, groups) in self.head_norms(attention) {
            let Some(raw) = raw else { continue };
            let (scales, range) = weights.scales(copy);
            let values = weights.values(self.params);
            norm::heads_forward(raw, values.of(&scales.values(self.params)[range]), groups, qkv);
            self.see(|| weights.spec.name.clone(), qkv, stride, Cols::all(stride));
        }
    }

    /// The way back of [`normalize`](Self::normalize).
    pub(super) fn normalize_backward(&self, attention: &Attention, raw: Option<&Buf>, d: &mut Buf, grads: &mut Grads) {
        for (weights, copy, groups) in self.head_norms(attention) {
            let Some(raw) = raw else { continue };
            let (scales, range) = weights.scales(copy);
            let (values, own) = (weights.values(self.params), scales.values(self.params));
            let norm = values.of(&own[range]);
            self.norm_weights(weights, copy, raw, d, groups, norm, grads);
            norm::heads_backward(raw, norm, groups, d);
        }
    }

    /// The norms of queries and keys, whose scales of them, and where what these normalize lies in a row.
    fn head_norms<'a>(&self, attention: &'a Attention) -> impl Iterator<Item = (&'a NormWeights, usize, Groups)> {
        let (row, spec) = (attention.row(), &attention.spec);
        let of = |norm: &'a Option<NormWeights>, (offset, step): (usize, usize), heads: usize| {
            let norm = norm.as_ref()?;
            let (stride, x_stride) = (row.stride, row.stride);
            if norm.spec.copies > 1 {
                // A norm a head.
                let one = move |head: usize| {
                    let offset = offset + head * step;
                    (norm, head, Groups { groups: 1, stride, offset, step: 0, x_stride, x_offset: offset, x_step: 0 })
                };
                return Some((0..heads).map(one).collect::<Vec<_>>());
            }
            // As wide as all heads: one group of them.
            let (groups, step) = if norm.spec.width == spec.head_dim { (heads, step) } else { (1, 0) };
            Some(vec![(norm, 0, Groups { groups, stride, offset, step, x_stride, x_offset: offset, x_step: step })])
        };
        let q = of(&attention.q_norm, row.q, spec.heads);
        let k = of(&attention.k_norm, row.k, spec.kv_heads);
        q.into_iter().chain(k).chain(of(&attention.v_norm, row.v, spec.kv_heads)).flatten()
    }

    /// Adds to the gradients of shifts, and of the scales of copy number `copy`, where they are trained.
    #[expect(clippy::too_many_arguments, reason = "what the way back needs of the way there")]
    pub(super) fn norm_weights(
        &self,
        weights: &NormWeights,
        copy: usize,
        x: &[f32],
        dy: &[f32],
        groups: Groups,
        norm: norm::Norm,
        grads: &mut Grads,
    ) {
        let (scales, range) = weights.scales(copy);
        if let Some(number) = scales.trained() {
            norm::weights_backward(x, dy, groups, norm, &mut grads.0[number][range], None);
        }
        if let Some(number) = weights.bias.as_ref().and_then(Vector::trained) {
            for group in 0..groups.groups {
                let from = groups.offset + group * groups.step;
                ops::add_column_sums(&mut grads.0[number], &dy[from..], groups.stride);
            }
        }
    }
}
