//! [`Decoder`]: the weights of a model, in the places that its [`ModelSpec`] has for them.

use super::linear::Linear;
use super::ops::norm::Norm;
use super::params::Params;
use super::weight::{Frozen, Loader, Vector, Weight};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::spec::{AttentionSpec, BlockSpec, MlpSpec, ModelSpec, ModuleSpec, NormKind, NormSpec, PartSpec, QkvLayout};
use std::borrow::Cow;

/// A normalization's weights.
#[derive(Debug)]
pub struct NormWeights {
    /// What it computes.
    pub spec: NormSpec,
    /// Scales, `[width]`; ones where the model has none.
    pub weight: Vector,
    /// Shifts.
    pub bias: Option<Vector>,
}

/// The values of a norm's weights.
pub struct NormValues<'a> {
    weight: Cow<'a, [f32]>,
    bias: Option<Cow<'a, [f32]>>,
    centred: bool,
    eps: f32,
}

impl NormWeights {
    /// The values, as used.
    pub fn values<'a>(&'a self, params: &'a Params) -> NormValues<'a> {
        NormValues {
            weight: self.weight.values(params),
            bias: self.bias.as_ref().map(|bias| bias.values(params)),
            centred: self.is_centred(),
            eps: self.spec.eps,
        }
    }

    /// The mean is subtracted.
    pub fn is_centred(&self) -> bool {
        self.spec.kind == NormKind::Layer
    }
}

impl NormValues<'_> {
    /// Ready to be computed.
    pub fn norm(&self) -> Norm<'_> {
        Norm { weight: &self.weight, bias: self.bias.as_deref(), centred: self.centred, eps: self.eps }
    }
}

/// A projection that fills part of a row: from this column on.
#[derive(Debug)]
pub struct Part {
    /// Its first column.
    pub offset: usize,
    /// The projection.
    pub linear: Linear,
}

/// One block, the weights of a [`BlockSpec`].
#[derive(Debug)]
pub struct Block {
    /// Before attention.
    pub norm_in: Option<NormWeights>,
    /// Query, key and value projections: one or three.
    pub qkv: Vec<Part>,
    /// Norm of queries.
    pub q_norm: Option<NormWeights>,
    /// Norm of keys.
    pub k_norm: Option<NormWeights>,
    /// Output projection of the attention.
    pub o: Linear,
    /// After attention, before its output is added.
    pub norm_mixed: Option<NormWeights>,
    /// Before the MLP.
    pub norm_ffn: Option<NormWeights>,
    /// Gate and up projections: one or two.
    pub up: Vec<Part>,
    /// Down projection.
    pub down: Linear,
    /// After the MLP, before its output is added.
    pub norm_out: Option<NormWeights>,
    /// Its attention.
    pub attention: AttentionSpec,
    /// Its MLP.
    pub mlp: MlpSpec,
    /// Mixer and MLP both read the block's input.
    pub parallel: bool,
}

/// A decoder with its weights. What is trained stands in its [`Params`].
#[derive(Debug)]
pub struct Decoder {
    /// What it computes.
    pub spec: ModelSpec,
    /// Everything trained.
    pub params: Params,
    pub(super) embedding: Weight,
    pub(super) positions: Option<Weight>,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: NormWeights,
    /// `None` where the embedding is the head.
    pub(super) head: Option<Linear>,
}

impl Loader<'_> {
    fn module(&mut self, spec: &ModuleSpec) -> Result<Linear> {
        let load = if spec.linear { Self::linear } else { Self::table };
        let weight = load(self, &spec.name, spec.shape)?;
        let bias = if spec.bias { Some(self.bias(&spec.name, spec.shape[0])?) } else { None };
        Ok(Linear { module: spec.name.clone(), shape: spec.shape, weight, bias, lora: None, watched: None })
    }

    fn parts(&mut self, parts: &[PartSpec]) -> Result<Vec<Part>> {
        parts.iter().map(|part| Ok(Part { offset: part.offset, linear: self.module(&part.module)? })).collect()
    }

    fn norm(&mut self, spec: &NormSpec) -> Result<NormWeights> {
        let plus = if spec.plus_one { 1.0 } else { 0.0 };
        let weight = match spec.weight {
            true => self.scale(&spec.name, spec.width, plus)?,
            false => Vector::Frozen(vec![1.0; spec.width]),
        };
        let bias = if spec.bias { Some(self.bias(&spec.name, spec.width)?) } else { None };
        Ok(NormWeights { spec: spec.clone(), weight, bias })
    }

    fn norm_maybe(&mut self, spec: &Option<NormSpec>) -> Result<Option<NormWeights>> {
        spec.as_ref().map(|spec| self.norm(spec)).transpose()
    }

    fn block(&mut self, spec: &BlockSpec) -> Result<Block> {
        let (Some(attention), Some(mlp)) = (spec.attention(), spec.mlp()) else {
            return Err(Error::failure("a block without attention or without an MLP is not computed here"));
        };
        Ok(Block {
            norm_in: self.norm_maybe(&spec.norm_in)?,
            qkv: self.parts(&attention.projections)?,
            q_norm: self.norm_maybe(&attention.q_norm)?,
            k_norm: self.norm_maybe(&attention.k_norm)?,
            o: self.module(&attention.o)?,
            norm_mixed: self.norm_maybe(&spec.norm_mixed)?,
            norm_ffn: self.norm_maybe(&spec.norm_ffn)?,
            up: self.parts(&mlp.up)?,
            down: self.module(&mlp.down)?,
            norm_out: self.norm_maybe(&spec.norm_out)?,
            attention: attention.clone(),
            mlp: mlp.clone(),
            parallel: spec.parallel,
        })
    }
}

/// What the pass does not compute of this model.
fn not_computed(spec: &ModelSpec) -> Option<String> {
    let family = &spec.model_type;
    let attention = || spec.blocks.iter().filter_map(BlockSpec::attention);
    let scaled = spec.blocks.iter().any(|block| block.residual_scale != 1.0) || spec.logit_scale != 1.0;
    let one_norm = spec.blocks.iter().any(|block| block.parallel && block.norm_ffn.is_none());
    let rows = |a: &AttentionSpec| a.q_norm.as_ref().is_some_and(|norm| norm.width != a.head_dim) || a.norm_after_rope;
    let grouped = |a: &AttentionSpec| a.layout == QkvLayout::Grouped && a.heads != a.kv_heads;
    let scores = |a: &AttentionSpec| a.alibi != 0.0 || a.clip > 0.0 || a.gate.is_some() || a.query_scaling.is_some();
    let missing = [
        (scaled, "scaled branches or logits"),
        (one_norm, "one norm for both halves of a block"),
        (attention().any(rows), "norms of whole rows of queries, or after the rotary embedding"),
        (attention().any(grouped), "queries in groups with their keys"),
        (attention().any(scores), "biases, clips or gates of its attention"),
        (spec.embedding_norm.is_some(), "a norm of embeddings"),
        (spec.head.as_ref().is_some_and(|head| head.bias), "a bias of the head"),
    ];
    let (_, what) = missing.into_iter().find(|(there, _)| *there)?;
    Some(format!("a model of type {family} has {what}, and that is not computed here"))
}

impl Decoder {
    /// Reads a model tensor by tensor: what is in memory at most is the model as it is kept and one tensor in `f32`.
    ///
    /// # Errors
    /// What [`Checkpoint::spec`] refuses, a setting that is not computed here, a tensor that is missing or of another shape
    /// than the config says, NaN and Inf; and cancellation.
    pub fn load(checkpoint: &Checkpoint, frozen: Frozen, progress: &dyn Progress) -> Result<Self> {
        let spec = ModelSpec::clone(checkpoint.spec()?);
        spec.runs(checkpoint.path())?;
        if let Some(message) = not_computed(&spec) {
            return Err(Error::file(checkpoint.path(), message));
        }
        let mut loader = Loader { checkpoint, frozen, params: Params::default(), progress, done: 0 };
        let embedding = loader.table(&spec.embedding.name, spec.embedding.shape)?;
        let positions = match &spec.positions {
            Some(positions) => Some(loader.table(&positions.module.name, positions.module.shape)?),
            None => None,
        };
        let blocks = spec.blocks.iter().map(|block| loader.block(block)).collect::<Result<_>>()?;
        let Some(norm) = loader.norm_maybe(&spec.norm)? else {
            return Err(Error::failure("a decoder without a last norm is not computed here"));
        };
        let head = spec.head.as_ref().map(|head| loader.module(head)).transpose()?;
        progress.step(1, 1)?;
        checkpoint.rest();
        Ok(Self { params: loader.params, embedding, positions, blocks, norm, head, spec })
    }

    /// The linear layers of all blocks, in order.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(|block| {
            let qkv = block.qkv.iter().map(|part| &part.linear);
            let up = block.up.iter().map(|part| &part.linear);
            qkv.chain([&block.o]).chain(up).chain([&block.down])
        })
    }

    /// The same, to change.
    pub(super) fn linears_mut(blocks: &mut [Block]) -> impl Iterator<Item = &mut Linear> {
        blocks.iter_mut().flat_map(|block| {
            let qkv = block.qkv.iter_mut().map(|part| &mut part.linear);
            let up = block.up.iter_mut().map(|part| &mut part.linear);
            qkv.chain([&mut block.o]).chain(up).chain([&mut block.down])
        })
    }

    /// The numbers of what is trained, as the way forward meets them.
    pub fn forward_order(&self) -> Vec<usize> {
        let pairs: Vec<usize> =
            self.linears().filter_map(|linear| linear.lora.as_ref()).flat_map(|lora| [lora.a, lora.b]).collect();
        // Without pairs the whole model is trained, and was read in that order.
        if pairs.is_empty() { (0..self.params.list.len()).collect() } else { pairs }
    }

    /// Bytes of the weights as they are kept, without what is trained.
    pub fn frozen_bytes(&self) -> usize {
        let tables = [Some(&self.embedding), self.positions.as_ref(), self.head.as_ref().map(|head| &head.weight)];
        let tables: usize = tables.into_iter().flatten().map(Weight::bytes).sum();
        tables + self.linears().map(|linear| linear.weight.bytes()).sum::<usize>()
    }
}
