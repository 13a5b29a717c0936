//! LLaMA-Factory: one YAML, and rows that are tokenized already.

use super::axolotl::yaml;
use super::data::{ADAPTER, EVAL, TRAIN};
use super::engine::{Engine, Entry, warm_up};
use super::plan::{Plan, bf16};
use super::{Difference, File, Strategy};
use crate::error::{Error, Result};
use crate::train::{Init, Method, Quant};
use serde_json::{Value, json};

pub(super) static ENGINE: Engine = Engine {
    name: "llama-factory",
    title: "LLaMA-Factory",
    requirements: &["llamafactory==0.9.5", "bitsandbytes==0.50.2", "deepspeed==0.18.6", "tensorboard==2.21.0"],
    shards: true,
    entry: Entry::Module("llamafactory.launcher", CONFIG),
    overrides: ["lora_rank=", "lora_alpha=", "learning_rate=", "seed=", "output_dir="],
    whole_alpha: true,
    check,
    files,
    differs,
};

const CONFIG: &str = "config.yaml";

fn check(plan: &Plan) -> Result<()> {
    if !plan.settings.rank_pattern.is_empty() {
        return Err(Error::usage("llama-factory has one rank for all modules; expected no rank-pattern, or --for trl"));
    }
    Ok(())
}

fn files(plan: &Plan) -> Result<Vec<File>> {
    let mut files = vec![File::new(CONFIG, yaml(&config(plan), 0))];
    if plan.job.texts {
        let set = |file: &str| json!({"file_name": file.trim_start_matches("data/"), "columns": {"prompt": "prompt", "response": "completion"}});
        let mut sets = json!({"train": set(TRAIN)});
        if evaluates(plan) {
            sets["eval"] = set(EVAL);
        }
        files.push(File::json("data/dataset_info.json", &sets));
    } else {
        files.push(File::new("prepare.py", include_str!("templates/prepare.py")));
    }
    Ok(files)
}

fn evaluates(plan: &Plan) -> bool {
    plan.settings.eval_data.is_some() || plan.settings.eval_every > 0
}

fn config(plan: &Plan) -> Value {
    let s = plan.settings;
    let full = s.method == Method::Full;
    let mut config = json!({
        "model_name_or_path": plan.model,
        "stage": "sft",
        "do_train": true,
        "finetuning_type": if full { "full" } else { "lora" },
        "template": "empty",
        "cutoff_len": s.seq,
        "packing": false,
        "disable_shuffling": true,
        "output_dir": "runs/run",
        "overwrite_output_dir": true,
        "bf16": bf16(s),
    });
    if let (Value::Object(config), Value::Object(arguments)) = (&mut config, plan.arguments()) {
        // It has settings of its own for these.
        config.extend(arguments.into_iter().filter(|(key, _)| key != "gradient_checkpointing"));
    }
    let mut set = |key: &str, value: Value| config[key] = value;
    set("disable_gradient_checkpointing", json!(!s.checkpointing));
    // It asks for a name even where the rows are tokenized already.
    set("dataset", json!("train"));
    set("dataset_dir", json!("data"));
    if !plan.job.texts {
        set("tokenized_path", json!("tokenized"));
    }
    if evaluates(plan) {
        if plan.job.texts {
            set("eval_dataset", json!("eval"));
        }
        if s.eval_every > 0 {
            set("eval_strategy", json!("steps"));
            set("eval_steps", json!(s.eval_every));
        }
    }
    if !full {
        set("lora_rank", json!(s.rank));
        set("lora_alpha", json!(plan.job.engine.alpha(s.alpha()) as u64));
        set("lora_dropout", json!(s.dropout));
        let targets = plan.lora["target_modules"].as_array();
        let targets: Vec<&str> = targets.into_iter().flatten().filter_map(Value::as_str).collect();
        set("lora_target", json!(targets.join(",")));
        for (key, is) in [("use_rslora", s.rslora), ("use_dora", s.dora), ("pissa_init", s.init == Init::Pissa)] {
            if is {
                set(key, json!(true));
            }
        }
        if plan.job.initial_adapter {
            set("adapter_name_or_path", json!(ADAPTER));
        }
    }
    if s.scheme().is_some() {
        set("quantization_bit", json!(4));
        set("quantization_type", json!(if s.quant == Quant::Fp4 { "fp4" } else { "nf4" }));
        set("double_quantization", json!(s.double_quant));
    }
    if plan.job.strategy == Some(Strategy::Zero3) {
        set("deepspeed", json!("ds_zero3.json"));
    }
    config
}

fn differs(plan: &Plan) -> Vec<Difference> {
    let s = plan.settings;
    let mut differs: Vec<Difference> = warm_up(plan).into_iter().collect();
    if s.init == Init::Loftq {
        differs.push(Difference::new(
            "init",
            "loftq",
            "random A, zero B",
            "it has no LoftQ for a model that it quantizes itself",
        ));
    }
    let why = "it averages losses over processes and micro-batches by tokens only in its newer versions";
    if plan.world() > 1 || plan.accumulate > 1 {
        differs.push(Difference::new("loss", "mean over the tokens of a step", "mean by transformers' rule", why));
    }
    differs
}
