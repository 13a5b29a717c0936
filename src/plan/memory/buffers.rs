//! The buffers of a training step, taken and given back in the order of the decoder's own passes.
//!
//! The engine's buffers are never freed within a run: one that is given back waits until something of its size, or of
//! half its size, is wanted. So what is held in the end is more than the sum of what lives at once, and only going
//! through a step tells how much. [`Shelf`] does what [`Pool`](crate::model::ops::Pool) does, with sizes alone.

use super::shape::Shape;
use super::{Load, Method, Pairs};
use crate::checkpoint::{Dtype, Role};
use crate::plan::layout::{Layout, Weight};
use std::collections::HashMap;

/// Bytes of buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    pub activations: u64,
    pub logits: u64,
    pub workspace: u64,
    /// How many large ones there are.
    pub count: u64,
}

/// Logits that are held at once, in values.
const LOGITS: u64 = 1 << 22;
/// More blocks than any model has: a number in a file does not make a prediction endless.
const MOST: usize = 1024;
/// Query rows of a block of attention.
const ROWS: u64 = 64;

/// A buffer that is out: its capacity.
struct Held(u64);

/// What waits, and what was ever made.
#[derive(Clone, Default)]
struct Shelf {
    waiting: Vec<u64>,
    made: u64,
    count: u64,
}

impl Shelf {
    fn take(&mut self, count: u64) -> Held {
        let fits = |capacity: u64| capacity >= count && capacity / 2 <= count;
        let best = (0..self.waiting.len()).filter(|&at| fits(self.waiting[at])).min_by_key(|&at| self.waiting[at]);
        Held(match best {
            Some(at) => self.waiting.swap_remove(at),
            None => {
                self.made += count;
                self.count += u64::from(4 * count >= super::LARGE);
                count
            }
        })
    }

    fn give(&mut self, held: Held) {
        self.waiting.push(held.0);
    }

    /// Taken and given back at once.
    fn pass(&mut self, count: u64) {
        let held = self.take(count);
        self.give(held);
    }
}

/// A linear layer as far as buffers go.
#[derive(Clone, Copy)]
pub(super) struct Linear {
    pub out: u64,
    pub inner: u64,
    /// Its values are `f32` as they are kept.
    own: bool,
    /// It is kept in 4 bits.
    pub four_bit: bool,
    /// Rank of its pair; 0 for none.
    pub r: u64,
}

/// The linear layers of a block, by their place in it.
#[derive(Clone, Default)]
pub(super) struct Linears {
    pub qkv: Vec<Linear>,
    pub o: Vec<Linear>,
    pub up: Vec<Linear>,
    pub down: Vec<Linear>,
}

#[derive(Clone)]
struct Step<'a> {
    shape: &'a Shape,
    linears: Linears,
    shelf: Shelf,
    tokens: u64,
    seq: u64,
    batch: u64,
    threads: u64,
    dropout: bool,
    /// Weights are trained: the first block's gradient is wanted too.
    full: bool,
}

/// What a block keeps.
struct Tape(Vec<Held>, Held);

/// The buffers of a step.
pub(super) fn of(layout: &Layout, shape: &Shape, pairs: &Pairs, load: &Load) -> Buffers {
    let full = load.method == Method::Full;
    let tokens = load.batch as u64 * load.seq as u64;
    let step = Step {
        shape,
        linears: linears(layout, pairs, load),
        shelf: Shelf::default(),
        tokens,
        seq: load.seq as u64,
        batch: load.batch as u64,
        threads: load.threads.max(1) as u64,
        dropout: load.dropout,
        full,
    };
    let head = layout.weights.iter().find(|weight| weight.role == Role::Head && weight.parameters > 0);
    let head = head.or_else(|| layout.weights.iter().find(|weight| weight.role == Role::Embedding));
    let head_f32 = full || head.is_none_or(|head| !matches!(head.dtype, Dtype::F16 | Dtype::BF16));
    let vocab = shape.vocab as u64;
    let predictions = load.batch as u64 * (load.seq as u64 - 1).max(1);
    let rows = (LOGITS / vocab.max(1)).clamp(1, predictions);
    let spare = if head_f32 { 0 } else { vocab * shape.hidden as u64 };
    // Block by block: what a block finds on the shelf depends on all before it.
    let (own, count) = step.run(shape.layers.min(MOST), load.checkpointing, spare, rows);
    let logits = rows * vocab;
    let workspace = step.largest() + spare;
    // A weight is widened to `f32` whatever the activations are.
    let width = load.precision.bytes();
    Buffers {
        activations: width * own.saturating_sub(logits + workspace),
        logits: width * logits,
        workspace: 4 * workspace,
        count,
    }
}

/// The linear layers of one block; of a pair the largest rank that its like has in any block.
pub(super) fn linears(layout: &Layout, pairs: &Pairs, load: &Load) -> Linears {
    let mut found = Linears::default();
    let first = layout.weights.iter().filter_map(|weight| weight.layer).min();
    let block = layout.weights.iter().filter(|weight| weight.linear && weight.layer == first && first.is_some());
    // The largest rank of every kind of module, found in one pass over the pairs: a model may have 100,000 of them.
    let mut ranks: HashMap<(Role, &str), usize> = HashMap::new();
    for (weight, r) in pairs.0.iter().filter_map(|(place, r)| Some((layout.weights.get(*place)?, *r))) {
        let most = ranks.entry((weight.role, weight.leaf())).or_default();
        *most = r.max(*most);
    }
    for weight in block {
        let known = ranks.get(&(weight.role, weight.leaf())).copied().unwrap_or(0);
        let r = if load.method == Method::Full { 0 } else { known };
        let linear = Linear {
            out: weight.d_out as u64,
            inner: weight.d_in as u64,
            own: load.method == Method::Full || (load.method == Method::Lora && is_f32(weight)),
            four_bit: match load.method {
                Method::Full => false,
                Method::Lora => matches!(weight.dtype, Dtype::NF4 | Dtype::FP4),
                Method::Qlora => true,
            },
            r: r as u64,
        };
        match weight.role {
            Role::Q | Role::K | Role::V | Role::Qkv | Role::Kv => found.qkv.push(linear),
            Role::O => found.o.push(linear),
            Role::Down => found.down.push(linear),
            _ => found.up.push(linear),
        }
    }
    found
}

fn is_f32(weight: &Weight) -> bool {
    !matches!(weight.dtype, Dtype::F16 | Dtype::BF16 | Dtype::NF4 | Dtype::FP4)
}

impl Step<'_> {
    fn of(&self, width: usize) -> u64 {
        self.tokens * width as u64
    }

    fn gemma(&self) -> bool {
        self.shape.sandwich
    }

    fn gated(&self) -> bool {
        self.shape.gated
    }

    /// The largest linear weight that is widened to `f32` at all.
    fn largest(&self) -> u64 {
        let all = [&self.linears.qkv, &self.linears.o, &self.linears.up, &self.linears.down];
        let widened = all.into_iter().flatten().filter(|linear| !linear.own || self.merges(linear));
        widened.map(|linear| linear.out * linear.inner).max().unwrap_or(0)
    }

    /// The branch goes into the weight where the tokens outnumber `out · in / (out + in)`.
    fn merges(&self, linear: &Linear) -> bool {
        linear.r > 0 && !self.dropout && self.tokens * (linear.out + linear.inner) > linear.out * linear.inner
    }

    /// A product, forward.
    fn forward(&mut self, linear: Linear) {
        let merged = self.merges(&linear);
        if !linear.own || merged {
            self.shelf.pass(linear.out * linear.inner);
        }
        if linear.r > 0 && !merged {
            let dropped = self.dropout.then(|| self.shelf.take(self.tokens * linear.inner));
            self.shelf.pass(self.tokens * linear.r);
            dropped.into_iter().for_each(|held| self.shelf.give(held));
        }
    }

    /// A product, backward.
    fn backward(&mut self, linear: Linear, wanted: bool) {
        let merged = self.merges(&linear);
        if wanted && (!linear.own || merged) {
            self.shelf.pass(linear.out * linear.inner);
        }
        if linear.r > 0 {
            let up = self.shelf.take(self.tokens * linear.r);
            let dropped = self.dropout.then(|| self.shelf.take(self.tokens * linear.inner));
            let down = self.shelf.take(self.tokens * linear.r);
            if self.dropout {
                self.shelf.pass(self.tokens * linear.inner);
            }
            dropped.into_iter().chain([up, down]).for_each(|held| self.shelf.give(held));
        }
    }

    fn all_forward(&mut self, which: fn(&Linears) -> &Vec<Linear>) {
        for at in 0..which(&self.linears).len() {
            self.forward(which(&self.linears)[at]);
        }
    }

    fn all_backward(&mut self, which: fn(&Linears) -> &Vec<Linear>, wanted: bool) {
        for at in 0..which(&self.linears).len() {
            self.backward(which(&self.linears)[at], wanted);
        }
    }

    /// Scores of some blocks of queries at once, each against all keys.
    fn scores(&mut self, buffers: u64) {
        let tasks = self.threads.min(self.batch * self.seq.div_ceil(ROWS));
        let held: Vec<Held> = (0..tasks * buffers).map(|_| self.shelf.take(ROWS.min(self.seq) * self.seq)).collect();
        held.into_iter().for_each(|held| self.shelf.give(held));
    }

    /// The output and the tape of a block.
    fn block(&mut self) -> (Held, Tape) {
        let (hidden, gemma) = (self.of(self.shape.hidden), self.gemma());
        let (heads, kv) = (self.shape.heads, self.shape.kv_heads);
        let width = self.of((heads + 2 * kv) * self.shape.head_dim);
        let attention = self.of(heads * self.shape.head_dim);
        let mut kept = Vec::new();
        let qkv = self.shelf.take(width);
        let h = self.shelf.take(hidden);
        self.all_forward(|linears| &linears.qkv);
        self.shelf.give(h);
        kept.push(qkv);
        if self.shape.qk_norm {
            kept.push(self.shelf.take(width));
        }
        kept.push(self.shelf.take(attention));
        self.scores(1);
        let out = self.shelf.take(hidden);
        if gemma {
            kept.push(self.shelf.take(hidden));
        }
        self.all_forward(|linears| &linears.o);
        if gemma {
            self.shelf.pass(hidden);
        }
        if !self.shape.parallel {
            kept.push(self.shelf.take(hidden));
        }
        let h = self.shelf.take(hidden);
        let up = self.shelf.take(self.of(if self.gated() { 2 * self.shape.ffn } else { self.shape.ffn }));
        self.all_forward(|linears| &linears.up);
        self.shelf.give(h);
        let inner = self.shelf.take(self.of(self.shape.ffn));
        if gemma {
            kept.push(self.shelf.take(hidden));
        }
        self.all_forward(|linears| &linears.down);
        if gemma {
            self.shelf.pass(hidden);
        }
        self.shelf.give(inner);
        (out, Tape(kept, up))
    }

    fn block_back(&mut self, tape: Tape, wanted: bool) {
        let (hidden, inner) = (self.of(self.shape.hidden), self.of(self.shape.ffn));
        let attention = self.of(self.shape.heads * self.shape.head_dim);
        let Tape(kept, up) = tape;
        let parallel = (self.shape.parallel).then(|| self.shelf.take(hidden));
        // The MLP.
        let through = self.gemma().then(|| self.shelf.take(hidden));
        let d_inner = self.shelf.take(inner);
        let again = self.shelf.take(inner);
        self.all_backward(|linears| &linears.down, true);
        [Some(again), Some(d_inner), through].into_iter().flatten().for_each(|held| self.shelf.give(held));
        let (h, dh) = (self.shelf.take(hidden), self.shelf.take(hidden));
        self.all_backward(|linears| &linears.up, true);
        [h, dh, up].into_iter().for_each(|held| self.shelf.give(held));
        // The attention.
        let through = self.gemma().then(|| self.shelf.take(hidden));
        let d_attended = self.shelf.take(attention);
        self.all_backward(|linears| &linears.o, true);
        let gathered = self.shelf.take(3 * attention);
        self.scores(2);
        [Some(gathered), Some(d_attended), through].into_iter().flatten().for_each(|held| self.shelf.give(held));
        let h = self.shelf.take(hidden);
        let dh = wanted.then(|| self.shelf.take(hidden));
        self.all_backward(|linears| &linears.qkv, wanted);
        [Some(h), dh, parallel].into_iter().flatten().chain(kept).for_each(|held| self.shelf.give(held));
    }

    /// A whole step of a model with so many blocks; the values of all buffers that there are then, and how many.
    fn run(&self, layers: usize, checkpointing: bool, spare: u64, rows: u64) -> (u64, u64) {
        let mut step = self.clone();
        step.go(layers, checkpointing, spare, rows);
        (step.shelf.made, step.shelf.count)
    }

    fn go(&mut self, layers: usize, checkpointing: bool, spare: u64, rows: u64) {
        let (hidden, vocab) = (self.of(self.shape.hidden), self.shape.vocab as u64);
        let mut inputs = vec![self.shelf.take(hidden)];
        let mut tapes: Vec<Option<Tape>> = Vec::new();
        for _ in 0..layers {
            let (out, tape) = self.block();
            inputs.push(out);
            if checkpointing {
                self.drop_tape(tape);
                tapes.push(None);
            } else {
                tapes.push(Some(tape));
            }
        }
        let d = self.shelf.take(hidden);
        let (h, dh) = (self.shelf.take(hidden), self.shelf.take(hidden));
        let spare = (spare > 0).then(|| self.shelf.take(spare));
        let (logits, picked) = (self.shelf.take(rows * vocab), self.shelf.take(rows * self.shape.hidden as u64));
        [Some(logits), Some(picked), spare, Some(h), Some(dh), inputs.pop()]
            .into_iter()
            .flatten()
            .for_each(|held| self.shelf.give(held));
        for layer in (0..layers).rev() {
            let tape = match tapes.pop().flatten() {
                Some(tape) => tape,
                None => {
                    let (out, tape) = self.block();
                    self.shelf.give(out);
                    tape
                }
            };
            self.block_back(tape, layer > 0 || self.full);
            inputs.pop().into_iter().for_each(|held| self.shelf.give(held));
        }
        self.shelf.give(d);
    }

    fn drop_tape(&mut self, Tape(kept, up): Tape) {
        kept.into_iter().chain([up]).for_each(|held| self.shelf.give(held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Selection, Targets};

    #[test]
    fn checkpointing_keeps_less_the_more_blocks_there_are() {
        for id in ["tinyllama-1.1b", "gemma-2-2b", "pythia-1b", "qwen3-4b"] {
            let layout = Layout::preset(id).unwrap();
            let shape = Shape::of(layout.spec.as_ref().unwrap());
            let pairs = Pairs::uniform(&Selection::new(&layout, &Targets::AllLinear).unwrap(), 8);
            let load = Load { batch: 2, seq: 300, ..Load::default() };
            let step = Step {
                shape: &shape,
                linears: linears(&layout, &pairs, &load),
                shelf: Shelf::default(),
                tokens: 600,
                seq: 300,
                batch: 2,
                threads: 2,
                dropout: false,
                full: false,
            };
            let made = |layers, checkpointing| step.run(layers, checkpointing, 1000, 10).0;
            let saved = |layers| made(layers, false) - made(layers, true);
            assert!(saved(shape.layers) > saved(4), "{id}");
            // With checkpointing a block more keeps its input and little else.
            let (few, all) = (made(4, true), made(shape.layers, true));
            let inputs = (shape.layers - 4) as u64 * 600 * shape.hidden as u64;
            assert!(all - few >= inputs && all - few < 2 * inputs, "{id}: {} against {inputs}", all - few);
        }
    }
}
