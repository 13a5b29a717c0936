//! TRL's SFTTrainer with PEFT: `train.py` reads `job.json`.

use super::data::{ADAPTER, EVAL, TRAIN};
use super::engine::{Engine, Entry};
use super::plan::{Plan, bf16};
use super::{Difference, File};
use crate::error::Result;
use crate::quant::QuantType;
use serde_json::{Value, json};

pub(super) static ENGINE: Engine = Engine {
    name: "trl",
    title: "TRL",
    requirements: &[
        "torch==2.15.0",
        "transformers==5.24.0",
        "trl==1.16.0",
        "peft==0.21.2",
        "accelerate==1.15.0",
        "datasets==5.2.0",
        "bitsandbytes==0.50.2; platform_system != 'Darwin'",
        "tensorboard==2.21.0",
        "deepspeed==0.19.8; platform_system == 'Linux'",
    ],
    shards: true,
    entry: Entry::Script("train.py"),
    overrides: ["--rank ", "--alpha ", "--lr ", "--seed ", "--out "],
    whole_alpha: false,
    check: |_| Ok(()),
    files,
    differs: |_| Vec::<Difference>::new(),
};

fn files(plan: &Plan) -> Result<Vec<File>> {
    Ok(vec![File::json("job.json", &job(plan)), File::new("train.py", include_str!("templates/trl.py"))])
}

/// What the scripts of TRL and Unsloth read.
pub(super) fn job(plan: &Plan) -> Value {
    let s = plan.settings;
    let quant = s.scheme().map(|scheme| {
        let quant_type = if scheme.quant_type == QuantType::Fp4 { "fp4" } else { "nf4" };
        json!({"type": quant_type, "double": scheme.double_quant})
    });
    let mut arguments = plan.arguments();
    let evaluates = s.eval_data.is_some() || s.eval_every > 0;
    if s.eval_every > 0 {
        (arguments["eval_strategy"], arguments["eval_steps"]) = (json!("steps"), json!(s.eval_every));
    }
    let adapter = match &s.init_adapter {
        _ if plan.job.initial_adapter => Some(ADAPTER.to_owned()),
        Some(path) => Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()).to_string_lossy().into_owned()),
        None => None,
    };
    json!({
        "model": plan.model,
        "data": TRAIN,
        "eval": evaluates.then_some(EVAL),
        "texts": plan.job.texts,
        "seq": s.seq,
        "bf16": bf16(s),
        "quant": quant,
        "lora": plan.lora,
        "initial_adapter": adapter,
        "warmup_from_one": s.warmup > 0,
        "block": plan.block,
        "arguments": arguments,
    })
}
