//! What every block gets of a token beside the stream (Gemma 4).

use super::{Activation, ModuleSpec, NormSpec};

/// `x += norm(projection(f(gate(x)) ∘ p))`, p the block's columns of the per-layer inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct PerLayerSpec {
    /// `[width, hidden]`.
    pub gate: ModuleSpec,
    /// `[hidden, width]`.
    pub projection: ModuleSpec,
    /// Before it is added.
    pub norm: NormSpec,
    /// f.
    pub activation: Activation,
    /// First of its columns.
    pub first: usize,
}

/// Per-layer inputs: `(norm(projection(embedded)) + scale · table[token]) / √2`, `[tokens, blocks · width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PerLayerInputs {
    /// An embedding of all blocks, `[vocab, blocks · width]`.
    pub table: ModuleSpec,
    /// Multiplies its rows.
    pub scale: f32,
    /// `[blocks · width, hidden]`.
    pub projection: ModuleSpec,
    /// Over each block's columns.
    pub norm: NormSpec,
}
