//! ERNIE 4.5: Llama whose neighbouring dimensions turn together.

use super::build::{HeadDim, Traits, build};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::ModelSpec;

/// `ernie4_5`.
pub(super) fn ernie4_5(keys: &Keys) -> Result<ModelSpec> {
    build(keys, traits(keys, HeadDim::Is(128))?)
}

/// What it is built with.
pub(super) fn traits(keys: &Keys, head_dim: HeadDim) -> Result<Traits> {
    let rope = RopeDefaults { theta: 5e5, positions: 131_072, interleaved: true, ..RopeDefaults::LLAMA };
    let traits = Traits { eps: 1e-5, head_dim, tied: true, rope: Some(rope), ..Traits::LLAMA };
    Ok(traits.biased(keys.flag_or("use_bias", false)?))
}
