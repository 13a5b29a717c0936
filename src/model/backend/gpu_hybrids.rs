//! Rows of queries, keys and values that come in parts, from gates and latents, on [`OnGpu`].

use super::gpu_buffers::{Cache, Grads, Kept, Logits, Routes, Sum};
use super::gpu_recurrence::Recurred;
use super::{Buffers, Cols, Hybrids, OnGpu, Place};
use crate::error::{Error, Result};
use crate::model::decoder::{Attention, Recurrence};
use crate::model::gpu::{Angles, Apart, Tensor};
use crate::model::ops::latent::Row as LatentRow;

impl Buffers for OnGpu<'_> {
    type Buf = Tensor;
    type Ids = Tensor;
    type Grads = Grads;
    type Angles = Angles;
    type Heads = Kept;
    type Cache = Cache;
    type Routes = Routes;
    type Recurred = Recurred;
    type Logits = Logits;
    type Losses = Tensor;
    type Sum = Sum;
}

impl Hybrids for OnGpu<'_> {
    fn keys_values(&self, attention: &Attention, heads: &Kept) -> Result<Tensor> {
        let (stride, first) = (attention.spec.row(), attention.spec.queries());
        let rows = heads.shared.as_ref().ok_or_else(|| Error::failure("keys that are shared were not kept"))?;
        self.gpu.columns(rows, rows.len() / stride, Cols { first, stride }, stride - first)
    }

    fn copy_columns(
        &self,
        (from, at): (&Tensor, Cols),
        (to, to_at): (&mut Tensor, Cols),
        width: usize,
        add: bool,
    ) -> Result<()> {
        let (from, to) = ((from.from(at.first), from.len() / at.stride), to.from(to_at.first));
        let [at, to_at] = [at, to_at].map(|at| Apart::rows(at.stride));
        self.gpu.copy_parts((from.0, at), (to, to_at), [from.1, 1, width], add)
    }

    fn split_gate(&self, attention: &Attention, rows: Tensor) -> Result<(Tensor, Tensor)> {
        let (spec, gpu) = (&attention.spec, self.gpu);
        let count = rows.len() / spec.projected();
        let (qkv, gate) = (gpu.alloc(count * spec.row())?, gpu.alloc(count * spec.width())?);
        self.gates(attention, count, |first, at, to_gate, to, apart, of| {
            let to = if to_gate { gate.from(to) } else { qkv.from(to) };
            gpu.copy_parts((rows.from(first), at), (to, apart), of, false)
        })?;
        Ok((qkv, gate))
    }

    fn join_gate(&self, attention: &Attention, qkv: Tensor, gate: Tensor) -> Result<Tensor> {
        let (spec, gpu) = (&attention.spec, self.gpu);
        let count = gate.len() / spec.width();
        let rows = gpu.alloc(qkv.len() + gate.len())?;
        self.gates(attention, count, |first, at, of_gate, from, apart, of| {
            let from = if of_gate { gate.from(from) } else { qkv.from(from) };
            gpu.copy_parts((from, apart), (rows.from(first), at), of, false)
        })?;
        Ok(rows)
    }

    fn recur(&self, of: &Recurrence, place: Place<Self>, rows: Tensor, cache: Option<&mut Cache>) -> Result<Recurred> {
        self.run_recurrence(of, place, rows, cache)
    }

    fn recurred(&self, of: &Recurrence, kept: &Recurred) -> Result<Tensor> {
        self.recurrence_output(of, kept)
    }

    fn recur_backward(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        kept: Recurred,
        d: Tensor,
        _grads: &mut Grads,
    ) -> Result<Tensor> {
        self.recurrence_backward(of, place, kept, d)
    }

    fn state(&self, _of: &Recurrence) -> Result<Cache> {
        Ok(Cache::default())
    }
}

impl OnGpu<'_> {
    /// The parts of rows of `[query | gate]` of every head, then keys and values: where each is there, whether it belongs to the gate, and
    /// where it is in rows of queries, keys and values or of gates.
    fn gates(
        &self,
        attention: &Attention,
        rows: usize,
        mut copy: impl FnMut(usize, Apart, bool, usize, Apart, [usize; 3]) -> Result<()>,
    ) -> Result<()> {
        let spec = &attention.spec;
        let (d, heads, width, row) = (spec.head_dim, spec.heads, spec.width(), spec.row());
        let both = Apart { stride: spec.projected(), step: 2 * d };
        copy(0, both, false, 0, Apart { stride: row, step: d }, [rows, heads, d])?;
        copy(d, both, true, 0, Apart { stride: width, step: d }, [rows, heads, d])?;
        let rest = Apart::rows(spec.projected());
        copy(2 * width, rest, false, width, Apart::rows(row), [rows, 1, row - width])
    }

    pub(super) fn joined(&self, row: LatentRow, q: &Tensor, given: &Tensor, kv: &Tensor) -> Result<Tensor> {
        let count = q.len() / row.queries();
        let to = self.gpu.alloc(count * row.stride())?;
        for part in latent_parts(row) {
            let from = [q, given, kv][part.of].from(part.first);
            let (to, parts) = (to.from(part.to), [count, part.many, part.width]);
            self.gpu.copy_parts((from, part.at), (to, part.to_at), parts, false)?;
        }
        Ok(to)
    }

    pub(super) fn parted(&self, row: LatentRow, d: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let (gpu, count) = (self.gpu, d.len() / row.stride());
        let (dq, given) = (gpu.alloc(count * row.queries())?, gpu.alloc(count * row.given())?);
        let kv = gpu.alloc(count * (row.rank + row.rope))?;
        kv.all().clear()?;
        for part in latent_parts(row) {
            let (from, to) = (d.from(part.to), [&dq, &given, &kv][part.of].from(part.first));
            let parts = [count, part.many, part.width];
            // All heads share one key.
            match part.at.step == 0 && part.many > 1 {
                true => gpu.fold_parts((from, part.to_at), to, part.at.stride, parts)?,
                false => gpu.copy_parts((from, part.to_at), (to, part.at), parts, false)?,
            }
        }
        Ok((dq, given, kv))
    }
}

/// A part of rows that latents gave, and where it belongs in rows of queries, keys and values.
struct LatentPart {
    /// In queries, what the latent gave, or `[latent | shared key]`.
    of: usize,
    first: usize,
    at: Apart,
    to: usize,
    to_at: Apart,
    many: usize,
    width: usize,
}

fn latent_parts(row: LatentRow) -> [LatentPart; 4] {
    let LatentRow { heads, nope, rope, value, rank } = row;
    let (stride, queries, width) = (row.stride(), row.queries(), nope + rope);
    let given = Apart { stride: row.given(), step: nope + value };
    let keys = Apart { stride, step: width };
    let part = |of, (first, at), (to, to_at), many, width| LatentPart { of, first, at, to, to_at, many, width };
    [
        part(0, (0, Apart::rows(queries)), (0, Apart::rows(stride)), 1, queries),
        part(1, (0, given), (queries, keys), heads, nope),
        part(2, (rank, Apart::rows(rank + rope)), (queries + nope, keys), heads, rope),
        part(1, (nope, given), (2 * queries, Apart { stride, step: value }), heads, value),
    ]
}
