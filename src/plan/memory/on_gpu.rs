//! The memory of a step on a GPU, taken and given back in the order of `model::gpu`'s own passes.
//!
//! There what is given back can be cut and put together again, so only what lives at once counts. Frozen weights are kept as
//! activations are, or in 4 bits; trained values are `f32`, with a copy as they are multiplied.

use super::buffers::{Linear, Linears, linears};
use super::shape::Shape;
use super::{Load, Memory, Method, Pairs, scales};
use crate::checkpoint::Dtype;
use crate::plan::layout::Layout;

/// How many values are held at once of what comes in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// Attention scores.
    pub scores: u64,
    /// Logits.
    pub logits: u64,
}

/// Bytes that live at once.
#[derive(Clone, Copy, Default)]
struct Count {
    used: u64,
    most: u64,
}

impl Count {
    /// Takes; what is taken is given back by [`give`](Self::give) with the same number.
    fn take(&mut self, bytes: u64) -> u64 {
        self.used += bytes;
        self.most = self.most.max(self.used);
        bytes
    }

    fn give(&mut self, bytes: u64) {
        self.used -= bytes;
    }

    /// Taken and given back at once.
    fn pass(&mut self, bytes: u64) {
        self.take(bytes);
        self.give(bytes);
    }
}

/// What a block keeps for the way back: from the attention's input on, from its output on, and the MLP's.
struct Tape {
    attention: u64,
    between: u64,
    up: u64,
}

struct Step<'a> {
    shape: &'a Shape,
    linears: Linears,
    count: Count,
    load: &'a Load,
    tokens: u64,
    /// Bytes of a value.
    real: u64,
    /// Scores of a piece.
    scores: u64,
    full: bool,
}

/// The memory of a run on `layout` on a GPU; see [`super::predict`].
pub(super) fn of(layout: &Layout, shape: &Shape, pairs: &Pairs, load: &Load, pieces: Pieces) -> Memory {
    let (full, real) = (load.method == Method::Full, load.precision.bytes());
    let (batch, seq) = (load.batch as u64, load.seq as u64);
    let rows = (pieces.scores / (batch * shape.heads as u64 * seq).max(1)).clamp(1, seq);
    let step = Step {
        shape,
        linears: linears(layout, pairs, load),
        count: Count::default(),
        load,
        tokens: batch * seq,
        real,
        scores: batch * shape.heads as u64 * rows * seq,
        full,
    };
    let workspace = real * step.largest();
    let targets = batch * (seq - 1).max(1);
    let logits = (pieces.logits / (shape.vocab as u64).max(1)).clamp(1, targets) * shape.vocab as u64 * (4 + real);
    let most = step.run(logits, targets);
    let trainable = if full { layout.parameters } else { pairs.trainable(layout) };
    let (weights, constants) = if full { (0, 0) } else { frozen(layout, load) };
    Memory {
        weights,
        constants,
        adapters: trainable * if real == 4 { 4 } else { 4 + real },
        gradients: 4 * trainable,
        optimizer: load.optimizer.bytes(trainable),
        activations: most.saturating_sub(logits + workspace),
        logits,
        workspace,
        process: load.process,
    }
}

/// Bytes of weights and of their scales.
fn frozen(layout: &Layout, load: &Load) -> (u64, u64) {
    let real = load.precision.bytes();
    let (mut codes, mut constants, mut counted) = (0, 0, 0);
    for weight in layout.weights.iter().filter(|weight| weight.parameters > 0) {
        let elements = weight.d_out as u64 * weight.d_in as u64;
        let four_bit = load.method == Method::Qlora || matches!(weight.dtype, Dtype::NF4 | Dtype::FP4);
        counted += weight.parameters;
        if weight.linear && four_bit {
            codes += elements.div_ceil(2);
            constants += scales(elements, load.scheme);
        } else if weight.d_in == 1 {
            codes += 4 * weight.parameters;
        } else {
            codes += real * elements + 4 * weight.parameters.saturating_sub(elements);
        }
    }
    (codes + 4 * layout.parameters.saturating_sub(counted), constants)
}

impl Step<'_> {
    /// Bytes of a row of `width` values for each token.
    fn of(&self, width: usize) -> u64 {
        self.real * self.tokens * width as u64
    }

    /// The same in `f32`.
    fn floats(&self, width: usize) -> u64 {
        4 * self.tokens * width as u64
    }

    fn gemma(&self) -> bool {
        self.shape.sandwich
    }

    fn parallel(&self) -> bool {
        self.shape.parallel
    }

    fn gated(&self) -> bool {
        self.shape.gated
    }

    /// Values of the largest weight that becomes whole for a product.
    fn largest(&self) -> u64 {
        let Linears { qkv, o, up, down } = &self.linears;
        let all = [qkv, o, up, down].into_iter().flatten().filter(|linear| linear.four_bit);
        all.map(|linear| linear.out * linear.inner).max().unwrap_or(0)
    }

    fn forward(&mut self, linear: Linear) {
        if linear.four_bit {
            self.count.pass(self.real * linear.out * linear.inner);
        }
        self.branch(linear, false);
    }

    fn backward(&mut self, linear: Linear, wanted: bool) {
        if linear.four_bit && wanted {
            self.count.pass(self.real * linear.out * linear.inner);
        }
        let up = self.count.take(self.real * self.tokens * linear.r);
        self.branch(linear, wanted);
        self.count.give(up);
    }

    /// The adapter's part of a product; `back` where the gradient of its input is formed apart under dropout.
    fn branch(&mut self, linear: Linear, back: bool) {
        if linear.r == 0 {
            return;
        }
        let input = if self.load.dropout { self.real * self.tokens * linear.inner } else { 0 };
        let taken = [input, self.real * self.tokens * linear.r].map(|bytes| self.count.take(bytes));
        if back {
            self.count.pass(input);
        }
        taken.into_iter().for_each(|bytes| self.count.give(bytes));
    }

    fn all(&mut self, which: fn(&Linears) -> &Vec<Linear>, mut act: impl FnMut(&mut Self, Linear)) {
        for at in 0..which(&self.linears).len() {
            let linear = which(&self.linears)[at];
            act(self, linear);
        }
    }

    /// The output and the tape of a block.
    fn block(&mut self) -> (u64, Tape) {
        let (hidden, inner) = (self.of(self.shape.hidden), self.of(self.shape.ffn));
        let queries = self.of(self.shape.heads * self.shape.head_dim);
        let keys = self.of(self.shape.kv_heads * self.shape.head_dim);
        let projected = self.count.take(queries + 2 * keys);
        let h = self.count.take(hidden);
        self.all(|linears| &linears.qkv, Self::forward);
        self.count.give(h);
        let apart = self.count.take(queries + 2 * keys);
        let made = self.count.take(queries);
        self.count.pass((4 + self.real) * self.scores);
        let joined = self.count.take(queries);
        self.count.give(made);
        let out = self.count.take(hidden);
        let mut between = self.added(|linears| &linears.o);
        if !self.parallel() {
            between += self.count.take(hidden);
        }
        let h = self.count.take(hidden);
        let up = self.count.take(if self.gated() { 2 * inner } else { inner });
        self.all(|linears| &linears.up, Self::forward);
        self.count.give(h);
        let activated = self.count.take(inner);
        between += self.added(|linears| &linears.down);
        self.count.give(activated);
        (out, Tape { attention: projected + apart + joined, between, up })
    }

    /// A product that is added to the stream, and what is kept of it.
    fn added(&mut self, which: fn(&Linears) -> &Vec<Linear>) -> u64 {
        let hidden = self.of(self.shape.hidden);
        let kept = if self.gemma() { self.count.take(hidden) } else { 0 };
        self.all(which, Self::forward);
        if self.gemma() {
            self.count.pass(hidden);
        }
        kept
    }

    fn block_back(&mut self, tape: Tape, wanted: bool) {
        let (hidden, inner) = (self.of(self.shape.hidden), self.of(self.shape.ffn));
        let (heads, kv_heads, dim) = (self.shape.heads, self.shape.kv_heads, self.shape.head_dim);
        let queries = self.of(heads * dim);
        let through = if self.gemma() { hidden } else { 0 };
        let whole = if self.parallel() { self.count.take(hidden) } else { 0 };
        // The MLP.
        let gradient = self.count.take(through + inner);
        let again = self.count.take(inner);
        self.all(|linears| &linears.down, |step, linear| step.backward(linear, true));
        self.count.give(again + gradient);
        let h = self.count.take(2 * hidden);
        self.all(|linears| &linears.up, |step, linear| step.backward(linear, true));
        self.count.give(h + tape.up);
        // The attention.
        let gradient = self.count.take(through + queries);
        self.all(|linears| &linears.o, |step, linear| step.backward(linear, true));
        let apart = self.count.take(queries + self.floats(heads) + self.floats((heads + 2 * kv_heads) * dim));
        self.count.pass((8 + 2 * self.real) * self.scores);
        let rows = self.count.take(self.of((heads + 2 * kv_heads) * dim));
        let stats = if self.full && self.shape.qk_norm { self.floats(heads + kv_heads) } else { 0 };
        self.count.pass(stats);
        self.count.give(apart + gradient + tape.attention);
        let h = self.count.take(if wanted { 2 * hidden } else { hidden });
        self.all(|linears| &linears.qkv, |step, linear| step.backward(linear, wanted));
        self.count.give(h + rows + whole + tape.between);
    }

    /// The most bytes of a whole step, with logits of so many bytes for so many targets.
    fn run(mut self, logits: u64, targets: u64) -> u64 {
        const MOST: usize = 1024;
        let layers = self.shape.layers.min(MOST);
        let hidden = self.of(self.shape.hidden);
        // Ids, and where rows begin.
        self.count.take(2 * self.floats(1));
        let mut inputs = vec![self.count.take(hidden)];
        let mut tapes = Vec::new();
        for _ in 0..layers {
            let (out, tape) = self.block();
            inputs.push(out);
            if self.load.checkpointing {
                self.count.give(tape.attention + tape.between + tape.up);
                tapes.push(None);
            } else {
                tapes.push(Some(tape));
            }
        }
        let d = self.count.take(hidden);
        let x = inputs.pop().unwrap_or(0);
        let h = self.count.take(2 * hidden);
        let rows = logits / ((4 + self.real) * self.shape.vocab as u64).max(1);
        self.count.pass(12 * targets + logits + self.real * rows * self.shape.hidden as u64);
        self.count.give(h + x);
        for layer in (0..layers).rev() {
            let tape = tapes.pop().flatten().unwrap_or_else(|| {
                let (out, tape) = self.block();
                self.count.give(out);
                tape
            });
            self.block_back(tape, layer > 0 || self.full);
            let input = inputs.pop().unwrap_or(0);
            self.count.give(input);
        }
        self.count.give(d);
        self.count.most
    }
}
