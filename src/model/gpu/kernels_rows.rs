//! Kernels over rows that only some families need, described as those of [`super::kernels`]: columns apart and together, what is done to
//! queries and keys beside the common way, gates, experts, magnitudes. Their source is `kernels_rows.cu` and `kernels_rows.wgsl`.

use super::describe::{Access, BufferParam, Kernel, ParamElement, kernels, span_type};
use super::launch::{Bind, Check, Scalar, Size, each, per_row, strided};
use super::machine::Groups;
use super::memory::Span;
use super::ops::Gpu;
use crate::error::Result;

/// Elements of rows that have parts of `width` values `step` apart.
fn parted(rows: Size, parts: Size, width: Size, stride: Size, step: Size) -> Size {
    strided(rows, strided(parts, width, step), stride)
}

kernels! { ROWS;
    /// `to = from` or `to += from`, of parts of rows: `width` values, part after part and row after row at distances of their own.
    CopyColumns = copy_columns(
        rows: usize, parts: usize, width: usize, stride: usize, step: usize, to_stride: usize, to_step: usize, add: bool
    ) {
        from: read Compute[parted(rows, parts, width, stride, step)],
        to: update Compute[parted(rows, parts, width, to_stride, to_step)],
    } over [each(rows * parts * width)];

    /// `to = Σ from` over the parts of each row.
    FoldColumns = fold_columns(rows: usize, parts: usize, width: usize, stride: usize, step: usize, to_stride: usize) {
        from: read Compute[parted(rows, parts, width, stride, step)],
        to: update Compute[strided(rows, width, to_stride)],
    } over [each(rows * width)];

    /// Columns in another order: `to[order[c]] = from[c]` with `back`, else `to[c] = from[order[c]]`.
    Reorder = reorder(rows: usize, width: usize, back: bool) {
        order: read Index(width)[width],
        from: read Compute[rows * width],
        to: update Compute[rows * width],
    } over [each(rows * width)];

    /// A frozen weight as activations are kept.
    CopyWeight = copy_weight(count: u64) {
        from: read Weight[count],
        to: write Compute[count],
    } over [each(count)];

    /// Values are held within ±`bound`.
    Clip = clip(count: u64, bound: f32) {
        to: update Compute[count],
    } over [each(count)];

    /// The gradient by what was clipped: 0 where `raw` was outside.
    ClipBackward = clip_backward(count: u64, bound: f32) {
        raw: read Compute[count],
        d: update Compute[count],
    } over [each(count)];

    /// Pairs of every head are turned by position, or back; `x` begins at the first value of the first head that turns.
    Turn = turn(
        rows: usize, heads: usize, seq: usize, first: usize, stride: usize, step: usize, half: usize, interleaved: bool, positions: usize,
        sign: f32
    ) {
        x: update Compute[parted(rows, heads, half * 2, stride, step)],
        cosines: read F32[positions * half],
        sines: read F32[positions * half],
        starts: read I32[rows] or none,
    } over [each(rows * heads * half)] where [
        seq > 0 && positions > 0;
        starts.is_some() || first + seq <= positions;
        half * 2 <= step || heads <= 1
    ];

    /// The first columns of each row times `1 + beta · ln(1 + ⌊(position + shift) / original⌋)`.
    ScaleQueries = scale_queries(
        rows: usize, width: usize, stride: usize, seq: usize, first: usize, shift: usize, original: usize, beta: f32
    ) {
        x: update Compute[strided(rows, width, stride)],
        starts: read I32[rows] or none,
    } over [each(rows * width)] where [seq > 0 && original > 0];

    /// `d_sinks[h] −= Σ shares` of a block's score rows.
    SinkSums = sink_sums(sequences: usize, kv_heads: usize, rows: usize, group: usize) {
        shares: read F32[sequences * kv_heads * rows * group],
        sums: update F32[kv_heads * group],
    } over [each(kv_heads * group)];

    /// `out = x · sigmoid(gate)`, a gate for every `width` values.
    GateForward = gate_forward(count: usize, width: usize) {
        x: read Compute[count],
        gate: read Compute[count.div_ceil(width)],
        out: write Compute[count],
    } over [each(count)];

    /// Gates of single values: `d` becomes the gradient by x, `gate` the one by itself.
    GateBackward = gate_backward(count: usize) {
        x: read Compute[count],
        gate: update Compute[count],
        d: update Compute[count],
    } over [each(count)];

    /// The same for gates of whole rows.
    GateRowsBackward = gate_rows_backward(rows: usize, width: usize) {
        x: read Compute[rows * width],
        gate: update Compute[rows],
        d: update Compute[rows * width],
    } over [per_row(rows, width)];

    /// `to = keep · to + Σ from` over the rows that a token's choices fell on.
    Combine = combine(tokens: usize, chosen: usize, width: usize, rows: usize, keep: bool) {
        index: read Index(rows)[tokens * chosen],
        from: read Compute[rows * width],
        to: update Compute[tokens * width],
    } over [each(tokens * width)];

    /// Multiplies rows by `factors`, or by `factors / by`.
    ScaleRows = scale_rows(rows: usize, width: usize) {
        to: update Compute[rows * width],
        factors: read F32[rows],
        by: read F32[rows] or none,
    } over [each(rows * width)];

    /// `dw += Σ d x` of each row, and `d *= weights`.
    WeighBackward = weigh_backward(rows: usize, width: usize) {
        x: read Compute[rows * width],
        d: update Compute[rows * width],
        weights: read F32[rows],
        dw: update Compute[rows],
    } over [per_row(rows, width)];

    /// `dw += Σ d bias` of each row.
    BiasAlong = bias_along(rows: usize, width: usize) {
        d: read Compute[rows * width],
        bias: read F32[width],
        dw: update Compute[rows],
    } over [per_row(rows, width)];

    /// Norms of rows.
    RowNorms = row_norms(rows: usize, width: usize) {
        x: read Compute[rows * width],
        norms: write F32[rows],
    } over [per_row(rows, width)];

    /// `out[t, o] = from[t, o] · m[o] / norms[o]`, or without norms times m alone.
    ScaleColumns = scale_columns(rows: usize, width: usize, stride: usize) {
        from: read Compute[strided(rows, width, stride)],
        m: read F32[width],
        norms: read F32[width] or none,
        out: write Compute[rows * width],
    } over [each(rows * width)] where [width <= stride];
}
