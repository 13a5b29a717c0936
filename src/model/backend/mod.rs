//! [`Backend`]: the operations that a decoder's pass is made of, on whatever computes them.
//!
//! ```text
//! pass ─ block ─ linear, branch ─► Backend ─┬─ Cpu       the operations of `ops` over buffers of a Pool
//!                                           ├─ OnGpu     the same over a machine's memory
//!                                           └─ Meter     sizes alone: bytes at the peak, floating-point operations
//! ```
//!
//! A pass is written once, generic over this trait. Buffers hold `[tokens, width]`, row after row, and go back to where
//! they came from when they are dropped, so that the order in which a pass lets go of them is what memory is predicted
//! from. An operation may take buffers of its own; on [`Meter`] it takes the same ones.

mod cpu;
mod dry;
mod gpu_buffers;
mod gpu_experts;
mod gpu_heads;
mod gpu_hybrids;
mod gpu_recurrence;
mod hybrids;
mod meter;
mod meter_hybrids;
mod on_gpu;
mod parts;

pub use cpu::Cpu;
pub use dry::Dry;
pub use hybrids::{Buffers, Hybrids};
pub use meter::{Meter, Metered};
pub use on_gpu::{Grads as GpuGrads, OnGpu, Tally};
pub use parts::{Cols, Factor, Lookup, Nonlinear, Place};

use super::branch::Lora;
use super::decoder::{Attention, Experts, NormWeights};
use super::dropout::Dropout;
use super::linear::Linear;
use super::ops::latent::Row as LatentRow;
use super::weight::Vector;
use crate::error::Result;
use crate::spec::Rope;
use std::ops::Range;
use std::sync::Arc;

/// The operations of a decoder. A context: it knows the parameters' values, where buffers come from, and dropout.
pub trait Backend: Hybrids {
    /// A matrix that is multiplied.
    type View<'a>: Factor
    where
        Self: 'a;
    /// A matrix that a product is written to.
    type Out<'a>
    where
        Self: 'a;

    /// Asked before every block; an error where somebody has stopped the pass.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Whether a branch is added to its weight for a product where that is cheaper than two thin products over the tokens. Not
    /// where weights are multiplied in bf16: a small `s · B A` would be lost in the rounding of W.
    fn merges(&self) -> bool;

    /// Logits that are held at once.
    fn logits_at_once(&self) -> usize;

    /// How many of `all` rows are gone through, `at_once` at a time: all of them; on a backend that computes nothing as
    /// many as are held at once, which then count for all, until [`walked_all`](Self::walked_all).
    fn walked(&self, all: usize, at_once: usize) -> usize {
        let _ = at_once;
        all
    }

    /// What comes next counts for itself again.
    fn walked_all(&self) {}

    /// What comes next counts for so many times itself, on a backend that computes nothing.
    fn stands_for(&self, times: f64) {
        let _ = times;
    }

    /// Dropout of the branches' input.
    fn dropout(&self) -> Option<Dropout>;

    /// A buffer of unknown content.
    ///
    /// # Errors
    /// When memory does not suffice; so does every operation that takes a buffer.
    fn alloc(&self, count: usize) -> Result<Self::Buf>;

    /// Zeros.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn zeros(&self, count: usize) -> Result<Self::Buf>;

    /// A copy.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn copy(&self, of: &Self::Buf) -> Result<Self::Buf>;

    /// How many values.
    fn len(&self, buf: &Self::Buf) -> usize;

    /// Whole numbers, where they are computed with.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn ids(&self, ids: &[u32]) -> Result<Self::Ids>;

    /// So many zeros: where nothing is computed with them.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn blank_ids(&self, count: usize) -> Result<Self::Ids>;

    /// Columns of a buffer as a matrix `[rows, cols]`.
    fn view<'a>(&'a self, buf: &'a Self::Buf, rows: usize, cols: usize, at: Cols) -> Self::View<'a>;

    /// The same, to be written.
    fn out<'a>(&'a self, buf: &'a mut Self::Buf, rows: usize, cols: usize, at: Cols) -> Self::Out<'a>;

    /// A weight `[out, in]` as it is multiplied with so many rows; `spare` keeps it alive where it was made for this product.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn weight<'a>(
        &'a self,
        linear: &'a Linear,
        rows: usize,
        spare: &'a mut Option<Self::Buf>,
    ) -> Result<Self::View<'a>>;

    /// As [`weight`](Self::weight), of the head.
    ///
    /// # Errors
    /// As [`weight`](Self::weight).
    fn head<'a>(&'a self, head: &'a Linear, spare: &'a mut Option<Self::Buf>) -> Result<Self::View<'a>> {
        self.weight(head, 0, spare)
    }

    /// `W + s · B A`, `[out, in]`.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc); where a backend cannot ([`merges`](Self::merges)).
    fn merged(&self, linear: &Linear, lora: &Lora) -> Result<Self::Buf>;

    /// A trained matrix as it is multiplied.
    fn param(&self, number: usize, shape: [usize; 2]) -> Self::View<'_>;

    /// Gradients for matrices of these shapes, zero.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn grads(&self, shapes: &[[usize; 2]]) -> Result<Self::Grads>;

    /// Their values.
    ///
    /// # Errors
    /// When the backend does not answer.
    fn read_grads(&self, grads: Self::Grads) -> Result<Vec<Vec<f32>>>;

    /// The gradient of a trained matrix; products are added to it.
    ///
    /// # Errors
    /// When there is none.
    fn grad<'a>(&'a self, grads: &'a mut Self::Grads, number: usize, shape: [usize; 2]) -> Result<Self::Out<'a>>;

    /// `c = keep·c + alpha · a·b`.
    ///
    /// # Errors
    /// When the backend does not answer; so does every operation.
    fn product(&self, c: Self::Out<'_>, keep: bool, alpha: f32, a: Self::View<'_>, b: Self::View<'_>) -> Result<()>;

    /// `to += scale · from`.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn add(&self, to: &mut Self::Buf, from: &Self::Buf, scale: f32) -> Result<()>;

    /// `buf *= scale`.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn scale(&self, buf: &mut Self::Buf, scale: f32) -> Result<()>;

    /// Adds a bias to `rows` rows.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn add_bias(&self, to: &mut Self::Buf, rows: usize, at: Cols, linear: &Linear, bias: &Vector) -> Result<()>;

    /// Adds the sums of the columns of `rows` rows to the gradient of a trained vector of `width` values.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn add_column_sums(
        &self,
        grads: &mut Self::Grads,
        number: usize,
        width: usize,
        from: &Self::Buf,
        rows: usize,
        at: Cols,
    ) -> Result<()>;

    /// The input of a branch with values left out; `place` tells apart the layers of a model.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn dropped(&self, dropout: Dropout, x: &Self::Buf, place: usize) -> Result<Self::Buf>;

    /// `to += dropped(from)`: the way back.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn add_dropped(&self, dropout: Dropout, to: &mut Self::Buf, from: Self::Buf, place: usize) -> Result<()>;

    /// The norms of the rows of a weight `[out, in]`.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc); so do the two that follow, and all three where a backend has no kernel for them.
    fn row_norms(&self, weight: &Self::Buf, shape: [usize; 2]) -> Result<Self::Buf>;

    /// Multiplies row `o` of a weight by `m[o] / norms[o]`, `m` a trained vector.
    ///
    /// # Errors
    /// As [`row_norms`](Self::row_norms).
    fn scale_rows(&self, weight: &mut Self::Buf, shape: [usize; 2], m: usize, norms: &Self::Buf) -> Result<()>;

    /// A copy of columns of `[rows, out]`, column `o` multiplied by `m[o] / norms[o]`.
    ///
    /// # Errors
    /// As [`row_norms`](Self::row_norms).
    fn scale_columns(
        &self,
        dy: &Self::Buf,
        rows: usize,
        at: Cols,
        shape: [usize; 2],
        m: usize,
        norms: &Self::Buf,
    ) -> Result<Self::Buf>;

    /// Adds `Σ dy ∘ plain / norms`, column by column, to the gradient of a trained vector.
    ///
    /// # Errors
    /// As [`row_norms`](Self::row_norms).
    fn add_magnitude(
        &self,
        grads: &mut Self::Grads,
        m: usize,
        dy: (&Self::Buf, Cols),
        plain: &Self::Buf,
        rows: usize,
        norms: &Self::Buf,
    ) -> Result<()>;

    /// Rows, normalized.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn norm(&self, norm: &NormWeights, x: &Self::Buf) -> Result<Self::Buf>;

    /// `dx = keep·dx + …`, and the gradients of the norm itself where it is trained.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn norm_backward(
        &self,
        norm: &NormWeights,
        x: &Self::Buf,
        dy: &Self::Buf,
        dx: &mut Self::Buf,
        keep: bool,
        grads: &mut Self::Grads,
    ) -> Result<()>;

    /// Cosines and sines for `positions`, of sequences up to `longest`.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn angles(&self, ropes: &[Rope], positions: usize, longest: usize) -> Result<Arc<Vec<Self::Angles>>>;

    /// Attention over rows of queries, keys and values, which are normalized and turned first.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn attention(
        &self,
        attention: &Attention,
        place: Place<Self>,
        qkv: Self::Buf,
        cache: Option<&mut Self::Cache>,
    ) -> Result<(Self::Buf, Self::Heads)>;

    /// The gradient by the rows of queries, keys and values; `shared` is what other blocks add to the one by keys and values.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    #[expect(clippy::too_many_arguments, reason = "what the way back needs of the way there")]
    fn attention_backward(
        &self,
        attention: &Attention,
        place: Place<Self>,
        heads: Self::Heads,
        attended: Self::Buf,
        d_attended: &Self::Buf,
        shared: Option<&Self::Buf>,
        grads: &mut Self::Grads,
    ) -> Result<Self::Buf>;

    /// Some columns of rows, by themselves.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc); so do the two that follow, and all three where a backend has no kernel for them.
    fn columns(&self, x: &Self::Buf, rows: usize, at: Cols, width: usize) -> Result<Self::Buf>;

    /// Rows of queries, keys and values from queries, what a latent gave, and `[latent | shared key]`.
    ///
    /// # Errors
    /// As [`columns`](Self::columns).
    fn join_latent(&self, row: LatentRow, q: &Self::Buf, given: &Self::Buf, kv: &Self::Buf) -> Result<Self::Buf>;

    /// The way back: gradients by these three, the last without the latent's.
    ///
    /// # Errors
    /// As [`columns`](Self::columns).
    fn split_latent(&self, row: LatentRow, d: &Self::Buf) -> Result<(Self::Buf, Self::Buf, Self::Buf)>;

    /// Chooses experts by the router's logits `[tokens, experts]`.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc); so do those that follow, and all of them where a backend has no kernels for experts.
    fn route(&self, experts: &Experts, logits: Self::Buf) -> Result<Self::Routes>;

    /// The rows of each expert.
    fn ranges(&self, routes: &Self::Routes) -> Vec<Range<usize>>;

    /// Rows of tokens, expert after expert.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn dispatch(&self, routes: &Self::Routes, x: &Self::Buf, width: usize) -> Result<Self::Buf>;

    /// Sums of rows by their tokens.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn combine(
        &self,
        routes: &Self::Routes,
        from: &Self::Buf,
        width: usize,
        to: &mut Self::Buf,
        keep: bool,
    ) -> Result<()>;

    /// Multiplies rows by the weights of their experts.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn weigh(&self, routes: &Self::Routes, rows: &mut Self::Buf, width: usize) -> Result<()>;

    /// The way back, from rows `x`: `d` becomes the gradient by them; the one by the weights is added to `dw`.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn weigh_backward(
        &self,
        routes: &Self::Routes,
        x: &Self::Buf,
        d: &mut Self::Buf,
        width: usize,
        dw: &mut Self::Buf,
    ) -> Result<()>;

    /// Adds the bias of an expert's last projection to its rows, times their weights.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn add_expert_bias(
        &self,
        routes: &Self::Routes,
        rows: Range<usize>,
        to: &mut Self::Buf,
        of: (&Linear, &Vector),
    ) -> Result<()>;

    /// The way back: the gradient by the weights is added to `dw`, that of the bias to its own where it is trained.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn expert_bias_backward(
        &self,
        routes: &Self::Routes,
        rows: Range<usize>,
        d: &Self::Buf,
        of: (&Linear, &Vector),
        dw: &mut Self::Buf,
        grads: &mut Self::Grads,
    ) -> Result<()>;

    /// The gradient by the router's logits, from the one by the weights; that of the numbers that multiply weights is added to
    /// its own where they are trained.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn route_backward(
        &self,
        experts: &Experts,
        routes: Self::Routes,
        dw: Self::Buf,
        grads: &mut Self::Grads,
    ) -> Result<Self::Buf>;

    /// `x ∘ sigmoid(gate)`; a gate of fewer values has one for each row of `x`.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn gate(&self, x: &Self::Buf, gate: &Self::Buf) -> Result<Self::Buf>;

    /// The gradient `d` by what [`gate`](Self::gate) gave becomes the one by `x`, and `gate` the one by itself.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn gate_backward(&self, x: &Self::Buf, gate: &mut Self::Buf, d: &mut Self::Buf) -> Result<()>;

    /// Room for the keys and values of up to `positions` tokens.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn cache(&self, attention: &Attention, positions: usize) -> Result<Self::Cache>;

    /// The nonlinearity.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn activation(&self, f: Nonlinear, up: &Self::Buf) -> Result<Self::Buf>;

    /// What went into it becomes the gradient by it.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn activation_backward(&self, f: Nonlinear, up: &mut Self::Buf, d: &Self::Buf) -> Result<()>;

    /// Rows of the embedding, scaled, with those of the positions where there are any.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn embed(
        &self,
        table: &Linear,
        scale: f32,
        positions: Option<(&Linear, usize)>,
        at: &Lookup<Self>,
    ) -> Result<Self::Buf>;

    /// Adds to the gradients of the embedding and of the positions where they are trained.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn embed_backward(
        &self,
        table: &Linear,
        scale: f32,
        positions: Option<(&Linear, usize)>,
        at: &Lookup<Self>,
        d: &Self::Buf,
        grads: &mut Self::Grads,
    ) -> Result<()>;

    /// `out = ` the rows of `x` that `index` names in `range`.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn gather(
        &self,
        x: &Self::Buf,
        width: usize,
        index: &Self::Ids,
        range: Range<usize>,
        out: &mut Self::Buf,
    ) -> Result<()>;

    /// The way back: no row stands twice in the index.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn scatter(
        &self,
        from: &Self::Buf,
        width: usize,
        index: &Self::Ids,
        range: Range<usize>,
        to: &mut Self::Buf,
    ) -> Result<()>;

    /// Room for rows of logits, and for their gradient where there is a way back.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn logits(&self, rows: usize, vocab: usize, backward: bool) -> Result<Self::Logits>;

    /// The logits of some rows, to be written.
    fn logits_out<'a>(&'a self, logits: &'a mut Self::Logits, rows: usize, vocab: usize) -> Self::Out<'a>;

    /// Adds the head's bias to rows of logits.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn add_logit_bias(
        &self,
        logits: &mut Self::Logits,
        rows: usize,
        vocab: usize,
        head: &Linear,
        bias: &Vector,
    ) -> Result<()>;

    /// Room for so many losses.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn losses(&self, count: usize) -> Result<Self::Losses>;

    /// The losses of rows of logits for the targets in `range`; with a `scale`, the gradient times it.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    #[allow(clippy::too_many_arguments)]
    fn cross_entropy(
        &self,
        logits: &mut Self::Logits,
        vocab: usize,
        targets: &Self::Ids,
        range: Range<usize>,
        cap: f32,
        scale: Option<f32>,
        losses: &mut Self::Losses,
    ) -> Result<()>;

    /// Where the largest of each row of logits stands, of equals the first.
    ///
    /// # Errors
    /// When the backend does not answer.
    fn largest(&self, logits: &Self::Logits, rows: usize, vocab: usize) -> Result<Vec<u32>>;

    /// The gradient by some rows of logits.
    fn logits_gradient<'a>(&'a self, logits: &'a Self::Logits, rows: usize, vocab: usize) -> Self::View<'a>;

    /// Adds the gradient by rows of logits up, column by column: the gradient of a head's bias.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn add_logit_sums(
        &self,
        grads: &mut Self::Grads,
        number: usize,
        logits: &Self::Logits,
        rows: usize,
        vocab: usize,
    ) -> Result<()>;

    /// How many losses are below [`loss::SURE`](super::ops::loss::SURE).
    ///
    /// # Errors
    /// When the backend does not answer.
    fn sure(&self, losses: &Self::Losses) -> Result<usize>;

    /// The sum of all losses.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn sum(&self, losses: Self::Losses) -> Result<Self::Sum>;

    /// The number, once everything before is computed.
    ///
    /// # Errors
    /// When the backend does not answer.
    fn wait(&self, sum: Self::Sum) -> Result<f64>;

    /// One row of logits, capped where `cap` is not 0.
    ///
    /// # Errors
    /// When the backend does not answer.
    fn read_logits(&self, logits: Self::Logits, cap: f32) -> Result<Vec<f32>>;

    /// Looks at the rows that go into a linear layer, where their mean squares are wanted.
    fn see_input(&self, linear: &Linear, x: &Self::Buf, rows: usize, at: Cols) {
        let _ = (linear, x, rows, at);
    }

    /// Looks at what a module gave, where numbers that are not finite are searched for.
    fn see(&self, module: impl FnOnce() -> String, buf: &Self::Buf, width: usize, at: Cols) {
        let _ = (module, buf, width, at);
    }
}
