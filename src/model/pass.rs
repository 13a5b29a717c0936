//! The whole model, on any [`Backend`]: loss and gradients of a batch, and logits one token after the other.

use super::backend::{Backend, Cols, Cpu, Factor, Lookup, Place};
use super::beside::Beside;
use super::block::Tape;
use super::decoder::Decoder;
use super::watch::Watch;
use crate::error::{Error, Result};
use crate::spec::ModelSpec;
use std::sync::Arc;

/// Token ids and what to predict, `[batch, seq]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// Token ids, sequence after sequence.
    pub ids: &'a [u32],
    /// The id that should come *at* each place, −100 (or any negative number) where nothing is asked; row t predicts
    /// place t + 1.
    pub labels: &'a [i32],
    /// Tokens of a sequence.
    pub seq: usize,
    /// Where several rows are packed into a sequence: for every token the place in its sequence at which its row begins.
    /// Nothing sees or predicts across. Empty where every sequence is one row.
    pub starts: &'a [u32],
}

impl Batch<'_> {
    /// Places where something is predicted: row and token.
    pub(super) fn targets(&self) -> Vec<(u32, u32)> {
        let begins = |at: usize| at % self.seq == self.start(at);
        let places = self.labels.iter().enumerate().filter(|&(at, &label)| !begins(at) && label >= 0);
        places.map(|(at, &label)| (at as u32 - 1, label as u32)).collect()
    }

    fn start(&self, at: usize) -> usize {
        self.starts.get(at).map_or(0, |&start| start as usize)
    }

    /// Tokens of the longest row.
    pub(super) fn longest(&self) -> usize {
        if self.starts.is_empty() {
            return self.seq;
        }
        (0..self.ids.len()).map(|at| at % self.seq - self.start(at) + 1).max().unwrap_or(0)
    }

    /// How many predictions there are.
    pub fn predictions(&self) -> usize {
        self.targets().len()
    }
}

/// The sum of the losses of a batch, in nats, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Σ −log p(target).
    pub sum: f64,
    /// Predictions.
    pub count: usize,
    /// Those that get more than half of the probability: `−log p < ln 2`. Counted where nothing is trained.
    pub sure: usize,
}

impl Loss {
    /// Share of the predictions that get more than half of the probability; NaN without any.
    pub fn sure(&self) -> f64 {
        self.sure as f64 / self.count as f64
    }

    /// Per prediction; NaN without any.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

impl std::ops::Add for Loss {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, count: self.count + other.count, sure: self.sure + other.sure }
    }
}

/// How to go backward.
#[derive(Clone, Copy, Debug)]
pub struct Backward {
    /// Multiplies the gradient: one over the predictions of a whole step.
    pub scale: f32,
    /// Keep only the blocks' inputs, and go forward again block by block.
    pub checkpointing: bool,
}

/// Checks that ids and labels are in the vocabulary and sequences not too long.
fn check(spec: &ModelSpec, batch: &Batch) -> Result<()> {
    if batch.seq == 0 || !batch.ids.len().is_multiple_of(batch.seq) || batch.ids.len() != batch.labels.len() {
        return Err(Error::failure(format!("{} tokens are no whole sequences of {}", batch.ids.len(), batch.seq)));
    }
    let places = batch.starts.iter().enumerate().all(|(at, &start)| start as usize <= at % batch.seq);
    if !(batch.starts.is_empty() || batch.starts.len() == batch.ids.len() && places) {
        return Err(Error::failure("the begins of packed rows do not fit their sequences"));
    }
    let longest = batch.longest();
    if longest > spec.max_positions {
        let message = format!("a sequence of {longest} tokens; the model allows {}", spec.max_positions);
        return Err(Error::usage(message));
    }
    let labels = batch.labels.iter().map(|&label| i64::from(label));
    let outside = batch.ids.iter().map(|&id| i64::from(id)).chain(labels).find(|&id| id >= spec.vocab as i64);
    match outside {
        Some(id) => Err(Error::usage(format!("token id {id} is outside the model's vocabulary of {}", spec.vocab))),
        None => Ok(()),
    }
}

/// A batch where it is computed with.
pub(super) struct Input<B: Backend> {
    ids: B::Ids,
    starts: Option<B::Ids>,
    angles: Arc<Vec<B::Angles>>,
    pub(super) rows: usize,
    pub(super) seq: usize,
    first: usize,
    positions: usize,
    /// Rows of the table of positions, where these are looked up by themselves.
    pub(super) places: Option<B::Ids>,
    beside: Beside<B>,
}

impl<B: Backend> Input<B> {
    pub(super) fn new(on: &B, spec: &ModelSpec, batch: &Batch) -> Result<Self> {
        check(spec, batch)?;
        let positions = batch.longest();
        Ok(Self {
            angles: on.angles(&spec.ropes, positions, positions)?,
            ids: on.ids(batch.ids)?,
            starts: if batch.starts.is_empty() { None } else { Some(on.ids(batch.starts)?) },
            rows: batch.ids.len(),
            seq: batch.seq,
            first: 0,
            positions,
            places: places(on, spec, 0, batch.ids.len(), |at| at % batch.seq - batch.start(at))?,
            beside: Beside::default(),
        })
    }

    pub(super) fn place(&self) -> Place<'_, B> {
        let Self { rows, seq, first, positions, .. } = *self;
        Place { rows, seq, first, positions, starts: self.starts.as_ref(), angles: &self.angles, beside: &self.beside }
    }

    /// Of `batch` sequences of `seq` tokens, whichever they are.
    fn blank(on: &B, spec: &ModelSpec, batch: usize, seq: usize) -> Result<Self> {
        let rows = batch * seq;
        let angles = on.angles(&spec.ropes, seq, seq)?;
        let (ids, beside) = (on.blank_ids(rows)?, Beside::default());
        let places = spec.narrow.as_ref().map(|_| on.blank_ids(rows)).transpose()?;
        Ok(Self { ids, starts: None, angles, rows, seq, first: 0, positions: seq, places, beside })
    }

    pub(super) fn lookup(&self) -> Lookup<'_, B> {
        Lookup { ids: &self.ids, starts: self.starts.as_ref(), seq: self.seq, first: self.first }
    }
}

/// Rows of the table of positions for `count` tokens from `first` on, where these are looked up by themselves.
fn places<B: Backend>(
    on: &B,
    spec: &ModelSpec,
    first: usize,
    count: usize,
    place: impl Fn(usize) -> usize,
) -> Result<Option<B::Ids>> {
    let Some(positions) = spec.positions.as_ref().filter(|_| spec.narrow.is_some()) else { return Ok(None) };
    let list: Vec<u32> = (0..count).map(|at| (positions.offset + first + place(at)) as u32).collect();
    on.ids(&list).map(Some)
}

/// The rows that predict something, and what.
pub(super) struct Targets<B: Backend> {
    index: B::Ids,
    ids: B::Ids,
    count: usize,
}

impl<B: Backend> Targets<B> {
    pub(super) fn new(on: &B, batch: &Batch) -> Result<Self> {
        let (index, ids): (Vec<u32>, Vec<u32>) = batch.targets().into_iter().unzip();
        Ok(Self { index: on.ids(&index)?, ids: on.ids(&ids)?, count: ids.len() })
    }
}

/// Where gradients go on the way back from the head.
pub(super) struct Head<'a, B: Backend> {
    /// By what the head reads: zero where nothing is predicted.
    pub dh: &'a mut B::Buf,
    /// Of what is trained.
    pub grads: &'a mut B::Grads,
    /// Multiplies the gradient.
    pub scale: f32,
}

impl Decoder {
    /// What the first block reads, and embeddings before their norm, where they have one.
    pub(super) fn begin<B: Backend>(&self, on: &B, input: &Input<B>) -> Result<(B::Buf, Option<B::Buf>)> {
        let embedded = self.embed(on, input)?;
        on.see(|| self.embedding.module.clone(), &embedded, self.spec.hidden, Cols::all(self.spec.hidden));
        if let Some(inputs) = &self.per_layer {
            input.beside.set_inputs(inputs.forward(on, &embedded, input.rows, &input.lookup())?);
        }
        match &self.embedding_norm {
            Some(norm) => Ok((on.norm(norm, &embedded)?, Some(embedded))),
            None => Ok((embedded, None)),
        }
    }

    /// The last block's output.
    fn blocks_forward<B: Backend>(&self, on: &B, input: &Input<B>) -> Result<B::Buf> {
        let mut x = self.begin(on, input)?.0;
        for block in &self.blocks {
            on.check()?;
            x = block.forward(on, input.place(), &x, None)?.0;
        }
        Ok(x)
    }

    fn sum<B: Backend>(&self, on: &B, batch: &Batch, choices: Option<&mut Vec<u32>>) -> Result<Loss> {
        let input = Input::new(on, &self.spec, batch)?;
        let x = self.blocks_forward(on, &input)?;
        let h = self.head_reads(on, &x)?;
        let mut sure = 0;
        let sum = self.head_loss(on, &h, &Targets::new(on, batch)?, None, choices, Some(&mut sure))?;
        Ok(Loss { sum: on.wait(sum)?, count: batch.predictions(), sure })
    }

    /// The summed loss of a batch.
    ///
    /// # Errors
    /// Ids outside the vocabulary, sequences longer than the model allows; memory that does not suffice.
    pub fn loss<B: Backend>(&self, on: &B, batch: Batch) -> Result<Loss> {
        self.sum(on, &batch, None)
    }

    /// As [`loss`](Self::loss), and the token that is most likely at each place where something is predicted.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn choices<B: Backend>(&self, on: &B, batch: Batch) -> Result<(Loss, Vec<u32>)> {
        let mut choices = Vec::new();
        let loss = self.sum(on, &batch, Some(&mut choices))?;
        Ok((loss, choices))
    }

    /// The first module, on the way forward, whose output for a batch is NaN or Inf somewhere.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn first_not_finite(&self, on: &Cpu, batch: Batch) -> Result<Option<String>> {
        let watch = Watch::default();
        let loss = self.sum(&Cpu { watch: Some(&watch), ..*on }, &batch, None)?;
        watch.see(|| self.head().module.clone(), &[loss.sum as f32]);
        Ok(watch.found())
    }

    /// The summed loss of a batch; adds to `grads` the gradient of `backward.scale` times it.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn gradient<B: Backend>(
        &self,
        on: &B,
        batch: Batch,
        backward: Backward,
        grads: &mut B::Grads,
    ) -> Result<B::Sum> {
        let input = Input::new(on, &self.spec, &batch)?;
        self.step(on, &input, &Targets::new(on, &batch)?, backward, grads)
    }

    /// A step on `batch` sequences of `seq` tokens that predict all but their first, whichever they are: for a backend that
    /// computes nothing.
    ///
    /// # Errors
    /// What the backend's operations say.
    pub fn measure<B: Backend>(
        &self,
        on: &B,
        [batch, seq]: [usize; 2],
        backward: Backward,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let input = Input::blank(on, &self.spec, batch, seq)?;
        let count = batch * (seq - 1).max(1);
        let targets = Targets { index: on.blank_ids(count)?, ids: on.blank_ids(count)?, count };
        self.step(on, &input, &targets, backward, grads).map(drop)
    }

    fn step<B: Backend>(
        &self,
        on: &B,
        input: &Input<B>,
        targets: &Targets<B>,
        backward: Backward,
        grads: &mut B::Grads,
    ) -> Result<B::Sum> {
        let place = input.place();
        let (begin, embedded) = self.begin(on, input)?;
        let mut inputs = vec![begin];
        let mut tapes: Vec<Option<Tape<B>>> = Vec::new();
        for (layer, block) in self.blocks.iter().enumerate() {
            on.check()?;
            let (out, tape) = block.forward(on, place, &inputs[layer], None)?;
            inputs.push(out);
            tapes.push((!backward.checkpointing).then_some(tape));
        }
        let Some(x) = inputs.pop() else { return Err(Error::failure("a pass without an input")) };
        let (sum, mut d) = self.end(on, targets, backward.scale, &x, grads, None)?;
        drop(x);
        let trained = self.embedding.weight.trained().is_some();
        let mut first = None;
        for (layer, block) in self.blocks.iter().enumerate().rev() {
            on.check()?;
            let Some(x) = inputs.pop() else { break };
            if layer == 0 && self.per_layer.is_some() {
                first = Some(on.copy(&x)?);
            }
            let tape = match tapes.pop().flatten() {
                Some(tape) => tape,
                None => block.forward(on, place, &x, None)?.1,
            };
            on.check()?;
            let wanted = layer > 0 || trained || self.narrow.is_some();
            block.backward(on, place, &x, tape, &mut d, wanted, grads)?;
        }
        if let (Some(inputs), Some(x), Some(d_inputs)) = (&self.per_layer, first, input.beside.take_inputs_gradient()) {
            inputs.backward(on, &x, input.rows, &input.lookup(), d_inputs, &mut d, grads)?;
        }
        if trained || self.narrow.is_some() {
            if let (Some(norm), Some(embedded)) = (&self.embedding_norm, &embedded) {
                let mut dx = on.alloc(on.len(&d))?;
                on.norm_backward(norm, embedded, &d, &mut dx, false, grads)?;
                d = dx;
            }
            self.embed_backward(on, input, &d, grads)?;
        }
        Ok(sum)
    }

    /// Norm, head and loss; and the gradient by the last block's output `x`.
    pub(super) fn end<B: Backend>(
        &self,
        on: &B,
        targets: &Targets<B>,
        scale: f32,
        x: &B::Buf,
        grads: &mut B::Grads,
        sure: Option<&mut usize>,
    ) -> Result<(B::Sum, B::Buf)> {
        let h = self.head_reads(on, x)?;
        let mut dh = on.zeros(on.len(&h))?;
        let back = Head { dh: &mut dh, grads: &mut *grads, scale };
        let sum = self.head_loss(on, &h, targets, Some(back), None, sure)?;
        drop(h);
        Ok((sum, self.head_reads_backward(on, x, dh, grads)?))
    }

    /// Loss of the rows of `h` that predict something, in pieces: logits are held once, become their gradient, and are gone.
    fn head_loss<B: Backend>(
        &self,
        on: &B,
        h: &B::Buf,
        targets: &Targets<B>,
        mut back: Option<Head<B>>,
        mut choices: Option<&mut Vec<u32>>,
        sure: Option<&mut usize>,
    ) -> Result<B::Sum> {
        let (head, factor, cap) = (self.head(), self.spec.logit_scale, self.spec.logit_cap);
        let [vocab, hidden] = head.shape;
        let Targets { index, ids, count: all } = targets;
        let mut losses = on.losses(*all)?;
        if *all == 0 {
            return on.sum(losses);
        }
        let rows = (on.logits_at_once() / vocab).clamp(1, *all);
        let mut spare = None;
        let weight = on.head(head, &mut spare)?;
        let mut logits = on.logits(rows, vocab, back.is_some())?;
        let mut picked = on.alloc(rows * hidden)?;
        let whole = Cols::all(hidden);
        for first in (0..on.walked(*all, rows)).step_by(rows) {
            let range = first..(first + rows).min(*all);
            let count = range.len();
            on.gather(h, hidden, index, range.clone(), &mut picked)?;
            let out = on.logits_out(&mut logits, count, vocab);
            on.product(out, false, factor, on.view(&picked, count, hidden, whole), weight.t())?;
            if let Some(bias) = &head.bias {
                on.add_logit_bias(&mut logits, count, vocab, head, bias)?;
            }
            if let Some(choices) = &mut choices {
                choices.extend(on.largest(&logits, count, vocab)?);
            }
            let scale = back.as_ref().map(|back| back.scale);
            on.cross_entropy(&mut logits, vocab, ids, range.clone(), cap, scale, &mut losses)?;
            let Some(Head { dh, grads, .. }) = &mut back else { continue };
            let d = on.logits_gradient(&logits, count, vocab);
            if let Some(number) = head.weight.trained() {
                let picked = on.view(&picked, count, hidden, whole);
                on.product(on.grad(grads, number, head.shape)?, true, factor, d.t(), picked)?;
            }
            if let Some(number) = head.bias.as_ref().and_then(super::Vector::trained) {
                on.add_logit_sums(grads, number, &logits, count, vocab)?;
            }
            on.product(on.out(&mut picked, count, hidden, whole), false, factor, d, weight)?;
            on.scatter(&picked, hidden, index, range, dh)?;
        }
        on.walked_all();
        if let Some(sure) = sure {
            *sure += on.sure(&losses)?;
        }
        on.sum(losses)
    }
}

/// Keys and values of one sequence so far.
pub struct Cache<B: Backend> {
    blocks: Vec<Option<B::Cache>>,
    length: usize,
    positions: usize,
    /// Made for a sequence of so many tokens.
    longest: usize,
    angles: Arc<Vec<B::Angles>>,
}

impl<B: Backend> Cache<B> {
    /// For a sequence of up to `positions` tokens.
    ///
    /// # Errors
    /// When memory does not suffice.
    pub fn new(on: &B, decoder: &Decoder, positions: usize) -> Result<Self> {
        let blocks = decoder.blocks.iter().map(|block| block.cache(on, positions));
        Ok(Self { blocks: blocks.collect::<Result<_>>()?, length: 0, positions, longest: 0, angles: Arc::default() })
    }

    /// Whether the sequence can go on by `more` tokens; if not, its positions turn by other frequencies from there on
    /// (longrope), and it must be read again from its beginning.
    pub fn goes_on(&self, decoder: &Decoder, more: usize) -> bool {
        let (now, then) = (self.length, self.length + more);
        now == 0 || decoder.spec.ropes.iter().all(|rope| rope.keeps_keys(now, then))
    }
}

impl Decoder {
    /// Goes on with a sequence by `ids`; the logits of what comes after the last of them.
    ///
    /// # Errors
    /// No ids, ids outside the vocabulary, and a sequence that becomes longer than the model or the cache allows.
    pub fn next<B: Backend>(&self, on: &B, ids: &[u32], cache: &mut Cache<B>) -> Result<Vec<f32>> {
        check(&self.spec, &Batch { ids, labels: &vec![-100; ids.len()], seq: ids.len(), starts: &[] })?;
        let limit = self.spec.max_positions.min(cache.positions);
        let positions = cache.length + ids.len();
        if positions > limit {
            return Err(Error::usage(format!("a sequence of {positions} tokens; the model allows {limit}")));
        }
        if !cache.goes_on(self, ids.len()) {
            return Err(Error::failure("the rotary frequencies change here: the sequence is to be read again"));
        }
        if cache.length == 0 || !self.spec.ropes.iter().all(|rope| rope.same_for(cache.longest, positions)) {
            cache.angles = on.angles(&self.spec.ropes, cache.positions, positions)?;
            cache.longest = positions;
        }
        let (rows, first) = (ids.len(), cache.length);
        let angles = Arc::clone(&cache.angles);
        let input = Input {
            ids: on.ids(ids)?,
            starts: None,
            angles,
            rows,
            seq: rows,
            first,
            positions,
            places: places(on, &self.spec, first, rows, |at| at)?,
            beside: Beside::default(),
        };
        let mut x = self.begin(on, &input)?.0;
        for (block, cache) in self.blocks.iter().zip(&mut cache.blocks) {
            x = block.forward(on, input.place(), &x, cache.as_mut())?.0;
        }
        cache.length = positions;
        let (head, width) = (self.head(), self.spec.hidden);
        let [vocab, hidden] = head.shape;
        let mut last = on.alloc(width)?;
        on.gather(&x, width, &on.ids(&[rows as u32 - 1])?, 0..1, &mut last)?;
        let h = self.head_reads(on, &last)?;
        let mut spare = None;
        let weight = on.head(head, &mut spare)?;
        let mut logits = on.logits(1, vocab, false)?;
        let h = on.view(&h, 1, hidden, Cols::all(hidden));
        on.product(on.logits_out(&mut logits, 1, vocab), false, self.spec.logit_scale, h, weight.t())?;
        if let Some(bias) = &head.bias {
            on.add_logit_bias(&mut logits, 1, vocab, head, bias)?;
        }
        on.read_logits(logits, self.spec.logit_cap)
    }
}
