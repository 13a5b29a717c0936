//! Mixers with a state and their like on [`OnGpu`]: there are no kernels for them, so that only a machine that computes nothing goes through
//! them, for the memory that they would take.

use super::gpu_buffers::{Cache, Grads, Kept, Logits, Routes, Sum};
use super::{Buffers, Cols, Hybrids, OnGpu, Place};
use crate::error::{Error, Result};
use crate::model::decoder::{Attention, Recurrence};
use crate::model::gpu::{Angles, Tensor};

impl Buffers for OnGpu<'_> {
    type Buf = Tensor;
    type Ids = Tensor;
    type Grads = Grads;
    type Angles = Angles;
    type Heads = Kept;
    type Cache = Cache;
    type Routes = Routes;
    /// What the projections gave, and on a machine that computes nothing all else that would be kept.
    type Recurred = Vec<Tensor>;
    type Logits = Logits;
    type Losses = Tensor;
    type Sum = Sum;
}

impl Hybrids for OnGpu<'_> {
    fn keys_values(&self, attention: &Attention, heads: &Kept) -> Result<Tensor> {
        self.only_thought_of("attention that shares its keys")?;
        let spec = &attention.spec;
        self.gpu.alloc(heads.qkv.len() / spec.row() * (spec.row() - spec.queries()))
    }

    fn copy_columns(&self, _from: (&Tensor, Cols), _to: (&mut Tensor, Cols), _width: usize, _add: bool) -> Result<()> {
        self.only_thought_of("what blocks read beside the stream")
    }

    fn split_gate(&self, attention: &Attention, rows: Tensor) -> Result<(Tensor, Tensor)> {
        self.only_thought_of("gated attention")?;
        let spec = &attention.spec;
        let count = rows.len() / spec.projected();
        Ok((self.gpu.alloc(count * spec.row())?, self.gpu.alloc(count * spec.width())?))
    }

    fn join_gate(&self, _attention: &Attention, qkv: Tensor, gate: Tensor) -> Result<Tensor> {
        self.only_thought_of("gated attention")?;
        self.gpu.alloc(qkv.len() + gate.len())
    }

    fn recur(&self, of: &Recurrence, place: Place<Self>, rows: Tensor, _: Option<&mut Cache>) -> Result<Vec<Tensor>> {
        self.only_thought_of("a recurrence")?;
        let conv = self.gpu.alloc(place.rows * of.spec.channels().0)?;
        let Some(scan) = of.scan() else { return Ok(vec![rows, conv]) };
        let own = scan.buffers(place.seq, place.rows / place.seq, 1, false);
        let own: Vec<Tensor> = own.into_iter().map(|count| self.gpu.alloc(count)).collect::<Result<_>>()?;
        Ok([rows, conv].into_iter().chain(own).collect())
    }

    fn recurred(&self, of: &Recurrence, kept: &Vec<Tensor>) -> Result<Tensor> {
        self.gpu.alloc(kept.first().map_or(0, Tensor::len) / of.spec.row() * of.spec.width())
    }

    fn recur_backward(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        kept: Vec<Tensor>,
        _d: Tensor,
        _grads: &mut Grads,
    ) -> Result<Tensor> {
        let d_rows = self.gpu.alloc(kept.first().map_or(0, Tensor::len))?;
        if let Some(scan) = of.scan() {
            let own = scan.buffers(place.seq, place.rows / place.seq, 1, true);
            drop(own.into_iter().map(|count| self.gpu.alloc(count)).collect::<Result<Vec<_>>>()?);
        }
        Ok(d_rows)
    }

    fn state(&self, _of: &Recurrence) -> Result<Cache> {
        Err(Error::usage("a recurrence is not computed on a GPU here: --device cpu"))
    }
}
