//! [`ModelConfig`]: everything that decides what a decoder computes.

use super::ops::activation::Activation;
use super::rope::Rope;

/// Families of names and habits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `llama`.
    Llama,
    /// `mistral`.
    Mistral,
    /// `qwen2`.
    Qwen2,
    /// `qwen3`.
    Qwen3,
    /// `phi3`.
    Phi3,
    /// `gemma2`.
    Gemma2,
    /// `gemma3_text`.
    Gemma3,
    /// `gpt2`.
    Gpt2,
    /// `gpt_neox`.
    GptNeox,
}

impl Family {
    /// All of them with their `model_type`.
    pub const ALL: [(&'static str, Self); 9] = [
        ("llama", Self::Llama),
        ("mistral", Self::Mistral),
        ("qwen2", Self::Qwen2),
        ("qwen3", Self::Qwen3),
        ("phi3", Self::Phi3),
        ("gemma2", Self::Gemma2),
        ("gemma3_text", Self::Gemma3),
        ("gpt2", Self::Gpt2),
        ("gpt_neox", Self::GptNeox),
    ];

    /// The causal language model's name in `architectures`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
            Self::Gemma2 => "Gemma2ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
            Self::Gpt2 => "GPT2LMHeadModel",
            Self::GptNeox => "GPTNeoXForCausalLM",
        }
    }

    /// Gemma's habits: scaled embeddings, norms with 1 + w, norms after attention and MLP too.
    pub fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    /// LayerNorms with biases, an MLP without gate, biases everywhere.
    pub fn is_gpt(self) -> bool {
        matches!(self, Self::Gpt2 | Self::GptNeox)
    }
}

/// How the query, key and value projections are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// Three matrices.
    Apart,
    /// One: all queries, all keys, all values.
    Joined,
    /// One: query, key and value of the first head, then of the second, …
    Interleaved,
}

/// One block's own settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockConfig {
    /// A row sees itself and the `window − 1` rows before it.
    pub window: Option<usize>,
    /// Which of [`ModelConfig::ropes`] it uses.
    pub rope: usize,
    /// Multiplies the attention scores.
    pub scale: f32,
}

/// A decoder, configured.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Names and habits.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Inner width of the MLP.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Longest sequence.
    pub max_positions: usize,
    /// The blocks.
    pub blocks: Vec<BlockConfig>,
    /// Added to variances in norms.
    pub eps: f32,
    /// Of the MLP.
    pub activation: Activation,
    /// How q, k, v are stored.
    pub qkv: Qkv,
    /// Gate and up are one matrix.
    pub gate_up_joined: bool,
    /// q, k, v have biases.
    pub qkv_bias: bool,
    /// The attention's output projection has one.
    pub o_bias: bool,
    /// The MLP's projections have biases.
    pub mlp_bias: bool,
    /// q and k are normalized per head.
    pub qk_norm: bool,
    /// Attention and MLP both read the block's input (GPT-NeoX).
    pub parallel_residual: bool,
    /// Multiplies embeddings.
    pub embedding_scale: f32,
    /// Cap of attention scores, 0 for none.
    pub score_cap: f32,
    /// Cap of logits, 0 for none.
    pub logit_cap: f32,
    /// Rotary embeddings; none in GPT-2, which has learned positions.
    pub ropes: Vec<Rope>,
    /// The head is the embedding.
    pub tied: bool,
}

impl ModelConfig {
    /// Width of a row of queries, keys and values.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Width of the attention's output before its projection.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// True when the MLP is gated.
    pub fn gated(&self) -> bool {
        !self.family.is_gpt()
    }

    /// Width of what the MLP's first projections give.
    pub fn up_width(&self) -> usize {
        if self.gated() { 2 * self.ffn } else { self.ffn }
    }
}
