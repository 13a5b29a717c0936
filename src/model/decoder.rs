//! [`Decoder`]: the weights of a model, in the places that its [`ModelSpec`] has for them.

use super::backend::{Backend, Cols};
use super::branch::Branch;
pub use super::ffn::{Expert, ExpertNorms, Experts, FeedForward, Mlp, Shared};
use super::linear::Linear;
pub use super::mixer::{Attention, Latent, Mixer, Recurrence};
pub use super::narrow::Narrow;
use super::ops::magnitude;
use super::ops::norm::Norm;
use super::params::Params;
pub use super::per_layer::{Inputs, PerLayer};
use super::weight::{Frozen, Loader, Vector, Weight};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::spec::{
    self, BlockSpec, ExpertsSpec, LatentSpec, MlpSpec, ModelSpec, ModuleSpec, NormKind, NormSpec, PartSpec,
};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A normalization's weights.
#[derive(Debug)]
pub struct NormWeights {
    /// What it computes.
    pub spec: NormSpec,
    /// Scales, `[width]`, or `[copies, width]`; ones where the model has none.
    pub weight: Vector,
    /// Those of the other copies, where each has a tensor of its own.
    pub others: Vec<Vector>,
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

    /// Its scales or shifts are trained.
    pub fn is_trained(&self) -> bool {
        self.weight.trained().or(self.bias.as_ref().and_then(Vector::trained)).is_some()
    }

    /// The scales of copy `number`: where they are, and which of those values they are.
    pub fn scales(&self, number: usize) -> (&Vector, Range<usize>) {
        let width = self.spec.width;
        match number.checked_sub(1).and_then(|other| self.others.get(other)) {
            Some(other) => (other, 0..width),
            None => {
                (&self.weight, if self.others.is_empty() { number * width..(number + 1) * width } else { 0..width })
            }
        }
    }
}

impl NormValues<'_> {
    /// Ready to be computed.
    pub fn norm(&self) -> Norm<'_> {
        self.of(&self.weight)
    }

    /// With these scales in place of its own: those of one copy.
    pub fn of<'a>(&'a self, weight: &'a [f32]) -> Norm<'a> {
        Norm { weight, bias: self.bias.as_deref(), centred: self.centred, eps: self.eps }
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

/// Fills the columns of rows, part by part.
pub(super) fn project<B: Backend>(on: &B, parts: &[Part], rows: usize, stride: usize, h: &B::Buf) -> Result<B::Buf> {
    let mut to = on.alloc(rows * stride)?;
    for part in parts {
        let at = Cols { first: part.offset, stride };
        part.linear.forward(on, h, &mut to, at, false)?;
        on.see(|| part.linear.module.clone(), &to, part.linear.shape[0], at);
    }
    Ok(to)
}

/// Gradients of what [`project`] reads, from those of its rows: trained weights of the parts, and `h` where that is `wanted`.
pub(super) fn project_backward<B: Backend>(
    on: &B,
    parts: &[Part],
    stride: usize,
    h: &B::Buf,
    d_rows: &B::Buf,
    wanted: bool,
    grads: &mut B::Grads,
) -> Result<Option<B::Buf>> {
    let mut dh = if wanted { Some(on.alloc(on.len(h))?) } else { None };
    for (index, part) in parts.iter().enumerate() {
        let at = Cols { first: part.offset, stride };
        let dx = dh.as_mut().map(|dh| (dh, index > 0));
        part.linear.backward(on, h, (d_rows, at), dx, grads)?;
    }
    Ok(dh)
}

/// One block, the weights of a [`BlockSpec`].
#[derive(Debug)]
pub struct Block {
    /// Before the mixer.
    pub norm_in: Option<NormWeights>,
    /// What mixes tokens.
    pub mixer: Option<Mixer>,
    /// After the mixer, before its output is added.
    pub norm_mixed: Option<NormWeights>,
    /// Before the feed-forward.
    pub norm_ffn: Option<NormWeights>,
    /// What follows, token by token.
    pub ffn: Option<FeedForward>,
    /// After the feed-forward, before its output is added.
    pub norm_out: Option<NormWeights>,
    /// Mixer and feed-forward both read the block's input.
    pub parallel: bool,
    /// The stream goes on from what the norms gave.
    pub normed: bool,
    /// Multiplies both outputs before they are added.
    pub residual_scale: f32,
    /// What is added after both.
    pub per_layer: Option<PerLayer>,
    /// Multiplies the block's output.
    pub scalar: f32,
    /// Of the stream.
    pub width: usize,
}

impl Block {
    /// Its linear layers, in the order of a pass forward.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let mixer = self.mixer.iter().flat_map(Mixer::linears);
        let per_layer = self.per_layer.iter().flat_map(PerLayer::linears);
        mixer.chain(self.ffn.iter().flat_map(FeedForward::linears)).chain(per_layer)
    }

    /// Mutable variant of [`linears`](Self::linears).
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let mixer = self.mixer.iter_mut().flat_map(Mixer::linears_mut);
        let per_layer = self.per_layer.iter_mut().flat_map(PerLayer::linears_mut);
        mixer.chain(self.ffn.iter_mut().flat_map(FeedForward::linears_mut)).chain(per_layer)
    }

    /// Its norms.
    pub fn norms(&self) -> impl Iterator<Item = &NormWeights> {
        let own = [&self.norm_in, &self.norm_mixed, &self.norm_ffn, &self.norm_out];
        let per_layer = self.per_layer.iter().map(|part| &part.norm);
        let ffn = self.ffn.iter().flat_map(FeedForward::norms);
        let own = own.into_iter().filter_map(Option::as_ref).chain(ffn);
        own.chain(self.mixer.iter().flat_map(Mixer::norms)).chain(per_layer)
    }
}

/// A decoder with its weights. What is trained stands in its [`Params`].
#[derive(Debug)]
pub struct Decoder {
    /// What it computes.
    pub spec: Arc<ModelSpec>,
    /// Everything trained.
    pub params: Params,
    pub(super) embedding: Linear,
    /// Learned positions, and the row of position 0.
    pub(super) positions: Option<(Linear, usize)>,
    pub(super) per_layer: Option<Inputs>,
    pub(super) narrow: Option<Narrow>,
    pub(super) embedding_norm: Option<NormWeights>,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: Option<NormWeights>,
    /// `None` where the embedding is the head.
    pub(super) head: Option<Linear>,
}

/// Where the weights of a decoder come from.
pub(super) trait Source {
    /// A matrix.
    fn weight(&mut self, spec: &ModuleSpec) -> Result<Weight>;
    /// The bias of a module.
    fn bias(&mut self, module: &str, width: usize) -> Result<Vector>;
    /// A number that a nonlinearity has learned.
    fn scalar(&mut self, name: &str) -> Result<f32>;
    /// A norm's scales, to which `plus` is added when they are used.
    fn scale(&mut self, name: &str, width: usize, plus: f32) -> Result<Vector>;

    /// Whether one expert stands for all of a mixture, which are alike.
    fn alike(&self, experts: &ExpertsSpec) -> bool {
        let _ = experts;
        false
    }
    /// A tensor that is never trained.
    fn values(&mut self, name: &str, width: usize) -> Result<Vec<f32>>;
    /// A tensor of a name of its own that is trained where everything is.
    fn trained_values(&mut self, name: &str, width: usize) -> Result<Vector>;
    /// The biases of all copies of a module, where the file has them in one tensor.
    fn stacked_bias(&mut self, stack: &str, copies: usize, width: usize) -> Result<Vec<Vector>>;
    /// A number that is never trained.
    fn buffer(&mut self, name: &str) -> Result<f32>;
    /// Vectors that make up `count` values, by the names of their tensors without `.weight`.
    fn vectors(&mut self, names: &[String], count: usize) -> Result<Vec<Vector>>;
}

/// Builds a decoder from a spec, in the order of the model.
struct Builder<'a, S: Source>(&'a mut S);

impl<S: Source> Builder<'_, S> {
    fn module(&mut self, spec: &ModuleSpec) -> Result<Linear> {
        let weight = self.0.weight(spec)?;
        let bias = if spec.bias { Some(self.0.bias(&spec.name, spec.shape[0])?) } else { None };
        Ok(Linear { scale: spec.scale, ..Linear::new(spec.name.clone(), spec.shape, weight, bias) })
    }

    fn parts(&mut self, parts: &[PartSpec]) -> Result<Vec<Part>> {
        parts.iter().map(|part| Ok(Part { offset: part.offset, linear: self.module(&part.module)? })).collect()
    }

    fn norm(&mut self, spec: &Option<NormSpec>) -> Result<Option<NormWeights>> {
        spec.as_ref().map(|spec| self.norm_of(spec)).transpose()
    }

    fn mixer(&mut self, spec: &spec::Mixer, block: usize) -> Result<Mixer> {
        match spec {
            spec::Mixer::Attention(spec) => self.attention(spec, block).map(Mixer::Attention),
            spec::Mixer::Recurrence(spec) => self.recurrence(spec).map(Mixer::Recurrence),
            spec::Mixer::Both(attention, recurrence) => {
                Ok(Mixer::Both(self.attention(attention, block)?, self.recurrence(recurrence)?))
            }
        }
    }

    fn recurrence(&mut self, spec: &spec::RecurrenceSpec) -> Result<Recurrence> {
        let projections = self.parts(&spec.projections)?;
        let (channels, _) = spec.channels();
        let conv = self.0.vectors(&spec.conv.names, channels * spec.conv.kernel)?;
        let conv_bias = match spec.conv.names.first().filter(|_| spec.conv.bias) {
            Some(name) => Some(self.0.bias(name, channels)?),
            None => None,
        };
        let mut vectors = Vec::new();
        for name in &spec.vectors {
            vectors.extend(self.0.vectors(std::slice::from_ref(name), spec.value_heads)?);
        }
        let norm = match &spec.norm {
            Some(norm) => Some(self.0.scale(&norm.name, norm.width, 0.0)?),
            None => None,
        };
        let o = self.module(&spec.o)?;
        Ok(Recurrence { projections, conv, conv_bias, vectors, norm, o, order: spec.order(), spec: spec.clone() })
    }

    fn attention(&mut self, spec: &spec::AttentionSpec, block: usize) -> Result<Attention> {
        let latent = spec.latent.as_ref().map(|latent| self.latent(latent)).transpose()?;
        let projections = self.parts(&spec.projections)?;
        let (q_norm, k_norm) = (self.norm(&spec.q_norm)?, self.norm(&spec.k_norm)?);
        let v_norm = self.norm(&spec.v_norm)?;
        let gate = spec.gate.as_ref().map(|gate| self.module(gate)).transpose()?;
        let sinks = spec.sinks.as_ref().map(|name| self.0.trained_values(name, spec.heads)).transpose()?;
        let o = self.module(&spec.o)?;
        Ok(Attention { projections, latent, q_norm, k_norm, v_norm, gate, sinks, o, block, spec: spec.clone() })
    }

    fn latent(&mut self, spec: &LatentSpec) -> Result<Latent> {
        let q = match &spec.q {
            Some((module, norm)) => {
                let module = self.module(module)?;
                self.own_norm(norm)?.map(|norm| (module, norm))
            }
            None => None,
        };
        let (q_out, kv) = (self.module(&spec.q_out)?, self.module(&spec.kv)?);
        let kv_norm = self.own_norm(&spec.kv_norm)?;
        let kv_norm = kv_norm.ok_or_else(|| Error::failure("a latent without its norm"))?;
        Ok(Latent { q, q_out, kv, kv_norm, kv_out: self.module(&spec.kv_out)? })
    }

    fn own_norm(&mut self, spec: &NormSpec) -> Result<Option<NormWeights>> {
        self.norm(&Some(spec.clone()))
    }

    fn mlp(&mut self, spec: &MlpSpec) -> Result<Mlp> {
        Ok(Mlp {
            up: self.parts(&spec.up)?,
            down: self.module(&spec.down)?,
            alphas: match &spec.scalars {
                // arXiv 2411.13010: both above what makes the function monotonous.
                Some([positive, negative]) => {
                    let softplus = |x: f32| x.exp().ln_1p();
                    [softplus(self.0.scalar(positive)?), 0.5 + softplus(self.0.scalar(negative)?)]
                }
                None => spec.alphas,
            },
            spec: spec.clone(),
        })
    }

    /// The biases of a projection of all experts.
    fn expert_biases(&mut self, module: &ModuleSpec) -> Result<Vec<Option<Vector>>> {
        if !module.bias {
            return Ok((0..module.copies).map(|_| None).collect());
        }
        let biases = match &module.stack {
            Some(stack) => self.0.stacked_bias(stack, module.copies, module.shape[0])?,
            None => module.names().map(|name| self.0.bias(&name, module.shape[0])).collect::<Result<_>>()?,
        };
        Ok(biases.into_iter().map(Some).collect())
    }

    fn experts(&mut self, spec: &ExpertsSpec) -> Result<Experts> {
        let router = self.module(&spec.router)?;
        let bias = match &spec.routing.bias {
            Some(name) => self.0.values(name, spec.count)?,
            None => Vec::new(),
        };
        let scales = spec.routing.scales.as_ref();
        let scales = scales.map(|name| self.0.trained_values(name, spec.count)).transpose()?;
        let norms = spec.norms.as_ref().map(|norms| self.expert_norms(norms)).transpose()?;
        let mut up_bias = Vec::new();
        for part in &spec.mlp.up {
            up_bias.push(self.expert_biases(&part.module)?.into_iter());
        }
        let down_bias = self.expert_biases(&spec.mlp.down)?;
        let described = if self.0.alike(spec) { 1 } else { spec.count };
        let mut each = Vec::with_capacity(described);
        for (number, down_bias) in down_bias.into_iter().enumerate().take(described) {
            let mut parts = Vec::new();
            for part in &spec.mlp.up {
                let copy = part.module.copy(number);
                parts.push((self.0.weight(&copy)?, copy.shape[0] * copy.shape[1]));
            }
            let names = spec.mlp.up.iter().map(|part| (part.module.expert(number), part.offset, part.module.shape[0]));
            let names: Vec<_> = names.map(|(name, first, rows)| (name, first..first + rows)).collect();
            let biases: Vec<Vector> = up_bias.iter_mut().filter_map(|all| all.next().flatten()).collect();
            let bias = match <[Vector; 1]>::try_from(biases) {
                Ok([bias]) => Some(bias),
                Err(none) if none.is_empty() => None,
                Err(_) => {
                    return Err(Error::usage("biases of an expert's gate and up in two tensors are not computed here"));
                }
            };
            let shape = [spec.mlp.up_width(), spec.router.shape[1]];
            let (module, parts_of) = match &names[..] {
                [(name, _)] => (name.clone(), Vec::new()),
                _ => (spec.fused(number), names),
            };
            let up = Linear { parts: parts_of, ..Linear::new(module, shape, Weight::joined(parts), bias) };
            let copy = spec.mlp.down.copy(number);
            let down = Linear::new(copy.name.clone(), copy.shape, self.0.weight(&copy)?, None);
            each.push(Expert { up, down, down_bias });
        }
        let shared = spec.shared.as_ref().map(|shared| -> Result<Shared> {
            let gate = shared.gate.as_ref().map(|gate| self.module(gate)).transpose()?;
            Ok(Shared { mlp: self.mlp(&shared.mlp)?, gate })
        });
        Ok(Experts { router, bias, scales, norms, each, shared: shared.transpose()?, spec: spec.clone() })
    }

    fn expert_norms(&mut self, spec: &spec::ExpertNorms) -> Result<ExpertNorms> {
        // Its scales have a name of their own.
        let router = self.0.vectors(std::slice::from_ref(&spec.router.name), spec.router.width)?;
        let router = router.into_iter().next().ok_or_else(|| Error::failure("a norm without scales"))?;
        Ok(ExpertNorms {
            router: NormWeights { spec: spec.router.clone(), weight: router, others: Vec::new(), bias: None },
            input: self.norm_of(&spec.input)?,
            output: self.norm_of(&spec.output)?,
            shared: self.norm_of(&spec.shared)?,
        })
    }

    fn feed_forward(&mut self, spec: &spec::FeedForward) -> Result<FeedForward> {
        match spec {
            spec::FeedForward::Dense(spec) => self.mlp(spec).map(FeedForward::Dense),
            spec::FeedForward::Experts(spec) => self.experts(spec).map(FeedForward::Experts),
        }
    }

    fn norm_of(&mut self, spec: &NormSpec) -> Result<NormWeights> {
        let plus = if spec.plus_one { 1.0 } else { 0.0 };
        let mut others = Vec::new();
        let weight = match (spec.weight, spec.copies) {
            (true, 1) if !spec.name.contains("{}") => self.0.scale(&spec.name, spec.width, plus)?,
            (true, copies) => {
                let names: Vec<String> = spec.tensors().map(|(name, _)| name).collect();
                let mut each = self.0.vectors(&names, copies * spec.width)?.into_iter();
                let first = each.next().ok_or_else(|| Error::failure("norms of no heads"))?;
                others.extend(each);
                first
            }
            (false, copies) => Vector::Frozen(vec![1.0; copies * spec.width]),
        };
        let bias = if spec.bias { Some(self.0.bias(&spec.name, spec.width)?) } else { None };
        Ok(NormWeights { spec: spec.clone(), weight, others, bias })
    }

    fn per_layer_inputs(&mut self, spec: &spec::PerLayerInputs) -> Result<Inputs> {
        let (table, projection) = (self.module(&spec.table)?, self.module(&spec.projection)?);
        Ok(Inputs { table, projection, norm: self.norm_of(&spec.norm)?, spec: spec.clone() })
    }

    fn per_layer(&mut self, spec: &spec::PerLayerSpec) -> Result<PerLayer> {
        let (gate, projection) = (self.module(&spec.gate)?, self.module(&spec.projection)?);
        Ok(PerLayer { gate, projection, norm: self.norm_of(&spec.norm)?, spec: spec.clone() })
    }

    fn block(&mut self, spec: &BlockSpec, number: usize, width: usize) -> Result<Block> {
        let BlockSpec { parallel, normed, residual_scale, .. } = *spec;
        let norm_in = self.norm(&spec.norm_in)?;
        let mixer = spec.mixer.as_ref().map(|mixer| self.mixer(mixer, number)).transpose()?;
        let (norm_mixed, norm_ffn) = (self.norm(&spec.norm_mixed)?, self.norm(&spec.norm_ffn)?);
        let ffn = spec.ffn.as_ref().map(|ffn| self.feed_forward(ffn)).transpose()?;
        let norm_out = self.norm(&spec.norm_out)?;
        let per_layer = spec.per_layer.as_ref().map(|part| self.per_layer(part)).transpose()?;
        let scalar = spec.scalar.as_ref().map_or(Ok(1.0), |name| self.0.buffer(name))?;
        Ok(Block {
            norm_in,
            mixer,
            norm_mixed,
            norm_ffn,
            ffn,
            norm_out,
            parallel,
            normed,
            residual_scale,
            per_layer,
            scalar,
            width,
        })
    }
}

impl Decoder {
    /// Reads a model tensor by tensor: what is in memory at most is the model as it is kept and one tensor in `f32`.
    ///
    /// # Errors
    /// What [`Checkpoint::spec`] refuses, a setting that is not computed here, a tensor that is missing or of another shape
    /// than the config says, NaN and Inf; and cancellation.
    pub fn load(checkpoint: &Checkpoint, frozen: Frozen, progress: &dyn Progress) -> Result<Self> {
        let spec = Arc::clone(checkpoint.spec()?);
        spec.runs(checkpoint.path())?;
        let mut loader = Loader { checkpoint, frozen, params: Params::default(), progress, done: 0 };
        let mut decoder = Self::build(spec, &mut loader)?;
        decoder.params = loader.params;
        progress.step(1, 1)?;
        checkpoint.rest();
        Ok(decoder)
    }

    /// From a source of weights; what is trained is the source's.
    pub(super) fn build(spec: Arc<ModelSpec>, source: &mut impl Source) -> Result<Self> {
        let mut builder = Builder(source);
        let mut embedding = builder.module(&spec.embedding)?;
        let positions = match &spec.positions {
            Some(positions) => Some((builder.module(&positions.module)?, positions.offset)),
            None => None,
        };
        let per_layer = spec.per_layer.as_ref().map(|inputs| builder.per_layer_inputs(inputs)).transpose()?;
        let narrow = spec.narrow.as_ref().map(|narrow| -> Result<Narrow> {
            Ok(Narrow { into: builder.module(&narrow.into)?, out: builder.module(&narrow.out)? })
        });
        let narrow = narrow.transpose()?;
        let embedding_norm = builder.norm(&spec.embedding_norm)?;
        let blocks = spec
            .blocks
            .iter()
            .enumerate()
            .map(|(at, block)| builder.block(block, at, spec.hidden))
            .collect::<Result<_>>()?;
        let norm = builder.norm(&spec.norm)?;
        let head = spec.head.as_ref().map(|head| builder.module(head)).transpose()?;
        if let Some(head) = &spec.tied_head_bias {
            embedding.bias = Some(builder.0.bias(head, spec.vocab)?);
        }
        Ok(Self {
            params: Params::default(),
            embedding,
            positions,
            per_layer,
            narrow,
            embedding_norm,
            blocks,
            norm,
            head,
            spec,
        })
    }

    /// The head: its own, or the embedding.
    pub(super) fn head(&self) -> &Linear {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// The linear layers of all blocks and around them, in order.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let per_layer = self.per_layer.iter().map(|inputs| &inputs.projection);
        let (into, out) = (self.narrow.iter().map(|narrow| &narrow.into), self.narrow.iter().map(|narrow| &narrow.out));
        per_layer.chain(into).chain(self.blocks.iter().flat_map(Block::linears)).chain(out)
    }

    /// Mutable variant of [`linears`](Self::linears).
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let Self { per_layer, narrow, blocks, .. } = self;
        all_linears(per_layer.as_mut(), narrow.as_mut(), blocks)
    }

    /// The mixtures of experts, block after block.
    pub fn experts(&self) -> impl Iterator<Item = &Experts> {
        self.blocks.iter().filter_map(|block| match &block.ffn {
            Some(FeedForward::Experts(experts)) => Some(experts),
            _ => None,
        })
    }

    /// Embeddings, positions and a head of its own.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Linear> {
        let positions = self.positions.as_ref().map(|(table, _)| table);
        let per_layer = self.per_layer.iter().map(|inputs| &inputs.table);
        [&self.embedding].into_iter().chain(positions).chain(per_layer).chain(&self.head)
    }

    /// Every norm.
    pub(super) fn norms(&self) -> impl Iterator<Item = &NormWeights> {
        let per_layer = self.per_layer.iter().map(|inputs| &inputs.norm);
        self.embedding_norm.iter().chain(per_layer).chain(self.blocks.iter().flat_map(Block::norms)).chain(&self.norm)
    }

    /// The numbers of what is trained, as the way forward meets them.
    pub fn forward_order(&self) -> Vec<usize> {
        let branches: Vec<usize> =
            self.linears().filter_map(|linear| linear.branch.as_ref()).flat_map(Branch::params).collect();
        // Without branches the whole model is trained, and was read in that order.
        if branches.is_empty() { (0..self.params.list.len()).collect() } else { branches }
    }

    /// The norms of the rows of linear layer number `at`, as it is frozen.
    pub(crate) fn row_norms(&self, at: usize) -> Option<Vec<f32>> {
        let linear = self.linears().nth(at)?;
        let [out, width] = linear.shape;
        let mut values = vec![0.0; out * width];
        linear.weight.rows(&self.params, 0..out, width, &mut values);
        Some(magnitude::row_norms(&values, out))
    }

    /// Bytes of the weights as they are kept, without what is trained.
    pub fn frozen_bytes(&self) -> usize {
        self.tables().chain(self.linears()).map(|linear| linear.weight.bytes()).sum()
    }
}

/// Mutable variant of [`Decoder::linears`], over the parts of a decoder.
pub(super) fn all_linears<'a>(
    per_layer: Option<&'a mut Inputs>,
    narrow: Option<&'a mut Narrow>,
    blocks: &'a mut [Block],
) -> impl Iterator<Item = &'a mut Linear> {
    let per_layer = per_layer.into_iter().map(|inputs| &mut inputs.projection);
    let (into, out) = narrow.map(|narrow| (&mut narrow.into, &mut narrow.out)).unzip();
    per_layer.chain(into).chain(blocks.iter_mut().flat_map(Block::linears_mut)).chain(out)
}
