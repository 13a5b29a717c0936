//! [`Scaling`]: what multiplies B·A.

/// How α and the rank make the factor `s` of `ΔW = s · B A`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scaling {
    /// `s = α / r` (LoRA, arXiv 2106.09685).
    #[default]
    Rank,
    /// `s = α / √r` (rsLoRA, arXiv 2312.03732).
    SquareRoot,
}

impl Scaling {
    /// By PEFT's `use_rslora`.
    pub fn new(use_rslora: bool) -> Self {
        if use_rslora { Self::SquareRoot } else { Self::Rank }
    }

    /// PEFT's `use_rslora`.
    pub fn is_rslora(self) -> bool {
        self == Self::SquareRoot
    }

    /// `s` of a pair of rank `r`.
    pub fn factor(self, lora_alpha: f64, r: usize) -> f64 {
        let r = r as f64;
        match self {
            Self::Rank => lora_alpha / r,
            Self::SquareRoot => lora_alpha / r.sqrt(),
        }
    }

    /// The α with which a pair of rank `r` has the factor `s`.
    pub fn alpha(self, factor: f64, r: usize) -> f64 {
        let r = r as f64;
        match self {
            Self::Rank => factor * r,
            Self::SquareRoot => factor * r.sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_and_factor_are_inverse() {
        assert_eq!((Scaling::Rank.factor(32.0, 16), Scaling::SquareRoot.factor(32.0, 16)), (2.0, 8.0));
        for scaling in [Scaling::Rank, Scaling::SquareRoot] {
            assert_eq!(scaling.alpha(scaling.factor(24.0, 9), 9), 24.0);
            assert_eq!(Scaling::new(scaling.is_rslora()), scaling);
        }
    }
}
