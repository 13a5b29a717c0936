//! [`Job`]: what is asked for; [`Plan`]: what follows from it for every engine and launcher.

use super::{Difference, Engine, Launcher, Strategy};
use crate::checkpoint::{Checkpoint, hub};
use crate::error::{Error, Result};
use crate::model::gpu::Kind;
use crate::plan::{Layout, Selection, Targets};
use crate::train::sweep::Grid;
use crate::train::{Init, Method, Schedule, Settings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a run is to become.
#[derive(Clone, Debug)]
pub struct Job {
    /// What trains.
    pub engine: &'static Engine,
    /// What starts it.
    pub launcher: &'static Launcher,
    /// Machines.
    pub nodes: usize,
    /// GPUs of each machine; processes where there are none.
    pub gpus: usize,
    /// How a model is spread; nothing for one process.
    pub strategy: Option<Strategy>,
    /// Data as texts for the engine's own tokenizer and template, not as ids and labels.
    pub texts: bool,
    /// The first A and B go along, so that no generator of random numbers decides.
    pub initial_adapter: bool,
    /// Runs of a sweep; empty for one run.
    pub variants: Vec<Variant>,
    /// The folder.
    pub out: PathBuf,
}

/// A run of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// Rank.
    pub rank: usize,
    /// α.
    pub alpha: f64,
    /// Peak learning rate.
    pub lr: f64,
    /// Seed.
    pub seed: u64,
}

impl Variant {
    /// The runs of a sweep, by the rules of a sweep here: α/r stays as the settings have it.
    ///
    /// # Errors
    /// No rank, or more runs than anybody means.
    pub fn all(grid: &Grid, settings: &Settings) -> Result<Vec<Self>> {
        let one = |point| {
            let one = grid.settings(settings, point);
            Self { rank: one.rank, alpha: one.alpha(), lr: one.lr, seed: one.seed }
        };
        Ok(grid.points(settings)?.into_iter().map(one).collect())
    }

    /// The folder of its run.
    pub fn name(&self) -> String {
        format!("r-{}-lr-{:e}-seed-{}", self.rank, self.lr, self.seed)
    }
}

/// More GPUs than are planned for.
const MOST_GPUS: usize = 1024;

/// A job and what follows from it.
pub(super) struct Plan<'a> {
    pub settings: &'a Settings,
    pub job: &'a Job,
    /// The model's name on the hub, or its path.
    pub model: String,
    pub model_is_local: bool,
    /// Sequences of a micro-batch on each process, and micro-batches of a step.
    pub batch: usize,
    pub accumulate: usize,
    /// `LoraConfig`'s arguments; null under `full`.
    pub lora: Value,
    /// The class of a block, by which a sharded model is wrapped.
    pub block: Option<String>,
}

/// The precision of a run: on a GPU bf16 unless the settings say f32.
pub(super) fn bf16(settings: &Settings) -> bool {
    settings.dtype != Some(Kind::F32)
}

impl<'a> Plan<'a> {
    pub fn new(settings: &'a Settings, job: &'a Job, checkpoint: &Checkpoint) -> Result<Self> {
        let world = job.nodes * job.gpus;
        if job.nodes == 0 || job.gpus == 0 || world > MOST_GPUS {
            return Err(Error::usage(format!(
                "{} nodes of {} GPUs; expected 1 to {MOST_GPUS} GPUs in all",
                job.nodes, job.gpus
            )));
        }
        if world == 1 && job.strategy.is_some_and(|strategy| strategy != Strategy::Ddp) {
            return Err(Error::usage("one process has nothing to shard; expected --gpus 2 or more, or no --strategy"));
        }
        if !job.engine.shards && job.strategy.is_some_and(|strategy| strategy != Strategy::Ddp) {
            let message = format!(
                "{} holds a whole model on each GPU; expected --strategy ddp, or another engine",
                job.engine.name
            );
            return Err(Error::usage(message));
        }
        if world > 1 && !job.launcher.many {
            let message = format!(
                "{} starts one process; expected accelerate, torchrun, slurm, skypilot or kubernetes for {world}",
                job.launcher.name
            );
            return Err(Error::usage(message));
        }
        if job.nodes > 1 && !job.launcher.nodes {
            let message = format!(
                "{} starts one machine; expected slurm, skypilot or kubernetes for {}",
                job.launcher.name, job.nodes
            );
            return Err(Error::usage(message));
        }
        if job.initial_adapter && job.variants.iter().any(|variant| variant.rank != settings.rank) {
            let message = format!(
                "the initial adapter has rank {}; expected a sweep over this rank alone, or no --initial-adapter",
                settings.rank
            );
            return Err(Error::usage(message));
        }
        // The same rows in a step, divided: as many at once as here, at most.
        let rows = settings.batch * settings.accumulate;
        let each = rows.div_ceil(world);
        let batch = (1..=settings.batch.min(each)).rev().find(|batch| each.is_multiple_of(*batch)).unwrap_or(1);
        let absolute = std::path::absolute(&settings.model).unwrap_or_else(|_| settings.model.clone());
        let hub = hub::cached().into_iter().find(|cached| cached.path == absolute).map(|cached| cached.name);
        let architecture = checkpoint.architecture().map(str::to_owned);
        let stem = architecture.as_deref().and_then(|name| name.strip_suffix("ForCausalLM"));
        Ok(Self {
            settings,
            job,
            model_is_local: hub.is_none(),
            model: hub.unwrap_or_else(|| absolute.to_string_lossy().into_owned()),
            batch,
            accumulate: each / batch,
            lora: lora(settings, checkpoint)?,
            block: stem.map(|stem| format!("{stem}DecoderLayer")),
        })
    }

    /// Processes in all.
    pub fn world(&self) -> usize {
        self.job.nodes * self.job.gpus
    }

    /// Whether a script that reads `job.json` trains.
    pub fn is_python(&self) -> bool {
        matches!(self.job.engine.entry, super::engine::Entry::Script(_))
    }

    /// Where the model's name or path is changed.
    pub fn place_of_model(&self) -> &'static str {
        if self.is_python() { "MODEL" } else { "config.yaml" }
    }

    /// TrainingArguments by transformers' names: what TRL, Unsloth and LLaMA-Factory share.
    pub fn arguments(&self) -> Value {
        let s = self.settings;
        let mut arguments = json!({
            "per_device_train_batch_size": self.batch,
            "per_device_eval_batch_size": self.batch,
            "gradient_accumulation_steps": self.accumulate,
            "learning_rate": s.lr,
            "lr_scheduler_type": self.schedule(),
            "warmup_steps": s.warmup,
            "optim": "adamw_torch",
            "weight_decay": s.weight_decay,
            "adam_beta1": s.beta1,
            "adam_beta2": s.beta2,
            "adam_epsilon": s.eps,
            "max_grad_norm": s.max_grad_norm,
            "seed": s.seed,
            "gradient_checkpointing": s.checkpointing,
            "logging_steps": 1,
            "logging_nan_inf_filter": false,
            "save_strategy": if s.save_every > 0 { "steps" } else { "no" },
            "report_to": "tensorboard",
        });
        match s.steps {
            Some(steps) => arguments["max_steps"] = json!(steps),
            None => arguments["num_train_epochs"] = json!(s.epochs),
        }
        if s.save_every > 0 {
            arguments["save_steps"] = json!(s.save_every);
        }
        arguments
    }

    /// The schedule's name in transformers.
    pub fn schedule(&self) -> &'static str {
        match (self.settings.schedule, self.settings.warmup) {
            (Schedule::Cosine, _) => "cosine",
            (Schedule::Linear, _) => "linear",
            (Schedule::Constant, 0) => "constant",
            (Schedule::Constant, _) => "constant_with_warmup",
        }
    }

    /// What differs wherever it runs.
    pub fn differences(&self) -> Vec<Difference> {
        let (s, world) = (self.settings, self.world());
        let mut differs = Vec::new();
        let rows = s.batch * s.accumulate;
        let there = self.batch * self.accumulate * world;
        if there != rows {
            let why = format!("{rows} rows cannot be divided by {world} processes: each step sees more");
            differs.push(Difference::new("batch", format!("{rows} rows a step"), format!("{there} rows a step"), why));
        }
        if s.method != Method::Full && !self.job.initial_adapter && s.init_adapter.is_none() {
            let why = "another generator draws A; B is 0 in both, so the first loss is the same. --initial-adapter takes A and B along";
            differs.push(Difference::new("seed", s.seed, format!("{}, torch's generator", s.seed), why));
        }
        let alphas = std::iter::once(s.alpha()).chain(self.job.variants.iter().map(|variant| variant.alpha));
        let engine = self.job.engine;
        if let Some(alpha) = alphas.into_iter().find(|&alpha| s.method != Method::Full && engine.alpha(alpha) != alpha)
        {
            let why = format!("{} takes whole numbers alone", engine.title);
            differs.push(Difference::new("alpha", alpha, engine.alpha(alpha).to_string(), why));
        }
        if self.job.variants.iter().any(|variant| variant.seed != s.seed) {
            let why = "the runs share one file of rows: their order is that of the first seed";
            differs.push(Difference::new("seed", "A and the order of the rows", "A, or what the engine draws", why));
        }
        if s.method != Method::Full && s.dropout > 0.0 {
            let why = "other elements of the adapter's input are dropped: another generator";
            differs.push(Difference::new("dropout", s.dropout, s.dropout.to_string(), why));
        }
        if s.scheme().is_some() && s.block != 64 {
            let why = "transformers has no setting for it: bitsandbytes' default";
            differs.push(Difference::new("block", s.block, "64", why));
        }
        if s.method != Method::Full && self.lora["init_lora_weights"] != true && s.init == Init::Loftq {
            let why = "LoftQ's frozen weights are made here; there PEFT makes them, once, from the weights as loaded";
            differs.push(Difference::new("init", "loftq", "loftq by PEFT", why));
        }
        if s.method == Method::Full && s.weight_decay > 0.0 {
            let why = "transformers' Trainer does not pull norms and biases towards zero; here every parameter is";
            differs.push(Difference::new("weight-decay", s.weight_decay, "matrices only", why));
        }
        if bf16(s) {
            let why = "on a GPU; the processor here computes in f32. Losses agree to about 1 %; dtype f32 keeps f32 there too";
            differs.push(Difference::new("dtype", "f32 on the processor", "bf16 with trained values in f32", why));
        }
        for (name, is) in [("film-every", s.film_every > 0), ("sample-every", !s.prompts.is_empty())] {
            if is {
                let why = "the spectrum film is made from the checkpoints when the run is opened here; samples are not taken there";
                differs.push(Difference::new(name, "during the run", "from the checkpoints", why));
                break;
            }
        }
        differs
    }
}

/// `LoraConfig`'s arguments.
fn lora(settings: &Settings, checkpoint: &Checkpoint) -> Result<Value> {
    if settings.method == Method::Full {
        return Ok(Value::Null);
    }
    let layout = Layout::of(checkpoint)?;
    let targets: Targets = settings.targets.parse()?;
    let places = Selection::new(&layout, &targets)?.places;
    let leaf = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    // A leaf name stands for all modules of that name; where only some are meant, they stand in full.
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (at, weight) in layout.weights.iter().enumerate() {
        let count = counts.entry(leaf(&weight.name)).or_default();
        count[0] += 1;
        count[1] += usize::from(places.contains(&at));
    }
    let mut names: Vec<String> = Vec::new();
    for &at in &places {
        let name = &layout.weights[at].name;
        let whole = counts.get(&leaf(name)).is_some_and(|count| count[0] == count[1]);
        let name = if whole { leaf(name) } else { name.clone() };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort();
    let init = match settings.init {
        Init::Default => json!(true),
        Init::Pissa => json!("pissa"),
        Init::Loftq => json!("loftq"),
    };
    Ok(json!({
        "r": settings.rank,
        "lora_alpha": settings.alpha(),
        "lora_dropout": settings.dropout,
        "use_rslora": settings.rslora,
        "use_dora": settings.dora,
        "target_modules": names,
        "rank_pattern": settings.rank_pattern,
        "init_lora_weights": init,
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }))
}
