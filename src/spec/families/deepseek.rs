//! DeepSeek V2 and V3 and those after them: attention from latents, mixtures of experts.

use super::build::{HeadDim, Modules, Sizes, Traits, build_with};
use super::experts::{CHOSEN, COUNT, Experts, SOFTMAX, shared};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{LatentSpec, ModelSpec, NormKind, NormSpec, QueryScaling, Role, Routing};
use serde_json::{Value, json};

/// ε of the latents' norms, which is no setting.
const EPS: f32 = 1e-6;

/// What differs between them.
struct Latents {
    positions: usize,
    eps: f64,
    theta: f64,
    /// Ranks of the latents of queries and of keys and values.
    ranks: [usize; 2],
    /// Widths of a head: the key's own part, the turning one, the value.
    widths: [usize; 3],
    /// Older configs do not say whether neighbours turn together.
    interleave_key: bool,
    /// What `rope_parameters` is where it is missing.
    rope: Value,
}

/// The decoder with its attention, and MLPs everywhere.
fn decoder(keys: &Keys, of: &Latents) -> Result<(ModelSpec, Traits, Sizes)> {
    let bias = keys.flag_or("attention_bias", false)?;
    let rope_width = keys.size_or(&["qk_rope_head_dim"], of.widths[1])?;
    let nope = keys.size_or(&["qk_nope_head_dim"], of.widths[0])?;
    let value = keys.size_or(&["v_head_dim"], of.widths[2])?;
    let interleaved = !of.interleave_key || keys.flag_or("rope_interleave", true)?;
    let rope = RopeDefaults { theta: of.theta, positions: of.positions, interleaved, ..RopeDefaults::LLAMA };
    let traits = Traits {
        o_bias: bias,
        mlp_bias: keys.flag_or("mlp_bias", false)?,
        eps: of.eps,
        head_dim: HeadDim::Is(nope + rope_width),
        rope: Some(rope),
        ..Traits::LLAMA
    };
    let mut sizes = Sizes::read(keys, &traits)?;
    (sizes.head_dim, sizes.kv_heads) = (nope + rope_width, sizes.heads);
    let most = 1usize << 24;
    if sizes.heads.saturating_mul(nope + rope_width.max(value)) > most {
        return Err(
            keys.wrong(format!("{} heads of {nope}, {rope_width} and {value} are larger than any model", sizes.heads))
        );
    }
    let rope = keys.rope_or(&of.rope, rope_width, &rope)?;
    let mut spec = build_with(keys, &traits, &sizes, vec![rope])?;
    let q_rank = if keys.holds_null("q_lora_rank") { None } else { Some(keys.size_or(&["q_lora_rank"], of.ranks[0])?) };
    let rank = keys.size_or(&["kv_lora_rank"], of.ranks[1])?;
    let (hidden, heads, embedding) = (sizes.hidden, sizes.heads, spec.embedding.clone());
    let scale = scale(keys, of, sizes.head_dim);
    spec.each_attention(|layer, attention| {
        let m = Modules::of(&embedding, &traits, layer);
        let linear = |name: &str, role, shape, bias| m.linear(&format!("self_attn.{name}"), role, shape, bias);
        let norm = |name: &str, width: usize| NormSpec {
            name: m.name(&format!("self_attn.{name}")),
            kind: NormKind::Rms,
            width,
            copies: 1,
            eps: EPS,
            plus_one: false,
            weight: true,
            bias: false,
        };
        let queries = heads * (nope + rope_width);
        let q = q_rank.map(|rank| (linear("q_a_proj", Role::Q, [rank, hidden], bias), norm("q_a_layernorm", rank)));
        let q_out = match q_rank {
            Some(rank) => linear("q_b_proj", Role::Q, [queries, rank], false),
            None => linear("q_proj", Role::Q, [queries, hidden], false),
        };
        attention.latent = Some(LatentSpec {
            q,
            q_out,
            kv: linear("kv_a_proj_with_mqa", Role::Kv, [rank + rope_width, hidden], bias),
            kv_norm: norm("kv_a_layernorm", rank),
            kv_out: linear("kv_b_proj", Role::Kv, [heads * (nope + value), rank], false),
        });
        attention.projections = Vec::new();
        attention.o = linear("o_proj", Role::O, [hidden, heads * value], bias);
        (attention.value_dim, attention.rope_offset, attention.scale) = (value, nope, scale);
    });
    for key in ["qk_head_dim", "head_dim", "num_key_value_heads", "partial_rotary_factor", "moe_intermediate_size"] {
        keys.get(key);
    }
    Ok((spec, traits, sizes))
}

/// `d^(−1/2)`, times the square of what yarn's `mscale_all_dim` makes of the factor.
fn scale(keys: &Keys, of: &Latents, head_dim: usize) -> f32 {
    let parameters = keys.get("rope_parameters").or_else(|| keys.get("rope_scaling")).unwrap_or(&of.rope);
    let kind = parameters.get("rope_type").or_else(|| parameters.get("type")).and_then(Value::as_str);
    let number = |key: &str| parameters.get(key).and_then(Value::as_f64);
    let plain = (head_dim as f64).powf(-0.5);
    let all = number("mscale_all_dim").filter(|all| *all != 0.0 && kind.is_some_and(|kind| kind != "default"));
    match (all, number("factor")) {
        (Some(all), Some(factor)) if factor > 1.0 => (plain * (0.1 * all * factor.ln() + 1.0).powi(2)) as f32,
        _ => plain as f32,
    }
}

/// Blocks after the first few.
fn after(keys: &Keys, default: u64) -> usize {
    keys.get("first_k_dense_replace").and_then(Value::as_u64).unwrap_or(default) as usize
}

/// `deepseek_v2`: probabilities, which are not divided by their sum.
pub(super) fn v2(keys: &Keys) -> Result<ModelSpec> {
    let of = Latents {
        positions: 2048,
        eps: 1e-6,
        theta: 1e4,
        ranks: [1536, 512],
        widths: [128, 64, 128],
        interleave_key: false,
        rope: json!({"rope_type": "default"}),
    };
    let (mut spec, traits, _) = decoder(keys, &of)?;
    let width = keys.size_or(&["moe_intermediate_size"], 1407)?;
    let mut experts = Experts::new(keys.size_or(&COUNT, 64)?, keys.size(&CHOSEN)?, width);
    let scale = keys.number_or("routed_scaling_factor", 1.0)? as f32;
    experts.routing = Routing { scale, ..SOFTMAX };
    keys.flag_or("norm_topk_prob", false)?;
    match keys.text("topk_method").unwrap_or("greedy") {
        "greedy" => {}
        "group_limited_greedy" => {
            let scale = f64::from(scale);
            experts = experts.grouped(keys, [1, 1], scale)?;
            experts.routing.group_by = 1;
        }
        other => keys.refuse(format!("topk_method {other:?}; supported are greedy, group_limited_greedy")),
    }
    experts.shared = shared(keys, "n_shared_experts", 2, width)?;
    let dense = after(keys, 0);
    experts.put(keys, &mut spec, &traits, |layer| layer >= dense)?;
    Ok(spec)
}

/// `deepseek_v3`.
pub(super) fn v3(keys: &Keys) -> Result<ModelSpec> {
    let of = Latents {
        positions: 4096,
        eps: 1e-6,
        theta: 1e4,
        ranks: [1536, 512],
        widths: [128, 64, 128],
        interleave_key: true,
        rope: json!({"rope_type": "default"}),
    };
    let (mut spec, traits, _) = decoder(keys, &of)?;
    let width = keys.size_or(&["moe_intermediate_size"], 2048)?;
    let experts = Experts::new(keys.size_or(&COUNT, 256)?, keys.size_or(&CHOSEN, 8)?, width);
    let mut experts = experts.sigmoid(keys, true, [8, 4], 2.5)?;
    experts.shared = shared(keys, "n_shared_experts", 1, width)?;
    let dense = after(keys, 3);
    experts.put(keys, &mut spec, &traits, |layer| layer >= dense)?;
    Ok(spec)
}

/// `glm4_moe_lite`: GLM-4.7-Flash; a list says which blocks have experts.
pub(super) fn glm4_moe_lite(keys: &Keys) -> Result<ModelSpec> {
    let of = Latents {
        positions: 202_752,
        eps: 1e-5,
        theta: 1e4,
        ranks: [768, 512],
        widths: [192, 64, 256],
        interleave_key: true,
        rope: json!({"rope_type": "default"}),
    };
    let (mut spec, traits, sizes) = decoder(keys, &of)?;
    let width = keys.size_or(&["moe_intermediate_size"], 1536)?;
    let experts = Experts::new(keys.size_or(&COUNT, 64)?, keys.size_or(&CHOSEN, 4)?, width);
    let mut experts = experts.sigmoid(keys, true, [1, 1], 1.8)?;
    experts.shared = shared(keys, "n_shared_experts", 1, width)?;
    let listed = keys.get("mlp_layer_types").and_then(Value::as_array).cloned();
    if let Some(list) = listed.as_ref().filter(|list| list.len() != sizes.layers) {
        return Err(keys.wrong(format!("found {} mlp_layer_types, expected {}", list.len(), sizes.layers)));
    }
    let has = |layer: usize| listed.as_ref().map_or(layer > 0, |list| list[layer] == "sparse");
    experts.put(keys, &mut spec, &traits, has)?;
    Ok(spec)
}

/// `mistral4`: probabilities in groups, queries that grow with their position, experts in two parameters.
pub(super) fn mistral4(keys: &Keys) -> Result<ModelSpec> {
    let of = Latents {
        positions: 1_048_576,
        eps: 1e-6,
        theta: 1e4,
        ranks: [1024, 256],
        widths: [64, 64, 128],
        interleave_key: true,
        rope: json!({"rope_type": "yarn", "factor": 128.0, "original_max_position_embeddings": 8192, "beta_fast": 32.0,
            "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1}),
    };
    let (mut spec, traits, _) = decoder(keys, &of)?;
    let parameters = keys.get("rope_parameters").unwrap_or(&of.rope);
    let number = |key: &str| parameters.get(key).and_then(Value::as_f64);
    if let (Some(beta), Some(original)) = (number("llama_4_scaling_beta"), number("original_max_position_embeddings")) {
        let scaling = QueryScaling { beta: beta as f32, original: original.max(1.0) as usize, shift: 0 };
        spec.each_attention(|_, attention| attention.query_scaling = Some(scaling).filter(|_| beta != 0.0));
    }
    let width = keys.size_or(&["moe_intermediate_size"], 2048)?;
    let experts = Experts::new(keys.size_or(&COUNT, 128)?, keys.size_or(&CHOSEN, 4)?, width);
    let experts = experts.normed(keys, true)?.grouped(keys, [1, 1], 1.0)?;
    let experts = Experts {
        shared: shared(keys, "n_shared_experts", 1, width)?,
        stack: Some(super::experts::OWN),
        converted: false,
        ..experts
    };
    let dense = after(keys, 0);
    experts.put(keys, &mut spec, &traits, |layer| layer >= dense)?;
    Ok(spec)
}
