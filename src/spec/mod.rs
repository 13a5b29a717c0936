//! [`ModelSpec`]: what a decoder computes, with which modules, as plain data.
//!
//! ```text
//! config.json ─ Keys ─ families/<family>.rs ─► ModelSpec ─┬─ loader, pass, memory, flops
//!                                                         ├─ counts, targets, presets
//!                                                         └─ a checkpoint's roles, tied heads, transposed weights
//! ```
//!
//! One file a family ([`families`]) says how its `config.json` becomes a spec; nothing else reads that file for what a
//! model computes. One block is
//!
//! ```text
//! h  = norm_in(x)                         m = norm_mixed(mixer(h))        x₁ = x + s·m
//! h₂ = norm_ffn(x₁)                       f = norm_out(ffn(h₂))           x₂ = x₁ + s·f
//! parallel: h₂ = norm_ffn(x), or h where there is no norm_ffn;            x₂ = x + s·m + s·f
//! ```
//!
//! where a norm that is `None` passes its input on, and `s` is [`BlockSpec::residual_scale`]. Where the stream is
//! [`normed`](BlockSpec::normed) it goes on from what the norms gave: x₁ = h + m, x₂ = h₂ + f.

mod activation;
mod experts;
pub mod families;
mod peft;
mod per_layer;
mod recurrence;
mod role;
mod rope;
mod unnamed;

pub use activation::Activation;
pub use experts::{ExpertNorms, ExpertsSpec, Routing, Scores, SharedSpec};
pub use peft::{PeftExperts, PeftNames, TAKEN_FOR_EXPERTS};
pub use per_layer::{PerLayerInputs, PerLayerSpec};
pub use recurrence::{ConvSpec, GatedNormSpec, RecurrenceKind, RecurrenceSpec};
pub use role::{Group, Role};
pub use rope::{Beyond, Positions, Rope, alibi_slopes};

/// A decoder, described.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// `model_type` of the decoder: `llama`, `gemma3_text`.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Longest sequence.
    pub max_positions: usize,
    /// The embedding, `[vocab, hidden]`.
    pub embedding: ModuleSpec,
    /// Multiplies embeddings.
    pub embedding_scale: f32,
    /// Learned positions, added to the embeddings.
    pub positions: Option<PositionsSpec>,
    /// What every block gets of a token beside the stream (Gemma 4).
    pub per_layer: Option<PerLayerInputs>,
    /// Into the stream and out of it, where the embedding is narrower (OPT 350M).
    pub narrow: Option<NarrowSpec>,
    /// After the embeddings (BLOOM).
    pub embedding_norm: Option<NormSpec>,
    /// The blocks.
    pub blocks: Vec<BlockSpec>,
    /// Before the head.
    pub norm: Option<NormSpec>,
    /// The head, `[vocab, hidden]`; `None` where the embedding is the head.
    pub head: Option<ModuleSpec>,
    /// The head's name where the embedding is the head, but has a bias beside it.
    pub tied_head_bias: Option<String>,
    /// Multiplies logits.
    pub logit_scale: f32,
    /// Cap of logits, `cap · tanh(logits / cap)`, after [`logit_scale`](Self::logit_scale); 0 for none.
    pub logit_cap: f32,
    /// Rotary embeddings, by [`AttentionSpec::rope`].
    pub ropes: Vec<Rope>,
    /// Parameters of what is not described here, because it is not computed ([`not_run`](Self::not_run) says so).
    pub undescribed: u64,
    /// The decoder is a part of a larger model: text goes through it alone.
    pub is_part: bool,
    /// Why this decoder can be counted, but not run: a setting that changes the result and is not computed here.
    pub not_run: Option<String>,
}

/// A table of learned positions.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionsSpec {
    /// The table, `[positions + offset, hidden]`.
    pub module: ModuleSpec,
    /// Row of position 0 (OPT: 2).
    pub offset: usize,
}

/// An embedding of another width than the stream: `x = into(embedded) + positions`, `logits = head(out(norm(x)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct NarrowSpec {
    /// `[hidden, width]`.
    pub into: ModuleSpec,
    /// `[width, hidden]`.
    pub out: ModuleSpec,
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockSpec {
    /// Before the mixer.
    pub norm_in: Option<NormSpec>,
    /// What mixes tokens; `None` in a block that is a feed-forward alone.
    pub mixer: Option<Mixer>,
    /// After the mixer, before its output is added.
    pub norm_mixed: Option<NormSpec>,
    /// Before the feed-forward; `None` in a parallel block whose feed-forward reads [`norm_in`](Self::norm_in)'s output.
    pub norm_ffn: Option<NormSpec>,
    /// What follows, token by token.
    pub ffn: Option<FeedForward>,
    /// After the feed-forward, before its output is added.
    pub norm_out: Option<NormSpec>,
    /// Mixer and feed-forward both read the block's input.
    pub parallel: bool,
    /// Both outputs are added to what the norm before them gave, and the stream goes on from there: norms that come after the
    /// sums are the next ones' (OPT 350M, BLOOM's `apply_residual_connection_post_layernorm`).
    pub normed: bool,
    /// Multiplies both outputs before they are added (Granite's `residual_multiplier`).
    pub residual_scale: f32,
    /// What is added after both: the block's part of the per-layer inputs, through a gate (Gemma 4).
    pub per_layer: Option<PerLayerSpec>,
    /// The checkpoint's name of a number that multiplies the block's output.
    pub scalar: Option<String>,
}

impl BlockSpec {
    /// Its attention, where it has one.
    pub fn attention(&self) -> Option<&AttentionSpec> {
        match &self.mixer {
            Some(Mixer::Attention(attention) | Mixer::Both(attention, _)) => Some(attention),
            _ => None,
        }
    }

    /// Its mixer with a state, where it has one.
    pub fn recurrence(&self) -> Option<&RecurrenceSpec> {
        match &self.mixer {
            Some(Mixer::Recurrence(recurrence) | Mixer::Both(_, recurrence)) => Some(recurrence),
            _ => None,
        }
    }

    /// Its MLP, where it has one.
    pub fn mlp(&self) -> Option<&MlpSpec> {
        match &self.ffn {
            Some(FeedForward::Dense(mlp)) => Some(mlp),
            _ => None,
        }
    }

    /// Its modules, in the order of a pass forward.
    pub fn modules(&self) -> impl Iterator<Item = &ModuleSpec> {
        let attention = self.attention().into_iter();
        let mixer = attention
            .flat_map(|spec| {
                let latent = spec.latent.iter().flat_map(LatentSpec::modules);
                latent.chain(spec.projections.iter().map(|part| &part.module)).chain(&spec.gate).chain([&spec.o])
            })
            .chain(self.recurrence().into_iter().flat_map(RecurrenceSpec::modules));
        let (dense, experts) = match &self.ffn {
            Some(FeedForward::Dense(mlp)) => (Some(mlp), None),
            Some(FeedForward::Experts(experts)) => (None, Some(experts)),
            None => (None, None),
        };
        let experts = experts.into_iter().flat_map(|experts| {
            let shared = experts.shared.iter().flat_map(|shared| shared.mlp.modules().chain(&shared.gate));
            [&experts.router].into_iter().chain(experts.mlp.modules()).chain(shared)
        });
        let per_layer = self.per_layer.iter().flat_map(|part| [&part.gate, &part.projection]);
        mixer.chain(dense.into_iter().flat_map(MlpSpec::modules)).chain(experts).chain(per_layer)
    }

    /// Its norms.
    pub fn norms(&self) -> impl Iterator<Item = &NormSpec> {
        let heads = self.attention().into_iter().flat_map(|spec| {
            let latent = spec.latent.iter().flat_map(|latent| latent.q.iter().map(|q| &q.1).chain([&latent.kv_norm]));
            latent.chain(&spec.q_norm).chain(&spec.k_norm).chain(&spec.v_norm)
        });
        let own = self.norm_in.iter().chain(&self.norm_mixed).chain(&self.norm_ffn).chain(&self.norm_out);
        let experts = match &self.ffn {
            Some(FeedForward::Experts(experts)) => experts.norms.as_ref(),
            _ => None,
        };
        let experts = experts.into_iter().flat_map(ExpertNorms::all);
        own.chain(experts).chain(heads).chain(self.per_layer.iter().map(|part| &part.norm))
    }
}

/// What mixes tokens.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one of them a block, and never many at once")]
pub enum Mixer {
    /// Causal attention.
    Attention(AttentionSpec),
    /// Through a state of fixed size.
    Recurrence(RecurrenceSpec),
    /// Both of them, added up (Falcon-H1).
    Both(AttentionSpec, RecurrenceSpec),
}

/// A projection that fills columns of a row: from this one on.
#[derive(Clone, Debug, PartialEq)]
pub struct PartSpec {
    /// Its first column.
    pub offset: usize,
    /// The projection.
    pub module: ModuleSpec,
}

/// How queries, keys and values lie in a row of what the projections give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkvLayout {
    /// All queries, all keys, all values; of one projection or three.
    Split,
    /// For each key head: its queries, the key, the value (GPT-NeoX, BLOOM, Falcon).
    Grouped,
}

/// Causal attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head `h` uses number `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head's query and key.
    pub head_dim: usize,
    /// Width of a head's value.
    pub value_dim: usize,
    /// Query, key and value projections: one or three; none where they come from latents.
    pub projections: Vec<PartSpec>,
    /// Queries, keys and values come from latents (DeepSeek).
    pub latent: Option<LatentSpec>,
    /// How their outputs lie in a row.
    pub layout: QkvLayout,
    /// Norm of queries: of each head where its width is [`head_dim`](Self::head_dim), else of the whole row (OLMo 2).
    pub q_norm: Option<NormSpec>,
    /// Norm of keys.
    pub k_norm: Option<NormSpec>,
    /// Norm of each head's values (Gemma 4).
    pub v_norm: Option<NormSpec>,
    /// Values are what the key projection gives (Gemma 4).
    pub keys_are_values: bool,
    /// The block whose keys and values are read, as they are after norms and the rotary embedding: there are none of its own.
    pub reads_keys_of: Option<usize>,
    /// Later blocks read its keys and values.
    pub shares_keys: bool,
    /// Norms of queries and keys come after the rotary embedding (Hunyuan).
    pub norm_after_rope: bool,
    /// `[heads · head_dim, hidden]`: the sigmoid of what it gives multiplies the attention's output (Muse Glimmer).
    pub gate: Option<ModuleSpec>,
    /// Each query comes with as many columns behind it, which gate the attention's output so (Qwen3-Next).
    pub gated_queries: bool,
    /// Output projection, `[hidden, heads · head_dim]`.
    pub o: ModuleSpec,
    /// Which of [`ModelSpec::ropes`] turns queries and keys; `None` for none.
    pub rope: Option<usize>,
    /// First dimension of a head that turns.
    pub rope_offset: usize,
    /// A row sees itself and the `window − 1` rows before it.
    pub window: Option<usize>,
    /// A row sees no row before the multiple of this that its position reaches (Llama 4).
    pub chunk: Option<usize>,
    /// The checkpoint's name of a score for each head that stands beside those of the keys and belongs to none (gpt-oss).
    pub sinks: Option<String>,
    /// Multiplies scores.
    pub scale: f32,
    /// Cap of scores, 0 for none.
    pub softcap: f32,
    /// Times `slope(head) · (key position − query position)` is added to scores (BLOOM), by [`alibi_slopes`]; 0 for none.
    pub alibi: f32,
    /// Slopes, and slopes times positions, are rounded to bf16 (Falcon).
    pub alibi_rounded: bool,
    /// Queries, keys and values are clipped to ±this; 0 for none (OLMo).
    pub clip: f32,
    /// Multiplies queries by position (Ministral 3).
    pub query_scaling: Option<QueryScaling>,
}

/// `1 + beta · ln(1 + ⌊(position + shift) / original⌋)` multiplies a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryScaling {
    /// Strength.
    pub beta: f32,
    /// Positions without it.
    pub original: usize,
    /// 1 where positions count from 1 (Llama 4), else 0.
    pub shift: usize,
}

/// Queries, keys and values from latents (multi-head latent attention, arXiv 2405.04434):
///
/// ```text
/// q = W_b norm(W_a h)      [c | k_rope] = W_kv h      [k_nope | v] of each head = W_kvb norm(c)      k = [k_nope | k_rope]
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LatentSpec {
    /// W_a and its norm; without them queries come from `h` itself.
    pub q: Option<(ModuleSpec, NormSpec)>,
    /// W_b, `[heads · head_dim, rank or hidden]`.
    pub q_out: ModuleSpec,
    /// W_kv, `[rank + rope, hidden]`: the latent, and the one key that turns and that all heads share.
    pub kv: ModuleSpec,
    /// Of the latent.
    pub kv_norm: NormSpec,
    /// W_kvb, `[heads · (head_dim − rope + value_dim), rank]`.
    pub kv_out: ModuleSpec,
}

impl LatentSpec {
    fn modules(&self) -> impl Iterator<Item = &ModuleSpec> {
        let q = self.q.iter().map(|(module, _)| module);
        q.chain([&self.q_out, &self.kv, &self.kv_out])
    }
}

impl AttentionSpec {
    /// Columns of a row of queries, keys and values.
    pub fn row(&self) -> usize {
        (self.heads + self.kv_heads) * self.head_dim + self.kv_heads * self.value_dim
    }

    /// Columns of what the projections give.
    pub fn projected(&self) -> usize {
        self.row() + if self.gated_queries { self.width() } else { 0 }
    }

    /// Columns of the attention's output before its projection.
    pub fn width(&self) -> usize {
        self.heads * self.value_dim
    }

    /// Columns of queries in a row.
    pub fn queries(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// What follows the mixer, token by token.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one a block of a model, never moved")]
pub enum FeedForward {
    /// An MLP.
    Dense(MlpSpec),
    /// A mixture of experts.
    Experts(ExpertsSpec),
}

/// `down(f(gate) ∘ up)`, or `down(f(up))` without a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpSpec {
    /// Gate and up projections: gate and up in one or two where it is gated, else one.
    pub up: Vec<PartSpec>,
    /// Down projection.
    pub down: ModuleSpec,
    /// Columns between them.
    pub width: usize,
    /// `f(gate) ∘ up`.
    pub gated: bool,
    /// `f`.
    pub activation: Activation,
    /// The checkpoint's names of the two numbers that an xIELU has learned, one value each: a and b.
    pub scalars: Option<[String; 2]>,
    /// Numbers of the nonlinearity that the config gives: α and the limit of a clamped SwiGLU; 1 otherwise.
    pub alphas: [f32; 2],
}

impl MlpSpec {
    /// Columns of what the first projections give.
    pub fn up_width(&self) -> usize {
        if self.gated { 2 * self.width } else { self.width }
    }

    fn modules(&self) -> impl Iterator<Item = &ModuleSpec> {
        self.up.iter().map(|part| &part.module).chain([&self.down])
    }
}

/// A weight `[out, in]` and its bias.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleSpec {
    /// The checkpoint's name for it, without `.weight`; of one that is there for each expert, [`expert`](Self::expert) puts
    /// the number in the place of `{}`.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its block.
    pub layer: Option<usize>,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// There is a bias, `[out]`.
    pub bias: bool,
    /// Multiplies what the weight gives, but no bias (Falcon-H1).
    pub scale: f32,
    /// A linear layer of a block: no embedding or head.
    pub linear: bool,
    /// The file has it as `[in, out]` (transformers' Conv1D).
    pub transposed: bool,
    /// How many there are, one for each expert.
    pub copies: usize,
    /// The file has all copies in one tensor, `[copies, out, in]` or transposed, by this name without `.weight`; biases then
    /// in one of that name and `_bias`.
    pub stack: Option<String>,
}

/// Whether a weight goes to 4 bits under QLoRA: the linear layers of blocks do, routers of more than one expert stay.
pub fn goes_to_four_bits(linear: bool, role: Role, out: usize) -> bool {
    linear && !(role == Role::Router && out > 1)
}

impl ModuleSpec {
    /// Values of weight and bias, of all copies.
    pub fn parameters(&self) -> u64 {
        let [out, inner] = self.shape.map(|size| size as u64);
        self.copies as u64 * (out * inner + if self.bias { out } else { 0 })
    }

    /// The name of the copy for expert `number`.
    pub fn expert(&self, number: usize) -> String {
        self.name.replacen("{}", &number.to_string(), 1)
    }

    /// The copy for expert `number`, by itself.
    pub fn copy(&self, number: usize) -> Self {
        Self { name: self.expert(number), copies: 1, ..self.clone() }
    }

    /// Whether it goes to 4 bits under QLoRA.
    pub fn goes_to_four_bits(&self) -> bool {
        goes_to_four_bits(self.linear, self.role, self.shape[0])
    }

    /// The names of all copies.
    pub fn names(&self) -> impl Iterator<Item = String> {
        (0..self.copies).map(|number| self.expert(number))
    }
}

/// What a normalization divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// The root of the mean square.
    Rms,
    /// The standard deviation, after the mean is subtracted.
    Layer,
}

/// A normalization.
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// The checkpoint's name for it, without `.weight`.
    pub name: String,
    /// Of which kind.
    pub kind: NormKind,
    /// Values that are normalized together.
    pub width: usize,
    /// Heads that have scales of their own: `[copies, width]` in one tensor, or one for each where the name has `{}` for its
    /// number. 1 where all have the same.
    pub copies: usize,
    /// Added to the mean square or variance.
    pub eps: f32,
    /// The scale is 1 + what is stored (Gemma).
    pub plus_one: bool,
    /// There are scales, `[width]`; otherwise all are 1 (OLMo).
    pub weight: bool,
    /// There are shifts, `[width]`.
    pub bias: bool,
}

impl NormSpec {
    /// Values of scales and shifts.
    pub fn parameters(&self) -> u64 {
        (self.copies * self.width) as u64 * (u64::from(self.weight) + u64::from(self.bias))
    }

    /// The names of its tensors, and how many values each has.
    pub fn tensors(&self) -> impl Iterator<Item = (String, usize)> {
        let apart = self.name.contains("{}");
        let (count, width) = if apart { (self.copies, self.width) } else { (1, self.copies * self.width) };
        (0..count).map(move |number| (self.name.replacen("{}", &number.to_string(), 1), width))
    }
}

impl ModelSpec {
    /// Every module, in the order of the model.
    pub fn modules(&self) -> impl Iterator<Item = &ModuleSpec> {
        let positions = self.positions.iter().map(|positions| &positions.module);
        let blocks = self.blocks.iter().flat_map(BlockSpec::modules);
        let per_layer = self.per_layer.iter().flat_map(|inputs| [&inputs.table, &inputs.projection]);
        let (into, out) = (self.narrow.iter().map(|narrow| &narrow.into), self.narrow.iter().map(|narrow| &narrow.out));
        let before = [&self.embedding].into_iter().chain(positions).chain(per_layer).chain(into);
        before.chain(blocks).chain(out).chain(&self.head)
    }

    /// Every norm.
    pub fn norms(&self) -> impl Iterator<Item = &NormSpec> {
        let blocks = self.blocks.iter().flat_map(BlockSpec::norms);
        let per_layer = self.per_layer.iter().map(|inputs| &inputs.norm);
        self.embedding_norm.iter().chain(per_layer).chain(blocks).chain(&self.norm)
    }

    /// Parameters as transformers counts them: a tied head once, no buffers.
    pub fn parameters(&self) -> u64 {
        let modules: u64 = self.modules().map(ModuleSpec::parameters).sum();
        let mlps = self.blocks.iter().filter_map(BlockSpec::mlp);
        let scalars: u64 = mlps.filter_map(|mlp| mlp.scalars.as_ref()).map(|scalars| scalars.len() as u64).sum();
        let sinks: u64 = self.attentions().filter(|of| of.sinks.is_some()).map(|of| of.heads as u64).sum();
        let recurrences = self.blocks.iter().filter_map(BlockSpec::recurrence).map(RecurrenceSpec::parameters);
        // ERNIE alone counts what evens out the load of its experts.
        let counted =
            |experts: &&ExpertsSpec| experts.routing.bias.as_ref().is_some_and(|name| name.contains("moe_statics."));
        let biases: u64 = self.experts().filter(counted).map(|experts| experts.count as u64).sum();
        let head_bias = self.tied_head_bias.as_ref().map_or(0, |_| self.vocab as u64);
        let scaled = self.experts().filter(|experts| experts.routing.scales.is_some());
        let scales: u64 = scaled.map(|experts| experts.count as u64).sum();
        modules
            + head_bias
            + self.undescribed
            + scalars
            + sinks
            + biases
            + scales
            + recurrences.sum::<u64>()
            + self.norms().map(NormSpec::parameters).sum::<u64>()
    }

    fn attentions(&self) -> impl Iterator<Item = &AttentionSpec> {
        self.blocks.iter().filter_map(BlockSpec::attention)
    }

    /// The mixtures of experts, block after block.
    pub fn experts(&self) -> impl Iterator<Item = &ExpertsSpec> {
        self.blocks.iter().filter_map(|block| match &block.ffn {
            Some(FeedForward::Experts(experts)) => Some(experts),
            _ => None,
        })
    }

    /// The head's module: its own, or the embedding.
    pub fn head(&self) -> &ModuleSpec {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}
