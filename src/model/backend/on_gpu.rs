//! [`OnGpu`]: a decoder's operations over a machine's memory.

use super::gpu_buffers::{Cache, Kept, Logits, Routes, Sum};
pub use super::gpu_buffers::{Grads, Tally};
use super::{Backend, Cols, Factor, Lookup, Nonlinear, Place};
use crate::error::{Error, Result};
use crate::model::branch::Lora;
use crate::model::decoder::{Attention, Experts, NormWeights};
use crate::model::dropout::Dropout;
use crate::model::gpu::{Angles, Ctx, Element, Gpu, Mat, ParamStore, Resident, Span, Tensor};
use crate::model::linear::Linear;
use crate::model::ops::latent::Row as LatentRow;
use crate::model::ops::loss;
use crate::model::weight::Vector;
use crate::spec::Rope;
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

/// A GPU, with what a pass needs everywhere.
#[derive(Clone, Copy, Debug)]
pub struct OnGpu<'m> {
    /// The machine and its memory.
    pub gpu: &'m Gpu,
    /// Everything trained.
    pub params: &'m ParamStore,
    /// The other weights.
    pub weights: &'m Resident,
    /// Where losses are added up; `None` for a sum of each pass's own.
    pub totals: Option<&'m Tensor>,
    /// Dropout of the branches' input, in training.
    pub dropout: Option<Dropout>,
    /// Where the sizes of logits and weights are noted, when memory is predicted.
    pub tally: Option<&'m Tally>,
}

impl<'m> OnGpu<'m> {
    /// Tables are never in 4 bits.
    fn table(&self, linear: &Linear) -> Result<Span<'m>> {
        self.weights.matrix(linear)?.dense(self.params).ok_or_else(|| {
            Error::failure(format!("{} is in 4 bits; embeddings and heads cannot be computed with so", linear.module))
        })
    }

    fn note(of: Option<&Cell<u64>>, bytes: usize) {
        if let Some(cell) = of {
            cell.set(cell.get().max(bytes as u64));
        }
    }
}

impl Factor for Mat<'_> {
    fn t(self) -> Self {
        Mat::t(self)
    }
}

impl<'m> Backend for OnGpu<'m> {
    type View<'a>
        = Mat<'a>
    where
        Self: 'a;
    type Out<'a>
        = Mat<'a>
    where
        Self: 'a;

    fn merges(&self) -> bool {
        false
    }

    fn logits_at_once(&self) -> usize {
        self.gpu.logits
    }

    fn walked(&self, all: usize, at_once: usize) -> usize {
        if self.gpu.is_dry() { at_once.min(all) } else { all }
    }

    fn dropout(&self) -> Option<Dropout> {
        self.dropout
    }

    fn alloc(&self, count: usize) -> Result<Tensor> {
        self.gpu.alloc(count)
    }

    fn zeros(&self, count: usize) -> Result<Tensor> {
        let buf = self.gpu.alloc(count)?;
        buf.all().clear()?;
        Ok(buf)
    }

    fn copy(&self, of: &Tensor) -> Result<Tensor> {
        self.gpu.copy(of)
    }

    fn len(&self, buf: &Tensor) -> usize {
        buf.len()
    }

    fn ids(&self, ids: &[u32]) -> Result<Tensor> {
        self.gpu.upload_indices(ids)
    }

    fn blank_ids(&self, count: usize) -> Result<Tensor> {
        self.gpu.zero_indices(count)
    }

    fn view<'a>(&'a self, buf: &'a Tensor, rows: usize, cols: usize, at: Cols) -> Mat<'a> {
        Mat::new(buf.from(at.first), rows, cols, at.stride)
    }

    fn out<'a>(&'a self, buf: &'a mut Tensor, rows: usize, cols: usize, at: Cols) -> Mat<'a> {
        Mat::new(buf.from(at.first), rows, cols, at.stride)
    }

    fn weight<'a>(&'a self, linear: &'a Linear, _rows: usize, spare: &'a mut Option<Tensor>) -> Result<Mat<'a>> {
        let [out, width] = linear.shape;
        let matrix = self.weights.matrix(linear)?;
        if matrix.is_dequantized(self.gpu) {
            Self::note(
                self.tally.map(|tally| &tally.weight),
                out * width * Element::from(self.gpu.compute_dtype()).bytes(),
            );
        }
        matrix.factor(self.gpu, self.params, spare, linear.shape)
    }

    fn head<'a>(&'a self, head: &'a Linear, _spare: &'a mut Option<Tensor>) -> Result<Mat<'a>> {
        let [out, width] = head.shape;
        Ok(Mat::dense(self.table(head)?, out, width))
    }

    fn merged(&self, linear: &Linear, lora: &Lora) -> Result<Tensor> {
        let [out, width] = linear.shape;
        let sum = self.gpu.alloc(out * width)?;
        self.weights.matrix(linear)?.write(self.gpu, self.params, sum.all())?;
        let (a, b) = (self.param(lora.a, [lora.r, width]), self.param(lora.b, [out, lora.r]));
        self.gpu.product(Mat::dense(sum.all(), out, width), true, lora.scaling, b, a, 1)?;
        Ok(sum)
    }

    fn param(&self, number: usize, [rows, cols]: [usize; 2]) -> Mat<'_> {
        Mat::dense(self.params.working(number), rows, cols)
    }

    fn grads(&self, shapes: &[[usize; 2]]) -> Result<Grads> {
        let zeros = |[rows, cols]: &[usize; 2]| self.gpu.zeros_f32(rows * cols);
        Ok(Grads::Own(shapes.iter().map(zeros).collect::<Result<_>>()?))
    }

    fn read_grads(&self, grads: Grads) -> Result<Vec<Vec<f32>>> {
        match grads {
            Grads::Params => self.params.read_gradients(),
            Grads::Own(grads) => grads.iter().map(|gradient| gradient.all().values()).collect(),
        }
    }

    fn grad<'a>(&'a self, grads: &'a mut Grads, number: usize, [rows, cols]: [usize; 2]) -> Result<Mat<'a>> {
        let span = match grads {
            Grads::Params => self.params.gradient(number),
            Grads::Own(grads) => grads.get(number).map(Tensor::all),
        };
        let span = span.ok_or_else(|| Error::failure("there are no gradients yet"))?;
        Ok(Mat::dense(span, rows, cols))
    }

    fn product(&self, c: Mat<'_>, keep: bool, alpha: f32, a: Mat<'_>, b: Mat<'_>) -> Result<()> {
        self.gpu.product(c, keep, alpha, a, b, 1)
    }

    fn add(&self, to: &mut Tensor, from: &Tensor, scale: f32) -> Result<()> {
        self.gpu.add(to, from, scale)
    }

    fn scale(&self, buf: &mut Tensor, scale: f32) -> Result<()> {
        self.gpu.scale(buf, scale)
    }

    fn add_bias(&self, to: &mut Tensor, rows: usize, at: Cols, linear: &Linear, _bias: &Vector) -> Result<()> {
        self.gpu.add_bias(to.from(at.first), rows, at.stride, self.weights.bias(linear, self.params)?)
    }

    fn add_column_sums(
        &self,
        _grads: &mut Grads,
        number: usize,
        _width: usize,
        from: &Tensor,
        rows: usize,
        at: Cols,
    ) -> Result<()> {
        match self.params.gradient(number) {
            Some(sums) => self.gpu.add_column_sums(sums, from.from(at.first), rows, at.stride),
            None => Ok(()),
        }
    }

    fn dropped(&self, dropout: Dropout, x: &Tensor, place: usize) -> Result<Tensor> {
        let to = self.gpu.alloc(x.len())?;
        self.gpu.dropout(dropout, place, x.all(), &to, false)?;
        Ok(to)
    }

    fn add_dropped(&self, dropout: Dropout, to: &mut Tensor, from: Tensor, place: usize) -> Result<()> {
        self.gpu.dropout(dropout, place, from.all(), to, true)
    }

    fn row_norms(&self, weight: &Tensor, [out, _]: [usize; 2]) -> Result<Tensor> {
        self.gpu.row_norms(weight, out)
    }

    fn scale_rows(&self, weight: &mut Tensor, _shape: [usize; 2], m: usize, norms: &Tensor) -> Result<()> {
        self.gpu.scale_rows(weight, self.params.master(m), Some(norms.all()))
    }

    fn scale_columns(
        &self,
        dy: &Tensor,
        rows: usize,
        at: Cols,
        _shape: [usize; 2],
        m: usize,
        norms: &Tensor,
    ) -> Result<Tensor> {
        self.gpu.scaled_columns((dy.from(at.first), at.stride), rows, self.params.master(m), Some(norms.all()))
    }

    fn add_magnitude(
        &self,
        _grads: &mut Grads,
        m: usize,
        (dy, at): (&Tensor, Cols),
        plain: &Tensor,
        rows: usize,
        norms: &Tensor,
    ) -> Result<()> {
        match self.params.gradient(m) {
            Some(sums) => self.gpu.add_products(sums, (dy.from(at.first), at.stride), plain, norms.all(), rows),
            None => Ok(()),
        }
    }

    fn norm(&self, norm: &NormWeights, x: &Tensor) -> Result<Tensor> {
        self.weights.norm(norm)?.forward(self.ctx(), x.all())
    }

    fn norm_backward(
        &self,
        norm: &NormWeights,
        x: &Tensor,
        dy: &Tensor,
        dx: &mut Tensor,
        keep: bool,
        _grads: &mut Grads,
    ) -> Result<()> {
        self.weights.norm(norm)?.backward(self.ctx(), x, dy, dx, keep)
    }

    fn angles(&self, ropes: &[Rope], positions: usize, longest: usize) -> Result<Arc<Vec<Angles>>> {
        self.weights.angles(self.gpu, ropes, positions, longest)
    }

    fn attention(
        &self,
        attention: &Attention,
        place: Place<Self>,
        qkv: Tensor,
        cache: Option<&mut Cache>,
    ) -> Result<(Tensor, Kept)> {
        self.attend(attention, place, qkv, cache.map(|cache| &*cache))
    }

    fn attention_backward(
        &self,
        attention: &Attention,
        place: Place<Self>,
        heads: Kept,
        attended: Tensor,
        d_attended: &Tensor,
        shared: Option<&Tensor>,
        _grads: &mut Grads,
    ) -> Result<Tensor> {
        self.attend_backward(attention, place, heads, attended, d_attended, shared)
    }

    fn cache(&self, attention: &Attention, positions: usize) -> Result<Cache> {
        let count = attention.spec.kv_heads * attention.spec.head_dim * positions;
        let keys_values = Some((self.gpu.alloc(count)?, self.gpu.alloc(count)?));
        Ok(Cache { keys_values, capacity: positions, ..Cache::default() })
    }

    fn columns(&self, x: &Tensor, rows: usize, at: Cols, width: usize) -> Result<Tensor> {
        self.gpu.columns(x, rows, at, width)
    }

    fn join_latent(&self, row: LatentRow, q: &Tensor, given: &Tensor, kv: &Tensor) -> Result<Tensor> {
        self.joined(row, q, given, kv)
    }

    fn split_latent(&self, row: LatentRow, d: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        self.parted(row, d)
    }

    fn route(&self, experts: &Experts, logits: Tensor) -> Result<Routes> {
        self.choose(experts, logits)
    }

    fn ranges(&self, routes: &Routes) -> Vec<Range<usize>> {
        routes.ranges.clone()
    }

    fn dispatch(&self, routes: &Routes, x: &Tensor, width: usize) -> Result<Tensor> {
        self.rows_of_tokens(routes, x, width)
    }

    fn combine(&self, routes: &Routes, from: &Tensor, width: usize, to: &mut Tensor, keep: bool) -> Result<()> {
        self.gpu.combine(&routes.row, from, width, to, keep)
    }

    fn weigh(&self, routes: &Routes, rows: &mut Tensor, _width: usize) -> Result<()> {
        self.gpu.scale_rows(rows, routes.weights.all(), None)
    }

    fn weigh_backward(
        &self,
        routes: &Routes,
        x: &Tensor,
        d: &mut Tensor,
        _width: usize,
        dw: &mut Tensor,
    ) -> Result<()> {
        self.gpu.weigh_backward(x, d, &routes.weights, dw)
    }

    fn add_expert_bias(
        &self,
        routes: &Routes,
        rows: Range<usize>,
        to: &mut Tensor,
        (linear, _): (&Linear, &Vector),
    ) -> Result<()> {
        self.add_bias_of_expert(routes, rows, to, linear)
    }

    fn expert_bias_backward(
        &self,
        routes: &Routes,
        rows: Range<usize>,
        d: &Tensor,
        of: (&Linear, &Vector),
        dw: &mut Tensor,
        _grads: &mut Grads,
    ) -> Result<()> {
        self.bias_of_expert_backward(routes, rows, d, of, dw)
    }

    fn route_backward(&self, experts: &Experts, routes: Routes, dw: Tensor, _grads: &mut Grads) -> Result<Tensor> {
        self.choose_backward(experts, routes, dw)
    }

    fn gate(&self, x: &Tensor, gate: &Tensor) -> Result<Tensor> {
        self.gpu.gate(x, gate)
    }

    fn gate_backward(&self, x: &Tensor, gate: &mut Tensor, d: &mut Tensor) -> Result<()> {
        self.gpu.gate_backward(x, gate, d)
    }

    fn activation(&self, f: Nonlinear, up: &Tensor) -> Result<Tensor> {
        self.gpu.activation(f.activation, f.alphas, up, f.gated, f.width)
    }

    fn activation_backward(&self, f: Nonlinear, up: &mut Tensor, d: &Tensor) -> Result<()> {
        self.gpu.activation_backward(f.activation, f.alphas, up, f.gated, d, f.width)
    }

    fn embed(
        &self,
        table: &Linear,
        scale: f32,
        positions: Option<(&Linear, usize)>,
        at: &Lookup<Self>,
    ) -> Result<Tensor> {
        let [_, width] = table.shape;
        let positions = match positions {
            Some((table, offset)) => Some(self.table(table)?.from(offset * width)),
            None => None,
        };
        self.gpu.embed(at.ids, at.starts, self.table(table)?, positions, width, (at.seq, at.first), scale)
    }

    fn embed_backward(
        &self,
        table: &Linear,
        scale: f32,
        positions: Option<(&Linear, usize)>,
        at: &Lookup<Self>,
        d: &Tensor,
        _grads: &mut Grads,
    ) -> Result<()> {
        let [_, width] = table.shape;
        if let Some(gradient) = table.weight.trained().and_then(|number| self.params.gradient(number)) {
            self.gpu.embed_backward(Some(at.ids), None, d, gradient, width, at.seq, scale)?;
        }
        let positions = positions.and_then(|(table, offset)| Some((table.weight.trained()?, offset)));
        let Some((number, offset)) = positions else { return Ok(()) };
        match self.params.gradient(number) {
            Some(gradient) => {
                self.gpu.embed_backward(None, at.starts, d, gradient.from(offset * width), width, at.seq, 1.0)
            }
            None => Ok(()),
        }
    }

    fn gather(&self, x: &Tensor, width: usize, index: &Tensor, range: Range<usize>, out: &mut Tensor) -> Result<()> {
        self.gpu.gather(part(index, &range), x, width, out.all())
    }

    fn scatter(&self, from: &Tensor, width: usize, index: &Tensor, range: Range<usize>, to: &mut Tensor) -> Result<()> {
        self.gpu.scatter(part(index, &range), from.all(), width, to)
    }

    fn logits(&self, rows: usize, vocab: usize, backward: bool) -> Result<Logits> {
        let values = self.gpu.alloc_f32(rows * vocab)?;
        let d = if backward { Some(self.gpu.alloc(rows * vocab)?) } else { None };
        let each = Element::F32.bytes() + if backward { Element::from(self.gpu.compute_dtype()).bytes() } else { 0 };
        Self::note(self.tally.map(|tally| &tally.logits), rows * vocab * each);
        Ok(Logits { values, d })
    }

    fn logits_out<'a>(&'a self, logits: &'a mut Logits, rows: usize, vocab: usize) -> Mat<'a> {
        Mat::dense(logits.values.all(), rows, vocab)
    }

    fn add_logit_bias(
        &self,
        logits: &mut Logits,
        rows: usize,
        vocab: usize,
        head: &Linear,
        _bias: &Vector,
    ) -> Result<()> {
        self.gpu.add_logit_bias(logits.values.all(), rows, vocab, self.weights.bias(head, self.params)?)
    }

    fn losses(&self, count: usize) -> Result<Tensor> {
        self.gpu.alloc_f32(count)
    }

    fn cross_entropy(
        &self,
        logits: &mut Logits,
        vocab: usize,
        targets: &Tensor,
        range: Range<usize>,
        cap: f32,
        scale: Option<f32>,
        losses: &mut Tensor,
    ) -> Result<()> {
        let d = logits.d.as_ref().map(Tensor::all).zip(scale);
        let targets = part(targets, &range);
        self.gpu.cross_entropy(logits.values.all(), vocab, targets, cap, losses.from(range.start), d)
    }

    fn largest(&self, logits: &Logits, rows: usize, vocab: usize) -> Result<Vec<u32>> {
        Ok(loss::largest_of_rows(&logits.values.all().first(rows * vocab).values()?, vocab))
    }

    fn logits_gradient<'a>(&'a self, logits: &'a Logits, rows: usize, vocab: usize) -> Mat<'a> {
        Mat::dense(logits.d.as_ref().unwrap_or(&logits.values).all(), rows, vocab)
    }

    fn add_logit_sums(
        &self,
        _grads: &mut Grads,
        number: usize,
        logits: &Logits,
        rows: usize,
        vocab: usize,
    ) -> Result<()> {
        match (self.params.gradient(number), &logits.d) {
            (Some(sums), Some(d)) => self.gpu.add_column_sums(sums, d.all(), rows, vocab),
            _ => Ok(()),
        }
    }

    fn sure(&self, losses: &Tensor) -> Result<usize> {
        Ok(if losses.is_empty() { 0 } else { loss::sure(&losses.all().values()?) })
    }

    fn sum(&self, losses: Tensor) -> Result<Sum> {
        let (total, sum) = match self.totals {
            Some(totals) => (Some(totals), Sum::Added),
            None => (None, Sum::Own(self.gpu.zeros_f64(1)?)),
        };
        let own = if let Sum::Own(own) = &sum { Some(own) } else { None };
        if let Some(total) = total.or(own).filter(|_| !losses.is_empty()) {
            self.gpu.add_sum(losses.all(), total.all())?;
        }
        Ok(sum)
    }

    fn wait(&self, sum: Sum) -> Result<f64> {
        match (&sum, self.totals) {
            (Sum::Own(total), _) | (Sum::Added, Some(total)) => read_f64(self.gpu, total),
            (Sum::Added, None) => Err(Error::failure("there is no sum to wait for")),
        }
    }

    fn read_logits(&self, logits: Logits, cap: f32) -> Result<Vec<f32>> {
        if cap > 0.0 {
            self.gpu.cap(&logits.values, cap)?;
        }
        logits.values.all().values()
    }
}

impl<'m> OnGpu<'m> {
    pub(super) fn ctx(&self) -> Ctx<'m> {
        Ctx { gpu: self.gpu, params: self.params }
    }
}

fn read_f64(gpu: &Gpu, of: &Tensor) -> Result<f64> {
    let mut bytes = [0; 8];
    of.all().first(1).read(&mut bytes)?;
    Ok(gpu.machine().double(bytes))
}

fn part<'a>(index: &'a Tensor, range: &Range<usize>) -> Span<'a> {
    index.from(range.start).first(range.len())
}
