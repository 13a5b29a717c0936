//! [`Gpu`]'s operations of mixers with a state: the counterparts of [`crate::model::ops`]' `conv`, `scan` and `gated`.

use super::kernels::STATE_ROWS;
use super::kernels_state as kernel;
use super::kernels_state::{ConvLayout, ScanLayout};
use super::memory::{Span, Tensor};
use super::ops::Gpu;
use crate::error::Result;
use crate::model::ops::scan::Scan;

/// A head's query, key and value are no wider.
pub(super) const WIDEST_STATE: usize = super::kernels::STATE_DIM_MAX;

/// Some channels of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Channels<'a> {
    /// `[channels, kernel]`.
    pub weight: Span<'a>,
    pub bias: Option<Span<'a>>,
    pub kernel: usize,
    /// From row to row of what goes in, and of what comes out.
    pub stride: usize,
    pub out_stride: usize,
    pub rows: usize,
    pub seq: usize,
    pub starts: Option<Span<'a>>,
}

impl Channels<'_> {
    fn layout(&self) -> ConvLayout {
        let Self { kernel, stride, out_stride, rows, seq, .. } = *self;
        ConvLayout { rows, channels: self.weight.len() / kernel, kernel, stride, out_stride, seq }
    }
}

/// What g and f of a recurrence come from.
#[derive(Clone, Copy, Debug)]
pub struct FactorsOf<'a> {
    pub a_log: Span<'a>,
    pub dt_bias: Span<'a>,
    /// Columns of a row that has them last.
    pub stride: usize,
    pub delta: bool,
    pub beta: f32,
    /// Smallest and largest Δ.
    pub limit: [f32; 2],
}

/// A recurrence over sequences.
#[derive(Clone, Copy, Debug)]
pub struct Scanning<'a> {
    pub scan: Scan,
    pub sequences: usize,
    pub seq: usize,
    pub starts: Option<Span<'a>>,
    /// Multiplies values that are added to what comes out.
    pub skip: Option<Span<'a>>,
}

impl Scanning<'_> {
    fn layout(&self) -> ScanLayout {
        let Scan { key_heads, value_heads, key_dim, value_dim, stride, at: [q, k, v], delta, .. } = self.scan;
        let (sequences, seq, delta) = (self.sequences, self.seq, usize::from(delta));
        ScanLayout { sequences, seq, key_heads, value_heads, key_dim, value_dim, stride, q, k, v, delta }
    }

    fn rows(&self) -> usize {
        self.sequences * self.seq
    }
}

/// A gate and a norm of groups.
#[derive(Clone, Copy, Debug)]
pub struct Gating<'a> {
    /// Scales, of a group or of a row; without them there is no norm.
    pub weight: Option<Span<'a>>,
    pub rows: usize,
    pub width: usize,
    /// From row to row of the gate.
    pub stride: usize,
    pub group: usize,
    pub norm_first: bool,
    pub eps: f32,
}

impl Gpu {
    /// `to = a ∘ b`, columns of rows that are so far apart.
    pub(in crate::model) fn multiply_columns(
        &self,
        (a, a_stride): (Span, usize),
        (b, b_stride): (Span, usize),
        (to, to_stride): (Span, usize),
        rows: usize,
        width: usize,
    ) -> Result<()> {
        kernel::MultiplyColumns { a, b, to, rows, width, a_stride, b_stride, to_stride }.launch(self)
    }

    /// A convolution of some channels; `before` are those of the rows before the first.
    pub(in crate::model) fn conv(
        &self,
        of: Channels,
        x: Span,
        before: Option<Span>,
        silu: bool,
        out: Span,
    ) -> Result<()> {
        let Channels { weight, bias, starts, .. } = of;
        kernel::ConvForward { x, weight, bias, before, starts, out, conv: of.layout(), silu }.launch(self)
    }

    /// `d` becomes the gradient by what goes into the nonlinearity.
    pub(in crate::model) fn conv_slopes(&self, of: Channels, x: Span, d: Span) -> Result<()> {
        let Channels { weight, bias, starts, .. } = of;
        kernel::ConvSlopes { x, weight, bias, starts, d, conv: of.layout() }.launch(self)
    }

    /// The gradient by the input, and added to that of the weights where they are trained.
    pub(in crate::model) fn conv_backward(
        &self,
        of: Channels,
        x: Span,
        d: Span,
        dx: Span,
        dw: Option<Span>,
    ) -> Result<()> {
        let Channels { weight, starts, .. } = of;
        kernel::ConvBackward { weight, starts, d, dx, conv: of.layout() }.launch(self)?;
        match dw {
            Some(dw) => kernel::ConvWeights { x, starts, d, dw, conv: of.layout() }.launch(self),
            None => Ok(()),
        }
    }

    /// g and f, `[rows, g | f]`.
    pub(in crate::model) fn scan_factors(&self, of: FactorsOf, x: &Tensor) -> Result<Tensor> {
        let FactorsOf { a_log, dt_bias, stride, delta, beta, limit: [least, most] } = of;
        let (rows, heads, x) = (x.len() / stride, a_log.len(), x.all());
        let to = self.alloc_f32(rows * 2 * heads)?;
        let factors = to.all();
        kernel::ScanFactors { x, a_log, dt_bias, factors, rows, heads, stride, delta, beta, least, most }
            .launch(self)?;
        Ok(to)
    }

    /// The way back: `d` becomes what the gradients of A_log and dt_bias are sums of.
    pub(in crate::model) fn scan_factors_backward(
        &self,
        of: FactorsOf,
        x: &Tensor,
        d: &Tensor,
        d_rows: &Tensor,
    ) -> Result<()> {
        let FactorsOf { a_log, dt_bias, stride, delta, beta, limit: [least, most] } = of;
        let (rows, heads) = (x.len() / stride, a_log.len());
        let (x, d, d_rows) = (x.all(), d.all(), d_rows.all());
        kernel::ScanFactorsBackward { x, a_log, dt_bias, d, d_rows, rows, heads, stride, delta, beta, least, most }
            .launch(self)
    }

    /// `sums += Σ` of columns of rows of `f32`.
    pub(in crate::model) fn sum_floats(&self, x: Span, stride: usize, rows: usize, sums: Span) -> Result<()> {
        kernel::SumFloats { x, sums, rows, width: sums.len(), stride }.launch(self)
    }

    /// What the recurrence gives, and the states that it keeps for the way back; `running` are the states that sequences begin with and
    /// become those that they end with.
    pub(in crate::model) fn scan(
        &self,
        of: Scanning,
        x: &Tensor,
        factors: &Tensor,
        running: Option<&Tensor>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (scan, layout) = (of.scan, of.layout());
        let size = of.sequences * scan.state();
        let y = self.alloc(of.rows() * scan.width())?;
        let (kept, own) = match running {
            Some(_) => (None, None),
            None => (Some(self.alloc_f32(size * of.seq.div_ceil(STATE_ROWS))?), Some(self.alloc_f32(size)?)),
        };
        if let Some(states) = running.or(own.as_ref()) {
            kernel::ScanForward {
                x: x.all(),
                factors: factors.all(),
                skip: of.skip,
                starts: of.starts,
                running: states.all(),
                kept: kept.as_ref().map(Tensor::all),
                y: y.all(),
                scan: layout,
                resume: running.is_some(),
            }
            .launch(self)?;
        }
        Ok((y, kept))
    }

    /// The gradients by rows, into the columns of `dx` where they have them, and by g and f.
    pub(in crate::model) fn scan_backward(
        &self,
        of: Scanning,
        x: &Tensor,
        factors: &Tensor,
        kept: &Tensor,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<Tensor> {
        let (scan, layout) = (of.scan, of.layout());
        let size = of.sequences * scan.state();
        let d_factors = self.alloc_f32(factors.len())?;
        let (states, d_state) = (self.alloc_f32(size * STATE_ROWS)?, self.alloc_f32(size)?);
        let d_keys = self.alloc_f32(of.rows() * scan.value_heads * 2 * scan.key_dim)?;
        kernel::ScanBackward {
            x: x.all(),
            factors: factors.all(),
            skip: of.skip,
            starts: of.starts,
            kept: kept.all(),
            dy: dy.all(),
            states: states.all(),
            d_state: d_state.all(),
            dx: dx.all(),
            d_factors: d_factors.all(),
            d_keys: d_keys.all(),
            scan: layout,
        }
        .launch(self)?;
        kernel::ScanKeysBackward { x: x.all(), d_keys: d_keys.all(), dx: dx.all(), scan: layout }.launch(self)?;
        Ok(d_factors)
    }

    /// `sums += Σ d ∘ v` of each value head.
    pub(in crate::model) fn skip_sums(&self, of: Scanning, x: &Tensor, d: &Tensor, sums: Span) -> Result<()> {
        kernel::SkipSums { x: x.all(), d: d.all(), sums, scan: of.layout() }.launch(self)
    }

    /// Through gate and norm.
    pub(in crate::model) fn gated(&self, of: Gating, y: &Tensor, z: Span) -> Result<Tensor> {
        let Gating { weight, rows, width, stride, group, norm_first, eps } = of;
        let (out, scales) = (self.alloc(rows * width)?, weight.map_or(group, |weight| weight.len()));
        let (y, to) = (y.all(), out.all());
        kernel::GatedForward { y, z, weight, out: to, rows, width, stride, group, scales, norm_first, eps }
            .launch(self)?;
        Ok(out)
    }

    /// `d` becomes the gradient by y, `dz` gets the one by z; that of the weight is added to `dw`.
    pub(in crate::model) fn gated_backward(
        &self,
        of: Gating,
        y: &Tensor,
        z: Span,
        d: &Tensor,
        dz: Span,
        dw: Option<Span>,
    ) -> Result<()> {
        let Gating { weight, rows, width, stride, group, norm_first, eps } = of;
        let scales = weight.map_or(group, |weight| weight.len());
        let made = if dw.is_some() { Some(self.alloc(rows * width)?) } else { None };
        let (y, d, products) = (y.all(), d.all(), made.as_ref().map(Tensor::all));
        kernel::GatedBackward { y, z, weight, d, dz, products, rows, width, stride, group, scales, norm_first, eps }
            .launch(self)?;
        match (dw, products) {
            (Some(dw), Some(products)) => self.add_column_sums(dw, products, rows * width / scales, scales),
            _ => Ok(()),
        }
    }

    /// Columns of rows times `m`, by themselves.
    pub(in crate::model) fn scale_columns_by(&self, x: &Tensor, m: Span) -> Result<Tensor> {
        let (rows, stride) = (x.len() / m.len(), m.len());
        self.scaled_columns((x.all(), stride), rows, m, None)
    }
}
