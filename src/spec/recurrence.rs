//! [`RecurrenceSpec`]: what mixes tokens through a state of fixed size: gated DeltaNet, Mamba-2, a short convolution.
//!
//! A row of what the projections give, part after part:
//!
//! ```text
//! delta    q, k (key heads) · v, z (value heads) · b, a (one for each value head)     q, k, v go through the convolution
//! state    z, x (value heads) · B, C (key heads) · Δ (one for each value head)        x, B, C go through the convolution
//! short    B, C, x (the stream's width each)                                           B ∘ x goes through the convolution, C multiplies it
//! ```

use super::{ModuleSpec, PartSpec};

/// A mixer with a state.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrenceSpec {
    /// What is computed.
    pub kind: RecurrenceKind,
    /// Heads of queries and keys (of B and C in Mamba-2); 1 for a short convolution.
    pub key_heads: usize,
    /// Heads of values; number h uses key head `h / (value_heads / key_heads)`.
    pub value_heads: usize,
    /// Width of a query and key: the state's first side.
    pub key_dim: usize,
    /// Width of a value: its second.
    pub value_dim: usize,
    /// What fills a row.
    pub projections: Vec<PartSpec>,
    /// They give q, k, v, z and then b, a of each key head together (Qwen3-Next).
    pub grouped: bool,
    /// Multiply what the projections give, part by part as above; empty where all are 1 (Falcon-H1).
    pub scales: Vec<f32>,
    /// The convolution.
    pub conv: ConvSpec,
    /// Names of vectors of one value for each value head.
    pub vectors: Vec<String>,
    /// The norm beside the gate.
    pub norm: Option<GatedNormSpec>,
    /// Output projection.
    pub o: ModuleSpec,
}

/// What a recurrence computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RecurrenceKind {
    /// `S ← e^g S + kᵀ β (v − k e^g S)` with `g = −e^A_log · softplus(a + dt_bias)`, `β = beta · sigmoid(b)` (arXiv 2412.06464). Vectors:
    /// A_log, dt_bias.
    Delta {
        /// Largest β.
        beta: f32,
    },
    /// `S ← e^g S + Bᵀ Δ x` with `g = −e^A_log · Δ`, `Δ = clamp(softplus(Δ + dt_bias))`, and `D ∘ x` added to what C reads (arXiv 2405.21060).
    /// Vectors: A_log, dt_bias, D.
    State {
        /// Smallest and largest Δ.
        limit: [f32; 2],
    },
    /// `C ∘ conv(B ∘ x)`.
    Short,
}

/// A causal depthwise convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvSpec {
    /// The checkpoint's names for it, without `.weight`: one, or several that make up the channels (OLMo hybrid).
    pub names: Vec<String>,
    /// Rows that a row sees, itself among them.
    pub kernel: usize,
    /// One value a channel.
    pub bias: bool,
}

/// `norm(y) ∘ silu(z)` or `norm(y ∘ silu(z))`.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedNormSpec {
    /// The checkpoint's name for it, without `.weight`.
    pub name: String,
    /// Values that are normalized together.
    pub group: usize,
    /// Scales: as many as in a group, or in a row.
    pub width: usize,
    /// Added to the mean square.
    pub eps: f32,
    /// The norm comes before the gate.
    pub first: bool,
}

impl RecurrenceSpec {
    /// Columns of all keys, or of all queries.
    pub fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Columns of the output before its projection.
    pub fn width(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Columns of the parts of a row, in their order.
    pub fn parts(&self) -> Vec<usize> {
        let (keys, values, heads) = (self.keys(), self.width(), self.value_heads);
        match self.kind {
            RecurrenceKind::Delta { .. } => vec![keys, keys, values, values, heads, heads],
            RecurrenceKind::State { .. } => vec![values, values, keys, keys, heads],
            RecurrenceKind::Short => vec![values; 3],
        }
    }

    /// Columns of a row.
    pub fn row(&self) -> usize {
        self.parts().iter().sum()
    }

    /// What goes through the convolution: channels, and the first of them in a row.
    pub fn channels(&self) -> (usize, usize) {
        match self.kind {
            RecurrenceKind::Delta { .. } => (2 * self.keys() + self.width(), 0),
            RecurrenceKind::State { .. } => (2 * self.keys() + self.width(), self.width()),
            RecurrenceKind::Short => (self.width(), 2 * self.width()),
        }
    }

    /// First column of what gates the output.
    pub fn gate(&self) -> usize {
        match self.kind {
            RecurrenceKind::Delta { .. } => 2 * self.keys() + self.width(),
            RecurrenceKind::State { .. } => 0,
            RecurrenceKind::Short => self.width(),
        }
    }

    /// Its modules, in the order of a pass forward.
    pub fn modules(&self) -> impl Iterator<Item = &ModuleSpec> {
        self.projections.iter().map(|part| &part.module).chain([&self.o])
    }

    /// What is no module's: names of tensors, without `.weight` where they have it, and how many values each has, with its bias.
    pub fn tensors(&self) -> Vec<(&str, usize)> {
        let (channels, _) = self.channels();
        let each = self.conv.kernel + usize::from(self.conv.bias);
        let of_channels = match self.conv.names.len() {
            3 => vec![self.keys(), self.keys(), self.width()],
            _ => vec![channels],
        };
        let conv = self.conv.names.iter().zip(of_channels).map(|(name, channels)| (name.as_str(), channels * each));
        let vectors = self.vectors.iter().map(|name| (name.as_str(), self.value_heads));
        conv.chain(vectors).chain(self.norm.iter().map(|norm| (norm.name.as_str(), norm.width))).collect()
    }

    /// Values of what is no module's.
    pub fn parameters(&self) -> u64 {
        self.tensors().into_iter().map(|(_, count)| count as u64).sum()
    }

    /// For each column of a row, the column of the projections that it is; `None` where they are the same.
    pub fn order(&self) -> Option<Vec<u32>> {
        if !self.grouped {
            return None;
        }
        let (dk, group) = (self.key_dim, self.value_heads / self.key_heads);
        let values = group * self.value_dim;
        let of_head = 2 * dk + 2 * values;
        let pair = self.key_heads * of_head;
        // Begin in a key head's part, columns, distance of the parts.
        let parts = [
            (0, dk, of_head),
            (dk, dk, of_head),
            (2 * dk, values, of_head),
            (2 * dk + values, values, of_head),
            (pair, group, 2 * group),
            (pair + group, group, 2 * group),
        ];
        let columns = parts.into_iter().flat_map(|(begin, count, step)| {
            (0..self.key_heads).flat_map(move |head| (0..count).map(move |at| (begin + head * step + at) as u32))
        });
        Some(columns.collect())
    }
}
