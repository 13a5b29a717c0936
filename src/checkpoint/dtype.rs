//! [`Dtype`]: how an element is stored.

use super::ggml::BlockType;
use std::fmt;

/// How the values of a tensor are stored: by safetensors' names; NF4 and FP4 are the 4-bit codes of bitsandbytes, `Block` the block formats
/// of GGML, and the others weights that lie in several tensors, by the name of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    F8E4M3Fnuz,
    F8E5M2Fnuz,
    F8E8M0,
    F6E2M3,
    F6E3M2,
    F4,
    NF4,
    FP4,
    C64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    Block(BlockType),
    Gptq,
    Awq,
    Int4,
    Int8,
    Mxfp4,
    Nvfp4,
    Mlx,
}

/// Every type that a safetensors header can name, with that name.
const STORED: [(&str, Dtype); 22] = [
    ("F64", Dtype::F64),
    ("F32", Dtype::F32),
    ("F16", Dtype::F16),
    ("BF16", Dtype::BF16),
    ("F8_E4M3", Dtype::F8E4M3),
    ("F8_E5M2", Dtype::F8E5M2),
    ("F8_E4M3FNUZ", Dtype::F8E4M3Fnuz),
    ("F8_E5M2FNUZ", Dtype::F8E5M2Fnuz),
    ("F8_E8M0", Dtype::F8E8M0),
    ("F6_E2M3", Dtype::F6E2M3),
    ("F6_E3M2", Dtype::F6E3M2),
    ("F4", Dtype::F4),
    ("C64", Dtype::C64),
    ("I64", Dtype::I64),
    ("I32", Dtype::I32),
    ("I16", Dtype::I16),
    ("I8", Dtype::I8),
    ("U64", Dtype::U64),
    ("U32", Dtype::U32),
    ("U16", Dtype::U16),
    ("U8", Dtype::U8),
    ("BOOL", Dtype::Bool),
];

impl Dtype {
    /// The type that a safetensors header calls `name`.
    pub fn from_safetensors(name: &str) -> Option<Self> {
        STORED.iter().find(|(stored, _)| *stored == name).map(|&(_, dtype)| dtype)
    }

    /// The name for a person and for JSON: safetensors' own, or `NF4` and `FP4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NF4 => "NF4",
            Self::FP4 => "FP4",
            Self::Block(block) => block.name(),
            Self::Gptq => "GPTQ",
            Self::Awq => "AWQ",
            Self::Int4 => "INT4",
            Self::Int8 => "INT8",
            Self::Mxfp4 => "MXFP4",
            Self::Nvfp4 => "NVFP4",
            Self::Mlx => "MLX",
            _ => STORED.iter().find(|(_, dtype)| *dtype == self).map_or("?", |(name, _)| name),
        }
    }

    /// Bits of one element; of formats of several tensors those of its code, of blocks on average and rounded up.
    pub fn bits(self) -> usize {
        match self {
            Self::Block(block) => (8 * block.bytes()).div_ceil(block.values()),
            Self::F64 | Self::C64 | Self::I64 | Self::U64 => 64,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 16,
            Self::F6E2M3 | Self::F6E3M2 => 6,
            Self::F4 | Self::NF4 | Self::FP4 => 4,
            Self::Gptq | Self::Awq | Self::Int4 | Self::Mxfp4 | Self::Nvfp4 | Self::Mlx => 4,
            _ => 8,
        }
    }

    /// Bytes of one element, rounded up for types of less than a byte.
    pub fn size(self) -> usize {
        self.bits().div_ceil(8)
    }

    /// Bytes of so many elements, of whole blocks where it has any; `None` where that is no whole number of bytes, or overflows.
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        let (values, bytes) = match self {
            Self::Block(block) => (block.values() as u64, block.bytes() as u64),
            _ => (8, self.bits() as u64),
        };
        let whole = elements.checked_mul(bytes)?;
        whole.is_multiple_of(values).then_some(whole / values)
    }

    /// True where a weight lies in several tensors or in blocks: its values are made, not stored one by one.
    pub fn is_packed(self) -> bool {
        use Dtype::{Awq, Block, FP4, Gptq, Int4, Int8, Mlx, Mxfp4, NF4, Nvfp4};
        matches!(self, Block(_) | Gptq | Awq | Int4 | Int8 | Mxfp4 | Nvfp4 | Mlx | NF4 | FP4)
    }

    /// True for floating-point weights, packed ones included; false for integers, and for E8M0, which holds scales only.
    pub fn is_float(self) -> bool {
        use Dtype::{BF16, F4, F6E2M3, F6E3M2, F8E4M3, F8E4M3Fnuz, F8E5M2, F8E5M2Fnuz, F16, F32, F64};
        let half_or_more = matches!(self, F64 | F32 | F16 | BF16);
        half_or_more
            || self.is_packed()
            || matches!(self, F8E4M3 | F8E5M2 | F8E4M3Fnuz | F8E5M2Fnuz | F6E2M3 | F6E3M2 | F4)
    }

    /// True when the values can be turned into `f32` here.
    pub fn is_readable(self) -> bool {
        use Dtype::{BF16, F8E4M3, F8E5M2, F16, F32, F64};
        self.is_packed() || matches!(self, F64 | F32 | F16 | BF16 | F8E4M3 | F8E5M2)
    }

    /// Distance from 1 to the next larger number, `torch.finfo(dtype).eps`: 2^-(stored mantissa bits).
    /// `None` where there is no such thing (integers, codebooks) or where it is not read here.
    pub fn epsilon(self) -> Option<f64> {
        self.float().map(|(mantissa, _)| 2f64.powi(-mantissa))
    }

    /// Stored mantissa bits and the exponent of the smallest normal number, `2^exponent`.
    pub(crate) fn float(self) -> Option<(i32, i32)> {
        match self {
            Self::F64 => Some((52, -1022)),
            Self::F32 => Some((23, -126)),
            Self::F16 => Some((10, -14)),
            Self::BF16 => Some((7, -126)),
            Self::F8E4M3 => Some((3, -6)),
            Self::F8E5M2 => Some((2, -14)),
            _ => None,
        }
    }

    /// Every name that a safetensors header may use, for messages.
    pub(crate) fn known() -> String {
        STORED.map(|(name, _)| name).join(", ")
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.finfo(t).eps` of torch 2.15.
    #[test]
    fn epsilons_are_those_of_torch() {
        assert_eq!(Dtype::BF16.epsilon(), Some(0.0078125));
        assert_eq!(Dtype::F16.epsilon(), Some(0.0009765625));
        assert_eq!(Dtype::F32.epsilon(), Some(f64::from(f32::EPSILON)));
        assert_eq!(Dtype::F64.epsilon(), Some(f64::EPSILON));
        assert_eq!(Dtype::F8E4M3.epsilon(), Some(0.125));
        assert_eq!(Dtype::F8E5M2.epsilon(), Some(0.25));
        assert_eq!(Dtype::I8.epsilon(), None);
    }

    #[test]
    fn names_go_both_ways() {
        for (name, dtype) in STORED {
            assert_eq!(Dtype::from_safetensors(name), Some(dtype));
            assert_eq!(dtype.name(), name);
        }
        assert_eq!(Dtype::from_safetensors("NF4"), None, "a header cannot say so");
        assert_eq!(Dtype::F6E2M3.size(), 1);
    }
}
