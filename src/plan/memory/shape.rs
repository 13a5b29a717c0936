//! [`Shape`]: what the buffers of a step follow from, of a spec whose blocks are alike.

use crate::spec::{FeedForward, ModelSpec};

/// The sizes of a decoder's blocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub hidden: usize,
    pub layers: usize,
    pub vocab: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub gated: bool,
    pub qk_norm: bool,
    /// Norms after both halves.
    pub sandwich: bool,
    pub parallel: bool,
}

impl Shape {
    pub(super) fn of(spec: &ModelSpec) -> Self {
        let shape = Self { hidden: spec.hidden, layers: spec.blocks.len(), vocab: spec.vocab, ..Self::default() };
        let Some(block) = spec.blocks.first() else { return shape };
        let mlp = match &block.ffn {
            Some(FeedForward::Dense(mlp)) => Some(mlp),
            Some(FeedForward::Experts(experts)) => Some(&experts.mlp),
            None => None,
        };
        let attention = block.attention();
        Self {
            heads: attention.map_or(0, |attention| attention.heads),
            kv_heads: attention.map_or(0, |attention| attention.kv_heads),
            head_dim: attention.map_or(0, |attention| attention.head_dim),
            ffn: mlp.map_or(0, |mlp| mlp.width),
            gated: mlp.is_some_and(|mlp| mlp.gated),
            qk_norm: attention.is_some_and(|attention| attention.q_norm.is_some()),
            sandwich: block.norm_mixed.is_some(),
            parallel: block.parallel,
            ..shape
        }
    }
}
