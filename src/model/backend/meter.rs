//! [`Meter`]: a backend that computes nothing. Going through a pass on it tells how many bytes of buffers that takes under
//! the rule of a [`Pool`](crate::model::Pool), and how many floating-point operations.

use super::{Backend, Cols, Factor, Lookup, Nonlinear, Place};
use crate::error::Result;
use crate::model::branch::Lora;
use crate::model::decoder::{Attention, Experts, NormWeights};
use crate::model::dropout::Dropout;
use crate::model::linear::Linear;
use crate::model::ops::attention;
use crate::model::ops::bf16::reads_halves;
use crate::model::ops::latent::Row as LatentRow;
use crate::model::ops::pool::{Room, Shelf};
use crate::model::weight::{Vector, Weight};
use crate::spec::Rope;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Sizes of buffers, and operations.
#[derive(Debug, Default)]
pub struct Meter {
    shelf: Rc<RefCell<Shelf<Size>>>,
    dropout: Option<Dropout>,
    pub(super) threads: usize,
    found: Cell<Metered>,
    /// What a product counts for: more than 1 where only one of several equal pieces is gone through.
    times: Cell<f64>,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metered {
    /// The most values of all buffers, in use or waiting.
    pub most: usize,
    /// Values of logits among them.
    pub logits: usize,
    /// Values of the largest weight of a block that becomes `f32` for a product.
    pub weight: usize,
    /// Values of the head where it becomes `f32`.
    pub head: usize,
    /// Bytes that the allocator rounds the buffers up by.
    pub rounded: u64,
    /// Floating-point operations of products.
    pub flops: f64,
}

#[derive(Clone, Copy, Debug)]
struct Size(usize);

impl Room for Size {
    fn new(count: usize) -> Self {
        Self(count)
    }

    fn capacity(&self) -> usize {
        self.0
    }
}

/// A buffer without values.
#[derive(Debug)]
pub struct Sized {
    room: Size,
    pub(super) count: usize,
    shelf: Rc<RefCell<Shelf<Size>>>,
}

impl Drop for Sized {
    fn drop(&mut self) {
        self.shelf.borrow_mut().give(self.room);
    }
}

/// A matrix without values.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    rows: usize,
    cols: usize,
}

impl Factor for Shape {
    fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows }
    }
}

impl Meter {
    /// For `threads` that compute at once; `dropout` as in the run.
    pub fn new(threads: usize, dropout: Option<Dropout>) -> Self {
        Self { threads: threads.max(1), dropout, times: Cell::new(1.0), ..Self::default() }
    }

    /// What was found.
    pub fn found(&self) -> Metered {
        let shelf = self.shelf.borrow();
        Metered { most: shelf.most(), rounded: shelf.rounded(), ..self.found.get() }
    }

    pub(super) fn take(&self, count: usize) -> Sized {
        Sized { room: self.shelf.borrow_mut().take(count), count, shelf: Rc::clone(&self.shelf) }
    }

    fn note(&self, change: impl FnOnce(&mut Metered)) {
        let mut found = self.found.get();
        change(&mut found);
        self.found.set(found);
    }

    pub(super) fn count(&self, operations: f64) {
        self.note(|found| found.flops += self.times.get() * operations);
    }

    /// The buffer that a weight becomes `f32` in, where it is kept otherwise.
    fn widened(&self, linear: &Linear) -> Option<Sized> {
        let kept = matches!(linear.weight, Weight::F32(_) | Weight::Trained(_));
        (!kept).then(|| self.take(linear.shape[0] * linear.shape[1]))
    }
}

/// So many rows on so many experts, evenly.
pub(super) fn spread(rows: usize, experts: usize) -> Vec<Range<usize>> {
    (0..experts).map(|expert| expert * rows / experts..(expert + 1) * rows / experts).collect()
}

impl Backend for Meter {
    type View<'a> = Shape;
    type Out<'a> = Shape;

    fn merges(&self) -> bool {
        true
    }

    fn logits_at_once(&self) -> usize {
        super::cpu::LOGITS
    }

    fn walked(&self, all: usize, at_once: usize) -> usize {
        self.times.set(all as f64 / at_once.max(1) as f64);
        at_once.min(all)
    }

    fn walked_all(&self) {
        self.times.set(1.0);
    }

    fn stands_for(&self, times: f64) {
        self.times.set(times);
    }

    fn dropout(&self) -> Option<Dropout> {
        self.dropout
    }

    fn alloc(&self, count: usize) -> Result<Sized> {
        Ok(self.take(count))
    }

    fn zeros(&self, count: usize) -> Result<Sized> {
        Ok(self.take(count))
    }

    fn copy(&self, of: &Sized) -> Result<Sized> {
        Ok(self.take(of.count))
    }

    fn len(&self, buf: &Sized) -> usize {
        buf.count
    }

    fn ids(&self, ids: &[u32]) -> Result<usize> {
        Ok(ids.len())
    }

    fn blank_ids(&self, count: usize) -> Result<usize> {
        Ok(count)
    }

    fn view<'a>(&'a self, _buf: &'a Sized, rows: usize, cols: usize, _at: Cols) -> Shape {
        Shape { rows, cols }
    }

    fn out<'a>(&'a self, _buf: &'a mut Sized, rows: usize, cols: usize, _at: Cols) -> Shape {
        Shape { rows, cols }
    }

    fn weight<'a>(&'a self, linear: &'a Linear, rows: usize, spare: &'a mut Option<Sized>) -> Result<Shape> {
        let whole = linear.weight.as_bf16().is_some() && reads_halves(rows, linear.shape);
        let [rows, cols] = linear.shape;
        *spare = if whole { None } else { self.widened(linear) };
        if let Some(spare) = spare {
            self.note(|found| found.weight = found.weight.max(spare.count));
        }
        Ok(Shape { rows, cols })
    }

    fn head<'a>(&'a self, head: &'a Linear, spare: &'a mut Option<Sized>) -> Result<Shape> {
        let [rows, cols] = head.shape;
        *spare = self.widened(head);
        self.note(|found| found.head = spare.as_ref().map_or(0, |spare| spare.count));
        Ok(Shape { rows, cols })
    }

    fn merged(&self, linear: &Linear, lora: &Lora) -> Result<Sized> {
        let count = linear.shape[0] * linear.shape[1];
        self.note(|found| found.weight = found.weight.max(count));
        self.count(2.0 * count as f64 * lora.r as f64);
        Ok(self.take(count))
    }

    fn param(&self, _number: usize, [rows, cols]: [usize; 2]) -> Shape {
        Shape { rows, cols }
    }

    fn grads(&self, _shapes: &[[usize; 2]]) -> Result<()> {
        Ok(())
    }

    fn read_grads(&self, (): ()) -> Result<Vec<Vec<f32>>> {
        Ok(Vec::new())
    }

    fn grad<'a>(&'a self, (): &'a mut (), _number: usize, [rows, cols]: [usize; 2]) -> Result<Shape> {
        Ok(Shape { rows, cols })
    }

    fn product(&self, c: Shape, _keep: bool, _alpha: f32, a: Shape, _b: Shape) -> Result<()> {
        self.count(2.0 * c.rows as f64 * c.cols as f64 * a.cols as f64);
        Ok(())
    }

    fn add(&self, _to: &mut Sized, _from: &Sized, _scale: f32) -> Result<()> {
        Ok(())
    }

    fn scale(&self, _buf: &mut Sized, _scale: f32) -> Result<()> {
        Ok(())
    }

    fn add_bias(&self, _to: &mut Sized, _rows: usize, _at: Cols, _linear: &Linear, _bias: &Vector) -> Result<()> {
        Ok(())
    }

    fn add_column_sums(
        &self,
        (): &mut (),
        _number: usize,
        _width: usize,
        _from: &Sized,
        _rows: usize,
        _at: Cols,
    ) -> Result<()> {
        Ok(())
    }

    fn dropped(&self, _dropout: Dropout, x: &Sized, _place: usize) -> Result<Sized> {
        Ok(self.take(x.count))
    }

    fn add_dropped(&self, _dropout: Dropout, _to: &mut Sized, _from: Sized, _place: usize) -> Result<()> {
        Ok(())
    }

    fn row_norms(&self, _weight: &Sized, [out, _]: [usize; 2]) -> Result<Sized> {
        Ok(self.take(out))
    }

    fn scale_rows(&self, _weight: &mut Sized, _shape: [usize; 2], _m: usize, _norms: &Sized) -> Result<()> {
        Ok(())
    }

    fn scale_columns(
        &self,
        _dy: &Sized,
        rows: usize,
        _at: Cols,
        [out, _]: [usize; 2],
        _m: usize,
        _norms: &Sized,
    ) -> Result<Sized> {
        Ok(self.take(rows * out))
    }

    fn add_magnitude(
        &self,
        (): &mut (),
        _m: usize,
        _dy: (&Sized, Cols),
        _plain: &Sized,
        _rows: usize,
        _norms: &Sized,
    ) -> Result<()> {
        Ok(())
    }

    fn norm(&self, _norm: &NormWeights, x: &Sized) -> Result<Sized> {
        Ok(self.take(x.count))
    }

    fn norm_backward(
        &self,
        _norm: &NormWeights,
        _x: &Sized,
        _dy: &Sized,
        _dx: &mut Sized,
        _keep: bool,
        (): &mut (),
    ) -> Result<()> {
        Ok(())
    }

    fn angles(&self, ropes: &[Rope], _positions: usize, _longest: usize) -> Result<Arc<Vec<()>>> {
        Ok(Arc::new(vec![(); ropes.len()]))
    }

    fn attention(
        &self,
        attention: &Attention,
        place: Place<Self>,
        qkv: Sized,
        _cache: Option<&mut ()>,
    ) -> Result<(Sized, Self::Heads)> {
        let (spec, rules) = (&attention.spec, attention.rules());
        if attention.is_regrouped() {
            drop(self.take(qkv.count));
        }
        let raw = attention.keeps_raw().then(|| self.take(qkv.count));
        let attended = self.take(place.rows * spec.width());
        let sequences = place.rows / place.seq;
        let scratch = attention::scratch(&rules, place.seq, sequences, self.threads, false);
        drop(scratch.into_iter().map(|count| self.take(count)).collect::<Vec<_>>());
        let pairs = sequences as f64 * attention::pairs(&rules, place.seq) as f64;
        self.count(2.0 * pairs * (spec.queries() + spec.width()) as f64);
        Ok((attended, (qkv, raw)))
    }

    fn attention_backward(
        &self,
        attention: &Attention,
        place: Place<Self>,
        (qkv, _raw): Self::Heads,
        attended: Sized,
        _d_attended: &Sized,
        _shared: Option<&Sized>,
        (): &mut (),
    ) -> Result<Sized> {
        let (spec, rules) = (&attention.spec, attention.rules());
        let sequences = place.rows / place.seq;
        let gathered = self.take(place.rows * (2 * spec.queries() + spec.width()));
        let scratch = attention::scratch(&rules, place.seq, sequences, self.threads, true);
        drop(scratch.into_iter().map(|count| self.take(count)).collect::<Vec<_>>());
        let pairs = sequences as f64 * attention::pairs(&rules, place.seq) as f64;
        self.count(pairs * (6 * spec.queries() + 4 * spec.width()) as f64);
        drop((gathered, attended));
        Ok(qkv)
    }

    fn cache(&self, _attention: &Attention, _positions: usize) -> Result<()> {
        Ok(())
    }

    fn columns(&self, _x: &Sized, rows: usize, _at: Cols, width: usize) -> Result<Sized> {
        Ok(self.take(rows * width))
    }

    fn join_latent(&self, row: LatentRow, q: &Sized, _given: &Sized, _kv: &Sized) -> Result<Sized> {
        Ok(self.take(q.count / row.queries() * row.stride()))
    }

    fn split_latent(&self, row: LatentRow, d: &Sized) -> Result<(Sized, Sized, Sized)> {
        let rows = d.count / row.stride();
        let (dq, given) = (self.take(rows * row.queries()), self.take(rows * row.given()));
        Ok((dq, given, self.take(rows * (row.rank + row.rope))))
    }

    fn route(&self, experts: &Experts, logits: Sized) -> Result<Self::Routes> {
        let spec = &experts.spec;
        let rows = logits.count / spec.count * spec.chosen;
        Ok((logits, self.take(rows), spread(rows, spec.count)))
    }

    fn ranges(&self, (.., ranges): &Self::Routes) -> Vec<Range<usize>> {
        ranges.clone()
    }

    fn dispatch(&self, (_, weights, _): &Self::Routes, _x: &Sized, width: usize) -> Result<Sized> {
        Ok(self.take(weights.count * width))
    }

    fn combine(&self, _: &Self::Routes, _from: &Sized, _width: usize, _to: &mut Sized, _keep: bool) -> Result<()> {
        Ok(())
    }

    fn weigh(&self, _: &Self::Routes, _rows: &mut Sized, _width: usize) -> Result<()> {
        Ok(())
    }

    fn weigh_backward(
        &self,
        _: &Self::Routes,
        _x: &Sized,
        _d: &mut Sized,
        _width: usize,
        _dw: &mut Sized,
    ) -> Result<()> {
        Ok(())
    }

    fn add_expert_bias(
        &self,
        _: &Self::Routes,
        _rows: Range<usize>,
        _to: &mut Sized,
        _of: (&Linear, &Vector),
    ) -> Result<()> {
        Ok(())
    }

    fn expert_bias_backward(
        &self,
        _: &Self::Routes,
        _rows: Range<usize>,
        _d: &Sized,
        _of: (&Linear, &Vector),
        _dw: &mut Sized,
        (): &mut (),
    ) -> Result<()> {
        Ok(())
    }

    fn route_backward(&self, _: &Experts, (logits, ..): Self::Routes, _dw: Sized, (): &mut ()) -> Result<Sized> {
        Ok(logits)
    }

    fn gate(&self, x: &Sized, _gate: &Sized) -> Result<Sized> {
        Ok(self.take(x.count))
    }

    fn gate_backward(&self, _x: &Sized, _gate: &mut Sized, _d: &mut Sized) -> Result<()> {
        Ok(())
    }

    fn activation(&self, f: Nonlinear, up: &Sized) -> Result<Sized> {
        Ok(self.take(up.count / f.stride() * f.width))
    }

    fn activation_backward(&self, _f: Nonlinear, _up: &mut Sized, _d: &Sized) -> Result<()> {
        Ok(())
    }

    fn embed(
        &self,
        table: &Linear,
        _scale: f32,
        _positions: Option<(&Linear, usize)>,
        at: &Lookup<Self>,
    ) -> Result<Sized> {
        Ok(self.take(at.ids * table.shape[1]))
    }

    fn embed_backward(
        &self,
        _table: &Linear,
        _scale: f32,
        _positions: Option<(&Linear, usize)>,
        _at: &Lookup<Self>,
        _d: &Sized,
        (): &mut (),
    ) -> Result<()> {
        Ok(())
    }

    fn gather(&self, _x: &Sized, _width: usize, _index: &usize, _range: Range<usize>, _out: &mut Sized) -> Result<()> {
        Ok(())
    }

    fn scatter(
        &self,
        _from: &Sized,
        _width: usize,
        _index: &usize,
        _range: Range<usize>,
        _to: &mut Sized,
    ) -> Result<()> {
        Ok(())
    }

    fn logits(&self, rows: usize, vocab: usize, _backward: bool) -> Result<Sized> {
        self.note(|found| found.logits = rows * vocab);
        Ok(self.take(rows * vocab))
    }

    fn logits_out<'a>(&'a self, _logits: &'a mut Sized, rows: usize, cols: usize) -> Shape {
        Shape { rows, cols }
    }

    fn add_logit_bias(
        &self,
        _logits: &mut Sized,
        _rows: usize,
        _vocab: usize,
        _head: &Linear,
        _bias: &Vector,
    ) -> Result<()> {
        Ok(())
    }

    fn losses(&self, _count: usize) -> Result<()> {
        Ok(())
    }

    fn cross_entropy(
        &self,
        _logits: &mut Sized,
        _vocab: usize,
        _targets: &usize,
        _range: Range<usize>,
        _cap: f32,
        _scale: Option<f32>,
        (): &mut (),
    ) -> Result<()> {
        Ok(())
    }

    fn largest(&self, _logits: &Sized, _rows: usize, _vocab: usize) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }

    fn logits_gradient<'a>(&'a self, _logits: &'a Sized, rows: usize, cols: usize) -> Shape {
        Shape { rows, cols }
    }

    fn add_logit_sums(&self, (): &mut (), _number: usize, _logits: &Sized, _rows: usize, _vocab: usize) -> Result<()> {
        Ok(())
    }

    fn sure(&self, (): &()) -> Result<usize> {
        Ok(0)
    }

    fn sum(&self, (): ()) -> Result<()> {
        Ok(())
    }

    fn wait(&self, (): ()) -> Result<f64> {
        Ok(0.0)
    }

    fn read_logits(&self, _logits: Sized, _cap: f32) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}
