//! Kernels of mixers with a state, described as those of [`super::kernels`]: convolution, recurrence, gate and norm. Their source is
//! `kernels_state.cu` and `kernels_state.wgsl`.
//!
//! A recurrence goes row by row, a workgroup for each sequence and value head; the state that every [`STATE_ROWS`]th row begins with is kept for
//! the way back, which goes through those rows once more.

use super::describe::{Access, BufferParam, Kernel, ParamElement, Record, kernels, records, span_type};
use super::kernels::{STATE_DIM_MAX, STATE_ROWS};
use super::launch::{Bind, Check, Scalar, Size, each, per_row, strided};
use super::machine::Groups;
use super::memory::Span;
use super::ops::Gpu;
use crate::error::Result;

records! { STATE_RECORDS;
    /// A causal convolution of some channels.
    ConvLayout = conv_layout {
        rows,
        channels,
        kernel,
        /// From row to row, of what goes in and of what comes out.
        stride,
        out_stride,
        /// Rows of a sequence.
        seq,
    }

    /// A recurrence over rows `[… q … k … v …]`.
    ScanLayout = scan_layout {
        sequences,
        seq,
        key_heads,
        value_heads,
        key_dim,
        value_dim,
        /// From row to row, and the first column of queries, keys and values.
        stride,
        q,
        k,
        v,
        /// 1 with the delta rule.
        delta,
    }
}

impl ConvLayout<Size> {
    fn values(&self) -> Size {
        strided(self.rows, self.channels, self.stride)
    }

    fn given(&self) -> Size {
        strided(self.rows, self.channels, self.out_stride)
    }

    fn count(&self) -> Size {
        self.rows * self.channels
    }

    fn fits(&self) -> bool {
        self.seq > 0 && self.kernel > 0 && self.channels <= self.stride.0 && self.channels <= self.out_stride.0
    }
}

impl ScanLayout<Size> {
    fn rows(&self) -> Size {
        self.sequences * self.seq
    }

    fn heads(&self) -> Size {
        self.sequences * self.value_heads
    }

    fn state(&self) -> Size {
        self.key_dim * self.value_dim
    }

    fn values(&self) -> Size {
        let keys = |first: Size| first + self.key_heads * self.key_dim;
        let values = self.v + self.value_heads * self.value_dim;
        strided(self.rows(), keys(self.q).max(keys(self.k)).max(values), self.stride)
    }

    fn width(&self) -> Size {
        self.value_heads * self.value_dim
    }

    fn kept(&self) -> Size {
        self.heads() * self.seq.div_ceil(STATE_ROWS) * self.state()
    }

    fn fits(&self) -> bool {
        self.value_heads % self.key_heads == 0 && self.key_dim <= STATE_DIM_MAX && self.value_dim <= STATE_DIM_MAX
    }
}

kernels! { STATE;
    /// `to = a ∘ b`, columns of rows at distances of their own.
    MultiplyColumns = multiply_columns(rows: usize, width: usize, a_stride: usize, b_stride: usize, to_stride: usize) {
        a: read Compute[strided(rows, width, a_stride)],
        b: read Compute[strided(rows, width, b_stride)],
        to: update Compute[strided(rows, width, to_stride)],
    } over [each(rows * width)];

    /// `out = pre` or `silu(pre)`, `pre_t = bias + Σ w_j ∘ x_(t − kernel + 1 + j)` within a row of data; `before` are the rows before the first.
    ConvForward = conv_forward(conv: ConvLayout, silu: bool) {
        x: read Compute[conv.values()],
        weight: read F32[conv.channels * conv.kernel],
        bias: read F32[conv.channels] or none,
        before: read Compute[(conv.kernel - 1) * conv.out_stride] or none,
        starts: read I32[conv.rows] or none,
        out: update Compute[conv.given()],
    } over [each(conv.count())] where [conv.fits()];

    /// `d *= silu'(pre)`.
    ConvSlopes = conv_slopes(conv: ConvLayout) {
        x: read Compute[conv.values()],
        weight: read F32[conv.channels * conv.kernel],
        bias: read F32[conv.channels] or none,
        starts: read I32[conv.rows] or none,
        d: update Compute[conv.given()],
    } over [each(conv.count())] where [conv.fits()];

    /// `dx = Σ w_j ∘ d_(t + kernel − 1 − j)` within a row of data.
    ConvBackward = conv_backward(conv: ConvLayout) {
        weight: read F32[conv.channels * conv.kernel],
        starts: read I32[conv.rows] or none,
        d: read Compute[conv.given()],
        dx: update Compute[conv.values()],
    } over [each(conv.count())] where [conv.fits()];

    /// `dw += Σ d_t ∘ x_(t − kernel + 1 + j)`, a workgroup for each channel and j.
    ConvWeights = conv_weights(conv: ConvLayout) {
        x: read Compute[conv.values()],
        starts: read I32[conv.rows] or none,
        d: read Compute[conv.given()],
        dw: update F32[conv.channels * conv.kernel],
    } over [per_row(conv.channels * conv.kernel, conv.rows)] where [conv.fits()];

    /// g and f of every row and value head, from the last columns of rows of `stride`.
    ScanFactors = scan_factors(
        rows: usize, heads: usize, stride: usize, delta: bool, beta: f32, least: f32, most: f32
    ) {
        x: read Compute[rows * stride],
        a_log: read F32[heads],
        dt_bias: read F32[heads],
        factors: write F32[rows * heads * 2],
    } over [each(rows * heads)] where [heads * if delta { 2 } else { 1 } <= stride];

    /// The way back: into the last columns of `d_rows`, and per row what the gradients of the vectors are sums of, `[by A_log | by dt_bias]`.
    ScanFactorsBackward = scan_factors_backward(
        rows: usize, heads: usize, stride: usize, delta: bool, beta: f32, least: f32, most: f32
    ) {
        x: read Compute[rows * stride],
        a_log: read F32[heads],
        dt_bias: read F32[heads],
        d: update F32[rows * heads * 2],
        d_rows: update Compute[rows * stride],
    } over [each(rows * heads)] where [heads * if delta { 2 } else { 1 } <= stride];

    /// `sums += Σ` of columns of `f32` rows, a workgroup a column.
    SumFloats = sum_floats(rows: usize, width: usize, stride: usize) {
        x: read F32[strided(rows, width, stride)],
        sums: update F32[width],
    } over [per_row(width, rows)];

    /// The recurrence. `running` holds the states that sequences end with, and with `resume` those that they begin with; `skip ∘ v` is added.
    ScanForward = scan_forward(scan: ScanLayout, resume: bool) {
        x: read Compute[scan.values()],
        factors: read F32[scan.rows() * scan.value_heads * 2],
        skip: read F32[scan.value_heads] or none,
        starts: read I32[scan.rows()] or none,
        running: update F32[scan.heads() * scan.state()],
        kept: update F32[scan.kept()] or none,
        y: update Compute[scan.rows() * scan.width()],
    } over [per_row(scan.heads(), scan.value_dim)] where [scan.fits()];

    /// The way back: by values into `dx`, by g and f into `d_factors`, by queries and keys, of each value head, into `d_keys`.
    ScanBackward = scan_backward(scan: ScanLayout) {
        x: read Compute[scan.values()],
        factors: read F32[scan.rows() * scan.value_heads * 2],
        skip: read F32[scan.value_heads] or none,
        starts: read I32[scan.rows()] or none,
        kept: read F32[scan.kept()],
        dy: read Compute[scan.rows() * scan.width()],
        states: update F32[scan.heads() * STATE_ROWS * scan.state()],
        d_state: update F32[scan.heads() * scan.state()],
        dx: update Compute[scan.values()],
        d_factors: update F32[scan.rows() * scan.value_heads * 2],
        d_keys: update F32[scan.rows() * scan.value_heads * scan.key_dim * 2],
    } over [per_row(scan.heads(), scan.value_dim)] where [scan.fits()];

    /// Gradients by queries and keys, added up over the value heads of each and taken back through their norm.
    ScanKeysBackward = scan_keys_backward(scan: ScanLayout) {
        x: read Compute[scan.values()],
        d_keys: read F32[scan.rows() * scan.value_heads * scan.key_dim * 2],
        dx: update Compute[scan.values()],
    } over [per_row(scan.rows() * scan.key_heads * 2, scan.key_dim)] where [scan.fits()];

    /// `Σ d ∘ x` over a value head's columns, for the gradient of what skips the recurrence.
    SkipSums = skip_sums(scan: ScanLayout) {
        x: read Compute[scan.values()],
        d: read Compute[scan.rows() * scan.width()],
        sums: update F32[scan.value_heads],
    } over [per_row(scan.value_heads, scan.rows())] where [scan.fits()];

    /// `norm(y) ∘ silu(z)` with `norm_first`, else `norm(y ∘ silu(z))`; without weights the norm is left out.
    GatedForward = gated_forward(
        rows: usize, width: usize, stride: usize, group: usize, scales: usize, norm_first: bool, eps: f32
    ) {
        y: read Compute[rows * width],
        z: read Compute[strided(rows, width, stride)],
        weight: read F32[scales] or none,
        out: update Compute[rows * width],
    } over [per_row(rows * width.div_ceil(group), group)] where [width % group == 0; scales == group.0 || scales == width.0];

    /// The way back: `d` becomes the gradient by y, `dz` gets the one by z; `products` what the weight's gradient is a sum of.
    GatedBackward = gated_backward(
        rows: usize, width: usize, stride: usize, group: usize, scales: usize, norm_first: bool, eps: f32
    ) {
        y: read Compute[rows * width],
        z: read Compute[strided(rows, width, stride)],
        weight: read F32[scales] or none,
        d: update Compute[rows * width],
        dz: update Compute[strided(rows, width, stride)],
        products: update Compute[rows * width] or none,
    } over [per_row(rows * width.div_ceil(group), group)] where [width % group == 0; scales == group.0 || scales == width.0];
}
