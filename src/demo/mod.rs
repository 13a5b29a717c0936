//! The bundled sample: a small Llama-shaped base model, a tuned version and an adapter, with planted ranks.
//!
//! The weights are seeded noise and no language model: the sample is there so that spectra, ranks and counts have
//! something known to show. Every ΔW is `smooth low-rank signal + noise`, its rank and decay chosen by block and role,
//! so that a person can see whether a rule finds what was planted.

mod factors;
mod write;

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;

use write::{Stored, Tensors};

/// Changes whenever other bytes would be generated: an older folder is then not used.
const VERSION: u32 = 1;
const SEED: u64 = 7;

const HIDDEN: usize = 256;
const FFN: usize = 688;
const LAYERS: usize = 6;
const HEADS: usize = 8;
const KV: usize = 4;
const VOCAB: usize = 512;
const ADAPTER_RANK: usize = 16;
const ADAPTER_ALPHA: usize = 32;

/// Where the sample lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The base model's folder.
    pub base: PathBuf,
    /// The tuned model's folder.
    pub tuned: PathBuf,
    /// The adapter's folder.
    pub adapter: PathBuf,
}

/// Rank planted in a linear layer's ΔW: later blocks and the feed-forward part get more.
pub fn planted_rank(layer: usize, projection: &str) -> usize {
    let by_role = match projection {
        "q_proj" | "k_proj" => 4,
        "v_proj" | "o_proj" => 6,
        _ => 10,
    };
    by_role + 2 * layer
}

/// The sample under `dir`, generated there first unless it is there already.
///
/// # Errors
/// When the folder cannot be written, or the work is cancelled.
pub fn sample(dir: &Path, progress: &dyn Progress) -> Result<Sample> {
    let root = dir.join(format!("sample-{VERSION}"));
    let names = Sample {
        base: root.join("sample-llama"),
        tuned: root.join("sample-llama-tuned"),
        adapter: root.join("sample-llama-adapter"),
    };
    if root.is_dir() {
        return Ok(names);
    }
    // Built beside its place and moved there when it is whole: a half-written sample is never opened.
    std::fs::create_dir_all(dir).map_err(|e| Error::write(dir, &e))?;
    let building = tempfile::Builder::new().prefix(".sample-").tempdir_in(dir).map_err(|e| Error::write(dir, &e))?;
    let at = |folder: &Path| building.path().join(folder.file_name().unwrap_or_default());
    build(&at(&names.base), &at(&names.tuned), &at(&names.adapter), progress)?;
    match std::fs::rename(building.path(), &root) {
        Ok(()) => Ok(names),
        // Another start of the program was faster.
        Err(_) if root.is_dir() => Ok(names),
        Err(error) => Err(Error::write(&root, &error)),
    }
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

fn build(base: &Path, tuned: &Path, adapter: &Path, progress: &dyn Progress) -> Result<()> {
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
    })
}

fn adapter_config() -> Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "../sample-llama",
        "r": ADAPTER_RANK, "lora_alpha": ADAPTER_ALPHA, "target_modules": ["q_proj", "v_proj"], "use_rslora": false,
        "rank_pattern": {}, "alpha_pattern": {}, "fan_in_fan_out": false, "bias": "none", "lora_dropout": 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_each_time() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (sample(one.path(), &()).unwrap(), sample(two.path(), &()).unwrap());
        for (a, b, file) in [
            (&a.base, &b.base, "model.safetensors"),
            (&a.tuned, &b.tuned, "model.safetensors"),
            (&a.adapter, &b.adapter, "adapter_model.safetensors"),
        ] {
            assert_eq!(std::fs::read(a.join(file)).unwrap(), std::fs::read(b.join(file)).unwrap());
        }
        assert_eq!(sample(one.path(), &()).unwrap(), a);
    }

    #[test]
    fn a_cancelled_build_leaves_nothing() {
        struct Stop;
        impl Progress for Stop {
            fn step(&self, done: u64, _: u64) -> Result<()> {
                if done < 3 { Ok(()) } else { Err(Error::Cancelled) }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(sample(dir.path(), &Stop).unwrap_err().is_cancelled());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
