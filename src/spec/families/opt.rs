//! OPT: learned positions from row 2 on, ReLU; 350M has its norms after the sums and an embedding narrower than the stream.

use super::build::{Modules, Traits, Up, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::{ModelSpec, NarrowSpec, Role};

/// `opt`.
pub(super) fn opt(keys: &Keys) -> Result<ModelSpec> {
    let affine = keys.flag_or("layer_norm_elementwise_affine", true)?;
    let before = keys.flag_or("do_layer_norm_before", true)?;
    let last = before && !keys.flag_or("_remove_final_layer_norm", false)?;
    let traits = Traits {
        stem: "model.decoder.",
        positions: Some(("embed_positions", 2)),
        norm: last.then_some("final_layer_norm"),
        norms: [Some("self_attn_layer_norm"), None, Some("final_layer_norm"), None],
        norm_weight: affine,
        norm_bias: affine,
        // Its ε is no setting.
        eps_key: "",
        o: "out_proj",
        mlp: "",
        up: Up::Plain("fc1"),
        down: "fc2",
        activation: ("activation_function", "relu"),
        kv_keys: &[],
        tied: true,
        rope: None,
        ..Traits::LLAMA.layer_norm("").biased(keys.flag_or("enable_bias", true)?)
    };
    let mut spec = build(keys, traits)?;
    let projected = keys.size_or(&["word_embed_proj_dim"], spec.hidden)?;
    if projected != spec.hidden {
        spec.embedding.shape[1] = projected;
        if let Some(head) = &mut spec.head {
            head.shape[1] = projected;
        }
        let around = Modules::around(&spec.embedding, &traits);
        let linear = |name: &str, shape| around.linear(name, Role::Other, shape, false);
        spec.narrow = Some(NarrowSpec {
            into: linear("project_in", [spec.hidden, projected]),
            out: linear("project_out", [projected, spec.hidden]),
        });
    }
    if !before {
        norms_after(&mut spec);
    }
    Ok(spec)
}

/// Norms after the sums are those of a normed stream one place on: a block's first is before its feed-forward, its second before the
/// next block.
fn norms_after(spec: &mut ModelSpec) {
    let mut last = None;
    for block in &mut spec.blocks {
        let (first, second) = (block.norm_in.take(), block.norm_ffn.take());
        (block.norm_in, block.norm_ffn, block.normed) = (last, first, true);
        last = second;
    }
    spec.norm = last;
}
