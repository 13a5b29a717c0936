//! Causal attention by batched products, with grouped keys, sliding windows and capped scores.
//!
//! Heads are laid out so that the query heads of a group are rows of one matrix beside the keys that they share: each
//! product is one call for all heads and sequences, and the sum over a group is the product's own. Query rows go in blocks
//! whose scores fit into [`Gpu::scores`]; nothing of them is kept, the way back makes them again.

use super::kernels::{
    HEAD_DIM_MAX, HeadLayout, HeadsBackward, HeadsForward, HeadsWeights, JoinHeads, ScoreBlock, Softmax,
    SoftmaxBackward, SplitHeads,
};
use super::kernels_rows::SinkSums;
use super::machine::Element;
use super::memory::{Span, Tensor};
use super::norm::Norm;
use super::ops::{Gpu, Mat};
use super::weights::Ctx;
use crate::error::{Error, Result};
use crate::model::ops::attention::{Row, Rules};
use crate::model::ops::rope::Table;

/// A head is no wider.
pub(super) const WIDEST: usize = HEAD_DIM_MAX;

/// Cosines and sines.
#[derive(Debug)]
pub struct Angles {
    cos: Tensor,
    sin: Tensor,
    half: usize,
    /// Neighbours turn together.
    interleaved: bool,
}

impl Angles {
    /// Cosines, sines, pairs of a head, and whether neighbours turn together.
    pub(super) fn tables(&self) -> (Span<'_>, Span<'_>, usize, bool) {
        (self.cos.all(), self.sin.all(), self.half, self.interleaved)
    }

    pub(super) fn upload(gpu: &Gpu, table: &Table) -> Result<Self> {
        let (cos, sin, half) = table.values();
        let interleaved = table.is_interleaved();
        Ok(Self { cos: gpu.arena.upload(cos)?, sin: gpu.arena.upload(sin)?, half, interleaved })
    }

    /// Room for them, where nothing is computed.
    pub(super) fn blank(gpu: &Gpu, positions: usize, half: usize) -> Result<Self> {
        let (cos, sin) = (gpu.alloc_f32(positions * half)?, gpu.alloc_f32(positions * half)?);
        Ok(Self { cos, sin, half, interleaved: false })
    }
}

/// One block's attention between the rows of queries, keys and values and what comes out.
pub struct Attention<'a> {
    pub row: Row,
    /// From the first query head of a group to that of the next, where that is not as many heads on.
    pub q_group: Option<usize>,
    pub rules: Rules,
    pub angles: Option<&'a Angles>,
    pub norms: Option<(&'a Norm, &'a Norm)>,
    /// Rows of a sequence.
    pub seq: usize,
    /// Position of a sequence's first row: as many rows of keys and values are there already.
    pub first: usize,
    /// Rows that keys and values have room for.
    pub capacity: usize,
    /// No row's position is as high.
    pub positions: usize,
    /// For every row where in its sequence its own row of data begins, if that is not always 0.
    pub starts: Option<&'a Tensor>,
    /// A score of each head that belongs to no key.
    pub sinks: Option<Span<'a>>,
    /// Their gradients, where they are trained.
    pub d_sinks: Option<Span<'a>>,
}

/// Queries, keys and values as the products want them.
pub struct SplitQkv {
    q: Tensor,
    /// Keys and values of their own; in a cache they are somebody else's.
    kv: Option<(Tensor, Tensor)>,
}

/// Query rows of a sequence that are looked at at once, and the keys that they see.
struct Block {
    first: usize,
    rows: usize,
    lo: usize,
    keys: usize,
}

/// What queries and keys are normalized with.
struct NormValues<'a> {
    q_weight: Option<Span<'a>>,
    k_weight: Option<Span<'a>>,
    q_plus: f32,
    k_plus: f32,
    eps: f32,
}

impl Attention<'_> {
    fn starts(&self) -> Option<Span<'_>> {
        self.starts.map(Tensor::all)
    }

    fn group(&self) -> usize {
        self.rules.heads / self.rules.kv_heads
    }

    fn norm_values<'a>(&'a self, run: Ctx<'a>) -> NormValues<'a> {
        let values = |norm: &'a Norm| norm.weight.values(run.params);
        let (q, k) = (self.norms.map(|(q, _)| values(q)), self.norms.map(|(_, k)| values(k)));
        NormValues {
            q_weight: q.map(|(weight, _)| weight),
            k_weight: k.map(|(weight, _)| weight),
            q_plus: q.map_or(0.0, |(_, plus)| plus),
            k_plus: k.map_or(0.0, |(_, plus)| plus),
            eps: self.norms.map_or(0.0, |(q, _)| q.eps),
        }
    }

    fn angles(&self) -> [Option<Span<'_>>; 2] {
        [self.angles.map(|angles| angles.cos.all()), self.angles.map(|angles| angles.sin.all())]
    }

    /// Of sequences that have so many rows of queries, keys and values.
    fn layout(&self, rows: usize) -> Result<HeadLayout> {
        let Row { stride, q, k, v } = self.row;
        let Rules { heads, kv_heads, head_dim, .. } = self.rules;
        let half = self.angles.map_or(0, |angles| angles.half);
        let positions = self.angles.filter(|_| half > 0).map_or(0, |angles| angles.cos.len() / half);
        if half > 0 && self.positions > positions {
            let message = format!("{} positions, and rotary tables of {positions}", self.positions);
            return Err(Error::failure(message));
        }
        Ok(HeadLayout {
            sequences: rows / self.seq,
            seq: self.seq,
            first: self.first,
            capacity: self.capacity,
            stride,
            q_offset: q.0,
            q_step: q.1,
            q_group: self.q_group.unwrap_or(q.1 * self.group()),
            k_offset: k.0,
            k_step: k.1,
            v_offset: v.0,
            v_step: v.1,
            heads,
            kv_heads,
            head_dim,
            half,
            interleaved: usize::from(self.angles.is_some_and(|angles| angles.interleaved)),
            positions,
        })
    }

    /// Normalizes and turns queries and keys, and lays all three out; keys and values into `cache` where there is one.
    pub(in crate::model) fn split(
        &self,
        run: Ctx,
        rows: &Tensor,
        cache: Option<(&Tensor, &Tensor)>,
    ) -> Result<SplitQkv> {
        let gpu = run.gpu;
        let layout = self.layout(rows.len() / self.row.stride)?;
        let HeadLayout { sequences, seq, capacity, heads, kv_heads, head_dim, .. } = layout;
        let q = gpu.alloc(sequences * seq * heads * head_dim)?;
        let width = sequences * kv_heads * capacity * head_dim;
        let kv = if cache.is_some() { None } else { Some((gpu.alloc(width)?, gpu.alloc(width)?)) };
        if let Some((k, v)) = cache.or(kv.as_ref().map(|(k, v)| (k, v))) {
            let NormValues { q_weight, k_weight, q_plus, k_plus, eps } = self.norm_values(run);
            let [cosines, sines] = self.angles();
            let (x, q, k, v, starts) = (rows.all(), q.all(), k.all(), v.all(), self.starts());
            HeadsForward { x, q_weight, k_weight, cosines, sines, q, k, v, starts, layout, q_plus, k_plus, eps }
                .launch(gpu)?;
        }
        Ok(SplitQkv { q, kv })
    }

    /// All of them; the one that needs the most memory alone, where nothing is computed.
    fn blocks(&self, gpu: &Gpu, sequences: usize) -> Vec<Block> {
        let scores = gpu.scores;
        let all = self.first + self.seq;
        let rows = (scores / (sequences * self.rules.heads * all)).clamp(1, self.seq);
        let block = |first: usize| {
            let rows = rows.min(self.seq - first);
            let end = self.first + first + rows;
            let lo = self.rules.window.map_or(0, |window| (self.first + first + 1).saturating_sub(window));
            // Where rows of data share a sequence their chunks begin where they do.
            let chunk = self.rules.chunk.filter(|_| self.starts.is_none());
            let lo = lo.max(chunk.map_or(0, |chunk| (self.first + first) / chunk * chunk));
            Block { first, rows, lo, keys: end - lo }
        };
        if gpu.is_dry() {
            let last = (self.seq - 1) / rows * rows;
            let candidates = [last.saturating_sub(rows), last].map(block);
            return candidates.into_iter().max_by_key(|block| block.rows * block.keys).into_iter().collect();
        }
        (0..self.seq).step_by(rows).map(block).collect()
    }

    /// Rows of queries, of what comes out, or of gradients by them.
    fn rows_of<'a>(&self, tensor: &'a Tensor, block: &Block) -> Mat<'a> {
        let row = self.group() * self.rules.head_dim;
        let span = tensor.from(block.first * row);
        Mat::dense(span, block.rows * self.group(), self.rules.head_dim).every(self.seq * row)
    }

    /// Keys, values, or gradients by them.
    fn keys_of<'a>(&self, tensor: &'a Tensor, block: &Block) -> Mat<'a> {
        let d = self.rules.head_dim;
        Mat::dense(tensor.from(block.lo * d), block.keys, d).every(self.capacity * d)
    }

    fn scores<'a>(&self, tensor: &'a Tensor, block: &Block) -> Mat<'a> {
        let rows = block.rows * self.group();
        Mat::dense(tensor.all(), rows, block.keys).every(rows * block.keys)
    }

    fn score_block(&self, sequences: usize, block: &Block) -> ScoreBlock {
        ScoreBlock {
            sequences,
            kv_heads: self.rules.kv_heads,
            group: self.group(),
            seq: self.seq,
            first: block.first,
            rows: block.rows,
            position: self.first + block.first,
            lo: block.lo,
            keys: block.keys,
            window: self.rules.window.unwrap_or(usize::MAX).min(i32::MAX as usize),
            chunk: self.rules.chunk.unwrap_or(usize::MAX).min(i32::MAX as usize),
        }
    }

    /// What comes out, in rows of tokens.
    pub(in crate::model) fn forward(
        &self,
        gpu: &Gpu,
        split: &SplitQkv,
        cache: Option<(&Tensor, &Tensor)>,
    ) -> Result<Tensor> {
        let Rules { heads, kv_heads, head_dim, scale, softcap: cap, alibi, rounded, .. } = self.rules;
        let (q, out) = (&split.q, gpu.alloc(split.q.len())?);
        let Some((k, v)) = cache.or(split.kv.as_ref().map(|(k, v)| (k, v))) else { return Ok(out) };
        let (seq, sequences) = (self.seq, q.len() / (heads * head_dim) / self.seq);
        let batch = sequences * kv_heads;
        for block in &self.blocks(gpu, sequences) {
            let count = batch * block.rows * self.group() * block.keys;
            let scores = gpu.alloc_f32(count)?;
            let p = gpu.alloc(count)?;
            let queries = self.rows_of(q, block);
            gpu.product(self.scores(&scores, block), false, scale, queries, self.keys_of(k, block).t(), batch)?;
            let (scores, starts) = (scores.all(), self.starts());
            let (p_all, sinks) = (p.all(), self.sinks);
            Softmax { scores, p: p_all, starts, sinks, block: self.score_block(sequences, block), cap, alibi, rounded }
                .launch(gpu)?;
            gpu.product(self.rows_of(&out, block), false, 1.0, self.scores(&p, block), self.keys_of(v, block), batch)?;
        }
        let joined = gpu.alloc(out.len())?;
        JoinHeads { from: out.all(), to: joined.all(), sequences, seq, heads, kv_heads, head_dim }.launch(gpu)?;
        Ok(joined)
    }

    /// The gradient by the rows of queries, keys and values, from the one by what came out. `rows` are those rows, where they are normalized
    /// here.
    pub(in crate::model) fn backward(
        &self,
        run: Ctx,
        rows: Option<&Tensor>,
        split: &SplitQkv,
        out: &Tensor,
        d_out: &Tensor,
    ) -> Result<Option<Tensor>> {
        let gpu = run.gpu;
        let Rules { heads, kv_heads, head_dim, scale, softcap: cap, alibi, rounded, .. } = self.rules;
        let SplitQkv { q, kv: Some((k, v)) } = split else { return Ok(None) };
        let layout = self.layout(q.len() / (heads * head_dim))?;
        let HeadLayout { sequences, seq, stride, .. } = layout;
        let (tokens, batch) = (sequences * seq, sequences * kv_heads);
        let (d, along) = (gpu.alloc(q.len())?, gpu.alloc_f32(tokens * heads)?);
        let along = along.all();
        let (out, d_out) = (out.all(), d_out.all());
        SplitHeads { out, d: d_out, to: d.all(), along, sequences, seq, heads, kv_heads, head_dim }.launch(gpu)?;
        let dq = gpu.alloc_f32(q.len())?;
        let (dk, dv) = (gpu.arena.zeros(Element::F32, k.len())?, gpu.arena.zeros(Element::F32, v.len())?);
        for block in &self.blocks(gpu, sequences) {
            let count = batch * block.rows * self.group() * block.keys;
            let (scores, dp) = (gpu.alloc_f32(count)?, gpu.alloc_f32(count)?);
            let (p, ds) = (gpu.alloc(count)?, gpu.alloc(count)?);
            let (queries, d) = (self.rows_of(q, block), self.rows_of(&d, block));
            let (keys, values) = (self.keys_of(k, block), self.keys_of(v, block));
            gpu.product(self.scores(&scores, block), false, scale, queries, keys.t(), batch)?;
            gpu.product(self.scores(&dp, block), false, 1.0, d, values.t(), batch)?;
            let rows = batch * block.rows * self.group();
            let shares = if self.d_sinks.is_some() { Some(gpu.alloc_f32(rows)?) } else { None };
            let shares = shares.as_ref().map(Tensor::all);
            SoftmaxBackward {
                scores: scores.all(),
                dp: dp.all(),
                along,
                p: p.all(),
                ds: ds.all(),
                starts: self.starts(),
                sinks: self.sinks,
                shares,
                block: self.score_block(sequences, block),
                cap,
                alibi,
                rounded,
            }
            .launch(gpu)?;
            if let (Some(sums), Some(shares)) = (self.d_sinks, shares) {
                SinkSums { shares, sums, sequences, kv_heads, rows: block.rows, group: self.group() }.launch(gpu)?;
            }
            let ds = self.scores(&ds, block);
            gpu.product(self.rows_of(&dq, block), false, scale, ds, keys, batch)?;
            gpu.product(self.keys_of(&dk, block), true, scale, ds.t(), queries, batch)?;
            gpu.product(self.keys_of(&dv, block), true, 1.0, self.scores(&p, block).t(), d, batch)?;
        }
        let d_rows = gpu.alloc(tokens * stride)?;
        let trained = |norm: &Norm| norm.weight.trained().and_then(|number| run.params.gradient(number));
        let trained = self.norms.and_then(|(q, k)| Some([trained(q)?, trained(k)?]));
        let stats = if trained.is_some() { Some(gpu.alloc_f32(tokens * (heads + kv_heads))?) } else { None };
        let stats = stats.as_ref().map(Tensor::all);
        let NormValues { q_weight, k_weight, q_plus, k_plus, eps } = self.norm_values(run);
        let [cosines, sines] = self.angles();
        let (x, dx, starts) = (rows.map(Tensor::all), d_rows.all(), self.starts());
        let (dq, dk, dv) = (dq.all(), dk.all(), dv.all());
        HeadsBackward {
            x,
            q_weight,
            k_weight,
            cosines,
            sines,
            dq,
            dk,
            dv,
            dx,
            stats,
            starts,
            layout,
            q_plus,
            k_plus,
            eps,
        }
        .launch(gpu)?;
        if let (Some([q, k]), Some(stats), Some(x)) = (trained, stats, x) {
            for (gradient, dw, of_keys) in [(dq, q, false), (dk, k, true)] {
                HeadsWeights { x, cosines, sines, gradient, stats, dw, starts, layout, of_keys }.launch(gpu)?;
            }
        }
        Ok(Some(d_rows))
    }
}
