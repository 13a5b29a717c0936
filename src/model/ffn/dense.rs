//! An MLP: gate, up ─ act ─ down.

use crate::error::Result;
use crate::model::backend::{Backend, Cols, Nonlinear};
use crate::model::decoder::{Part, project};
use crate::model::linear::Linear;
use crate::model::watch::parent;
use crate::spec::MlpSpec;

/// An MLP.
#[derive(Debug)]
pub struct Mlp {
    /// What it computes.
    pub spec: MlpSpec,
    /// Gate and up projections: one or two.
    pub up: Vec<Part>,
    /// Down projection.
    pub down: Linear,
    /// α₊ and α₋ of an xIELU; 1 otherwise.
    pub alphas: [f32; 2],
}

impl Mlp {
    pub(in crate::model) fn nonlinear(&self) -> Nonlinear {
        let MlpSpec { activation, gated, width, .. } = self.spec;
        Nonlinear { activation, gated, width, alphas: self.alphas }
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        self.up.iter().map(|part| &part.linear).chain([&self.down]).collect()
    }

    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        self.up.iter_mut().map(|part| &mut part.linear).chain([&mut self.down]).collect()
    }

    /// What the first projections give.
    pub(super) fn forward<B: Backend>(&self, on: &B, rows: usize, h: &B::Buf) -> Result<B::Buf> {
        project(on, &self.up, rows, self.spec.up_width(), h)
    }

    /// The output, added to `y` where `keep` says so.
    pub(super) fn output<B: Backend>(&self, on: &B, up: &B::Buf, y: &mut B::Buf, keep: bool) -> Result<()> {
        let between = on.activation(self.nonlinear(), up)?;
        on.see(|| parent(&self.down.module), &between, self.spec.width, Cols::all(self.spec.width));
        self.down.forward(on, &between, y, Cols::all(self.down.shape[0]), keep)
    }

    /// What the first projections gave becomes the gradient by it.
    pub(super) fn inside_backward<B: Backend>(
        &self,
        on: &B,
        rows: usize,
        up: &mut B::Buf,
        dy: &B::Buf,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let mut d_between = on.alloc(rows * self.spec.width)?;
        {
            let between = on.activation(self.nonlinear(), up)?;
            let dy = (dy, Cols::all(self.down.shape[0]));
            self.down.backward(on, &between, dy, Some((&mut d_between, false)), grads)?;
        }
        on.activation_backward(self.nonlinear(), up, &d_between)
    }

    /// The gradient by what it reads: added to `dh` where `keep` says so.
    pub(super) fn up_backward<B: Backend>(
        &self,
        on: &B,
        h: &B::Buf,
        d_up: &B::Buf,
        dh: &mut B::Buf,
        keep: bool,
        grads: &mut B::Grads,
    ) -> Result<()> {
        for (index, part) in self.up.iter().enumerate() {
            let at = Cols { first: part.offset, stride: self.spec.up_width() };
            part.linear.backward(on, h, (d_up, at), Some((&mut *dh, keep || index > 0)), grads)?;
        }
        Ok(())
    }
}
