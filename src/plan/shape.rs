//! [`Shape`]: the handful of sizes from which every weight of a known architecture follows.
//!
//! `d` is the hidden size, `f` the feed-forward size, `h` heads and `g` key-value heads of size `e`. One block of
//!
//! | block   | weights `[out, in]` |
//! |---------|---|
//! | llama   | q `[h·e, d]`, k and v `[g·e, d]`, o `[d, h·e]`, gate and up `[f, d]`, down `[d, f]`, two norms |
//! | gemma   | the same, four norms |
//! | phi3    | qkv `[(h + 2g)·e, d]`, o, gate_up `[2f, d]`, down, two norms |
//! | mixtral | llama's attention, a router `[experts, d]`, w1, w2, w3 for each expert |
//! | gpt2    | c_attn `[3d, d]`, c_proj `[d, d]`, c_fc `[f, d]`, c_proj `[d, f]`, two layer norms, all with biases |
//! | gpt3    | gpt2's with q, k and v as separate matrices, which is how the LoRA paper counts them |
//! | neox    | query_key_value `[3d, d]`, dense `[d, d]`, dense_h_to_4h, dense_4h_to_h, two layer norms, all with biases |

use super::layout::Weight;
use crate::checkpoint::{Dtype, Role};
use serde_json::Value;

/// A size over this is taken for nonsense; products of four sizes stay far inside `u64`.
const LARGEST: u64 = 1 << 24;

/// Blocks times experts over this are taken for nonsense.
const MOST_BLOCKS: usize = 100_000;

/// How one block of the decoder is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Llama, Mistral, Qwen, Gemma 1.
    Llama,
    /// Gemma 2 and 3: norms before and after both halves.
    Gemma,
    /// Phi-3 and Phi-4: fused projections.
    Phi3,
    /// Mixtral: a mixture of experts.
    Mixtral,
    /// GPT-2: fused attention, learned positions.
    Gpt2,
    /// GPT-3: GPT-2 with separate projections.
    Gpt3,
    /// GPT-NeoX and Pythia.
    NeoX,
}

/// The sizes of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How a block is built.
    pub block: Block,
    /// Hidden size, `d`.
    pub hidden: usize,
    /// Feed-forward size, `f`.
    pub ffn: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads, `h`.
    pub heads: usize,
    /// Heads of the keys and values, `g`.
    pub kv_heads: usize,
    /// Size of a head, `e`; often `d / h`, but not always.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Rows of the learned position embedding; 0 where positions are rotary.
    pub positions: usize,
    /// Experts in a block; 0 for a dense model.
    pub experts: usize,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// A bias on o.
    pub o_bias: bool,
    /// Biases in the feed-forward layers.
    pub mlp_bias: bool,
    /// Norms on each head's query and key.
    pub qk_norm: bool,
}

impl Shape {
    /// A Llama: `head_dim = d / h`, untied, no biases.
    pub const fn llama(hidden: usize, ffn: usize, layers: usize, heads: usize, kv_heads: usize, vocab: usize) -> Self {
        Self {
            block: Block::Llama,
            hidden,
            ffn,
            layers,
            heads,
            kv_heads,
            head_dim: hidden / heads,
            vocab,
            positions: 0,
            experts: 0,
            tied: false,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
        }
    }

    /// The same with heads of another size.
    pub const fn head(self, head_dim: usize) -> Self {
        Self { head_dim, ..self }
    }

    /// The same with the embedding as its head.
    pub const fn tie(self) -> Self {
        Self { tied: true, ..self }
    }

    /// The same with norms on queries and keys.
    pub const fn normed(self) -> Self {
        Self { qk_norm: true, ..self }
    }

    /// The same with other blocks.
    pub const fn blocks(self, block: Block) -> Self {
        Self { block, ..self }
    }

    /// A Qwen2: a Llama with biases on q, k and v.
    pub const fn qwen2(hidden: usize, ffn: usize, layers: usize, heads: usize, kv_heads: usize, vocab: usize) -> Self {
        Self { qkv_bias: true, ..Self::llama(hidden, ffn, layers, heads, kv_heads, vocab) }
    }

    /// A GPT-2: `f = 4d`, learned positions, tied, biases everywhere.
    pub const fn gpt2(hidden: usize, layers: usize, heads: usize, vocab: usize, positions: usize) -> Self {
        Self {
            block: Block::Gpt2,
            positions,
            tied: true,
            qkv_bias: true,
            o_bias: true,
            mlp_bias: true,
            ..Self::llama(hidden, 4 * hidden, layers, heads, heads, vocab)
        }
    }

    /// A GPT-NeoX: `f = 4d`, rotary positions, untied, biases in the blocks.
    pub const fn neox(hidden: usize, layers: usize, heads: usize, vocab: usize) -> Self {
        Self {
            block: Block::NeoX,
            qkv_bias: true,
            o_bias: true,
            mlp_bias: true,
            ..Self::llama(hidden, 4 * hidden, layers, heads, heads, vocab)
        }
    }

    /// Reads a hub `config.json`, in either spelling; of a multimodal model its text part.
    ///
    /// # Errors
    /// A sentence when the architecture is not one of these, or a size is missing or makes no sense.
    pub fn of_config(config: &Value) -> std::result::Result<Self, String> {
        let config = config.get("text_config").unwrap_or(config);
        let kind = config.get("model_type").and_then(Value::as_str).ok_or("has no \"model_type\"")?;
        let block = match kind {
            "llama" | "mistral" | "qwen2" | "qwen3" | "gemma" => Block::Llama,
            "gemma2" | "gemma3_text" => Block::Gemma,
            "phi3" => Block::Phi3,
            "mixtral" => Block::Mixtral,
            "gpt2" => Block::Gpt2,
            "gpt_neox" => Block::NeoX,
            other => {
                return Err(format!(
                    "model_type \"{other}\" is not known here; expected llama, mistral, mixtral, qwen2, qwen3, gemma, \
                     gemma2, gemma3_text, phi3, gpt2 or gpt_neox"
                ));
            }
        };
        let optional = |names: &[&str]| names.iter().find_map(|name| config.get(*name)).and_then(Value::as_u64);
        let size = |names: &[&str]| match optional(names) {
            Some(value @ 1..=LARGEST) => Ok(value as usize),
            Some(value) => Err(format!("\"{}\" is {value}; expected a size from 1 to {LARGEST}", names[0])),
            None => Err(format!("has no \"{}\"", names[0])),
        };
        let or = |names: &[&str], default: usize| if optional(names).is_some() { size(names) } else { Ok(default) };
        let flag = |name: &str, default: bool| config.get(name).and_then(Value::as_bool).unwrap_or(default);

        let hidden = size(&["hidden_size", "n_embd"])?;
        let heads = size(&["num_attention_heads", "n_head"])?;
        if heads > hidden {
            return Err(format!("{heads} heads do not fit a hidden size of {hidden}"));
        }
        let attention_bias = flag("attention_bias", matches!(block, Block::Gpt2 | Block::NeoX));
        let ffn = if block == Block::Gpt2 { or(&["n_inner"], 4 * hidden)? } else { size(&["intermediate_size"])? };
        let shape = Self {
            block,
            hidden,
            ffn,
            layers: size(&["num_hidden_layers", "n_layer"])?,
            heads,
            kv_heads: or(&["num_key_value_heads"], heads)?,
            head_dim: or(&["head_dim"], hidden / heads)?,
            vocab: size(&["vocab_size"])?,
            positions: if block == Block::Gpt2 { size(&["n_positions", "n_ctx"])? } else { 0 },
            experts: if block == Block::Mixtral { size(&["num_local_experts"])? } else { 0 },
            tied: flag("tie_word_embeddings", kind.starts_with("gemma") || kind == "gpt2"),
            qkv_bias: attention_bias || kind == "qwen2",
            o_bias: attention_bias,
            mlp_bias: flag("mlp_bias", matches!(block, Block::Gpt2 | Block::NeoX)),
            qk_norm: matches!(kind, "qwen3" | "gemma3_text"),
        };
        match (shape.heads.max(shape.kv_heads) as u64 * shape.head_dim as u64, shape.layers * shape.experts.max(1)) {
            (0..=LARGEST, 0..=MOST_BLOCKS) => Ok(shape),
            (_, 0..=MOST_BLOCKS) => Err(format!("{heads} heads of {} are larger than any model", shape.head_dim)),
            (_, blocks) => Err(format!("{blocks} blocks or experts are more than any model has")),
        }
    }

    /// Every weight of the model, in its order.
    pub fn weights(&self) -> Vec<Weight> {
        let (d, mut list) = (self.hidden, List::default());
        let (stem, embedding, blocks, norm, head) = match self.block {
            Block::Gpt2 => ("transformer.", "wte", "h", "ln_f", "lm_head"),
            Block::NeoX => ("gpt_neox.", "embed_in", "layers", "final_layer_norm", "embed_out"),
            _ => ("model.", "embed_tokens", "layers", "norm", "lm_head"),
        };
        list.prefix = stem.to_owned();
        list.table(embedding, self.vocab, d);
        if self.positions > 0 {
            list.table(if self.block == Block::Gpt2 { "wpe" } else { "embed_positions" }, self.positions, d);
        }
        for layer in 0..self.layers {
            list.layer = Some(layer);
            list.prefix = format!("{stem}{blocks}.{layer}.");
            match self.block {
                Block::Gpt2 | Block::Gpt3 | Block::NeoX => self.gpt_block(&mut list),
                _ => self.llama_block(&mut list),
            }
        }
        list.layer = None;
        list.prefix = stem.to_owned();
        match self.block {
            Block::Gpt2 | Block::Gpt3 | Block::NeoX => list.layer_norm(norm, d),
            _ => list.norm(norm, d),
        }
        if !self.tied {
            list.prefix.clear();
            list.push(head, Role::Head, [self.vocab, d], false, 0);
        }
        list.weights
    }

    fn llama_block(&self, list: &mut List) {
        let (d, f, e) = (self.hidden, self.ffn, self.head_dim);
        let (q, kv) = (self.heads * e, self.kv_heads * e);
        list.norm("input_layernorm", d);
        if self.block == Block::Phi3 {
            list.linear("self_attn.qkv_proj", Role::Qkv, [q + 2 * kv, d], self.qkv_bias);
        } else {
            list.linear("self_attn.q_proj", Role::Q, [q, d], self.qkv_bias);
            list.linear("self_attn.k_proj", Role::K, [kv, d], self.qkv_bias);
            list.linear("self_attn.v_proj", Role::V, [kv, d], self.qkv_bias);
        }
        if self.qk_norm {
            list.norm("self_attn.q_norm", e);
            list.norm("self_attn.k_norm", e);
        }
        list.linear("self_attn.o_proj", Role::O, [d, q], self.o_bias);
        list.norm("post_attention_layernorm", d);
        if self.block == Block::Gemma {
            list.norm("pre_feedforward_layernorm", d);
            list.norm("post_feedforward_layernorm", d);
        }
        match self.block {
            Block::Phi3 => {
                list.linear("mlp.gate_up_proj", Role::GateUp, [2 * f, d], self.mlp_bias);
                list.linear("mlp.down_proj", Role::Down, [d, f], self.mlp_bias);
            }
            Block::Mixtral => {
                list.linear("block_sparse_moe.gate", Role::Router, [self.experts, d], false);
                for expert in 0..self.experts {
                    list.linear(&format!("block_sparse_moe.experts.{expert}.w1"), Role::Gate, [f, d], false);
                    list.linear(&format!("block_sparse_moe.experts.{expert}.w2"), Role::Down, [d, f], false);
                    list.linear(&format!("block_sparse_moe.experts.{expert}.w3"), Role::Up, [f, d], false);
                }
            }
            _ => {
                list.linear("mlp.gate_proj", Role::Gate, [f, d], self.mlp_bias);
                list.linear("mlp.up_proj", Role::Up, [f, d], self.mlp_bias);
                list.linear("mlp.down_proj", Role::Down, [d, f], self.mlp_bias);
            }
        }
    }

    fn gpt_block(&self, list: &mut List) {
        let (d, f) = (self.hidden, self.ffn);
        let (norms, o, up, down) = match self.block {
            Block::Gpt2 => (["ln_1", "ln_2"], "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
            Block::NeoX => (
                ["input_layernorm", "post_attention_layernorm"],
                "attention.dense",
                "mlp.dense_h_to_4h",
                "mlp.dense_4h_to_h",
            ),
            _ => (["input_layernorm", "post_attention_layernorm"], "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"),
        };
        list.layer_norm(norms[0], d);
        match self.block {
            Block::Gpt2 => list.linear("attn.c_attn", Role::Qkv, [3 * d, d], self.qkv_bias),
            Block::NeoX => list.linear("attention.query_key_value", Role::Qkv, [3 * d, d], self.qkv_bias),
            _ => {
                list.linear("self_attn.q_proj", Role::Q, [d, d], self.qkv_bias);
                list.linear("self_attn.k_proj", Role::K, [d, d], self.qkv_bias);
                list.linear("self_attn.v_proj", Role::V, [d, d], self.qkv_bias);
            }
        }
        list.linear(o, Role::O, [d, d], self.o_bias);
        list.layer_norm(norms[1], d);
        list.linear(up, Role::Up, [f, d], self.mlp_bias);
        list.linear(down, Role::Down, [d, f], self.mlp_bias);
    }
}

/// The weights so far, and where the next one belongs.
#[derive(Default)]
struct List {
    weights: Vec<Weight>,
    prefix: String,
    layer: Option<usize>,
}

impl List {
    fn push(&mut self, name: &str, role: Role, [d_out, d_in]: [usize; 2], linear: bool, bias: usize) {
        let parameters = d_out as u64 * d_in as u64 + bias as u64;
        let name = format!("{}{name}", self.prefix);
        let (layer, dtype) = (self.layer, Dtype::BF16);
        self.weights.push(Weight { name, role, layer, d_out, d_in, linear, parameters, dtype });
    }

    fn linear(&mut self, name: &str, role: Role, shape: [usize; 2], bias: bool) {
        self.push(name, role, shape, true, if bias { shape[0] } else { 0 });
    }

    fn table(&mut self, name: &str, rows: usize, d: usize) {
        self.push(name, Role::Embedding, [rows, d], false, 0);
    }

    fn norm(&mut self, name: &str, size: usize) {
        self.push(name, Role::Norm, [size, 1], false, 0);
    }

    fn layer_norm(&mut self, name: &str, size: usize) {
        self.push(name, Role::Norm, [size, 1], false, size);
    }
}
