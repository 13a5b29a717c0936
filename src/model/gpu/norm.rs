//! RMSNorm and LayerNorm over rows.

use super::linear::Run;
use super::machine::Groups;
use super::memory::{Span, Tensor};
use super::ops::Gpu;
use super::weights::Vector;
use crate::error::Result;
use crate::model::decoder::NormWeights;

#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vector,
    bias: Option<Vector>,
    centred: bool,
    pub(super) eps: f32,
}

impl Norm {
    pub(super) fn put(gpu: &Gpu, weights: &NormWeights) -> Result<Self> {
        let bias = weights.bias.as_ref().map(|bias| Vector::put(gpu, bias)).transpose()?;
        let (centred, eps) = (weights.is_centred(), weights.spec.eps);
        Ok(Self { weight: Vector::put(gpu, &weights.weight)?, bias, centred, eps })
    }

    /// Of rows as wide as the weights.
    pub(super) fn forward(&self, run: Run, x: Span) -> Result<Tensor> {
        let gpu = run.gpu;
        let (weight, plus) = self.weight.values(run.arena);
        let (width, rows) = (weight.count, x.count / weight.count);
        let y = gpu.take(x.count)?;
        let bias = self.bias.as_ref().map_or(0, |bias| bias.values(run.arena).0.address);
        let pointers = [gpu.reals(x, rows * width), weight.address, bias, y.all().address];
        gpu.run(
            "norm_forward",
            Groups::of_rows(rows, width),
            &pointers,
            &[width, usize::from(self.centred)],
            &[plus, self.eps],
            &[],
        )?;
        Ok(y)
    }

    /// `dx = keep·dx + …`, and the gradients of the norm itself where it is trained.
    pub(super) fn backward(&self, run: Run, x: &Tensor, dy: &Tensor, dx: &Tensor, keep: bool) -> Result<()> {
        let gpu = run.gpu;
        let (weight, plus) = self.weight.values(run.arena);
        let (width, rows) = (weight.count, x.len() / weight.count);
        let of =
            |vector: Option<&Vector>| vector.and_then(Vector::trained).and_then(|number| run.arena.gradient(number));
        let (dw, db) = (of(Some(&self.weight)), of(self.bias.as_ref()));
        let stats = if dw.is_some() { Some(gpu.floats(2 * rows)?) } else { None };
        let stats = stats.as_ref().map_or(0, |stats| stats.all().address);
        let count = rows * width;
        let [x, dy, dx] = [x, dy, dx].map(|tensor| gpu.reals(tensor.all(), count));
        let numbers = [width, usize::from(self.centred), usize::from(keep)];
        gpu.run(
            "norm_backward",
            Groups::of_rows(rows, width),
            &[x, weight.address, dy, dx, stats],
            &numbers,
            &[plus, self.eps],
            &[],
        )?;
        if let Some(dw) = dw {
            let pointers = [x, dy, stats, gpu.singles(dw, width)];
            gpu.run("norm_weights", width.div_ceil(32), &pointers, &[rows, width], &[], &[])?;
        }
        match db {
            Some(db) => gpu.run("column_sums", width.div_ceil(32), &[dy, db.address], &[rows, width, width], &[], &[]),
            None => Ok(()),
        }
    }
}
