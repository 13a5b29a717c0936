//! One block, forward and backward: the counterpart of `src/model/block.rs`, where the picture of it is.

use super::attention::{Angles, Attention, SplitQkv};
use super::linear::{Linear, Run};
use super::memory::Tensor;
use super::norm::Norm;
use super::ops::Gpu;
use crate::error::{Error, Result};
use crate::model::decoder::{self, Decoder};
use crate::model::ops::attention::{Row, Rules};
use crate::model::params::Params;
use crate::spec::{AttentionSpec, MlpSpec};

#[derive(Debug)]
pub(super) struct Block {
    norm_in: Norm,
    qkv: Vec<(usize, Linear)>,
    qk_norm: Option<(Norm, Norm)>,
    o: Linear,
    norm_attention: Option<Norm>,
    norm_mlp: Norm,
    up: Vec<(usize, Linear)>,
    down: Linear,
    norm_out: Option<Norm>,
    row: Row,
    rules: Rules,
    rope: Option<usize>,
    mlp: MlpSpec,
    parallel: bool,
}

/// What a block's pass forward keeps for the pass backward, beside its input.
pub(super) struct Tape {
    /// Queries, keys and values as they were projected, and laid out.
    qkv: Tensor,
    split: SplitQkv,
    attended: Tensor,
    /// The attention's output before its norm.
    o: Option<Tensor>,
    /// After the attention; `None` where the block is parallel.
    middle: Option<Tensor>,
    up: Tensor,
    /// The MLP's output before its norm.
    down: Option<Tensor>,
}

/// Where the rows are in their sequences.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub seq: usize,
    pub first: usize,
    /// No row's position in its own row of data is as high.
    pub positions: usize,
    /// For every row where in its sequence its own row of data begins, if that is not always 0.
    pub starts: Option<&'a Tensor>,
    pub angles: &'a [Angles],
}

/// Keys and values of one block and one sequence.
#[derive(Debug)]
pub(super) struct BlockCache {
    keys: Tensor,
    values: Tensor,
    capacity: usize,
}

impl BlockCache {
    pub(super) fn new(gpu: &Gpu, attention: &AttentionSpec, capacity: usize) -> Result<Self> {
        let count = attention.kv_heads * attention.head_dim * capacity;
        Ok(Self { keys: gpu.alloc(count)?, values: gpu.alloc(count)?, capacity })
    }
}

impl Block {
    pub(super) fn put(gpu: &Gpu, decoder: &Decoder, layer: usize) -> Result<Self> {
        let (block, params): (&decoder::Block, &Params) = (&decoder.blocks[layer], &decoder.params);
        let norm = |weights: &decoder::NormWeights| Norm::upload(gpu, weights);
        let needed = |weights: &Option<decoder::NormWeights>| match weights {
            Some(weights) => norm(weights),
            None => Err(Error::usage("blocks without a norm before each half are not computed on a GPU here")),
        };
        let linear = |linear: &crate::model::Linear| Linear::put(gpu, linear, params);
        let parts = |parts: &[decoder::Part]| -> Result<Vec<(usize, Linear)>> {
            parts.iter().map(|part| Ok((part.offset, linear(&part.linear)?))).collect()
        };
        let qk_norm = match block.q_norm.as_ref().zip(block.k_norm.as_ref()) {
            Some((q, k)) => Some((norm(q)?, norm(k)?)),
            None => None,
        };
        let head_dim = block.attention.head_dim;
        if head_dim > super::attention::WIDEST {
            let message = format!("heads of {head_dim} values; a GPU takes {} here", super::attention::WIDEST);
            return Err(Error::usage(message));
        }
        Ok(Self {
            norm_in: needed(&block.norm_in)?,
            qkv: parts(&block.qkv)?,
            qk_norm,
            o: linear(&block.o)?,
            norm_attention: block.norm_mixed.as_ref().map(norm).transpose()?,
            norm_mlp: needed(&block.norm_ffn)?,
            up: parts(&block.up)?,
            down: linear(&block.down)?,
            norm_out: block.norm_out.as_ref().map(norm).transpose()?,
            row: decoder.row(layer),
            rules: decoder.rules(layer),
            rope: block.attention.rope,
            mlp: block.mlp.clone(),
            parallel: block.parallel,
        })
    }

    fn attention<'a>(&'a self, place: Place<'a>, capacity: usize) -> Attention<'a> {
        Attention {
            row: self.row,
            rules: self.rules,
            angles: self.rope.and_then(|rope| place.angles.get(rope)),
            norms: self.qk_norm.as_ref().map(|(q, k)| (q, k)),
            seq: place.seq,
            first: place.first,
            capacity,
            positions: place.positions,
            starts: place.starts,
        }
    }

    /// The block's output, and the tape.
    pub(super) fn forward(
        &self,
        run: Run,
        hidden: usize,
        place: Place,
        x: &Tensor,
        cache: Option<&BlockCache>,
    ) -> Result<(Tensor, Tape)> {
        let gpu = run.gpu;
        let rows = x.len() / hidden;
        let mlp = &self.mlp;
        let qkv = gpu.alloc(rows * self.row.stride)?;
        {
            let h = self.norm_in.forward(run, x.all())?;
            for (offset, linear) in &self.qkv {
                linear.forward(run, &h, qkv.from(*offset), self.row.stride, false)?;
            }
        }
        let attention = self.attention(place, cache.map_or(place.seq, |cache| cache.capacity));
        let kv = cache.map(|cache| (&cache.keys, &cache.values));
        let split = attention.split(run, &qkv, kv)?;
        let attended = attention.forward(gpu, &split, kv)?;
        let out = gpu.copy(x)?;
        let o = self.added(run, &self.o, &attended, &self.norm_attention, &out, hidden)?;
        let middle = if self.parallel { None } else { Some(gpu.copy(&out)?) };
        let up = {
            let h = self.norm_mlp.forward(run, middle.as_ref().unwrap_or(x).all())?;
            let up = gpu.alloc(rows * mlp.up_width())?;
            for (offset, linear) in &self.up {
                linear.forward(run, &h, up.from(*offset), mlp.up_width(), false)?;
            }
            up
        };
        let inner = gpu.activation(mlp.activation, &up, mlp.gated, mlp.width)?;
        let down = self.added(run, &self.down, &inner, &self.norm_out, &out, hidden)?;
        Ok((out, Tape { qkv, split, attended, o, middle, up, down }))
    }

    /// Adds `linear(x)` to `out`, through a norm where there is one: then what went into the norm is given.
    fn added(
        &self,
        run: Run,
        linear: &Linear,
        x: &Tensor,
        norm: &Option<Norm>,
        out: &Tensor,
        hidden: usize,
    ) -> Result<Option<Tensor>> {
        let Some(norm) = norm else {
            linear.forward(run, x, out.all(), hidden, true)?;
            return Ok(None);
        };
        let projected = run.gpu.alloc(out.len())?;
        linear.forward(run, x, projected.all(), hidden, false)?;
        run.gpu.add(out, &norm.forward(run, projected.all())?)?;
        Ok(Some(projected))
    }

    /// Turns the gradient by the block's output, in `d`, into the one by its input `x`. Where `wanted` is false nobody
    /// needs that, and `d` is left in between.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward(
        &self,
        run: Run,
        hidden: usize,
        place: Place,
        x: &Tensor,
        tape: Tape,
        d: &Tensor,
        wanted: bool,
    ) -> Result<()> {
        let gpu = run.gpu;
        let mlp = &self.mlp;
        let Tape { qkv, split, attended, o, middle, up, down } = tape;
        let rows = x.len() / hidden;
        // Parallel blocks: both branches get the gradient of the output, and add to it.
        let out_gradient = if self.parallel { Some(gpu.copy(d)?) } else { None };

        // The MLP.
        let from = middle.as_ref().unwrap_or(x);
        {
            let d_down = through(run, &self.norm_out, &down, d)?;
            let d_inner = gpu.alloc(rows * mlp.width)?;
            {
                let inner = gpu.activation(mlp.activation, &up, mlp.gated, mlp.width)?;
                let dy = d_down.as_ref().unwrap_or(d);
                self.down.backward(run, &inner, dy.all(), hidden, Some((&d_inner, false)))?;
            }
            gpu.activation_backward(mlp.activation, &up, mlp.gated, &d_inner, mlp.width)?;
        }
        {
            let h = self.norm_mlp.forward(run, from.all())?;
            let dh = gpu.alloc(x.len())?;
            for (index, (offset, linear)) in self.up.iter().enumerate() {
                linear.backward(run, &h, up.from(*offset), mlp.up_width(), Some((&dh, index > 0)))?;
            }
            self.norm_mlp.backward(run, from, &dh, d, true)?;
        }
        drop(up);

        // The attention.
        let d_qkv = {
            let d_out = out_gradient.as_ref().unwrap_or(d);
            let d_o = through(run, &self.norm_attention, &o, d_out)?;
            let d_attended = gpu.alloc(attended.len())?;
            let dy = d_o.as_ref().unwrap_or(d_out);
            self.o.backward(run, &attended, dy.all(), hidden, Some((&d_attended, false)))?;
            self.attention(place, place.seq).backward(run, &qkv, &split, &attended, &d_attended)?
        };
        let Some(d_qkv) = d_qkv else { return Ok(()) };
        drop((attended, split, qkv));
        let h = self.norm_in.forward(run, x.all())?;
        let dh = if wanted || self.norm_in.weight.trained().is_some() { Some(gpu.alloc(x.len())?) } else { None };
        for (index, (offset, linear)) in self.qkv.iter().enumerate() {
            let dx = dh.as_ref().map(|dh| (dh, index > 0));
            linear.backward(run, &h, d_qkv.from(*offset), self.row.stride, dx)?;
        }
        match dh {
            Some(dh) => self.norm_in.backward(run, x, &dh, d, true),
            None => Ok(()),
        }
    }
}

/// The gradient by what went into a norm, where there is one.
fn through(run: Run, norm: &Option<Norm>, before: &Option<Tensor>, d: &Tensor) -> Result<Option<Tensor>> {
    let (Some(norm), Some(before)) = (norm, before) else { return Ok(None) };
    let dx = run.gpu.alloc(d.len())?;
    norm.backward(run, before, d, &dx, false)?;
    Ok(Some(dx))
}
