//! [`Format`]: how weights are written. A new format is one line of `TABLE`, and one file here where its rule is new.

pub(super) mod casts;
pub(super) mod e2m1;
pub(super) mod iq4;
mod kquant;
mod scale;

use super::codebook::QuantType;
use super::fit::Scale;
use super::steps::Steps;
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

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
    /// llama.cpp's: 32 weights, 16 steps of `largest / −8`, the scale in half precision.
    Q4_0,
    /// llama.cpp's: 32 weights, 16 steps from the minimum, both in half precision.
    Q4_1,
    /// llama.cpp's table of uneven levels: 32 weights, the step in half precision.
    Iq4Nl,
    /// IQ4_NL in super-blocks of 256 with eight steps of 6 bits.
    Iq4Xs,
    /// e2m1 in blocks of 32 whose step is a power of two (OCP MX).
    Mxfp4,
    /// e2m1 in blocks of 16 whose step is an e4m3 of the tensor's scale (NVIDIA).
    Nvfp4,
    /// llama.cpp's super-blocks of 256 with 2 bits, as candle makes them.
    Q2K,
    /// K-quant with 3 bits.
    Q3K,
    /// K-quant with 4 bits.
    Q4K,
    /// K-quant with 5 bits.
    Q5K,
    /// K-quant with 6 bits.
    Q6K,
    /// −127…127 steps of `absmax / 127`.
    Int8,
    /// llama.cpp's: 32 weights, −127…127 steps, the scale in half precision.
    Q8_0,
    /// Eight bits of floating point, as they are: 448 is the largest magnitude.
    Fp8,
    /// E4M3 after a division by `absmax / 448`.
    Fp8Scaled,
    /// Half precision.
    F16,
    /// The upper half of `f32`.
    Bf16,
}

/// How codes and values come from a weight.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    /// Sixteen levels of a block's largest magnitude.
    Ladder(QuantType),
    /// Evenly spaced levels.
    Steps(Steps),
    /// e2m1 of what was divided by a step; true where a value half-way between two levels takes the even code.
    E2m1(bool),
    /// E4M3 of what was divided by a scale.
    ScaledFp8,
    /// Every value by itself.
    Cast {
        /// `ŵ` of values.
        round: fn(&[f32], &mut [f32]),
        /// The bits of one value.
        code: fn(f32) -> i32,
    },
    /// Blocks whose scales are searched for and packed: `ŵ` of whole blocks.
    Blocks(fn(&[f32], &mut [f32])),
}

/// Which weights share a scale.
#[derive(Clone, Copy, PartialEq)]
enum Sharing {
    /// Each stands by itself.
    None,
    /// So many neighbours; the format says how many.
    Fixed(usize),
    /// So many neighbours as a person chooses.
    Free,
    /// The same, or a row, or the whole weight.
    FreeOrRows,
}

/// Everything that is known of a format.
struct Entry {
    format: Format,
    /// The word of the command line.
    word: &'static str,
    title: &'static str,
    /// Its rule in a line, and where that comes from.
    rule: &'static str,
    sharing: Sharing,
    /// Bits of a weight, without what its block shares; of formats in packed blocks with it.
    code_bits: f64,
    /// Bits that every block stores: an `f32`, with a zero point 4 more; in llama.cpp's one or two halves.
    block_bits: f64,
    /// True when what is added to a block's values is stored with it.
    has_zero: bool,
    encoding: Encoding,
    /// What a block shares, from its smallest and its largest value.
    scale: fn([f32; 2]) -> Scale,
}

/// Every format in the order of [`Format`].
const TABLE: [Entry; Format::COUNT] = [
    Entry {
        format: Format::Nf4,
        word: "nf4",
        title: "NF4",
        rule: "ŵ = level[code] · absmax; 16 quantiles of N(0, 1); QLoRA, arXiv 2305.14314, as bitsandbytes does it",
        sharing: Sharing::Free,
        code_bits: 4.0,
        block_bits: 32.0,
        has_zero: false,
        encoding: Encoding::Ladder(QuantType::Nf4),
        scale: scale::absmax,
    },
    Entry {
        format: Format::Fp4,
        word: "fp4",
        title: "FP4",
        rule: "ŵ = ±{0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3, 1} · absmax; as bitsandbytes does it",
        sharing: Sharing::Free,
        code_bits: 4.0,
        block_bits: 32.0,
        has_zero: false,
        encoding: Encoding::Ladder(QuantType::Fp4),
        scale: scale::absmax,
    },
    Entry {
        format: Format::Int4Symmetric,
        word: "int4-symmetric",
        title: "INT4 symmetric",
        rule: "ŵ = q · absmax / 7, q in −7…7, rounded to the nearest",
        sharing: Sharing::FreeOrRows,
        code_bits: 4.0,
        block_bits: 32.0,
        has_zero: false,
        encoding: Encoding::Steps(Steps::INT4),
        scale: |ends| scale::steps(ends, 7.0),
    },
    Entry {
        format: Format::Int4Affine,
        word: "int4-affine",
        title: "INT4 affine",
        rule: "ŵ = (q − z) · s, s = (max − min) / 15, z = round(−min / s), q = round(w / s) + z in 0…15; the range holds 0",
        sharing: Sharing::FreeOrRows,
        code_bits: 4.0,
        block_bits: 36.0,
        has_zero: true,
        encoding: Encoding::Steps(Steps::INT4_AFFINE),
        scale: scale::affine,
    },
    Entry {
        format: Format::Q4_0,
        word: "q4_0",
        title: "Q4_0",
        rule: "ŵ = (q − 8) · d, d = the value of largest magnitude / −8 in f16; llama.cpp",
        sharing: Sharing::Fixed(32),
        code_bits: 4.0,
        block_bits: 16.0,
        has_zero: false,
        encoding: Encoding::Steps(Steps::Q4_0),
        scale: scale::q4_0,
    },
    Entry {
        format: Format::Q4_1,
        word: "q4_1",
        title: "Q4_1",
        rule: "ŵ = q · d + min, d = (max − min) / 15, both in f16; llama.cpp",
        sharing: Sharing::Fixed(32),
        code_bits: 4.0,
        block_bits: 32.0,
        has_zero: true,
        encoding: Encoding::Steps(Steps::Q4_1),
        scale: scale::q4_1,
    },
    Entry {
        format: Format::Iq4Nl,
        word: "iq4_nl",
        title: "IQ4_NL",
        rule: "ŵ = d · level[code], 16 uneven levels −127 … 113, d of 32 weights in f16, the best of 15; llama.cpp",
        sharing: Sharing::Fixed(32),
        code_bits: 4.0,
        block_bits: 16.0,
        has_zero: false,
        encoding: Encoding::Blocks(iq4::read_nl),
        scale: scale::none,
    },
    Entry {
        format: Format::Iq4Xs,
        word: "iq4_xs",
        title: "IQ4_XS",
        rule: "ŵ = d · s · level[code], IQ4_NL's levels, s of 32 weights in 6 bits, d of 256 in f16; llama.cpp",
        sharing: Sharing::Fixed(256),
        code_bits: 136.0 / 32.0,
        block_bits: 0.0,
        has_zero: false,
        encoding: Encoding::Blocks(iq4::read_xs),
        scale: scale::none,
    },
    Entry {
        format: Format::Mxfp4,
        word: "mxfp4",
        title: "MXFP4",
        rule: "ŵ = 2ᵉ · ±{0, ½, 1, 1½, 2, 3, 4, 6}, e of 32 weights in 8 bits; OCP MX, as llama.cpp does it",
        sharing: Sharing::Fixed(32),
        code_bits: 4.0,
        block_bits: 8.0,
        has_zero: false,
        encoding: Encoding::E2m1(false),
        scale: e2m1::power_of_two,
    },
    Entry {
        format: Format::Nvfp4,
        word: "nvfp4",
        title: "NVFP4",
        rule: "ŵ = s · ±{0, ½, 1, 1½, 2, 3, 4, 6}, s of 16 weights in E4M3 times one f32 of the tensor; as compressed-tensors does it",
        sharing: Sharing::Fixed(16),
        code_bits: 4.0,
        block_bits: 8.0,
        has_zero: false,
        encoding: Encoding::E2m1(true),
        scale: scale::none,
    },
    Entry {
        format: Format::Q2K,
        word: "q2_k",
        title: "Q2_K (candle)",
        rule: K_QUANT,
        sharing: Sharing::Fixed(256),
        code_bits: 84.0 / 32.0,
        block_bits: 0.0,
        has_zero: false,
        encoding: Encoding::Blocks(kquant::read::<kquant::BlockQ2K>),
        scale: scale::none,
    },
    Entry {
        format: Format::Q3K,
        word: "q3_k",
        title: "Q3_K (candle)",
        rule: K_QUANT,
        sharing: Sharing::Fixed(256),
        code_bits: 110.0 / 32.0,
        block_bits: 0.0,
        has_zero: false,
        encoding: Encoding::Blocks(kquant::read::<kquant::BlockQ3K>),
        scale: scale::none,
    },
    Entry {
        format: Format::Q4K,
        word: "q4_k",
        title: "Q4_K (candle)",
        rule: K_QUANT,
        sharing: Sharing::Fixed(256),
        code_bits: 144.0 / 32.0,
        block_bits: 0.0,
        has_zero: false,
        encoding: Encoding::Blocks(kquant::read::<kquant::BlockQ4K>),
        scale: scale::none,
    },
    Entry {
        format: Format::Q5K,
        word: "q5_k",
        title: "Q5_K (candle)",
        rule: K_QUANT,
        sharing: Sharing::Fixed(256),
        code_bits: 176.0 / 32.0,
        block_bits: 0.0,
        has_zero: false,
        encoding: Encoding::Blocks(kquant::read::<kquant::BlockQ5K>),
        scale: scale::none,
    },
    Entry {
        format: Format::Q6K,
        word: "q6_k",
        title: "Q6_K (candle)",
        rule: K_QUANT,
        sharing: Sharing::Fixed(256),
        code_bits: 210.0 / 32.0,
        block_bits: 0.0,
        has_zero: false,
        encoding: Encoding::Blocks(kquant::read::<kquant::BlockQ6K>),
        scale: scale::none,
    },
    Entry {
        format: Format::Int8,
        word: "int8",
        title: "INT8",
        rule: "ŵ = q · absmax / 127, q in −127…127, rounded to the nearest",
        sharing: Sharing::FreeOrRows,
        code_bits: 8.0,
        block_bits: 32.0,
        has_zero: false,
        encoding: Encoding::Steps(Steps::INT8),
        scale: |ends| scale::steps(ends, 127.0),
    },
    Entry {
        format: Format::Q8_0,
        word: "q8_0",
        title: "Q8_0",
        rule: "ŵ = q · d, d = absmax / 127 in f16; llama.cpp",
        sharing: Sharing::Fixed(32),
        code_bits: 8.0,
        block_bits: 16.0,
        has_zero: false,
        encoding: Encoding::Steps(Steps::Q8_0),
        scale: scale::q8_0,
    },
    Entry {
        format: Format::Fp8,
        word: "fp8-e4m3",
        title: "FP8 E4M3",
        rule: "the nearest of ±448 … ±2⁻⁹ in E4M3, ties to even; larger magnitudes become 448",
        sharing: Sharing::None,
        code_bits: 8.0,
        block_bits: 0.0,
        has_zero: false,
        encoding: Encoding::Cast { round: casts::fp8_values, code: casts::fp8_bits },
        scale: scale::none,
    },
    Entry {
        format: Format::Fp8Scaled,
        word: "fp8-e4m3-scaled",
        title: "FP8 E4M3 scaled",
        rule: "ŵ = s · E4M3(w / s), s = absmax / 448",
        sharing: Sharing::FreeOrRows,
        code_bits: 8.0,
        block_bits: 32.0,
        has_zero: false,
        encoding: Encoding::ScaledFp8,
        scale: |ends| scale::steps(ends, casts::FP8_MAX),
    },
    Entry {
        format: Format::F16,
        word: "f16",
        title: "FP16",
        rule: "the nearest number with 11 significant bits, ties to even",
        sharing: Sharing::None,
        code_bits: 16.0,
        block_bits: 0.0,
        has_zero: false,
        encoding: Encoding::Cast { round: casts::f16, code: casts::f16_bits },
        scale: scale::none,
    },
    Entry {
        format: Format::Bf16,
        word: "bf16",
        title: "BF16",
        rule: "the nearest number with 8 significant bits, ties to even",
        sharing: Sharing::None,
        code_bits: 16.0,
        block_bits: 0.0,
        has_zero: false,
        encoding: Encoding::Cast { round: casts::bf16_values, code: casts::bf16_bits },
        scale: scale::none,
    },
];

const K_QUANT: &str = "256 weights share a scale in f16, 16 or 32 of them one in 4 to 8 bits; llama.cpp's layout, made by candle's search";

impl Format {
    const COUNT: usize = 21;

    /// All of them, 4-bit ones first.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::Nf4; Self::COUNT];
        let mut index = 0;
        while index < Self::COUNT {
            all[index] = TABLE[index].format;
            index += 1;
        }
        all
    };

    /// Block sizes to choose from where a format leaves the choice.
    pub const BLOCKS: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

    fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    /// The word of the command line.
    pub fn as_str(self) -> &'static str {
        self.entry().word
    }

    /// As a person reads it.
    pub fn title(self) -> &'static str {
        self.entry().title
    }

    /// Its rule in a line, and where that comes from.
    pub fn rule(self) -> &'static str {
        self.entry().rule
    }

    /// Weights that share a scale, where the format says it.
    pub fn fixed_block(self) -> Option<usize> {
        if let Sharing::Fixed(block) = self.entry().sharing { Some(block) } else { None }
    }

    /// True when each value is written by itself.
    pub fn is_cast(self) -> bool {
        self.entry().sharing == Sharing::None
    }

    /// True when a person chooses the block.
    pub fn has_free_block(self) -> bool {
        matches!(self.entry().sharing, Sharing::Free | Sharing::FreeOrRows)
    }

    /// True when a row or the whole weight may share a scale too.
    pub fn allows_rows(self) -> bool {
        self.entry().sharing == Sharing::FreeOrRows
    }

    /// Its levels where it is one of bitsandbytes'.
    pub fn quant_type(self) -> Option<QuantType> {
        if let Encoding::Ladder(kind) = self.entry().encoding { Some(kind) } else { None }
    }

    /// True when what is added to a block's values is stored with it.
    pub(super) fn has_zero(self) -> bool {
        self.entry().has_zero
    }

    pub(super) fn encoding(self) -> Encoding {
        self.entry().encoding
    }

    /// What a block shares, from its smallest and its largest value; for Q4_0 both are the value of largest magnitude.
    pub(super) fn scale(self, ends: [f32; 2]) -> Scale {
        (self.entry().scale)(ends)
    }

    pub(super) fn code_bits(self) -> f64 {
        self.entry().code_bits
    }

    pub(super) fn block_bits(self) -> f64 {
        self.entry().block_bits
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_formats() {
        for (index, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.format as usize, index, "{}", entry.word);
        }
    }
}
