//! [`Gpu`]'s operations over rows that only some families need: the counterparts of [`crate::model::ops`]' `heads`, `latent`, `experts` and
//! `magnitude`.

use super::attention::Angles;
use super::kernels::{AddBias, ColumnSums};
use super::kernels_rows as kernel;
use super::memory::{Span, Tensor};
use super::ops::Gpu;
use crate::error::Result;
use crate::model::backend::Cols;
use crate::spec::QueryScaling;

/// Parts of rows: how far rows are apart, and parts of a row.
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    pub stride: usize,
    pub step: usize,
}

impl Apart {
    /// One part a row.
    pub fn rows(stride: usize) -> Self {
        Self { stride, step: 0 }
    }
}

/// Where rows are in their sequences.
#[derive(Clone, Copy, Debug)]
pub struct Positions<'a> {
    /// Rows of a sequence.
    pub seq: usize,
    /// Position of its first.
    pub first: usize,
    /// Where rows of data begin in their sequence.
    pub starts: Option<&'a Tensor>,
}

/// Heads of rows that turn.
#[derive(Clone, Copy, Debug)]
pub struct Turning {
    pub rows: usize,
    pub heads: usize,
    pub apart: Apart,
    /// The way back.
    pub back: bool,
}

impl Gpu {
    /// Copies `parts` parts of `width` values of each row, or adds them.
    pub(in crate::model) fn copy_parts(
        &self,
        (from, at): (Span, Apart),
        (to, to_at): (Span, Apart),
        [rows, parts, width]: [usize; 3],
        add: bool,
    ) -> Result<()> {
        let (Apart { stride, step }, Apart { stride: to_stride, step: to_step }) = (at, to_at);
        kernel::CopyColumns { from, to, rows, parts, width, stride, step, to_stride, to_step, add }.launch(self)
    }

    /// `width` columns of rows, by themselves.
    pub(in crate::model) fn columns(&self, x: &Tensor, rows: usize, at: Cols, width: usize) -> Result<Tensor> {
        let to = self.alloc(rows * width)?;
        let from = (x.from(at.first), Apart::rows(at.stride));
        self.copy_parts(from, (to.all(), Apart::rows(width)), [rows, 1, width], false)?;
        Ok(to)
    }

    /// The sum of the parts of each row.
    pub(in crate::model) fn fold_parts(
        &self,
        (from, Apart { stride, step }): (Span, Apart),
        to: Span,
        to_stride: usize,
        [rows, parts, width]: [usize; 3],
    ) -> Result<()> {
        kernel::FoldColumns { from, to, rows, parts, width, stride, step, to_stride }.launch(self)
    }

    /// A weight that is kept in whatever way, as activations are.
    pub(in crate::model) fn copy_weight(&self, from: Span, to: Span) -> Result<()> {
        kernel::CopyWeight { from, to, count: from.len() as u64 }.launch(self)
    }

    pub(in crate::model) fn clip(&self, to: &Tensor, bound: f32) -> Result<()> {
        kernel::Clip { to: to.all(), count: to.len() as u64, bound }.launch(self)
    }

    /// The gradient by what was clipped.
    pub(in crate::model) fn clip_backward(&self, raw: &Tensor, d: &Tensor, bound: f32) -> Result<()> {
        kernel::ClipBackward { raw: raw.all(), d: d.all(), count: d.len() as u64, bound }.launch(self)
    }

    /// Turns pairs by their position; `x` begins at the first value that turns.
    pub(in crate::model) fn turn(&self, x: Span, of: Turning, at: Positions, angles: &Angles) -> Result<()> {
        let (cosines, sines, half, interleaved) = angles.tables();
        let Turning { rows, heads, apart: Apart { stride, step }, back } = of;
        let (positions, starts) = (cosines.len() / half.max(1), at.starts.map(Tensor::all));
        let (seq, first, sign) = (at.seq, at.first, if back { -1.0 } else { 1.0 });
        kernel::Turn {
            x,
            cosines,
            sines,
            starts,
            rows,
            heads,
            seq,
            first,
            stride,
            step,
            half,
            interleaved,
            positions,
            sign,
        }
        .launch(self)
    }

    /// Multiplies the first `width` columns of rows by what their position says.
    pub(in crate::model) fn scale_queries(
        &self,
        x: &Tensor,
        [width, stride]: [usize; 2],
        at: Positions,
        QueryScaling { beta, original, shift }: QueryScaling,
    ) -> Result<()> {
        let (rows, starts) = (x.len() / stride, at.starts.map(Tensor::all));
        let (seq, first) = (at.seq, at.first);
        kernel::ScaleQueries { x: x.all(), starts, rows, width, stride, seq, first, shift, original, beta }.launch(self)
    }

    /// `x · sigmoid(gate)`, a gate for each value or each row.
    pub(in crate::model) fn gate(&self, x: &Tensor, gate: &Tensor) -> Result<Tensor> {
        let (out, count) = (self.alloc(x.len())?, x.len());
        let width = count / gate.len().max(1);
        kernel::GateForward { x: x.all(), gate: gate.all(), out: out.all(), count, width }.launch(self)?;
        Ok(out)
    }

    /// `d` becomes the gradient by `x`, `gate` the one by itself.
    pub(in crate::model) fn gate_backward(&self, x: &Tensor, gate: &Tensor, d: &Tensor) -> Result<()> {
        let (rows, count) = (gate.len(), x.len());
        let (x, gate, d) = (x.all(), gate.all(), d.all());
        match count / rows.max(1) {
            1 => kernel::GateBackward { x, gate, d, count }.launch(self),
            width => kernel::GateRowsBackward { x, gate, d, rows, width }.launch(self),
        }
    }

    /// `to = keep · to + Σ from` over the rows of each token's choices.
    pub(in crate::model) fn combine(
        &self,
        index: &Tensor,
        from: &Tensor,
        width: usize,
        to: &Tensor,
        keep: bool,
    ) -> Result<()> {
        let (tokens, rows) = (to.len() / width, from.len() / width);
        let chosen = index.len() / tokens.max(1);
        let (index, from, to) = (index.all(), from.all(), to.all());
        kernel::Combine { index, from, to, tokens, chosen, width, rows, keep }.launch(self)
    }

    /// Multiplies rows by `factors / by`.
    pub(in crate::model) fn scale_rows(&self, to: &Tensor, factors: Span, by: Option<Span>) -> Result<()> {
        let rows = factors.len();
        let width = to.len() / rows.max(1);
        kernel::ScaleRows { to: to.all(), factors, by, rows, width }.launch(self)
    }

    /// `dw += Σ d x` of each row, and `d *= weights`.
    pub(in crate::model) fn weigh_backward(&self, x: &Tensor, d: &Tensor, weights: &Tensor, dw: &Tensor) -> Result<()> {
        let rows = weights.len();
        let width = d.len() / rows.max(1);
        let (x, d, weights, dw) = (x.all(), d.all(), weights.all(), dw.all());
        kernel::WeighBackward { x, d, weights, dw, rows, width }.launch(self)
    }

    /// Adds `weights[row] · bias` to rows.
    pub(in crate::model) fn add_weighted_bias(&self, to: Span, bias: Span, weights: Span) -> Result<()> {
        AddBias { to, bias, weights: Some(weights), rows: weights.len(), width: bias.len(), stride: bias.len() }
            .launch(self)
    }

    /// `dw += Σ d bias` of rows.
    pub(in crate::model) fn bias_along(&self, d: Span, bias: Span, dw: Span) -> Result<()> {
        kernel::BiasAlong { d, bias, dw, rows: dw.len(), width: bias.len() }.launch(self)
    }

    /// `sums += Σ weights[row] · x` over rows.
    pub(in crate::model) fn add_weighted_sums(&self, sums: Span, x: Span, weights: Span) -> Result<()> {
        let (rows, width) = (weights.len(), sums.len());
        let weights = Some(weights);
        ColumnSums { x, weights, along: None, by: None, sums, rows, width, stride: width }.launch(self)
    }

    /// `sums[c] += Σ x ∘ along / by[c]` over rows that are `stride` apart in `x`.
    pub(in crate::model) fn add_products(
        &self,
        sums: Span,
        (x, stride): (Span, usize),
        along: &Tensor,
        by: Span,
        rows: usize,
    ) -> Result<()> {
        let (along, by, width) = (Some(along.all()), Some(by), sums.len());
        ColumnSums { x, weights: None, along, by, sums, rows, width, stride }.launch(self)
    }

    /// Norms of rows.
    pub(in crate::model) fn row_norms(&self, x: &Tensor, rows: usize) -> Result<Tensor> {
        let norms = self.alloc_f32(rows)?;
        kernel::RowNorms { x: x.all(), norms: norms.all(), rows, width: x.len() / rows.max(1) }.launch(self)?;
        Ok(norms)
    }

    /// Columns times `m / norms`, by themselves.
    pub(in crate::model) fn scaled_columns(
        &self,
        (from, stride): (Span, usize),
        rows: usize,
        m: Span,
        norms: Option<Span>,
    ) -> Result<Tensor> {
        let width = m.len();
        let out = self.alloc(rows * width)?;
        kernel::ScaleColumns { from, m, norms, out: out.all(), rows, width, stride }.launch(self)?;
        Ok(out)
    }

    /// Columns of rows in another order.
    pub(in crate::model) fn reorder(&self, order: &Tensor, from: &Tensor, back: bool) -> Result<Tensor> {
        let (to, width) = (self.alloc(from.len())?, order.len());
        let rows = from.len() / width;
        kernel::Reorder { order: order.all(), from: from.all(), to: to.all(), rows, width, back }.launch(self)?;
        Ok(to)
    }
}
