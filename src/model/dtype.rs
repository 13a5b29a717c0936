//! [`ComputeDtype`]: what weights and activations are computed in.

use serde::{Deserialize, Serialize};

/// Number type of weights and activations; sums are `f32` in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 32 bits.
    F32,
    /// The upper half of an `f32`.
    Bf16,
}

impl ComputeDtype {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}
