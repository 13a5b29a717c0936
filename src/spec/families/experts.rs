//! Mixtures of experts: which blocks have one, and of what.

use super::build::{Modules, QkNorm, Traits, Up, build, mlp};
use super::keys::{Keys, RopeDefaults};
use super::recurrent::Mamba;
use super::{mistral, qwen};
use crate::error::Result;
use crate::spec::{
    Activation, ExpertsSpec, FeedForward, Mixer, MlpSpec, ModelSpec, PartSpec, PeftExperts, Role, Routing, Scores,
    SharedSpec,
};

/// The two parameters that have the experts of a block together, as a file names them.
#[derive(Clone, Copy)]
pub(super) struct Stack {
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    /// Each expert's is `[in, out]`.
    pub(super) transposed: bool,
}

/// The experts of a block. Names are relative to the block.
pub(super) struct Experts {
    pub(super) router: &'static str,
    /// What transformers' class calls the router, where that is another name.
    pub(super) class_router: Option<&'static str>,
    /// transformers' module whose parameters the experts are, and what an expert's modules are named by: `{}` for its number.
    pub(super) module: &'static str,
    pub(super) expert: &'static str,
    pub(super) up: Up,
    pub(super) down: &'static str,
    pub(super) count: usize,
    pub(super) chosen: usize,
    pub(super) width: usize,
    /// Around the modules of the expert that every token goes through, its width, and its gate.
    pub(super) shared: Option<(&'static str, usize, Option<&'static str>)>,
    pub(super) routing: Routing,
    /// Names of that expert's projections.
    pub(super) shared_names: (Up, &'static str),
    /// The bias of the choice.
    pub(super) bias: Option<&'static str>,
    /// The file always has them together; otherwise where it has the parameters of transformers' own module.
    pub(super) stack: Option<Stack>,
    /// Biases everywhere, router included.
    pub(super) biased: bool,
    /// PEFT makes parameters of targets that name their projections.
    pub(super) converted: bool,
    /// Its router is a linear layer by itself.
    pub(super) linear_router: bool,
    /// PEFT takes a transposed parameter for one that is not.
    pub(super) swapped: bool,
    /// α and the limit of a clamped SwiGLU.
    pub(super) clamped: Option<[f32; 2]>,
}

/// Scores of all experts that become weights as they are.
pub(super) const SOFTMAX: Routing = Routing {
    scores: Scores::Softmax,
    bias: None,
    scales: None,
    groups: 1,
    chosen_groups: 1,
    group_by: 1,
    floor: None,
    scale: 1.0,
    on_input: false,
};

/// Where a sum is not to be divided by less.
const FLOOR: f32 = 1e-20;

/// The parameters of transformers' own module.
pub(super) const OWN: Stack = Stack { up: "gate_up_proj", down: "down_proj", transposed: false };

impl Experts {
    /// As Qwen and those after it name them; weights are divided by their sum.
    pub(super) fn new(count: usize, chosen: usize, width: usize) -> Self {
        Self {
            router: "mlp.gate",
            class_router: None,
            module: "mlp.experts",
            expert: "mlp.experts.{}.",
            up: Up::Gated(["gate_proj", "up_proj"]),
            down: "down_proj",
            count,
            chosen,
            width,
            shared: None,
            shared_names: (Up::Gated(["gate_proj", "up_proj"]), "down_proj"),
            routing: Routing { floor: Some(FLOOR), ..SOFTMAX },
            bias: None,
            stack: None,
            biased: false,
            converted: true,
            linear_router: false,
            swapped: false,
            clamped: None,
        }
    }

    /// As Mixtral names them.
    fn mixtral(count: usize, chosen: usize, width: usize) -> Self {
        let up = Up::Gated(["w1", "w3"]);
        let (router, expert) = ("block_sparse_moe.gate", "block_sparse_moe.experts.{}.");
        Self { router, class_router: Some("mlp.gate"), expert, up, down: "w2", ..Self::new(count, chosen, width) }
    }

    /// Weights are divided by their sum where the config says so.
    pub(super) fn normed(mut self, keys: &Keys, default: bool) -> Result<Self> {
        self.routing.floor = keys.flag_or("norm_topk_prob", default)?.then_some(FLOOR);
        Ok(self)
    }

    /// DeepSeek's: sigmoids with a bias for the choice, in groups, scaled.
    pub(super) fn sigmoid(mut self, keys: &Keys, norm: bool, groups: [usize; 2], scale: f64) -> Result<Self> {
        self = self.normed(keys, norm)?.grouped(keys, groups, scale)?;
        self.routing.scores = Scores::Sigmoid;
        self.bias = Some("mlp.gate.e_score_correction_bias");
        Ok(self)
    }

    /// In groups, each as good as its two best together; scaled.
    pub(super) fn grouped(mut self, keys: &Keys, [groups, chosen]: [usize; 2], scale: f64) -> Result<Self> {
        let groups = keys.size_or(&["n_group"], groups)?;
        let chosen_groups = keys.size_or(&["topk_group"], chosen)?;
        if !self.count.is_multiple_of(groups) || chosen_groups > groups {
            return Err(keys.wrong(format!(
                "found {} experts in {groups} groups of which {chosen_groups} are chosen, expected groups of one size",
                self.count
            )));
        }
        let scale = keys.number_or("routed_scaling_factor", scale)? as f32;
        self.routing = Routing { groups, chosen_groups, group_by: 2, scale, ..self.routing };
        Ok(self)
    }

    /// Puts them into the blocks that `has` names, in place of the MLP there.
    pub(super) fn put(
        &self,
        keys: &Keys,
        spec: &mut ModelSpec,
        traits: &Traits,
        has: impl Fn(usize) -> bool,
    ) -> Result<()> {
        keys.blocks(spec.blocks.len(), self.count)?;
        if self.chosen > self.count {
            return Err(keys.wrong(format!("found {} experts a token of {}", self.chosen, self.count)));
        }
        for (layer, block) in spec.blocks.iter_mut().enumerate().filter(|(layer, _)| has(*layer)) {
            let activation = block.mlp().map_or(Activation::Silu, |mlp| mlp.activation);
            let m = Modules::of(&spec.embedding, traits, layer);
            block.ffn = Some(FeedForward::Experts(self.of_block(keys, &m, traits, activation, spec.hidden)));
        }
        for key in ["num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size"] {
            keys.get(key);
        }
        Ok(())
    }

    fn of_block(
        &self,
        keys: &Keys,
        m: &Modules,
        traits: &Traits,
        activation: Activation,
        hidden: usize,
    ) -> ExpertsSpec {
        let of = |prefix: &'static str, up: Up, down: &'static str, width: usize, mlp_bias: bool| {
            mlp(m, &Traits { mlp: prefix, up, down, mlp_bias, ..*traits }, activation, hidden, width)
        };
        let shared = self.shared.map(|(prefix, width, gate)| SharedSpec {
            mlp: of(prefix, self.shared_names.0, self.shared_names.1, width, traits.mlp_bias),
            gate: gate.map(|gate| m.linear(gate, Role::Router, [1, hidden], false)),
        });
        let own = if matches!(self.up, Up::Plain(_)) { Stack { up: "up_proj", ..OWN } } else { OWN };
        let together = keys.has(&m.name(&format!("{}.{}", self.module, own.up))) == Some(true);
        let stack = self.stack.or(together.then_some(own));
        let renamed = together && self.stack.is_none();
        let experts = match stack {
            Some(stack) => self.stacked(m, stack, activation, hidden),
            None => of(self.expert, self.up, self.down, self.width, self.biased).copies(self.count),
        };
        // transformers has router and experts in one module.
        let beside = self.module.strip_suffix("experts").map(|module| format!("{module}gate"));
        let router = beside.as_deref().filter(|_| renamed).unwrap_or(self.router);
        let bias = self.bias.map(|bias| m.name(bias));
        ExpertsSpec {
            router: m.linear(router, Role::Router, [self.count, hidden], self.biased),
            routing: Routing { bias, ..self.routing.clone() },
            count: self.count,
            chosen: self.chosen,
            mlp: MlpSpec { alphas: self.clamped.unwrap_or([1.0; 2]), ..experts },
            shared,
            norms: None,
            peft: PeftExperts {
                module: m.name(self.module),
                router: m.name(self.class_router.unwrap_or(router)),
                converted: self.converted,
                linear_router: self.linear_router,
                swapped: self.swapped,
            },
        }
    }

    /// Two parameters for all of them.
    fn stacked(&self, m: &Modules, stack: Stack, activation: Activation, hidden: usize) -> MlpSpec {
        let width = self.width;
        let module = |leaf: &str, file: &str, role: Role, shape: [usize; 2]| {
            let mut module = m.linear(&format!("{}.{{}}.{leaf}", self.module), role, shape, self.biased);
            // A name of its own is relative to the block, one of transformers' to the module.
            let own = if file.contains('.') { file.to_owned() } else { format!("{}.{file}", self.module) };
            (module.stack, module.copies) = (Some(m.name(&own)), self.count);
            module.transposed = stack.transposed;
            module
        };
        let up = match self.up {
            Up::Plain(leaf) => module(leaf, stack.up, Role::Up, [width, hidden]),
            _ => module("gate_up_proj", stack.up, Role::GateUp, [2 * width, hidden]),
        };
        let activation = if self.clamped.is_some() { Activation::ClampedSwiglu } else { activation };
        MlpSpec {
            up: vec![PartSpec { offset: 0, module: up }],
            down: module("down_proj", stack.down, Role::Down, [hidden, width]),
            width,
            gated: !matches!(self.up, Up::Plain(_)),
            activation,
            scalars: None,
            alphas: [1.0; 2],
        }
    }
}

pub(super) const COUNT: [&str; 4] = ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"];
pub(super) const CHOSEN: [&str; 3] = ["num_experts_per_tok", "moe_k", "moe_topk"];

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
    let mut experts = Experts::mixtral(keys.size_or(&COUNT, 16)?, keys.size_or(&CHOSEN, 2)?, width);
    let jitter = keys.number_or("router_jitter_noise", 0.01)? as f32;
    experts.routing = Routing { scores: Scores::Mixer { jitter }, ..SOFTMAX };
    (experts.converted, experts.class_router) = (false, Some("mlp.router"));
    if experts.chosen != 2 {
        keys.refuse(format!("{} experts a token are not supported for phimoe, which chooses two", experts.chosen));
    }
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// `minimax_m2`.
pub(super) fn minimax_m2(keys: &Keys) -> Result<ModelSpec> {
    let rope = RopeDefaults { theta: 5e6, positions: 196_608, ..RopeDefaults::LLAMA };
    let qk_norm = Some((QkNorm::Row, ["q_norm", "k_norm"]));
    let traits = Traits { qk_norm, rope: Some(rope), ..Traits::LLAMA };
    let mut spec = build(keys, traits)?;
    let width = keys.size(&["intermediate_size"])?;
    let mut experts = Experts::mixtral(keys.size_or(&COUNT, 256)?, keys.size_or(&CHOSEN, 8)?, width);
    experts.routing.scores = Scores::Sigmoid;
    experts.bias = Some("block_sparse_moe.e_score_correction_bias");
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// Blocks of Qwen's mixtures: every `decoder_sparse_step`th, without those that are listed.
pub(super) fn qwen_blocks(keys: &Keys) -> Result<impl Fn(usize) -> bool> {
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
    let used = keys.flag_or("use_sliding_window", false)?;
    let window = if used { Some(keys.size_or(&["sliding_window"], 4096)?) } else { None };
    let below = keys.get("max_window_layers").and_then(serde_json::Value::as_u64).unwrap_or(28) as usize;
    spec.set_windows(&keys.windows(spec.blocks.len(), window, |layer| layer.is_multiple_of(2) && layer < below)?);
    let width = keys.size_or(&["moe_intermediate_size"], 1408)?;
    let experts = Experts::new(keys.size_or(&COUNT, 60)?, keys.size_or(&CHOSEN, 4)?, width);
    let mut experts = Experts { converted: false, ..experts.normed(keys, false)? };
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
    let experts = Experts::new(keys.size_or(&COUNT, 128)?, keys.size_or(&CHOSEN, 8)?, width).normed(keys, false)?;
    experts.put(keys, &mut spec, &traits, qwen_blocks(keys)?)?;
    Ok(spec)
}

/// `olmoe`.
pub(super) fn olmoe(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let qk_norm = Some((QkNorm::Row, ["q_norm", "k_norm"]));
    let rope = Some(RopeDefaults { positions: 4096, ..RopeDefaults::LLAMA });
    let traits = Traits { qkv_bias: bias, o_bias: bias, eps: 1e-5, qk_norm, rope, ..Traits::LLAMA };
    let mut spec = build(keys, traits)?;
    let width = keys.size(&["intermediate_size"])?;
    let experts = Experts::new(keys.size_or(&COUNT, 64)?, keys.size_or(&CHOSEN, 8)?, width).normed(keys, false)?;
    let clip = keys.number_or_null("clip_qkv", 0.0)?;
    spec.each_attention(|_, attention| attention.clip = clip);
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// An expert that every token goes through, of so many times the width; none where the config has none.
pub(super) fn shared(
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
    let qk_norm = Some((QkNorm::Head, ["q_norm", "k_norm"]));
    let traits = Traits { qkv_bias: bias, o_bias: bias, qk_norm, ..Traits::LLAMA };
    let mut spec = build(keys, traits)?;
    let first = keys.get("max_window_layers").and_then(serde_json::Value::as_u64).unwrap_or(62) as usize;
    let window = keys.size_maybe(&["sliding_window"])?;
    spec.set_windows(&keys.windows(spec.blocks.len(), window, |layer| layer >= first)?);
    let width = keys.size(&["moe_intermediate_size"])?;
    let experts = Experts::new(keys.size(&COUNT)?, keys.size(&CHOSEN)?, width);
    let mut experts = experts.sigmoid(keys, false, [1, 1], 1.0)?;
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
        qk_norm: normed.then_some((QkNorm::Head, ["q_norm", "k_norm"])),
        rope: Some(rope),
        ..Traits::LLAMA
    };
    let mut spec = build(keys, traits)?;
    let width = keys.size_or(&["moe_intermediate_size"], 1408)?;
    let experts = Experts::new(keys.size_or(&COUNT, 128)?, keys.size_or(&CHOSEN, 8)?, width);
    let mut experts = experts.sigmoid(keys, true, [1, 1], 1.0)?;
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
    (experts.router, experts.linear_router) = ("mlp.gate.wg", true);
    experts.shared = Some(("mlp.shared_mlp.", width, None));
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// `lfm2_moe`: LFM2 with experts behind its first blocks; sigmoids with a bias for the choice.
pub(super) fn lfm2(keys: &Keys) -> Result<ModelSpec> {
    let (mut spec, traits) = super::lfm2::decoder(keys, keys.size_or(&["intermediate_size"], 7168)?)?;
    let width = keys.size_or(&["moe_intermediate_size"], 1792)?;
    let experts = Experts::new(keys.size_or(&COUNT, 32)?, keys.size_or(&CHOSEN, 4)?, width).normed(keys, true)?;
    let routing = Routing {
        scores: Scores::Sigmoid,
        floor: experts.routing.floor.map(|_| 1e-6),
        scale: keys.number_or("routed_scaling_factor", 1.0)? as f32,
        ..SOFTMAX
    };
    let experts = Experts {
        router: "feed_forward.gate",
        module: "feed_forward.experts",
        expert: "feed_forward.experts.{}.",
        up: traits.up,
        down: traits.down,
        routing,
        bias: keys.flag_or("use_expert_bias", true)?.then_some("feed_forward.expert_bias"),
        converted: false,
        ..experts
    };
    let dense = keys.get("num_dense_layers").and_then(serde_json::Value::as_u64).unwrap_or(2) as usize;
    experts.put(keys, &mut spec, &traits, |layer| layer >= dense)?;
    Ok(spec)
}

/// Granite's experts, in two parameters, which always weigh 1 together.
fn of_granite(count: usize, chosen: usize, width: usize) -> Experts {
    let up = "block_sparse_moe.input_linear";
    Experts {
        router: "block_sparse_moe.router.layer",
        class_router: Some("block_sparse_moe.router"),
        module: "block_sparse_moe.experts",
        stack: Some(Stack { up, down: "block_sparse_moe.output_linear", transposed: false }),
        converted: false,
        ..Experts::new(count, chosen, width)
    }
}

/// `granitemoe`.
pub(super) fn granitemoe(keys: &Keys) -> Result<ModelSpec> {
    let (mut spec, traits) = super::granite::decoder(keys, None)?;
    let width = keys.size(&["intermediate_size"])?;
    let experts = of_granite(keys.size_or(&COUNT, 8)?, keys.size_or(&CHOSEN, 2)?, width);
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// `granitemoehybrid`: Granite 4; Mamba-2 in most blocks, an MLP that every token goes through, and experts beside it where there are any.
pub(super) fn granitemoehybrid(keys: &Keys) -> Result<ModelSpec> {
    let shared = keys.size_or(&["shared_intermediate_size"], 1024)?;
    let (mut spec, traits) = super::granite::decoder(keys, Some(shared))?;
    let (layers, hidden) = (spec.blocks.len(), spec.hidden);
    let kinds = keys.kinds("layer_types", layers, &["full_attention", "linear_attention"], |_| "linear_attention")?;
    let eps = keys.number_or("rms_norm_eps", 1e-6)? as f32;
    let inner = keys.size_or(&["mamba_expand"], 2)?.saturating_mul(hidden);
    let mamba = Mamba::read(keys, [128, 0, 1, 256, 4], inner, eps)?;
    spec.put_mixers(
        &traits,
        |layer| kinds[layer] == "linear_attention",
        |m| Ok(Mixer::Recurrence(mamba.spec(m, "mamba.", hidden))),
    )?;
    let count = match keys.get("num_local_experts").map(serde_json::Value::as_u64) {
        Some(Some(0)) => return Ok(spec),
        _ => keys.size_or(&["num_local_experts"], 8)?,
    };
    let width = keys.size(&["intermediate_size"])?;
    let experts = Experts {
        shared: Some((traits.mlp, shared, None)),
        shared_names: (traits.up, traits.down),
        ..of_granite(count, keys.size_or(&CHOSEN, 2)?, width)
    };
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}

/// `ernie4_5_moe`: the choice is by probabilities and a bias.
pub(super) fn ernie4_5(keys: &Keys) -> Result<ModelSpec> {
    let traits = super::ernie4_5::traits(keys, super::build::HeadDim::Share)?;
    // Its head has a bias where its linear layers have one.
    let traits = Traits { head_bias: traits.mlp_bias, ..traits };
    let mut spec = build(keys, traits)?;
    let width = keys.size_or(&["moe_intermediate_size"], 1536)?;
    let mut experts = Experts::new(keys.size_or(&COUNT, 64)?, keys.size_or(&CHOSEN, 6)?, width);
    experts.routing.floor = Some(keys.number_or("moe_norm_min", 1e-12)? as f32);
    experts.bias = Some("mlp.moe_statics.e_score_correction_bias");
    experts.shared = shared(keys, "moe_num_shared_experts", 2, width)?;
    let number = |key: &str, default: i64| keys.get(key).and_then(serde_json::Value::as_i64).unwrap_or(default);
    let (first, last) = (number("moe_layer_start_index", 1), number("moe_layer_end_index", -1));
    // -1 is the last block.
    let last = if last == -1 { spec.blocks.len() as i64 - 1 } else { last };
    let step = keys.size_or(&["moe_layer_interval"], 1)?;
    let has = |layer: usize| (layer + 1).is_multiple_of(step) && (first..=last).contains(&(layer as i64));
    experts.put(keys, &mut spec, &traits, has)?;
    Ok(spec)
}

/// `gpt_oss`: sinks, windows in every other block, a clamped SwiGLU, biases everywhere, experts in transposed parameters.
pub(super) fn gpt_oss(keys: &Keys) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", true)?;
    let rope = RopeDefaults { theta: 150_000.0, positions: 131_072, ..RopeDefaults::LLAMA };
    let traits = Traits {
        qkv_bias: bias,
        o_bias: bias,
        eps: 1e-5,
        head_dim: super::build::HeadDim::Is(64),
        rope: Some(rope),
        ..Traits::LLAMA
    };
    let usual = serde_json::json!({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
        "original_max_position_embeddings": 4096});
    let sizes = super::build::Sizes::read(keys, &traits)?;
    let rope = keys.rope_or(&usual, sizes.head_dim, &rope)?;
    let mut spec = super::build::build_with(keys, &traits, &sizes, vec![rope])?;
    let window = Some(keys.size_or(&["sliding_window"], 128)?);
    spec.set_windows(&keys.windows(sizes.layers, window, |layer| layer.is_multiple_of(2))?);
    let stem = spec.embedding.name.strip_suffix(traits.embedding).unwrap_or_default().to_owned();
    spec.each_attention(|layer, attention| {
        attention.sinks = Some(format!("{stem}layers.{layer}.self_attn.sinks"));
    });
    let numbers = [keys.number_or("swiglu_alpha", 1.702)?, keys.number_or("swiglu_limit", 7.0)?];
    let width = keys.size_or(&["intermediate_size"], 2880)?;
    let experts = Experts {
        router: "mlp.router",
        stack: Some(Stack { transposed: true, ..OWN }),
        biased: true,
        converted: false,
        clamped: Some(numbers.map(|number| number as f32)),
        ..Experts::new(keys.size_or(&COUNT, 128)?, keys.size_or(&CHOSEN, 4)?, width)
    };
    experts.put(keys, &mut spec, &traits, |_| true)?;
    Ok(spec)
}
