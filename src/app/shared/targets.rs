//! Target modules in words.

use crate::plan::Targets;

/// The targets as a person says them.
pub fn name(targets: &Targets) -> String {
    match targets {
        Targets::QV => "attention q, v".into(),
        Targets::Attention => "all attention".into(),
        Targets::AllLinear => "all linear".into(),
        Targets::Custom(_) => "custom".into(),
    }
}
