//! An embedding of another width than the stream (OPT 350M): into the stream and out of it.

use super::backend::{Backend, Cols, Lookup};
use super::decoder::Decoder;
use super::linear::Linear;
use super::pass::Input;
use crate::error::Result;

/// `x = into(embedded) + positions`, and `out` before the head.
#[derive(Debug)]
pub struct Narrow {
    /// `[hidden, width]`.
    pub into: Linear,
    /// `[width, hidden]`.
    pub out: Linear,
}

/// `[rows, out]` of a linear layer.
fn given<B: Backend>(on: &B, linear: &Linear, x: &B::Buf) -> Result<B::Buf> {
    let [out, width] = linear.shape;
    let mut to = on.alloc(on.len(x) / width * out)?;
    linear.forward(on, x, &mut to, Cols::all(out), false)?;
    on.see(|| linear.module.clone(), &to, out, Cols::all(out));
    Ok(to)
}

impl Decoder {
    /// Positions as rows of their own table.
    fn places<'a, B: Backend>(&'a self, input: &'a Input<B>) -> Option<(&'a Linear, Lookup<'a, B>)> {
        let ((table, _), ids) = self.positions.as_ref().zip(input.places.as_ref())?;
        Some((table, Lookup { ids, starts: None, seq: input.seq, first: 0 }))
    }

    /// Embeddings with their positions, before their norm.
    pub(super) fn embed<B: Backend>(&self, on: &B, input: &Input<B>) -> Result<B::Buf> {
        let scale = self.spec.embedding_scale;
        let Some(narrow) = &self.narrow else {
            let positions = self.positions.as_ref().map(|(table, offset)| (table, *offset));
            return on.embed(&self.embedding, scale, positions, &input.lookup());
        };
        let mut x = {
            let embedded = on.embed(&self.embedding, scale, None, &input.lookup())?;
            given(on, &narrow.into, &embedded)?
        };
        if let Some((table, at)) = self.places(input) {
            on.add(&mut x, &on.embed(table, 1.0, None, &at)?, 1.0)?;
        }
        Ok(x)
    }

    /// From the gradient `d` by what [`embed`](Self::embed) gave: those of what is trained.
    pub(super) fn embed_backward<B: Backend>(
        &self,
        on: &B,
        input: &Input<B>,
        d: &B::Buf,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let scale = self.spec.embedding_scale;
        let Some(narrow) = &self.narrow else {
            let positions = self.positions.as_ref().map(|(table, offset)| (table, *offset));
            return on.embed_backward(&self.embedding, scale, positions, &input.lookup(), d, grads);
        };
        if let Some((table, at)) = self.places(input) {
            on.embed_backward(table, 1.0, None, &at, d, grads)?;
        }
        let [hidden, width] = narrow.into.shape;
        let embedded = on.embed(&self.embedding, scale, None, &input.lookup())?;
        let mut d_embedded = on.alloc(input.rows * width)?;
        narrow.into.backward(on, &embedded, (d, Cols::all(hidden)), Some((&mut d_embedded, false)), grads)?;
        on.embed_backward(&self.embedding, scale, None, &input.lookup(), &d_embedded, grads)
    }

    /// What the head reads.
    pub(super) fn head_reads<B: Backend>(&self, on: &B, x: &B::Buf) -> Result<B::Buf> {
        let h = self.last_norm(on, x)?;
        match &self.narrow {
            Some(narrow) => given(on, &narrow.out, &h),
            None => Ok(h),
        }
    }

    /// The gradient by the last block's output `x`, from the one by what the head reads.
    pub(super) fn head_reads_backward<B: Backend>(
        &self,
        on: &B,
        x: &B::Buf,
        mut dh: B::Buf,
        grads: &mut B::Grads,
    ) -> Result<B::Buf> {
        if let Some(narrow) = &self.narrow {
            let h = self.last_norm(on, x)?;
            let mut d = on.alloc(on.len(&h))?;
            narrow.out.backward(on, &h, (&dh, Cols::all(narrow.out.shape[0])), Some((&mut d, false)), grads)?;
            dh = d;
        }
        let Some(norm) = &self.norm else { return Ok(dh) };
        let mut d = on.alloc(on.len(x))?;
        on.norm_backward(norm, x, &dh, &mut d, false, grads)?;
        Ok(d)
    }

    /// What the last norm gives.
    fn last_norm<B: Backend>(&self, on: &B, x: &B::Buf) -> Result<B::Buf> {
        match &self.norm {
            Some(norm) => on.norm(norm, x),
            None => on.copy(x),
        }
    }
}
