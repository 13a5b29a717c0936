//! [`Gpu`]: the operations; [`Mat`]: what is multiplied.
//!
//! The counterpart of [`crate::model::ops`]; what an operation computes stands there. Each calls kernels by the structs of
//! [`super::kernels`], which check every size.

use super::kernels as kernel;
use super::machine::{Element, Formats, Machine, Operand, Product};
use super::memory::{Arena, Span, Tensor};
use super::weights::FourBit;
use crate::device::Memory;
use crate::error::{Error, Result};
use crate::model::ops::activation::Activation;
use crate::model::{ComputeDtype, Dropout};
use std::sync::Arc;

/// A machine, its memory, and what weights and activations are computed in.
#[derive(Clone, Debug)]
pub struct Gpu {
    pub(super) arena: Arc<Arena>,
    pub(super) compute_dtype: ComputeDtype,
    pub(super) formats: Formats,
    /// Attention scores that are held at once.
    pub scores: usize,
    /// Logits that are held at once.
    pub logits: usize,
}

/// Matrices in a span: element (r, c) of number n is at `r · row + c · col + n · step`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    span: Span<'a>,
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
    step: usize,
    /// What decodes the span, where it is codes of 4 bits.
    four_bit: Option<&'a FourBit>,
}

impl<'a> Mat<'a> {
    /// One matrix of rows that are `stride` apart.
    pub fn new(span: Span<'a>, rows: usize, cols: usize, stride: usize) -> Self {
        Self { span, rows, cols, row: stride, col: 1, step: 0, four_bit: None }
    }

    /// A weight in 4 bits.
    pub(in crate::model) fn four_bit(weight: &'a FourBit, rows: usize, cols: usize) -> Self {
        Self { four_bit: Some(weight), ..Self::dense(weight.codes(), rows, cols) }
    }

    /// One matrix, row after row.
    pub fn dense(span: Span<'a>, rows: usize, cols: usize) -> Self {
        Self::new(span, rows, cols, cols)
    }

    /// The same `step` further on, again and again.
    pub fn every(self, step: usize) -> Self {
        Self { step, ..self }
    }

    /// Rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
    }

    /// Elements from the first to the last; `None` where that is no number.
    fn extent(&self, batch: usize) -> Option<usize> {
        let mut extent = 1usize;
        for (count, stride) in [(batch, self.step), (self.rows, self.row), (self.cols, self.col)] {
            extent = extent.checked_add(count.checked_sub(1)?.checked_mul(stride)?)?;
        }
        Some(extent)
    }

    /// For a machine, when every element is in the span.
    fn operand(&self, name: &str, batch: usize) -> Result<Operand> {
        // Two codes lie in a byte.
        let found = self.span.len() * if self.four_bit.is_some() { 2 } else { 1 };
        let extent = self.extent(batch).filter(|&extent| extent <= found);
        let extent = extent.ok_or_else(|| {
            let Self { rows, cols, row, col, step, .. } = self;
            refused(&format!(
                "{name} has {found} values, expected {batch} of {rows} x {cols}, {row}, {col} and {step} apart"
            ))
        })?;
        let (row, col, step, element) = (self.row, self.col, self.step, self.span.element());
        let (region, four_bit) = match self.four_bit {
            Some(weight) => (self.span.first(extent.div_ceil(2)).region(), Some(weight.operand()?)),
            None => (self.span.first(extent).region(), None),
        };
        Ok(Operand { region, element, row, col, step, four_bit })
    }
}

fn refused(what: &str) -> Error {
    Error::failure(format!("product: {what}"))
}

impl Gpu {
    /// With weights and activations in `dtype`, or in what the machine keeps instead.
    pub fn new(machine: Arc<dyn Machine>, dtype: ComputeDtype) -> Self {
        let formats = machine.formats(dtype);
        Self::over(Arena::new(machine), formats)
    }

    /// The same, with each tensor's memory asked for by itself and given back with it: slower, for tests.
    pub fn isolated(machine: Arc<dyn Machine>, dtype: ComputeDtype) -> Self {
        let formats = machine.formats(dtype);
        Self::over(Arena::isolated(machine), formats)
    }

    fn over(arena: Arc<Arena>, formats: Formats) -> Self {
        let [scores, logits] = formats.pieces();
        Self { arena, compute_dtype: formats.compute, formats, scores, logits }
    }

    /// What numbers are kept in.
    pub fn formats(&self) -> Formats {
        self.formats
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        self.arena.machine()
    }

    /// What weights and activations are computed in.
    pub fn compute_dtype(&self) -> ComputeDtype {
        self.compute_dtype
    }

    /// The machine's memory, where it tells.
    pub fn memory(&self) -> Option<Memory> {
        self.machine().memory()
    }

    /// Allocates at once what a run will need beside what is in use; see [`Arena::reserve`].
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn reserve(&self, bytes: usize) -> Result<()> {
        self.arena.reserve(bytes)
    }

    /// Bytes of its memory that are in use.
    pub fn used_bytes(&self) -> usize {
        self.arena.used_bytes()
    }

    /// Nothing is computed: sizes alone count.
    pub fn is_dry(&self) -> bool {
        self.machine().is_dry()
    }

    /// Token ids, rows, begins of rows.
    pub(in crate::model) fn upload_indices(&self, ids: &[u32]) -> Result<Tensor> {
        self.arena.upload_indices(ids.iter().map(|&id| id as usize))
    }

    /// So many zeros for ids.
    pub(in crate::model) fn zero_indices(&self, count: usize) -> Result<Tensor> {
        self.arena.zero_indices(count)
    }

    /// `f32` values.
    pub(in crate::model) fn upload(&self, values: &[f32]) -> Result<Tensor> {
        self.arena.upload(values)
    }

    /// Zeros in `f32`.
    pub(in crate::model) fn zeros_f32(&self, count: usize) -> Result<Tensor> {
        self.arena.zeros(Element::F32, count)
    }

    /// Zeros in `f64`.
    pub(in crate::model) fn zeros_f64(&self, count: usize) -> Result<Tensor> {
        self.arena.zeros(Element::F64, count)
    }

    /// The most bytes of its memory that were ever in use at once.
    pub fn peak_bytes(&self) -> usize {
        self.arena.peak_bytes()
    }

    /// Weights or activations, of unknown content.
    pub(in crate::model) fn alloc(&self, count: usize) -> Result<Tensor> {
        self.arena.alloc(self.compute_dtype.into(), count)
    }

    /// `f32` values, of unknown content.
    pub(in crate::model) fn alloc_f32(&self, count: usize) -> Result<Tensor> {
        self.arena.alloc(Element::F32, count)
    }

    /// A copy.
    pub(in crate::model) fn copy(&self, of: &Tensor) -> Result<Tensor> {
        self.copy_of(of.all())
    }

    /// A copy of some values.
    pub(in crate::model) fn copy_of(&self, of: Span) -> Result<Tensor> {
        let to = self.arena.alloc(of.element(), of.len())?;
        // SAFETY: both tensors are borrowed, so their regions are there; they are of one length, and one is new.
        unsafe { self.machine().copy(to.all().region(), of.region())? };
        Ok(to)
    }

    /// Writes values, rounded to what the span holds.
    pub(in crate::model) fn write_rounded(&self, to: Span, values: &[f32]) -> Result<()> {
        let bytes = match to.element() {
            Element::Bf16 => values.iter().flat_map(|&x| half::bf16::from_f32(x).to_ne_bytes()).collect(),
            _ => super::memory::bytes_of(values),
        };
        to.write(&bytes)
    }

    /// `c = keep·c + alpha · a·b`, `batch` times.
    pub(in crate::model) fn product(&self, c: Mat, keep: bool, alpha: f32, a: Mat, b: Mat, batch: usize) -> Result<()> {
        if a.rows != c.rows || a.cols != b.rows || b.cols != c.cols {
            let [a, b, c] = [a, b, c].map(|mat| format!("{} x {}", mat.rows, mat.cols));
            return Err(refused(&format!("{a} times {b} is no {c}")));
        }
        if c.rows == 0 || c.cols == 0 || batch == 0 {
            return Ok(());
        }
        let (of_a, of_b, of_c) = (a.span.element(), b.span.element(), c.span.element());
        let weight = b.four_bit.is_some() && self.formats.decodes || of_b == self.formats.weight.into();
        let computed = |of: Element| of == Element::F32 || of == self.compute_dtype.into();
        if !(of_a == of_b || weight) || !computed(of_a) || !computed(of_c) || a.four_bit.is_some() {
            let [a, b, c] = [of_a, of_b, of_c].map(Element::name);
            return Err(refused(&format!("{a} times {b} into {c}")));
        }
        if [a, b, c].iter().any(|mat| !mat.span.is_of(&self.arena)) {
            return Err(refused("a factor is in the memory of another machine"));
        }
        let apart = batch == 1 || c.step >= (c.rows - 1) * c.row + c.cols;
        if c.col != 1 || c.cols > c.row || !apart || [a, b].iter().any(|factor| factor.row != 1 && factor.col != 1) {
            return Err(refused("strides that no machine multiplies with"));
        }
        let (m, n, k) = (c.rows, c.cols, a.cols);
        let [a, b, c] = [a.operand("a", batch)?, b.operand("b", batch)?, c.operand("c", batch)?];
        if [a, b].iter().any(|factor| factor.region.overlaps(&c.region)) {
            return Err(refused("c overlaps a factor"));
        }
        let product = Product { m, n, k, batch, alpha, keep, a, b, c };
        // SAFETY: `operand` has found every element in a span of this machine, which is borrowed; results overlap neither each
        // other nor a factor.
        unsafe { self.machine().product(&product) }
    }

    /// `to += scale · from`.
    pub(in crate::model) fn add(&self, to: &Tensor, from: &Tensor, scale: f32) -> Result<()> {
        kernel::Add { to: to.all(), from: from.all(), count: to.len() as u64, scale }.launch(self)
    }

    /// `to *= scale`.
    pub(in crate::model) fn scale(&self, to: &Tensor, scale: f32) -> Result<()> {
        kernel::Scale { to: to.all(), count: to.len() as u64, factor: scale }.launch(self)
    }

    /// Adds a bias to every row of a matrix whose rows are `stride` apart.
    pub(in crate::model) fn add_bias(&self, to: Span, rows: usize, stride: usize, bias: Span) -> Result<()> {
        kernel::AddBias { to, bias, weights: None, rows, width: bias.len(), stride }.launch(self)
    }

    /// `sums += Σ rows`, of rows as wide as `sums`.
    pub(in crate::model) fn add_column_sums(&self, sums: Span, x: Span, rows: usize, stride: usize) -> Result<()> {
        kernel::ColumnSums { x, weights: None, along: None, by: None, sums, rows, width: sums.len(), stride }
            .launch(self)
    }

    /// `f32` to what weights are computed in.
    pub(in crate::model) fn convert(&self, from: Span, to: Span) -> Result<()> {
        kernel::Convert { from, to, count: from.len() as u64 }.launch(self)
    }

    /// Rows of `x` by index.
    pub(in crate::model) fn gather(&self, index: Span, x: &Tensor, width: usize, out: Span) -> Result<()> {
        let (rows, from_rows) = (index.len(), x.len() / width);
        kernel::Gather { index, from: x.all(), out, rows, width, from_rows }.launch(self)
    }

    /// The way back: no row stands twice in the index.
    pub(in crate::model) fn scatter(&self, index: Span, from: Span, width: usize, to: &Tensor) -> Result<()> {
        let (rows, out_rows) = (index.len(), to.len() / width);
        kernel::Scatter { index, from, out: to.all(), rows, width, out_rows }.launch(self)
    }

    pub(in crate::model) fn activation(
        &self,
        function: Activation,
        [positive, negative]: [f32; 2],
        up: &Tensor,
        gated: bool,
        width: usize,
    ) -> Result<Tensor> {
        let rows = up.len() / if gated { 2 * width } else { width };
        let out = self.alloc(rows * width)?;
        let (up, to) = (up.all(), out.all());
        kernel::ActivationForward { up, out: to, rows, width, gated, function, positive, negative }.launch(self)?;
        Ok(out)
    }

    /// What went in becomes the gradient by it.
    pub(in crate::model) fn activation_backward(
        &self,
        function: Activation,
        [positive, negative]: [f32; 2],
        up: &Tensor,
        gated: bool,
        d: &Tensor,
        width: usize,
    ) -> Result<()> {
        let rows = up.len() / if gated { 2 * width } else { width };
        let (up, d) = (up.all(), d.all());
        kernel::ActivationBackward { up, d, rows, width, gated, function, positive, negative }.launch(self)
    }

    /// `to = keep · to + dropped(from)`; `place` tells apart the layers of a model.
    pub(in crate::model) fn dropout(
        &self,
        dropout: Dropout,
        place: usize,
        from: Span,
        to: &Tensor,
        keep: bool,
    ) -> Result<()> {
        let (count, key, p) = (to.len() as u64, dropout.key(place), dropout.p);
        kernel::Dropout { from, to: to.all(), keep, count, key, scale: 1.0 / (1.0 - p), p }.launch(self)
    }

    /// Losses of rows of logits, and the gradient times `scale` where `d` is given.
    pub(in crate::model) fn cross_entropy(
        &self,
        logits: Span,
        vocab: usize,
        targets: Span,
        cap: f32,
        losses: Span,
        d: Option<(Span, f32)>,
    ) -> Result<()> {
        let (d, scale) = (d.map(|(d, _)| d), d.map_or(0.0, |(_, scale)| scale));
        kernel::CrossEntropy { logits, targets, losses, d, rows: targets.len(), vocab, cap, scale }.launch(self)
    }

    /// Adds a bias to every row of logits.
    pub(in crate::model) fn add_logit_bias(&self, logits: Span, rows: usize, vocab: usize, bias: Span) -> Result<()> {
        kernel::AddLogitBias { logits, bias, rows, vocab }.launch(self)
    }

    pub(in crate::model) fn cap(&self, logits: &Tensor, cap: f32) -> Result<()> {
        kernel::CapLogits { logits: logits.all(), count: logits.len() as u64, cap }.launch(self)
    }

    /// `total += Σ values`, where `total` is one `f64`.
    pub(in crate::model) fn add_sum(&self, values: Span, total: Span) -> Result<()> {
        kernel::Sum { values, totals: total, which: 0, count: values.len() as u64 }.launch(self)
    }

    /// Rows of the embedding, scaled, with the positions' where there are any.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::model) fn embed(
        &self,
        ids: &Tensor,
        starts: Option<&Tensor>,
        table: Span,
        positions: Option<Span>,
        width: usize,
        (seq, first): (usize, usize),
        scale: f32,
    ) -> Result<Tensor> {
        let tokens = ids.len();
        let out = self.alloc(tokens * width)?;
        let (vocab, positions_rows) = (table.len() / width, positions.map_or(0, |positions| positions.len() / width));
        let (ids, starts) = (ids.all(), starts.map(Tensor::all));
        let out_rows = out.all();
        kernel::Embed {
            ids,
            table,
            positions,
            out: out_rows,
            starts,
            tokens,
            width,
            vocab,
            seq,
            first,
            positions_rows,
            scale,
        }
        .launch(self)?;
        Ok(out)
    }

    /// Adds rows of gradient to those of the embedding, or where there are no ids to those of the positions.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::model) fn embed_backward(
        &self,
        ids: Option<&Tensor>,
        starts: Option<&Tensor>,
        d: &Tensor,
        gradient: Span,
        width: usize,
        seq: usize,
        scale: f32,
    ) -> Result<()> {
        let (tokens, rows) = (d.len() / width, gradient.len() / width);
        let [ids, starts] = [ids, starts].map(|numbers| numbers.map(Tensor::all));
        kernel::EmbedBackward { ids, d: d.all(), gradient, starts, tokens, width, rows, seq, scale }.launch(self)
    }
}
