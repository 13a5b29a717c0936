//! axolotl: one YAML.

use super::data::{ADAPTER, EVAL, TRAIN};
use super::engine::{Engine, Entry, warm_up};
use super::plan::{Plan, bf16};
use super::{Difference, File, Strategy};
use crate::error::{Error, Result};
use crate::train::{Init, Method, Quant, Schedule};
use serde_json::{Value, json};

pub(super) static ENGINE: Engine = Engine {
    name: "axolotl",
    title: "axolotl",
    requirements: &["axolotl[deepspeed]==0.19.0"],
    shards: true,
    entry: Entry::Module("axolotl.cli.train", CONFIG),
    overrides: ["--lora_r=", "--lora_alpha=", "--learning_rate=", "--seed=", "--output_dir="],
    whole_alpha: true,
    check,
    files,
    differs,
};

const CONFIG: &str = "config.yaml";

fn check(plan: &Plan) -> Result<()> {
    let s = plan.settings;
    if s.init == Init::Pissa && !plan.job.initial_adapter {
        return Err(Error::usage("axolotl has no pissa; expected init default, or --for trl"));
    }
    if !s.rank_pattern.is_empty() {
        return Err(Error::usage("axolotl has one rank for all modules; expected no rank-pattern, or --for trl"));
    }
    Ok(())
}

fn files(plan: &Plan) -> Result<Vec<File>> {
    // YAML is a superset of JSON, but people edit these files: a line for each setting.
    Ok(vec![File::new(CONFIG, yaml(&config(plan), 0))])
}

fn config(plan: &Plan) -> Value {
    let s = plan.settings;
    let data = |path: &str| {
        if plan.job.texts {
            // prompt and completion.
            json!([{"path": path, "type": {"field_instruction": "prompt", "field_output": "completion", "format": "{instruction}", "no_input_format": "{instruction}"}}])
        } else {
            // Rows with input_ids, labels and attention_mask are taken as they are where no type is given.
            json!([{"path": path, "ds_type": "json", "type": ""}])
        }
    };
    let mut config = json!({
        "base_model": plan.model,
        "adapter": match s.method {
            Method::Full => Value::Null,
            Method::Qlora if s.scheme().is_some() => json!("qlora"),
            _ => json!("lora"),
        },
        "load_in_4bit": s.scheme().is_some(),
        "datasets": data(TRAIN),
        "dataset_prepared_path": "prepared",
        "val_set_size": 0.0,
        "output_dir": "./runs/run",
        "sequence_len": s.seq,
        "sample_packing": false,
        "pad_to_sequence_len": false,
        "shuffle_merged_datasets": false,
        "micro_batch_size": plan.batch,
        "gradient_accumulation_steps": plan.accumulate,
        "optimizer": "adamw_torch",
        "learning_rate": s.lr,
        "lr_scheduler": if s.schedule == Schedule::Constant && s.warmup > 0 { "constant_with_warmup" } else { plan.schedule() },
        "warmup_steps": s.warmup,
        "weight_decay": s.weight_decay,
        "adam_beta1": s.beta1,
        "adam_beta2": s.beta2,
        "adam_epsilon": s.eps,
        "max_grad_norm": s.max_grad_norm,
        "seed": s.seed,
        "bf16": bf16(s),
        "tf32": false,
        "gradient_checkpointing": s.checkpointing,
        "logging_steps": 1,
        "use_tensorboard": true,
    });
    let mut set = |key: &str, value: Value| config[key] = value;
    match s.steps {
        Some(steps) => set("max_steps", json!(steps)),
        None => set("num_epochs", json!(s.epochs)),
    }
    if s.save_every > 0 {
        set("save_steps", json!(s.save_every));
    } else {
        set("save_strategy", json!("no"));
    }
    if s.eval_data.is_some() || s.eval_every > 0 {
        set(
            "test_datasets",
            data(EVAL).as_array().map_or(Value::Null, |sets| {
                json!(
                    sets.iter()
                        .map(|one| {
                            let mut one = one.clone();
                            one["split"] = json!("train");
                            one
                        })
                        .collect::<Vec<_>>()
                )
            }),
        );
        if s.eval_every > 0 {
            set("eval_steps", json!(s.eval_every));
        }
    }
    if s.method != Method::Full {
        set("lora_r", json!(s.rank));
        set("lora_alpha", json!(plan.job.engine.alpha(s.alpha()) as u64));
        set("lora_dropout", json!(s.dropout));
        set("lora_target_modules", plan.lora["target_modules"].clone());
        if s.rslora {
            set("peft_use_rslora", json!(true));
        }
        if s.dora {
            set("peft_use_dora", json!(true));
        }
        if plan.job.initial_adapter {
            set("lora_model_dir", json!(ADAPTER));
        }
    }
    match plan.job.strategy {
        Some(Strategy::Fsdp) => {
            set("fsdp_version", json!(2));
            set(
                "fsdp_config",
                json!({
                    "offload_params": false,
                    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                    "transformer_layer_cls_to_wrap": plan.block,
                    "state_dict_type": "FULL_STATE_DICT",
                    "reshard_after_forward": true,
                }),
            );
        }
        Some(Strategy::Zero3) => set("deepspeed", json!("ds_zero3.json")),
        Some(Strategy::Ddp) | None => {}
    }
    config
}

/// A value as YAML: every scalar as JSON writes it.
pub(super) fn yaml(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) => {
            let one = |(key, value): (&String, &Value)| match value {
                Value::Object(inner) if !inner.is_empty() => format!("{indent}{key}:\n{}", yaml(value, depth + 1)),
                Value::Array(items) if !items.is_empty() => format!("{indent}{key}:\n{}", yaml(value, depth + 1)),
                _ => format!("{indent}{key}: {}\n", scalar(value)),
            };
            entries.iter().map(one).collect()
        }
        Value::Array(items) => {
            let one = |item: &Value| match item {
                // The first key stands behind the dash.
                Value::Object(_) => format!("{indent}- {}", yaml(item, depth + 1).trim_start()),
                _ => format!("{indent}- {}\n", scalar(item)),
            };
            items.iter().map(one).collect()
        }
        _ => format!("{indent}{}\n", scalar(value)),
    }
}

/// YAML 1.1 takes `1e-8` for a text: a point makes it a number.
fn scalar(value: &Value) -> String {
    let text = value.to_string();
    match (value.is_f64(), text.split_once('e')) {
        (true, Some((digits, power))) if !digits.contains('.') => format!("{digits}.0e{power}"),
        _ => text,
    }
}

fn differs(plan: &Plan) -> Vec<Difference> {
    let s = plan.settings;
    let mut differs: Vec<Difference> = warm_up(plan).into_iter().collect();
    if s.shuffle {
        let why = "its sampler shuffles the rows of the file once more, by the same seed through torch's generator";
        differs.push(Difference::new("order", "that of data/train.jsonl", "shuffled anew", why));
    }
    if s.scheme().is_some() && (s.quant == Quant::Fp4 || !s.double_quant) {
        let why = "adapter: qlora has no setting for them";
        differs.push(Difference::new("quant, double-quant", "as set", "nf4, double quantization", why));
    }
    if s.init == Init::Loftq {
        differs.push(Difference::new(
            "init",
            "loftq",
            "random A, zero B",
            "needs axolotl's own peft block; A and B begin at random",
        ));
    }
    differs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_a_line_for_each_setting() {
        let value = json!({"a": 1e-8, "b": [{"path": "x: y", "type": ""}, 3], "c": {"d": null, "e": []}, "f": 0.0002});
        let text = "a: 1.0e-8\nb:\n  - path: \"x: y\"\n    type: \"\"\n  - 3\nc:\n  d: null\n  e: []\nf: 0.0002\n";
        assert_eq!(yaml(&value, 0), text);
    }
}
