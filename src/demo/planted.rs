//! Planted ranks: a small Llama-shaped base model, a tuned version and an adapter, with planted ranks.
//!
//! The weights are seeded noise and no language model: the sample is there so that spectra, ranks and counts have
//! something known to show. Every ΔW is `smooth low-rank signal + noise`, its rank and decay chosen by block and role,
//! so that a person can see whether a rule finds what was planted.

use std::path::Path;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::Progress;

use super::factors;
use super::write::{Stored, Tensors};

const SEED: u64 = 7;

const HIDDEN: usize = 256;
const FFN: usize = 688;
const LAYERS: usize = 6;
const HEADS: usize = 8;
const KV: usize = 4;
pub const VOCAB: usize = 512;
const ADAPTER_RANK: usize = 16;
const ADAPTER_ALPHA: usize = 32;

/// Rank planted in a linear layer's ΔW: later blocks and the feed-forward part get more.
pub fn planted_rank(layer: usize, projection: &str) -> usize {
    let by_role = match projection {
        "q_proj" | "k_proj" => 4,
        "v_proj" | "o_proj" => 6,
        _ => 10,
    };
    by_role + 2 * layer
}

struct Linear {
    layer: usize,
    projection: &'static str,
    name: String,
    out: usize,
    input: usize,
}

fn linears() -> Vec<Linear> {
    let kv = HIDDEN / HEADS * KV;
    (0..LAYERS)
        .flat_map(|layer| {
            [
                ("self_attn.q_proj", HIDDEN, HIDDEN),
                ("self_attn.k_proj", kv, HIDDEN),
                ("self_attn.v_proj", kv, HIDDEN),
                ("self_attn.o_proj", HIDDEN, HIDDEN),
                ("mlp.gate_proj", FFN, HIDDEN),
                ("mlp.up_proj", FFN, HIDDEN),
                ("mlp.down_proj", HIDDEN, FFN),
            ]
            .map(|(part, out, input)| Linear {
                layer,
                projection: part.rsplit('.').next().unwrap_or(part),
                name: format!("model.layers.{layer}.{part}"),
                out,
                input,
            })
        })
        .collect()
}

/// Writes the three folders.
pub fn build(base: &Path, tuned: &Path, adapter: &Path, progress: &dyn Progress) -> Result<()> {
    let linears = linears();
    let total = linears.len() as u64 + 1;
    let mut stored: [Tensors; 3] = Default::default();
    for (index, linear) in linears.iter().enumerate() {
        progress.step(index as u64, total)?;
        let mut rng = StdRng::seed_from_u64(SEED + index as u64);
        let w = factors::base(&mut rng, linear.out, linear.input);
        let signal = factors::signal(&mut rng, linear.out, linear.input, planted_rank(linear.layer, linear.projection));
        let noise = factors::noise(&mut rng, linear.out, linear.input, 1.5e-4);
        let sum = w.data().par_iter().zip(signal.data()).zip(noise.data()).map(|((w, s), n)| w + s + n).collect();
        let key = format!("{}.weight", linear.name);
        stored[1].push(key.clone(), Stored::half(&Matrix::new(linear.out, linear.input, sum)?));
        stored[0].push(key, Stored::half(&w));
        if matches!(linear.projection, "q_proj" | "v_proj") {
            let rank = planted_rank(linear.layer, linear.projection).min(ADAPTER_RANK);
            let (b, a) = factors::adapter(&mut rng, linear.out, linear.input, ADAPTER_RANK, rank);
            let key = format!("base_model.model.{}", linear.name);
            stored[2].push(format!("{key}.lora_A.weight"), Stored::single(&a));
            stored[2].push(format!("{key}.lora_B.weight"), Stored::single(&b));
        }
    }
    let mut rng = StdRng::seed_from_u64(SEED + linears.len() as u64);
    let table = Stored::half(&factors::base(&mut rng, VOCAB, HIDDEN));
    let ones = || Stored::half(&Matrix::from_fn(1, HIDDEN, |_, _| 1.0)).vector();
    for tensors in &mut stored[..2] {
        tensors.push("model.embed_tokens.weight".into(), table.clone());
        for layer in 0..LAYERS {
            tensors.push(format!("model.layers.{layer}.input_layernorm.weight"), ones());
            tensors.push(format!("model.layers.{layer}.post_attention_layernorm.weight"), ones());
        }
        tensors.push("model.norm.weight".into(), ones());
    }
    let [base_tensors, tuned_tensors, adapter_tensors] = stored;
    base_tensors.write(base, "model.safetensors", "config.json", &model_config())?;
    tuned_tensors.write(tuned, "model.safetensors", "config.json", &model_config())?;
    adapter_tensors.write(adapter, "adapter_model.safetensors", "adapter_config.json", &adapter_config())?;
    progress.step(total, total)
}

fn model_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
        "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HIDDEN / HEADS,
        "vocab_size": VOCAB, "max_position_embeddings": 512, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "tie_word_embeddings": true,
        "bos_token_id": 0, "eos_token_id": 0,
    })
}

fn adapter_config() -> Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "../tales-2m",
        "r": ADAPTER_RANK, "lora_alpha": ADAPTER_ALPHA, "target_modules": ["q_proj", "v_proj"], "use_rslora": false,
        "rank_pattern": {}, "alpha_pattern": {}, "fan_in_fan_out": false, "bias": "none", "lora_dropout": 0.0,
    })
}
