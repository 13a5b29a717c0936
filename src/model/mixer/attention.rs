//! Causal attention: qkv ─ (norms) ─ rope ─ attention (─ gate) ─ o, from projections of the stream or from latents.

use super::latent::{self, Latent};
use crate::error::Result;
use crate::model::backend::{Backend, Cols, Place};
use crate::model::decoder::{NormWeights, Part, project, project_backward};
use crate::model::half::{Held, Reads};
use crate::model::linear::Linear;
use crate::model::ops::attention::{Row, Rules};
use crate::model::watch::parent;
use crate::model::weight::Vector;
use crate::spec::{AttentionSpec, QkvLayout};

/// Causal attention.
#[derive(Debug)]
pub struct Attention {
    /// What it computes.
    pub spec: AttentionSpec,
    /// Number of its block.
    pub block: usize,
    /// Query, key and value projections: one or three; none where they come from latents.
    pub projections: Vec<Part>,
    /// Queries, keys and values from latents.
    pub latent: Option<Latent>,
    /// Norm of queries.
    pub q_norm: Option<NormWeights>,
    /// Norm of keys.
    pub k_norm: Option<NormWeights>,
    /// Norm of values.
    pub v_norm: Option<NormWeights>,
    /// The sigmoid of what it gives multiplies the attention's output.
    pub gate: Option<Linear>,
    /// A score for each head that belongs to no key.
    pub sinks: Option<Vector>,
    /// Output projection.
    pub o: Linear,
}

/// What is kept for the way back.
pub(in crate::model) struct Tape<B: Backend> {
    heads: B::Heads,
    attended: B::Buf,
    /// What gates the attention's output.
    gate: Option<B::Buf>,
    latent: Option<latent::Tape<B>>,
}

impl Attention {
    /// Where queries, keys and values lie in a row.
    pub(in crate::model) fn row(&self) -> Row {
        let AttentionSpec { heads, kv_heads, head_dim: d, value_dim, layout, .. } = self.spec;
        let stride = self.spec.row();
        match layout {
            QkvLayout::Grouped if heads == kv_heads => Row { stride, q: (0, 3 * d), k: (d, 3 * d), v: (2 * d, 3 * d) },
            _ => Row { stride, q: (0, d), k: (heads * d, d), v: ((heads + kv_heads) * d, value_dim) },
        }
    }

    /// The rows are projected in another order than [`row`](Self::row) says: queries in groups with their key and value.
    pub(in crate::model) fn is_regrouped(&self) -> bool {
        self.spec.layout == QkvLayout::Grouped && self.spec.heads != self.spec.kv_heads
    }

    /// The way back needs the rows as they were before they were clipped or normalized.
    pub(in crate::model) fn keeps_raw(&self) -> bool {
        self.q_norm.is_some() || self.k_norm.is_some() || self.v_norm.is_some() || self.spec.clip > 0.0
    }

    pub(in crate::model) fn rules(&self) -> Rules {
        let AttentionSpec { heads, kv_heads, head_dim, value_dim, scale, softcap, window, chunk, .. } = self.spec;
        let (alibi, rounded) = (self.spec.alibi, self.spec.alibi_rounded);
        Rules { heads, kv_heads, head_dim, value_dim, scale, softcap, window, chunk, alibi, rounded }
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        let latent = self.latent.iter().flat_map(Latent::linears);
        latent.chain(self.projections.iter().map(|part| &part.linear)).chain(&self.gate).chain([&self.o]).collect()
    }

    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let latent = self.latent.iter_mut().flat_map(Latent::linears_mut);
        let projections = self.projections.iter_mut().map(|part| &mut part.linear);
        latent.chain(projections).chain(&mut self.gate).chain([&mut self.o]).collect()
    }

    pub(super) fn norms(&self) -> impl Iterator<Item = &NormWeights> {
        self.latent.iter().flat_map(Latent::norms).chain(&self.q_norm).chain(&self.k_norm).chain(&self.v_norm)
    }

    /// Keys and then values in a row.
    fn keys_values(&self) -> (usize, Cols) {
        let (stride, first) = (self.spec.row(), self.spec.queries());
        (stride - first, Cols { first, stride })
    }

    pub(super) fn forward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        reads: &Reads<B>,
        cache: Option<&mut B::Cache>,
    ) -> Result<Tape<B>> {
        let (gate, qkv, latent) = {
            let h = reads.values(on)?;
            let gate = self.project_gate(on, place.rows, &h)?;
            match &self.latent {
                None => (gate, project(on, &self.projections, place.rows, self.spec.projected(), &h)?, None),
                Some(latent) => {
                    let (qkv, tape) = latent.forward(on, &self.spec, place.rows, &h)?;
                    (gate, qkv, Some(tape))
                }
            }
        };
        let (qkv, gate) = match self.spec.gated_queries {
            true => on.split_gate(self, qkv).map(|(qkv, gate)| (qkv, Some(gate)))?,
            false => (qkv, gate),
        };
        let mut qkv = qkv;
        let (width, at) = self.keys_values();
        if self.spec.keys_are_values {
            let keys = on.copy(&qkv)?;
            let to = Cols { first: at.first + width / 2, ..at };
            on.copy_columns((&keys, at), (&mut qkv, to), width / 2, false)?;
        }
        if let Some(of) = self.spec.reads_keys_of {
            place.beside.keys_of(of, |keys| on.copy_columns((keys, Cols::all(width)), (&mut qkv, at), width, false))?;
        }
        let (attended, heads) = on.attention(self, place, qkv, cache)?;
        if self.spec.shares_keys {
            place.beside.share_keys(self.block, on.keys_values(self, &heads)?);
        }
        let width = self.spec.width();
        on.see(|| parent(&self.o.module), &attended, width, Cols::all(width));
        Ok(Tape { heads, attended, gate, latent })
    }

    pub(super) fn output<B: Backend>(&self, on: &B, tape: &Tape<B>, y: &mut B::Buf, keep: bool) -> Result<()> {
        let gated = tape.gate.as_ref().map(|gate| on.gate(&tape.attended, gate)).transpose()?;
        self.o.forward(on, gated.as_ref().unwrap_or(&tape.attended), y, Cols::all(self.o.shape[0]), keep)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        reads: &Reads<B>,
        tape: Tape<B>,
        dy: Held<B::Buf>,
        wanted: bool,
        grads: &mut B::Grads,
    ) -> Result<Option<B::Buf>> {
        let Tape { heads, attended, mut gate, latent } = tape;
        let d_qkv = {
            let mut d_attended = on.alloc(on.len(&attended))?;
            let gated = gate.as_ref().map(|gate| on.gate(&attended, gate)).transpose()?;
            let read = gated.as_ref().unwrap_or(&attended);
            let at = Cols::all(self.o.shape[0]);
            self.o.backward(on, read, (&*dy, at), Some((&mut d_attended, false)), grads)?;
            drop(gated);
            drop(dy);
            if let Some(gate) = &mut gate {
                on.gate_backward(&attended, gate, &mut d_attended)?;
            }
            let shared = if self.spec.shares_keys { place.beside.take_gradient(self.block) } else { None };
            on.attention_backward(self, place, heads, attended, &d_attended, shared.as_ref(), grads)?
        };
        let (width, at) = self.keys_values();
        if let Some(of) = self.spec.reads_keys_of {
            let zeros = || on.zeros(place.rows * width);
            place
                .beside
                .add_gradient(of, zeros, |to| on.copy_columns((&d_qkv, at), (to, Cols::all(width)), width, true))?;
        }
        let d_qkv = if self.spec.keys_are_values {
            let values = on.copy(&d_qkv)?;
            let mut d_qkv = d_qkv;
            let from = Cols { first: at.first + width / 2, ..at };
            on.copy_columns((&values, from), (&mut d_qkv, at), width / 2, true)?;
            d_qkv
        } else {
            d_qkv
        };
        let d_qkv = match gate.take_if(|_| self.spec.gated_queries) {
            Some(d_gate) => on.join_gate(self, d_qkv, d_gate)?,
            None => d_qkv,
        };
        let h = reads.values(on)?;
        let mut dh = project_backward(on, &self.projections, self.spec.projected(), &h, &d_qkv, wanted, grads)?;
        if let (Some(linear), Some(d_gate)) = (&self.gate, &gate) {
            let dx = dh.as_mut().map(|dh| (dh, true));
            linear.backward(on, &h, (d_gate, Cols::all(self.spec.width())), dx, grads)?;
        }
        if let (Some(half), Some(tape)) = (&self.latent, latent) {
            half.backward(on, &self.spec, &h, tape, d_qkv, dh.as_mut().map(|dh| (dh, self.gate.is_some())), grads)?;
        }
        Ok(dh)
    }

    fn project_gate<B: Backend>(&self, on: &B, rows: usize, h: &B::Buf) -> Result<Option<B::Buf>> {
        let Some(gate) = &self.gate else { return Ok(None) };
        let width = self.spec.width();
        let mut to = on.alloc(rows * width)?;
        gate.forward(on, h, &mut to, Cols::all(width), false)?;
        on.see(|| gate.module.clone(), &to, width, Cols::all(width));
        Ok(Some(to))
    }
}
