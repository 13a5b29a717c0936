//! RMSNorm and LayerNorm over rows.

use super::kernels::{NormBackward, NormForward, NormWeights};
use super::memory::{Span, Tensor};
use super::ops::Gpu;
use super::weights::{Ctx, Vector};
use crate::error::Result;
use crate::model::decoder::NormWeights as Weights;

#[derive(Debug)]
pub struct Norm {
    pub(super) weight: Vector,
    bias: Option<Vector>,
    centred: bool,
    pub(super) eps: f32,
}

impl Norm {
    pub(super) fn upload(gpu: &Gpu, weights: &Weights) -> Result<Self> {
        let (width, centred, eps) = (weights.spec.width, weights.is_centred(), weights.spec.eps);
        let bias = weights.bias.as_ref().map(|bias| Vector::upload(gpu, bias, width)).transpose()?;
        Ok(Self { weight: Vector::upload(gpu, &weights.weight, width)?, bias, centred, eps })
    }

    /// Of rows as wide as the weights.
    pub(in crate::model) fn forward(&self, run: Ctx, x: Span) -> Result<Tensor> {
        let (gpu, centred, eps) = (run.gpu, self.centred, self.eps);
        let (weight, plus) = self.weight.values(run.params);
        let bias = self.bias.as_ref().map(|bias| bias.values(run.params).0);
        let (width, rows) = (weight.len(), x.len() / weight.len());
        let y = gpu.alloc(x.len())?;
        NormForward { x, weight, bias, y: y.all(), rows, width, centred, plus, eps }.launch(gpu)?;
        Ok(y)
    }

    /// `dx = keep·dx + …`, and the gradients of the norm itself where it is trained.
    pub(in crate::model) fn backward(&self, run: Ctx, x: &Tensor, dy: &Tensor, dx: &Tensor, keep: bool) -> Result<()> {
        let (gpu, centred, eps) = (run.gpu, self.centred, self.eps);
        let (weight, plus) = self.weight.values(run.params);
        let (width, rows) = (weight.len(), x.len() / weight.len());
        let of =
            |vector: Option<&Vector>| vector.and_then(Vector::trained).and_then(|number| run.params.gradient(number));
        let (dw, db) = (of(Some(&self.weight)), of(self.bias.as_ref()));
        let stats = if dw.is_some() { Some(gpu.alloc_f32(2 * rows)?) } else { None };
        let stats = stats.as_ref().map(Tensor::all);
        let (x, dy, dx) = (x.all(), dy.all(), dx.all());
        NormBackward { x, weight, dy, dx, stats, rows, width, centred, keep, plus, eps }.launch(gpu)?;
        if let (Some(dw), Some(stats)) = (dw, stats) {
            NormWeights { x, dy, stats, dw, rows, width }.launch(gpu)?;
        }
        match db {
            Some(db) => gpu.add_column_sums(db, dy, rows, width),
            None => Ok(()),
        }
    }
}
