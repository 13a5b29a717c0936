//! Gemma 4's per-layer inputs: what every block gets of a token beside the stream, and how a block adds it.

use super::backend::{Backend, Cols, Lookup, Nonlinear, Place};
use super::decoder::NormWeights;
use super::linear::Linear;
use crate::error::Result;
use crate::spec::{PerLayerInputs, PerLayerSpec};

/// The inputs of all blocks.
#[derive(Debug)]
pub struct Inputs {
    /// What it computes.
    pub spec: PerLayerInputs,
    /// An embedding of all blocks.
    pub table: Linear,
    /// Of the embeddings.
    pub projection: Linear,
    /// Over each block's columns of what it gives.
    pub norm: NormWeights,
}

/// One block's part.
#[derive(Debug)]
pub struct PerLayer {
    /// What it computes.
    pub spec: PerLayerSpec,
    /// From the stream.
    pub gate: Linear,
    /// Into the stream.
    pub projection: Linear,
    /// Before it is added.
    pub norm: NormWeights,
}

/// What is kept for the way back.
pub(super) struct Tape<B: Backend> {
    /// What the block read.
    x: B::Buf,
    /// `[gate | p]`.
    rows: B::Buf,
    /// Before the norm.
    projected: B::Buf,
}

impl Inputs {
    /// What the projection gave.
    fn projected<B: Backend>(&self, on: &B, embedded: &B::Buf, rows: usize) -> Result<B::Buf> {
        let width = self.projection.shape[0];
        let mut to = on.alloc(rows * width)?;
        self.projection.forward(on, embedded, &mut to, Cols::all(width), false)?;
        on.see(|| self.projection.module.clone(), &to, width, Cols::all(width));
        Ok(to)
    }

    /// The inputs, `[rows, blocks · width]`.
    pub(super) fn forward<B: Backend>(&self, on: &B, embedded: &B::Buf, rows: usize, at: &Lookup<B>) -> Result<B::Buf> {
        let projected = self.projected(on, embedded, rows)?;
        let mut inputs = on.norm(&self.norm, &projected)?;
        drop(projected);
        let of_tokens = on.embed(&self.table, self.spec.scale, None, at)?;
        on.add(&mut inputs, &of_tokens, 1.0)?;
        on.scale(&mut inputs, std::f32::consts::FRAC_1_SQRT_2)?;
        Ok(inputs)
    }

    /// From the gradient by the inputs: those of what is trained; added to `d`, the one by the embeddings.
    #[expect(clippy::too_many_arguments, reason = "what the way back needs of the way there")]
    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        embedded: &B::Buf,
        rows: usize,
        at: &Lookup<B>,
        mut d_inputs: B::Buf,
        d: &mut B::Buf,
        grads: &mut B::Grads,
    ) -> Result<()> {
        on.scale(&mut d_inputs, std::f32::consts::FRAC_1_SQRT_2)?;
        on.embed_backward(&self.table, self.spec.scale, None, at, &d_inputs, grads)?;
        let projected = self.projected(on, embedded, rows)?;
        let mut d_projected = on.alloc(on.len(&projected))?;
        on.norm_backward(&self.norm, &projected, &d_inputs, &mut d_projected, false, grads)?;
        let dy = (&d_projected, Cols::all(self.projection.shape[0]));
        self.projection.backward(on, embedded, dy, Some((d, true)), grads)
    }
}

impl PerLayer {
    fn nonlinear(&self) -> Nonlinear {
        let width = self.gate.shape[0];
        Nonlinear { activation: self.spec.activation, gated: true, width, alphas: [1.0; 2] }
    }

    pub(super) fn linears(&self) -> [&Linear; 2] {
        [&self.gate, &self.projection]
    }

    pub(super) fn linears_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.gate, &mut self.projection]
    }

    /// Adds the block's part to `out`.
    pub(super) fn forward<B: Backend>(&self, on: &B, place: Place<B>, out: &mut B::Buf) -> Result<Tape<B>> {
        let [width, hidden] = self.gate.shape;
        let x = on.copy(out)?;
        let mut rows = on.alloc(place.rows * 2 * width)?;
        self.gate.forward(on, &x, &mut rows, Cols { first: 0, stride: 2 * width }, false)?;
        on.see(|| self.gate.module.clone(), &rows, width, Cols { first: 0, stride: 2 * width });
        place.beside.inputs(|inputs| {
            let from = Cols { first: self.spec.first, stride: on.len(inputs) / place.rows };
            on.copy_columns((inputs, from), (&mut rows, Cols { first: width, stride: 2 * width }), width, false)
        })?;
        let mut projected = on.alloc(on.len(out))?;
        {
            let between = on.activation(self.nonlinear(), &rows)?;
            self.projection.forward(on, &between, &mut projected, Cols::all(hidden), false)?;
        }
        on.see(|| self.projection.module.clone(), &projected, hidden, Cols::all(hidden));
        on.add(out, &on.norm(&self.norm, &projected)?, 1.0)?;
        Ok(Tape { x, rows, projected })
    }

    /// Adds to the gradient by what the block read, in `d`, which is the one by what it gave.
    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        tape: Tape<B>,
        d: &mut B::Buf,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let [width, hidden] = self.gate.shape;
        let Tape { x, mut rows, projected } = tape;
        let mut d_projected = on.alloc(on.len(d))?;
        on.norm_backward(&self.norm, &projected, d, &mut d_projected, false, grads)?;
        drop(projected);
        let mut d_between = on.alloc(place.rows * width)?;
        {
            let between = on.activation(self.nonlinear(), &rows)?;
            let dy = (&d_projected, Cols::all(hidden));
            self.projection.backward(on, &between, dy, Some((&mut d_between, false)), grads)?;
        }
        drop(d_projected);
        on.activation_backward(self.nonlinear(), &mut rows, &d_between)?;
        let all = place.beside.inputs(|inputs| Ok(on.len(inputs)))?;
        let to = Cols { first: self.spec.first, stride: all / place.rows };
        let from = Cols { first: width, stride: 2 * width };
        place.beside.add_inputs_gradient(
            || on.zeros(all),
            |d_inputs| on.copy_columns((&rows, from), (d_inputs, to), width, true),
        )?;
        self.gate.backward(on, &x, (&rows, Cols { first: 0, stride: 2 * width }), Some((d, true)), grads)
    }
}
