//! [`QuantType`]: the 16 levels of NF4 and of FP4, and which code a value gets.

use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Which 16 levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuantType {
    /// Quantiles of the normal distribution (arXiv 2305.14314).
    Nf4,
    /// A sign, and one of eight magnitudes.
    Fp4,
}

/// NF4, as bitsandbytes has them.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// FP4 by code: magnitudes 0, 0.0625, 8, 12, 4, 6, 2, 3, each ÷ 12; the fourth bit is the sign.
const FP4: [f32; 16] = [
    0.0,
    0.062_5 / 12.0,
    8.0 / 12.0,
    1.0,
    4.0 / 12.0,
    0.5,
    2.0 / 12.0,
    0.25,
    0.0,
    -0.062_5 / 12.0,
    -8.0 / 12.0,
    -1.0,
    -4.0 / 12.0,
    -0.5,
    -2.0 / 12.0,
    -0.25,
];

/// The levels in rising order, between which a value is placed.
pub(super) struct Ladder {
    /// `f32` midpoints between neighbours; a value gets the level above as many of them as are below it, so that ties
    /// go down.
    pub(super) midpoints: [f32; 15],
    /// Codes of the levels in rising order.
    codes: [u8; 16],
    /// The levels in rising order.
    pub(super) levels: [f32; 16],
}

impl QuantType {
    /// What a code stands for, as a share of the block's absmax.
    pub fn levels(self) -> &'static [f32; 16] {
        match self {
            Self::Nf4 => &NF4,
            Self::Fp4 => &FP4,
        }
    }

    /// `nf4` or `fp4`, as in bitsandbytes' `quant_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nf4 => "nf4",
            Self::Fp4 => "fp4",
        }
    }

    pub(super) fn ladder(self) -> Ladder {
        let levels = self.levels();
        // Stable: FP4's second zero, code 8, comes after the first, and takes the small values above zero.
        let mut codes: [u8; 16] = std::array::from_fn(|code| code as u8);
        codes.sort_by(|&a, &b| levels[usize::from(a)].partial_cmp(&levels[usize::from(b)]).unwrap_or(Ordering::Equal));
        let rising = codes.map(|code| levels[usize::from(code)]);
        let mut ladder = Ladder { midpoints: [0.0; 15], codes, levels: rising };
        for (to, pair) in ladder.midpoints.iter_mut().zip(codes.windows(2)) {
            *to = (levels[usize::from(pair[0])] + levels[usize::from(pair[1])]) / 2.0;
        }
        ladder
    }
}

impl Ladder {
    /// The code of a value in −1…1.
    #[inline(always)]
    pub(super) fn code(&self, value: f32) -> u8 {
        let below = self.midpoints.iter().map(|&midpoint| u8::from(midpoint < value)).sum::<u8>();
        self.codes[usize::from(below & 15)]
    }

    /// Codes of the levels in rising order.
    pub(super) fn codes(&self) -> [u8; 16] {
        self.codes
    }
}

impl fmt::Display for QuantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for QuantType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "nf4" => Ok(Self::Nf4),
            "fp4" => Ok(Self::Fp4),
            _ => Err(Error::usage(format!("4-bit type {text:?}; expected nf4 or fp4"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_its_own_nearest() {
        for kind in [QuantType::Nf4, QuantType::Fp4] {
            let ladder = kind.ladder();
            for (code, &level) in
                kind.levels().iter().enumerate().filter(|&(code, _)| kind == QuantType::Nf4 || code != 8)
            {
                assert_eq!(usize::from(ladder.code(level)), code, "{kind} {level}");
            }
        }
    }

    #[test]
    fn ties_go_down() {
        let middle = (NF4[3] + NF4[4]) / 2.0;
        assert_eq!(QuantType::Nf4.ladder().code(middle), 3);
        assert_eq!(QuantType::Nf4.ladder().code(middle.next_up()), 4);
    }
}
