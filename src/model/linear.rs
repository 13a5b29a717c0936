//! [`Linear`]: `y = x Wᵀ + b + s · (x Aᵀ) Bᵀ`, the frozen weight with its LoRA branch.
//!
//! The weight becomes `f32` in a buffer that lives for one product. Where the tokens outnumber `out · in / (out + in)`,
//! adding `s · B A` to that buffer costs less than two thin products over the tokens, forward and again for `dx`; then
//! the branch is in the one large product. Otherwise, and under dropout, the branch is computed by itself.
//!
//! ```text
//! dx = dy (W + s·B A)      dB += s · dyᵀ (x Aᵀ)      dA += s · (dy B)ᵀ x      (dW += dyᵀ x where W is trained)
//! ```

use super::dropout::Dropout;
use super::ops::gemm::{Out, View, parallel, product};
use super::ops::{Buf, Pool, add_bias, add_column_sums};
use super::params::{Grads, Params};
use super::watch::Watch;
use super::weight::{Vector, Weight};
use rayon::prelude::*;

/// A LoRA pair beside a weight.
#[derive(Clone, Debug)]
pub struct Lora {
    /// Number of A, `[r, in]`, among the [`Params`].
    pub a: usize,
    /// Number of B, `[out, r]`.
    pub b: usize,
    /// Rank.
    pub r: usize,
    /// α.
    pub alpha: f64,
    /// `α / r` or `α / √r`.
    pub scaling: f32,
}

/// A linear layer.
#[derive(Debug)]
pub struct Linear {
    /// The checkpoint's name for it.
    pub module: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// W.
    pub weight: Weight,
    /// b.
    pub bias: Option<Vector>,
    /// The trained branch.
    pub lora: Option<Lora>,
    /// Number among the gradients of its block, where the frozen weight's own is wanted.
    pub watched: Option<usize>,
}

/// What a pass over the model needs everywhere.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Everything trained.
    pub params: &'a Params,
    /// Where buffers come from.
    pub pool: &'a Pool,
    /// Dropout of the LoRA branches' input, in training.
    pub dropout: Option<Dropout>,
    /// Looks at every module's output, where something is to be found.
    pub watch: Option<&'a Watch>,
}

impl<'a> Run<'a> {
    /// Without dropout.
    pub fn new(params: &'a Params, pool: &'a Pool) -> Self {
        Self { params, pool, dropout: None, watch: None }
    }

    pub(super) fn see(&self, module: impl FnOnce() -> String, values: &[f32]) {
        if let Some(watch) = self.watch {
            watch.see(module, values);
        }
    }
}

/// `f32` values of a weight: its own, or for now.
enum Values<'a> {
    Own(&'a [f32]),
    Now(Buf),
}

impl Values<'_> {
    fn get(&self) -> &[f32] {
        match self {
            Values::Own(values) => values,
            Values::Now(buf) => buf,
        }
    }
}

/// Rows of a weight that are made at once.
const PANEL: usize = 64;

impl Linear {
    /// Whether the branch goes into the weight for a product over `rows` tokens.
    fn merges(&self, run: &Run, rows: usize) -> bool {
        let [out, inner] = self.shape;
        self.lora.is_some() && run.dropout.is_none() && rows * (out + inner) > out * inner
    }

    fn values<'a>(&'a self, run: &Run<'a>, merge: bool) -> Values<'a> {
        let [out, inner] = self.shape;
        let lora = self.lora.as_ref().filter(|_| merge);
        if let Some(values) = self.weight.as_f32(run.params).filter(|_| lora.is_none()) {
            return Values::Own(values);
        }
        let mut buf = run.pool.take(out * inner);
        buf.par_chunks_mut(PANEL * inner).enumerate().for_each(|(panel, values)| {
            let rows = values.len() / inner;
            let first = panel * PANEL;
            self.weight.rows(run.params, first..first + rows, inner, values);
            if let Some(Lora { a, b, r, scaling, .. }) = lora {
                let b = View::dense(&run.params.value(*b)[first * r..], rows, *r);
                let a = View::dense(run.params.value(*a), *r, inner);
                product(Out::dense(values, rows, inner), true, *scaling, b, a);
            }
        });
        Values::Now(buf)
    }

    /// `y = keep·y + …`, where `y` has rows `stride` apart and begins at the first value of its slice.
    pub fn forward(&self, run: &Run, x: &[f32], y: &mut [f32], stride: usize, keep: bool) {
        let [out, inner] = self.shape;
        let rows = x.len() / inner;
        let merged = self.merges(run, rows);
        {
            let values = self.values(run, merged);
            let weight = View::dense(values.get(), out, inner);
            parallel(Out::new(y, rows, out, stride), keep, 1.0, View::dense(x, rows, inner), weight.t());
        }
        if let Some(bias) = &self.bias {
            add_bias(y, stride, &bias.values(run.params));
        }
        if let Some(lora) = self.lora.as_ref().filter(|_| !merged) {
            let dropped = run.dropout.map(|dropout| dropout.applied(run.pool, x, lora.a));
            let x = dropped.as_deref().unwrap_or(x);
            let xa = lora.down(run, x, rows, inner);
            let b = View::dense(run.params.value(lora.b), out, lora.r);
            parallel(Out::new(y, rows, out, stride), true, lora.scaling, View::dense(&xa, rows, lora.r), b.t());
        }
    }

    /// Adds to the gradients of what is trained here; `dx = keep·dx + …` where there is one. `dy` as `y` in
    /// [`forward`](Self::forward).
    pub fn backward(
        &self,
        run: &Run,
        x: &[f32],
        dy: &[f32],
        stride: usize,
        dx: Option<(&mut [f32], bool)>,
        grads: &mut Grads,
    ) {
        let [out, inner] = self.shape;
        let rows = x.len() / inner;
        let d = View::new(dy, rows, out, stride);
        let merged = self.merges(run, rows);
        if let Weight::Trained(number) = self.weight {
            parallel(Out::dense(&mut grads.0[number], out, inner), true, 1.0, d.t(), View::dense(x, rows, inner));
        }
        if let Some(number) = self.watched {
            parallel(Out::dense(&mut grads.0[number], out, inner), true, 1.0, d.t(), View::dense(x, rows, inner));
        }
        if let Some(number) = self.bias.as_ref().and_then(Vector::trained) {
            add_column_sums(&mut grads.0[number], dy, stride);
        }
        let mut dx = dx;
        if let Some((dx, keep)) = &mut dx {
            let values = self.values(run, merged);
            parallel(Out::dense(dx, rows, inner), *keep, 1.0, d, View::dense(values.get(), out, inner));
        }
        let Some(lora) = &self.lora else { return };
        let (a, b) = (run.params.value(lora.a), run.params.value(lora.b));
        let mut dyb = run.pool.take(rows * lora.r);
        parallel(Out::dense(&mut dyb, rows, lora.r), false, lora.scaling, d, View::dense(b, out, lora.r));
        let dropped = run.dropout.map(|dropout| dropout.applied(run.pool, x, lora.a));
        let x = dropped.as_deref().unwrap_or(x);
        let xa = lora.down(run, x, rows, inner);
        let dyb = View::dense(&dyb, rows, lora.r);
        parallel(Out::dense(&mut grads.0[lora.a], lora.r, inner), true, 1.0, dyb.t(), View::dense(x, rows, inner));
        let xa = View::dense(&xa, rows, lora.r);
        parallel(Out::dense(&mut grads.0[lora.b], out, lora.r), true, lora.scaling, d.t(), xa);
        if let Some((dx, _)) = dx.filter(|_| !merged) {
            match run.dropout {
                None => parallel(Out::dense(dx, rows, inner), true, 1.0, dyb, View::dense(a, lora.r, inner)),
                Some(dropout) => {
                    let mut branch = run.pool.take(rows * inner);
                    parallel(Out::dense(&mut branch, rows, inner), false, 1.0, dyb, View::dense(a, lora.r, inner));
                    dropout.apply(&mut branch, lora.a);
                    super::ops::add(dx, &branch);
                }
            }
        }
    }
}

impl Lora {
    /// `x Aᵀ`.
    fn down(&self, run: &Run, x: &[f32], rows: usize, inner: usize) -> Buf {
        let mut xa = run.pool.take(rows * self.r);
        let a = View::dense(run.params.value(self.a), self.r, inner);
        parallel(Out::dense(&mut xa, rows, self.r), false, 1.0, View::dense(x, rows, inner), a.t());
        xa
    }
}
