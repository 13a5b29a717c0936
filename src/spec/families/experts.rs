//! Mixtures of experts: which blocks have one, and of what. They are counted and looked at; their routing is not computed yet.

use super::build::{Modules, Traits, Up, build, mlp};
use super::keys::{Keys, RopeDefaults};
use super::{mistral, qwen};
use crate::error::Result;
use crate::spec::{Activation, ExpertsSpec, FeedForward, ModelSpec, Role, SharedSpec};

/// Why a model with experts is not run.
const NOT_RUN: &str = "experts are not computed in this version: they are counted, and can be looked at";

/// The experts of a block. Names are relative to the block.
struct Experts {
    router: &'static str,
    /// Around an expert's modules, `{}` for its number.
    expert: &'static str,
    up: Up,
    down: &'static str,
    count: usize,
    chosen: usize,
    width: usize,
    /// Around the modules of the expert that every token goes through, its width, and its gate.
    shared: Option<(&'static str, usize, Option<&'static str>)>,
}

impl Experts {
    /// As Qwen and those after it name them.
    fn new(count: usize, chosen: usize, width: usize) -> Self {
        let up = Up::Gated(["gate_proj", "up_proj"]);
        let expert = "mlp.experts.{}.";
        Self { router: "mlp.gate", expert, up, down: "down_proj", count, chosen, width, shared: None }
    }

    /// As Mixtral names them.
    fn mixtral(count: usize, chosen: usize, width: usize) -> Self {
        let up = Up::Gated(["w1", "w3"]);
        let (router, expert) = ("block_sparse_moe.gate", "block_sparse_moe.experts.{}.");
        Self { router, expert, up, down: "w2", ..Self::new(count, chosen, width) }
    }

    /// Puts them into the blocks that `has` names, in place of the MLP there.
    fn put(&self, keys: &Keys, spec: &mut ModelSpec, traits: &Traits, has: impl Fn(usize) -> bool) -> Result<()> {
        keys.blocks(spec.blocks.len(), self.count)?;
        let hidden = spec.hidden;
        for (layer, block) in spec.blocks.iter_mut().enumerate().filter(|(layer, _)| has(*layer)) {
            let activation = block.mlp().map_or(Activation::Silu, |mlp| mlp.activation);
            let m = Modules::of(&spec.embedding, traits, layer);
            let of = |prefix: &'static str, up: Up, down: &'static str, width: usize| {
                mlp(&m, &Traits { mlp: prefix, up, down, ..*traits }, activation, hidden, width)
            };
            let shared = self.shared.map(|(prefix, width, gate)| SharedSpec {
                mlp: of(prefix, Up::Gated(["gate_proj", "up_proj"]), "down_proj", width),
                gate: gate.map(|gate| m.linear(gate, Role::Router, [1, hidden], false)),
            });
            block.ffn = Some(FeedForward::Experts(ExpertsSpec {
                router: m.linear(self.router, Role::Router, [self.count, hidden], false),
                count: self.count,
                chosen: self.chosen,
                mlp: of(self.expert, self.up, self.down, self.width).copies(self.count),
                shared,
            }));
        }
        keys.refuse(NOT_RUN);
        for key in ["num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size"] {
            keys.get(key);
        }
        Ok(())
    }
}

const COUNT: [&str; 4] = ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"];
const CHOSEN: [&str; 3] = ["num_experts_per_tok", "moe_k", "moe_topk"];

/// `mixtral`.
pub(super) fn mixtral(keys: &Keys) -> Result<ModelSpec> {
    let rope = mistral::MISTRAL.rope.map(|rope| RopeDefaults { theta: 1e6, ..rope });
    let traits = Traits { eps: 1e-5, rope, ..mistral::MISTRAL };
    let mut spec = mistral::windowed(keys, traits)?;
    let width = keys.size(&["intermediate_size"])?;
    let experts = Experts::mixtral(keys.size_or(&COUNT, 8)?, keys.size_or(&CHOSEN, 2)?, width);
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// `phimoe`: Phi-3.5-MoE, with LayerNorms.
pub(super) fn phimoe(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let rope = mistral::MISTRAL.rope.map(|rope| RopeDefaults { theta: 1e6, ..rope });
    let head_bias = keys.flag_or("lm_head_bias", false)?;
    let traits = Traits { qkv_bias: bias, o_bias: bias, head_bias, rope, ..Traits::LLAMA.layer_norm("rms_norm_eps") };
    let mut spec = mistral::windowed(keys, traits)?;
    let width = keys.size(&["intermediate_size"])?;
    let experts = Experts::mixtral(keys.size_or(&COUNT, 16)?, keys.size_or(&CHOSEN, 2)?, width);
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// `minimax_m2`.
pub(super) fn minimax_m2(keys: &Keys) -> Result<ModelSpec> {
    let rope = RopeDefaults { theta: 5e6, positions: 196_608, ..RopeDefaults::LLAMA };
    let qk_norm = Some((super::build::QkNorm::Row, ["q_norm", "k_norm"]));
    let traits = Traits { qk_norm, rope: Some(rope), ..Traits::LLAMA };
    let mut spec = build(keys, traits)?;
    let width = keys.size(&["intermediate_size"])?;
    let experts = Experts::mixtral(keys.size_or(&COUNT, 256)?, keys.size_or(&CHOSEN, 8)?, width);
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// Blocks of Qwen's mixtures: every `decoder_sparse_step`th, without those that are listed.
fn qwen_blocks(keys: &Keys) -> Result<impl Fn(usize) -> bool> {
    let step = keys.size_or(&["decoder_sparse_step"], 1)?;
    let listed = keys.get("mlp_only_layers").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    Ok(move |layer: usize| {
        (layer + 1).is_multiple_of(step) && !listed.iter().any(|dense| dense.as_u64() == Some(layer as u64))
    })
}

/// `qwen2_moe`: with an expert that every token goes through, behind a gate.
pub(super) fn qwen2_moe(keys: &Keys) -> Result<ModelSpec> {
    let traits = Traits { qkv_bias: keys.flag_or("qkv_bias", true)?, rope: qwen::QWEN3.rope, ..Traits::LLAMA };
    let mut spec = build(keys, traits)?;
    if keys.flag_or("use_sliding_window", false)? {
        keys.refuse("use_sliding_window true is not supported for qwen2_moe");
    }
    keys.get("layer_types");
    let width = keys.size_or(&["moe_intermediate_size"], 1408)?;
    let mut experts = Experts::new(keys.size_or(&COUNT, 60)?, keys.size_or(&CHOSEN, 4)?, width);
    let shared = keys.size_or(&["shared_expert_intermediate_size"], 5632)?;
    experts.shared = Some(("mlp.shared_expert.", shared, Some("mlp.shared_expert_gate")));
    experts.put(keys, &mut spec, &traits, qwen_blocks(keys)?)?;
    Ok(spec)
}

/// `qwen3_moe`.
pub(super) fn qwen3_moe(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let traits = Traits { qkv_bias: bias, o_bias: bias, ..qwen::QWEN3 };
    let mut spec = build(keys, traits)?;
    if keys.flag_or("use_sliding_window", false)? {
        spec.set_windows(&vec![keys.size_maybe(&["sliding_window"])?; spec.blocks.len()]);
    }
    let width = keys.size_or(&["moe_intermediate_size"], 768)?;
    let experts = Experts::new(keys.size_or(&COUNT, 128)?, keys.size_or(&CHOSEN, 8)?, width);
    experts.put(keys, &mut spec, &traits, qwen_blocks(keys)?)?;
    Ok(spec)
}

/// `olmoe`.
pub(super) fn olmoe(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let qk_norm = Some((super::build::QkNorm::Row, ["q_norm", "k_norm"]));
    let rope = Some(RopeDefaults { positions: 4096, ..RopeDefaults::LLAMA });
    let traits = Traits { qkv_bias: bias, o_bias: bias, eps: 1e-5, qk_norm, rope, ..Traits::LLAMA };
    let mut spec = build(keys, traits)?;
    let width = keys.size(&["intermediate_size"])?;
    let experts = Experts::new(keys.size_or(&COUNT, 64)?, keys.size_or(&CHOSEN, 8)?, width);
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// An expert that every token goes through, of so many times the width; none where the config has none.
fn shared(
    keys: &Keys,
    key: &'static str,
    default: usize,
    width: usize,
) -> Result<Option<(&'static str, usize, Option<&'static str>)>> {
    let times = match keys.get(key) {
        Some(found) => found.as_u64().unwrap_or(0) as usize,
        None => default,
    };
    let wide = times.checked_mul(width).filter(|width| *width <= 1 << 24);
    let wide = wide.ok_or_else(|| keys.wrong(format!("found {key} {times}, expected fewer shared experts")))?;
    Ok((wide > 0).then_some(("mlp.shared_experts.", wide, None)))
}

/// `dots1`.
pub(super) fn dots1(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let qk_norm = Some((super::build::QkNorm::Head, ["q_norm", "k_norm"]));
    let traits = Traits { qkv_bias: bias, o_bias: bias, qk_norm, ..Traits::LLAMA };
    let mut spec = build(keys, traits)?;
    let first = keys.get("max_window_layers").and_then(serde_json::Value::as_u64).unwrap_or(62) as usize;
    let window = keys.size_maybe(&["sliding_window"])?;
    spec.set_windows(&keys.windows(spec.blocks.len(), window, |layer| layer >= first)?);
    let width = keys.size(&["moe_intermediate_size"])?;
    let mut experts = Experts::new(keys.size(&COUNT)?, keys.size(&CHOSEN)?, width);
    experts.shared = shared(keys, "n_shared_experts", 0, width)?;
    let dense = keys.get("first_k_dense_replace").and_then(serde_json::Value::as_u64).unwrap_or(0) as usize;
    experts.put(keys, &mut spec, &traits, |layer| layer >= dense)?;
    Ok(spec)
}

/// `glm4_moe`.
pub(super) fn glm4_moe(keys: &Keys) -> Result<ModelSpec> {
    let normed = keys.flag_or("use_qk_norm", false)?;
    let rope = RopeDefaults {
        partial: 0.5,
        partial_key: Some("partial_rotary_factor"),
        positions: 131_072,
        ..RopeDefaults::LLAMA
    };
    let traits = Traits {
        qkv_bias: keys.flag_or("attention_bias", false)?,
        eps: 1e-5,
        qk_norm: normed.then_some((super::build::QkNorm::Head, ["q_norm", "k_norm"])),
        rope: Some(rope),
        ..Traits::LLAMA
    };
    let mut spec = build(keys, traits)?;
    let width = keys.size_or(&["moe_intermediate_size"], 1408)?;
    let mut experts = Experts::new(keys.size_or(&COUNT, 128)?, keys.size_or(&CHOSEN, 8)?, width);
    experts.shared = shared(keys, "n_shared_experts", 1, width)?;
    let dense = keys.get("first_k_dense_replace").and_then(serde_json::Value::as_u64).unwrap_or(1) as usize;
    experts.put(keys, &mut spec, &traits, |layer| layer >= dense)?;
    Ok(spec)
}

/// `hunyuan_v1_moe`.
pub(super) fn hunyuan(keys: &Keys) -> Result<ModelSpec> {
    let (mut spec, traits) = super::hunyuan::decoder(keys)?;
    let width = keys.size(&["intermediate_size"])?;
    let mut experts = Experts::new(keys.size(&COUNT)?, keys.size_or(&CHOSEN, 1)?, width);
    experts.router = "mlp.gate.wg";
    experts.shared = Some(("mlp.shared_mlp.", width, None));
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}
