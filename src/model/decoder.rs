//! [`Decoder`]: the weights of a model, in the places that its family has for them.

use super::config::{Family, ModelConfig, Qkv};
use super::linear::Linear;
use super::ops::norm::Norm;
use super::params::Params;
use super::weight::{Frozen, Loader, Vector, Weight};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use std::borrow::Cow;

/// A normalization's weights.
#[derive(Debug)]
pub struct NormWeights {
    /// The checkpoint's name for it.
    pub name: String,
    /// Scales.
    pub weight: Vector,
    /// Shifts of a LayerNorm.
    pub bias: Option<Vector>,
}

impl NormWeights {
    /// The values, ready for [`Norm`].
    pub fn values<'a>(&'a self, params: &'a Params) -> (Cow<'a, [f32]>, Option<Cow<'a, [f32]>>) {
        (self.weight.values(params), self.bias.as_ref().map(|bias| bias.values(params)))
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

/// One block.
#[derive(Debug)]
pub struct Block {
    /// Before attention.
    pub norm_in: NormWeights,
    /// Query, key and value projections: one or three.
    pub qkv: Vec<Part>,
    /// Norms of queries and keys, per head.
    pub qk_norm: Option<(NormWeights, NormWeights)>,
    /// Output projection of the attention.
    pub o: Linear,
    /// After attention (Gemma).
    pub norm_attention: Option<NormWeights>,
    /// Before the MLP.
    pub norm_mlp: NormWeights,
    /// Gate and up projections: one or two.
    pub up: Vec<Part>,
    /// Down projection.
    pub down: Linear,
    /// After the MLP (Gemma).
    pub norm_out: Option<NormWeights>,
}

/// A decoder with its weights. What is trained stands in its [`Params`].
#[derive(Debug)]
pub struct Decoder {
    /// What it computes.
    pub config: ModelConfig,
    /// Everything trained.
    pub params: Params,
    pub(super) embedding: Weight,
    pub(super) positions: Option<Weight>,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: NormWeights,
    /// `None` where the embedding is the head.
    pub(super) head: Option<Linear>,
    /// The embedding's name.
    pub(super) embedding_name: String,
}

/// Names of one family's modules.
struct Names {
    prefix: String,
    family: Family,
}

impl Names {
    fn of(checkpoint: &Checkpoint, family: Family) -> Result<Self> {
        let (prefix, embedding) = match family {
            Family::Gpt2 => ("transformer.", "wte"),
            Family::GptNeox => ("gpt_neox.", "embed_in"),
            _ => ("model.", "embed_tokens"),
        };
        // GPT2Model and its like are stored without the outer name.
        let found =
            [prefix, ""].into_iter().find(|prefix| checkpoint.module(&format!("{prefix}{embedding}")).is_some());
        let found = found.ok_or_else(|| {
            let name = format!("{prefix}{embedding}");
            Error::tensor(checkpoint.path(), &name, "the model has no such embedding, its architecture asks for it")
        })?;
        Ok(Self { prefix: found.to_owned(), family })
    }

    fn top(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn block(&self, layer: usize, name: &str) -> String {
        let blocks = if self.family == Family::Gpt2 { "h" } else { "layers" };
        format!("{}{blocks}.{layer}.{name}", self.prefix)
    }
}

struct Builder<'a> {
    loader: Loader<'a>,
    names: Names,
    config: ModelConfig,
}

impl Builder<'_> {
    fn linear(&mut self, module: String, out: usize, inner: usize, bias: bool) -> Result<Linear> {
        let shape = [out, inner];
        let weight = self.loader.linear(&module, shape)?;
        let bias = if bias { Some(self.loader.bias(&module, out)?) } else { None };
        Ok(Linear { module, shape, weight, bias, lora: None, watched: None })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<NormWeights> {
        let plus = if self.config.family.is_gemma() { 1.0 } else { 0.0 };
        let weight = self.loader.scale(name, width, plus)?;
        let bias = if self.config.family.is_gpt() { Some(self.loader.bias(name, width)?) } else { None };
        Ok(NormWeights { name: name.to_owned(), weight, bias })
    }

    fn block(&mut self, layer: usize) -> Result<Block> {
        let c = self.config.clone();
        let name = |names: &Names, end: &str| names.block(layer, end);
        let (query, key) = (c.attention_width(), c.kv_heads * c.head_dim);
        let (hidden, ffn) = (c.hidden, c.ffn);
        let gemma = c.family.is_gemma();
        let [first, after, second, last] = match c.family {
            Family::Gpt2 => ["ln_1", "", "ln_2", ""],
            Family::Gemma2 | Family::Gemma3 => [
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ],
            _ => ["input_layernorm", "", "post_attention_layernorm", ""],
        };
        let norm_in = self.norm(&name(&self.names, first), hidden)?;
        let joined = match c.family {
            Family::Gpt2 => "attn.c_attn",
            Family::GptNeox => "attention.query_key_value",
            _ => "self_attn.qkv_proj",
        };
        let mut qkv = Vec::new();
        if c.qkv == Qkv::Apart {
            let mut offset = 0;
            for (end, width) in [("q", query), ("k", key), ("v", key)] {
                let module = name(&self.names, &format!("self_attn.{end}_proj"));
                qkv.push(Part { offset, linear: self.linear(module, width, hidden, c.qkv_bias)? });
                offset += width;
            }
        } else {
            let linear = self.linear(name(&self.names, joined), c.qkv_width(), hidden, c.qkv_bias)?;
            qkv.push(Part { offset: 0, linear });
        }
        let qk_norm = if c.qk_norm {
            let (q, k) = (name(&self.names, "self_attn.q_norm"), name(&self.names, "self_attn.k_norm"));
            Some((self.norm(&q, c.head_dim)?, self.norm(&k, c.head_dim)?))
        } else {
            None
        };
        let o = match c.family {
            Family::Gpt2 => "attn.c_proj",
            Family::GptNeox => "attention.dense",
            _ => "self_attn.o_proj",
        };
        let o = self.linear(name(&self.names, o), hidden, query, c.o_bias)?;
        let norm_attention = if gemma { Some(self.norm(&name(&self.names, after), hidden)?) } else { None };
        let norm_mlp = self.norm(&name(&self.names, second), hidden)?;
        let ups: &[(&str, usize, usize)] = match c.family {
            Family::Gpt2 => &[("mlp.c_fc", 0, 1)],
            Family::GptNeox => &[("mlp.dense_h_to_4h", 0, 1)],
            Family::Phi3 => &[("mlp.gate_up_proj", 0, 2)],
            _ => &[("mlp.gate_proj", 0, 1), ("mlp.up_proj", 1, 1)],
        };
        let mut up = Vec::new();
        for &(end, place, times) in ups {
            let linear = self.linear(name(&self.names, end), times * ffn, hidden, c.mlp_bias)?;
            up.push(Part { offset: place * ffn, linear });
        }
        let down = match c.family {
            Family::Gpt2 => "mlp.c_proj",
            Family::GptNeox => "mlp.dense_4h_to_h",
            _ => "mlp.down_proj",
        };
        let down = self.linear(name(&self.names, down), hidden, ffn, c.mlp_bias)?;
        let norm_out = if gemma { Some(self.norm(&name(&self.names, last), hidden)?) } else { None };
        Ok(Block { norm_in, qkv, qk_norm, o, norm_attention, norm_mlp, up, down, norm_out })
    }
}

impl Decoder {
    /// Reads a model tensor by tensor: what is in memory at most is the model as it is kept and one tensor in `f32`.
    ///
    /// # Errors
    /// What [`ModelConfig::of`] refuses, a tensor that is missing or of another shape than the config says, NaN and Inf;
    /// and cancellation.
    pub fn load(checkpoint: &Checkpoint, frozen: Frozen, progress: &dyn Progress) -> Result<Self> {
        let config = ModelConfig::of(checkpoint)?;
        let names = Names::of(checkpoint, config.family)?;
        let loader = Loader { checkpoint, frozen, params: Params::default(), progress, done: 0 };
        let mut builder = Builder { loader, names, config };
        let (hidden, vocab) = (builder.config.hidden, builder.config.vocab);
        let (embedding_name, norm, head) = match builder.config.family {
            Family::Gpt2 => ("wte", "ln_f", "lm_head"),
            Family::GptNeox => ("embed_in", "final_layer_norm", "embed_out"),
            _ => ("embed_tokens", "norm", "lm_head"),
        };
        let embedding_name = builder.names.top(embedding_name);
        let embedding = builder.loader.table(&embedding_name, [vocab, hidden])?;
        let positions = if builder.config.family == Family::Gpt2 {
            let shape = [builder.config.max_positions, hidden];
            Some(builder.loader.table(&builder.names.top("wpe"), shape)?)
        } else {
            None
        };
        let mut blocks = Vec::new();
        for layer in 0..builder.config.blocks.len() {
            blocks.push(builder.block(layer)?);
        }
        let norm = builder.norm(&builder.names.top(norm), hidden)?;
        let head = if builder.config.tied {
            None
        } else {
            let weight = builder.loader.table(head, [vocab, hidden])?;
            Some(Linear {
                module: head.to_owned(),
                shape: [vocab, hidden],
                weight,
                bias: None,
                lora: None,
                watched: None,
            })
        };
        progress.step(1, 1)?;
        checkpoint.rest();
        let Builder { loader, config, .. } = builder;
        Ok(Self { config, params: loader.params, embedding, positions, blocks, norm, head, embedding_name })
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

    pub(super) fn norm<'a>(&self, weight: &'a [f32], bias: Option<&'a [f32]>) -> Norm<'a> {
        Norm { weight, bias, centred: self.config.family.is_gpt(), eps: self.config.eps }
    }
}
