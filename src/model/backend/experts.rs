//! What a mixture of experts asks of a backend: tokens to their experts and back.

use crate::error::Result;
use crate::model::decoder::Experts;
use crate::model::weight::Vector;
use std::ops::Range;

/// What operators read and write.
pub trait Buffers: Sized {
    /// Activations.
    type Buf;
    /// Which experts the tokens go through.
    type Routes;
    /// Gradients of what is trained.
    type Grads;
}

/// Routing, and sums over the experts of a token.
pub trait ExpertOps: Buffers {
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

    /// Adds an expert's bias to its rows, times their weights.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn add_expert_bias(
        &self,
        routes: &Self::Routes,
        rows: Range<usize>,
        to: &mut Self::Buf,
        bias: &Vector,
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
        bias: &Vector,
        dw: &mut Self::Buf,
        grads: &mut Self::Grads,
    ) -> Result<()>;

    /// The gradient by the router's logits, from the one by the weights.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn route_backward(&self, experts: &Experts, routes: Self::Routes, dw: Self::Buf) -> Result<Self::Buf>;
}
