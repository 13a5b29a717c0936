//! [`build`]: a decoder from its sizes and [`Traits`], the few things in which most families differ from Llama.

use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{
    Activation, AttentionSpec, BlockSpec, FeedForward, Mixer, MlpSpec, ModelSpec, ModuleSpec, NormKind, NormSpec,
    PartSpec, PositionsSpec, QkvLayout, Role,
};

/// What configs call the number of blocks.
pub(super) const LAYERS: [&str; 4] = ["num_hidden_layers", "n_layer", "n_layers", "num_layers"];

/// Names of the query, key and value projections.
#[derive(Clone, Copy, Debug)]
pub(super) enum Qkv {
    /// Three.
    Apart([&'static str; 3]),
    /// One: all queries, all keys, all values.
    Joined(&'static str),
    /// One: for each key head its queries, the key, the value.
    Grouped(&'static str),
}

/// Names of an MLP's first projections.
#[derive(Clone, Copy, Debug)]
pub(super) enum Up {
    /// Gate and up.
    Gated([&'static str; 2]),
    /// Gate and up in one.
    Joined(&'static str),
    /// No gate.
    Plain(&'static str),
}

/// What queries and keys are normalized over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QkNorm {
    /// Each head.
    Head,
    /// The whole row.
    Row,
}

/// Whether a head's width is hidden / heads where the config does not say it.
#[derive(Clone, Copy, Debug)]
pub(super) enum HeadDim {
    /// It is.
    Share,
    /// It is this.
    Is(usize),
}

/// In what a family differs from Llama. Names of modules are relative to what stands around them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    /// Around everything but the head: `model.`.
    pub stem: &'static str,
    pub embedding: &'static str,
    pub layers: &'static str,
    pub norm: Option<&'static str>,
    pub head: &'static str,
    pub head_bias: bool,
    /// Learned positions, and the row of position 0.
    pub positions: Option<(&'static str, usize)>,
    /// Before and after the mixer, before and after the feed-forward.
    pub norms: [Option<&'static str>; 4],
    pub kind: NormKind,
    pub eps_key: &'static str,
    pub eps: f64,
    pub plus_one: bool,
    pub norm_weight: bool,
    pub norm_bias: bool,
    pub attention: &'static str,
    pub qkv: Qkv,
    pub o: &'static str,
    pub mlp: &'static str,
    pub up: Up,
    pub down: &'static str,
    /// Norms of queries and keys, and their names.
    pub qk_norm: Option<(QkNorm, [&'static str; 2])>,
    pub qkv_bias: bool,
    pub o_bias: bool,
    pub mlp_bias: bool,
    /// The file has linear weights as `[in, out]`.
    pub transposed: bool,
    /// The key of the nonlinearity, and what it is without.
    pub activation: (&'static str, &'static str),
    pub parallel: bool,
    pub head_dim: HeadDim,
    /// Keys of the number of key and value heads; none where every head has its own.
    pub kv_keys: &'static [&'static str],
    /// All heads have one key and value.
    pub one_key: bool,
    /// Width of the MLP where the config does not say it, in hidden sizes; 0 where it must.
    pub widen: usize,
    pub tied: bool,
    /// `None` where nothing turns.
    pub rope: Option<RopeDefaults>,
    /// `max_position_embeddings`, where nothing turns.
    pub longest: usize,
}

impl Traits {
    /// Llama itself.
    pub const LLAMA: Self = Self {
        stem: "model.",
        embedding: "embed_tokens",
        layers: "layers",
        norm: Some("norm"),
        head: "lm_head",
        head_bias: false,
        positions: None,
        norms: [Some("input_layernorm"), None, Some("post_attention_layernorm"), None],
        kind: NormKind::Rms,
        eps_key: "rms_norm_eps",
        eps: 1e-6,
        plus_one: false,
        norm_weight: true,
        norm_bias: false,
        attention: "self_attn",
        qkv: Qkv::Apart(["q_proj", "k_proj", "v_proj"]),
        o: "o_proj",
        mlp: "mlp.",
        up: Up::Gated(["gate_proj", "up_proj"]),
        down: "down_proj",
        qk_norm: None,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        transposed: false,
        activation: ("hidden_act", "silu"),
        parallel: false,
        head_dim: HeadDim::Share,
        kv_keys: &["num_key_value_heads"],
        one_key: false,
        widen: 0,
        tied: false,
        rope: Some(RopeDefaults::LLAMA),
        longest: 2048,
    };

    /// A LayerNorm with shifts, in place of the RMSNorm.
    pub const fn layer_norm(self, eps_key: &'static str) -> Self {
        Self { kind: NormKind::Layer, norm_bias: true, eps_key, eps: 1e-5, ..self }
    }

    /// The same biases everywhere.
    pub const fn biased(self, bias: bool) -> Self {
        Self { qkv_bias: bias, o_bias: bias, mlp_bias: bias, ..self }
    }

    /// Norms before and after both halves, as Gemma 2 has them.
    pub const SANDWICH: [Option<&'static str>; 4] = [
        Some("input_layernorm"),
        Some("post_attention_layernorm"),
        Some("pre_feedforward_layernorm"),
        Some("post_feedforward_layernorm"),
    ];

    /// Norms after both halves alone, as OLMo 2 has them.
    pub const AFTER: [Option<&'static str>; 4] =
        [None, Some("post_attention_layernorm"), None, Some("post_feedforward_layernorm")];

    /// One norm, whose output both halves read.
    pub const ONE: [Option<&'static str>; 4] = [Some("input_layernorm"), None, None, None];
}

/// The sizes that every config has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub vocab: usize,
    pub longest: usize,
}

impl Sizes {
    /// What the config says.
    pub(super) fn read(keys: &Keys, t: &Traits) -> Result<Self> {
        Self::hidden(keys)?;
        Self::of_layers(keys, t, keys.size(&LAYERS)?)
    }

    /// The width of the stream, whose absence is the first that is said.
    fn hidden(keys: &Keys) -> Result<usize> {
        keys.size(&["hidden_size", "n_embed", "n_embd", "d_model", "dim"])
    }

    /// What the config says of a decoder of so many blocks.
    pub(super) fn of_layers(keys: &Keys, t: &Traits, layers: usize) -> Result<Self> {
        let hidden = Self::hidden(keys)?;
        let heads = keys.size(&["num_attention_heads", "n_head", "num_heads", "n_heads"])?;
        if heads > hidden {
            return Err(keys.wrong(format!("{heads} heads do not fit a hidden size of {hidden}")));
        }
        keys.blocks(layers, 1)?;
        let head_dim = match t.head_dim {
            HeadDim::Share => keys.size_maybe(&["head_dim"])?.unwrap_or(hidden / heads),
            HeadDim::Is(width) => keys.size_or(&["head_dim"], width)?,
        };
        let kv_heads = if t.one_key { 1 } else { keys.size_or(t.kv_keys, heads)? };
        if !heads.is_multiple_of(kv_heads) {
            return Err(keys.wrong(format!("{heads} query heads do not share {kv_heads} key and value heads evenly")));
        }
        let names = ["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "hidden_dim"];
        let ffn = match t.widen {
            0 => keys.size(&names)?,
            times => keys.size_or(&names, times * hidden)?,
        };
        let most = 1usize << 24;
        if heads.saturating_mul(head_dim) > most {
            return Err(keys.wrong(format!("{heads} heads of {head_dim} are larger than any model")));
        }
        let vocab = keys.size(&["vocab_size"])?;
        let longest = t.rope.map_or(t.longest, |rope| rope.positions);
        let longest = keys.size_or(&["max_position_embeddings", "n_positions", "n_ctx"], longest)?;
        Ok(Self { hidden, layers, heads, kv_heads, head_dim, ffn, vocab, longest })
    }
}

/// Builds modules of one block, or of none.
pub(super) struct Modules {
    prefix: String,
    layer: Option<usize>,
    transposed: bool,
}

impl Modules {
    /// Those of block `layer` of the decoder whose embedding this is.
    pub(super) fn of(embedding: &ModuleSpec, t: &Traits, layer: usize) -> Self {
        let stem = embedding.name.strip_suffix(t.embedding).unwrap_or_default();
        Self { prefix: format!("{stem}{}.{layer}.", t.layers), layer: Some(layer), transposed: t.transposed }
    }

    /// Those around the blocks of the decoder whose embedding this is.
    pub(super) fn around(embedding: &ModuleSpec, t: &Traits) -> Self {
        let stem = embedding.name.strip_suffix(t.embedding).unwrap_or_default();
        Self { prefix: stem.to_owned(), layer: None, transposed: t.transposed }
    }

    /// A linear layer.
    pub(super) fn linear(&self, name: &str, role: Role, shape: [usize; 2], bias: bool) -> ModuleSpec {
        let name = format!("{}{name}", self.prefix);
        ModuleSpec {
            name,
            role,
            layer: self.layer,
            shape,
            bias,
            scale: 1.0,
            linear: true,
            transposed: self.transposed,
            copies: 1,
            stack: None,
        }
    }

    /// The whole name of something in the block.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn table(&self, name: &str, role: Role, shape: [usize; 2], bias: bool) -> ModuleSpec {
        ModuleSpec { linear: false, transposed: false, ..self.linear(name, role, shape, bias) }
    }
}

/// Where the decoder's own modules are: the first prefix under which the checkpoint has the embedding, or the usual one.
fn stem(keys: &Keys, t: &Traits) -> String {
    let usual = t.stem.trim_end_matches('.');
    let candidates = if keys.wrapped() {
        vec![
            format!("{usual}.language_model."),
            format!("language_model.{usual}."),
            format!("{usual}."),
            format!("{usual}.text_model."),
            "language_model.".to_owned(),
        ]
    } else {
        // A model without its head is stored without the outer name; and a whole one's decoder may be all there is.
        vec![
            format!("{usual}."),
            String::new(),
            format!("{usual}.language_model."),
            format!("language_model.{usual}."),
            // transformers' own name of what a family's files name in another way.
            "model.".to_owned(),
        ]
    };
    let found = candidates.iter().find(|stem| keys.has(&format!("{stem}{}", t.embedding)) == Some(true));
    found.unwrap_or(&candidates[0]).clone()
}

/// The decoder.
pub(super) fn build(keys: &Keys, t: Traits) -> Result<ModelSpec> {
    let sizes = Sizes::read(keys, &t)?;
    let rope = t.rope.map(|defaults| keys.rope(None, sizes.head_dim, &defaults)).transpose()?;
    build_with(keys, &t, &sizes, rope.into_iter().collect())
}

/// The decoder, with these sizes and rotary embeddings.
pub(super) fn build_with(keys: &Keys, t: &Traits, sizes: &Sizes, ropes: Vec<crate::spec::Rope>) -> Result<ModelSpec> {
    let Sizes { hidden, layers, heads, kv_heads, head_dim, ffn, vocab, longest } = *sizes;
    let eps = keys.number_or(t.eps_key, t.eps)? as f32;
    let activation = keys.activation(t.activation.0, t.activation.1);
    let stem = stem(keys, t);
    let norm = |prefix: &str, name: Option<&str>, width: usize| {
        name.map(|name| NormSpec {
            name: format!("{prefix}{name}"),
            kind: t.kind,
            width,
            copies: 1,
            eps,
            plus_one: t.plus_one,
            weight: t.norm_weight,
            bias: t.norm_bias,
        })
    };
    let top = Modules { prefix: stem.clone(), layer: None, transposed: false };
    let embedding = top.table(t.embedding, Role::Embedding, [vocab, hidden], false);
    let block = |layer: usize| {
        let m = Modules::of(&embedding, t, layer);
        let prefix = m.prefix.clone();
        let (query, key) = (heads * head_dim, kv_heads * head_dim);
        let attention = |name: &str| format!("{}.{name}", t.attention);
        let joined = |name: &str| {
            let module = m.linear(&attention(name), Role::Qkv, [query + 2 * key, hidden], t.qkv_bias);
            vec![PartSpec { offset: 0, module }]
        };
        let (projections, layout) = match t.qkv {
            Qkv::Apart(names) => {
                let parts = [(Role::Q, 0, query), (Role::K, query, key), (Role::V, query + key, key)];
                let part = |(name, (role, offset, out)): (&str, (Role, usize, usize))| PartSpec {
                    offset,
                    module: m.linear(&attention(name), role, [out, hidden], t.qkv_bias),
                };
                (names.into_iter().zip(parts).map(part).collect(), QkvLayout::Split)
            }
            Qkv::Joined(name) => (joined(name), QkvLayout::Split),
            Qkv::Grouped(name) => (joined(name), QkvLayout::Grouped),
        };
        let head_norm = |which: usize| {
            let (over, names) = t.qk_norm?;
            let all = if which == 0 { query } else { key };
            norm(&prefix, Some(&attention(names[which])), if over == QkNorm::Head { head_dim } else { all })
        };
        let mixer = AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            projections,
            latent: None,
            layout,
            q_norm: head_norm(0),
            k_norm: head_norm(1),
            v_norm: None,
            keys_are_values: false,
            reads_keys_of: None,
            shares_keys: false,
            norm_after_rope: false,
            gate: None,
            gated_queries: false,
            o: m.linear(&attention(t.o), Role::O, [hidden, query], t.o_bias),
            rope: if ropes.is_empty() { None } else { Some(0) },
            rope_offset: 0,
            window: None,
            chunk: None,
            sinks: None,
            scale: (head_dim as f64).powf(-0.5) as f32,
            softcap: 0.0,
            alibi: 0.0,
            alibi_rounded: false,
            clip: 0.0,
            query_scaling: None,
        };
        BlockSpec {
            norm_in: norm(&prefix, t.norms[0], hidden),
            mixer: Some(Mixer::Attention(mixer)),
            norm_mixed: norm(&prefix, t.norms[1], hidden),
            norm_ffn: norm(&prefix, t.norms[2], hidden),
            ffn: Some(FeedForward::Dense(mlp(&m, t, activation, hidden, ffn))),
            norm_out: norm(&prefix, t.norms[3], hidden),
            parallel: t.parallel,
            normed: false,
            residual_scale: 1.0,
            per_layer: None,
            scalar: None,
        }
    };
    let tied = keys.tied(t.tied)?;
    Ok(ModelSpec {
        model_type: String::new(),
        hidden,
        vocab,
        max_positions: longest,
        embedding_scale: 1.0,
        positions: t.positions.map(|(name, offset)| PositionsSpec {
            module: top.table(name, Role::Embedding, [longest + offset, hidden], false),
            offset,
        }),
        per_layer: None,
        narrow: None,
        embedding_norm: None,
        blocks: (0..layers).map(block).collect(),
        embedding,
        norm: norm(&stem, t.norm, hidden),
        tied_head_bias: (tied && t.head_bias).then(|| t.head.to_owned()),
        head: (!tied).then(|| {
            let inside = format!("language_model.{}", t.head);
            let name = if keys.has(&inside) == Some(true) { &inside } else { t.head };
            let outer = Modules { prefix: String::new(), layer: None, transposed: false };
            outer.table(name, Role::Head, [vocab, hidden], t.head_bias)
        }),
        logit_scale: 1.0,
        logit_cap: 0.0,
        ropes,
        undescribed: 0,
        is_part: keys.wrapped(),
        not_run: None,
    })
}

/// Gives the blocks that `has` names an MLP of another width.
pub(super) fn dense(spec: &mut ModelSpec, t: &Traits, width: usize, has: impl Fn(usize) -> bool) {
    let (embedding, hidden) = (spec.embedding.clone(), spec.hidden);
    for (layer, block) in spec.blocks.iter_mut().enumerate().filter(|(layer, _)| has(*layer)) {
        let activation = block.mlp().map_or(Activation::Silu, |mlp| mlp.activation);
        let m = Modules::of(&embedding, t, layer);
        block.ffn = Some(FeedForward::Dense(mlp(&m, t, activation, hidden, width)));
    }
}

/// An MLP of `width` columns.
pub(super) fn mlp(m: &Modules, t: &Traits, activation: Activation, hidden: usize, width: usize) -> MlpSpec {
    let up = |name: &str, role: Role, offset: usize, times: usize| PartSpec {
        offset,
        module: m.linear(&format!("{}{name}", t.mlp), role, [times * width, hidden], t.mlp_bias),
    };
    let (parts, gated) = match t.up {
        Up::Gated([gate, other]) => (vec![up(gate, Role::Gate, 0, 1), up(other, Role::Up, width, 1)], true),
        Up::Joined(name) => (vec![up(name, Role::GateUp, 0, 2)], true),
        Up::Plain(name) => (vec![up(name, Role::Up, 0, 1)], false),
    };
    MlpSpec {
        up: parts,
        down: m.linear(&format!("{}{}", t.mlp, t.down), Role::Down, [hidden, width], t.mlp_bias),
        width,
        gated,
        activation,
        scalars: None,
        alphas: [1.0; 2],
    }
}

impl MlpSpec {
    /// The same for each of `count` experts, in tensors of their own.
    pub(super) fn copies(mut self, count: usize) -> Self {
        self.up.iter_mut().for_each(|part| part.module.copies = count);
        self.down.copies = count;
        self
    }
}

impl ModelSpec {
    /// Changes every block's attention; `change` gets the block's number.
    pub(super) fn each_attention(&mut self, mut change: impl FnMut(usize, &mut AttentionSpec)) {
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            if let Some(Mixer::Attention(attention) | Mixer::Both(attention, _)) = &mut block.mixer {
                change(layer, attention);
            }
        }
    }

    /// Norms of queries and keys of every head by itself, like `norm`: their names in a block's attention.
    pub(super) fn put_head_norms(&mut self, norm: &NormSpec, names: [&str; 2]) {
        self.each_attention(|_, attention| {
            let prefix = attention.o.name.rsplit_once('.').map_or("", |(prefix, _)| prefix).to_owned();
            let of = |name: &str, copies: usize| {
                let name = format!("{prefix}.{name}");
                Some(NormSpec { name, width: attention.head_dim, copies, ..norm.clone() })
            };
            (attention.q_norm, attention.k_norm) = (of(names[0], attention.heads), of(names[1], attention.kv_heads));
        });
    }

    /// Gives every block its window.
    pub(super) fn set_windows(&mut self, windows: &[Option<usize>]) {
        self.each_attention(|layer, attention| attention.window = windows.get(layer).copied().flatten());
    }
}
