//! [`Model`]: a decoder in a machine's memory; loss and gradients of a batch, and logits one token after the other.

use super::attention::Angles;
use super::block::{Block, BlockCache, Place, Tape};
use super::linear::{Linear, Run};
use super::machine::Element;
use super::memory::{Span, Tensor};
use super::norm::Norm;
use super::ops::{Gpu, Mat};
use super::weights::{Matrix, ParamStore};
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::params::{Grads, Params};
use crate::model::{Backward, Batch, Dropout, ModelSpec};
use std::sync::{Arc, Mutex, PoisonError};

/// A decoder in a machine's memory.
#[derive(Debug)]
pub struct Model {
    /// Where it is.
    pub gpu: Gpu,
    pub(super) params: ParamStore,
    /// What it computes.
    pub spec: ModelSpec,
    embedding: Matrix,
    positions: Option<Matrix>,
    blocks: Vec<Block>,
    norm: Norm,
    /// `None` where the embedding is the head.
    head: Option<Linear>,
    /// The tables that were used last.
    angles: Mutex<Tables>,
    /// The sum of the losses, and of the squares of the gradient: two `f64`.
    pub(super) totals: Tensor,
}

/// Cosines and sines.
#[derive(Clone, Debug, Default)]
struct Tables {
    /// For so many positions.
    positions: usize,
    /// Of sequences up to so many tokens.
    longest: usize,
    angles: Arc<Vec<Angles>>,
}

impl Model {
    /// Copies a decoder, tensor by tensor.
    ///
    /// # Errors
    /// When the machine's memory does not suffice.
    pub fn put(gpu: Gpu, decoder: &Decoder) -> Result<Self> {
        let (spec, params) = (decoder.spec.clone(), &decoder.params);
        if spec.ropes.iter().any(|rope| rope.interleaved) {
            let family = &spec.model_type;
            return Err(Error::usage(format!(
                "{family} turns neighbouring dimensions; a GPU does not compute that here"
            )));
        }
        let table = [spec.vocab, spec.hidden];
        let positions = spec.positions.as_ref().map_or([0, 0], |positions| positions.module.shape);
        let blocks = (0..decoder.blocks.len()).map(|layer| Block::put(&gpu, decoder, layer));
        Ok(Self {
            params: ParamStore::upload(&gpu, params)?,
            embedding: Matrix::upload(&gpu, &decoder.embedding, params, table)?,
            positions: decoder.positions.as_ref().map(|w| Matrix::upload(&gpu, w, params, positions)).transpose()?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: Norm::upload(&gpu, &decoder.norm)?,
            head: decoder.head.as_ref().map(|head| Linear::put(&gpu, head, params)).transpose()?,
            angles: Mutex::default(),
            totals: gpu.arena.zeros(Element::F64, 2)?,
            gpu,
            spec,
        })
    }

    /// Takes the values of everything trained anew.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn put_params(&self, params: &Params) -> Result<()> {
        self.params.upload_values(&self.gpu, params)
    }

    /// Gives the values of everything trained back.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn read_params(&self, params: &mut Params) -> Result<()> {
        let values = self.params.read(&self.params.p)?;
        params.list.iter_mut().zip(values).for_each(|(param, value)| param.value = value);
        Ok(())
    }

    /// The gradients since they were last cleared.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn read_grads(&self) -> Result<Grads> {
        let read = |g| self.params.read(g);
        Ok(Grads(self.params.g.as_ref().map(read).transpose()?.unwrap_or_default()))
    }

    /// Sets gradients and totals to zero.
    ///
    /// # Errors
    /// When the machine's memory does not suffice.
    pub fn clear(&mut self) -> Result<()> {
        match &self.params.g {
            Some(g) => g.all().clear()?,
            None => self.params.g = Some(self.gpu.arena.zeros(Element::F32, self.params.count)?),
        }
        self.totals.all().clear()
    }

    /// The sum of the losses and of the squares of the gradient: what everything else waits for.
    pub(super) fn read_totals(&self) -> Result<[f64; 2]> {
        let mut bytes = [0; 16];
        self.totals.all().read(&mut bytes)?;
        let pair = bytes.as_chunks::<8>().0;
        Ok([f64::from_ne_bytes(pair[0]), f64::from_ne_bytes(pair[1])])
    }

    /// Tables for `positions`, of sequences up to `longest`; those of before where they will do.
    fn angles(&self, positions: usize, longest: usize) -> Result<Arc<Vec<Angles>>> {
        let mut tables = self.angles.lock().unwrap_or_else(PoisonError::into_inner);
        let same = self.spec.ropes.iter().all(|rope| rope.same_for(tables.longest, longest));
        if tables.positions < positions || !same {
            let positions = positions.next_power_of_two().min(self.spec.max_positions.max(positions));
            let made = self.spec.ropes.iter().map(|rope| Angles::upload(&self.gpu, &rope.table(positions, longest)));
            *tables = Tables { positions, longest, angles: Arc::new(made.collect::<Result<_>>()?) };
        }
        Ok(Arc::clone(&tables.angles))
    }

    fn run(&self, dropout: Option<Dropout>) -> Run<'_> {
        Run { gpu: &self.gpu, params: &self.params, dropout }
    }

    /// Tables are never in 4 bits.
    fn table<'a>(&'a self, matrix: &'a Matrix) -> Result<Span<'a>> {
        match matrix {
            Matrix::Dense(tensor) => Ok(tensor.all()),
            Matrix::Trained(number) => Ok(self.params.working(*number)),
            Matrix::FourBit(_) => Err(Error::failure("an embedding or head in 4 bits cannot be computed with")),
        }
    }

    fn head(&self) -> &Matrix {
        self.head.as_ref().map_or(&self.embedding, |head| &head.weight)
    }

    fn embed(&self, ids: &Tensor, starts: Option<&Tensor>, seq: usize, first: usize) -> Result<Tensor> {
        let positions = self.positions.as_ref().map(|matrix| self.table(matrix)).transpose()?;
        let (c, table) = (&self.spec, self.table(&self.embedding)?);
        self.gpu.embed(ids, starts, table, positions, c.hidden, (seq, first), c.embedding_scale)
    }

    /// The summed loss of a batch.
    ///
    /// # Errors
    /// Ids outside the vocabulary, sequences longer than the model allows; memory that does not suffice.
    pub fn loss(&self, batch: Batch) -> Result<f64> {
        self.spec.check(&batch)?;
        let run = self.run(None);
        let positions = batch.longest();
        let angles = self.angles(positions, positions)?;
        let (ids, starts) = (self.ids(batch.ids)?, self.starts(&batch)?);
        let starts = starts.as_ref();
        let place = Place { seq: batch.seq, first: 0, positions, starts, angles: &angles };
        let mut x = self.embed(&ids, starts, batch.seq, 0)?;
        for block in &self.blocks {
            x = block.forward(run, self.spec.hidden, place, &x, None)?.0;
        }
        let h = self.norm.forward(run, x.all())?;
        let total = self.gpu.arena.zeros(Element::F64, 1)?;
        self.head_loss(&h, &batch, &total, None)?;
        let mut bytes = [0; 8];
        total.all().read(&mut bytes)?;
        Ok(f64::from_ne_bytes(bytes))
    }

    /// Adds the loss of a batch to the totals, and to the gradients those of `backward.scale` times it. Waits for nothing.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn gradient(&self, batch: Batch, backward: Backward, dropout: Option<Dropout>) -> Result<()> {
        self.spec.check(&batch)?;
        let run = self.run(dropout);
        let positions = batch.longest();
        let angles = self.angles(positions, positions)?;
        let (ids, starts) = (self.ids(batch.ids)?, self.starts(&batch)?);
        let starts = starts.as_ref();
        let place = Place { seq: batch.seq, first: 0, positions, starts, angles: &angles };
        let mut inputs = vec![self.embed(&ids, starts, batch.seq, 0)?];
        let mut tapes: Vec<Option<Tape>> = Vec::new();
        for (layer, block) in self.blocks.iter().enumerate() {
            let (out, tape) = block.forward(run, self.spec.hidden, place, &inputs[layer], None)?;
            inputs.push(out);
            tapes.push((!backward.checkpointing).then_some(tape));
        }
        let Some(x) = inputs.pop() else { return Ok(()) };
        let d = self.gpu.alloc(x.len())?;
        {
            let h = self.norm.forward(run, x.all())?;
            let dh = self.gpu.arena.zeros(self.gpu.compute_dtype.into(), h.len())?;
            self.head_loss(&h, &batch, &self.totals, Some((&dh, backward.scale)))?;
            self.norm.backward(run, &x, &dh, &d, false)?;
        }
        drop(x);
        let embedding = self.embedding.trained();
        for (layer, block) in self.blocks.iter().enumerate().rev() {
            let Some(x) = inputs.pop() else { break };
            let tape = match tapes.pop().flatten() {
                Some(tape) => tape,
                None => block.forward(run, self.spec.hidden, place, &x, None)?.1,
            };
            block.backward(run, self.spec.hidden, place, &x, tape, &d, layer > 0 || embedding.is_some())?;
        }
        let (hidden, scale) = (self.spec.hidden, self.spec.embedding_scale);
        if let Some(gradient) = embedding.and_then(|number| self.params.gradient(number)) {
            self.gpu.embed_backward(Some(&ids), None, &d, gradient, hidden, batch.seq, scale)?;
        }
        let positions = self.positions.as_ref().and_then(Matrix::trained);
        if let Some(gradient) = positions.and_then(|number| self.params.gradient(number)) {
            self.gpu.embed_backward(None, starts, &d, gradient, hidden, batch.seq, 1.0)?;
        }
        Ok(())
    }

    fn ids(&self, ids: &[u32]) -> Result<Tensor> {
        self.gpu.arena.upload_indices(ids.iter().map(|&id| id as usize))
    }

    fn starts(&self, batch: &Batch) -> Result<Option<Tensor>> {
        let numbers = batch.starts.iter().map(|&start| start as usize);
        if batch.starts.is_empty() { Ok(None) } else { self.gpu.arena.upload_indices(numbers).map(Some) }
    }

    /// Loss of the rows of `h` that predict something, added to `total`; in pieces, so that logits are held once.
    fn head_loss(&self, h: &Tensor, batch: &Batch, total: &Tensor, back: Option<(&Tensor, f32)>) -> Result<()> {
        let (gpu, c) = (&self.gpu, &self.spec);
        let (vocab, hidden) = (c.vocab, c.hidden);
        let targets = batch.targets();
        if targets.is_empty() {
            return Ok(());
        }
        let head = Mat::dense(self.table(self.head())?, vocab, hidden);
        let rows = (gpu.logits / vocab).clamp(1, targets.len());
        let index = gpu.arena.upload_indices(targets.iter().map(|&(row, _)| row as usize))?;
        let ids = gpu.arena.upload_indices(targets.iter().map(|&(_, id)| id as usize))?;
        let losses = gpu.alloc_f32(targets.len())?;
        let logits = gpu.alloc_f32(rows * vocab)?;
        let d_logits = if back.is_some() { Some(gpu.alloc(rows * vocab)?) } else { None };
        let picked = gpu.alloc(rows * hidden)?;
        for first in (0..targets.len()).step_by(rows) {
            let count = rows.min(targets.len() - first);
            let (index, ids) = (index.from(first).first(count), ids.from(first).first(count));
            let picked_rows = Mat::dense(picked.all(), count, hidden);
            gpu.gather(index, h, hidden, picked.all())?;
            gpu.product(Mat::dense(logits.all(), count, vocab), false, 1.0, picked_rows, head.t(), 1)?;
            let d = d_logits.as_ref().zip(back).map(|(d, (_, scale))| (d.all(), scale));
            gpu.cross_entropy(logits.all(), vocab, ids, c.logit_cap, losses.from(first), d)?;
            let (Some((d, _)), Some((dh, _))) = (d, back) else { continue };
            let d = Mat::dense(d, count, vocab);
            if let Some(gradient) = self.head().trained().and_then(|number| self.params.gradient(number)) {
                gpu.product(Mat::dense(gradient, vocab, hidden), true, 1.0, d.t(), picked_rows, 1)?;
            }
            gpu.product(picked_rows, false, 1.0, d, head, 1)?;
            gpu.scatter(index, picked.all(), hidden, dh)?;
        }
        gpu.add_sum(losses.all(), total.all())
    }
}

/// Keys and values of one sequence so far.
#[derive(Debug)]
pub struct Cache {
    blocks: Vec<BlockCache>,
    length: usize,
    capacity: usize,
    angles: Arc<Vec<Angles>>,
}

impl Cache {
    /// For a sequence of up to `positions` tokens.
    ///
    /// # Errors
    /// When the machine's memory does not suffice.
    pub fn new(model: &Model, positions: usize) -> Result<Self> {
        let attention = model.spec.blocks.iter().filter_map(|block| block.attention());
        let blocks = attention.map(|spec| BlockCache::new(&model.gpu, spec, positions));
        Ok(Self { blocks: blocks.collect::<Result<_>>()?, length: 0, capacity: positions, angles: Arc::default() })
    }

    /// As [`crate::model::Cache::goes_on`].
    pub fn goes_on(&self, model: &Model, more: usize) -> bool {
        let (now, then) = (self.length, self.length + more);
        now == 0 || model.spec.ropes.iter().all(|rope| rope.same_for(now, then))
    }
}

impl Model {
    /// Goes on with a sequence by `ids`; the logits of what comes after the last of them.
    ///
    /// # Errors
    /// No ids, ids outside the vocabulary, and a sequence that becomes longer than the model or the cache allows.
    pub fn next(&self, ids: &[u32], cache: &mut Cache) -> Result<Vec<f32>> {
        self.spec.check(&Batch { ids, labels: &vec![-100; ids.len()], seq: ids.len(), starts: &[] })?;
        let limit = self.spec.max_positions.min(cache.capacity);
        let positions = cache.length + ids.len();
        if positions > limit {
            return Err(Error::usage(format!("a sequence of {positions} tokens; the model allows {limit}")));
        }
        if !cache.goes_on(self, ids.len()) {
            return Err(Error::failure("the rotary frequencies change here: the sequence is to be read again"));
        }
        if cache.length == 0 {
            cache.angles = self.angles(cache.capacity, ids.len())?;
        }
        let (gpu, run) = (&self.gpu, self.run(None));
        let place = Place { seq: ids.len(), first: cache.length, positions, starts: None, angles: &cache.angles };
        let mut x = self.embed(&self.ids(ids)?, None, ids.len(), cache.length)?;
        for (block, cache) in self.blocks.iter().zip(&cache.blocks) {
            x = block.forward(run, self.spec.hidden, place, &x, Some(cache))?.0;
        }
        cache.length += ids.len();
        let (vocab, hidden) = (self.spec.vocab, self.spec.hidden);
        let h = self.norm.forward(run, x.from(x.len() - hidden))?;
        let logits = gpu.alloc_f32(vocab)?;
        let head = Mat::dense(self.table(self.head())?, vocab, hidden);
        gpu.product(Mat::dense(logits.all(), 1, vocab), false, 1.0, Mat::dense(h.all(), 1, hidden), head.t(), 1)?;
        if self.spec.logit_cap > 0.0 {
            gpu.cap(&logits, self.spec.logit_cap)?;
        }
        logits.all().values()
    }
}
