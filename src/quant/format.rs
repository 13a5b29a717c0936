//! [`Format`], [`Group`] and [`Recipe`]: what a weight is to become, and how many bits that takes.

use crate::error::{Error, Result};
use crate::units;
use std::fmt;
use std::str::FromStr;

use super::codebook::QuantType;
use super::nested::Nested;

/// How the values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Sixteen quantiles of the normal distribution, bitsandbytes'.
    Nf4,
    /// A sign and eight magnitudes, bitsandbytes'.
    Fp4,
    /// −7…7 steps of `absmax / 7`.
    Int4Symmetric,
    /// 0…15 steps of `(max − min) / 15`, of which a whole number, the zero point, stands for 0.
    Int4Affine,
    /// −127…127 steps of `absmax / 127`.
    Int8,
    /// llama.cpp's: 32 weights, 16 steps of `largest / −8`, the scale in half precision.
    Q4_0,
    /// llama.cpp's: 32 weights, 16 steps from the minimum, both in half precision.
    Q4_1,
    /// llama.cpp's: 32 weights, −127…127 steps, the scale in half precision.
    Q8_0,
    /// llama.cpp's super-blocks of 256 with 2 bits, as candle makes them.
    Q2K,
    /// With 3 bits.
    Q3K,
    /// With 4 bits.
    Q4K,
    /// With 5 bits.
    Q5K,
    /// With 6 bits.
    Q6K,
    /// Eight bits of floating point, as they are: 448 is the largest magnitude.
    Fp8,
    /// The same after a division by `absmax / 448`.
    Fp8Scaled,
    /// Half precision.
    F16,
    /// The upper half of `f32`.
    Bf16,
}

/// Which weights share a scale. Blocks run over the flattened weight, row after row; the last one may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// So many neighbours.
    Block(usize),
    /// A row: one output.
    Row,
    /// All of them.
    Tensor,
}

/// What a weight is quantized with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// How the values are written.
    pub format: Format,
    /// Which of them share a scale.
    pub group: Group,
    /// Scales in 8 bits (NF4 and FP4 only).
    pub double_quant: bool,
}

impl Format {
    /// All of them, 4-bit ones first.
    pub const ALL: [Self; 17] = [
        Self::Nf4,
        Self::Fp4,
        Self::Int4Symmetric,
        Self::Int4Affine,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Int8,
        Self::Q8_0,
        Self::Fp8,
        Self::Fp8Scaled,
        Self::F16,
        Self::Bf16,
    ];

    /// Block sizes to choose from where a format leaves the choice.
    pub const BLOCKS: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

    /// The word of the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nf4 => "nf4",
            Self::Fp4 => "fp4",
            Self::Int4Symmetric => "int4-symmetric",
            Self::Int4Affine => "int4-affine",
            Self::Int8 => "int8",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q8_0 => "q8_0",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Fp8 => "fp8-e4m3",
            Self::Fp8Scaled => "fp8-e4m3-scaled",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// As a person reads it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Nf4 => "NF4",
            Self::Fp4 => "FP4",
            Self::Int4Symmetric => "INT4 symmetric",
            Self::Int4Affine => "INT4 affine",
            Self::Int8 => "INT8",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K (candle)",
            Self::Q3K => "Q3_K (candle)",
            Self::Q4K => "Q4_K (candle)",
            Self::Q5K => "Q5_K (candle)",
            Self::Q6K => "Q6_K (candle)",
            Self::Fp8 => "FP8 E4M3",
            Self::Fp8Scaled => "FP8 E4M3 scaled",
            Self::F16 => "FP16",
            Self::Bf16 => "BF16",
        }
    }

    /// Its rule in a line, and where that comes from.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Nf4 => {
                "ŵ = level[code] · absmax; 16 quantiles of N(0, 1); QLoRA, arXiv 2305.14314, as bitsandbytes does it"
            }
            Self::Fp4 => "ŵ = ±{0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3, 1} · absmax; as bitsandbytes does it",
            Self::Int4Symmetric => "ŵ = q · absmax / 7, q in −7…7, rounded to the nearest",
            Self::Int4Affine => {
                "ŵ = (q − z) · s, s = (max − min) / 15, z = round(−min / s), q = round(w / s) + z in 0…15; the range holds 0"
            }
            Self::Int8 => "ŵ = q · absmax / 127, q in −127…127, rounded to the nearest",
            Self::Q4_0 => "ŵ = (q − 8) · d, d = the value of largest magnitude / −8 in f16; llama.cpp",
            Self::Q4_1 => "ŵ = q · d + min, d = (max − min) / 15, both in f16; llama.cpp",
            Self::Q8_0 => "ŵ = q · d, d = absmax / 127 in f16; llama.cpp",
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => {
                "256 weights share a scale in f16, 16 or 32 of them one in 4 to 8 bits; llama.cpp's layout, made by candle's search"
            }
            Self::Fp8 => "the nearest of ±448 … ±2⁻⁹ in E4M3, ties to even; larger magnitudes become 448",
            Self::Fp8Scaled => "ŵ = s · E4M3(w / s), s = absmax / 448",
            Self::F16 => "the nearest number with 11 significant bits, ties to even",
            Self::Bf16 => "the nearest number with 8 significant bits, ties to even",
        }
    }

    /// Weights that share a scale, where the format says it.
    pub fn fixed_block(self) -> Option<usize> {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 => Some(32),
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => Some(256),
            _ => None,
        }
    }

    /// True when each value is written by itself.
    pub fn is_cast(self) -> bool {
        matches!(self, Self::Fp8 | Self::F16 | Self::Bf16)
    }

    /// True when a person chooses the block.
    pub fn has_free_block(self) -> bool {
        self.fixed_block().is_none() && !self.is_cast()
    }

    /// True when a row or the whole weight may share a scale too.
    pub fn allows_rows(self) -> bool {
        matches!(self, Self::Int4Symmetric | Self::Int4Affine | Self::Int8 | Self::Fp8Scaled)
    }

    /// Its levels where it is one of bitsandbytes'.
    pub fn quant_type(self) -> Option<QuantType> {
        match self {
            Self::Nf4 => Some(QuantType::Nf4),
            Self::Fp4 => Some(QuantType::Fp4),
            _ => None,
        }
    }

    /// Bits of a weight, without what its block shares; of a K-quant with it.
    fn code_bits(self) -> f64 {
        match self {
            Self::Nf4 | Self::Fp4 | Self::Int4Symmetric | Self::Int4Affine | Self::Q4_0 | Self::Q4_1 => 4.0,
            Self::Int8 | Self::Q8_0 | Self::Fp8 | Self::Fp8Scaled => 8.0,
            Self::F16 | Self::Bf16 => 16.0,
            // Bytes of a super-block of 256: 84, 110, 144, 176, 210.
            Self::Q2K => 84.0 / 32.0,
            Self::Q3K => 110.0 / 32.0,
            Self::Q4K => 144.0 / 32.0,
            Self::Q5K => 176.0 / 32.0,
            Self::Q6K => 210.0 / 32.0,
        }
    }

    /// Bits that every block stores: an `f32`, with a zero point 4 more; in llama.cpp's one or two halves.
    fn block_bits(self) -> f64 {
        match self {
            Self::Nf4 | Self::Fp4 | Self::Int4Symmetric | Self::Int8 | Self::Fp8Scaled => 32.0,
            Self::Int4Affine => 36.0,
            Self::Q4_0 | Self::Q8_0 => 16.0,
            Self::Q4_1 => 32.0,
            _ => 0.0,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let word = text.trim().to_ascii_lowercase();
        Self::ALL.into_iter().find(|format| format.as_str() == word).ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.iter().map(|format| format.as_str()).collect();
            Error::usage(format!("format {text:?}; expected one of {}", all.join(", ")))
        })
    }
}

impl Recipe {
    /// QLoRA's block of 64 where the format leaves the choice, one scale for all in scaled FP8; scales as they are.
    pub fn new(format: Format) -> Self {
        let group = match (format.fixed_block(), format) {
            (Some(block), _) => Group::Block(block),
            (None, Format::Fp8Scaled) => Group::Tensor,
            (None, _) => Group::Block(64),
        };
        Self { format, group, double_quant: false }
    }

    /// The same with this block and double quantization, where the format leaves the choice.
    pub fn with(format: Format, group: Group, double_quant: bool) -> Self {
        let usual = Self::new(format);
        let free = match group {
            Group::Block(_) => format.has_free_block(),
            Group::Row | Group::Tensor => format.allows_rows(),
        };
        let group = if free { group } else { usual.group };
        Self { format, group, double_quant: double_quant && format.quant_type().is_some() }
    }

    /// Weights that share a scale in a weight of this shape; `None` where each stands by itself.
    pub fn block(&self, [rows, cols]: [usize; 2]) -> Option<usize> {
        if self.format.is_cast() {
            return None;
        }
        Some(match self.group {
            Group::Block(block) => block,
            Group::Row => cols,
            Group::Tensor => rows * cols,
        })
    }

    /// Why a weight of this shape cannot be written so; `None` when it can.
    pub fn problem(&self, shape: [usize; 2]) -> Option<String> {
        if shape.contains(&0) {
            return Some(format!("a weight of {} is empty", units::shape(&shape)));
        }
        if let Group::Block(block) = self.group
            && (block == 0 || (self.format.quant_type().is_some() && !block.is_multiple_of(2)))
        {
            return Some(format!("block {block}; expected an even number of weights, as 64"));
        }
        let fixed = self.format.fixed_block().filter(|&block| self.group == Group::Block(block))?;
        let cols = shape[1];
        (!cols.is_multiple_of(fixed)).then(|| {
            format!("{} needs rows of whole blocks: found {cols} columns, expected a multiple of {fixed}", self.format)
        })
    }

    /// Bits per weight of this shape: codes, scales, minima and nested constants; not the codebook, which is the same for all.
    pub fn bits(&self, shape: [usize; 2]) -> f64 {
        let count = (shape[0] * shape[1]).max(1);
        let Some(block) = self.block(shape) else { return self.format.code_bits() };
        let blocks = count.div_ceil(block.max(1)) as f64;
        let constants = if self.double_quant {
            8.0 * blocks + 32.0 * (blocks / Nested::BLOCK as f64).ceil() + 32.0
        } else {
            self.format.block_bits() * blocks
        };
        self.format.code_bits() + constants / count as f64
    }

    /// The block (or row, or tensor) at which `format` comes nearest to so many bits per weight.
    pub fn matched(format: Format, bits: f64, shape: [usize; 2], double_quant: bool) -> Self {
        let blocks = Format::BLOCKS.into_iter().map(Group::Block);
        let all = blocks.chain([Group::Row, Group::Tensor]).map(|group| Self::with(format, group, double_quant));
        let off = |recipe: &Self| (recipe.bits(shape) - bits).abs();
        all.min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(Self::new(format))
    }

    /// `64`, `row`, `tensor`, or a dash where every value stands by itself.
    pub fn group_text(&self) -> String {
        match self.group {
            _ if self.format.is_cast() => "–".to_owned(),
            Group::Block(block) => block.to_string(),
            Group::Row => "row".to_owned(),
            Group::Tensor => "tensor".to_owned(),
        }
    }
}

impl Default for Recipe {
    /// QLoRA's: NF4 in blocks of 64 with double quantization.
    fn default() -> Self {
        Self { format: Format::Nf4, group: Group::Block(64), double_quant: true }
    }
}

/// `NF4 · 64 · double`.
impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.format.title())?;
        if !self.format.is_cast() {
            write!(f, " · {}", self.group_text())?;
        }
        if self.double_quant { f.write_str(" · double") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: [usize; 2] = [4096, 4096];

    #[test]
    fn everything_stored_is_counted() {
        let bits = |format, group, double| Recipe::with(format, group, double).bits(LARGE);
        assert_eq!(bits(Format::Nf4, Group::Block(64), false), 4.5);
        // formulas.md: 8/B + 32/(256 B) = 0.127 at B = 64.
        assert!((bits(Format::Nf4, Group::Block(64), true) - 4.126_953_1).abs() < 1e-5);
        assert_eq!(bits(Format::Int4Affine, Group::Block(64), false), 4.5625);
        assert_eq!(bits(Format::Q4_0, Group::Block(64), false), 4.5, "its block is 32, whatever is asked for");
        assert_eq!(bits(Format::Q4_1, Group::Row, true), 5.0);
        assert_eq!(bits(Format::Q8_0, Group::Tensor, false), 8.5);
        assert_eq!(bits(Format::Q6K, Group::Block(64), false), 6.5625);
        assert_eq!(bits(Format::Bf16, Group::Block(64), false), 16.0);
        assert_eq!(bits(Format::Int8, Group::Row, false), 8.0 + 32.0 / 4096.0);
        // A last block that is shorter stores a scale all the same.
        assert_eq!(Recipe::new(Format::Nf4).bits([1, 65]), 4.0 + 64.0 / 65.0);
    }

    #[test]
    fn formats_are_matched_in_bits() {
        let matched = |format| Recipe::matched(format, 4.5, LARGE, false);
        assert_eq!(matched(Format::Nf4).group, Group::Block(64));
        assert_eq!(matched(Format::Int4Affine).group, Group::Block(64));
        assert_eq!(Recipe::matched(Format::Int4Affine, 4.3, LARGE, false).group, Group::Block(128));
        assert_eq!(matched(Format::Q4_0).group, Group::Block(32));
        assert_eq!(matched(Format::F16).bits(LARGE), 16.0);
    }

    #[test]
    fn names_go_both_ways() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse::<Format>().unwrap(), format);
        }
        let error = "nf5".parse::<Format>().unwrap_err();
        assert!(error.to_string().contains("expected one of nf4, fp4, int4-symmetric"), "{error}");
        assert_eq!(Recipe::default().to_string(), "NF4 · 64 · double");
        assert_eq!(Recipe::new(Format::F16).to_string(), "FP16");
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(Recipe::new(Format::Q4_0).problem([4, 48]).unwrap().contains("multiple of 32"));
        assert!(Recipe::new(Format::Nf4).problem([4, 48]).is_none(), "the last block is shorter");
        assert!(Recipe::with(Format::Nf4, Group::Block(33), false).problem([4, 48]).is_some());
        assert!(Recipe::with(Format::Int8, Group::Block(33), false).problem([4, 48]).is_none());
        assert!(Recipe::new(Format::Nf4).problem([0, 48]).is_some());
    }
}
