//! Llama: 1, 2, 3 and what copied it.

use super::build::{Traits, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::ModelSpec;

/// `llama`.
pub(super) fn llama(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let mlp_bias = keys.flag_or("mlp_bias", false)?;
    build(keys, Traits { qkv_bias: bias, o_bias: bias, mlp_bias, ..Traits::LLAMA })
}
