//! RMSNorm and LayerNorm over rows.

use super::kernels::{GroupLayout, NormBackward, NormForward, NormWeights};
use super::memory::{Span, Tensor};
use super::ops::Gpu;
use super::weights::{Ctx, Vector};
use crate::error::Result;
use crate::model::decoder::NormWeights as Weights;

/// Groups of rows that are normalized by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    pub rows: usize,
    /// Groups of a row.
    pub many: usize,
    /// From row to row.
    pub stride: usize,
    /// From group to group.
    pub step: usize,
}

#[derive(Debug)]
pub struct Norm {
    pub(super) weight: Vector,
    /// Scales of the other copies, where each has a tensor of its own.
    others: Vec<Vector>,
    /// Values that are normalized together.
    width: usize,
    bias: Option<Vector>,
    centred: bool,
    pub(super) eps: f32,
}

impl Norm {
    pub(super) fn upload(gpu: &Gpu, weights: &Weights) -> Result<Self> {
        let (width, centred, eps) = (weights.spec.width, weights.is_centred(), weights.spec.eps);
        let all = if weights.others.is_empty() { width * weights.spec.copies } else { width };
        let bias = weights.bias.as_ref().map(|bias| Vector::upload(gpu, bias, all)).transpose()?;
        let others = weights.others.iter().map(|other| Vector::upload(gpu, other, width)).collect::<Result<_>>()?;
        Ok(Self { weight: Vector::upload(gpu, &weights.weight, all)?, others, width, bias, centred, eps })
    }

    /// The vector that has the scales of a copy, and the first of them.
    fn scales(&self, copy: usize) -> (&Vector, usize) {
        match copy.checked_sub(1).and_then(|other| self.others.get(other)) {
            Some(other) => (other, 0),
            None => (&self.weight, if self.others.is_empty() { copy * self.width } else { 0 }),
        }
    }

    /// One group a row.
    fn rows(&self, x: Span) -> GroupLayout {
        let width = self.width;
        GroupLayout { rows: x.len() / width, many: 1, width, stride: width, step: 0 }
    }

    /// Of rows as wide as the weights.
    pub(in crate::model) fn forward(&self, run: Ctx, x: Span) -> Result<Tensor> {
        let y = run.gpu.alloc(x.len())?;
        self.write(run, 0, x, y.all(), self.rows(x))?;
        Ok(y)
    }

    fn write(&self, run: Ctx, copy: usize, x: Span, y: Span, groups: GroupLayout) -> Result<()> {
        let (centred, eps) = (self.centred, self.eps);
        let (scales, first) = self.scales(copy);
        let (weight, plus) = scales.values(run.params);
        let weight = weight.from(first).first(self.width);
        let bias = self.bias.as_ref().map(|bias| bias.values(run.params).0);
        NormForward { x, weight, bias, y, groups, centred, plus, eps }.launch(run.gpu)
    }

    /// Of groups of rows, `x` and `y` laid out alike from their first group on.
    pub(in crate::model) fn forward_parts(&self, run: Ctx, copy: usize, x: Span, y: Span, parts: Parts) -> Result<()> {
        self.write(run, copy, x, y, self.groups(parts))
    }

    fn groups(&self, Parts { rows, many, stride, step }: Parts) -> GroupLayout {
        GroupLayout { rows, many, width: self.width, stride, step }
    }

    /// `dx = keep·dx + …`, and the gradients of the norm itself where it is trained.
    pub(in crate::model) fn backward(&self, run: Ctx, x: &Tensor, dy: &Tensor, dx: &Tensor, keep: bool) -> Result<()> {
        let (x, dy, dx) = (x.all(), dy.all(), dx.all());
        self.back(run, 0, (x, Some(dy), dx), keep, self.rows(x))
    }

    /// The way back of [`forward_parts`](Self::forward_parts): the gradient by what came out, in `d`, becomes the one by what went in.
    pub(in crate::model) fn backward_parts(&self, run: Ctx, copy: usize, x: Span, d: Span, parts: Parts) -> Result<()> {
        let groups = self.groups(parts);
        // What sums over rows reads the gradient as it was.
        let dy = if self.is_trained() { Some(run.gpu.copy_of(d)?) } else { None };
        self.back(run, copy, (x, dy.as_ref().map(Tensor::all), d), false, groups)
    }

    fn is_trained(&self) -> bool {
        self.weight.trained().or_else(|| self.bias.as_ref().and_then(Vector::trained)).is_some()
    }

    fn back(
        &self,
        run: Ctx,
        copy: usize,
        (x, dy, dx): (Span, Option<Span>, Span),
        keep: bool,
        groups: GroupLayout,
    ) -> Result<()> {
        let (gpu, centred, eps) = (run.gpu, self.centred, self.eps);
        let (scales, first) = self.scales(copy);
        let (weight, plus) = scales.values(run.params);
        let weight = weight.from(first).first(self.width);
        let of =
            |vector: Option<&Vector>| vector.and_then(Vector::trained).and_then(|number| run.params.gradient(number));
        let dw = of(Some(scales)).map(|dw| dw.from(first).first(self.width));
        let db = of(self.bias.as_ref());
        let GroupLayout { rows, many, stride, step, .. } = groups;
        let stats = if dw.is_some() { Some(gpu.alloc_f32(2 * rows * many)?) } else { None };
        let stats = stats.as_ref().map(Tensor::all);
        NormBackward { x, weight, dy, dx, stats, groups, centred, keep, plus, eps }.launch(gpu)?;
        if let (Some(dw), Some(stats), Some(dy)) = (dw, stats, dy) {
            NormWeights { x, dy, stats, dw, groups }.launch(gpu)?;
        }
        if let (Some(db), Some(dy)) = (db, dy) {
            for group in 0..many {
                gpu.add_column_sums(db, dy.from(group * step), rows, stride)?;
            }
        }
        Ok(())
    }
}
