//! The rank dial: r, α and what is adapted.

pub use crate::adapter::Scaling;
use crate::plan::Targets;

/// What the rank bar sets and every view follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Dial {
    /// Rank of the adapter.
    pub r: usize,
    /// LoRA's α.
    pub alpha: f64,
    /// α/r or α/√r.
    pub scaling: Scaling,
    /// The adapted modules.
    pub targets: Targets,
}

impl Dial {
    /// Largest rank offered while nothing is open.
    pub const MAX_WITHOUT_MODEL: usize = 256;

    /// The factor s in ΔW = s·B·A.
    pub fn factor(&self) -> f64 {
        self.scaling.factor(self.alpha, self.r)
    }

    /// Keeps r within 1…max.
    pub fn limit(&mut self, max: usize) {
        self.r = self.r.clamp(1, max.max(1));
    }
}

impl Default for Dial {
    /// r = 8 is the paper's usual rank and PEFT's default; α = 2r is the common choice; q and v as in the paper's GPT-3 runs.
    fn default() -> Self {
        Self { r: 8, alpha: 16.0, scaling: Scaling::Rank, targets: Targets::QV }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factor_follows_the_scaling() {
        let mut dial = Dial { r: 16, alpha: 32.0, ..Dial::default() };
        assert_eq!(dial.factor(), 2.0);
        dial.scaling = Scaling::SquareRoot;
        assert_eq!(dial.factor(), 8.0);
        dial.limit(4);
        assert_eq!(dial.r, 4);
        dial.r = 0;
        dial.limit(0);
        assert_eq!(dial.r, 1);
    }
}
