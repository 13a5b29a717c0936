//! [`Gpu`]: the operations, each with its sizes checked against the memory that it gets; [`Mat`]: what is multiplied.
//!
//! The counterpart of [`crate::model::ops`]; what an operation computes stands there.

use super::machine::{Args, Groups, Kind, Machine, Operand, Product};
use super::memory::{Shelf, Span, Tensor};
use crate::device::Memory;
use crate::error::{Error, Result};
use crate::model::Dropout;
use crate::model::ops::activation::Activation;
use std::sync::Arc;

/// A machine, its memory, and how weights and activations are kept.
#[derive(Clone, Debug)]
pub struct Gpu {
    pub(super) shelf: Arc<Shelf>,
    pub(super) real: Kind,
    /// Attention scores that are held at once.
    pub scores: usize,
    /// Logits that are held at once.
    pub logits: usize,
}

/// Attention scores that are held at once: 128 MB of them, and as many again three times on the way back.
pub const SCORES: usize = 1 << 25;
/// Logits that are held at once: 128 MB, and their gradient.
pub const LOGITS: usize = 1 << 25;

/// Matrices in a span: element (r, c) of number n is at `r · row + c · col + n · step`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    span: Span<'a>,
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
    step: usize,
}

impl<'a> Mat<'a> {
    /// One matrix of rows that are `stride` apart.
    pub fn new(span: Span<'a>, rows: usize, cols: usize, stride: usize) -> Self {
        Self { span, rows, cols, row: stride, col: 1, step: 0 }
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

    fn operand(&self, batch: usize) -> Operand {
        let last = (batch - 1) * self.step + (self.rows - 1) * self.row + (self.cols - 1) * self.col;
        assert!(last < self.span.count, "a factor outside its memory: {self:?}");
        Operand { address: self.span.address, kind: self.span.kind, row: self.row, col: self.col, step: self.step }
    }
}

/// Groups of an operation over `count` numbers: one thread a number until the machine is full.
fn groups(count: usize) -> usize {
    count.div_ceil(256).clamp(1, 1 << 14)
}

/// Where there may be nothing.
fn address(span: Option<Span>) -> u64 {
    span.map_or(0, |span| span.address)
}

impl Gpu {
    /// With weights and activations kept as `real`.
    pub fn new(machine: Arc<dyn Machine>, real: Kind) -> Self {
        Self { shelf: Shelf::new(machine), real, scores: SCORES, logits: LOGITS }
    }

    /// The same, with each tensor's memory asked for by itself and given back with it: slower, for tests.
    pub fn apart(machine: Arc<dyn Machine>, real: Kind) -> Self {
        Self { shelf: Shelf::apart(machine), real, scores: SCORES, logits: LOGITS }
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        self.shelf.machine()
    }

    /// How weights and activations are kept.
    pub fn real(&self) -> Kind {
        self.real
    }

    /// The machine's memory, where it tells.
    pub fn memory(&self) -> Option<Memory> {
        self.machine().memory()
    }

    /// Allocates at once what a run will need beside what is in use; see [`Shelf::reserve`].
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn reserve(&self, bytes: usize) -> Result<()> {
        self.shelf.reserve(bytes)
    }

    /// The most bytes of its memory that were ever in use at once.
    pub fn peak_bytes(&self) -> usize {
        self.shelf.peak_bytes()
    }

    /// Weights or activations, of unknown content.
    pub(super) fn take(&self, count: usize) -> Result<Tensor> {
        self.shelf.take(self.real, count)
    }

    pub(super) fn floats(&self, count: usize) -> Result<Tensor> {
        self.shelf.take(Kind::F32, count)
    }

    /// A copy.
    pub(super) fn copy(&self, of: &Tensor) -> Result<Tensor> {
        let to = self.take(of.len())?;
        let from = of.all();
        assert_eq!(from.kind, self.real);
        // SAFETY: both have so many numbers of the same kind, and one is new.
        unsafe { self.machine().copy(to.all().address, from.address, of.len() * self.real.bytes())? };
        Ok(to)
    }

    /// Writes values, rounded to what weights and activations are kept as.
    pub(super) fn write_real(&self, to: Span, values: &[f32]) -> Result<()> {
        let bytes = match self.real {
            Kind::F32 => super::memory::bytes_of(values),
            Kind::Bf16 => values.iter().flat_map(|&x| half::bf16::from_f32(x).to_ne_bytes()).collect(),
        };
        to.write(self.machine(), &bytes)
    }

    /// Runs a kernel on what the wrappers have checked.
    pub(super) fn run(
        &self,
        kernel: &'static str,
        groups: impl Into<Groups>,
        pointers: &[u64],
        numbers: &[usize],
        fractions: &[f32],
        words: &[u64],
    ) -> Result<()> {
        let mut args = Args::default();
        args.p[..pointers.len()].copy_from_slice(pointers);
        args.l[..words.len()].copy_from_slice(words);
        args.f[..fractions.len()].copy_from_slice(fractions);
        for (to, &number) in args.i.iter_mut().zip(numbers) {
            *to = i32::try_from(number)
                .map_err(|_| Error::failure(format!("a size of {number} is too large for one GPU operation")))?;
        }
        let groups = groups.into();
        if groups.count == 0 {
            return Ok(());
        }
        // SAFETY: every caller has checked that the spans are as long as the kernel goes; they are borrowed, so alive.
        unsafe { self.machine().launch(kernel, self.real, groups, &args) }
    }

    fn check(&self, span: Span, kind: Kind, count: usize) {
        assert!(span.kind == kind && span.count >= count, "{count} numbers of {kind:?} in {span:?}");
    }

    pub(super) fn reals(&self, span: Span, count: usize) -> u64 {
        self.check(span, self.real, count);
        span.address
    }

    pub(super) fn singles(&self, span: Span, count: usize) -> u64 {
        self.check(span, Kind::F32, count);
        span.address
    }

    /// `c = keep·c + alpha · a·b`, `batch` times.
    pub(super) fn product(&self, c: Mat, keep: bool, alpha: f32, a: Mat, b: Mat, batch: usize) -> Result<()> {
        assert!(a.rows == c.rows && a.cols == b.rows && b.cols == c.cols, "shapes of a product: {a:?} {b:?} {c:?}");
        assert!(c.col == 1 && c.cols <= c.row && a.span.kind == b.span.kind, "a product of {a:?} and {b:?}");
        assert!([a, b].iter().all(|factor| factor.row == 1 || factor.col == 1), "a factor with gaps");
        assert!(batch <= 1 || c.step >= (c.rows - 1) * c.row + c.cols, "products that overlap");
        if c.rows == 0 || c.cols == 0 || batch == 0 {
            return Ok(());
        }
        let product = Product {
            m: c.rows,
            n: c.cols,
            k: a.cols,
            batch,
            alpha,
            keep,
            a: a.operand(batch),
            b: b.operand(batch),
            c: c.operand(batch),
        };
        // SAFETY: `operand` has found every element in its span; the results do not overlap each other, and no caller
        // passes memory of `a` or `b` as `c`.
        unsafe { self.machine().product(&product) }
    }

    pub(super) fn add(&self, to: &Tensor, from: &Tensor) -> Result<()> {
        let count = to.len();
        let pointers = [self.reals(to.all(), count), self.reals(from.all(), count)];
        self.run("add", groups(count), &pointers, &[], &[], &[count as u64])
    }

    /// Adds a bias to every row of a matrix whose rows are `stride` apart.
    pub(super) fn add_bias(&self, to: Span, rows: usize, stride: usize, bias: Span) -> Result<()> {
        let width = bias.count;
        let pointers = [self.reals(to, last(rows, width, stride)), bias.address];
        self.run("add_bias", groups(rows * width), &pointers, &[rows, width, stride], &[], &[])
    }

    /// `sums += Σ rows`, of rows of `sums.count` values.
    pub(super) fn add_column_sums(&self, sums: Span, rows_of: Span, rows: usize, stride: usize) -> Result<()> {
        let width = sums.count;
        let pointers = [self.reals(rows_of, last(rows, width, stride)), self.singles(sums, width)];
        self.run("column_sums", width.div_ceil(32), &pointers, &[rows, width, stride], &[], &[])
    }

    /// `f32` to what weights are kept as.
    pub(super) fn convert(&self, from: Span, to: Span) -> Result<()> {
        let count = from.count;
        let pointers = [self.singles(from, count), self.reals(to, count)];
        self.run("convert", groups(count), &pointers, &[], &[], &[count as u64])
    }

    /// Rows of `x` by index.
    pub(super) fn gather(&self, index: Span, x: &Tensor, width: usize, out: Span) -> Result<()> {
        let pointers = [index.address, x.all().address, self.reals(out, index.count * width)];
        self.run("gather", groups(index.count * width), &pointers, &[index.count, width], &[], &[])
    }

    /// The way back: no row stands twice in the index.
    pub(super) fn scatter(&self, index: Span, from: Span, width: usize, to: &Tensor) -> Result<()> {
        let pointers = [index.address, self.reals(from, index.count * width), to.all().address];
        self.run("scatter", groups(index.count * width), &pointers, &[index.count, width], &[], &[])
    }

    pub(super) fn activation(&self, f: Activation, up: &Tensor, gated: bool, width: usize) -> Result<Tensor> {
        let rows = up.len() / if gated { 2 * width } else { width };
        let out = self.take(rows * width)?;
        let pointers = [self.reals(up.all(), up.len()), out.all().address];
        let numbers = [rows, width, usize::from(gated), number(f)];
        self.run("activation_forward", groups(rows * width), &pointers, &numbers, &[], &[])?;
        Ok(out)
    }

    /// What went in becomes the gradient by it.
    pub(super) fn activation_backward(
        &self,
        f: Activation,
        up: &Tensor,
        gated: bool,
        d: &Tensor,
        width: usize,
    ) -> Result<()> {
        let rows = up.len() / if gated { 2 * width } else { width };
        let pointers = [self.reals(up.all(), up.len()), self.reals(d.all(), rows * width)];
        let numbers = [rows, width, usize::from(gated), number(f)];
        self.run("activation_backward", groups(rows * width), &pointers, &numbers, &[], &[])
    }

    /// `to = keep · to + dropped(from)`; `place` tells apart the layers of a model.
    pub(super) fn dropout(&self, dropout: Dropout, place: usize, from: Span, to: &Tensor, keep: bool) -> Result<()> {
        let count = to.len();
        let pointers = [self.reals(from, count), self.reals(to.all(), count)];
        let fractions = [1.0 / (1.0 - dropout.p), dropout.p];
        let words = [count as u64, dropout.key(place)];
        self.run("dropout", groups(count), &pointers, &[usize::from(keep)], &fractions, &words)
    }

    /// Losses of rows of logits, and the gradient times `scale` where `d` is given.
    pub(super) fn cross_entropy(
        &self,
        logits: Span,
        vocab: usize,
        targets: Span,
        cap: f32,
        losses: Span,
        d: Option<(Span, f32)>,
    ) -> Result<()> {
        let rows = targets.count;
        if let Some((d, _)) = d {
            self.reals(d, rows * vocab);
        }
        let pointers = [
            self.singles(logits, rows * vocab),
            targets.address,
            self.singles(losses, rows),
            address(d.map(|(d, _)| d)),
        ];
        let fractions = [cap, d.map_or(0.0, |(_, scale)| scale)];
        self.run("cross_entropy", Groups::of_rows(rows, vocab), &pointers, &[vocab], &fractions, &[])
    }

    pub(super) fn cap(&self, logits: &Tensor, cap: f32) -> Result<()> {
        let pointers = [self.singles(logits.all(), logits.len())];
        self.run("cap_logits", groups(logits.len()), &pointers, &[], &[cap], &[logits.len() as u64])
    }

    /// Rows of the embedding, scaled, with the positions' where there are any.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn embed(
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
        let out = self.take(tokens * width)?;
        let starts = address(starts.map(Tensor::all));
        let pointers = [ids.all().address, table.address, address(positions), out.all().address, starts];
        self.run("embed", groups(tokens * width), &pointers, &[tokens, width, seq, first], &[scale], &[])?;
        Ok(out)
    }

    /// Adds rows of gradient to those of the embedding, or where there are no ids to those of the positions.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn embed_backward(
        &self,
        ids: Option<&Tensor>,
        starts: Option<&Tensor>,
        d: &Tensor,
        gradient: Span,
        width: usize,
        seq: usize,
        scale: f32,
    ) -> Result<()> {
        let tokens = d.len() / width;
        let [ids, starts] = [ids, starts].map(|numbers| address(numbers.map(Tensor::all)));
        let pointers = [ids, self.reals(d.all(), tokens * width), self.singles(gradient, width), starts];
        // Groups of few threads' worth: a column is one thread's, so many groups share the machine better.
        self.run("embed_backward", width.div_ceil(64), &pointers, &[tokens, width, seq], &[scale], &[])
    }
}

/// Numbers of a matrix whose rows are `stride` apart.
fn last(rows: usize, width: usize, stride: usize) -> usize {
    if rows == 0 { 0 } else { (rows - 1) * stride + width }
}

/// As in the kernels' source.
fn number(f: Activation) -> usize {
    match f {
        Activation::Silu => 0,
        Activation::GeluTanh => 1,
        Activation::Gelu => 2,
        Activation::Relu => 3,
        Activation::Relu2 => 4,
    }
}
