//! Stand-in until the real checkpoint floor is merged: only the roles.
#![allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Q,
    K,
    V,
    Qkv,
    O,
    Gate,
    Up,
    GateUp,
    Down,
    Embedding,
    Head,
    Norm,
    Other,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Attention,
    Mlp,
    Other,
}
impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::Qkv => "qkv",
            Self::O => "o",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::GateUp => "gate_up",
            Self::Down => "down",
            Self::Embedding => "embedding",
            Self::Head => "head",
            Self::Norm => "norm",
            Self::Other => "other",
        }
    }
    pub fn group(self) -> Group {
        match self {
            Self::Q | Self::K | Self::V | Self::Qkv | Self::O => Group::Attention,
            Self::Gate | Self::Up | Self::GateUp | Self::Down => Group::Mlp,
            _ => Group::Other,
        }
    }
}
