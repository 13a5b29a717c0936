//! [`Group`] and [`Recipe`]: what a weight is to become, and how many bits that takes.

use super::formats::Format;
use super::nested::Nested;
use crate::units;
use std::fmt;

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
        // One more number for all of them.
        let tensor = if self.format == Format::Nvfp4 { 32.0 } else { 0.0 };
        self.format.code_bits() + (constants + tensor) / count as f64
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
