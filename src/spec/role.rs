//! [`Role`]: what a weight does.

use std::fmt;

/// What a weight does in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Query, key and value in one matrix.
    Qkv,
    /// Keys and values from one compressed matrix (multi-head latent attention).
    Kv,
    /// What else the mixer of a block reads: gates and decays of linear attention, the input of Mamba or of a convolution.
    In,
    /// Output projection of what mixes tokens.
    O,
    /// Gate of a gated MLP.
    Gate,
    /// Widening projection of the MLP.
    Up,
    /// Gate and up in one matrix.
    GateUp,
    /// Narrowing projection of the MLP.
    Down,
    /// Chooses the experts of a mixture.
    Router,
    /// Token, position or type embedding.
    Embedding,
    /// Output head.
    Head,
    /// Scale of a normalization.
    Norm,
    /// Anything else.
    Other,
}

/// The part of a block that a role belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// q, k, v, o and their fused forms; of linear attention, Mamba and convolutions too.
    Attention,
    /// gate, up, down and their fused forms.
    Mlp,
    /// Embeddings, head, norms, routers and the rest.
    Other,
}

impl Role {
    /// Every role, in the order of a block.
    pub const ALL: [Self; 16] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::Qkv,
        Self::Kv,
        Self::In,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::GateUp,
        Self::Down,
        Self::Router,
        Self::Embedding,
        Self::Head,
        Self::Norm,
        Self::Other,
    ];

    /// The short name: `q`, `gate_up`, `embedding`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::Qkv => "qkv",
            Self::Kv => "kv",
            Self::In => "in",
            Self::O => "o",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::GateUp => "gate_up",
            Self::Down => "down",
            Self::Router => "router",
            Self::Embedding => "embedding",
            Self::Head => "head",
            Self::Norm => "norm",
            Self::Other => "other",
        }
    }

    /// The words for a person.
    pub fn label(self) -> &'static str {
        match self {
            Self::Q => "query projection",
            Self::K => "key projection",
            Self::V => "value projection",
            Self::Qkv => "query, key and value projection",
            Self::Kv => "key and value projection",
            Self::In => "input projection of a mixer",
            Self::O => "output projection",
            Self::Gate => "gate projection",
            Self::Up => "up projection",
            Self::GateUp => "gate and up projection",
            Self::Down => "down projection",
            Self::Router => "expert router",
            Self::Embedding => "embedding",
            Self::Head => "output head",
            Self::Norm => "normalization",
            Self::Other => "other weight",
        }
    }

    /// Attention, MLP, or neither.
    pub fn group(self) -> Group {
        match self {
            Self::Q | Self::K | Self::V | Self::Qkv | Self::Kv | Self::In | Self::O => Group::Attention,
            Self::Gate | Self::Up | Self::GateUp | Self::Down => Group::Mlp,
            _ => Group::Other,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
