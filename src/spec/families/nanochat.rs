//! nanochat: norms without weights everywhere, a squared ReLU, capped logits, heads that turn the other way.

use super::build::{QkNorm, Traits, Up, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::{ModelSpec, NormSpec};

/// `nanochat`.
pub(super) fn nanochat(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let mut spec = build(
        keys,
        Traits {
            qkv_bias: bias,
            o_bias: bias,
            norm_weight: false,
            qk_norm: Some((QkNorm::Head, ["q_norm", "k_norm"])),
            up: Up::Plain("fc1"),
            down: "fc2",
            activation: ("hidden_act", "relu2"),
            ..Traits::LLAMA
        },
    )?;
    spec.ropes.iter_mut().flat_map(|rope| &mut rope.frequencies).for_each(|frequency| *frequency = -*frequency);
    spec.each_attention(|_, attention| attention.norm_after_rope = true);
    spec.embedding_norm = spec.norm.clone().map(|norm| NormSpec { name: format!("{}.embedding", norm.name), ..norm });
    spec.logit_cap = keys.number_or_null("final_logit_softcapping", 15.0)?;
    Ok(spec)
}
