//! AdamW beside the parameters, without anybody waiting for the norm by which gradients are clipped.

use super::kernels::{AdamW, SQUARES_PARTS, Squares, SumParts};
use super::machine::Element;
use super::memory::Tensor;
use super::model::Model;
use crate::error::Result;
use crate::model::adamw::Update;

impl Model {
    /// Clips and updates; then waits, once, for the sum of the losses and the norm of the gradient before clipping. Where one
    /// of them is NaN or infinite, nothing has changed.
    ///
    /// # Errors
    /// When the machine's memory does not suffice.
    pub(super) fn adamw(&mut self, update: &Update) -> Result<(f64, f64)> {
        let (gpu, params) = (&self.gpu, &mut self.params);
        let count = params.count;
        if params.moments.is_none() {
            params.moments = Some((gpu.arena.zeros(Element::F32, count)?, gpu.arena.zeros(Element::F32, count)?));
        }
        let (Some(g), Some((m, v))) = (&params.g, &params.moments) else { return Ok((0.0, 0.0)) };
        let parts = gpu.arena.alloc(Element::F64, SQUARES_PARTS)?;
        let (parts, totals, g, count) = (parts.all(), self.totals.all(), g.all(), count as u64);
        Squares { values: g, parts, count }.launch(gpu)?;
        SumParts { parts, totals, which: 1, count: SQUARES_PARTS }.launch(gpu)?;
        let Update { step, decay, beta1, beta2, root2, eps, max_norm } = *update;
        AdamW {
            p: params.p.all(),
            g,
            m: m.all(),
            v: v.all(),
            working: params.working.as_ref().map(Tensor::all),
            totals,
            count,
            max_norm: max_norm as f32,
            step,
            decay,
            one_minus_beta1: 1.0 - beta1,
            one_minus_beta2: 1.0 - beta2,
            eps,
            root2,
        }
        .launch(gpu)?;
        let [loss, squares] = self.read_totals()?;
        Ok((loss, squares.sqrt()))
    }

    /// The moments: none before the first update.
    ///
    /// # Errors
    /// When the machine does not answer.
    #[allow(clippy::type_complexity)]
    pub(super) fn read_moments(&self) -> Result<Option<(Vec<Vec<f32>>, Vec<Vec<f32>>)>> {
        let Some((m, v)) = &self.params.moments else { return Ok(None) };
        Ok(Some((self.params.read(m)?, self.params.read(v)?)))
    }

    /// Takes moments, as [`read_moments`](Self::read_moments) gives them.
    ///
    /// # Errors
    /// When the machine's memory does not suffice.
    pub(super) fn upload_moments(&mut self, m: &[Vec<f32>], v: &[Vec<f32>]) -> Result<()> {
        let (arena, count) = (&self.gpu.arena, self.params.count);
        let moments = (arena.zeros(Element::F32, count)?, arena.zeros(Element::F32, count)?);
        self.params.write(&moments.0, m)?;
        self.params.write(&moments.1, v)?;
        self.params.moments = Some(moments);
        Ok(())
    }
}
