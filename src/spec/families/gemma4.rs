//! Gemma 4: two sizes of heads, keys and values of earlier blocks, per-layer inputs.

use super::build::{HeadDim, Modules, QkNorm, Sizes, Traits, build_with, mlp};
use super::experts::{Experts, OWN};
use super::keys::{Keys, RopeDefaults};
use crate::error::Result;
use crate::spec::{
    ExpertNorms, FeedForward, Mixer, MlpSpec, ModelSpec, NormSpec, PerLayerInputs, PerLayerSpec, Role, SharedSpec,
};

/// `gemma4_text`.
pub(super) fn gemma4(keys: &Keys) -> Result<ModelSpec> {
    decoder(keys, 512, 256)
}

/// `gemma4_unified_text`: without per-layer inputs and experts (Gemma 4 12B).
pub(super) fn unified(keys: &Keys) -> Result<ModelSpec> {
    decoder(keys, 1024, 0)
}

/// With this window and this width of per-layer inputs where the config is silent.
fn decoder(keys: &Keys, window: usize, inputs: usize) -> Result<ModelSpec> {
    let bias = keys.flag_or("attention_bias", false)?;
    let full = RopeDefaults {
        theta: 1e6,
        partial_key: Some("partial_rotary_factor"),
        positions: 131_072,
        shared: false,
        ..RopeDefaults::LLAMA
    };
    let traits = Traits {
        qkv_bias: bias,
        o_bias: bias,
        norms: Traits::SANDWICH,
        qk_norm: Some((QkNorm::Head, ["q_norm", "k_norm"])),
        head_dim: HeadDim::Is(256),
        activation: ("hidden_activation", "gelu_pytorch_tanh"),
        tied: true,
        rope: Some(full),
        ..Traits::LLAMA
    };
    let local = Sizes::read(keys, &traits)?;
    let layers = local.layers;
    let rule = |layer: usize| if (layer + 1).is_multiple_of(6) { "full_attention" } else { "sliding_attention" };
    let mut kinds = keys.kinds("layer_types", layers, &["full_attention", "sliding_attention"], rule)?;
    kinds[layers - 1] = "full_attention";
    let is_full = |layer: usize| kinds[layer] == "full_attention";
    let k_is_v = keys.flag_or("attention_k_eq_v", false)?;
    let global = global(keys, &local, k_is_v, (0..layers).find(|layer| is_full(*layer)))?;
    let parameters = keys.get("rope_parameters");
    let mut of_full = keys.rope(Some("full_attention"), global.head_dim, &full)?;
    if parameters.is_none() {
        of_full = crate::spec::Rope::proportional(1e6, global.head_dim, 0.25, 1.0);
    }
    let ropes =
        vec![of_full, keys.rope(Some("sliding_attention"), local.head_dim, &RopeDefaults { theta: 1e4, ..full })?];
    let mut spec = build_with(keys, &traits, &local, ropes.clone())?;
    let mut wide = build_with(keys, &traits, &global, ropes)?;
    for layer in (0..layers).filter(|layer| is_full(*layer)) {
        spec.blocks[layer].mixer = wide.blocks[layer].mixer.take();
    }
    let window = keys.size_or(&["sliding_window"], window)?;
    spec.each_attention(|layer, attention| {
        (attention.rope, attention.scale) = (Some(usize::from(!is_full(layer))), 1.0);
        attention.window = (!is_full(layer)).then_some(window);
        attention.v_norm = attention.k_norm.as_ref().map(|norm| {
            let name = norm.name.replace("k_norm", "v_norm");
            NormSpec { name, weight: false, ..norm.clone() }
        });
        attention.keys_are_values = k_is_v && is_full(layer);
        if attention.keys_are_values {
            attention.projections.truncate(2);
        }
    });
    let shared = keys.get("num_kv_shared_layers").and_then(serde_json::Value::as_u64).unwrap_or(0) as usize;
    share(keys, &mut spec, layers.saturating_sub(shared), &kinds)?;
    let doubled = keys.flag_or("use_double_wide_mlp", false)?;
    let (hidden, embedding) = (spec.hidden, spec.embedding.clone());
    for (layer, block) in spec.blocks.iter_mut().enumerate() {
        let m = Modules::of(&embedding, &traits, layer);
        let reads = block.attention().is_some_and(|attention| attention.reads_keys_of.is_some());
        if doubled
            && reads
            && let Some(FeedForward::Dense(dense)) = &block.ffn
        {
            block.ffn = Some(FeedForward::Dense(mlp(&m, &traits, dense.activation, hidden, 2 * dense.width)));
        }
        block.scalar = Some(m.name("layer_scalar"));
    }
    if keys.flag_or("enable_moe_block", false)? {
        experts(keys, &mut spec, &traits)?;
    } else {
        for key in ["num_experts", "moe_intermediate_size", "num_local_experts"] {
            keys.get(key);
        }
    }
    if keys.text("use_bidirectional_attention") == Some("vision") || keys.wrapped() {
        // Images alone see both ways.
        keys.get("use_bidirectional_attention");
    }
    per_layer(keys, &mut spec, &traits, inputs)?;
    spec.embedding_scale = (spec.hidden as f32).sqrt();
    spec.logit_cap = keys.number_or_null("final_logit_softcapping", 0.0)?;
    Ok(spec)
}

/// Sizes of the blocks that see everything: heads of their own width and number.
fn global(keys: &Keys, local: &Sizes, k_is_v: bool, first: Option<usize>) -> Result<Sizes> {
    let per_layer = keys.get("per_layer_config").and_then(|all| all.get(first?.to_string()));
    let of = |key: &str| per_layer.and_then(|own| own.get(key)).and_then(serde_json::Value::as_u64);
    let given = keys.size_or(&["global_head_dim"], 512)?;
    let fewer = keys.size_maybe(&["num_global_key_value_heads"])?.filter(|_| k_is_v);
    let head_dim = of("head_dim").map_or(given, |x| x as usize);
    let kv_heads = of("num_key_value_heads").map_or(fewer.unwrap_or(local.kv_heads), |x| x as usize);
    if head_dim == 0 || head_dim > 1 << 16 || kv_heads == 0 || !local.heads.is_multiple_of(kv_heads) {
        return Err(keys.wrong(format!("found heads of {head_dim} with {kv_heads} keys for {}", local.heads)));
    }
    Ok(Sizes { head_dim, kv_heads, ..*local })
}

/// Blocks from `first` on read keys and values of the last block before them that is of their kind.
fn share(keys: &Keys, spec: &mut ModelSpec, first: usize, kinds: &[&str]) -> Result<()> {
    for layer in first..spec.blocks.len() {
        let source = (0..first).rev().find(|source| kinds[*source] == kinds[layer]);
        let source = source.ok_or_else(|| keys.wrong("found blocks that share keys of a kind that no other has"))?;
        if let Some(Mixer::Attention(attention)) = &mut spec.blocks[source].mixer {
            attention.shares_keys = true;
        }
        if let Some(Mixer::Attention(attention)) = &mut spec.blocks[layer].mixer {
            attention.projections.truncate(1);
            (attention.k_norm, attention.v_norm, attention.keys_are_values) = (None, None, false);
            attention.reads_keys_of = Some(source);
        }
    }
    Ok(())
}

/// Experts beside the MLP of every block: they and their router read the stream through norms of their own.
fn experts(keys: &Keys, spec: &mut ModelSpec, traits: &Traits) -> Result<()> {
    let width = keys.size(&["moe_intermediate_size"])?;
    let experts = Experts {
        router: "router.proj",
        module: "experts",
        stack: Some(OWN),
        converted: false,
        linear_router: true,
        ..Experts::new(keys.size(&["num_experts"])?, keys.size(&["top_k_experts"])?, width)
    };
    let dense: Vec<Option<MlpSpec>> = spec.blocks.iter().map(|block| block.mlp().cloned()).collect();
    experts.put(keys, spec, traits, |_| true)?;
    let scale = (spec.hidden as f32).powf(-0.5);
    for (layer, (block, dense)) in spec.blocks.iter_mut().zip(dense).enumerate() {
        let m = Modules::of(&spec.embedding, traits, layer);
        let (Some(FeedForward::Experts(experts)), Some(norm)) = (&mut block.ffn, &block.norm_ffn) else { continue };
        let norm = |name: &str| NormSpec { name: m.name(name), ..norm.clone() };
        experts.router.scale = scale;
        experts.routing.scales = Some(m.name("router.per_expert_scale"));
        experts.shared = dense.map(|mlp| SharedSpec { mlp, gate: None });
        experts.norms = Some(ExpertNorms {
            router: norm("router.scale"),
            input: norm("pre_feedforward_layernorm_2"),
            output: norm("post_feedforward_layernorm_2"),
            shared: norm("post_feedforward_layernorm_1"),
        });
    }
    Ok(())
}

/// Per-layer inputs, where there are any.
fn per_layer(keys: &Keys, spec: &mut ModelSpec, traits: &Traits, width: usize) -> Result<()> {
    let width = match keys.get("hidden_size_per_layer_input").and_then(serde_json::Value::as_u64) {
        Some(0) => 0,
        Some(_) => keys.size(&["hidden_size_per_layer_input"])?,
        None => width,
    };
    if width == 0 {
        return Ok(());
    }
    let vocab = keys.size_or(&["vocab_size_per_layer_input"], 262_144)?;
    if vocab < spec.vocab {
        keys.refuse(format!(
            "vocab_size_per_layer_input {vocab} below the vocabulary of {} is not supported",
            spec.vocab
        ));
    }
    let (hidden, layers) = (spec.hidden, spec.blocks.len());
    let activation = keys.activation(traits.activation.0, traits.activation.1);
    let m = Modules::around(&spec.embedding, traits);
    let norm = |name: String, width: usize| spec.norm.as_ref().map(|norm| NormSpec { name, width, ..norm.clone() });
    let Some(of_inputs) = norm(m.name("per_layer_projection_norm"), width) else { return Ok(()) };
    let mut projection = m.linear("per_layer_model_projection", Role::Other, [layers * width, hidden], false);
    projection.scale = (hidden as f32).powf(-0.5);
    let mut parts = Vec::with_capacity(layers);
    for layer in 0..layers {
        let m = Modules::of(&spec.embedding, traits, layer);
        let Some(norm) = norm(m.name("post_per_layer_input_norm"), hidden) else { return Ok(()) };
        parts.push(PerLayerSpec {
            gate: m.linear("per_layer_input_gate", Role::Other, [width, hidden], false),
            projection: m.linear("per_layer_projection", Role::Other, [hidden, width], false),
            norm,
            activation,
            first: layer * width,
        });
    }
    for (block, part) in spec.blocks.iter_mut().zip(parts) {
        block.per_layer = Some(part);
    }
    spec.per_layer = Some(PerLayerInputs {
        table: m.table("embed_tokens_per_layer", Role::Embedding, [vocab, layers * width], false),
        scale: (width as f32).sqrt(),
        projection,
        norm: of_inputs,
    });
    Ok(())
}
