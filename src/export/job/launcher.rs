//! [`Launcher`]: what starts an engine. A new one is a file of its own and a line in [`LAUNCHERS`].

use super::engine::Entry;
use super::plan::{Plan, bf16};
use super::{File, Strategy, fill, kubernetes, skypilot, slurm};
use crate::error::{Error, Result};
use serde_json::{Value, json};

/// What starts an engine.
pub struct Launcher {
    /// On the command line.
    pub name: &'static str,
    /// Its own name.
    pub title: &'static str,
    /// Whether it starts more than one process, and more than one machine.
    pub many: bool,
    /// More than one machine.
    pub nodes: bool,
    /// The line of `run.sh` that starts it, and its files.
    pub(super) make: fn(&Plan) -> Result<Made>,
    /// Sentences for the README.
    pub(super) notes: fn(&Plan) -> Vec<String>,
}

impl std::fmt::Debug for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What a launcher gives.
pub(super) struct Made {
    /// Lines of `run.sh`.
    pub run: String,
    pub files: Vec<File>,
}

/// All launchers.
pub static LAUNCHERS: [&Launcher; 6] =
    [&PYTHON, &ACCELERATE, &TORCHRUN, &slurm::LAUNCHER, &skypilot::LAUNCHER, &kubernetes::LAUNCHER];

/// The one command of a folder runs this.
pub(super) const RUN: &str = "run.sh";
/// Starts one run here, whatever starts this: what a cluster calls on every machine.
pub(super) const START: &str = "start.sh";
const ACCELERATE_CONFIG: &str = "accelerate.yaml";
pub(super) const DEEPSPEED: &str = "ds_zero3.json";

static PYTHON: Launcher = Launcher {
    name: "python",
    title: "Python",
    many: false,
    nodes: false,
    make: |plan| Ok(Made { run: here(plan), files: Vec::new() }),
    notes: |_| Vec::new(),
};

static ACCELERATE: Launcher = Launcher {
    name: "accelerate",
    title: "accelerate",
    many: true,
    nodes: false,
    make: |plan| Ok(Made { run: here(plan), files: Vec::new() }),
    notes: |_| Vec::new(),
};

static TORCHRUN: Launcher = Launcher {
    name: "torchrun",
    title: "torchrun",
    many: true,
    nodes: false,
    make: |plan| Ok(Made { run: here(plan), files: Vec::new() }),
    notes: |_| Vec::new(),
};

impl Launcher {
    /// By its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        let names: Vec<&str> = LAUNCHERS.iter().map(|launcher| launcher.name).collect();
        let found = LAUNCHERS.into_iter().find(|launcher| launcher.name == name);
        found.ok_or_else(|| Error::usage(format!("launcher {name}; expected one of {}", names.join(", "))))
    }
}

/// One run, or one after the other.
fn here(plan: &Plan) -> String {
    if plan.job.variants.is_empty() {
        return format!("exec bash {START}\n");
    }
    "count=$(wc -l < sweep.txt)\nfor line in $(seq 1 \"$count\"); do\n    LINE=$line bash start.sh\ndone\n".to_owned()
}

/// How processes are started: by accelerate's launcher, by torchrun, or not at all.
fn starter(plan: &Plan) -> &'static str {
    match plan.job.launcher.name {
        "accelerate" => "accelerate",
        // What a cluster starts on each machine finds its peers by torchrun.
        _ if plan.world() > 1 => "torchrun",
        _ => "python",
    }
}

/// Files of whatever launcher: `start.sh`, `run.sh`, what accelerate or DeepSpeed are configured by.
pub(super) fn files(plan: &Plan) -> Result<Vec<File>> {
    let Made { run, mut files } = (plan.job.launcher.make)(plan)?;
    let starter = starter(plan);
    let (script, module, config) = match plan.job.engine.entry {
        Entry::Script(script) => (script, "", ""),
        Entry::Module(module, config) => ("", module, config),
    };
    let values = json!({
        "engine": plan.job.engine.name,
        "starter": starter,
        "script": script,
        "module": module,
        "config": config,
        "prepare": plan.job.engine.name == "llama-factory" && !plan.job.texts,
        "python": plan.is_python(),
        "gpus": plan.job.gpus,
        "nodes": plan.job.nodes,
        // axolotl reads its strategy from its own file; LLaMA-Factory only DeepSpeed's.
        "environment": if starter == "torchrun" { environment(plan) } else { Vec::new() },
        "model": plan.model,
        "sweep": !plan.job.variants.is_empty(),
        "run": run,
    });
    files.push(File::new(START, fill(include_str!("templates/start.sh.j2"), &values)?));
    files.push(File::new(RUN, fill(include_str!("templates/run.sh.j2"), &values)?));
    if starter == "accelerate" {
        let text = super::axolotl::yaml(&accelerate(plan), 0);
        files.push(File::new(ACCELERATE_CONFIG, text));
    }
    if plan.job.strategy == Some(Strategy::Zero3) {
        files.push(File::json(DEEPSPEED, &zero3(plan)));
    }
    Ok(files)
}

/// What accelerate reads of the environment in place of its file.
fn environment(plan: &Plan) -> Vec<String> {
    let own = plan.job.engine.name == "axolotl";
    let lines: &[&str] = match plan.job.strategy {
        Some(Strategy::Fsdp) if !own => &[
            "ACCELERATE_USE_FSDP=true",
            "FSDP_VERSION=2",
            "FSDP_AUTO_WRAP_POLICY=TRANSFORMER_BASED_WRAP",
            "FSDP_RESHARD_AFTER_FORWARD=true",
            "FSDP_STATE_DICT_TYPE=FULL_STATE_DICT",
            "FSDP_CPU_RAM_EFFICIENT_LOADING=false",
        ],
        Some(Strategy::Zero3) if plan.is_python() => {
            &["ACCELERATE_USE_DEEPSPEED=true", "ACCELERATE_DEEPSPEED_CONFIG_FILE=ds_zero3.json"]
        }
        _ => &[],
    };
    let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    if plan.job.strategy == Some(Strategy::Fsdp)
        && !own
        && let Some(block) = &plan.block
    {
        all.push(format!("FSDP_TRANSFORMER_CLS_TO_WRAP={block}"));
    }
    all
}

/// `accelerate launch --config_file`.
fn accelerate(plan: &Plan) -> Value {
    let mut config = json!({
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "num_machines": plan.job.nodes,
        "num_processes": plan.world(),
        "machine_rank": 0,
        "main_training_function": "main",
        "mixed_precision": if bf16(plan.settings) { "bf16" } else { "no" },
        "use_cpu": false,
    });
    let own = plan.job.engine.name == "axolotl";
    match plan.job.strategy {
        Some(Strategy::Fsdp) if !own => {
            config["distributed_type"] = json!("FSDP");
            config["fsdp_config"] = json!({
                "fsdp_version": 2,
                "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "fsdp_transformer_layer_cls_to_wrap": plan.block,
                "fsdp_reshard_after_forward": true,
                "fsdp_state_dict_type": "FULL_STATE_DICT",
                "fsdp_cpu_ram_efficient_loading": false,
                "fsdp_offload_params": false,
            });
        }
        Some(Strategy::Zero3) if plan.is_python() => {
            config["distributed_type"] = json!("DEEPSPEED");
            config["deepspeed_config"] = json!({"deepspeed_config_file": DEEPSPEED, "zero3_init_flag": true});
            // The file says it.
            if let Value::Object(config) = &mut config {
                config.remove("mixed_precision");
            }
        }
        _ if plan.world() == 1 => config["distributed_type"] = json!("NO"),
        _ => {}
    }
    config
}

/// DeepSpeed's ZeRO stage 3; `auto` is filled in by transformers from the arguments.
fn zero3(plan: &Plan) -> Value {
    json!({
        "bf16": {"enabled": bf16(plan.settings)},
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": true,
            "contiguous_gradients": true,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": true,
        },
        "gradient_accumulation_steps": plan.accumulate,
        "gradient_clipping": plan.settings.max_grad_norm,
        "train_micro_batch_size_per_gpu": plan.batch,
        "train_batch_size": plan.batch * plan.accumulate * plan.world(),
        "steps_per_print": 1000,
    })
}
