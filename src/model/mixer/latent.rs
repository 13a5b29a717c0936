//! Queries, keys and values from latents: see [`LatentSpec`](crate::spec::LatentSpec).

use crate::error::Result;
use crate::model::backend::{Backend, Cols};
use crate::model::decoder::NormWeights;
use crate::model::linear::Linear;
use crate::model::ops::latent::Row;
use crate::spec::AttentionSpec;

/// The projections through latents.
#[derive(Debug)]
pub struct Latent {
    /// To the queries' latent, and its norm.
    pub q: Option<(Linear, NormWeights)>,
    /// To queries.
    pub q_out: Linear,
    /// To the latent of keys and values, and the key that turns.
    pub kv: Linear,
    /// Of that latent.
    pub kv_norm: NormWeights,
    /// To each head's key and value.
    pub kv_out: Linear,
}

/// What is kept for the way back.
pub(super) struct Tape<B: Backend> {
    /// The queries' latent before its norm.
    q: Option<B::Buf>,
    /// The latent of keys and values before its norm, and the key that turns.
    kv: B::Buf,
}

fn made<B: Backend>(on: &B, linear: &Linear, x: &B::Buf, rows: usize) -> Result<B::Buf> {
    let out = linear.shape[0];
    let mut to = on.alloc(rows * out)?;
    linear.forward(on, x, &mut to, Cols::all(out), false)?;
    on.see(|| linear.module.clone(), &to, out, Cols::all(out));
    Ok(to)
}

impl Latent {
    pub(super) fn linears(&self) -> Vec<&Linear> {
        let q = self.q.iter().map(|(linear, _)| linear);
        q.chain([&self.q_out, &self.kv, &self.kv_out]).collect()
    }

    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let q = self.q.iter_mut().map(|(linear, _)| linear);
        q.chain([&mut self.q_out, &mut self.kv, &mut self.kv_out]).collect()
    }

    pub(super) fn norms(&self) -> Vec<&NormWeights> {
        self.q.iter().map(|(_, norm)| norm).chain([&self.kv_norm]).collect()
    }

    fn row(&self, spec: &AttentionSpec) -> Row {
        let (rank, rope) = (self.kv_norm.spec.width, self.kv.shape[0] - self.kv_norm.spec.width);
        Row { heads: spec.heads, nope: spec.head_dim - rope, rope, value: spec.value_dim, rank }
    }

    /// The latent of keys and values as it is normalized.
    fn latent<B: Backend>(&self, on: &B, row: Row, rows: usize, kv: &B::Buf) -> Result<B::Buf> {
        on.columns(kv, rows, Cols { first: 0, stride: row.rank + row.rope }, row.rank)
    }

    /// Rows of queries, keys and values, and the tape.
    pub(super) fn forward<B: Backend>(
        &self,
        on: &B,
        spec: &AttentionSpec,
        rows: usize,
        h: &B::Buf,
    ) -> Result<(B::Buf, Tape<B>)> {
        let (q, kept) = match &self.q {
            Some((linear, norm)) => {
                let latent = made(on, linear, h, rows)?;
                (made(on, &self.q_out, &on.norm(norm, &latent)?, rows)?, Some(latent))
            }
            None => (made(on, &self.q_out, h, rows)?, None),
        };
        let (kv, row) = (made(on, &self.kv, h, rows)?, self.row(spec));
        let heads = {
            let normed = on.norm(&self.kv_norm, &self.latent(on, row, rows, &kv)?)?;
            made(on, &self.kv_out, &normed, rows)?
        };
        let qkv = on.join_latent(row, &q, &heads, &kv)?;
        Ok((qkv, Tape { q: kept, kv }))
    }

    /// Gradients of what is trained, and the one by `h`: added to `dh` where it says so.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        spec: &AttentionSpec,
        h: &B::Buf,
        tape: Tape<B>,
        d_qkv: B::Buf,
        mut dh: Option<(&mut B::Buf, bool)>,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let row = self.row(spec);
        let rows = on.len(&d_qkv) / row.stride();
        let (dq, d_heads, mut d_kv) = on.split_latent(row, &d_qkv)?;
        drop(d_qkv);
        {
            let latent = self.latent(on, row, rows, &tape.kv)?;
            let mut d_normed = on.alloc(rows * row.rank)?;
            {
                let normed = on.norm(&self.kv_norm, &latent)?;
                let at = Cols::all(self.kv_out.shape[0]);
                self.kv_out.backward(on, &normed, (&d_heads, at), Some((&mut d_normed, false)), grads)?;
            }
            let mut d_latent = on.alloc(rows * row.rank)?;
            on.norm_backward(&self.kv_norm, &latent, &d_normed, &mut d_latent, false, grads)?;
            let to = Cols { first: 0, stride: row.rank + row.rope };
            on.copy_columns((&d_latent, Cols::all(row.rank)), (&mut d_kv, to), row.rank, false)?;
        }
        drop(d_heads);
        let dx = dh.as_mut().map(|(dh, keep)| (&mut **dh, *keep));
        self.kv.backward(on, h, (&d_kv, Cols::all(self.kv.shape[0])), dx, grads)?;
        drop(d_kv);
        let dx = dh.as_mut().map(|(dh, _)| (&mut **dh, true));
        let dy = (&dq, Cols::all(self.q_out.shape[0]));
        let (Some((linear, norm)), Some(latent)) = (&self.q, &tape.q) else {
            return self.q_out.backward(on, h, dy, dx, grads);
        };
        let mut d_normed = on.alloc(on.len(latent))?;
        self.q_out.backward(on, &on.norm(norm, latent)?, dy, Some((&mut d_normed, false)), grads)?;
        let mut d_latent = on.alloc(on.len(latent))?;
        on.norm_backward(norm, latent, &d_normed, &mut d_latent, false, grads)?;
        linear.backward(on, h, (&d_latent, Cols::all(linear.shape[0])), dx, grads)
    }
}
