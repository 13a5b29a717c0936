//! The whole model: loss and gradients of a batch, and logits one token after the other.

use super::block::{BlockCache, Place, Tape};
use super::decoder::Decoder;
use super::linear::Run;
use super::ops::gemm::{Out, View, parallel};
use super::ops::loss::{cap, cross_entropy};
use super::ops::rope::Table;
use super::ops::{Buf, Pool, rows_of};
use super::params::Grads;
use super::watch::Watch;
use super::weight::Weight;
use crate::error::{Error, Result};
use crate::spec::ModelSpec;
use rayon::prelude::*;

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
    pub(super) fn targets(&self) -> Vec<(usize, u32)> {
        let begins = |at: usize| at % self.seq == self.start(at);
        let places = self.labels.iter().enumerate().filter(|&(at, &label)| !begins(at) && label >= 0);
        places.map(|(at, &label)| (at - 1, label as u32)).collect()
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
}

impl Loss {
    /// Per prediction; NaN without any.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
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

/// Logits that are held at once: 16 MB.
const LOGITS: usize = 1 << 22;

impl ModelSpec {
    /// Checks that ids and labels are in the vocabulary and sequences not too long.
    pub(super) fn check(&self, batch: &Batch) -> Result<()> {
        if batch.seq == 0 || !batch.ids.len().is_multiple_of(batch.seq) || batch.ids.len() != batch.labels.len() {
            return Err(Error::failure(format!("{} tokens are no whole sequences of {}", batch.ids.len(), batch.seq)));
        }
        let places = batch.starts.iter().enumerate().all(|(at, &start)| start as usize <= at % batch.seq);
        if !(batch.starts.is_empty() || batch.starts.len() == batch.ids.len() && places) {
            return Err(Error::failure("the begins of packed rows do not fit their sequences"));
        }
        let longest = batch.longest();
        if longest > self.max_positions {
            let message = format!("a sequence of {longest} tokens; the model allows {}", self.max_positions);
            return Err(Error::usage(message));
        }
        let labels = batch.labels.iter().map(|&label| i64::from(label));
        let outside = batch.ids.iter().map(|&id| i64::from(id)).chain(labels).find(|&id| id >= self.vocab as i64);
        match outside {
            Some(id) => Err(Error::usage(format!("token id {id} is outside the model's vocabulary of {}", self.vocab))),
            None => Ok(()),
        }
    }
}

impl Decoder {
    /// Cosines and sines for `positions`, of sequences up to `longest`.
    pub(super) fn tables(&self, positions: usize, longest: usize) -> Vec<Table> {
        self.spec.ropes.iter().map(|rope| rope.table(positions, longest)).collect()
    }

    pub(super) fn embed(&self, run: &Run, batch: &Batch, first: usize) -> Buf {
        let hidden = self.spec.hidden;
        let mut x = run.pool.take(batch.ids.len() * hidden);
        let mut position = vec![0.0; hidden];
        for (at, (row, &id)) in x.chunks_exact_mut(hidden).zip(batch.ids).enumerate() {
            let id = id as usize;
            self.embedding.rows(run.params, id..id + 1, hidden, row);
            if self.spec.embedding_scale != 1.0 {
                row.iter_mut().for_each(|x| *x *= self.spec.embedding_scale);
            }
            if let Some(positions) = &self.positions {
                let number = self.position_offset() + first + at % batch.seq - batch.start(at);
                positions.rows(run.params, number..number + 1, hidden, &mut position);
                row.iter_mut().zip(&position).for_each(|(x, p)| *x += p);
            }
        }
        x
    }

    fn position_offset(&self) -> usize {
        self.spec.positions.as_ref().map_or(0, |positions| positions.offset)
    }

    /// The head's weight, `[vocab, hidden]`.
    fn head(&self) -> &Weight {
        self.head.as_ref().map_or(&self.embedding, |head| &head.weight)
    }

    fn head_values<'a>(&'a self, run: &Run<'a>, spare: &'a mut Option<Buf>) -> &'a [f32] {
        if let Some(values) = self.head().as_f32(run.params) {
            return values;
        }
        let (vocab, hidden) = (self.spec.vocab, self.spec.hidden);
        let spare = spare.insert(run.pool.take(vocab * hidden));
        let some = rows_of(hidden);
        spare.par_chunks_mut(some * hidden).enumerate().for_each(|(index, values)| {
            let first = index * some;
            self.head().rows(run.params, first..first + values.len() / hidden, hidden, values);
        });
        spare
    }

    /// The summed loss of a batch.
    ///
    /// # Errors
    /// Ids outside the vocabulary, sequences longer than the model allows.
    pub fn loss(&self, pool: &Pool, batch: Batch) -> Result<Loss> {
        self.spec.check(&batch)?;
        let run = Run::new(&self.params, pool);
        let longest = batch.longest();
        let tables = self.tables(longest, longest);
        let place = Place { seq: batch.seq, first: 0, starts: batch.starts, tables: &tables };
        let mut x = self.embed(&run, &batch, 0);
        for layer in 0..self.blocks.len() {
            x = self.block_forward(&run, layer, place, &x, None).0;
        }
        let h = self.norm_forward(&run, &self.norm, &x);
        Ok(self.head_loss(&run, &h, &batch.targets(), 1.0, None))
    }

    /// The first module, on the way forward, whose output for a batch is NaN or Inf somewhere.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn first_not_finite(&self, run: &Run, batch: Batch) -> Result<Option<String>> {
        self.spec.check(&batch)?;
        let watch = Watch::default();
        let run = Run { watch: Some(&watch), ..*run };
        let longest = batch.longest();
        let tables = self.tables(longest, longest);
        let place = Place { seq: batch.seq, first: 0, starts: batch.starts, tables: &tables };
        let mut x = self.embed(&run, &batch, 0);
        run.see(|| self.spec.embedding.name.clone(), &x);
        for layer in 0..self.blocks.len() {
            x = self.block_forward(&run, layer, place, &x, None).0;
        }
        let h = self.norm_forward(&run, &self.norm, &x);
        let loss = self.head_loss(&run, &h, &batch.targets(), 1.0, None);
        let head = self.head.as_ref().map_or(&self.spec.embedding.name, |head| &head.module);
        run.see(|| head.clone(), &[loss.sum as f32]);
        Ok(watch.found())
    }

    /// The summed loss of a batch; adds to `grads` the gradient of `backward.scale` times it.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn gradient(&self, run: &Run, batch: Batch, backward: Backward, grads: &mut Grads) -> Result<Loss> {
        self.spec.check(&batch)?;
        let longest = batch.longest();
        let tables = self.tables(longest, longest);
        let place = Place { seq: batch.seq, first: 0, starts: batch.starts, tables: &tables };
        let mut inputs = vec![self.embed(run, &batch, 0)];
        let mut tapes: Vec<Option<Tape>> = Vec::new();
        for layer in 0..self.blocks.len() {
            let (out, tape) = self.block_forward(run, layer, place, &inputs[layer], None);
            inputs.push(out);
            tapes.push((!backward.checkpointing).then_some(tape));
        }
        let mut d = run.pool.zeros(batch.ids.len() * self.spec.hidden);
        let loss = {
            let x = &inputs[self.blocks.len()];
            let h = self.norm_forward(run, &self.norm, x);
            let mut dh = run.pool.zeros(h.len());
            let loss = self.head_loss(run, &h, &batch.targets(), backward.scale, Some((&mut dh, grads)));
            self.norm_backward(run.params, &self.norm, x, &dh, (&mut d, false), grads);
            loss
        };
        inputs.pop();
        let embedding = matches!(self.embedding, Weight::Trained(_));
        for layer in (0..self.blocks.len()).rev() {
            let Some(x) = inputs.pop() else { break };
            let tape = tapes.pop().flatten();
            let tape = tape.unwrap_or_else(|| self.block_forward(run, layer, place, &x, None).1);
            self.block_backward(run, layer, place, &x, tape, &mut d, layer > 0 || embedding, grads);
        }
        self.embed_backward(batch, &d, grads);
        Ok(loss)
    }

    fn embed_backward(&self, batch: Batch, d: &[f32], grads: &mut Grads) {
        let hidden = self.spec.hidden;
        for (at, (d, &id)) in d.chunks_exact(hidden).zip(batch.ids).enumerate() {
            if let Weight::Trained(number) = self.embedding {
                let row = &mut grads.0[number][id as usize * hidden..][..hidden];
                row.iter_mut().zip(d).for_each(|(to, d)| *to += d * self.spec.embedding_scale);
            }
            if let Some(Weight::Trained(number)) = self.positions {
                let position = self.position_offset() + at % batch.seq - batch.start(at);
                let row = &mut grads.0[number][position * hidden..][..hidden];
                row.iter_mut().zip(d).for_each(|(to, d)| *to += d);
            }
        }
    }

    /// Loss of some rows of `h`, in pieces: logits are held once, become their gradient, and are gone.
    pub(super) fn head_loss(
        &self,
        run: &Run,
        h: &[f32],
        targets: &[(usize, u32)],
        scale: f32,
        back: Option<(&mut Buf, &mut Grads)>,
    ) -> Loss {
        let (vocab, hidden) = (self.spec.vocab, self.spec.hidden);
        let mut spare = None;
        let head = View::dense(self.head_values(run, &mut spare), vocab, hidden);
        let rows = (LOGITS / vocab).clamp(1, targets.len().max(1));
        let mut logits = run.pool.take(rows * vocab);
        let mut picked = run.pool.take(rows * hidden);
        let mut loss = Loss { sum: 0.0, count: targets.len() };
        let mut back = back;
        for targets in targets.chunks(rows) {
            let count = targets.len();
            let (logits, picked) = (&mut logits[..count * vocab], &mut picked[..count * hidden]);
            for (to, &(row, _)) in picked.chunks_exact_mut(hidden).zip(targets) {
                to.copy_from_slice(&h[row * hidden..][..hidden]);
            }
            parallel(Out::dense(logits, count, vocab), false, 1.0, View::dense(picked, count, hidden), head.t());
            let ids: Vec<u32> = targets.iter().map(|&(_, id)| id).collect();
            let losses = cross_entropy(logits, vocab, &ids, self.spec.logit_cap, scale);
            loss.sum += losses.into_iter().map(f64::from).sum::<f64>();
            let Some((dh, grads)) = &mut back else { continue };
            let d = View::dense(logits, count, vocab);
            if let Weight::Trained(number) = self.head() {
                let to = Out::dense(&mut grads.0[*number], vocab, hidden);
                parallel(to, true, 1.0, d.t(), View::dense(picked, count, hidden));
            }
            parallel(Out::dense(picked, count, hidden), false, 1.0, d, head);
            for (from, &(row, _)) in picked.chunks_exact(hidden).zip(targets) {
                dh[row * hidden..][..hidden].copy_from_slice(from);
            }
        }
        loss
    }
}

/// Keys and values of one sequence so far.
#[derive(Debug)]
pub struct Cache {
    blocks: Vec<BlockCache>,
    length: usize,
    positions: usize,
    /// Made for the first tokens.
    tables: Vec<Table>,
}

impl Cache {
    /// For sequences of up to `positions` tokens.
    pub fn new(decoder: &Decoder, positions: usize) -> Self {
        let blocks = decoder.blocks.iter().map(|_| BlockCache::default()).collect();
        Self { blocks, length: 0, positions, tables: Vec::new() }
    }

    /// Tokens so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the sequence can go on by `more` tokens; if not, its positions turn by other frequencies from there on
    /// (longrope), and it must be read again from its beginning.
    pub fn goes_on(&self, decoder: &Decoder, more: usize) -> bool {
        let (now, then) = (self.length, self.length + more);
        now == 0 || decoder.spec.ropes.iter().all(|rope| rope.same_for(now, then))
    }

    /// True at the beginning.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Decoder {
    /// Goes on with a sequence by `ids`; the logits of what comes after the last of them.
    ///
    /// # Errors
    /// No ids, ids outside the vocabulary, and a sequence that becomes longer than the model or the cache allows.
    pub fn next(&self, pool: &Pool, ids: &[u32], cache: &mut Cache) -> Result<Vec<f32>> {
        let batch = Batch { ids, labels: &vec![-100; ids.len()], seq: ids.len(), starts: &[] };
        self.spec.check(&batch)?;
        let limit = self.spec.max_positions.min(cache.positions);
        if cache.length + ids.len() > limit {
            let message = format!("a sequence of {} tokens; the model allows {limit}", cache.length + ids.len());
            return Err(Error::usage(message));
        }
        if !cache.goes_on(self, ids.len()) {
            return Err(Error::failure("the rotary frequencies change here: the sequence is to be read again"));
        }
        if cache.is_empty() {
            cache.tables = self.tables(cache.positions, ids.len());
        }
        let run = Run::new(&self.params, pool);
        let place = Place { seq: ids.len(), first: cache.length, starts: &[], tables: &cache.tables };
        let mut x = self.embed(&run, &batch, cache.length);
        for (layer, block) in cache.blocks.iter_mut().enumerate() {
            x = self.block_forward(&run, layer, place, &x, Some(block)).0;
        }
        cache.length += ids.len();
        let (vocab, hidden) = (self.spec.vocab, self.spec.hidden);
        let last = &x[x.len() - hidden..];
        let h = self.norm_forward(&run, &self.norm, last);
        let mut spare = None;
        let head = View::dense(self.head_values(&run, &mut spare), vocab, hidden);
        let mut logits = vec![0.0; vocab];
        parallel(Out::dense(&mut logits, 1, vocab), false, 1.0, View::dense(&h, 1, hidden), head.t());
        if self.spec.logit_cap > 0.0 {
            cap(&mut logits, self.spec.logit_cap);
        }
        Ok(logits)
    }
}
