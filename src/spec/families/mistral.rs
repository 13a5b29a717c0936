//! Mistral.

use super::build::{Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

const ROPE: RopeDefaults = RopeDefaults { positions: 4096 * 32, ..RopeDefaults::LLAMA };

/// Mistral's own.
pub(super) const MISTRAL: Traits = Traits { rope: Some(ROPE), ..Traits::LLAMA };

/// `mistral`: the same window in every block.
pub(super) fn mistral(keys: &Keys) -> Result<ModelSpec> {
    windowed(keys, MISTRAL)
}

/// A decoder with the same window in every block.
pub(super) fn windowed(keys: &Keys, traits: Traits) -> Result<ModelSpec> {
    let mut spec = build(keys, traits)?;
    let window = keys.size_maybe(&["sliding_window"])?;
    spec.set_windows(&vec![window; spec.blocks.len()]);
    Ok(spec)
}
